//! Every login that does not do has a name of its own, and a cure.

use super::{PASSWORD, controller, credentials, peer, timing};
use controller_peer::{Access, Generation, Mode, Peer, User};
use coordinator::controller::{Controller, Credentials, Error, LoginRefusal, Password, Reaction, Session};
use serde_json::json;

const OTHER_MODEL: &str = "00000000-0000-4000-8000-000000000000";

async fn try_with(controller: &Controller, credentials: &Credentials, uuid: &str) -> Result<Session, Error> {
    Session::open(controller, credentials, uuid, timing()).await
}

async fn refusal(peer: &Peer, credentials: &Credentials, uuid: &str) -> LoginRefusal {
    match try_with(&controller(peer), credentials, uuid).await {
        Ok(_) => panic!("the login passed"),
        Err(Error::Login { refusal }) => {
            // One sentence with a cure, and nothing secret in it.
            let shown = Error::Login { refusal: refusal.clone() }.to_string();
            assert!(shown.starts_with("cannot log in to the Juju controller: ") && shown.contains("; "), "{shown}");
            assert!(!shown.contains(PASSWORD) && !format!("{refusal:?}").contains(PASSWORD), "{shown}");
            refusal
        }
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn who_may_not_come_in_is_told_why() {
    for generation in super::BOTH {
        let peer = peer(generation);
        let uuid = peer.store().uuid.clone();
        let good = credentials();
        let with = |username: &str, password: &str| Credentials {
            username: username.to_owned(),
            password: Password::new(password),
        };
        assert_eq!(refusal(&peer, &with("migrator", "wrong"), &uuid).await, LoginRefusal::WrongPassword);
        assert_eq!(refusal(&peer, &with("zed", PASSWORD), &uuid).await, LoginRefusal::WrongPassword);
        assert_eq!(refusal(&peer, &with("migrator", ""), &uuid).await, LoginRefusal::DischargeRequired);
        assert_eq!(refusal(&peer, &good, OTHER_MODEL).await, LoginRefusal::UnknownModel);
        assert_eq!(refusal(&peer, &good, "zzz").await, LoginRefusal::UnknownModel);
        peer.set_access("migrator", Access::Read);
        assert_eq!(refusal(&peer, &good, &uuid).await, LoginRefusal::OnlyRead("migrator".into()));
        peer.set_access("migrator", Access::None);
        assert_eq!(refusal(&peer, &good, &uuid).await, LoginRefusal::NoAccess("migrator".into()));
        peer.set_access("migrator", Access::Write);
        peer.change_user("migrator", |user| user.disabled = true);
        assert_eq!(refusal(&peer, &good, &uuid).await, LoginRefusal::WrongPassword);
        peer.change_user("migrator", |user| user.disabled = false);
        assert!(try_with(&controller(&peer), &good, &uuid).await.is_ok());
        peer.set_user("boss", User::new("boss", Access::Admin));
        assert!(try_with(&controller(&peer), &with("boss", "boss"), &uuid).await.is_ok());
    }
}

#[tokio::test]
async fn a_busy_controller_or_model_is_waited_for() {
    for generation in super::BOTH {
        let peer = peer(generation);
        let uuid = peer.store().uuid.clone();
        let busy = [
            (Mode::Upgrading(false), LoginRefusal::Upgrading),
            (Mode::Upgrading(true), LoginRefusal::Upgrading),
            (Mode::Migrating, LoginRefusal::Migrating),
            (Mode::Importing, LoginRefusal::Importing),
        ];
        for (mode, is) in busy {
            peer.set_mode(mode);
            let found = refusal(&peer, &credentials(), &uuid).await;
            assert_eq!((found.reaction(), &found), (Reaction::Pause, &is));
        }
        peer.set_mode(Mode::Stopping);
        let error = try_with(&controller(&peer), &credentials(), &uuid).await.err().unwrap();
        assert_eq!(error.reaction(), Reaction::Retry, "{error}");
        assert!(error.to_string().contains("HTTP status 503"), "{error}");
    }
}

#[tokio::test]
async fn the_password_is_not_carried_to_another_controller() {
    let peer = peer(Generation::Four);
    let uuid = peer.store().uuid.clone();
    let address = json!({"value": "10.9.8.7", "type": "ipv4", "scope": "public", "port": 17070});
    peer.set_mode(Mode::Moved(json!({"servers": [[address]], "ca-cert": "another"})));
    let found = refusal(&peer, &credentials(), &uuid).await;
    assert_eq!(found, LoginRefusal::Moved { addresses: "10.9.8.7:17070".into() });
    assert_eq!(found.reaction(), Reaction::Person);
}

#[tokio::test]
async fn a_login_to_another_model_than_meant_is_refused() {
    let peer = peer(Generation::Four);
    let uuid = peer.store().uuid.clone();
    let reply = json!({"response": {
        "model-tag": format!("model-{OTHER_MODEL}"),
        "user-info": {"model-access": "write"},
        "facades": [],
        "server-version": "4.0.14",
    }});
    peer.plan_reply("Admin.Login", reply);
    let found = refusal(&peer, &credentials(), &uuid).await;
    assert!(matches!(found, LoginRefusal::OtherModel { .. }), "{found}");
}

#[tokio::test]
async fn the_audit_log_knows_us_and_nobody_else_is_trusted() {
    let peer = peer(Generation::Four);
    let session = super::open(&peer).await;
    session.full_status().await.unwrap();
    let received = peer.received();
    assert!(received.iter().all(|call| call.cli_args == "identity-migration-coordinator"), "{received:?}");
    assert_eq!(session.login().servers, peer.addresses());
    assert!(peer.addresses().contains(&session.connection().address().to_owned()));
    session.close().await;
    // A controller that another CA vouches for, and one whose certificate has another name.
    let stranger = super::peer(Generation::Four);
    let fooled = Controller { addresses: peer.addresses(), ca: stranger.ca() };
    let names = controller_peer::Options { names: vec!["localhost", "127.0.0.1"], ..Default::default() };
    let misnamed = Peer::start(super::identity_model(Generation::Four), &names).unwrap();
    for controller in [fooled, controller(&misnamed)] {
        let uuid = peer.store().uuid.clone();
        let error = try_with(&controller, &credentials(), &uuid).await.err().unwrap();
        assert_eq!(error.reaction(), Reaction::Person, "{error}");
        assert!(error.to_string().contains("is not vouched for"), "{error}");
        assert!(misnamed.received().is_empty(), "the password was sent");
    }
}
