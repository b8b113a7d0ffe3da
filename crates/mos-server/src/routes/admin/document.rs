//! What the document says about the administration.

use serde_json::json;
use utoipa::openapi::path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{OpenApi, RefOr, Required, Schema};

use crate::openapi::{Section, answer, any_object, asking, body, list, nullable, number, object, text, truth};

/// What a key is asked for with.
fn create_key_request() -> RefOr<Schema> {
    let word: RefOr<Schema> = text().into();
    let scopes = ArrayBuilder::new().items(word).default(Some(json!(["read"])));
    ObjectBuilder::new()
        .property("user_name", text())
        .property("scopes", scopes)
        .property("cubes", nullable(list(text())))
        .property("description", nullable(text()))
        .property("expires_in_days", nullable(number()))
        .required("user_name")
        .into()
}

fn parameter(name: &str, place: ParameterIn, schema: RefOr<Schema>) -> Parameter {
    let required = if place == ParameterIn::Path { Required::True } else { Required::False };
    ParameterBuilder::new().name(name).parameter_in(place).required(required).schema(Some(schema)).build()
}

fn with(parameters: Vec<Parameter>) -> OperationBuilder {
    asking(None).parameters(Some(parameters))
}

fn done() -> RefOr<Schema> {
    object([("message", text().into()), ("success", truth())])
}

/// Returns what the document says about the operations.
pub(crate) fn document() -> OpenApi {
    let mut section = Section::new("Admin");
    keys(&mut section);
    users(&mut section);

    let public = OperationBuilder::new().securities(Some(Vec::<SecurityRequirement>::new()));
    let health = object([("status", text().into()), ("message", text().into())]);
    let operation = public.response("200", answer("It answers.", health));
    section.get("/admin/health", "admin_health", "Says that the administration answers.", operation);

    let page =
        vec![parameter("before", ParameterIn::Query, number()), parameter("limit", ParameterIn::Query, number())];
    let log = object([("message", text().into()), ("entries", list(any_object())), ("next", nullable(number()))]);
    let operation = with(page).response("200", answer("The newest first.", log));
    section.get("/admin/audit", "read_audit_log", "Tells who changed what.", operation);
    section.finish()
}

fn keys(section: &mut Section) {
    let request = section.named("CreateKeyRequest", create_key_request());
    let made = object([
        ("message", text().into()),
        ("key", text().into()),
        ("key_prefix", text().into()),
        ("user_name", text().into()),
        ("scopes", list(text())),
    ]);
    let made = section.named("CreateKeyResponse", made);
    let operation = asking(Some(body(request))).response("200", answer("The key; it is not shown again.", made));
    section.post("/admin/keys", "create_key", "Makes a key.", operation);

    let listed = object([("message", text().into()), ("keys", list(any_object()))]);
    let listed = section.named("KeyListResponse", listed);
    let whose = vec![parameter("user_name", ParameterIn::Query, text().into())];
    let operation = with(whose).response("200", answer("The newest first.", listed));
    section.get("/admin/keys", "list_keys", "Lists keys, without their texts.", operation);

    let revoked = section.named("SimpleResponse", done());
    let which = vec![parameter("key_id", ParameterIn::Path, text().into())];
    let operation = with(which).response("200", answer("It opens nothing any more.", revoked));
    section.delete("/admin/keys/{key_id}", "revoke_key", "Revokes a key.", operation);

    let master = object([
        ("message", text().into()),
        ("key", text().into()),
        ("key_hash", text().into()),
        ("env_line", text().into()),
    ]);
    let operation = OperationBuilder::new().response("200", answer("The key and its hash; neither is kept.", master));
    let path = "/admin/generate-master-key";
    section.post(path, "generate_new_master_key", "Makes a key for a server that is started with its hash.", operation);
}

fn users(section: &mut Section) {
    let user = || object([("message", text().into()), ("user", any_object())]);
    let request = ObjectBuilder::new()
        .property("user_id", text())
        .property("user_name", nullable(text()))
        .property("role", nullable(text()))
        .required("user_id");
    let request = section.named("CreateUserRequest", request);
    let operation = asking(Some(body(request))).response("200", answer("The user.", user()));
    section.post("/admin/users", "create_user", "Makes a user.", operation);

    let page =
        vec![parameter("offset", ParameterIn::Query, number()), parameter("limit", ParameterIn::Query, number())];
    let listed = object([("message", text().into()), ("users", list(any_object())), ("total", number())]);
    let operation = with(page).response("200", answer("The oldest first.", listed));
    section.get("/admin/users", "list_users", "Lists users.", operation);

    let which = || parameter("user_id", ParameterIn::Path, text().into());
    let operation = with(vec![which()]).response("200", answer("It may nothing any more.", done()));
    section.delete("/admin/users/{user_id}", "delete_user", "Deactivates a user, whose cubes stay.", operation);

    let request = section.named("SetRoleRequest", object([("role", text().into())]));
    let operation = asking(Some(body(request))).parameter(which()).response("200", answer("The user.", user()));
    section.put("/admin/users/{user_id}/role", "set_role", "Gives a user another role.", operation);
}
