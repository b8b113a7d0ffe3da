//! What is answered when a handler broke down.

use std::any::Any;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::error::ApiError;

/// Returns the answer to a request whose handler panicked; why is nobody's business outside. What the panic said can hold a
/// memory, so that it is not logged a second time here.
pub(super) fn answer(_: Box<dyn Any + Send + 'static>) -> Response {
    tracing::error!("a handler panicked; this is a fault of the server");
    let message = "the operation failed inside; the log of the server tells why";
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message).into_response()
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::extract::Request;
    use axum::routing::get;
    use serde_json::Value;
    use tower::ServiceExt;
    use tower_http::catch_panic::CatchPanicLayer;

    use super::*;

    async fn broken() -> &'static str {
        panic!("ann's secret is in here")
    }

    #[tokio::test]
    async fn a_panic_becomes_an_answer_that_tells_nothing() {
        let router: Router = Router::new().route("/", get(broken)).layer(CatchPanicLayer::custom(answer));
        let response = router.oneshot(Request::builder().uri("/").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 500);
        let body = to_bytes(response.into_body(), 10_000).await.unwrap();
        let value: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&value["code"], &value["data"]), (&500.into(), &Value::Null));
        assert!(!String::from_utf8(body.to_vec()).unwrap().contains("secret"));
    }
}
