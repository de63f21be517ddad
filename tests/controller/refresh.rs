//! A refresh from the first look to the last unit: by channel, by revision, of a local charm, on both releases.

use super::{BOTH, from_charmhub, kratos, local, open, peer, peer_of, wait_for};
use controller_peer::model::{Release, Resource as Stored};
use controller_peer::store::Store;
use controller_peer::{Charm, Generation};
use coordinator::controller::settled::{RefreshGoal, Settled, refreshed};
use coordinator::controller::{
    Channel, CharmOrigin, Code, NewResource, Reaction, Resolved, Session, SetCharm, resources_to_change,
};
use std::collections::BTreeMap;

pub const PLAIN: &str = "ch:amd64/kratos";

/// What Charmhub has of Kratos: 567 is the newest of 1.0/stable, 560 was before it.
pub fn releases() -> Vec<Release> {
    let stored = |name: &str, kind: &str, path: &str, revision| Stored {
        name: name.into(),
        kind: kind.into(),
        path: path.into(),
        origin: "store".into(),
        revision,
        ..Stored::default()
    };
    let release = |revision: i64, channels: &[&str], version: &str, base: &str, image| Release {
        channels: channels.iter().map(|channel| (*channel).to_owned()).collect(),
        charm: kratos(&format!("ch:amd64/kratos-{revision}"), version),
        bases: vec![base.to_owned()],
        resources: vec![stored("oci-image", "oci-image", "", image), stored("mail", "file", "mail.tmpl", 3)],
    };
    vec![
        release(512, &["latest/edge"], "1.0.0", "22.04", 41),
        release(560, &[], "1.3.0", "22.04", 43),
        release(567, &["1.0/stable"], "1.3.1", "22.04", 44),
        release(600, &["2.0/edge"], "26.2.0", "24.04", 50),
    ]
}

pub fn channel(text: &str) -> Channel {
    Channel::read(text).unwrap()
}

/// Everything between the charm that was resolved and the switch; answers what `refreshed` is asked for.
pub async fn switch(session: &Session, resolved: &Resolved, channel: &str, pinned: &BTreeMap<String, i64>) -> SetCharm {
    let origin = session.add_charm(&resolved.url, &resolved.origin).await.unwrap();
    assert!(!origin.is_unfinished() && origin.hash.is_some(), "{origin:?}");
    let info = session.charm_info(&resolved.url).await.unwrap();
    let now = session.resources("kratos").await.unwrap();
    let offered = session.offered_resources(&resolved.url, &origin).await.unwrap();
    let mut resource_ids = BTreeMap::new();
    for resource in resources_to_change(&info.meta, &now, &offered, pinned) {
        let id = session.add_pending_resource("kratos", &resolved.url, &origin, &resource).await.unwrap();
        resource_ids.insert(resource.meta.name, id);
    }
    let switch = SetCharm {
        application: "kratos".into(),
        charm_url: resolved.url.clone(),
        charm_origin: origin,
        channel: channel.into(),
        resource_ids,
        force_base: false,
    };
    session.set_charm(&switch).await.unwrap();
    switch
}

