//! Who calls, and what they may do.

use std::collections::BTreeSet;

use mos_core::{CubeId, UserId};
use serde::{Deserialize, Serialize};

use super::error::{ProductError, ProductResult};

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A program that acts for any user, for example the backend of a chat application.
    Program,
    /// One user.
    User(UserId),
}

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Search, read and chat.
    Read,
    /// Add, change and remove memories; make cubes.
    Write,
    /// Administer users and keys.
    Admin,
}

/// Who calls and what they may do. Rights on a cube are checked besides: a caller never has more than its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Who it is.
    pub identity: Identity,
    /// What it may do.
    pub scopes: BTreeSet<Scope>,
    /// The only cubes it may use; without this all that the user may.
    pub cubes: Option<BTreeSet<CubeId>>,
}

impl Caller {
    /// Returns a caller that may do everything for everybody: the program that holds the facade.
    pub fn program() -> Self {
        Self { identity: Identity::Program, scopes: [Scope::Read, Scope::Write, Scope::Admin].into(), cubes: None }
    }

    /// Returns a caller that reads and writes as one user.
    pub fn user(user: impl Into<UserId>) -> Self {
        Self { identity: Identity::User(user.into()), scopes: [Scope::Read, Scope::Write].into(), cubes: None }
    }

    /// Refuses a caller without this scope.
    ///
    /// # Errors
    /// [`ProductError`] with status 403.
    pub fn check(&self, scope: Scope) -> ProductResult<()> {
        if self.scopes.contains(&scope) {
            return Ok(());
        }
        let word = match scope {
            Scope::Read => "read",
            Scope::Write => "write",
            Scope::Admin => "admin",
        };
        Err(ProductError::forbidden(format!("this key lacks the scope `{word}`; use one that has it")))
    }

    /// Refuses a caller that may not act for this user.
    ///
    /// # Errors
    /// [`ProductError`] with status 403.
    pub fn check_user(&self, user: &UserId) -> ProductResult<()> {
        match &self.identity {
            Identity::User(own) if own != user => {
                Err(ProductError::forbidden("this key belongs to another user than `user_id` names"))
            }
            Identity::User(_) | Identity::Program => Ok(()),
        }
    }

    /// Refuses a caller that may not use this cube at all.
    ///
    /// # Errors
    /// [`ProductError`] with status 403.
    pub fn check_cube(&self, cube: &CubeId) -> ProductResult<()> {
        match &self.cubes {
            Some(cubes) if !cubes.contains(cube) => {
                Err(ProductError::forbidden(format!("this key may not use the cube `{cube}`")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The cube of a caller that may use no other: it is meant where none is named.
    pub fn only_cube(&self) -> Option<&CubeId> {
        self.cubes.as_ref().filter(|cubes| cubes.len() == 1)?.first()
    }
}
