//! Profiles: what an application wants to know of a user, field by field. Each is one memory, which searches find like others;
//! its text tells the fields, one a line.

use mos_core::{
    AddRequest, Condition, CubeId, Filter, MemoryError, MemoryId, MemoryItem, MemoryType, MetadataForm, Operator,
    Origin, Paging, Scope as RecordScope, StoreError, UserId,
};
use serde_json::{Map, Value, json};

use super::super::app::Product;
use super::super::caller::Scope;
use super::super::error::{ProductError, ProductResult};
use super::super::hits::node_value;
use super::super::listing::not_deleted;
use super::super::reply::Reply;

/// The tag of all profiles.
const PROFILE: &str = "profile";

/// Where the memory of a profile names the template.
const TEMPLATE: &str = "profile_template_id";

/// Where it keeps the fields.
const FIELDS: &str = "profile_fields";

/// The longest name of a template or a field, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// The most fields of a profile.
const MAX_FIELDS: usize = 100;

/// The longest fields together, in bytes of JSON.
const MAX_BYTES: usize = 32 * 1024;

/// The most profiles of one request.
const MAX_BOUND: usize = 100;

/// How many memories of one profile are looked at: the profile, and copies of it.
const MAX_FOUND: usize = 16;

request! {
    /// What is changed of a profile.
    pub struct EditProfileRequest as EditProfileRequest {
        /// Whose profile.
        required user_id: String;
        /// The name of the template that it is of.
        required profile_template_id: String;
        /// Fields that are set.
        #[schema(value_type = Option<Object>)]
        optional metadata: Map<String, Value>;
        /// Fields that are removed.
        optional remove_fields: Vec<String>;
    }
}

request! {
    /// A profile that is removed.
    pub struct DeleteProfileRequest as DeleteProfileRequest {
        /// Whose profile.
        required user_id: String;
        /// The name of the template that it is of.
        required profile_template_id: String;
    }
}

impl Product {
    /// Gives users profiles, one per template, with the fields that are named; a profile that is there keeps its own fields
    /// besides. Returns the profiles as memories, in the order of the requests.
    ///
    /// # Errors
    /// Status 400 for names and fields that are too many or too long; 403 without the right to write.
    pub async fn bind_profiles(&self, requests: Vec<EditProfileRequest>) -> ProductResult<Reply<Vec<Value>>> {
        if requests.is_empty() || requests.len() > MAX_BOUND {
            return Err(ProductError::bad_value(format!("give 1 to {MAX_BOUND} profiles")));
        }
        for request in &requests {
            check(request)?;
            self.user(&request.user_id)?;
        }
        let mut profiles = Vec::with_capacity(requests.len());
        for request in requests {
            let (user, cubes) = self.to_write(&request.user_id, None).await?;
            for cube in &cubes {
                let known = self.profile(cube, &user, &request.profile_template_id).await?;
                let item = match known {
                    Some(item) => item,
                    None => self.new_profile(&user, cube, &request.profile_template_id).await?,
                };
                let item = if request.metadata.is_some() || request.remove_fields.is_some() {
                    self.changed(&user, cube, item, &request).await?
                } else {
                    item
                };
                profiles.push(node_value(&item, cube));
            }
        }
        Ok(Reply::new("Profiles bound successfully", profiles))
    }

    /// Sets and removes fields of a profile and returns it as a memory; its earlier state is in its history.
    ///
    /// # Errors
    /// Status 404 for a profile that the user has not; 400 when nothing is to be changed, and for names and fields that are
    /// too many or too long; 403 without the right to write.
    pub async fn edit_profile(&self, request: EditProfileRequest) -> ProductResult<Reply<Value>> {
        check(&request)?;
        if request.metadata.is_none() && request.remove_fields.is_none() {
            return Err(ProductError::bad_value("there is nothing to change; give `metadata` or `remove_fields`"));
        }
        let Some((user, cube, item)) = self.of_template(&request.user_id, &request.profile_template_id).await? else {
            let reason = format!("the user has no profile `{}`; bind it first", request.profile_template_id);
            return Err(ProductError::new(404, reason));
        };
        let item = self.changed(&user, &cube, item, &request).await?;
        Ok(Reply::new("Profile changed successfully", node_value(&item, &cube)))
    }

