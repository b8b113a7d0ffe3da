//! Users, cubes and shares in a PostgreSQL server, in MemOS' tables with columns of ours beside them.
//!
//! The memories are in a record elsewhere, which learns through [`ScopeLifecycle`] of cubes that are made and deleted.
//! Any number of programs may use the same tables with the same record.
//!
//! Invariant: every value that a caller sends is a parameter.

mod cubes;
mod fault;
mod keys;
mod lifecycle;
mod options;
mod schema;
mod user_archive;
mod users;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use mos_core::{
    Access, Clock, Cube, CubeId, KeyStore, ScopeLifecycle, Standing, StoreError, User, UserArchive, UserId, UserRole,
    UserStore,
};
use serde_json::Value;
use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions};
use sqlx::query_scalar;

pub use options::{PostgresOptions, PostgresServer, SslMode};
pub use schema::USERS_SCHEMA_VERSION;

use cubes::Seen;
use fault::{Fault, ServerName};
use lifecycle::{Eligible, Lifecycle, Settled, Wait};
use users::{MAX_ATTEMPTS, not_found, unsettled};

/// The user store in a PostgreSQL server. Needs a tokio runtime for its calls.
pub struct PostgresUsers {
    pool: PgPool,
    server: ServerName,
    record: Arc<dyn ScopeLifecycle>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for PostgresUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresUsers")
            .field("server", &self.server)
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}

impl PostgresUsers {
    /// Connects, makes the tables when they are missing or brings them up to date, and finishes what broke off earlier.
    /// `record` holds the memories of the cubes.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the server does not answer; [`StoreError::Refused`] for a wrong password, an
    /// unknown database and the like; [`StoreError::Newer`] for tables of a newer program; [`StoreError::Storage`] for
    /// a server that takes no writes, when there is something to write; [`StoreError::Invalid`] for an address that
    /// cannot be one, and for tables of another program.
    pub async fn open(
        options: PostgresOptions,
        record: Arc<dyn ScopeLifecycle>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, StoreError> {
        let (connect, server) = options.connect_options()?;
        let fail = |fault: Fault| server.store_error(fault);
        options::try_to_connect(&connect, options.connect_timeout).await.map_err(|error| fail(error.into()))?;
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections.max(1))
            .acquire_timeout(options.connect_timeout)
            .connect_lazy_with(connect);
        let mut connection = pool.acquire().await.map_err(|error| fail(error.into()))?;
        let schema = options.schema.as_deref();
        schema::bring_up_to_date(&mut connection, schema, &server, &clock.now_text()).await.map_err(fail)?;
        drop(connection);
        let store = Arc::new(Self { pool, server, record, clock });
        store.lifecycle().finish_left_over().await.map_err(|fault| store.server.store_error(fault))?;
        Ok(store)
    }

