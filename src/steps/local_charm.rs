//! The charm that the operator attached as a file: where a unit finds it, and whether it is one for the target.

use crate::apps::App;
use crate::controller::CharmArchive;
use std::path::{Path, PathBuf};

/// In the charm directory: leads to the file that the unit's agent keeps.
pub fn file(charm_dir: &Path) -> PathBuf {
    charm_dir.join("target-charm")
}

/// Why a charm is none for the target, if it is none: another application's, or one that a migration could not go on
/// with.
pub fn unfit(app: &App, charm: &CharmArchive) -> Option<String> {
    let images = charm.resources.values().filter(|resource| resource.kind == "oci-image").count();
    let lacks = |what: &str| Some(format!("the charm {} has no {what}", charm.name));
    if charm.name != app.name {
        return Some(format!("it is the charm {}, and {} is wanted", charm.name, app.name));
    }
    if !charm.provides.contains_key(app.consumers_endpoint) {
        return lacks(&format!("endpoint {}", app.consumers_endpoint));
    }
    if !charm.requires.values().any(|interface| interface == "postgresql_client") {
        return lacks("endpoint for a PostgreSQL database (postgresql_client)");
    }
    if !charm.actions.iter().any(|action| action == "run-migration") {
        return lacks("action run-migration");
    }
    match images {
        1 => None,
        0 => lacks("image among its resources"),
        several => Some(format!("the charm {} has {several} images, and image= names one", charm.name)),
    }
}