    /// Removes a profile, and returns whether there was one.
    ///
    /// # Errors
    /// Status 403 without the right to write.
    pub async fn delete_profile(&self, request: DeleteProfileRequest) -> ProductResult<Reply<bool>> {
        let template = request.profile_template_id.as_str();
        let Some((user, cube, _)) = self.of_template(&request.user_id, template).await? else {
            return Ok(Reply::new("There is no such profile", false));
        };
        let ids: Vec<MemoryId> = self.profiles(&cube, &user, template).await?.into_iter().map(|item| item.id).collect();
        self.mos().delete_many(&user, Some(&cube), &ids).await?;
        tracing::info!(%cube, "a profile was deleted");
        Ok(Reply::new("Profile deleted successfully", true))
    }

    /// Returns a profile that there is, with whose it is and where; nothing is made.
    async fn of_template(&self, user_id: &str, template: &str) -> ProductResult<Option<(UserId, CubeId, MemoryItem)>> {
        self.caller.check(Scope::Write)?;
        let user = self.user(user_id)?;
        let cube = CubeId::parse(user.as_str())?;
        let Some(reached) = self.existing(Scope::Write, Some(user_id), &cube).await? else { return Ok(None) };
        let found = self.profile(&cube, &reached.user, template).await?;
        Ok(found.map(|item| (reached.user, cube, item)))
    }

    async fn profile(&self, cube: &CubeId, user: &UserId, template: &str) -> ProductResult<Option<MemoryItem>> {
        Ok(self.profiles(cube, user, template).await?.into_iter().next())
    }

    /// Returns every profile of a template, which is one unless somebody has put more there.
    async fn profiles(&self, cube: &CubeId, user: &UserId, template: &str) -> ProductResult<Vec<MemoryItem>> {
        let tagged = Condition { field: "tags".to_owned(), operator: Operator::Contains, value: json!(tag(template)) };
        let filter = not_deleted().and(Filter::equals("user_id", user.as_str())).and(Filter::Is(tagged));
        let paging = Paging { offset: 0, limit: MAX_FOUND };
        let mut found = self.mos().parts.record.list(&RecordScope::of(cube), &filter, paging).await?.entries;
        let is_of_template = |item: &MemoryItem| {
            item.metadata.info.as_ref().is_some_and(|info| info.get(TEMPLATE) == Some(&json!(template)))
        };
        found.retain(|item| item.working_copy_of().is_none() && is_of_template(item));
        Ok(found)
    }

    /// Makes a profile. Its id follows from whose it is: of two that are made at the same time one is refused and the other
    /// is returned by both.
    async fn new_profile(&self, user: &UserId, cube: &CubeId, template: &str) -> ProductResult<MemoryItem> {
        let handle = self.mos().cube(user, cube).await?;
        for number in 0..MAX_FOUND {
            let item = self.blank(user, template, id_of(user, cube, template, number));
            let request = AddRequest::from(Origin::new(user.as_str(), "bind_profile"));
            let is_taken = match handle.text_mem().add(vec![item], request).await {
                Ok(_) => false,
                Err(MemoryError::Store(StoreError::Conflict(_))) => true,
                Err(error) => return Err(error.into()),
            };
            self.mos().has_changed(cube);
            if let Some(stored) = self.profile(cube, user, template).await? {
                return Ok(stored);
            }
            if !is_taken {
                break;
            }
            // One that is marked as deleted keeps its id.
        }
        Err(ProductError::new(409, "the profile was removed meanwhile; try again"))
    }

    /// Returns a profile that tells nothing yet.
    fn blank(&self, user: &UserId, template: &str, id: MemoryId) -> MemoryItem {
        let mut item = MemoryItem::new(id, text_of(template, &Map::new()));
        let metadata = &mut item.metadata;
        metadata.user_id = Some(user.to_string());
        metadata.key = Some(template.to_owned());
        metadata.kind = Some(PROFILE.to_owned());
        metadata.tags = Some(vec![PROFILE.to_owned(), tag(template)]);
        metadata.updated_at = Some(self.mos().now_text());
        metadata.info = Some(Map::from_iter([(TEMPLATE.to_owned(), json!(template)), (FIELDS.to_owned(), json!({}))]));
        metadata.form = MetadataForm::Tree(Box::new(mos_core::memory::TreeFields {
            memory_type: MemoryType::User,
            ..mos_core::memory::TreeFields::default()
        }));
        item
    }

