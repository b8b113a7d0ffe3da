//! Users, cubes and shares in memory.

use std::collections::HashMap;

use mos_core::users::ROOT_USER;
use mos_core::{Access, Cube, CubeId, StoreError, User, UserId, UserRole};

use crate::prepare::{check_role, check_share, name_is_taken, other_user, was_deleted};

fn not_found(what: &'static str, id: &str) -> StoreError {
    StoreError::NotFound { what, id: id.to_owned() }
}

/// Everything the user store holds.
#[derive(Debug)]
pub(super) struct UsersState {
    /// In the order they were made.
    users: Vec<User>,
    /// In the order they were made.
    cubes: Vec<Cube>,
    shares: HashMap<(CubeId, UserId), Access>,
}

impl UsersState {
    pub(super) fn new(at: String) -> Self {
        let root = User {
            user_id: UserId::new(ROOT_USER),
            user_name: ROOT_USER.to_owned(),
            role: UserRole::Root,
            created_at: at,
            is_active: true,
        };
        Self { users: vec![root], cubes: Vec::new(), shares: HashMap::new() }
    }

    pub(super) fn create(&mut self, id: &UserId, name: &str, role: UserRole, at: String) -> Result<User, StoreError> {
        if let Some(user) = self.users.iter_mut().find(|user| user.user_name == name) {
            if !user.is_active {
                if user.user_id != *id {
                    return Err(StoreError::Conflict(format!(
                        "the name `{name}` belongs to the deleted user `{}`; create that id again, or choose another \
                         name",
                        user.user_id
                    )));
                }
                // A deleted user that is created again has its cubes back.
                (user.is_active, user.role) = (true, role);
            }
            return Ok(user.clone());
        }
        if let Some(other) = self.users.iter().find(|user| user.user_id == *id) {
            return Err(StoreError::Conflict(format!(
                "the user id `{id}` belongs to a user named `{}`; choose another id",
                other.user_name
            )));
        }
        let user = User { user_id: id.clone(), user_name: name.to_owned(), role, created_at: at, is_active: true };
        self.users.push(user.clone());
        Ok(user)
    }

    pub(super) fn ensure(&mut self, id: &UserId, at: String) -> Result<User, StoreError> {
        match self.users.iter().find(|user| user.user_id == *id) {
            Some(user) if user.is_active => return Ok(user.clone()),
            Some(user) => return Err(was_deleted(user)),
            None => {}
        }
        let user = self.create(id, id.as_str(), UserRole::User, at)?;
        if user.user_id == *id { Ok(user) } else { Err(name_is_taken(id, &user)) }
    }

    pub(super) fn user(&self, id: &UserId) -> Option<&User> {
        self.users.iter().find(|user| user.user_id == *id && user.is_active)
    }

    /// Returns a user, deleted or not.
    pub(super) fn known_user(&self, id: &UserId) -> Option<&User> {
        self.users.iter().find(|user| user.user_id == *id)
    }

    pub(super) fn users(&self) -> Vec<User> {
        self.users.iter().filter(|user| user.is_active).cloned().collect()
    }

    pub(super) fn delete_user(&mut self, id: &UserId) -> Result<(), StoreError> {
        if id.as_str() == ROOT_USER {
            return Err(StoreError::Invalid(format!("the user `{ROOT_USER}` cannot be deleted")));
        }
        let user = self.users.iter_mut().find(|user| user.user_id == *id);
        user.ok_or_else(|| not_found("user", id.as_str()))?.is_active = false;
        Ok(())
    }

    /// Removes a user for good, with its shares. Its cubes must be gone.
    pub(super) fn erase_user(&mut self, id: &UserId) -> Result<(), StoreError> {
        if id.as_str() == ROOT_USER {
            return Err(StoreError::Invalid(format!("the user `{ROOT_USER}` cannot be erased")));
        }
        let place = self.users.iter().position(|user| user.user_id == *id);
        let place = place.ok_or_else(|| not_found("user", id.as_str()))?;
        let n_cubes = self.cubes.iter().filter(|cube| cube.owner_id == *id).count();
        if n_cubes > 0 {
            return Err(StoreError::Conflict(format!("the user `{id}` still owns {n_cubes} cubes; delete them first")));
        }
        self.shares.retain(|(_, user), _| user != id);
        self.users.remove(place);
        Ok(())
    }

    pub(super) fn set_role(&mut self, id: &UserId, role: UserRole) -> Result<User, StoreError> {
        check_role(id, role)?;
        let user = self.users.iter_mut().find(|user| user.user_id == *id && user.is_active);
        let user = user.ok_or_else(|| not_found("user", id.as_str()))?;
        user.role = role;
        Ok(user.clone())
    }

    /// Every user, deactivated ones too, in the order they were made.
    pub(super) fn every_user(&self) -> &[User] {
        &self.users
    }

