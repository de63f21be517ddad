//! Charms and images that are uploaded, over HTTPS beside the websocket.

use super::{BOTH, KRATOS, KRATOS_ACTIONS, KRATOS_CONFIG, PASSWORD, open, peer, wait_for};
use controller_peer::{Access, BlockKind, Charm, Fault, Generation, PUT_CHARM, PUT_RESOURCE};
use coordinator::controller::{CharmArchive, Code, Error, Image, SetCharm};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A packed Kratos in a file of its own, which goes with it.
struct Packed(PathBuf);

impl Packed {
    fn new(name: &str) -> Self {
        let files = [
            ("metadata.yaml", KRATOS),
            ("config.yaml", KRATOS_CONFIG),
            ("actions.yaml", KRATOS_ACTIONS),
            ("venv", &bulk()),
        ];
        let path = std::env::temp_dir().join(format!("upload-{name}-{}.charm", std::process::id()));
        std::fs::write(&path, Charm::pack(&files).unwrap()).unwrap();
        Self(path)
    }

    fn open(&self) -> CharmArchive {
        CharmArchive::open(&self.0).unwrap()
    }
}

/// More than a connection takes before anybody reads it, packed too.
fn bulk() -> String {
    let (mut last, mut text) = (1_u64, String::new());
    while text.len() < MANY {
        last = last.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push_str(&format!("{last:016x}"));
    }
    text
}

const MANY: usize = 16 << 20;

impl Drop for Packed {
    fn drop(&mut self) {
        let _already_gone = std::fs::remove_file(&self.0);
    }
}

const IMAGE: &str = "registry.internal:5000/kratos:1.3.1";

#[tokio::test]
async fn a_charm_and_its_image_reach_the_application() {
    for generation in BOTH {
        let peer = peer(generation);
        let session = open(&peer).await;
        let packed = Packed::new(&format!("reach-{generation:?}"));
        assert!(session.uploaded_charms("kratos").await.unwrap().is_empty());
        // The same file again is another revision.
        for revision in [0, 1] {
            let url = session.upload_charm(&packed.open()).await.unwrap();
            assert_eq!(url, format!("local:kratos-{revision}"));
        }
        assert_eq!(session.uploaded_charms("kratos").await.unwrap(), ["local:kratos-0", "local:kratos-1"]);
        let url = "local:kratos-1";
        let info = session.charm_info(url).await.unwrap();
        assert!(info.config.contains_key("dev") && info.meta.requires.contains_key("pg-database"));
        let origin = session.charm_url_origin("kratos").await.unwrap().origin.uploaded(1);
        let (image, meta) = (Image::at(IMAGE), &info.meta.resources["oci-image"]);
        let id = session.upload_image("kratos", url, &origin, meta, &image).await.unwrap();
        let fingerprint = async || {
            let resources = session.resources("kratos").await.unwrap().resources;
            resources.into_iter().find(|resource| resource.name == "oci-image").map(|found| found.fingerprint)
        };
        // 3.6 keeps it until the charm comes.
        let at_once = generation == Generation::Four;
        assert_eq!(fingerprint().await == Some(image.fingerprint()), at_once);
        let switch = SetCharm {
            application: "kratos".into(),
            charm_url: url.into(),
            charm_origin: origin,
            channel: String::new(),
            resource_ids: BTreeMap::from([("oci-image".to_owned(), id)]),
            force_base: false,
        };
        session.set_charm(&switch).await.unwrap();
        assert_eq!(fingerprint().await, Some(image.fingerprint()));
        let stored = peer.store().applications["kratos"].resources.clone();
        assert_eq!(stored.iter().find_map(controller_peer::model::Resource::registry_path).as_deref(), Some(IMAGE));
        let status = session.full_status().await.unwrap();
        assert_eq!(status.applications["kratos"].charm, url);
        // The audit log knows us, and nothing asked for more than it needs.
        let uploads = peer.received().into_iter().filter(|received| received.call.starts_with("PUT "));
        for upload in uploads {
            assert_eq!((upload.needs, upload.cli_args.as_str()), (Access::Write, "identity-migration-coordinator"));
        }
    }
}

#[tokio::test]
async fn who_may_not_upload_is_told_and_a_block_too() {
    for generation in BOTH {
        let peer = peer(generation);
        let session = open(&peer).await;
        let packed = Packed::new(&format!("refused-{generation:?}"));
        let refused = async || session.upload_charm(&packed.open()).await.unwrap_err();
        peer.set_access("migrator", Access::Read);
        let error = refused().await;
        assert!(error.to_string().contains("permission denied") && error.code() == Some(Code::Unauthorized), "{error}");
        peer.change_user("migrator", |user| user.password = "another".into());
        let error = refused().await;
        assert_eq!(error.code(), Some(Code::Unauthorized), "{error}");
        assert!(!error.to_string().contains(PASSWORD), "{error}");
        peer.change_user("migrator", |user| user.password = PASSWORD.into());
        peer.set_access("migrator", Access::Write);
        assert_eq!(peer.times_done(PUT_CHARM), 0);

        let url = session.upload_charm(&packed.open()).await.unwrap();
        let info = session.charm_info(&url).await.unwrap();
        let origin = session.charm_url_origin("kratos").await.unwrap().origin.uploaded(0);
        let meta = &info.meta.resources["oci-image"];
        peer.set_block(BlockKind::BlockChange, Some("freeze until Monday"));
        let error = session.upload_image("kratos", &url, &origin, meta, &Image::at(IMAGE)).await.unwrap_err();
        assert!(error.to_string().contains("freeze until Monday") && error.code() == Some(Code::Blocked), "{error}");
    }
}

#[tokio::test]
async fn an_upload_without_an_answer_is_unknown_and_one_that_met_nobody_was_not_sent() {
    let peer = peer(Generation::Four);
    let session = open(&peer).await;
    let packed = Packed::new("lost");
    for (fault, known) in [(Fault::CutBefore, 0), (Fault::CutAfter, 1)] {
        peer.plan_fault(PUT_CHARM, fault);
        let error = session.upload_charm(&packed.open()).await.unwrap_err();
        assert!(error.is_unknown_outcome(), "{fault:?}: {error}");
        assert_eq!(session.uploaded_charms("kratos").await.unwrap().len(), known, "{fault:?}");
    }
    let url = session.upload_charm(&packed.open()).await.unwrap();
    let meta = &session.charm_info(&url).await.unwrap().meta.resources["oci-image"];
    let origin = session.charm_url_origin("kratos").await.unwrap().origin.uploaded(1);
    peer.plan_fault(PUT_RESOURCE, Fault::CutAfter);
    let error = session.upload_image("kratos", &url, &origin, meta, &Image::at(IMAGE)).await.unwrap_err();
    assert!(error.is_unknown_outcome(), "{error}");
    // A controller that goes while the session stands open.
    drop(peer);
    let error = wait_for("nobody listens any more", || async {
        let error = session.upload_charm(&packed.open()).await.unwrap_err();
        matches!(error, Error::NotSent { .. }).then_some(error)
    });
    let error = error.await.to_string();
    assert!(error.starts_with("cannot upload the charm kratos: the connection"), "{error}");
}
