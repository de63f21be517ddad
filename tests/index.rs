//! `tests/README.md` says which test shows what. Held to the tree here: every test that it names exists, what it calls
//! slow is left to `make test-all` and nothing else is, and every scenario and every runbook test is named.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Behind the name of a test that `make test` leaves out.
const SLOW: &str = " (slow)";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Every test of this binary by its path, and whether it is left to `make test-all`.
fn tests() -> BTreeMap<String, bool> {
    let mut found = BTreeMap::new();
    collect(&root(), &[], &mut found);
    found
}

fn collect(folder: &Path, path: &[String], found: &mut BTreeMap<String, bool>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap().path();
        let stem = entry.file_stem().unwrap().to_str().unwrap().to_owned();
        let inner = |last: &str| path.iter().cloned().chain([last.to_owned()]).collect::<Vec<_>>();
        // A crate of its own has tests of its own.
        if entry.is_dir() && !entry.join("Cargo.toml").exists() {
            collect(&entry, &inner(&stem), found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") && stem != "main" {
            let module = if stem == "mod" { path.to_vec() } else { inner(&stem) };
            let file = syn::parse_file(&std::fs::read_to_string(&entry).unwrap()).unwrap();
            file.items.iter().for_each(|item| read(item, &module, found));
        }
    }
}

fn read(item: &syn::Item, module: &[String], found: &mut BTreeMap<String, bool>) {
    match item {
        syn::Item::Fn(function) if has(&function.attrs, "test") => {
            let path = module.iter().cloned().chain([function.sig.ident.to_string()]).collect::<Vec<_>>().join("::");
            found.insert(path, has(&function.attrs, "ignore"));
        }
        // `slow! { name: …; }` makes slow tests of these names.
        syn::Item::Macro(made) if made.mac.path.is_ident("slow") => {
            for line in made.mac.tokens.to_string().split(';') {
                if let Some((name, _)) = line.split_once(':') {
                    found.insert(format!("{}::{}", module.join("::"), name.trim()), true);
                }
            }
        }
        _ => {}
    }
}

fn has(attributes: &[syn::Attribute], name: &str) -> bool {
    attributes.iter().any(|attribute| attribute.path().segments.last().is_some_and(|last| last.ident == name))
}

/// The names in backquotes that are paths of tests, with whether they are called slow.
fn named(text: &str) -> Vec<(String, bool)> {
    let parts: Vec<&str> = text.split('`').collect();
    let pairs = parts.iter().skip(1).step_by(2).zip(parts.iter().skip(2).step_by(2));
    pairs
        .filter(|(name, _)| name.contains("::"))
        .map(|(name, behind)| ((*name).to_owned(), behind.starts_with(SLOW)))
        .collect()
}

#[test]
fn the_list_of_tests_is_true() {
    let (tests, text) = (tests(), std::fs::read_to_string(root().join("README.md")).unwrap());
    let named = named(&text);
    assert!(named.len() > 100, "{} names", named.len());
    let mut wrong = Vec::new();
    for (name, slow) in &named {
        match tests.get(name) {
            None => wrong.push(format!("{name} is no test")),
            Some(is) if is != slow => wrong.push(format!("{name} is {}slow", if *is { "" } else { "not " })),
            Some(_) => {}
        }
    }
    let known: BTreeSet<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
    let must = |name: &&String| ["scenarios::", "runbook::", "chaos::"].iter().any(|ring| name.starts_with(ring));
    let missing = tests.keys().filter(must).filter(|name| !known.contains(name.as_str()));
    wrong.extend(missing.map(|name| format!("{name} is not named")));
    assert!(wrong.is_empty(), "tests/README.md: {wrong:#?}");
}

#[test]
fn what_the_matrix_names_exists() {
    let tests = tests();
    let document = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/ory-matrix.md");
    let text = std::fs::read_to_string(document).unwrap();
    let named = named(&text);
    assert!(named.len() > 10, "{} names", named.len());
    let unknown: Vec<&String> = named.iter().map(|(name, _)| name).filter(|name| !tests.contains_key(*name)).collect();
    assert!(unknown.is_empty(), "docs/ory-matrix.md: {unknown:?} is no test");
}
