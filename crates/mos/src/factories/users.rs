//! Constructors of stores of users, from settings to options.

use std::sync::Arc;

use futures::FutureExt;

use super::Factories;

#[cfg(feature = "postgres")]
pub(super) fn add_user_stores(factories: &mut Factories) {
    factories.add_user_store("postgres", Arc::new(|parts| postgres::open(parts).boxed()));
}

/// The key is known, so that whoever uses it learns which feature to build with.
#[cfg(not(feature = "postgres"))]
pub(super) fn add_user_stores(factories: &mut Factories) {
    let not_built = || async { Err(mos_core::StoreError::NotBuilt { feature: "postgres" }) };
    factories.add_user_store("postgres", Arc::new(move |_| not_built().boxed()));
}

/// Asks the server of the users who it is; `None` when they are not on a server.
#[cfg(feature = "postgres")]
pub(crate) async fn reach(config: &mos_config::UserManagerConfig) -> Option<Result<String, mos_core::StoreError>> {
    match config {
        mos_config::UserManagerConfig::Postgres(config) => Some(postgres::reach(config).await),
        _ => None,
    }
}

/// Without the feature there is nothing to ask with.
#[cfg(not(feature = "postgres"))]
pub(crate) async fn reach(config: &mos_config::UserManagerConfig) -> Option<Result<String, mos_core::StoreError>> {
    (config.backend() == "postgres").then_some(Err(mos_core::StoreError::NotBuilt { feature: "postgres" }))
}

/// Returns whether this build can run the store of users of a key; `sqlite` is the record itself.
pub(super) fn is_built(key: &str) -> bool {
    key == "sqlite" || (key == "postgres" && cfg!(feature = "postgres"))
}

#[cfg(feature = "postgres")]
mod postgres {
    use std::sync::Arc;
    use std::time::Duration;

    use mos_config::UserManagerConfig;
    use mos_config::store::PostgresUsers as PostgresUsersConfig;
    use mos_core::{StoreError, UserStore};
    use mos_stores::{PostgresOptions, PostgresServer, PostgresUsers, SslMode};

    use crate::factories::UserStoreParts;

    pub(super) async fn open(parts: UserStoreParts) -> Result<Arc<dyn UserStore>, StoreError> {
        let UserManagerConfig::Postgres(config) = &parts.config else {
            return Err(StoreError::Invalid(format!(
                "the user manager `{}` is not configured as a PostgreSQL server",
                parts.config.backend()
            )));
        };
        let users: Arc<PostgresUsers> = PostgresUsers::open(options(config)?, parts.record, parts.clock).await?;
        Ok(users)
    }

    pub(super) async fn reach(config: &PostgresUsersConfig) -> Result<String, StoreError> {
        PostgresUsers::reach(options(config)?).await
    }

    fn options(config: &PostgresUsersConfig) -> Result<PostgresOptions, StoreError> {
        let server = match &config.url {
            Some(url) => PostgresServer::Url(url.expose().to_owned()),
            None => PostgresServer::Parts {
                host: config.host.clone().unwrap_or_else(|| "localhost".to_owned()),
                port: config.port.unwrap_or(5432),
                username: config.username.clone().unwrap_or_else(|| "postgres".to_owned()),
                password: config.password.as_ref().map(|password| password.expose().to_owned()).unwrap_or_default(),
                database: config.database.clone().unwrap_or_else(|| "memos_users".to_owned()),
                ssl_mode: config.ssl_mode.as_deref().map(ssl_mode).transpose()?,
                ssl_root_cert: config.ssl_root_cert.clone(),
            },
        };
        Ok(PostgresOptions {
            schema: config.schema_name.clone(),
            max_connections: u32::try_from(config.max_connections).unwrap_or(u32::MAX),
            connect_timeout: Duration::from_secs(config.connection_wait_timeout),
            ..PostgresOptions::new(server)
        })
    }

    fn ssl_mode(name: &str) -> Result<SslMode, StoreError> {
        match name {
            "disable" => Ok(SslMode::Disable),
            "prefer" => Ok(SslMode::Prefer),
            "require" => Ok(SslMode::Require),
            "verify-ca" => Ok(SslMode::VerifyCa),
            "verify-full" => Ok(SslMode::VerifyFull),
            other => Err(StoreError::Invalid(format!("ssl_mode `{other}` is not known"))),
        }
    }
}