    /// Keeps a user of another store; returns whether it is new.
    pub(super) fn import_user(&mut self, user: &User) -> Result<bool, StoreError> {
        let is_meant = |known: &&User| known.user_id == user.user_id || known.user_name == user.user_name;
        let known: Vec<&User> = self.users.iter().filter(is_meant).collect();
        if let Some(error) = known.iter().find_map(|known| other_user(user, known)) {
            return Err(error);
        }
        let is_new = known.is_empty();
        if is_new {
            self.users.push(user.clone());
        }
        Ok(is_new)
    }

    fn check_user(&self, id: &UserId) -> Result<(), StoreError> {
        let is_known = self.users.iter().any(|user| user.user_id == *id);
        if is_known { Ok(()) } else { Err(not_found("user", id.as_str())) }
    }

    /// With whom a cube is shared, deactivated users too, by id.
    pub(super) fn every_share(&self, id: &CubeId) -> Vec<(UserId, Access)> {
        let owner = self.cube(id).map(|cube| &cube.owner_id);
        let with = self.shares.iter().filter(|((cube, user), _)| cube == id && Some(user) != owner);
        let mut shares: Vec<(UserId, Access)> = with.map(|((_, user), access)| (user.clone(), *access)).collect();
        shares.sort();
        shares
    }

    pub(super) fn shares(&self, id: &CubeId) -> Result<Vec<(UserId, Access)>, StoreError> {
        let owner = self.cube(id).ok_or_else(|| not_found("cube", id.as_str()))?.owner_id.clone();
        let mut shares = vec![(owner, Access::Owner)];
        shares.extend(self.every_share(id).into_iter().filter(|(user, _)| self.user(user).is_some()));
        Ok(shares)
    }

    pub(super) fn import_share(&mut self, id: &CubeId, user: &UserId, access: Access) -> Result<(), StoreError> {
        check_share(access)?;
        self.cube_mut(id)?;
        self.check_user(user)?;
        self.shares.insert((id.clone(), user.clone()), access);
        Ok(())
    }

    pub(super) fn create_cube(&mut self, cube: &Cube) -> Result<(), StoreError> {
        self.user(&cube.owner_id).ok_or_else(|| not_found("user", cube.owner_id.as_str()))?;
        self.import_cube(cube)
    }

    pub(super) fn import_cube(&mut self, cube: &Cube) -> Result<(), StoreError> {
        self.check_user(&cube.owner_id)?;
        if self.cube(&cube.cube_id).is_some() {
            return Err(StoreError::Conflict(format!("a cube `{}` exists already", cube.cube_id)));
        }
        self.cubes.push(cube.clone());
        Ok(())
    }

    pub(super) fn cube(&self, id: &CubeId) -> Option<&Cube> {
        self.cubes.iter().find(|cube| cube.cube_id == *id)
    }

    pub(super) fn cube_mut(&mut self, id: &CubeId) -> Result<&mut Cube, StoreError> {
        self.cubes.iter_mut().find(|cube| cube.cube_id == *id).ok_or_else(|| not_found("cube", id.as_str()))
    }

    pub(super) fn cubes(&self, user: Option<&UserId>) -> Vec<Cube> {
        let usable = |cube: &&Cube| user.is_none_or(|user| self.access(user, &cube.cube_id).is_some());
        let mut cubes: Vec<Cube> = self.cubes.iter().rev().filter(usable).cloned().collect();
        cubes.sort_by(|left, right| right.created_at.cmp(&left.created_at));
        cubes
    }

    pub(super) fn delete_cube(&mut self, id: &CubeId) -> Result<(), StoreError> {
        self.cube_mut(id)?;
        self.cubes.retain(|cube| cube.cube_id != *id);
        self.shares.retain(|(cube, _), _| cube != id);
        Ok(())
    }

    pub(super) fn share(&mut self, id: &CubeId, user: &UserId, access: Access) -> Result<(), StoreError> {
        self.cube_mut(id)?;
        self.user(user).ok_or_else(|| not_found("user", user.as_str()))?;
        self.import_share(id, user, access)
    }

    pub(super) fn unshare(&mut self, id: &CubeId, user: &UserId) -> Result<(), StoreError> {
        if self.cube(id).is_some_and(|cube| cube.owner_id == *user) {
            return Err(StoreError::Invalid(format!(
                "`{user}` owns the cube `{id}` and keeps the right to it; delete the cube instead"
            )));
        }
        self.shares.remove(&(id.clone(), user.clone()));
        Ok(())
    }

    pub(super) fn access(&self, user: &UserId, id: &CubeId) -> Option<Access> {
        let (user, cube) = (self.user(user)?, self.cube(id)?);
        if cube.owner_id == user.user_id {
            return Some(Access::Owner);
        }
        self.shares.get(&(id.clone(), user.user_id.clone())).copied()
    }
}
