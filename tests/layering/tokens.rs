//! Source text as words and punctuation, by the lexer that procedural macros use.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A file's words and single punctuation characters without comments; a literal is `"`. Items under `#[cfg(test)]` are left out.
pub fn tokens(text: &str) -> Vec<String> {
    let stream = text.parse::<TokenStream>().unwrap_or_else(|e| panic!("{e}: {text}"));
    let mut out = Vec::new();
    flatten(stream, &mut out);
    out
}

fn flatten(stream: TokenStream, out: &mut Vec<String>) {
    let mut trees = stream.into_iter().peekable();
    while let Some(tree) = trees.next() {
        match tree {
            TokenTree::Punct(sign) if sign.as_char() == '#' => match trees.peek() {
                Some(TokenTree::Group(attribute)) if attribute.stream().to_string() == "cfg (test)" => {
                    // To the item's `;`, or to the end of its braces.
                    let ends = |tree: &TokenTree| match tree {
                        TokenTree::Punct(sign) => sign.as_char() == ';',
                        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
                        _ => false,
                    };
                    let _ = trees.by_ref().find(ends);
                }
                _ => out.push("#".into()),
            },
            TokenTree::Punct(sign) => out.push(sign.as_char().into()),
            TokenTree::Ident(word) => out.push(word.to_string()),
            TokenTree::Literal(_) => out.push("\"".into()),
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                out.push(open.into());
                flatten(group.stream(), out);
                out.push(close.into());
            }
        }
    }
}

/// The same as slices, to match against patterns.
pub fn words(tokens: &[String]) -> Vec<&str> {
    tokens.iter().map(String::as_str).collect()
}

/// A path that the text names or imports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The token that it begins at, or that of its `use`.
    pub at: usize,
    /// As it is written; one name alone only if it is imported.
    pub path: Vec<String>,
    /// The name that an import gets; `*` for all names in the path.
    pub import: Option<String>,
}

/// All paths of a text.
pub fn paths(tokens: &[&str]) -> Vec<Named> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        // `use<'a>` captures lifetimes.
        if tokens[at] == "use" && tokens.get(at + 1) != Some(&"<") {
            let length = tokens[at..].iter().position(|t| *t == ";").unwrap_or(tokens.len() - at);
            imports(at, &tokens[at + 1..at + length], &[], &mut out);
            at += length;
        } else {
            let path = path_at(&tokens[at..]);
            if path.len() > 1 {
                at += 3 * (path.len() - 1);
                out.push(Named { at: at - 3 * (path.len() - 1), path, import: None });
            }
        }
        at += 1;
    }
    out
}

/// The names joined by `::` that `tokens` begin with.
fn path_at(tokens: &[&str]) -> Vec<String> {
    let mut path = Vec::new();
    let mut rest = tokens;
    while let Some((name, after)) = rest.split_first().filter(|(name, _)| is_name(name)) {
        path.push((*name).to_owned());
        match after {
            [":", ":", after @ ..] => rest = after,
            _ => break,
        }
    }
    path
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// What stands between a `use` at token `at` and its `;`, one by one.
fn imports(at: usize, tree: &[&str], before: &[String], out: &mut Vec<Named>) {
    let mut path = before.to_vec();
    let mut rest = tree;
    let name = loop {
        match rest {
            [":", ":", after @ ..] => rest = after,
            ["{", inner @ .., "}"] => {
                let mut depth = 0;
                let parts = inner.split(|token| {
                    depth += i32::from(*token == "{") - i32::from(*token == "}");
                    depth == 0 && *token == ","
                });
                return parts.filter(|part| !part.is_empty()).for_each(|part| imports(at, part, &path, out));
            }
            ["*"] => break "*".to_owned(),
            ["as", name] => break (*name).to_owned(),
            [name, after @ ..] => {
                // `a::{self}` is a.
                if *name != "self" || path.is_empty() {
                    path.push((*name).to_owned());
                }
                rest = after;
            }
            [] => break path.last().cloned().unwrap_or_default(),
        }
    };
    out.push(Named { at, path, import: Some(name) });
}
