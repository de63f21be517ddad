//! Relations made and removed, and what stands in the way.

use super::{BOTH, open, peer, wait_for};
use controller_peer::{Access, BlockKind, Generation};
use coordinator::controller::settled::{Settled, related, relation_between, relation_gone, resting};
use coordinator::controller::{BlockKind as Kind, Change, Code, Integrated, Reaction, blocking};
use std::collections::BTreeMap;

const KRATOS: &str = "kratos:pg-database";
const PG: &str = "pg:database";

#[tokio::test]
async fn a_relation_comes_and_goes_and_both_are_seen_in_the_model() {
    for generation in BOTH {
        let peer = peer(generation);
        let session = open(&peer).await;
        let Integrated::Made(ends) = session.add_relation(KRATOS, PG).await.unwrap() else { panic!("it was there") };
        assert_eq!(
            (ends["kratos"].role.as_str(), ends["kratos"].limit, ends["kratos"].name.as_str()),
            ("requirer", 1, "pg-database")
        );
        assert_eq!(ends["pg"].interface, "postgresql_client");
        assert_eq!(session.add_relation(KRATOS, PG).await.unwrap(), Integrated::WasThere);
        wait_for("settled", || async {
            let status = session.full_status().await.unwrap();
            let rests = resting(&status, "kratos", &["active"]) == Settled::Yes;
            (rests && related(&status, PG, KRATOS) == Settled::Yes).then_some(())
        })
        .await;
        let status = session.full_status().await.unwrap();
        let id = relation_between(&status, KRATOS, PG).unwrap().id;
        assert_ne!(relation_gone(&status, id), Settled::Yes);
        session.destroy_relation_by_id(id).await.unwrap();
        wait_for("gone", || async {
            (relation_gone(&session.full_status().await.unwrap(), id) == Settled::Yes).then_some(())
        })
        .await;
        // Asked once more it is done, and a new relation has a new number.
        session.destroy_relation_by_id(id).await.unwrap();
        session.destroy_relation(KRATOS, PG).await.unwrap();
        session.add_relation(PG, KRATOS).await.unwrap();
        let status = session.full_status().await.unwrap();
        assert!(relation_between(&status, KRATOS, PG).unwrap().id > id);
        assert_eq!(peer.times_done("Application.AddRelation"), 2);
    }
}

