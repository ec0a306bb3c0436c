//! Which module of a crate needs which, nested ones too.
//!
//! A path (`crate::a::b`, `super::b`, through a child or an import) leads to the module that *defines* what it names; names that
//! a module only hands on with `use` are followed. Modules of one parent, each with all that lies in it, must not need each
//! other in a circle. A module and those in it may name each other: it holds what they share, and composes them.

use std::collections::{BTreeMap, BTreeSet};

use super::tokens::{Named, paths, words};

/// A module's place: names from the crate's root, which is the empty path.
type Place = Vec<String>;

/// What a module that says this promises of the modules in it.
const ORDERED: &str = "A module imports only what stands above it in this file";

#[derive(Debug, Default)]
struct Module {
    /// The modules in it, in the order of their `mod` lines.
    children: Vec<String>,
    /// Whether that order is promised.
    ordered: bool,
    /// Names of the other items in it.
    items: BTreeSet<String>,
    /// Names that `use` brings, with their paths as written.
    imports: BTreeMap<String, Vec<String>>,
    /// Modules all of whose names `use` brings.
    globs: Vec<Vec<String>>,
    /// All paths in it as written.
    paths: BTreeSet<Vec<String>>,
}

/// A crate's modules.
#[derive(Debug, Default)]
pub struct Graph {
    modules: BTreeMap<Place, Module>,
    /// Those that are files.
    files: Vec<Place>,
}

/// Among the modules of one parent, those that each needs, with an example.
type Needs<'a> = BTreeMap<&'a str, BTreeMap<&'a str, String>>;

impl Graph {
    /// Adds a file: its path from the crate's folder (`a/b.rs`; `lib.rs` and `main.rs` are the root), its text, and its tokens.
    pub fn add(&mut self, file: &str, text: &str, tokens: &[String]) {
        let place: Place = match file {
            "lib.rs" | "main.rs" => Vec::new(),
            _ => file.trim_end_matches(".rs").split('/').map(str::to_owned).collect(),
        };
        self.files.push(place.clone());
        self.modules.entry(place.clone()).or_default().ordered = text.contains(ORDERED);
        self.read(place, &words(tokens));
    }

    fn read(&mut self, mut at: Place, tokens: &[&str]) {
        let mut named = paths(tokens).into_iter().peekable();
        // Of each open brace, whether it is a module's.
        let mut braces = Vec::new();
        for (i, token) in tokens.iter().enumerate() {
            let module = self.modules.entry(at.clone()).or_default();
            while let Some(Named { path, import, .. }) = named.next_if(|n| n.at == i) {
                module.paths.insert(path.clone());
                match import {
                    Some(all) if all == "*" => module.globs.push(path),
                    Some(name) => drop(module.imports.insert(name, path)),
                    None => {}
                }
            }
            let next = tokens.get(i + 1).copied().unwrap_or_default();
            match *token {
                "{" => braces.push(i >= 2 && tokens[i - 2] == "mod"),
                "}" => at.truncate(at.len() - usize::from(braces.pop() == Some(true))),
                "mod" if matches!(tokens.get(i + 2), Some(&";" | &"{")) => {
                    module.children.push(next.to_owned());
                    if tokens[i + 2] == "{" {
                        at.push(next.to_owned());
                    }
                }
                "fn" | "struct" | "enum" | "union" | "trait" | "type" | "const" | "static"
                    if !braces.contains(&false) =>
                {
                    module.items.insert(next.to_owned());
                }
                "macro_rules" => drop(tokens.get(i + 2).map(|name| module.items.insert((*name).to_owned()))),
                _ => {}
            }
        }
    }

