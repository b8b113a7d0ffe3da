//! What the server can be asked, as an OpenAPI document, and the page that shows it.
//!
//! Requests are described by the types that read them; each module of handlers describes its operations with a [`Section`].
//! Names of schemas and operations are those of MemOS, so that clients that were generated from its document fit this one.

use std::sync::LazyLock;

use axum::http::{HeaderValue, header};
use axum::{Json, Router};
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa::ToSchema;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, Paths};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::{
    ArrayBuilder, Components, ComponentsBuilder, ObjectBuilder, OneOfBuilder, Ref, Schema, SchemaType, Type,
};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{InfoBuilder, OpenApi, OpenApiBuilder, RefOr, Required, Response, ResponseBuilder};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::routes::{self, Routes, get};
use crate::state::ServerState;

/// Where the document is.
const DOCUMENT_PATH: &str = "/openapi.json";

/// Where the page is that shows it.
const PAGE_PATH: &str = "/docs";

/// What the page may load: its own files, and styles that its scripts write.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The name of the way to authenticate.
const KEY: &str = "key";

static DOCUMENT: LazyLock<OpenApi> = LazyLock::new(document);

/// Returns the routes of the document and of the page.
pub(crate) fn routes() -> Routes {
    // Without a validator: the page asks nobody but this server.
    let config = Config::from(DOCUMENT_PATH).validator_url("none");
    let page = Router::<ServerState>::from(SwaggerUi::new(PAGE_PATH).config(config)).layer(
        SetResponseHeaderLayer::overriding(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY)),
    );
    let files = ["/docs", "/docs/", "/docs/{*rest}"].map(|path| ("GET", path));
    Routes::new().route(DOCUMENT_PATH, get(|| async { Json(&*DOCUMENT) })).foreign(page, &files)
}

/// Returns the whole document. Every dialect adds its own by [`OpenApi::merge`].
fn document() -> OpenApi {
    let mut components = Components::new();
    let key = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A key of this server; the words `Bearer` or `Token` before it may be left out."));
    components.add_security_scheme(KEY, SecurityScheme::Http(key.build()));
    components.schemas.insert("ErrorEnvelope".to_owned(), error_envelope(false));
    components.schemas.insert("ValidationErrorEnvelope".to_owned(), error_envelope(true));
    let info = InfoBuilder::new()
        .title("mos")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("Memory for applications with language models, over HTTP."));
    let mut document = OpenApiBuilder::new()
        .info(info.build())
        .components(Some(components))
        .security(Some([SecurityRequirement::new(KEY, Vec::<String>::new())]))
        .build();
    let (product, dream) = (routes::product::document(), routes::dream::document());
    let (openmem, openai) = (routes::openmem::document(), routes::openai::document());
    for section in [routes::health::document(), routes::admin::document(), product, dream, openmem, openai] {
        document.merge(section);
    }
    document
}

/// Collects the operations of one part of the server, and the schemas that they refer to.
pub(crate) struct Section {
    tag: &'static str,
    paths: Paths,
    schemas: Vec<(String, RefOr<Schema>)>,
    refusal: RefOr<Schema>,
}

impl Section {
    /// Begins a part of this name.
    pub(crate) fn new(tag: &'static str) -> Self {
        let refusal = Ref::from_schema_name("ErrorEnvelope").into();
        Self { tag, paths: Paths::new(), schemas: Vec::new(), refusal }
    }

    /// Has the errors of the part another form, of this name.
    pub(crate) fn refusing(mut self, name: &str, schema: impl Into<RefOr<Schema>>) -> Self {
        self.refusal = self.named(name, schema);
        self
    }

    /// Adds a GET operation of MemOS' name, with what it does in one line.
    pub(crate) fn get(&mut self, path: &str, name: &str, summary: &str, operation: OperationBuilder) {
        self.add(HttpMethod::Get, "get", path, (name, summary), operation);
    }

    /// As [`Section::get`], for POST.
    pub(crate) fn post(&mut self, path: &str, name: &str, summary: &str, operation: OperationBuilder) {
        self.add(HttpMethod::Post, "post", path, (name, summary), operation);
    }

    /// As [`Section::get`], for PUT.
    pub(crate) fn put(&mut self, path: &str, name: &str, summary: &str, operation: OperationBuilder) {
        self.add(HttpMethod::Put, "put", path, (name, summary), operation);
    }

    /// As [`Section::get`], for DELETE.
    pub(crate) fn delete(&mut self, path: &str, name: &str, summary: &str, operation: OperationBuilder) {
        self.add(HttpMethod::Delete, "delete", path, (name, summary), operation);
    }

    fn add(
        &mut self,
        method: HttpMethod,
        word: &str,
        path: &str,
        (name, summary): (&str, &str),
        operation: OperationBuilder,
    ) {
        let id = format!("{name}{path}_{word}").replace(|letter: char| !letter.is_ascii_alphanumeric(), "_");
        let refused = answer("Why it was not done.", self.refusal.clone());
        let operation: Operation =
            operation.tag(self.tag).summary(Some(summary)).operation_id(Some(id)).response("default", refused).build();
        self.paths.add_path_operation(path, vec![method], operation);
    }

    /// Refers to the schema of a type, which comes into the document with all that it refers to.
    pub(crate) fn of<T: ToSchema>(&mut self) -> RefOr<Schema> {
        T::schemas(&mut self.schemas);
        self.named(&T::name(), T::schema())
    }

    /// Refers to a schema by a name, under which it comes into the document.
    pub(crate) fn named(&mut self, name: &str, schema: impl Into<RefOr<Schema>>) -> RefOr<Schema> {
        self.schemas.push((name.to_owned(), schema.into()));
        Ref::from_schema_name(name).into()
    }

