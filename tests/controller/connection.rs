//! What happens on the wire: addresses, ids, replies in any order, silence, and the end.

use super::{controller, credentials, open, peer, timing, wait_for};
use controller_peer::{Fault, Generation, Options, Peer, User};
use coordinator::controller::{Call, Connection, Controller, Error, ModelPath, Reaction, Session, Timing};
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn the_first_of_several_addresses_that_answers_is_taken() {
    let peer = peer(Generation::Four);
    // Nobody listens at one, the other accepts and says nothing.
    let silent = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let closed = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let mut addresses = vec![closed.to_string(), silent.local_addr().unwrap().to_string()];
    addresses.extend(peer.addresses());
    let controller = Controller { addresses, ca: peer.ca() };
    let uuid = peer.store().uuid.clone();
    let session = Session::open(&controller, &credentials(), &uuid, timing()).await.unwrap();
    assert_eq!(session.connection().address(), peer.addresses()[0]);
    // When none does, it ends in time and names them.
    let controller = Controller { addresses: controller.addresses[..2].to_vec(), ca: peer.ca() };
    let quick = Timing { connect: Duration::from_millis(300), ..timing() };
    let error = Session::open(&controller, &credentials(), &uuid, quick).await.err().unwrap();
    assert_eq!(error.reaction(), Reaction::Retry);
    assert!(error.to_string().contains(&controller.addresses[1]), "{error}");
}

#[tokio::test]
async fn several_listeners_are_all_told_at_login() {
    let options = Options { addresses: 3, ..Options::default() };
    let peer = Peer::start(super::identity_model(Generation::Four), &options).unwrap();
    peer.set_user("migrator", User::new(super::PASSWORD, controller_peer::Access::Write));
    let session = open(&peer).await;
    assert_eq!(session.login().servers, peer.addresses());
}

#[tokio::test]
async fn replies_out_of_order_find_their_requests() {
    let peer = peer(Generation::Four);
    let session = open(&peer).await;
    peer.plan_fault("Application.Leader", Fault::OutOfOrder);
    // The leader's reply comes behind that of the options, which is asked for later.
    let (leader, options) = tokio::join!(session.leader("kratos"), session.application("kratos"));
    assert_eq!(leader.unwrap().as_deref(), Some("kratos/0"));
    assert_eq!(options.unwrap().charm, "kratos");
}

#[tokio::test]
async fn a_call_without_an_answer_ends_in_time_and_the_connection_stays() {
    let peer = peer(Generation::Four);
    let uuid = peer.store().uuid.clone();
    let quick = Timing { call: Duration::from_secs(2), ..timing() };
    let session = Session::open(&controller(&peer), &credentials(), &uuid, quick).await.unwrap();
    peer.plan_fault("Application.Leader", Fault::DropReply);
    let error = session.leader("kratos").await.unwrap_err();
    assert!(error.is_unknown_outcome(), "{error}");
    assert!(session.connection().is_open());
    assert_eq!(session.leader("kratos").await.unwrap().as_deref(), Some("kratos/0"));
}

#[tokio::test]
async fn a_controller_that_answers_no_ping_is_given_up() {
    let peer = peer(Generation::Four);
    let uuid = peer.store().uuid.clone();
    let often = Timing { ping_every: Duration::from_millis(20), ping_answer: Duration::from_secs(2), ..timing() };
    let session = Session::open(&controller(&peer), &credentials(), &uuid, often).await.unwrap();
    wait_for("two pings", || async { (peer.times_done("Pinger.Ping") >= 2).then_some(()) }).await;
    assert!(session.connection().is_open());
    peer.plan_fault("Pinger.Ping", Fault::DropReply);
    wait_for("the end", || async { (!session.connection().is_open()).then_some(()) }).await;
    let error = session.full_status().await.unwrap_err();
    assert!(matches!(error, Error::NotSent { .. }), "{error}");
    assert!(error.to_string().contains("did not answer a ping"), "{error}");
}

#[tokio::test]
async fn after_the_end_nothing_is_sent() {
    let peer = peer(Generation::Four);
    let session = open(&peer).await;
    drop(peer);
    wait_for("the end", || async { (!session.connection().is_open()).then_some(()) }).await;
    let error = session.full_status().await.unwrap_err();
    assert!(matches!(error, Error::NotSent { .. }), "{error}");
    assert_eq!(error.reaction(), Reaction::Retry);
}

#[tokio::test]
async fn what_is_not_logged_in_or_not_offered_is_refused() {
    let peer = peer(Generation::Four);
    let path = ModelPath::Controller;
    let connection = Connection::open(&controller(&peer), &path, timing()).await.unwrap();
    let call = Call { facade: "Client", version: 8, request: "FullStatus" };
    let error = connection.call::<Value, Value>(call, &json!({}), "look").await.unwrap_err();
    assert_eq!(error.code(), Some(coordinator::controller::Code::NotImplemented), "{error}");
    connection.close().await;
}