    async fn changed(
        &self,
        user: &UserId,
        cube: &CubeId,
        item: MemoryItem,
        request: &EditProfileRequest,
    ) -> ProductResult<MemoryItem> {
        let change = |item: &mut MemoryItem| -> ProductResult<()> {
            let info = item.metadata.info.get_or_insert_default();
            let mut fields = info.get(FIELDS).and_then(Value::as_object).cloned().unwrap_or_default();
            fields.extend(request.metadata.clone().unwrap_or_default());
            for name in request.remove_fields.iter().flatten() {
                fields.shift_remove(name);
            }
            check_fields(&fields)?;
            item.memory = text_of(&request.profile_template_id, &fields);
            info.insert(FIELDS.to_owned(), Value::Object(fields));
            Ok(())
        };
        self.mos().update_with(user, Some(cube), item, change).await
    }
}

fn id_of(user: &UserId, cube: &CubeId, template: &str, number: usize) -> MemoryId {
    let named = json!([PROFILE, cube.as_str(), user.as_str(), template, number]).to_string();
    let hash = blake3::hash(named.as_bytes()).to_hex();
    // Version and variant of a UUID of one's own making.
    let (first, second, third, fourth, last) = (&hash[..8], &hash[8..12], &hash[12..15], &hash[15..18], &hash[18..30]);
    MemoryId::new(format!("{first}-{second}-8{third}-8{fourth}-{last}"))
}

fn tag(template: &str) -> String {
    format!("{PROFILE}:{template}")
}

/// Returns what the memory of a profile says.
fn text_of(template: &str, fields: &Map<String, Value>) -> String {
    if fields.is_empty() {
        return format!("Profile `{template}`: nothing is known yet");
    }
    let mut text = format!("Profile `{template}`:");
    for (name, value) in fields {
        let said = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text.push_str(&format!("\n{name}: {said}"));
    }
    text
}

fn check(request: &EditProfileRequest) -> ProductResult<()> {
    let name = request.profile_template_id.as_str();
    if name.trim().is_empty() || name.len() > MAX_NAME_BYTES || name.contains(char::is_control) {
        return Err(ProductError::bad_value(format!(
            "`profile_template_id` has 1 to {MAX_NAME_BYTES} bytes in one line"
        )));
    }
    check_fields(request.metadata.as_ref().unwrap_or(&Map::new()))
}

fn check_fields(fields: &Map<String, Value>) -> ProductResult<()> {
    let is_bad =
        |name: &String| name.trim().is_empty() || name.len() > MAX_NAME_BYTES || name.contains(char::is_control);
    if fields.len() > MAX_FIELDS || fields.keys().any(is_bad) {
        let reason = format!("a profile has at most {MAX_FIELDS} fields, each named with 1 to {MAX_NAME_BYTES} bytes");
        return Err(ProductError::bad_value(reason));
    }
    if json!(fields).to_string().len() > MAX_BYTES {
        return Err(ProductError::bad_value(format!("the fields of a profile have at most {MAX_BYTES} bytes as JSON")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_profile_follows_from_whose_it_is() {
        let id = |user: &str, template: &str, number| id_of(&user.into(), &"cube".into(), template, number);
        assert_eq!(id("ann", "basic", 0), id("ann", "basic", 0));
        assert!(MemoryId::parse(id("ann", "basic", 0).as_str()).is_ok());
        for other in [id("bob", "basic", 0), id("ann", "Basic", 0), id("ann", "basic", 1)] {
            assert_ne!(id("ann", "basic", 0), other);
        }
    }

    #[test]
    fn a_profile_tells_its_fields_a_line_each() {
        let fields = json!({"city": "Bonn", "age": 3});
        assert_eq!(text_of("basic", fields.as_object().unwrap()), "Profile `basic`:\ncity: Bonn\nage: 3");
        assert!(text_of("basic", &Map::new()).contains("nothing is known yet"));
    }

    #[test]
    fn names_and_fields_are_bounded() {
        let request = |template: &str, metadata: Value| EditProfileRequest {
            metadata: metadata.as_object().cloned(),
            ..EditProfileRequest::new("ann".to_owned(), template.to_owned())
        };
        assert!(check(&request("basic", json!({"city": "Bonn"}))).is_ok());
        let many: Map<String, Value> = (0..=MAX_FIELDS).map(|n| (n.to_string(), json!(n))).collect();
        for bad in [
            request(" ", json!({})),
            request("a\nb", json!({})),
            request("basic", json!({"": 1})),
            request("basic", json!({"text": "x".repeat(MAX_BYTES)})),
            request("basic", Value::Object(many)),
        ] {
            assert_eq!(check(&bad).unwrap_err().status, 400);
        }
    }
}
