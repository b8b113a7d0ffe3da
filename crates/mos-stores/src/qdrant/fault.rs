//! From the server's answers to errors that say what to do. The server's texts hold no secrets.

use std::error::Error;

use mos_core::StoreError;
use tonic::{Code, Status};

pub(super) const BACKEND: &str = "qdrant";

/// Why the server did not do what it should.
#[derive(Debug)]
pub(super) enum Fault {
    /// The collection is not there (any more).
    NoCollection,
    /// Anything else.
    Store(StoreError),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Fault {
    /// Returns the error for a caller that knows the collection to be there.
    pub(super) fn into_store_error(self) -> StoreError {
        match self {
            Self::NoCollection => StoreError::Conflict(
                "the Qdrant collection was removed while it was used; search again, it is filled anew".to_owned(),
            ),
            Self::Store(error) => error,
        }
    }
}

pub(super) fn unavailable(text: String) -> StoreError {
    StoreError::Unavailable { backend: BACKEND, source: text.into() }
}

/// Whether the same call may succeed in a moment.
pub(super) fn may_pass(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::ResourceExhausted | Code::Aborted => true,
        // The transport's own: a connection that broke, or could not be made.
        Code::Unknown | Code::Internal | Code::Cancelled => status.source().is_some(),
        _ => false,
    }
}

/// Returns what the caller is told of a call that failed.
pub(super) fn fault(status: &Status, address: &str) -> Fault {
    let said = said(status);
    Fault::Store(match status.code() {
        Code::NotFound => return Fault::NoCollection,
        Code::Unauthenticated | Code::PermissionDenied => StoreError::Refused {
            backend: BACKEND,
            detail: format!("the server at {address} refuses the key ({said}); correct `api_key` in the settings"),
        },
        Code::Unimplemented => StoreError::Refused {
            backend: BACKEND,
            detail: format!(
                "the server at {address} does not know what it is asked ({said}); it must be Qdrant 1.16 or later, and the \
                 port that of gRPC, usually 6334"
            ),
        },
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange | Code::AlreadyExists | Code::DataLoss => {
            StoreError::Backend { backend: BACKEND, source: format!("the server at {address} answers: {said}").into() }
        }
        _ if said.contains("certificate") => unavailable(format!(
            "the certificate of the server at {address} is not trusted ({said}); name the file of its authority, or take \
             the name that the certificate is for"
        )),
        _ => unavailable(format!(
            "the server at {address} cannot be reached or broke off ({said}); start it, or correct the address: the port is \
             that of gRPC, usually 6334"
        )),
    })
}

/// What the server or the connection says, with all causes.
fn said(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = status.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    if text.is_empty() { status.code().description().to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(status: &Status) -> String {
        match fault(status, "here:1") {
            Fault::NoCollection => String::from("no collection"),
            Fault::Store(error) => {
                let cause = error.source().map(ToString::to_string).unwrap_or_default();
                format!("{error}: {cause}")
            }
        }
    }

    #[test]
    fn errors_of_the_server_say_what_to_do() {
        for (status, advice) in [
            (Status::unauthenticated("no key"), "api_key"),
            (Status::permission_denied("bad key"), "api_key"),
            (Status::unimplemented("what"), "1.16"),
            (Status::unavailable("tcp connect error"), "6334"),
            (Status::unknown("invalid peer certificate: UnknownIssuer"), "authority"),
            (Status::invalid_argument("wrong input"), "wrong input"),
        ] {
            let shown = text(&status);
            assert!(shown.contains(advice) && shown.contains("here:1"), "{shown}");
        }
        assert_eq!(text(&Status::not_found("Collection `x` doesn't exist!")), "no collection");
    }

    #[test]
    fn only_what_may_pass_is_repeated() {
        assert!(may_pass(&Status::unavailable("")));
        for status in [Status::internal("panicked"), Status::invalid_argument(""), Status::permission_denied("")] {
            assert!(!may_pass(&status), "{status:?}");
        }
    }
}