    /// Asks the server who it is, and makes and finishes nothing.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub async fn reach(options: PostgresOptions) -> Result<String, StoreError> {
        let (connect, server) = options.connect_options()?;
        options::try_to_connect(&connect, options.connect_timeout)
            .await
            .map_err(|error| server.store_error(error.into()))?;
        Ok(server.to_string())
    }

    fn lifecycle(&self) -> Lifecycle<'_> {
        Lifecycle { pool: &self.pool, record: &*self.record }
    }

    /// Runs what only reads. Once more when its connection was lost: reading twice changes nothing.
    async fn read<T, F>(&self, work: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let result = match work().await {
            Err(fault) if fault.is_lost_connection() => work().await,
            result => result,
        };
        result.map_err(|fault| self.server.store_error(fault))
    }

    async fn write<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, StoreError> {
        work.await.map_err(|fault| self.server.store_error(fault))
    }

    /// Looks until no cube of what is seen is about to go.
    async fn look<T, F>(&self, id: &CubeId, see: impl Fn() -> F) -> Result<Option<T>, Fault>
    where
        F: Future<Output = Result<Option<Seen<T>>, Fault>>,
    {
        for _ in 0..MAX_ATTEMPTS {
            let Some(seen) = see().await? else { return Ok(None) };
            let Some(generation) = seen.discarding else { return Ok(Some(seen.what)) };
            match self.lifecycle().settle(id, generation, Wait::ForOthers).await {
                Ok(Settled::Gone) => return Ok(None),
                Ok(Settled::Ready | Settled::Untouched) => {}
                // Nothing can be settled here, and reading goes on.
                Err(fault) if fault.is_read_only() => return Ok(Some(seen.what)),
                Err(fault) => return Err(fault),
            }
        }
        Err(unsettled("cube", id.as_str()))
    }

    /// As [`PostgresUsers::look`]: once the cube is gone, the next look sees none.
    async fn seen_standing(&self, user: &UserId, id: &CubeId) -> Result<Standing, Fault> {
        for _ in 0..MAX_ATTEMPTS {
            let seen = cubes::standing(&self.pool, user, id).await?;
            let Some(generation) = seen.discarding else { return Ok(seen.what) };
            match self.lifecycle().settle(id, generation, Wait::ForOthers).await {
                Ok(_) => {}
                // Nothing can be settled here, and reading goes on.
                Err(fault) if fault.is_read_only() => return Ok(seen.what),
                Err(fault) => return Err(fault),
            }
        }
        Err(unsettled("cube", id.as_str()))
    }

    async fn seen_cube(&self, id: &CubeId) -> Result<Option<Cube>, Fault> {
        self.look(id, || cubes::cube(&self.pool, id)).await
    }

    /// Changes a cube that is ready; `change` returns whether there was one.
    async fn change<F>(&self, id: &CubeId, change: impl Fn() -> F) -> Result<(), Fault>
    where
        F: Future<Output = Result<bool, Fault>>,
    {
        for _ in 0..MAX_ATTEMPTS {
            if change().await? {
                return Ok(());
            }
            // It may be asked just now whether the cube may go.
            if self.seen_cube(id).await?.is_none() {
                return Err(not_found("cube", id.as_str()));
            }
        }
        Err(unsettled("cube", id.as_str()))
    }

    async fn seen_cubes(&self, user: Option<&UserId>) -> Result<Vec<Cube>, Fault> {
        for _ in 0..MAX_ATTEMPTS {
            let seen = cubes::cubes(&self.pool, user).await?;
            let mut is_settled = true;
            for one in &seen {
                let Some(generation) = one.discarding else { continue };
                match self.lifecycle().settle(&one.what.cube_id, generation, Wait::ForOthers).await {
                    Ok(_) => is_settled = false,
                    Err(fault) if fault.is_read_only() => {}
                    Err(fault) => return Err(fault),
                }
            }
            if is_settled {
                return Ok(seen.into_iter().map(|one| one.what).collect());
            }
        }
        Err(unsettled("cubes", "all"))
    }

    async fn seen_shares(&self, id: &CubeId) -> Result<Vec<(UserId, Access)>, Fault> {
        let cube = self.seen_cube(id).await?.ok_or_else(|| not_found("cube", id.as_str()))?;
        let mut all = vec![(cube.owner_id, Access::Owner)];
        all.extend(cubes::shares(&self.pool, id, Eligible::Active).await?);
        Ok(all)
    }

    async fn known_facts(&self) -> Result<Vec<(String, String)>, Fault> {
        let mut connection = self.pool.acquire().await?;
        let facts = [
            ("server", self.server.to_string()),
            ("server version", text(&mut connection, "SELECT current_setting('server_version')").await?),
            ("schema", text(&mut connection, "SELECT current_schema()::text").await?),
            ("schema version", schema::version(&mut connection).await?.to_string()),
            ("read-only", text(&mut connection, "SELECT current_setting('transaction_read_only')").await?),
            ("users", number(&mut connection, "SELECT count(*) FROM users WHERE is_active").await?),
            (
                "cubes",
                number(
                    &mut connection,
                    "SELECT count(*) FROM cubes WHERE is_active AND phase IN ('ready', 'discarding')",
                )
                .await?,
            ),
            (
                "cubes to be removed",
                number(&mut connection, "SELECT count(*) FROM cubes WHERE phase IN ('making', 'deleting')").await?,
            ),
        ];
        Ok(facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

async fn number(connection: &mut PgConnection, sql: &'static str) -> Result<String, Fault> {
    let number: i64 = query_scalar(sql).fetch_one(connection).await?;
    Ok(number.to_string())
}

async fn text(connection: &mut PgConnection, sql: &'static str) -> Result<String, Fault> {
    let text: Option<String> = query_scalar(sql).fetch_one(connection).await?;
    Ok(text.unwrap_or_default())
}

#[async_trait]
impl UserStore for PostgresUsers {
    async fn create_user(&self, id: &UserId, name: &str, role: UserRole) -> Result<User, StoreError> {
        self.write(users::create(&self.pool, id, name, role, &self.clock.now_text())).await
    }

    async fn ensure_user(&self, id: &UserId) -> Result<User, StoreError> {
        self.write(users::ensure(&self.pool, id, &self.clock.now_text())).await
    }

    async fn user(&self, id: &UserId) -> Result<Option<User>, StoreError> {
        self.read(|| users::user(&self.pool, id)).await
    }

    async fn known_user(&self, id: &UserId) -> Result<Option<User>, StoreError> {
        self.read(|| users::by_id(&self.pool, id)).await
    }

    async fn users(&self) -> Result<Vec<User>, StoreError> {
        self.read(|| users::users(&self.pool)).await
    }

    async fn delete_user(&self, id: &UserId) -> Result<(), StoreError> {
        self.write(users::delete(&self.pool, id)).await
    }

    async fn erase_user(&self, id: &UserId) -> Result<(), StoreError> {
        self.write(users::erase(&self.pool, id)).await
    }

    async fn set_role(&self, id: &UserId, role: UserRole) -> Result<User, StoreError> {
        self.write(users::set_role(&self.pool, id, role)).await
    }

    async fn create_cube(&self, cube: &Cube) -> Result<(), StoreError> {
        self.write(async {
            self.lifecycle().finish_left_over().await?;
            self.lifecycle().create(cube, Eligible::Active).await
        })
        .await
    }

    async fn cube(&self, id: &CubeId) -> Result<Option<Cube>, StoreError> {
        self.read(|| self.seen_cube(id)).await
    }

    async fn cubes(&self, user: Option<&UserId>) -> Result<Vec<Cube>, StoreError> {
        self.read(|| self.seen_cubes(user)).await
    }

    async fn set_registered(&self, id: &CubeId, is_registered: bool) -> Result<(), StoreError> {
        self.write(self.change(id, || cubes::set_registered(&self.pool, id, is_registered))).await
    }

    async fn set_cube_config(&self, id: &CubeId, config: &Value) -> Result<(), StoreError> {
        self.write(self.change(id, || cubes::set_config(&self.pool, id, config))).await
    }

    async fn delete_cube(&self, id: &CubeId) -> Result<(), StoreError> {
        self.write(async {
            self.lifecycle().finish_left_over().await?;
            self.lifecycle().delete(id).await
        })
        .await
    }

    async fn discard_cube(&self, id: &CubeId) -> Result<bool, StoreError> {
        self.write(async {
            self.lifecycle().finish_left_over().await?;
            self.lifecycle().discard(id).await
        })
        .await
    }

    async fn share(&self, id: &CubeId, user: &UserId, access: Access) -> Result<(), StoreError> {
        self.write(self.change(id, || cubes::share(&self.pool, id, user, access, Eligible::Active))).await
    }

    async fn shares(&self, id: &CubeId) -> Result<Vec<(UserId, Access)>, StoreError> {
        self.read(|| self.seen_shares(id)).await
    }

    async fn unshare(&self, id: &CubeId, user: &UserId) -> Result<(), StoreError> {
        self.write(cubes::unshare(&self.pool, id, user)).await
    }

    async fn access(&self, user: &UserId, cube: &CubeId) -> Result<Option<Access>, StoreError> {
        self.read(|| self.look(cube, || cubes::access(&self.pool, user, cube))).await
    }

    async fn standing(&self, user: &UserId, cube: &CubeId) -> Result<Standing, StoreError> {
        self.read(|| self.seen_standing(user, cube)).await
    }

    async fn facts(&self) -> Result<Vec<(String, String)>, StoreError> {
        self.read(|| self.known_facts()).await
    }

    fn key_store(&self) -> Option<&dyn KeyStore> {
        Some(self)
    }

    fn archive(&self) -> Option<&dyn UserArchive> {
        Some(self)
    }
}