pub async fn until_refreshed(session: &Session, goal: &RefreshGoal<'_>) {
    let mut last = Settled::Yes;
    let end = tokio::time::Instant::now() + super::DEADLINE;
    while tokio::time::Instant::now() < end {
        last = refreshed(&session.full_status().await.unwrap(), goal);
        if last == Settled::Yes {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("not refreshed: {last:?}");
}

fn images(store: &Store) -> Vec<(String, i64)> {
    let mut found: Vec<(String, i64)> =
        store.applications["kratos"].resources.iter().map(|it| (it.name.clone(), it.revision)).collect();
    found.sort_unstable();
    found
}

#[tokio::test]
async fn by_channel_with_its_resources_to_the_last_unit_and_back_by_revision() {
    for generation in BOTH {
        let peer = peer(generation);
        let session = open(&peer).await;
        let before = session.full_status().await.unwrap();
        let at = session.charm_url_origin("kratos").await.unwrap();
        assert_eq!((at.url.as_str(), at.origin.revision), ("ch:amd64/kratos-512", Some(512)));
        let stable = channel("1.0/stable");
        let resolved = session.resolve_charm(PLAIN, &at.origin.by_channel(&stable), false).await.unwrap();
        assert_eq!(resolved.url, "ch:amd64/kratos-567");
        assert!(resolved.supported_bases.iter().any(|base| base.is_like(&at.origin.base)));
        let goal = RefreshGoal {
            application: "kratos",
            charm_url: &resolved.url,
            channel: Some("1.0/stable"),
            asked_at: Some(before.controller_timestamp),
            units: 2,
            workload_version: Some("1.3.1"),
            fine: &["active"],
        };
        let first = before.applications["kratos"].clone();
        assert_ne!(refreshed(&before, &goal), Settled::Yes);
        let done = switch(&session, &resolved, "stable", &BTreeMap::new()).await;
        assert_eq!(done.charm_origin.instance_key, at.origin.instance_key);
        until_refreshed(&session, &goal).await;
        assert_eq!(images(&peer.store()), [("mail".to_owned(), 3), ("oci-image".to_owned(), 44)]);

        // The way back, with the image that was there before.
        let at = session.charm_url_origin("kratos").await.unwrap();
        assert_eq!(at.origin.track.as_deref(), Some("1.0"));
        let old = at.origin.by_revision(&channel("latest/edge"), first.charm_rev);
        let resolved = session.resolve_charm(&first.charm, &old, true).await.unwrap();
        assert_eq!(resolved.url, first.charm);
        // By revision 4.0 leaves the id out.
        assert_eq!(resolved.origin.is_unfinished(), generation == Generation::Four);
        let pinned = BTreeMap::from([("oci-image".to_owned(), 41)]);
        let asked_at = Some(session.full_status().await.unwrap().controller_timestamp);
        switch(&session, &resolved, "edge", &pinned).await;
        let goal = RefreshGoal {
            charm_url: &first.charm,
            channel: Some("latest/edge"),
            asked_at,
            workload_version: Some("1.0.0"),
            ..goal
        };
        until_refreshed(&session, &goal).await;
        assert_eq!(images(&peer.store()), [("mail".to_owned(), 3), ("oci-image".to_owned(), 41)]);
    }
}

#[tokio::test]
async fn with_the_id_kept_charmhub_answers_the_newest_instead_of_the_revision() {
    let peer = peer(Generation::Four);
    let session = open(&peer).await;
    let at = session.charm_url_origin("kratos").await.unwrap();
    let stable = channel("1.0/stable");
    let kept = session.resolve_charm("ch:amd64/kratos-560", &at.origin.by_channel(&stable), true).await.unwrap();
    assert_eq!(kept.url, "ch:amd64/kratos-567");
    let dropped =
        session.resolve_charm("ch:amd64/kratos-560", &at.origin.by_revision(&stable, 560), true).await.unwrap();
    assert_eq!(dropped.url, "ch:amd64/kratos-560");
}

#[tokio::test]
async fn resources_come_with_the_charm_on_3_6_and_at_once_on_4_0() {
    for generation in BOTH {
        let peer = peer(generation);
        let session = open(&peer).await;
        let at = session.charm_url_origin("kratos").await.unwrap();
        let resolved =
            session.resolve_charm(PLAIN, &at.origin.by_channel(&channel("1.0/stable")), false).await.unwrap();
        let origin = session.add_charm(&resolved.url, &resolved.origin).await.unwrap();
        let info = session.charm_info(&resolved.url).await.unwrap();
        let image = NewResource {
            meta: info.meta.resources["oci-image"].clone(),
            origin: "store",
            revision: -1,
            fingerprint: None,
            size: 0,
        };
        session.add_pending_resource("kratos", &resolved.url, &origin, &image).await.unwrap();
        let live = !images(&peer.store()).is_empty();
        assert_eq!(live, generation == Generation::Four);
        // A file resource without its path is refused, and so is one that nobody has.
        let mut mail = NewResource { meta: info.meta.resources["mail"].clone(), ..image.clone() };
        mail.meta.path.clear();
        let error = session.add_pending_resource("kratos", &resolved.url, &origin, &mail).await.unwrap_err();
        assert!(error.to_string().contains("missing filename"), "{error}");
        let mut other = image;
        other.meta.name = "other".into();
        let error = session.add_pending_resource("kratos", &resolved.url, &origin, &other).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::NotFound), "{error}");
        assert!(session.resources("zz").await.is_err());
    }
}

#[tokio::test]
async fn a_channel_without_the_base_and_a_base_that_changes() {
    let peer = peer(Generation::Four);
    let session = open(&peer).await;
    let at = session.charm_url_origin("kratos").await.unwrap();
    let edge = channel("2.0/edge");
    let mut origin = at.origin.by_channel(&edge);
    let error = session.resolve_charm(PLAIN, &origin, false).await.unwrap_err();
    assert!(error.to_string().contains("charm or bundle not found for channel"), "{error}");
    origin.base.channel = "24.04/stable".into();
    let resolved = session.resolve_charm(PLAIN, &origin, false).await.unwrap();
    let origin = session.add_charm(&resolved.url, &resolved.origin).await.unwrap();
    let mut switch = SetCharm {
        application: "kratos".into(),
        charm_url: resolved.url,
        charm_origin: origin,
        channel: "edge".into(),
        resource_ids: BTreeMap::new(),
        force_base: false,
    };
    let error = session.set_charm(&switch).await.unwrap_err();
    assert_eq!((error.code(), error.reaction()), (Some(Code::PlanRefused), Reaction::Stop), "{error}");
    switch.force_base = true;
    session.set_charm(&switch).await.unwrap();
}

