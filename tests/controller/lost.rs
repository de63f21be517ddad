//! Every call that changes something, with its request or its reply lost: the outcome is said to be unknown, the model
//! is looked at, and in the end it was done exactly once.

use super::{BOTH, controller, credentials, local, open, peer, timing};
use controller_peer::{Fault, Generation, Peer};
use coordinator::controller::settled::relation_between;
use coordinator::controller::{
    CharmOrigin, Error, NewResource, OperationFilter, ResourceMeta, Result, Session, Timing,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// A call that changes something.
#[derive(Clone, Copy, Debug)]
enum Changing {
    AddCharm,
    SetCharm,
    SetConfigs,
    AddPendingResources,
    AddRelation,
    DestroyRelation,
    EnqueueOperation,
}

use Changing::*;

const ALL: [Changing; 7] =
    [AddCharm, SetCharm, SetConfigs, AddPendingResources, AddRelation, DestroyRelation, EnqueueOperation];

impl Changing {
    fn name(self) -> &'static str {
        match self {
            AddCharm => "Charms.AddCharm",
            SetCharm => "Application.SetCharm",
            SetConfigs => "Application.SetConfigs",
            AddPendingResources => "Resources.AddPendingResources",
            AddRelation => "Application.AddRelation",
            DestroyRelation => "Application.DestroyRelation",
            EnqueueOperation => "Action.EnqueueOperation",
        }
    }

    async fn ask(self, session: &Session) -> Result<()> {
        let published = "ch:amd64/kratos-567";
        let mut origin: CharmOrigin = serde_json::from_value(super::from_charmhub(567)).unwrap();
        origin.track = Some("1.0".into());
        origin.risk = Some("stable".into());
        let options = BTreeMap::from([("log_level".to_owned(), "debug".to_owned())]);
        match self {
            AddCharm => session.add_charm(published, &origin).await.map(drop),
            SetCharm => {
                let switch = coordinator::controller::SetCharm {
                    application: "kratos".into(),
                    charm_url: "local:kratos-1".into(),
                    charm_origin: serde_json::from_value(local_22_04()).unwrap(),
                    channel: String::new(),
                    resource_ids: BTreeMap::new(),
                    force_base: false,
                };
                session.set_charm(&switch).await
            }
            SetConfigs => session.set_config("kratos", &options).await,
            AddPendingResources => {
                let meta =
                    ResourceMeta { name: "oci-image".into(), kind: "oci-image".into(), ..ResourceMeta::default() };
                let image = NewResource { meta, origin: "store", revision: 44, fingerprint: None, size: 0 };
                session.add_pending_resource("kratos", published, &origin, &image).await.map(drop)
            }
            AddRelation => session.add_relation("kratos:pg-database", "pg-new:database").await.map(drop),
            DestroyRelation => session.destroy_relation("kratos:pg-database", "pg:database").await,
            EnqueueOperation => session.enqueue("kratos/leader", "run-migration", &BTreeMap::new()).await.map(drop),
        }
    }

    /// Looks whether it was done, as the coordinator can.
    async fn is_done(self, session: &Session) -> bool {
        let status = session.full_status().await.unwrap();
        match self {
            AddCharm => session.charm_info("ch:amd64/kratos-567").await.is_ok(),
            SetCharm => status.applications["kratos"].charm == "local:kratos-1",
            SetConfigs => session.application("kratos").await.unwrap().config["log_level"].value == "debug",
            AddPendingResources => {
                session.resources("kratos").await.unwrap().resources.iter().any(|it| it.revision == 44)
            }
            AddRelation => relation_between(&status, "kratos:pg-database", "pg-new:database").is_some(),
            // On its way out it is still there: asking again is harmless.
            DestroyRelation => relation_between(&status, "kratos:pg-database", "pg:database").is_none(),
            EnqueueOperation => {
                let wanted = OperationFilter {
                    applications: vec!["kratos".into()],
                    actions: vec!["run-migration".into()],
                    ..OperationFilter::default()
                };
                !session.list_operations(&wanted).await.unwrap().is_empty()
            }
        }
    }
}