#[tokio::test]
async fn a_unit_in_error_keeps_a_dying_relation() {
    for generation in BOTH {
        let peer = peer(generation);
        let session = open(&peer).await;
        session.add_relation(KRATOS, PG).await.unwrap();
        peer.store().fail("pg", 0, "hook failed: \"database-relation-broken\"");
        session.destroy_relation(KRATOS, PG).await.unwrap();
        let status = session.full_status().await.unwrap();
        let id = relation_between(&status, KRATOS, PG).unwrap().id;
        let Settled::Stuck(why) = relation_gone(&status, id) else { panic!("not stuck") };
        assert!(why.contains("pg/0 is in error"), "{why}");
        // Dying: 3.6 says so, 4.0 only that it is there.
        let again = session.add_relation(KRATOS, PG).await;
        match generation {
            Generation::Three => assert_eq!(again.unwrap_err().code(), Some(Code::Dying)),
            Generation::Four => assert_eq!(again.unwrap(), Integrated::WasThere),
        }
        session.destroy_relation(KRATOS, PG).await.unwrap();
        peer.store().set_workload("pg", 0, "active", "");
        wait_for("gone", || async {
            (relation_gone(&session.full_status().await.unwrap(), id) == Settled::Yes).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn what_cannot_be_related_is_refused() {
    for generation in BOTH {
        let peer = peer(generation);
        let session = open(&peer).await;
        session.add_relation(KRATOS, PG).await.unwrap();
        let code = |error: coordinator::controller::Error| (error.code().unwrap(), error.reaction());
        let missing = session.add_relation(KRATOS, "zz:database").await.unwrap_err();
        assert_eq!(code(missing), (Code::NotFound, Reaction::Stop));
        let unlike = session.add_relation("kratos:kratos-info", PG).await.unwrap_err();
        assert_eq!(code(unlike), (Code::PlanRefused, Reaction::Stop));
        let full = session.add_relation(KRATOS, "pg-new:database").await.unwrap_err();
        assert!(full.to_string().contains("maximum relation limit of 1"), "{full}");
        assert_eq!(full.reaction(), Reaction::Stop);
    }
}

#[tokio::test]
async fn blocks_are_read_and_reported_with_the_administrators_words() {
    for generation in BOTH {
        let peer = peer(generation);
        let session = open(&peer).await;
        session.add_relation(KRATOS, PG).await.unwrap();
        assert!(session.blocks().await.unwrap().is_empty());
        peer.set_block(BlockKind::BlockRemove, Some("keep it"));
        let blocks = session.blocks().await.unwrap();
        assert_eq!(blocks[0].kind, Kind::BlockRemove);
        assert!(blocking(&blocks, Change::Remove).is_some() && blocking(&blocks, Change::Alter).is_none());
        let error = session.destroy_relation(KRATOS, PG).await.unwrap_err();
        assert_eq!((error.code(), error.reaction()), (Some(Code::Blocked), Reaction::Person));
        assert!(error.to_string().contains("keep it"), "{error}");
        peer.set_block(BlockKind::BlockRemove, None);
        peer.set_block(BlockKind::BlockChange, Some("freeze until Monday"));
        let options = BTreeMap::from([("log_level".to_owned(), "debug".to_owned())]);
        for error in [
            session.destroy_relation(KRATOS, PG).await.unwrap_err(),
            session.add_relation(KRATOS, PG).await.unwrap_err(),
            session.set_config("kratos", &options).await.unwrap_err(),
        ] {
            assert!(error.to_string().contains("freeze until Monday"), "{error}");
        }
        // Actions are never blocked.
        session.enqueue("kratos/0", "run-migration", &BTreeMap::new()).await.unwrap();
        peer.set_block(BlockKind::BlockChange, None);
        peer.set_block(BlockKind::BlockDestroy, Some("never"));
        session.destroy_relation(KRATOS, PG).await.unwrap();
    }
}

#[tokio::test]
async fn options_are_set_and_read_and_what_is_unknown_is_refused() {
    for generation in BOTH {
        let peer = peer(generation);
        let session = open(&peer).await;
        let option = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        session.set_config("kratos", &option("dev", "true")).await.unwrap();
        let found = session.application("kratos").await.unwrap();
        assert_eq!((&found.config["dev"].value, found.config["dev"].source.as_str()), (&true.into(), "user"));
        assert_eq!((found.config["log_level"].source.as_str(), found.channel.as_str()), ("default", "latest/edge"));
        assert_eq!((found.config["dev"].kind.as_str(), found.base.name.as_str()), ("boolean", "ubuntu"));
        let error = session.set_config("kratos", &option("nope", "1")).await.unwrap_err();
        assert!(error.to_string().contains("unknown option \"nope\""), "{error}");
        assert_eq!(session.application("zz").await.unwrap_err().code(), Some(Code::NotFound));
    }
}

#[tokio::test]
async fn access_that_is_taken_away_is_noticed_at_the_next_call() {
    for generation in BOTH {
        let peer = peer(generation);
        let session = open(&peer).await;
        peer.set_access("migrator", Access::Read);
        session.full_status().await.unwrap();
        let error = session.add_relation(KRATOS, PG).await.unwrap_err();
        assert_eq!((error.code(), error.reaction()), (Some(Code::Unauthorized), Reaction::Person));
        peer.change_user("migrator", |user| user.disabled = true);
        assert_eq!(session.full_status().await.unwrap_err().code(), Some(Code::Unauthorized));
        assert!(session.connection().is_open());
        // Nothing of ours ever needs more than write.
        assert!(peer.received().iter().all(|call| call.needs <= Access::Write));
    }
}
