//! Keys of programs and users.

use mos_core::users::ROOT_USER;
use mos_core::{ApiKey, KeyHash, KeyId, KeyStore, UserId, UserRole};

use super::Mos;
use crate::error::{Error, Result};
use crate::keys::{KeyError, MadeKey, NewKey, hash_of, new_text, shown_prefix};

/// How old the note of a key's last use may become, in seconds: a note is a write.
const MAX_USE_AGE_S: i64 = 60;

impl Mos {
    /// Makes a key and returns it with its text, which cannot be had again. Its user is made now when its id was never used.
    ///
    /// # Errors
    /// [`Error::Invalid`] for no scope, for a key that is restricted to cubes and may administer, and when the users are kept
    /// where no keys are; a conflict for a user that was deleted; store errors.
    pub async fn create_key(&self, new: NewKey) -> Result<MadeKey> {
        let (made, hash) = self.prepared_key(new)?;
        if let Some(user) = &made.key.user {
            self.ensure_user(user).await?;
        }
        self.key_store()?.create_key(&made.key, &hash).await?;
        Ok(made)
    }

    /// As [`Mos::create_key`], when `actor` may: ROOT makes any key, an ADMIN keys of its own, of ordinary users and of guests.
    ///
    /// # Errors
    /// As [`Mos::create_key`]; [`Error::UnknownUser`] for the actor; [`Error::NotAllowed`]; a conflict when a cube of a new
    /// user's name is somebody else's.
    pub async fn create_key_as(&self, actor: &UserId, new: NewKey) -> Result<MadeKey> {
        match &new.user {
            None => self.check_administers(actor, UserRole::Root, "make a key of a program, which acts as").await?,
            Some(user) => {
                let role = self.parts.users.user(user).await?.map_or(UserRole::User, |user| user.role);
                let role = if user == actor { UserRole::User } else { role };
                self.check_administers(actor, role, "make keys of").await?;
                self.check_own_name(user).await?;
            }
        }
        self.create_key(new).await
    }

    /// Makes the key of a program with all scopes, when no usable key exists at all; else returns `None`.
    ///
    /// # Errors
    /// As [`Mos::create_key`].
    pub async fn first_key(&self) -> Result<Option<MadeKey>> {
        let new = NewKey { description: Some("made at the first start".to_owned()), ..NewKey::program() };
        let (made, hash) = self.prepared_key(new)?;
        let is_made = self.key_store()?.create_first_key(&made.key, &hash).await?;
        Ok(is_made.then_some(made))
    }

    /// Returns the key of this text, when it is usable now, and notes that it was used.
    ///
    /// # Errors
    /// [`KeyError`] tells why not.
    pub async fn find_key(&self, text: &str) -> std::result::Result<ApiKey, KeyError> {
        let hash = hash_of(text).ok_or(KeyError::Malformed)?;
        let store = self.key_store()?;
        let key = store.find_key(&hash).await.map_err(Error::from)?.ok_or(KeyError::Unknown)?;
        self.check_key(&key)?;
        if let Some(user) = &key.user
            && self.parts.users.user(user).await.map_err(Error::from)?.is_none()
        {
            return Err(KeyError::NoUser);
        }
        let now = self.parts.clock.now();
        let is_noted = key.last_used_at.is_some_and(|last| now.as_second() - last.as_second() < MAX_USE_AGE_S);
        if !is_noted && let Err(error) = store.touch_key(&key.id, now).await {
            tracing::warn!(key = %key.id, %error, "the use of a key could not be noted");
        }
        Ok(key)
    }

    /// Refuses a key that was looked up before and is not usable any more, as far as that can be told without the store.
    ///
    /// # Errors
    /// [`KeyError::Revoked`], [`KeyError::Expired`].
    pub fn check_key(&self, key: &ApiKey) -> std::result::Result<(), KeyError> {
        if !key.is_active {
            return Err(KeyError::Revoked);
        }
        if key.is_expired(self.parts.clock.now()) {
            return Err(KeyError::Expired);
        }
        Ok(())
    }

