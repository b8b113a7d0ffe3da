//! Profiles of users and agents.

use mos::product::{Caller, DeleteProfileRequest, EditProfileRequest, Request};
use serde_json::{Map, Value, json};

use super::answer;
use super::request::{OpenMem, bad};
use super::{Answer, ok};
use crate::error::ApiError;
use crate::extract::{JsonBody, Operations};

/// What one profile of a list is named with: older clients have shorter words.
const TEMPLATE: [&str; 2] = ["profile_template_id", "template_id"];

pub(super) async fn bind(Operations(product): Operations, JsonBody(body): JsonBody) -> Answer {
    let bindings = body["bind_list"].as_array().ok_or_else(|| bad("bind_list should be a list of profiles"))?;
    let mut requests = Vec::with_capacity(bindings.len());
    for binding in bindings {
        requests.extend(bound(binding, product.caller())?);
    }
    let profiles = product.bind_profiles(requests).await?.data;
    let profiles: Vec<Value> = profiles.iter().map(answer::profile).collect();
    ok(json!({"success": true, "profile_detail_list": profiles}))
}

pub(super) async fn edit(Operations(product): Operations, JsonBody(body): JsonBody) -> Answer {
    let body = OpenMem::read(&body, product.caller())?;
    let request = body.of_subject(&["profile_template_id", "metadata", "remove_fields"])?;
    let profile = product.edit_profile(EditProfileRequest::from_json(&request)?).await?.data;
    ok(answer::profile(&profile))
}

pub(super) async fn delete(Operations(product): Operations, JsonBody(body): JsonBody) -> Answer {
    let body = OpenMem::read(&body, product.caller())?;
    let request = body.of_subject(&["profile_template_id"])?;
    product.delete_profile(DeleteProfileRequest::from_json(&request)?).await?;
    ok(json!({"success": true}))
}

/// Returns the profiles that one entry of a list means: of one template, or of each of several.
fn bound(binding: &Value, caller: &Caller) -> Result<Vec<EditProfileRequest>, ApiError> {
    let binding_of = OpenMem::read(binding, caller)?;
    let subject = binding_of.subject()?;
    let one = TEMPLATE.iter().find_map(|key| binding[*key].as_str()).map(str::to_owned);
    let mut templates = binding_of.list("profile_template_ids")?;
    templates.extend(one);
    if templates.is_empty() {
        return Err(bad("profile_template_id is required"));
    }
    let metadata: Option<Map<String, Value>> = binding["metadata"].as_object().cloned();
    let requests = templates.into_iter().map(|template| EditProfileRequest {
        metadata: metadata.clone(),
        ..EditProfileRequest::new(subject.to_owned(), template)
    });
    Ok(requests.collect())
}
