//! Which user and which cubes a request means, checked against its caller.

use mos_config::{GeneralMemCubeConfig, Setting};
use mos_core::{Cube, CubeId, UserId};
use serde_json::json;

use super::app::Product;
use super::caller::{Identity, Scope};
use super::error::{ProductError, ProductResult};
use crate::error::Error;
use crate::facade::NewCube;

/// The most cubes that one request may name.
const MAX_CUBES: usize = 100;

impl Product {
    /// Returns the user that a request names, when the caller may act for it.
    pub(super) fn user(&self, user_id: &str) -> ProductResult<UserId> {
        let user = UserId::parse(user_id)?;
        self.caller.check_user(&user)?;
        Ok(user)
    }

    /// Returns the user that a request names, made now when it was never seen, and the cubes to write to: those that are named
    /// without repetitions, else the one of the user's name. Cubes that do not exist are made and belong to the user.
    ///
    /// Rights on each cube are checked by the facade's operations, with the user that is returned.
    pub(super) async fn to_write(
        &self,
        user_id: &str,
        cubes: Option<&[String]>,
    ) -> ProductResult<(UserId, Vec<CubeId>)> {
        self.caller.check(Scope::Write)?;
        let user = self.user(user_id)?;
        self.mos().ensure_user(&user).await?;
        let is_named = cubes.is_some_and(|cubes| !cubes.is_empty());
        let cubes = self.named(&user, cubes)?;
        for cube in &cubes {
            let mut known = self.mos().parts.users.cube(cube).await?;
            if known.is_none() {
                self.make_product_cube(&user, cube).await?;
                // Another call may have made it for somebody else.
                known = if is_named { None } else { self.mos().parts.users.cube(cube).await? };
            }
            if let Some(known) = known.filter(|_| !is_named) {
                self.check_usual(&user, &known)?;
            }
        }
        Ok((user, cubes))
    }

    /// As [`Product::to_write`], for reading: nothing is made. Cubes that do not exist are left out, those of others refused.
    /// Without an own user there is nothing to read, and the list is empty.
    pub(super) async fn to_read(
        &self,
        user_id: &str,
        cubes: Option<&[String]>,
    ) -> ProductResult<(UserId, Vec<CubeId>)> {
        self.caller.check(Scope::Read)?;
        let user = self.user(user_id)?;
        let is_named = cubes.is_some_and(|cubes| !cubes.is_empty());
        let mut found = Vec::new();
        for cube in self.named(&user, cubes)? {
            if self.app.options().is_open && self.mos().has_cube(&cube).await? {
                self.let_in(&user).await?;
            }
            if let Some(known) = self.mos().cube_to_read(&user, &cube).await? {
                if !is_named {
                    self.check_usual(&user, &known)?;
                }
                found.push(cube);
            }
        }
        Ok((user, found))
    }

    /// The cubes that are named, without repetitions; else the one of the user's name.
    pub(super) fn named(&self, user: &UserId, cubes: Option<&[String]>) -> ProductResult<Vec<CubeId>> {
        let mut named: Vec<CubeId> = Vec::new();
        for cube in cubes.unwrap_or_default() {
            let cube = CubeId::parse(cube.as_str())?;
            if !named.contains(&cube) {
                named.push(cube);
            }
        }
        if named.is_empty() {
            named.push(CubeId::parse(user.as_str())?);
        }
        if named.len() > MAX_CUBES {
            return Err(ProductError::bad_value(format!("at most {MAX_CUBES} cubes can be named at once")));
        }
        for cube in &named {
            self.caller.check_cube(cube)?;
        }
        Ok(named)
    }

    /// Refuses a cube that nobody has named and that has the user's name but belongs to somebody else, who would read what the
    /// user tells.
    fn check_usual(&self, user: &UserId, cube: &Cube) -> ProductResult<()> {
        if self.app.options().is_open || cube.owner_id == *user {
            return Ok(());
        }
        Err(Error::NoAccess { user: user.clone(), cube: cube.cube_id.clone() }.into())
    }

    /// Refuses a user who makes a cube of another user's name: it would be where that user's memories go.
    ///
    /// # Errors
    /// [`ProductError`] with status 403; store errors.
    pub async fn check_cube_name(&self, cube: &CubeId) -> ProductResult<()> {
        if let Identity::User(own) = &self.caller.identity
            && own.as_str() != cube.as_str()
            && self.mos().has_user(&UserId::new(cube.as_str())).await?
        {
            return Err(ProductError::forbidden("a cube of a user's name is that user's to make"));
        }
        Ok(())
    }

    /// Makes a cube of the product API that was not there just now.
    async fn make_product_cube(&self, user: &UserId, cube: &CubeId) -> ProductResult<()> {
        self.check_cube_name(cube).await?;
        let new = NewCube { config: Some(self.cube_config(user, cube)?), ..NewCube::new(cube.clone()) };
        match self.mos().create_cube(user, new).await {
            // Or another call has made it since.
            Ok(_) | Err(Error::Memory(mos_core::MemoryError::Store(mos_core::StoreError::Conflict(_)))) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What cubes are that the API makes.
    pub(super) fn cube_config(&self, user: &UserId, cube: &CubeId) -> ProductResult<GeneralMemCubeConfig> {
        if let Some(config) = &self.app.options().cube_config {
            return Ok(GeneralMemCubeConfig {
                user_id: user.to_string(),
                cube_id: Some(cube.to_string()),
                ..config.clone()
            });
        }
        let config = json!({
            "user_id": user, "cube_id": cube,
            "text_mem": {"backend": "tree_text", "config": {"mode": "async"}},
            "pref_mem": {"backend": "pref_text", "config": {"memory_filename": "preference_textual_memories.json"}},
        });
        GeneralMemCubeConfig::from_json(&config).map_err(|error| Error::from(error).into())
    }

    /// Where cubes are open to everybody, makes a user that was never seen.
    pub(super) async fn let_in(&self, user: &UserId) -> ProductResult<()> {
        if self.app.options().is_open {
            self.mos().ensure_user(user).await?;
        }
        Ok(())
    }
}
