//! What Kratos' courier sends, to a real mail server: nothing twice across the hand-over, nothing from a closed target,
//! and nothing that was abandoned.

use super::rig::{LONG, Rig};
use super::servers::Program;
use anyhow::Result;
use coordinator::migration::journal::Request;
use coordinator::migration::{Goal, Phase, Settings, Step};
use peers::cluster::Cluster;
use peers::kratos::{Release, Settings as Told};
use peers::mail::MailSink;
use peers::wait_for;
use std::sync::Arc;

/// A source and a target whose couriers send to these, if to anything.
fn rig(old: Option<&MailSink>, new: &MailSink) -> Rig {
    let program = |version, sink: Option<&MailSink>| {
        Program::Kratos(
            Release::find(version).unwrap(),
            Told { smtp_port: sink.map(MailSink::port), ..Told::default() },
        )
    };
    let cluster = |major| Cluster::start(major).map(Arc::new).unwrap();
    Rig::of((program("1.0.0", old), program("1.3.1", Some(new))), cluster(14), cluster(16), 300).unwrap()
}

/// Queues a message, as Kratos does.
fn queue(cluster: &Cluster, database: &str, subject: &str) -> Result<()> {
    cluster
        .psql(
            database,
            &format!(
                "INSERT INTO courier_messages (id, type, status, body, subject, recipient, created_at, updated_at,
                                               template_type, template_data, nid, send_count)
                 SELECT md5('{subject}')::uuid, 1, 1, 'Please verify', '{subject}', 'person@volume.example',
                        now() AT TIME ZONE 'utc', now() AT TIME ZONE 'utc', 'verification_valid',
                        convert_to('{{\"To\": \"person@volume.example\", \"VerificationURL\": \"https://a.example\"}}', 'utf8'),
                        id, 0
                 FROM networks ORDER BY created_at LIMIT 1"
            ),
        )
        .map(drop)
}

/// What the target's courier noted of its last attempt.
fn dispatched(rig: &Rig) -> String {
    let last = "SELECT status || ' ' || error::text FROM courier_message_dispatches ORDER BY created_at DESC LIMIT 1";
    rig.on_target(last).unwrap_or_else(|error| format!("{error:#}"))
}

#[test]
fn nothing_is_sent_twice_and_nothing_is_forgotten() {
    let sink = MailSink::start().unwrap();
    let mut rig = rig(Some(&sink), &sink);
    let (cluster, database) = (Arc::clone(&rig.source), rig.source_database());
    // Messages come until the fence.
    let queuing = std::thread::spawn(move || {
        let mut queued = Vec::new();
        for number in 0..10_000 {
            let subject = format!("queued {number}");
            match queue(&cluster, &database, &subject) {
                Ok(()) => queued.push(subject),
                Err(error) if error.to_string().contains("writes are closed") => return queued,
                Err(error) => panic!("{error:#}"),
            }
        }
        panic!("the fence never came");
    });
    rig.reach(Goal::Following);
    rig.migrate_schema(&Settings::default());
    assert_eq!(rig.reach(Goal::Flipped).phase(), Phase::Flipped);
    let queued = queuing.join().unwrap();
    assert!(queued.len() > 20, "{} messages", queued.len());

    // A courier that was at a message when the fence came may have sent it; nobody sends it again.
    let in_doubt =
        || rig.on_target("SELECT subject FROM courier_messages WHERE status = 3 AND send_count > 0").unwrap();
    wait_for("every message to be sent", LONG, || {
        let (sent, in_doubt) = (sink.subjects(), in_doubt());
        let is_known = |subject: &&String| sent.contains(subject) || in_doubt.lines().any(|line| line == *subject);
        let missing: Vec<&String> = queued.iter().filter(|subject| !is_known(subject)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("missing {missing:?}, {}", dispatched(&rig))) }
    })
    .unwrap();
    let mut sent = sink.subjects();
    let all = sent.len();
    sent.sort();
    sent.dedup();
    assert_eq!(all, sent.len(), "something was sent twice: {:?}", sink.subjects());
    rig.finalize();
}

#[test]
fn what_was_abandoned_is_never_sent() {
    let sink = MailSink::start().unwrap();
    let mut rig = rig(None, &sink);
    for number in 1..=3 {
        queue(&rig.source, &rig.source_database(), &format!("old {number}")).unwrap();
    }
    rig.reach(Goal::Following);
    // The target is open for its own migration: what waits is held, and released although the worker is killed.
    let held = |rig: &Rig| rig.on_target("SELECT count(*) FROM courier_messages WHERE status > 1000").unwrap();
    rig.stop_at("record-after/noted/migrate/opened-at").unwrap();
    rig.want(Goal::Migrated).unwrap();
    rig.stopped_at("record-after/noted/migrate/opened-at").unwrap();
    assert_eq!(held(&rig), "3");
    rig.stop_at("messages-held").unwrap();
    rig.go_on().unwrap();
    rig.run_migration().unwrap();
    rig.stopped_at("messages-held").unwrap();
    assert_eq!(held(&rig), "3");
    rig.kill_worker().unwrap();
    rig.hook().unwrap();
    rig.settled(LONG).unwrap();
    assert_eq!(held(&rig), "0");
    rig.ask(Request { abandon_messages: true, ..Request::plain("cut-over", Goal::Flipped) }).unwrap();
    let state = rig.settled(LONG).unwrap();
    assert_eq!(state.active().unwrap().output(Step::HandOver, "messages-abandoned").unwrap(), 3);
    rig.verified();

    queue(&rig.target, &rig.target_database(), "new").unwrap();
    rig.on_target("UPDATE courier_messages SET channel = 'email' WHERE subject = 'new'").unwrap();
    wait_for("the new message", LONG, || if sink.subjects().is_empty() { Err(dispatched(&rig)) } else { Ok(()) })
        .unwrap();
    assert_eq!(sink.subjects(), ["new"]);
    // The way back tells the source.
    let abandoned = "SELECT count(*) FROM courier_messages WHERE status = 4";
    assert_eq!(rig.on_target(abandoned).unwrap(), "3");
    assert_eq!(rig.reach(Goal::RolledBack).phase(), Phase::Idle);
    assert_eq!(rig.on_source(abandoned).unwrap(), "3");
    assert_eq!(rig.left_behind().unwrap(), Vec::<String>::new());
}