    /// Returns the keys of a user, with `None` of all users and programs, newest first; bounded.
    ///
    /// # Errors
    /// Store errors.
    pub async fn list_keys(&self, user: Option<&UserId>) -> Result<Vec<ApiKey>> {
        Ok(self.key_store()?.list_keys(user).await?)
    }

    /// Revokes a key for good and returns it as it was. Servers that looked it up lately may take it for a moment longer.
    ///
    /// # Errors
    /// [`StoreError::NotFound`](mos_core::StoreError::NotFound) for an unknown one.
    pub async fn revoke_key(&self, id: &KeyId) -> Result<ApiKey> {
        Ok(self.key_store()?.revoke_key(id).await?)
    }

    /// Revokes a key as [`Mos::revoke_key`] does, when `actor` administers the one it belongs to: their own key anybody with such
    /// a role may revoke, those of programs and of other administrators only ROOT.
    ///
    /// # Errors
    /// As [`Mos::revoke_key`]; [`Error::NotAllowed`].
    pub async fn revoke_key_as(&self, actor: &UserId, id: &KeyId) -> Result<ApiKey> {
        const WHAT: &str = "revoke keys of";
        if self.check_administers(actor, UserRole::Root, WHAT).await.is_err() {
            let keys = self.list_keys(None).await?;
            let role = match keys.iter().find(|key| key.id == *id).map(|key| key.user.as_ref()) {
                Some(Some(user)) if user == actor => UserRole::User,
                Some(Some(user)) => self.parts.users.user(user).await?.map_or(UserRole::User, |user| user.role),
                // A program's, or one that is not among those that are listed.
                Some(None) | None => UserRole::Root,
            };
            self.check_administers(actor, role, WHAT).await?;
        }
        self.revoke_key(id).await
    }

    /// Returns the time by the clock this was built with, as stored in memories.
    pub fn now_text(&self) -> String {
        self.parts.clock.now_text()
    }

    /// Returns the user as whom a program administers users and keys.
    pub fn root_user() -> UserId {
        UserId::new(ROOT_USER)
    }

    /// Refuses unless the actor has a role that administers users.
    ///
    /// # Errors
    /// [`Error::UnknownUser`]; [`Error::NotAllowed`].
    pub async fn check_administrator(&self, actor: &UserId) -> Result<()> {
        self.check_administers(actor, UserRole::Guest, "administer").await
    }

    /// Erases the keys of a user who goes.
    pub(super) async fn remove_keys_of(&self, user: &UserId) -> Result<()> {
        if let Ok(store) = self.key_store() {
            store.remove_keys_of(user).await?;
        }
        Ok(())
    }

    fn prepared_key(&self, new: NewKey) -> Result<(MadeKey, KeyHash)> {
        new.check()?;
        let user = new.user.map(|user| UserId::parse(user.as_str())).transpose()?;
        let (text, hash) = new_text(user.is_none())?;
        let created_at = self.parts.clock.now();
        let too_far =
            |_| Error::Invalid("the key would end after the end of the calendar; choose a shorter time".to_owned());
        let expires_at = new.expires_in.map(|time| created_at.checked_add(time).map_err(too_far)).transpose()?;
        let key = ApiKey {
            id: KeyId::new(self.parts.ids.next_uuid()),
            prefix: shown_prefix(text.expose()),
            user,
            scopes: new.scopes,
            cubes: new.cubes,
            description: new.description,
            created_at,
            last_used_at: None,
            expires_at,
            is_active: true,
        };
        Ok((MadeKey { text, key }, hash))
    }

    fn key_store(&self) -> Result<&dyn KeyStore> {
        let own = self.parts.keys.as_deref();
        own.or_else(|| self.parts.users.key_store()).ok_or_else(|| {
            let text = "the store of users keeps no keys; give one with `MosBuilder::keys`, or let everybody in on \
                        loopback with `mos serve --compat-open`";
            Error::Invalid(text.to_owned())
        })
    }
}
