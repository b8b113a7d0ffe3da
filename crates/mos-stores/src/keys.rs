//! Keys as stores with tables keep them.

use std::collections::BTreeSet;

use jiff::Timestamp;
use mos_core::{ApiKey, CubeId, KeyHash, KeyId, KeyScope, StoreError, UserId};

/// The columns of a key, besides the hash of its text.
#[derive(Clone, Debug)]
pub(crate) struct KeyRow {
    pub(crate) id: String,
    pub(crate) prefix: String,
    pub(crate) user: Option<String>,
    pub(crate) scopes: String,
    pub(crate) cubes: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) created_us: i64,
    pub(crate) last_used_us: Option<i64>,
    pub(crate) expires_us: Option<i64>,
    pub(crate) is_active: bool,
}

impl KeyRow {
    /// Returns the columns of a key.
    pub(crate) fn of(key: &ApiKey) -> Self {
        let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.as_str()).collect();
        let cubes = key.cubes.as_ref().map(|cubes| {
            let ids: Vec<&str> = cubes.iter().map(CubeId::as_str).collect();
            serde_json::json!(ids).to_string()
        });
        Self {
            id: key.id.to_string(),
            prefix: key.prefix.clone(),
            user: key.user.as_ref().map(ToString::to_string),
            scopes: scopes.join(" "),
            cubes,
            description: key.description.clone(),
            created_us: key.created_at.as_microsecond(),
            last_used_us: key.last_used_at.map(Timestamp::as_microsecond),
            expires_us: key.expires_at.map(Timestamp::as_microsecond),
            is_active: key.is_active,
        }
    }

    /// Returns the key of these columns. A word that is not known is an error, so that it never allows anything.
    pub(crate) fn key(self) -> Result<ApiKey, StoreError> {
        let id = self.id.clone();
        let damaged = |column: &str| StoreError::Corrupt {
            what: format!("key `{id}`"),
            detail: format!("its {column} cannot be read; revoke the key and make another"),
        };
        let moment = |us: i64, column: &str| Timestamp::from_microsecond(us).map_err(|_| damaged(column));
        let scopes: Option<BTreeSet<KeyScope>> = self.scopes.split(' ').map(KeyScope::parse).collect();
        let cubes = match &self.cubes {
            None => None,
            Some(text) => {
                let ids: Vec<String> = serde_json::from_str(text).map_err(|_| damaged("list of cubes"))?;
                Some(ids.into_iter().map(CubeId::new).collect())
            }
        };
        Ok(ApiKey {
            scopes: scopes.ok_or_else(|| damaged("scopes"))?,
            cubes,
            created_at: moment(self.created_us, "date")?,
            last_used_at: self.last_used_us.map(|us| moment(us, "date of its last use")).transpose()?,
            expires_at: self.expires_us.map(|us| moment(us, "end")).transpose()?,
            id: KeyId::new(self.id),
            prefix: self.prefix,
            user: self.user.map(UserId::new),
            description: self.description,
            is_active: self.is_active,
        })
    }
}

/// Returns the hash that a column spells.
pub(crate) fn stored_hash(key: &ApiKey, text: &str) -> Result<KeyHash, StoreError> {
    KeyHash::parse(text).ok_or_else(|| StoreError::Corrupt {
        what: format!("key `{}`", key.id),
        detail: "its hash cannot be read; revoke the key and make another".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_unknown_words_is_an_error_and_allows_nothing() {
        let row = KeyRow {
            id: "1".to_owned(),
            prefix: "krlk_0123456".to_owned(),
            user: Some("ann".to_owned()),
            scopes: "read write".to_owned(),
            cubes: Some(r#"["a/b"]"#.to_owned()),
            description: None,
            created_us: 1,
            last_used_us: None,
            expires_us: Some(2),
            is_active: true,
        };
        let key = row.clone().key().unwrap();
        assert_eq!((key.scopes.len(), key.cubes.clone()), (2, Some([CubeId::new("a/b")].into())));
        let again = KeyRow::of(&key);
        assert_eq!((again.scopes.as_str(), &again.cubes, again.expires_us), ("read write", &row.cubes, Some(2)));
        for (scopes, cubes) in [("read everything", None), ("", None), ("read", Some("all".to_owned()))] {
            let broken = KeyRow { scopes: scopes.to_owned(), cubes, ..row.clone() };
            assert!(matches!(broken.key(), Err(StoreError::Corrupt { .. })), "{scopes}");
        }
    }
}
