//! The source's tables are changed while they are copied and while the target follows: it is found, said, stands in
//! the way of every step that would lose something, and goes away when it is undone.

use super::rig::{LONG, Rig};
use coordinator::migration::{Goal, Phase, Settings};
use serde_json::json;

struct Case {
    change: &'static str,
    undo: &'static str,
    /// What lets late rows pass, and its undo.
    passes: Option<(&'static str, &'static str)>,
    said: &'static str,
}

const CASES: [Case; 7] = [
    Case {
        change: "ALTER TABLE public.identities ADD COLUMN by_hand text",
        undo: "ALTER TABLE public.identities DROP COLUMN by_hand",
        passes: Some((
            "ALTER TABLE public.identities ADD COLUMN by_hand text",
            "ALTER TABLE public.identities DROP COLUMN by_hand",
        )),
        said: "column by_hand of table public.identities is new",
    },
    Case {
        change: "ALTER TABLE public.continuity_containers DROP COLUMN payload",
        undo: "ALTER TABLE public.continuity_containers ADD COLUMN payload jsonb",
        passes: None,
        said: "column payload of table public.continuity_containers is there no more",
    },
    Case {
        change: "ALTER TABLE public.identities ALTER COLUMN schema_id TYPE text",
        undo: "ALTER TABLE public.identities ALTER COLUMN schema_id TYPE varchar(2048)",
        passes: None,
        said: "column schema_id of table public.identities was character varying(2048) NOT NULL and is text NOT NULL",
    },
    Case {
        change: "CREATE TABLE public.by_hand (id int PRIMARY KEY)",
        undo: "DROP TABLE public.by_hand",
        passes: None,
        said: "table public.by_hand is new",
    },
    Case {
        change: "ALTER TABLE public.continuity_containers RENAME TO renamed",
        undo: "ALTER TABLE public.renamed RENAME TO continuity_containers",
        passes: None,
        said: "public.continuity_containers",
    },
    Case {
        change: "CREATE INDEX by_hand ON public.identities (created_at)",
        undo: "DROP INDEX public.by_hand",
        passes: None,
        said: "index by_hand of table public.identities is new",
    },
    Case {
        change: "ALTER TABLE public.identities ADD CONSTRAINT by_hand CHECK (true)",
        undo: "ALTER TABLE public.identities DROP CONSTRAINT by_hand",
        passes: None,
        said: "constraint by_hand of table public.identities is new",
    },
];

fn said(rig: &Rig, words: &str) {
    rig.until("the change to be said", LONG, |state, progress| {
        let lost = state.active().and_then(|run| run.lost.clone()).unwrap_or_default();
        lost.contains(words) || progress.trouble.as_ref().is_some_and(|trouble| trouble.contains(words))
    })
    .unwrap();
}

#[test]
fn while_following() {
    let mut rig = Rig::new(14, 16, 300).unwrap();
    rig.reach(Goal::Following);
    rig.migrate_schema(&Settings::default());
    for case in &CASES[..] {
        rig.on_source(case.change).unwrap();
        said(&rig, case.said);
        rig.want(Goal::Drained).unwrap();
        let refused = rig.refused();
        assert!(refused.contains(case.said) && refused.contains("undo it"), "{}: {refused}", case.change);
        assert_eq!(rig.now().unwrap().0.phase(), Phase::Following, "{}", case.change);
        rig.write_source().unwrap();
        rig.on_source(case.undo).unwrap();
        if let Some((sql, undo)) = case.passes {
            rig.on_target(sql).unwrap();
            follows_again(&rig);
            rig.on_target(undo).unwrap();
        }
        follows_again(&rig);
        rig.until("it to be over", LONG, |_, progress| progress.trouble.is_none()).unwrap();
    }
    assert_eq!(rig.reach(Goal::Drained).phase(), Phase::Drained);
    assert_eq!(rig.reach(Goal::Flipped).phase(), Phase::Flipped);
    rig.verified();
    rig.assert_equal();
}

/// The cure: following is asked for again.
fn follows_again(rig: &Rig) {
    rig.on_source("UPDATE public.identities SET metadata_admin = jsonb_build_object('at', clock_timestamp()) WHERE id = (SELECT min(id::text)::uuid FROM public.identities)").unwrap();
    assert_eq!(rig.reach(Goal::Following).phase(), Phase::Following);
    let sql = "SELECT metadata_admin FROM public.identities ORDER BY id::text LIMIT 1";
    let wanted = rig.on_source(sql).unwrap();
    peers::wait_for("the write to arrive", LONG, || match rig.on_target(sql).unwrap() {
        seen if seen == wanted => Ok(()),
        seen => Err(seen),
    })
    .unwrap();
}

/// The copy holds the tables it knows; what is new beside them is found as soon as it ended.
#[test]
fn while_copying() {
    let mut rig = Rig::new(14, 16, 300).unwrap();
    let slot = json!({"kind": "noted", "step": "copy", "name": "slot"});
    rig.stall_at(&slot).unwrap();
    rig.want(Goal::Following).unwrap();
    rig.stalled(&slot).unwrap();
    rig.on_source("CREATE TABLE public.by_hand (id int PRIMARY KEY)").unwrap();
    rig.release().unwrap();
    said(&rig, "table public.by_hand is new");
    rig.want(Goal::Migrated).unwrap();
    let refused = rig.refused();
    assert!(refused.contains("public.by_hand is new") && refused.contains("rollback"), "{refused}");
    // The other cure: everything anew, with a target that has the change too.
    rig.on_target("CREATE TABLE public.by_hand (id int PRIMARY KEY)").unwrap();
    rig.roll_back("a table was made while copying");
    rig.on_source("INSERT INTO public.by_hand VALUES (1)").unwrap();
    assert_eq!(rig.reach(Goal::Following).phase(), Phase::Following);
    assert_eq!(rig.on_target("SELECT count(*) FROM public.by_hand").unwrap(), "1");
}