    /// A path from the crate's root; `None` if it leads out of the crate.
    fn absolute(&self, at: &[String], path: &[String]) -> Option<Place> {
        let (first, rest) = path.split_first()?;
        let own = [at, std::slice::from_ref(first)].concat();
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" => Some([at, rest].concat()),
            "super" => {
                let (_, parent) = at.split_last()?;
                match rest.first() {
                    Some(more) if more == "super" => self.absolute(parent, rest),
                    _ => Some([parent, rest].concat()),
                }
            }
            _ if self.modules.contains_key(&own) => Some([at, path].concat()),
            name => {
                let import = self.modules.get(at)?.imports.get(name).filter(|import| import.first() != Some(first))?;
                Some([self.absolute(at, import)?.as_slice(), rest].concat())
            }
        }
    }

    /// The module that defines what a path from the root names; `None` if none of this crate does.
    fn definer(&self, path: &[String], depth: usize) -> Option<Place> {
        let mut at = Place::new();
        for (i, name) in path.iter().enumerate() {
            at.push(name.clone());
            if self.modules.contains_key(&at) {
                continue;
            }
            at.pop();
            let module = self.modules.get(&at)?;
            if module.items.contains(name) || depth == 0 {
                return Some(at);
            }
            let through = |import: &[String], rest: &[String]| {
                self.definer(&[self.absolute(&at, import)?.as_slice(), rest].concat(), depth - 1)
            };
            if let Some(import) = module.imports.get(name) {
                return through(import, &path[i + 1..]);
            }
            return module.globs.iter().find_map(|glob| through(glob, &path[i..]));
        }
        Some(at)
    }

    /// For each parent, which of the modules in it need which others.
    fn needs(&self) -> BTreeMap<&[String], Needs<'_>> {
        let mut out: BTreeMap<&[String], Needs> = BTreeMap::new();
        for (at, module) in &self.modules {
            for path in &module.paths {
                let Some(absolute) = self.absolute(at, path) else { continue };
                let deepest = || (0..=absolute.len()).rev().find(|n| self.modules.contains_key(&absolute[..*n]));
                let target = self.definer(&absolute, 16).or_else(|| deepest().map(|n| absolute[..n].to_vec()));
                let Some((target, _)) = target.and_then(|t| self.modules.get_key_value(&t)) else { continue };
                let common = at.iter().zip(target).take_while(|(a, b)| a == b).count();
                if let (Some(ours), Some(theirs)) = (at.get(common), target.get(common)) {
                    let example = format!("{} uses {} of {}", at.join("::"), path.join("::"), target.join("::"));
                    let needs = out.entry(&at[..common]).or_default().entry(ours).or_default();
                    needs.entry(theirs).or_insert(example);
                }
            }
        }
        out
    }

    /// What is wrong with the modules: circles, promised orders that are not kept, and files that no module names.
    pub fn violations(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for file in &self.files {
            if let Some((name, parent)) = file.split_last()
                && !self.modules.get(parent).is_some_and(|m| m.children.contains(name))
            {
                let parent = if parent.is_empty() { "the crate's root".into() } else { parent.join("::") };
                wrong.push(format!("{name} is not a module of {parent}"));
            }
        }
        for (parent, needs) in self.needs() {
            wrong.extend(circles(&needs).into_iter().map(|circle| format!("{}: {circle}", parent.join("::"))));
            let Some(module) = self.modules.get(parent).filter(|m| m.ordered) else { continue };
            let place = |name: &str| module.children.iter().position(|c| c == name);
            for (ours, theirs) in &needs {
                for (theirs, example) in theirs.iter().filter(|(t, _)| place(t) > place(ours)) {
                    wrong.push(format!("{theirs} stands below {ours}: {example}"));
                }
            }
        }
        wrong
    }
}

/// All that a module needs, through others too.
fn reached<'a>(needs: &'a Needs, from: &str) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<&'a str> = needs.get(from).into_iter().flat_map(BTreeMap::keys).copied().collect();
    while let Some(next) = open.pop() {
        if seen.insert(next) {
            open.extend(needs.get(next).into_iter().flat_map(BTreeMap::keys));
        }
    }
    seen
}

/// The circles among modules: each with its members and why they need each other.
fn circles(needs: &Needs) -> Vec<String> {
    let mut out = Vec::new();
    let mut told = BTreeSet::new();
    for &name in needs.keys() {
        let members: BTreeSet<&str> =
            reached(needs, name).into_iter().filter(|other| reached(needs, other).contains(name)).collect();
        if members.is_empty() || told.contains(name) {
            continue;
        }
        let list = members.iter().copied().collect::<Vec<_>>().join(", ");
        let mut circle = format!("a circle of {} modules, {list}:", members.len());
        for ours in &members {
            for (_, example) in needs[ours].iter().filter(|(theirs, _)| members.contains(*theirs)) {
                circle += &format!("\n    {example}");
            }
        }
        told.extend(members);
        out.push(circle);
    }
    out
}
