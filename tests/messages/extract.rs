//! Finds where a sentence for the operator is made, with the doc comment of the function that makes it: that says what
//! the sentence means.

use super::template::Names;
use coordinator::steps::preflight::checks::CHECKS;
use proc_macro2::TokenStream;
use std::path::Path;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, ImplItemFn, ItemConst, ItemEnum, ItemFn, ItemMod, Variant};

/// Where a sentence comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A finding of ours.
    Finding,
    /// A statement that the server refused.
    Server,
}

/// One sentence.
#[derive(Clone, Debug)]
pub struct Message {
    /// Below `src/`, without `.rs`.
    pub file: String,
    pub kind: Kind,
    pub sentence: String,
    /// What the function that makes it says of itself.
    pub meaning: String,
    /// What to do, where the sentence is made of parts.
    pub cure: Option<String>,
}

/// Every sentence below a folder.
pub fn all(folder: &Path) -> Vec<Message> {
    fn walk(folder: &Path, root: &Path, found: &mut Vec<Message>) {
        let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                walk(&path, root, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                found.extend(file(path.strip_prefix(root).unwrap(), &std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found
}

/// Every sentence of one file.
pub fn file(path: &Path, source: &str) -> Vec<Message> {
    let parsed = syn::parse_file(source).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut reader = Reader {
        file: path.with_extension("").to_str().unwrap().to_owned(),
        names: Names::default(),
        meaning: vec![doc(&parsed.attrs)],
        found: Vec::new(),
    };
    // Constants first: they may stand behind their use.
    for item in &parsed.items {
        if let syn::Item::Const(item) = item {
            reader.visit_item_const(item);
        }
    }
    reader.visit_file(&parsed);
    let mut seen = std::collections::BTreeSet::new();
    reader.found.retain(|message| seen.insert((message.sentence.clone(), message.meaning.clone())));
    reader.found
}

struct Reader {
    file: String,
    names: Names,
    /// Doc comments, the innermost last.
    meaning: Vec<String>,
    found: Vec<Message>,
}

/// The first paragraph of a doc comment, on one line.
fn doc(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        syn::Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(literal) => match &literal.lit {
                syn::Lit::Str(text) => Some(text.value().trim().to_owned()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    });
    lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string().contains("test"),
        _ => false,
    })
}

impl Reader {
    fn within(&mut self, attributes: &[Attribute], go_on: impl FnOnce(&mut Self)) {
        if is_test(attributes) {
            return;
        }
        let names = self.names.clone();
        let meaning = doc(attributes);
        let said = !meaning.is_empty();
        if said {
            self.meaning.push(meaning);
        }
        go_on(self);
        if said {
            self.meaning.pop();
        }
        self.names = names;
    }

    fn add(&mut self, kind: Kind, sentence: String, cure: Option<String>) {
        let meaning = self.meaning.last().cloned().unwrap_or_default();
        self.found.push(Message { file: self.file.clone(), kind, sentence, meaning, cure });
    }

    /// `Type::function(…)` as `Type::function`, `function(…)` as `function`.
    fn callee(function: &Expr) -> String {
        let Expr::Path(path) = function else { return String::new() };
        let names: Vec<String> = path.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        names[names.len().saturating_sub(2)..].join("::")
    }

    /// A sentence made of parts.
    fn call(&mut self, callee: &str, arguments: Vec<&Expr>) {
        let preflight = self.file.starts_with("steps/preflight");
        let text = |place: usize| self.names.text(arguments[place]);
        let (kind, sentence, cure) = match (callee, arguments.len()) {
            ("Failure::operator" | "Error::found", 3) => {
                (Kind::Finding, format!("cannot {}: {}; {}", text(0), text(1), text(2)), Some(text(2)))
            }
            ("Failure::retry", 2) => (Kind::Finding, format!("cannot {}: {}; trying again", text(0), text(1)), None),
            ("Error::passing", 2) => (Kind::Finding, format!("cannot {}: {}; trying again", text(0), text(1)), None),
            ("Error::doing", 1) => (Kind::Server, format!("cannot {}", text(0)), None),
            ("bad" | "hint", 2) if preflight => (Kind::Finding, format!("{}; {}", text(0), text(1)), Some(text(1))),
            ("refuse", 2) if self.file.starts_with("migration") => {
                (Kind::Finding, format!("cannot <action>: {}; run {}", text(0), text(1)), Some(text(1)))
            }
            ("wait", 2) if self.file.starts_with("steps/") => {
                let next = text(1);
                let next = if next.is_empty() { "nothing has to be done".to_owned() } else { next };
                (Kind::Finding, format!("{}; {next}", text(0)), None)
            }
            _ => return,
        };
        self.add(kind, sentence, cure);
    }

    /// A sentence that stands as a whole.
    fn whole(&mut self, sentence: String) {
        // What a macro makes of it was taken with its parts filled in.
        let raw = sentence.contains('{');
        // Sentences of nothing but parts are taken where the parts are known.
        let empty = ["cannot <action>: <why>; run ", "cannot verify: <why>; run ", "cannot <doing>: <found>"];
        if sentence.starts_with("cannot ")
            && sentence.contains(':')
            && !raw
            && !empty.iter().any(|empty| sentence.starts_with(empty))
        {
            self.add(Kind::Finding, sentence, None);
        }
    }

    /// `#[error("…")]`.
    fn attributes(&mut self, attributes: &[Attribute]) {
        for attribute in attributes {
            if let syn::Meta::List(list) = &attribute.meta
                && list.path.is_ident("error")
            {
                let sentence = self.names.formatted(list.tokens.clone());
                self.whole(sentence);
            }
        }
    }

    fn in_macro(&mut self, tokens: TokenStream) {
        for argument in Names::arguments(tokens) {
            self.visit_expr(&argument);
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_const(&mut self, item: &'ast ItemConst) {
        self.names.constant(&item.ident.to_string(), &item.expr);
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        let check = item.sig.ident.to_string().replace('_', "-");
        let judges = self.file.starts_with("steps/preflight") && doc(&item.attrs).is_empty();
        self.within(&item.attrs, |reader| {
            let depth = reader.meaning.len();
            if judges && CHECKS.iter().any(|known| known.name == check) {
                reader.meaning.push(format!("Check `{check}`."));
            }
            visit::visit_item_fn(reader, item);
            reader.meaning.truncate(depth);
        });
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.within(&item.attrs, |reader| visit::visit_impl_item_fn(reader, item));
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.within(&item.attrs, |reader| visit::visit_item_mod(reader, item));
    }

    fn visit_item_enum(&mut self, item: &'ast ItemEnum) {
        self.within(&item.attrs, |reader| visit::visit_item_enum(reader, item));
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.within(&item.attrs, |reader| reader.attributes(&item.attrs));
    }

    fn visit_variant(&mut self, variant: &'ast Variant) {
        self.within(&variant.attrs, |reader| reader.attributes(&variant.attrs));
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        visit::visit_local(self, local);
        self.names.local(local);
    }

    fn visit_expr(&mut self, expression: &'ast Expr) {
        match expression {
            Expr::Call(call) => {
                let callee = Self::callee(&call.func);
                self.call(&callee, call.args.iter().collect());
            }
            Expr::Macro(invocation) => {
                let name = invocation.mac.path.segments.last().map(|segment| segment.ident.to_string());
                if name.as_deref() == Some("format") {
                    self.whole(self.names.text(expression));
                }
                if name.is_some_and(|name| ["format", "json", "vec"].contains(&name.as_str())) {
                    self.in_macro(invocation.mac.tokens.clone());
                }
            }
            Expr::Lit(_) => self.whole(self.names.text(expression)),
            _ => {}
        }
        visit::visit_expr(self, expression);
    }
}
