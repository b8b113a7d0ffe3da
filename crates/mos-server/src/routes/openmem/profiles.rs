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

/// The most profiles of one request.
const MAX_BOUND: usize = 100;

/// The longest fields of a profile together, in bytes of JSON.
const MAX_BYTES: usize = 32 * 1024;

pub(super) async fn bind(Operations(product): Operations, JsonBody(body): JsonBody) -> Answer {
    let bindings = body["bind_list"].as_array().ok_or_else(|| bad("bind_list should be a list of profiles"))?;
    let mut requests = Vec::with_capacity(bindings.len());
    for binding in bindings {
        requests.extend(bound(binding, product.caller())?);
        if requests.len() > MAX_BOUND {
            return Err(too_many());
        }
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
    // Each template gets the fields: a small request must not become a large one.
    if templates.len() > MAX_BOUND {
        return Err(too_many());
    }
    if binding["metadata"].to_string().len() > MAX_BYTES {
        return Err(bad(format!("the fields of a profile have at most {MAX_BYTES} bytes as JSON")));
    }
    let metadata: Option<Map<String, Value>> = binding["metadata"].as_object().cloned();
    let requests = templates.into_iter().map(|template| EditProfileRequest {
        metadata: metadata.clone(),
        ..EditProfileRequest::new(subject.to_owned(), template)
    });
    Ok(requests.collect())
}

fn too_many() -> ApiError {
    bad(format!("give 1 to {MAX_BOUND} profiles"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_not_copied_for_more_profiles_than_there_may_be() {
        let of = |n_templates: usize, n_bytes: usize| {
            let templates: Vec<String> = (0..n_templates).map(|number| number.to_string()).collect();
            let metadata = json!({"text": "x".repeat(n_bytes)});
            let binding = json!({"user_id": "ann", "profile_template_ids": templates, "metadata": metadata});
            bound(&binding, &Caller::program()).map(|requests| requests.len())
        };
        assert_eq!(of(MAX_BOUND, 100).ok(), Some(MAX_BOUND));
        assert!(of(MAX_BOUND + 1, 100).is_err() && of(1, MAX_BYTES).is_err());
    }
}
