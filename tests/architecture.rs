//! The import rule of `src/lib.rs`, and a size that can be read in one sitting.

use std::path::{Path, PathBuf};

/// What each part of `src/` may import from the others.
const MAY_IMPORT: [(&str, &[&str]); 13] = [
    ("main", &["charm", "worker"]),
    ("charm", &["steps", "migration", "traffic", "apps", "postgres", "controller", "juju", "worker"]),
    ("worker", &["steps", "migration", "traffic", "apps", "postgres", "controller", "juju"]),
    ("steps", &["migration", "traffic", "apps", "postgres", "controller", "juju"]),
    ("traffic", &["apps", "controller", "juju"]),
    ("apps", &["postgres"]),
    ("migration", &[]),
    ("postgres", &[]),
    ("juju", &[]),
    ("controller", &[]),
    ("lib", &[]),
    ("failpoint", &[]),
    ("password", &[]),
];

/// What everyone may import.
const EVERYONES: [&str; 2] = ["failpoint", "password"];

/// Lines of code in a file; blank lines, comments and its unit tests are not counted.
const LONGEST_FILE: usize = 400;

fn sources() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.len() > 20, "only {} files found", found.len());
    found
}

/// The part of `src/` that a file belongs to.
fn part(path: &Path) -> String {
    let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// The top-level modules that code names after `root`: `crate::`, in `main.rs` the library's name.
fn imports(line: &str, root: &str) -> Vec<String> {
    let code = line.split("//").next().unwrap_or_default();
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = Vec::new();
    for rest in code.split(root).skip(1) {
        match rest.strip_prefix('{') {
            Some(group) => found.extend(top_level(group).iter().map(|item| word(item))),
            None => found.push(word(rest)),
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

/// The items of a brace group, without what stands in inner braces.
fn top_level(group: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut depth = 0;
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => items.push(String::new()),
            _ if depth == 0 => items.last_mut().unwrap().push(c),
            _ => {}
        }
    }
    items.iter().map(|item| item.trim().to_owned()).collect()
}

#[test]
fn nothing_imports_what_it_may_not() {
    let mut wrong = Vec::new();
    for path in sources() {
        let own = part(&path);
        let (_, allowed) = MAY_IMPORT.iter().find(|(name, _)| *name == own).unwrap_or_else(|| panic!("{own} is new"));
        let root = if own == "main" { "coordinator::" } else { "crate::" };
        // Statements may span lines: join them first.
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or_default().trim()).collect();
        for statement in lines.join(" ").split(';') {
            for import in imports(statement, root) {
                let is_part =
                    !EVERYONES.contains(&import.as_str()) && MAY_IMPORT.iter().any(|(name, _)| *name == import);
                if is_part && import != own && !allowed.contains(&import.as_str()) {
                    wrong.push(format!("{} imports {import}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_imports_sees_them() {
    assert_eq!(imports("use crate::juju::{HookTools, Kind}", "crate::"), ["juju"]);
    assert_eq!(imports("use crate::{juju::{A, B}, postgres as p}", "crate::"), ["juju", "postgres"]);
    assert_eq!(imports("x = crate::steps::copy::run(crate::worker::y)", "crate::"), ["steps", "worker"]);
    assert!(imports("// use crate::steps", "crate::").is_empty());
}

#[test]
fn files_can_be_read_in_one_sitting() {
    let long: Vec<String> = sources()
        .into_iter()
        .filter_map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
            let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").filter(code).count();
            (lines > LONGEST_FILE).then(|| format!("{}: {lines} lines", path.display()))
        })
        .collect();
    assert!(long.is_empty(), "longer than {LONGEST_FILE} lines: {}", long.join(", "));
}

#[test]
fn only_the_juju_part_names_hook_tools() {
    let tools = [
        "relation-get",
        "relation-set",
        "relation-ids",
        "resource-get",
        "secret-get",
        "config-get",
        "status-set",
        "action-set",
    ];
    for path in sources() {
        if part(&path) == "juju" || path.file_name().is_some_and(|name| name == "tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for tool in tools {
            assert!(!text.contains(&format!("\"{tool}\"")), "{} names {tool}", path.display());
        }
    }
}