#[tokio::test]
async fn what_a_charm_may_not_change() {
    for generation in BOTH {
        let mut store = super::identity_model(generation);
        let other_storage = super::KRATOS.to_owned() + "storage: {data: {type: filesystem}}\n";
        let no_peers = super::KRATOS.replace("kratos-peers: {interface: kratos_peers}", "others: {interface: x}");
        for (url, metadata) in [("local:kratos-1", &other_storage), ("local:kratos-2", &no_peers)] {
            let charm = Charm::read(url, metadata, super::KRATOS_CONFIG, super::KRATOS_ACTIONS).unwrap();
            store.charms.push(charm);
        }
        let peer = peer_of(store, generation);
        let session = open(&peer).await;
        let at = session.charm_url_origin("kratos").await.unwrap();
        let switch = |revision: i64| SetCharm {
            application: "kratos".into(),
            charm_url: format!("local:kratos-{revision}"),
            charm_origin: at.origin.uploaded(revision),
            channel: String::new(),
            resource_ids: BTreeMap::new(),
            force_base: false,
        };
        // What preflight can see, too.
        let storage = session.charm_info("local:kratos-1").await.unwrap().meta.storage;
        assert_ne!(storage, session.charm_info(&at.url).await.unwrap().meta.storage);
        let error = session.set_charm(&switch(1)).await.unwrap_err();
        assert_eq!((error.code(), error.reaction()), (Some(Code::NotSupported), Reaction::Stop), "{error}");
        let dropped = session.set_charm(&switch(2)).await;
        assert_eq!(dropped.is_err(), generation == Generation::Four, "{dropped:?}");
        let error = session.set_charm(&switch(9)).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::NotFound), "{error}");
    }
}

#[tokio::test]
async fn a_local_charm_and_a_refresh_that_never_settles() {
    for generation in BOTH {
        let mut store = Store::new(generation, "iam", "iaas");
        store.deploy("kratos", &kratos("local:kratos-0", "1.0.0"), local(0), "", 1);
        for revision in [1, 2] {
            store.charms.push(kratos(&format!("local:kratos-{revision}"), "1.3.1"));
        }
        let peer = peer_of(store, generation);
        let session = open(&peer).await;
        let before = session.full_status().await.unwrap();
        let at = session.charm_url_origin("kratos").await.unwrap();
        let info = session.charm_info("local:kratos-1").await.unwrap();
        assert_eq!((info.url.as_str(), info.revision), ("local:amd64/kratos-1", 1));
        assert!(info.config.contains_key("dev") && info.meta.peers.contains_key("kratos-peers"));
        assert_eq!((info.meta.requires["pg-database"].limit, info.meta.provides.len()), (1, 2));
        let mut switch = SetCharm {
            application: "kratos".into(),
            charm_url: "local:kratos-1".into(),
            charm_origin: at.origin.uploaded(1),
            channel: String::new(),
            resource_ids: BTreeMap::new(),
            force_base: false,
        };
        session.set_charm(&switch).await.unwrap();
        let goal = RefreshGoal {
            application: "kratos",
            charm_url: &info.url,
            channel: None,
            asked_at: Some(before.controller_timestamp),
            units: 1,
            workload_version: Some("1.3.1"),
            fine: &["active"],
        };
        until_refreshed(&session, &goal).await;
        // With the hash that 4.0 gives for a local charm sent back, 3.6 refuses.
        let hashed = CharmOrigin { hash: Some("9f2c".into()), ..at.origin.uploaded(2) };
        switch.charm_url = "local:kratos-2".into();
        switch.charm_origin = hashed;
        let refused = session.set_charm(&switch).await;
        assert_eq!(refused.is_err(), generation == Generation::Three, "{refused:?}");
        // The hook fails: somebody must look, and it is said at whom.
        peer.store().failing_upgrades.push("kratos".into());
        switch.charm_url = "local:kratos-0".into();
        switch.charm_origin = at.origin.uploaded(0);
        session.set_charm(&switch).await.unwrap();
        let goal = RefreshGoal { charm_url: "local:kratos-0", workload_version: None, ..goal };
        let why = wait_for("stuck", || async {
            match refreshed(&session.full_status().await.unwrap(), &goal) {
                Settled::Stuck(why) => Some(why),
                _ => None,
            }
        })
        .await;
        assert_eq!(why, "kratos/0 is in error: hook failed: \"upgrade-charm\"");
    }
}

#[tokio::test]
async fn the_origin_that_we_send_is_whole() {
    // What Charmhub demands of an origin is demanded by the peer: an id without a hash is our mistake.
    let peer = peer(Generation::Four);
    let session = open(&peer).await;
    let half: CharmOrigin = serde_json::from_value(from_charmhub(512)).unwrap();
    let switch = SetCharm {
        application: "kratos".into(),
        charm_url: "ch:amd64/kratos-512".into(),
        charm_origin: CharmOrigin { hash: None, ..half },
        channel: "edge".into(),
        resource_ids: BTreeMap::new(),
        force_base: false,
    };
    let error = session.set_charm(&switch).await.unwrap_err();
    assert_eq!((error.code(), error.reaction()), (Some(Code::Mistake), Reaction::Stop), "{error}");
}
