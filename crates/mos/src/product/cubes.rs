//! Making cubes, and asking which there are.

use mos_core::{CubeId, MemoryId};
use serde_json::{Map, Value, json};

use super::app::Product;
use super::caller::{Identity, Scope};
use super::error::{ProductError, ProductResult};
use super::reply::Reply;
use crate::error::Error;
use crate::facade::NewCube;

/// The most memories that are looked for at once.
const MAX_IDS: usize = 10_000;

request! {
    /// A cube to make.
    pub struct CreateCubeRequest as CreateCubeRequest {
        /// What it is called.
        required cube_name: String;
        /// Whose it is.
        required owner_id: String;
        /// Accepted and not used: where memories are kept is a matter of the settings.
        optional cube_path: String;
        /// Its id; without this a new one.
        optional cube_id: String;
    }
}

request! {
    /// A cube that a client wants to use.
    pub struct RegisterCubeRequest as RegisterCubeRequest {
        /// Its name or path, which is returned as it is.
        required mem_cube_name_or_path: String;
        /// Its id; without this its name or path.
        optional mem_cube_id: String;
        /// For whom.
        optional user_id: String;
    }
}

request! {
    /// A question whether a cube exists.
    pub struct ExistMemCubeIdRequest as ExistMemCubeIdRequest {
        /// The cube.
        required mem_cube_id: String;
    }
}

request! {
    /// A question in which cubes memories are.
    pub struct GetUserNamesByMemoryIdsRequest as GetUserNamesByMemoryIdsRequest {
        /// The memories.
        required memory_ids: Vec<String>;
    }
}

impl Product {
    /// Makes a cube and returns its `cube_id`, `cube_name` and `owner_id`.
    ///
    /// # Errors
    /// Status 400 for an unknown owner, 403 for another one than the caller acts for, 409 for an id that is taken.
    pub async fn create_cube(&self, request: CreateCubeRequest) -> ProductResult<Reply<Value>> {
        self.caller.check(Scope::Write)?;
        let owner = self.user(&request.owner_id)?;
        if !self.mos().has_user(&owner).await? {
            return Err(Error::UnknownUser(owner).into());
        }
        let cube_id = match request.cube_id.filter(|id| !id.is_empty()) {
            Some(id) => CubeId::parse(id)?,
            None => CubeId::new(self.mos().parts.ids.next_uuid()),
        };
        self.caller.check_cube(&cube_id)?;
        self.check_cube_name(&cube_id).await?;
        let config = Some(self.cube_config(&owner, &cube_id)?);
        let new = NewCube { cube_id, name: Some(request.cube_name), config };
        let cube = self.mos().create_cube(&owner, new).await?;
        let data = json!({"cube_id": cube.cube_id, "cube_name": cube.cube_name, "owner_id": cube.owner_id});
        Ok(Reply::new("Cube created successfully", data))
    }

    /// Returns the `cube_id` and `cube_name_or_path` of a cube as they are given; nothing is made: a cube exists from the
    /// first memory on.
    ///
    /// # Errors
    /// Status 400 for an unknown user, 403 for another one than the caller acts for.
    pub async fn register_cube(&self, request: RegisterCubeRequest) -> ProductResult<Reply<Value>> {
        self.caller.check(Scope::Write)?;
        if let Some(user) = request.user_id.as_deref().filter(|user| !user.is_empty()) {
            let user = self.user(user)?;
            if !self.mos().has_user(&user).await? {
                return Err(Error::UnknownUser(user).into());
            }
        }
        let named = request.mem_cube_id.filter(|id| !id.is_empty());
        let cube = CubeId::parse(named.unwrap_or_else(|| request.mem_cube_name_or_path.clone()))?;
        self.caller.check_cube(&cube)?;
        let data = json!({"cube_id": cube, "cube_name_or_path": request.mem_cube_name_or_path});
        Ok(Reply::new("Cube registered successfully", data))
    }

    /// Returns whether a cube exists that the caller may see, under the cube's id.
    ///
    /// # Errors
    /// Status 403 for a caller that may not read.
    pub async fn exist_mem_cube_id(&self, request: ExistMemCubeIdRequest) -> ProductResult<Reply<Value>> {
        self.caller.check(Scope::Read)?;
        let exists = match CubeId::parse(request.mem_cube_id.as_str()) {
            Ok(cube) => self.sees_cube(&cube).await?,
            // What no cube can be called exists nowhere.
            Err(_) => false,
        };
        let data = Map::from_iter([(request.mem_cube_id, json!(exists))]);
        Ok(Reply::new("Successfully", Value::Object(data)))
    }

    /// Returns for each memory the cube that it is in, among the registered ones that the caller may use; null for others.
    ///
    /// # Errors
    /// Status 400 for too many memories, 403 for a caller that may not read.
    pub async fn get_user_names_by_memory_ids(
        &self,
        request: GetUserNamesByMemoryIdsRequest,
    ) -> ProductResult<Reply<Value>> {
        self.caller.check(Scope::Read)?;
        if request.memory_ids.len() > MAX_IDS {
            return Err(ProductError::bad_value(format!("at most {MAX_IDS} memories can be asked for at once")));
        }
        let mut cubes: Map<String, Value> = request.memory_ids.into_iter().map(|id| (id, Value::Null)).collect();
        let asked: Vec<MemoryId> = cubes.keys().filter_map(|id| MemoryId::parse(id.as_str()).ok()).collect();
        let reached = if asked.is_empty() { Vec::new() } else { self.within_reach().await? };
        for (cube, items) in self.holding(reached, &asked, true).await? {
            for item in items {
                // The first cube that has it, when several do.
                let found = cubes.entry(item.id.to_string()).or_insert(Value::Null);
                if found.is_null() {
                    *found = json!(cube.cube_id);
                }
            }
        }
        Ok(Reply::new("Successfully", Value::Object(cubes)))
    }

    async fn sees_cube(&self, cube: &CubeId) -> ProductResult<bool> {
        if self.caller.check_cube(cube).is_err() || !self.mos().has_cube(cube).await? {
            return Ok(false);
        }
        let user = match &self.caller.identity {
            Identity::User(user) if !self.app.options().is_open => user,
            Identity::User(_) | Identity::Program => return Ok(true),
        };
        match self.mos().check_reads(user, cube).await {
            Ok(()) => Ok(true),
            Err(Error::NoAccess { .. } | Error::UnknownUser(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
