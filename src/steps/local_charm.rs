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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apps::{HYDRA, KRATOS};
    use std::io::Write as _;
    use zip::write::{SimpleFileOptions, ZipWriter};

    const WHOLE: &str = "
name: hydra
provides: {hydra-endpoint-info: {interface: hydra_endpoints}}
requires: {pg-database: {interface: postgresql_client}}
resources: {oci-image: {type: oci-image}}
";

    fn packed(metadata: &str, actions: &str) -> CharmArchive {
        let path = std::env::temp_dir().join(format!("local-charm-{}", std::process::id()));
        let mut writer = ZipWriter::new(std::fs::File::create(&path).unwrap());
        for (name, text) in [("metadata.yaml", metadata), ("actions.yaml", actions)] {
            writer.start_file(name, SimpleFileOptions::default()).unwrap();
            writer.write_all(text.as_bytes()).unwrap();
        }
        writer.finish().unwrap();
        let opened = CharmArchive::open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        opened
    }

    #[test]
    fn a_charm_that_a_migration_cannot_go_on_with_is_none_for_the_target() {
        let action = "run-migration: {description: d}";
        assert_eq!(unfit(&HYDRA, &packed(WHOLE, action)), None);
        let without = |what: &str| WHOLE.replace(what, "x");
        for (app, metadata, actions, says) in [
            (&KRATOS, WHOLE.to_owned(), action, "it is the charm hydra, and kratos is wanted"),
            (&HYDRA, without("hydra-endpoint-info"), action, "the charm hydra has no endpoint hydra-endpoint-info"),
            (&HYDRA, without("postgresql_client"), action, "the charm hydra has no endpoint for a PostgreSQL database"),
            (&HYDRA, WHOLE.to_owned(), "other: {}", "the charm hydra has no action run-migration"),
            (&HYDRA, without("type: oci-image"), action, "the charm hydra has no image among its resources"),
            (
                &HYDRA,
                WHOLE.replace("resources: {", "resources: {second: {type: oci-image}, "),
                action,
                "the charm hydra has 2 images, and image= names one",
            ),
        ] {
            let metadata = metadata.replace("{x}", "{type: file}");
            let found = unfit(app, &packed(&metadata, actions)).unwrap();
            assert!(found.starts_with(says), "{found}");
        }
    }
}
