//! The text that an expression makes, as far as it can be told without running it: what is only known then stands in
//! angle brackets.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use std::collections::BTreeMap;
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::{Expr, Lit, Local, Pat, Stmt, Token};

/// The tokens without the dot by which an error's message begins a field's name: `name = .app.name`.
fn undotted(tokens: TokenStream) -> TokenStream {
    let mut begins = false;
    let dropped =
        |token: &TokenTree, begins: bool| begins && matches!(token, TokenTree::Punct(p) if p.as_char() == '.');
    let kept = tokens.into_iter().filter(|token| {
        let drop = dropped(token, begins);
        begins = matches!(token, TokenTree::Punct(p) if matches!(p.as_char(), '=' | ','));
        !drop
    });
    kept.collect()
}

/// Names whose text is known: constants of the file, and what the function bound before.
#[derive(Clone, Debug, Default)]
pub struct Names(BTreeMap<String, String>);

impl Names {
    /// A constant.
    pub fn constant(&mut self, name: &str, value: &Expr) {
        if let Expr::Lit(literal) = value
            && let Lit::Str(text) = &literal.lit
        {
            self.0.insert(name.to_owned(), text.value());
        }
    }

    /// `let name = …`.
    pub fn local(&mut self, local: &Local) {
        let pattern = match &local.pat {
            Pat::Type(typed) => &typed.pat,
            other => other,
        };
        let (Pat::Ident(name), Some(init)) = (pattern, &local.init) else { return };
        let value = match &*init.expr {
            Expr::Closure(closure) => &closure.body,
            other => other,
        };
        let text = self.text(value);
        // A name that only stands for something unknown is better known by itself.
        if !text.starts_with('<') || text.contains("> ") || text.contains(" / ") {
            self.0.insert(name.ident.to_string(), text);
        } else {
            self.0.remove(&name.ident.to_string());
        }
    }

    /// The arguments of a macro; none when they are no expressions.
    pub fn arguments(tokens: TokenStream) -> Vec<Expr> {
        let parser = Punctuated::<Expr, Token![,]>::parse_terminated;
        parser.parse2(undotted(tokens)).map(|list| list.into_iter().collect()).unwrap_or_default()
    }

    /// What `format!` with these tokens makes.
    pub fn formatted(&self, tokens: TokenStream) -> String {
        let arguments = Self::arguments(tokens);
        let Some((first, rest)) = arguments.split_first() else { return "<?>".to_owned() };
        let Expr::Lit(literal) = first else { return "<?>".to_owned() };
        let Lit::Str(format) = &literal.lit else { return "<?>".to_owned() };
        let mut positional = rest.iter().filter(|argument| !matches!(argument, Expr::Assign(_)));
        let named = |name: &str| {
            rest.iter().find_map(|argument| match argument {
                Expr::Assign(pair) if pair.left.to_token_stream().to_string() == name => Some(self.text(&pair.right)),
                _ => None,
            })
        };
        let mut out = String::new();
        let format = format.value().replace("{{", "\u{1}").replace("}}", "\u{2}");
        let mut pieces = format.split('{');
        out.push_str(pieces.next().unwrap_or_default());
        for piece in pieces {
            let (inside, after) = piece.split_once('}').unwrap_or((piece, ""));
            let name = inside.split(':').next().unwrap_or_default();
            let value = match name {
                "" => positional.next().map_or("<?>".to_owned(), |argument| self.text(argument)),
                name => named(name).or_else(|| self.0.get(name).cloned()).unwrap_or_else(|| bracket(name)),
            };
            out.push_str(&value);
            out.push_str(after);
        }
        out.replace('\u{1}', "{").replace('\u{2}', "}")
    }

    /// The text that an expression makes.
    pub fn text(&self, expression: &Expr) -> String {
        match expression {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => text.value(),
                other => other.to_token_stream().to_string(),
            },
            Expr::Macro(invocation) if invocation.mac.path.is_ident("format") => {
                self.formatted(invocation.mac.tokens.clone())
            }
            Expr::Reference(inner) => self.text(&inner.expr),
            Expr::Paren(inner) => self.text(&inner.expr),
            Expr::Unary(inner) => self.text(&inner.expr),
            Expr::Try(inner) => self.text(&inner.expr),
            Expr::Await(inner) => self.text(&inner.base),
            Expr::Path(path) => {
                let name = path.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
                self.0.get(&name).cloned().unwrap_or_else(|| bracket(&name))
            }
            Expr::Field(field) => bracket(&field.member.to_token_stream().to_string()),
            Expr::Index(index) => self.text(&index.expr),
            Expr::MethodCall(call) => self.method(call),
            Expr::Call(call) => self.call(call),
            Expr::Block(block) => self.block(&block.block),
            Expr::If(branches) => {
                let mut texts = vec![self.block(&branches.then_branch)];
                if let Some((_, other)) = &branches.else_branch {
                    texts.push(self.text(other));
                }
                either(texts)
            }
            Expr::Match(branches) => either(branches.arms.iter().map(|arm| self.text(&arm.body)).collect()),
            _ => "<…>".to_owned(),
        }
    }

    fn block(&self, block: &syn::Block) -> String {
        match block.stmts.last() {
            Some(Stmt::Expr(expression, None)) => self.text(expression),
            Some(Stmt::Macro(invocation)) if invocation.mac.path.is_ident("format") => {
                self.formatted(invocation.mac.tokens.clone())
            }
            _ => "<…>".to_owned(),
        }
    }

    fn method(&self, call: &syn::ExprMethodCall) -> String {
        let name = call.method.to_string();
        match (name.as_str(), call.args.first()) {
            ("command", Some(action)) => format!("juju run <coordinator>/leader {}", self.text(action)),
            ("len" | "count" | "as_millis" | "as_secs", _) => "<n>".to_owned(),
            (
                "to_owned" | "into" | "to_string" | "as_str" | "clone" | "as_ref" | "trim_end_matches" | "join"
                | "trim_end" | "as_deref" | "unwrap_or_default" | "name" | "first" | "iter" | "cloned" | "display"
                | "sentence",
                _,
            ) => self.text(&call.receiver),
            ("address" | "describe" | "model_flag" | "accepted", _) => bracket(&name),
            _ => bracket(&name),
        }
    }

    fn call(&self, call: &syn::ExprCall) -> String {
        let Expr::Path(path) = &*call.func else { return "<…>".to_owned() };
        let name = path.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
        match (name.as_str(), call.args.first()) {
            // Calls of closures that were bound before.
            (name, None) => self.0.get(name).cloned().unwrap_or_else(|| bracket(name)),
            ("Some" | "Ok" | "from" | "human_bytes" | "ident" | "literal", Some(inner)) => self.text(inner),
            ("new", _) => String::new(),
            (name, _) => bracket(name),
        }
    }
}

/// Alternatives, each once.
fn either(texts: Vec<String>) -> String {
    let mut seen: Vec<String> = Vec::new();
    for text in texts {
        if !seen.contains(&text) {
            seen.push(text);
        }
    }
    seen.join(" / ")
}

fn bracket(name: &str) -> String {
    format!("<{}>", name.replace('_', " "))
}
