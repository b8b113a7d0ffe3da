//! A facade with the product API on top.

use std::sync::Arc;

use mos_config::{ChatModelConfig, GeneralMemCubeConfig};

use super::caller::Caller;
use super::error::ProductResult;
use crate::environment::{Environment, Purpose};
use crate::error::Result;
use crate::facade::Mos;

/// How the product API behaves.
#[derive(Clone, Debug)]
pub struct ProductOptions {
    /// The configuration of cubes that are made when something is first written to them; without this a tree with
    /// preferences.
    pub cube_config: Option<GeneralMemCubeConfig>,
    /// Cubes are open to every user, as in MemOS, through everything that shares the facade, until it is gone: nobody is given a
    /// right that would stay. For tests on one machine.
    pub is_open: bool,
    /// Whether chats are answered.
    pub chats: bool,
    /// The models that chats may name, by the names they go by; the first answers chats that name none. Without any it is
    /// the model of the settings, which chats may always name.
    pub chat_models: Vec<(String, ChatModelConfig)>,
    /// The keys of business chats; compared in constant time.
    pub business_chat_keys: Vec<mos_config::Secret>,
}

impl Default for ProductOptions {
    fn default() -> Self {
        Self { cube_config: None, is_open: false, chats: true, chat_models: Vec::new(), business_chat_keys: Vec::new() }
    }
}

/// A facade with the product API on top. Cheap to clone; clones share everything.
///
/// ```no_run
/// use mos::product::{App, Caller, ProductError, ProductOptions, SearchRequest};
///
/// # async fn run(mos: mos::Mos) -> Result<(), ProductError> {
/// let app = App::new(mos, ProductOptions::default());
/// // What this caller asks for is checked against the rights of ann, whatever the request says.
/// let of_ann = app.product_as(Caller::user("ann"));
/// let found = of_ann.search(SearchRequest::new("When do we meet?".to_owned(), "ann".to_owned())).await?;
/// println!("{}", found.data["text_mem"]);
/// app.stop().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct App {
    mos: Mos,
    options: Arc<ProductOptions>,
}

impl App {
    /// Returns the product API over a facade.
    pub fn new(mos: Mos, options: ProductOptions) -> Self {
        if options.is_open {
            mos.open_cubes();
        }
        Self { mos, options: Arc::new(options) }
    }

    /// Returns the product API as the environment of this process says it, by MemOS' names; see [`Environment`]. With no
    /// name set, everything is in this process: the embedded stores, models of this machine, and work in the background.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for values that cannot be used; errors of the stores.
    pub async fn from_env() -> Result<Self> {
        let environment = Environment::of_process(Purpose::Service)?;
        environment.log_warnings();
        Self::from_environment(&environment).await
    }

    /// As [`App::from_env`], for an environment that was read.
    ///
    /// # Errors
    /// As [`App::from_env`].
    pub async fn from_environment(environment: &Environment) -> Result<Self> {
        let mos = environment.builder().build().await?;
        Ok(Self::new(mos, environment.options.clone()))
    }

    /// The facade: its settings, its scheduler, everything that the API does not show.
    pub fn mos(&self) -> &Mos {
        &self.mos
    }

    /// How the API behaves.
    pub fn options(&self) -> &ProductOptions {
        &self.options
    }

    /// Returns the operations for a trusted program, which acts for any user.
    pub fn product(&self) -> Product {
        self.product_as(Caller::program())
    }

    /// Returns the operations for a caller, whose rights each of them checks.
    pub fn product_as(&self, caller: Caller) -> Product {
        Product { app: self.clone(), caller }
    }

    /// Ends the work in the background in good order.
    pub async fn stop(&self) {
        self.mos.stop().await;
    }
}

/// The operations of the product API, for one caller.
#[derive(Clone, Debug)]
pub struct Product {
    pub(super) app: App,
    pub(super) caller: Caller,
}

impl Product {
    /// The facade.
    pub(super) fn mos(&self) -> &Mos {
        &self.app.mos
    }

    /// Who calls.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Refuses unless chats are answered here.
    ///
    /// # Errors
    /// [`ProductError`](super::ProductError) with status 503.
    pub(super) fn check_chats(&self) -> ProductResult<()> {
        if self.app.options.chats {
            return Ok(());
        }
        Err(super::ProductError::new(503, "chat is not enabled here; set ENABLE_CHAT_API=true"))
    }
}
