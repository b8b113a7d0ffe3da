//! One call of a tool: who calls, for whom, with what; and what it may reach.

use mos::Mos;
use mos::product::{App, Caller, Identity, ProductError, ProductResult};
use mos_core::{CubeId, MemoryId, UserId};
use serde_json::{Map, Value};

use super::parameters::Arguments;
use super::tools::Tool;

/// One call of a tool, whose caller may call it.
#[derive(Debug)]
pub(super) struct Call<'a> {
    app: &'a App,
    /// Who calls.
    pub(super) caller: &'a Caller,
    /// What was given.
    pub(super) arguments: Arguments,
    /// Whether files of this machine may be named.
    pub(super) takes_paths: bool,
}

/// A memory that a call names, and the user who acts.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) user: UserId,
    pub(super) cube: CubeId,
    pub(super) id: MemoryId,
}

impl<'a> Call<'a> {
    /// Reads a call.
    ///
    /// # Errors
    /// Status 403 for a caller without the scope of the tool; status 400 for wrong arguments.
    pub(super) fn new(
        app: &'a App,
        caller: &'a Caller,
        tool: &Tool,
        given: Map<String, Value>,
        takes_paths: bool,
    ) -> ProductResult<Self> {
        caller.check(tool.scope)?;
        Ok(Self { app, caller, arguments: Arguments::read(tool.parameters, given)?, takes_paths })
    }

    /// The product API and its options.
    pub(super) fn app(&self) -> &App {
        self.app
    }

    /// The facade.
    pub(super) fn mos(&self) -> &Mos {
        self.app.mos()
    }

    /// Returns the user who acts: that of the key, else the one that the call names, else the default one.
    ///
    /// # Errors
    /// Status 403 when the key belongs to another user than the call names; status 400 for a bad id.
    pub(super) fn user(&self) -> ProductResult<UserId> {
        let named = self.arguments.text("user_id").map(UserId::parse).transpose()?;
        match (&self.caller.identity, named) {
            (_, Some(named)) => {
                self.caller.check_user(&named)?;
                Ok(named)
            }
            (Identity::User(own), None) => Ok(own.clone()),
            (Identity::Program, None) => Ok(UserId::new(self.mos().settings().user_id.as_str())),
        }
    }

    /// As [`Call::user`], for a tool that writes: the user of a key is there from its first write on.
    ///
    /// # Errors
    /// As [`Call::user`]; status 409 for a user that was deleted.
    pub(super) async fn writer(&self) -> ProductResult<UserId> {
        let user = self.user()?;
        self.ensure(&user).await?;
        Ok(user)
    }

    /// Makes the user of a key when it is not there yet; whoever may act for anybody makes users with `create_user`.
    ///
    /// # Errors
    /// Status 409 for a user that was deleted.
    pub(super) async fn ensure(&self, user: &UserId) -> ProductResult<()> {
        let is_own = matches!(&self.caller.identity, Identity::User(own) if own == user);
        if is_own && !self.mos().has_user(user).await? {
            self.mos().ensure_user(user).await?;
        }
        Ok(())
    }

    /// Returns the cube that a call names, when it names one that the caller may use.
    fn named_cube(&self) -> ProductResult<Option<CubeId>> {
        let Some(cube) = self.arguments.text("cube_id") else { return Ok(self.caller.only_cube().cloned()) };
        let cube = CubeId::parse(cube)?;
        self.caller.check_cube(&cube)?;
        Ok(Some(cube))
    }

    /// Returns the cube that a call names, else the user's default cube.
    ///
    /// # Errors
    /// Status 403 when the caller may not use it; status 400 when the user has none.
    pub(super) async fn cube(&self, user: &UserId) -> ProductResult<CubeId> {
        if let Some(cube) = self.named_cube()? {
            return Ok(cube);
        }
        let cube = self.mos().default_cube(user).await?;
        self.caller.check_cube(&cube)?;
        Ok(cube)
    }

    /// As [`Call::cube`], for a tool that writes: a user without a cube gets one.
    ///
    /// # Errors
    /// Status 403 when the caller may not use it.
    pub(super) async fn cube_to_write(&self, user: &UserId) -> ProductResult<CubeId> {
        if self.caller.cubes.is_some() {
            return self.cube(user).await;
        }
        match self.named_cube()? {
            Some(cube) => Ok(cube),
            None => Ok(self.mos().ensure_default_cube(user).await?),
        }
    }

    /// Returns the cubes that are searched: those that the call names, else those that the caller may use; `None` for all that
    /// the user may read.
    ///
    /// # Errors
    /// Status 403 for a cube that the caller may not use, and when it may use none of the user's.
    pub(super) async fn cubes(&self, user: &UserId) -> ProductResult<Option<Vec<CubeId>>> {
        let named = self.arguments.texts("cube_ids");
        if !named.is_empty() {
            let mut cubes = Vec::with_capacity(named.len());
            for cube in named {
                let cube = CubeId::parse(cube)?;
                self.caller.check_cube(&cube)?;
                cubes.push(cube);
            }
            return Ok(Some(cubes));
        }
        let Some(allowed) = &self.caller.cubes else { return Ok(None) };
        let mut cubes = self.mos().list_cubes(user).await?;
        cubes.retain(|cube| cube.is_registered && allowed.contains(&cube.cube_id));
        if cubes.is_empty() {
            return Err(ProductError::forbidden(
                "this key may use none of the user's cubes; use one that may, or have a cube shared",
            ));
        }
        Ok(Some(cubes.into_iter().map(|cube| cube.cube_id).collect()))
    }

    /// Returns the memory that a call names.
    ///
    /// # Errors
    /// As [`Call::user`] and [`Call::cube`]; status 400 for a bad id.
    pub(super) async fn memory(&self) -> ProductResult<Named> {
        let user = self.user()?;
        let cube = self.cube(&user).await?;
        let id = MemoryId::parse(self.arguments.needed("memory_id")?)?;
        Ok(Named { user, cube, id })
    }

    /// Refuses an argument that names a file of this machine, unless who started the program calls.
    ///
    /// # Errors
    /// Status 403.
    pub(super) fn check_path(&self, argument: &str) -> ProductResult<()> {
        if self.takes_paths {
            return Ok(());
        }
        Err(ProductError::forbidden(format!(
            "`{argument}` is a path, and this server reads no files for its clients; leave it out, or use `mos mcp` on the \
             machine that holds the file"
        )))
    }
}
