//! Actions in every end, on both releases.

use super::{BOTH, open, peer, wait_for};
use controller_peer::Generation;
use controller_peer::store::Ending;
use coordinator::controller::{Code, OperationFilter, Scalar, Session, Task, TaskStatus};
use serde_json::json;
use std::collections::BTreeMap;

fn parameters(list: &[(&str, Scalar)]) -> BTreeMap<String, Scalar> {
    list.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

async fn ended(session: &Session, tag: &str) -> Task {
    wait_for("the task's end", || async {
        let task = session.task(tag).await.unwrap();
        task.status.is_final().then_some(task)
    })
    .await
}

#[tokio::test]
async fn an_action_runs_to_its_end_and_tells_what_it_did() {
    for generation in BOTH {
        let peer = peer(generation);
        peer.store().play = Box::new(|task| {
            let timeout = task.parameters["timeout"].clone();
            let mut ending = Ending::completed(json!({"return-code": 0, "result": {"seconds": timeout}}));
            ending.log = vec!["migrating".into()];
            ending
        });
        let session = open(&peer).await;
        let given = parameters(&[("timeout", Scalar::Number(300))]);
        let enqueued = session.enqueue("kratos/leader", "run-migration", &given).await.unwrap();
        assert_eq!(enqueued.unit, "kratos/0");
        let task = ended(&session, &enqueued.task).await;
        assert!(task.succeeded(), "{task:?}");
        assert_eq!((task.name.as_str(), task.unit.as_str()), ("run-migration", "kratos/0"));
        assert_eq!(task.result("result.seconds").as_deref(), Some("300"));
        assert_eq!(task.log[0].message, "migrating");
        assert!(task.started >= task.enqueued && task.enqueued.0.is_some());
        let operation = session.operation(&enqueued.operation).await.unwrap();
        assert_eq!((operation.status, operation.tasks.len()), (TaskStatus::Completed, 1));
        assert!(operation.completed >= task.started);
    }
}

#[tokio::test]
async fn bad_parameters_are_refused_at_once_by_3_6_and_by_the_unit_on_4_0() {
    for generation in BOTH {
        let peer = peer(generation);
        let session = open(&peer).await;
        let bad = parameters(&[("timeout", Scalar::Number(1))]);
        let asked = session.enqueue("kratos/0", "run-migration", &bad).await;
        let why = match generation {
            Generation::Three => asked.unwrap_err().to_string(),
            Generation::Four => {
                let task = ended(&session, &asked.unwrap().task).await;
                assert_eq!((task.status, task.started.0), (TaskStatus::Error, None));
                task.message
            }
        };
        assert!(why.contains("(root).timeout"), "{why}");
        // What nobody declared passes on 3.6 only.
        let more = parameters(&[("bogus", Scalar::Flag(true)), ("text", Scalar::Text("x".into()))]);
        let task = ended(&session, &session.enqueue("kratos/1", "run-migration", &more).await.unwrap().task).await;
        assert_eq!(task.status == TaskStatus::Error, generation == Generation::Four, "{task:?}");
    }
}

#[tokio::test]
async fn a_failure_and_an_exit_code_are_no_success() {
    let peer = peer(Generation::Four);
    let session = open(&peer).await;
    let none = BTreeMap::new();
    peer.store().play = Box::new(|_| Ending {
        status: "failed".into(),
        message: "cannot migrate: no database".into(),
        ..Ending::default()
    });
    let task = ended(&session, &session.enqueue("kratos/0", "run-migration", &none).await.unwrap().task).await;
    assert_eq!((task.status, task.message.as_str()), (TaskStatus::Failed, "cannot migrate: no database"));
    peer.store().play = Box::new(|_| Ending::completed(json!({"return-code": 3})));
    let task = ended(&session, &session.enqueue("kratos/0", "run-migration", &none).await.unwrap().task).await;
    assert_eq!((task.status, task.succeeded()), (TaskStatus::Completed, false));
}

#[tokio::test]
async fn nobody_to_run_it_and_nothing_to_run() {
    for generation in BOTH {
        let peer = peer(generation);
        let session = open(&peer).await;
        let none = BTreeMap::new();
        for (receiver, action) in
            [("kratos/9", "run-migration"), ("zz/leader", "run-migration"), ("kratos/0", "no-such-action")]
        {
            let error = session.enqueue(receiver, action, &none).await.unwrap_err();
            assert!(error.to_string().starts_with(&format!("cannot run {action} on {receiver}: ")), "{error}");
            assert!(!error.is_unknown_outcome());
        }
        peer.store().applications.get_mut("kratos").unwrap().leader = None;
        assert_eq!(session.leader("kratos").await.unwrap(), None);
        assert!(session.enqueue("kratos/leader", "run-migration", &none).await.is_err());
        assert_eq!(session.task("action-999").await.unwrap_err().code(), Some(Code::NotFound));
        assert_eq!(session.operation("operation-999").await.unwrap_err().code(), Some(Code::NotFound));
        assert_eq!(peer.store().tasks.len(), 0);
    }
}

#[tokio::test]
async fn cancel_works_on_3_6_and_never_on_4_0() {
    for generation in BOTH {
        let peer = peer(generation);
        // Its agent is down: the task never starts.
        peer.store().down.push("kratos/0".into());
        let session = open(&peer).await;
        let enqueued = session.enqueue("kratos/0", "run-migration", &BTreeMap::new()).await.unwrap();
        let wanted = OperationFilter {
            applications: vec!["kratos".into()],
            actions: vec!["run-migration".into()],
            status: vec!["pending".into(), "running".into()],
            limit: 20,
        };
        let found = session.list_operations(&wanted).await.unwrap();
        assert_eq!(found.iter().map(|it| it.tag.as_str()).collect::<Vec<_>>(), [enqueued.operation.as_str()]);
        let cancelled = session.cancel(&enqueued.task).await;
        match generation {
            Generation::Three => {
                assert_eq!(cancelled.unwrap(), TaskStatus::Cancelled);
                assert!(session.list_operations(&wanted).await.unwrap().is_empty());
            }
            Generation::Four => {
                assert!(cancelled.unwrap_err().to_string().contains("taskStatus"));
                assert_eq!(session.task(&enqueued.task).await.unwrap().status, TaskStatus::Pending);
            }
        }
    }
}
