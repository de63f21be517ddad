//! The controller's API over a model of the emulator: a real websocket server, whose users, blocks and faults are the
//! peer's, and whose applications, relations and tasks are the emulator's.
//!
//! A request is answered under the peer's locks, and takes the world's for moments only; nobody who holds the world's
//! asks for the peer's.

mod emulated;
mod shown;

use std::sync::{Arc, MutexGuard, PoisonError};

use anyhow::{Result, bail};
use controller_peer::{Generation, Options, Peer};

use crate::agent::configuration;
use crate::model::Controller;
use crate::world::ApiAccess;
pub use emulated::Emulated;

/// The API that a controller serves over one of its models. Users, blocks, faults and the requests that came are looked
/// at and changed here.
pub type Api = Peer<Emulated>;

impl Controller {
    /// Serves the API over a model from now on. Charm processes that are started later find its addresses in
    /// `JUJU_API_ADDRESSES`, and its CA in `agent.conf`. The generation is that of the controller's version, whatever
    /// the options say. One API is served at a time; asked for again over the same model, it is the same.
    pub fn serve_api(&self, model: &str, options: &Options) -> Result<Arc<Api>> {
        let mut serving = self.serving();
        if let Some(api) = serving.as_ref() {
            let served = api.model().name().to_owned();
            if served == model {
                return Ok(api.clone());
            }
            bail!("cannot serve the API over {model:?}: it is served over {served:?}");
        }
        let generation = if self.version().starts_with("3.") { Generation::Three } else { Generation::Four };
        let options = Options { generation, ..options.clone() };
        let api = Arc::new(Peer::over(Emulated::new(self.model(model)?), &options)?);
        let mut world = self.shared.lock();
        world.api = Some(ApiAccess { addresses: api.addresses(), ca: api.ca() });
        for key in world.all_units() {
            configuration::write(&world, &key)?;
        }
        drop(world);
        *serving = Some(api.clone());
        Ok(api)
    }

    /// The API, if it is served.
    pub fn api(&self) -> Option<Arc<Api>> {
        self.serving().clone()
    }

    fn serving(&self) -> MutexGuard<'_, Option<Arc<Api>>> {
        self.api.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