    /// Begins an operation whose body is a request of this type.
    pub(crate) fn with_body<T: ToSchema>(&mut self) -> OperationBuilder {
        let schema = self.of::<T>();
        asking(Some(body(schema)))
    }

    /// Returns the part as a document.
    pub(crate) fn finish(self) -> OpenApi {
        let components = ComponentsBuilder::new().schemas_from_iter(self.schemas).build();
        OpenApiBuilder::new().paths(self.paths).components(Some(components)).build()
    }
}

/// Begins an operation that can be asked wrongly, with its body.
pub(crate) fn asking(body: Option<RequestBody>) -> OperationBuilder {
    let refused = answer("What is wrong with the request.", Ref::from_schema_name("ValidationErrorEnvelope"));
    OperationBuilder::new().request_body(body).response("422", refused)
}

/// Begins an operation whose request of this type is in the query.
pub(crate) fn with_query<T: ToSchema>() -> OperationBuilder {
    asking(None).parameters(Some(query_of::<T>()))
}

/// Returns a body of this form, which must be there.
pub(crate) fn body(schema: RefOr<Schema>) -> RequestBody {
    let content = ContentBuilder::new().schema(Some(schema)).build();
    RequestBodyBuilder::new().required(Some(Required::True)).content("application/json", content).build()
}

/// The fields of a request as parameters.
fn query_of<T: ToSchema>() -> Vec<Parameter> {
    // A request is always an object.
    let RefOr::T(Schema::Object(request)) = T::schema() else { return Vec::new() };
    let (required, fields) = (request.required, request.properties);
    let parameter = |(name, schema): (String, RefOr<Schema>)| {
        let is_required = if required.contains(&name) { Required::True } else { Required::False };
        let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Query).required(is_required);
        parameter.schema(Some(schema)).build()
    };
    fields.into_iter().map(parameter).collect()
}

/// Returns an answer that is JSON of this form.
pub(crate) fn answer(description: &str, schema: impl Into<RefOr<Schema>>) -> Response {
    let content = ContentBuilder::new().schema(Some(schema)).build();
    ResponseBuilder::new().description(description).content("application/json", content).build()
}

/// Returns an answer that is a stream of events. OpenAPI 3.1 has no words for their form, so that the description tells it.
pub(crate) fn events(description: &str) -> Response {
    let content = ContentBuilder::new().build();
    ResponseBuilder::new().description(description).content("text/event-stream", content).build()
}

/// Returns an answer that is JSON of this form or a stream of events, as the request wants it.
pub(crate) fn or_events(description: &str, schema: impl Into<RefOr<Schema>>) -> Response {
    let (whole, pieces) = (ContentBuilder::new().schema(Some(schema)).build(), ContentBuilder::new().build());
    let response = ResponseBuilder::new().description(description);
    response.content("application/json", whole).content("text/event-stream", pieces).build()
}

/// Returns `{"code", "message", "data"}` around a form.
pub(crate) fn envelope(data: impl Into<RefOr<Schema>>) -> RefOr<Schema> {
    object([("code", number()), ("message", text().into()), ("data", data.into())])
}

/// The form of errors.
fn error_envelope(has_faults: bool) -> RefOr<Schema> {
    let nothing = ObjectBuilder::new().schema_type(Type::Null);
    let envelope = ObjectBuilder::new()
        .property("code", number())
        .property("message", text())
        .property("data", nothing)
        .required("code")
        .required("message")
        .required("data");
    if !has_faults {
        return envelope.into();
    }
    let place = ObjectBuilder::new().schema_type(SchemaType::AnyValue);
    let fault = object([("type", text().into()), ("loc", list(place)), ("msg", text().into())]);
    envelope.property("detail", list(fault)).required("detail").into()
}

/// Returns the form of an object that has all of these fields, and maybe others.
pub(crate) fn object<const N: usize>(fields: [(&str, RefOr<Schema>); N]) -> RefOr<Schema> {
    let add =
        |object: ObjectBuilder, (name, schema): (&str, RefOr<Schema>)| object.property(name, schema).required(name);
    fields.into_iter().fold(ObjectBuilder::new(), add).into()
}

/// Returns the form of an object that may have these fields, and has those that are required.
pub(crate) fn fields(all: Vec<(&str, RefOr<Schema>)>, required: &[&str]) -> RefOr<Schema> {
    let add = |object: ObjectBuilder, (name, schema): (&str, RefOr<Schema>)| object.property(name, schema);
    let object = all.into_iter().fold(ObjectBuilder::new(), add);
    required.iter().fold(object, |object, name| object.required(*name)).into()
}

/// Returns the form of a list.
pub(crate) fn list(items: impl Into<RefOr<Schema>>) -> RefOr<Schema> {
    let items: RefOr<Schema> = items.into();
    ArrayBuilder::new().items(items).into()
}

/// Returns the form of something that may be null.
pub(crate) fn nullable(schema: impl Into<RefOr<Schema>>) -> RefOr<Schema> {
    let schema: RefOr<Schema> = schema.into();
    OneOfBuilder::new().item(ObjectBuilder::new().schema_type(Type::Null)).item(schema).into()
}

/// The form of a text.
pub(crate) fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// The form of true and false.
pub(crate) fn truth() -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::Boolean).into()
}

/// The form of a whole number.
pub(crate) fn number() -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::Integer).into()
}

/// The form of a number that need not be whole.
pub(crate) fn float() -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::Number).into()
}

/// The form of an object with any fields.
pub(crate) fn any_object() -> RefOr<Schema> {
    ObjectBuilder::new().into()
}