fn local_22_04() -> serde_json::Value {
    let mut origin = local(1);
    origin["base"]["channel"] = "22.04/stable".into();
    origin
}

async fn prepared(generation: Generation, changing: Changing) -> Peer {
    let peer = peer(generation);
    peer.store().charms.push(super::kratos("local:kratos-1", "1.3.1"));
    if matches!(changing, DestroyRelation) {
        let session = open(&peer).await;
        session.add_relation("kratos:pg-database", "pg:database").await.unwrap();
    }
    peer
}

/// The loss, and whether the request had reached the controller.
const LOSSES: [(Fault, bool); 3] = [(Fault::CutBefore, false), (Fault::CutAfter, true), (Fault::DropReply, true)];

async fn play(generation: Generation, changing: Changing, (fault, reached): (Fault, bool)) {
    let place = format!("{generation:?} {changing:?} {fault:?}");
    let peer = prepared(generation, changing).await;
    let uuid = peer.store().uuid.clone();
    let call = if fault == Fault::DropReply { Duration::from_millis(700) } else { Duration::from_secs(20) };
    let session = Session::open(&controller(&peer), &credentials(), &uuid, Timing { call, ..timing() }).await.unwrap();
    peer.plan_fault(changing.name(), fault);
    let error = changing.ask(&session).await.unwrap_err();
    assert!(error.is_unknown_outcome(), "{place}: {error}");
    assert!(matches!(&error, Error::UnknownOutcome { doing, .. } if !doing.is_empty()), "{place}: {error}");
    assert_eq!(peer.times_done(changing.name()), usize::from(reached), "{place}");
    // A new connection, a look, and the request only if it is needed. On 3.6 a pending resource is seen by nobody: it
    // is asked for again, and the one that nobody refers to changes nothing. A removal on its way is asked for again,
    // too.
    let session = open(&peer).await;
    let unseen = matches!(changing, AddPendingResources) && generation == Generation::Three;
    if !changing.is_done(&session).await {
        assert!(!reached || unseen || matches!(changing, DestroyRelation), "{place}: done, and not seen");
        changing.ask(&session).await.unwrap_or_else(|error| panic!("{place}: {error}"));
    }
    let done = peer.times_done(changing.name());
    let twice = reached && (unseen || matches!(changing, DestroyRelation));
    assert!(done == 1 || (twice && done == 2), "{place}: done {done} times");
    let tasks = peer.store().tasks.len();
    assert_eq!(tasks, usize::from(matches!(changing, EnqueueOperation)), "{place}");
}

#[tokio::test]
async fn each_call_is_done_once_whatever_is_lost() {
    // Side by side: a reply that never comes is waited for.
    let mut plays = tokio::task::JoinSet::new();
    for generation in BOTH {
        for changing in ALL {
            plays.spawn(async move {
                for loss in LOSSES {
                    play(generation, changing, loss).await;
                }
            });
        }
    }
    let mut played = 0;
    while let Some(ended) = plays.join_next().await {
        ended.unwrap();
        played += 1;
    }
    assert_eq!(played, BOTH.len() * ALL.len());
}

#[tokio::test]
async fn everybody_who_waits_is_told_when_the_connection_is_cut() {
    let peer = peer(Generation::Four);
    let session = open(&peer).await;
    peer.plan_fault("Application.Leader", Fault::DropReply);
    peer.plan_fault("Application.SetConfigs", Fault::CutAfter);
    let options = BTreeMap::from([("dev".to_owned(), "true".to_owned())]);
    let (leader, set) = tokio::join!(session.leader("kratos"), session.set_config("kratos", &options));
    assert!(leader.unwrap_err().is_unknown_outcome() && set.unwrap_err().is_unknown_outcome());
    assert!(!session.connection().is_open());
}
