//! `docs/messages.md`: every refusal and failure, what it means and what to do, read out of the source, so that none
//! can be missing. After a change: `make docs`.

mod extract;
mod template;

use coordinator::steps::preflight::checks::CHECKS;
use extract::{Kind, Message};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

const HEAD: &str = "# Messages

Every refusal and failure of the charm: the sentence, what it means, what to do. Words in angle brackets are what was
found. Made from the source by `make docs`; a test holds it to that.

Sentences read: cannot *do what*: *what was found, where*; *what to do*. An action that refuses or fails sets `outcome`
to `refused` or `failed`, the sentence as `message`, and the command to run next as `next`; nothing was changed by a
refusal. A sentence that ends with \"trying again\" heals by itself: the worker goes on trying, and status shows it.
";

/// The parts of the document: a heading, the files whose messages belong there, and a word about them.
const PARTS: [(&str, &[&str], &str); 10] = [
    (
        "An action that does not fit",
        &["migration/plan"],
        "The phase decides; the sentence names the action to run instead.",
    ),
    (
        "Options, parameters, relations",
        &["charm/", "juju/"],
        "Told by status and by every action that needs what is missing.",
    ),
    ("Checks of `preflight`", &["steps/preflight"], ""),
    (
        "Stopping writes, drain, hand-over, the way back",
        &[
            "steps/fence",
            "steps/drain",
            "steps/hand_over",
            "steps/reverse",
            "steps/way_back",
            "steps/verify",
            "steps/watch",
            "steps/flip",
            "steps/gates",
        ],
        "",
    ),
    ("Every other step", &["steps/"], ""),
    ("The application's releases and servers", &["apps/"], ""),
    ("The fence in the databases", &["postgres/fence"], ""),
    ("The worker", &["worker/", "failpoint", "main", "lib", "migration/"], ""),
    ("PostgreSQL", &["postgres/"], ""),
    ("The Juju controller", &["controller/"], "Its client is there; no step asks it for anything yet."),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The document, made anew.
fn document() -> String {
    let mut left = extract::all(&root().join("src"));
    let mut out = HEAD.to_owned();
    for (title, files, about) in PARTS {
        let (here, others): (Vec<Message>, Vec<Message>) =
            left.into_iter().partition(|message| files.iter().any(|file| message.file.starts_with(file)));
        left = others;
        let _ = writeln!(out, "\n## {title}\n");
        if !about.is_empty() {
            let _ = writeln!(out, "{about}\n");
        }
        if title.contains("preflight") {
            out.push_str(&checks());
        }
        out.push_str(&part(&here));
    }
    assert!(left.is_empty(), "messages that belong to no part: {left:#?}");
    out
}

/// The table of checks.
fn checks() -> String {
    let mut out = "| Check | Looks at | When it objects |\n|---|---|---|\n".to_owned();
    for check in CHECKS {
        let weight = if format!("{:?}", check.severity) == "Block" { "nothing may begin" } else { "a warning" };
        let _ = writeln!(out, "| `{}` | {} | {weight} |", check.name, check.about);
    }
    out.push_str("\nWhat they find, and the cure:\n\n");
    out
}

/// Messages of one part: by meaning, so that a function's sentences stand together.
fn part(messages: &[Message]) -> String {
    let mut out = String::new();
    let mut by_meaning: BTreeMap<(usize, &str), Vec<&Message>> = BTreeMap::new();
    let mut order: Vec<&str> = Vec::new();
    for message in messages.iter().filter(|message| message.kind != Kind::Server) {
        let place = order.iter().position(|known| *known == message.meaning).unwrap_or_else(|| {
            order.push(&message.meaning);
            order.len() - 1
        });
        by_meaning.entry((place, &message.meaning)).or_default().push(message);
    }
    for ((_, meaning), messages) in &by_meaning {
        for message in messages {
            let _ = writeln!(out, "- **{}**", message.sentence);
        }
        let _ = writeln!(out, "  {meaning}\n");
    }
    let mut asked: Vec<&str> = messages
        .iter()
        .filter(|message| message.kind == Kind::Server)
        .map(|message| message.sentence.as_str())
        .collect();
    asked.sort_unstable();
    asked.dedup();
    if !asked.is_empty() {
        let _ = writeln!(
            out,
            "What the server itself refuses is passed on with its own words and SQLSTATE behind the colon; mend that and \
             run the action again. A connection that was lost, a lock that was not free and a server that shuts down are \
             tried again.\n"
        );
        for sentence in asked {
            let _ = writeln!(out, "- {sentence}");
        }
    }
    out
}

fn place() -> PathBuf {
    root().join("docs/messages.md")
}

#[test]
fn the_document_holds_every_message() {
    let wanted = document();
    if std::env::var_os("WRITE_DOCS").is_some() {
        std::fs::create_dir_all(place().parent().unwrap()).unwrap();
        std::fs::write(place(), &wanted).unwrap();
    }
    let found = std::fs::read_to_string(place()).unwrap_or_default();
    let line = wanted.lines().zip(found.lines()).find(|(wanted, found)| wanted != found);
    assert!(wanted == found, "docs/messages.md is not what the source says (run make docs), first: {line:#?}");
}

#[test]
fn every_sentence_is_whole() {
    let messages = extract::all(&root().join("src"));
    assert!(messages.len() > 200, "only {} messages found", messages.len());
    for message in &messages {
        let Message { file, sentence, meaning, cure, .. } = message;
        assert!(!meaning.is_empty(), "{file}: nothing says what this means: {sentence}");
        assert!(!sentence.contains("<?>"), "{file}: a part of this cannot be read from the source: {sentence}");
        assert!(!sentence.ends_with('.') && !sentence.contains('\n'), "{file}: not one sentence: {sentence}");
        assert!(cure.as_ref().is_none_or(|cure| !cure.trim().is_empty()), "{file}: no cure: {sentence}");
    }
}

#[test]
fn the_reader_sees_every_way_to_fail() {
    let source = r#"
        /// What it means.
        fn one(context: &C) -> R {
            let doing = format!("read {}", session.address);
            let found = match x { A => "a", B => "b" };
            Err(Failure::operator("go on", found, format!("run {}", context.command("rollback"))))?;
            Err(Error::found(&doing, format!("{} rows", n.len()), "try again"))?;
            query().map_err(Error::doing(doing.as_str()))
        }
        #[cfg(test)]
        mod tests { fn no() { Failure::operator("x", "y", "z"); } }
    "#;
    let found: Vec<String> =
        extract::file(Path::new("steps/x.rs"), source).into_iter().map(|message| message.sentence).collect();
    let expected = [
        "cannot go on: a / b; run juju run <coordinator>/leader rollback",
        "cannot read <address>: <n> rows; try again",
        "cannot read <address>",
    ];
    assert_eq!(found, expected);
}
