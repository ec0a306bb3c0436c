//! The documents show only what is there: subcommands and options of the command, targets of the Makefile, files, links and
//! headings that are linked to; and nothing of the command or of the manual is shown nowhere.
#![cfg(feature = "cli")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Documents beside the manual's pages, `docs/src/*.md`.
const DOCUMENTS: [&str; 9] = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "tests/README.md",
    "tests/peers/README.md",
    "www/README.md",
    "www/bench/README.md",
    "www/demo/MODEL_CARD.md",
];
/// What a README may have at most, so that it is read.
const README_LINES: usize = 150;
/// Options of cargo that stand alone in a text.
const OPTIONS_OF_OTHERS: [&str; 1] = ["--features"];
/// Folders that texts name files in.
const FOLDERS: [&str; 7] = ["src/", "tests/", "www/", "docs/", "examples/", ".ci/", ".github/"];
/// Files that a build makes.
const BUILT: [&str; 5] = ["www/dist", "www/node_modules", "www/wasm", "www/test/screenshots", "docs/book"];

/// A document, its text with included files in place of their names.
struct Document {
    name: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn folder_of(document: &str) -> PathBuf {
    root().join(document).parent().map(Path::to_owned).unwrap_or_default()
}

/// Pages of the manual.
fn pages() -> Vec<String> {
    let entries = root().join("docs/src").read_dir().expect("the manual");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let mut pages: Vec<String> = names.filter(|n| n.ends_with(".md")).map(|n| format!("docs/src/{n}")).collect();
    pages.sort();
    pages
}

fn documents() -> Vec<Document> {
    let names = DOCUMENTS.iter().map(|name| (*name).to_owned()).chain(pages());
    names.map(|name| Document { text: with_includes(&name), name }).collect()
}

/// The text of a document, mdBook's `{{#include FILE}}` replaced by the file.
fn with_includes(document: &str) -> String {
    let folder = folder_of(document);
    let line = |line: &str| match line.strip_prefix("{{#include ").and_then(|rest| rest.strip_suffix("}}")) {
        Some(file) => std::fs::read_to_string(folder.join(file)).unwrap_or_else(|e| panic!("{document}: {file}: {e}")),
        None => line.to_owned(),
    };
    read(document).lines().map(line).collect::<Vec<_>>().join("\n")
}

impl Document {
    fn fenced(&self) -> impl Iterator<Item = &str> {
        self.text.split("```").skip(1).step_by(2)
    }

    /// What stands between code blocks.
    fn prose(&self) -> String {
        self.text.split("```").step_by(2).collect()
    }

    /// Lines of the code blocks without comments, with continued lines joined.
    fn block_commands(&self) -> Vec<String> {
        let fenced = self.fenced().flat_map(|block| block.lines().skip(1));
        let indented = self.text.lines().filter(|line| line.starts_with("    "));
        let mut commands = Vec::new();
        let mut begun = String::new();
        for line in fenced.chain(indented) {
            let line = line.split(" #").next().unwrap_or_default().trim();
            begun.push_str(line.trim_end_matches('\\'));
            if !line.ends_with('\\') {
                commands.push(std::mem::take(&mut begun));
            }
        }
        commands
    }

    /// Code within sentences, each on one line.
    fn inline(&self) -> Vec<String> {
        let one_line = |code: &str| code.split_whitespace().collect::<Vec<_>>().join(" ");
        self.prose().split('`').skip(1).step_by(2).map(one_line).collect()
    }

    /// All commands, without variables that are set before them (`A=1 make test`).
    fn commands(&self) -> Vec<String> {
        let bare = |command: String| {
            let words = command.split(' ').skip_while(|word| {
                word.split_once('=').is_some_and(|(name, _)| {
                    !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
                })
            });
            words.collect::<Vec<_>>().join(" ")
        };
        self.block_commands().into_iter().chain(self.inline()).map(bare).collect()
    }

    /// Targets of links.
    fn links(&self) -> Vec<String> {
        let prose = self.prose();
        let text: String = prose.split('`').step_by(2).collect::<Vec<_>>().join("code");
        text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).map(str::to_owned).collect()
    }

    /// The anchors of its headings, as GitHub and mdBook make them.
    fn anchors(&self) -> BTreeSet<String> {
        let prose = self.prose();
        let headings = prose
            .lines()
            .filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')));
        let anchor = |heading: &str| {
            let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
        };
        headings.map(anchor).collect()
    }
}

/// What `samlora --help` and `samlora SUBCOMMAND --help` print, the former under an empty name.
fn helps() -> BTreeMap<String, String> {
    let help = |arguments: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_samlora")).args(arguments).arg("--help").output().expect("it runs");
        assert!(output.status.success(), "samlora {arguments:?} --help");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let all = help(&[]);
    let listed = all.lines().skip_while(|l| !l.starts_with("Commands:")).skip(1).take_while(|l| l.starts_with("  "));
    let names = listed.filter_map(|l| l.split_whitespace().next()).filter(|name| *name != "help");
    let mut helps: BTreeMap<String, String> = names.map(|name| (name.to_owned(), help(&[name]))).collect();
    assert!(helps.len() > 5, "{all}");
    helps.insert(String::new(), all);
    helps
}

fn has_option(help: &str, option: &str) -> bool {
    help.split(|c: char| c.is_whitespace() || matches!(c, ',' | '=' | '[' | ']')).any(|word| word == option)
}

fn options(words: &str) -> impl Iterator<Item = &str> {
    words.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 2)
}

#[test]
fn every_command_and_option_exists() {
    let helps = helps();
    let mut shown = BTreeSet::new();
    for document in documents() {
        let name = &document.name;
        for command in document.commands() {
            // Sentences also name a subcommand alone: `export --run`.
            let arguments = match command.strip_prefix("samlora ") {
                Some(arguments) if arguments.starts_with('=') => continue,
                Some(arguments) => arguments,
                None if helps.contains_key(command.split(' ').next().unwrap_or_default()) && command.contains("--") => {
                    &command
                }
                None => continue,
            };
            let subcommand =
                arguments.split_whitespace().next().filter(|word| !word.starts_with("--")).unwrap_or_default();
            let Some(help) = helps.get(subcommand) else { panic!("{name}: there is no samlora {subcommand}") };
            for option in options(arguments) {
                assert!(has_option(help, option), "{name}: samlora {subcommand} has no {option}");
            }
            shown.insert(subcommand.to_owned());
        }
    }
    for subcommand in helps.keys().filter(|name| !name.is_empty()) {
        assert!(shown.contains(subcommand), "no document shows samlora {subcommand}");
    }
}

#[test]
fn options_that_stand_alone_are_the_commands() {
    let helps = helps();
    let ours = |name: &str| name.starts_with("docs/") || !name.contains('/');
    for document in documents().iter().filter(|d| ours(&d.name) && d.name != "docs/src/javascript.md") {
        for code in document.inline().iter().filter(|code| code.starts_with("--")) {
            for option in options(code).filter(|option| !OPTIONS_OF_OTHERS.contains(option)) {
                let known = helps.values().any(|help| has_option(help, option));
                assert!(known, "{}: no subcommand has {option}", document.name);
            }
        }
    }
}

#[test]
fn every_make_target_exists() {
    let makefile = read("Makefile");
    let targets: BTreeSet<&str> =
        makefile.lines().filter_map(|l| l.split_once(':')).flat_map(|(names, _)| names.split_whitespace()).collect();
    for document in documents() {
        for command in document.commands() {
            let Some(words) = command.strip_prefix("make ") else { continue };
            for target in words.split_whitespace().filter(|w| !w.contains('=')) {
                assert!(targets.contains(target), "{}: there is no make {target}", document.name);
            }
        }
    }
}

#[test]
fn every_file_that_is_named_exists() {
    for document in documents() {
        for command in document.commands() {
            let words: Vec<&str> = command.split_whitespace().collect();
            for word in &words {
                let word = word.trim_matches(|c: char| matches!(c, ',' | ';' | ':' | '(' | ')' | '"' | '\''));
                let is_path = FOLDERS.iter().any(|folder| word.starts_with(folder));
                if !is_path || word.contains(['*', '<', '{', '…']) || BUILT.iter().any(|built| word.starts_with(built))
                {
                    continue;
                }
                let exists = root().join(word).exists() || folder_of(&document.name).join(word).exists();
                // The pages of the npm package's own manual name files of its folder.
                assert!(exists || root().join("www").join(word).exists(), "{}: there is no {word}", document.name);
            }
            for pair in words.windows(2).filter(|_| words[0] == "cargo") {
                let file = match pair {
                    ["--test", name] => format!("tests/{name}.rs"),
                    ["--example", name] => format!("examples/{name}.rs"),
                    _ => continue,
                };
                let placeholder = pair[1].bytes().all(|b| b.is_ascii_uppercase());
                assert!(placeholder || root().join(&file).exists(), "{}: there is no {file}", document.name);
            }
        }
    }
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    for document in documents() {
        let name = &document.name;
        for link in document.links().iter().filter(|link| !link.starts_with("http")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { root().join(name) } else { folder_of(name).join(file) };
            assert!(target.exists(), "{name} links to {file}, which is not there");
            // What a page of the book links to must be in the book.
            assert!(!name.starts_with("docs/") || !file.contains('/'), "{name} links to {file}, which is no page");
            if !anchor.is_empty() {
                let target = target.canonicalize().expect("it exists");
                let target =
                    target.strip_prefix(root().canonicalize().expect("a folder")).expect("a file of the project");
                let text = with_includes(&target.to_string_lossy());
                let linked = Document { name: file.to_owned(), text };
                assert!(linked.anchors().contains(anchor), "{name} links to {link}, which has no such heading");
            }
        }
    }
}

#[test]
fn the_manual_is_complete() {
    let summary = Document { name: "docs/src/SUMMARY.md".into(), text: read("docs/src/SUMMARY.md") };
    let links: BTreeSet<String> = summary.links().into_iter().map(|link| format!("docs/src/{link}")).collect();
    for page in pages().iter().filter(|page| **page != summary.name) {
        assert!(links.contains(page), "SUMMARY.md leaves out {page}");
    }
    let manual: String = pages().iter().map(|page| read(page)).collect();
    for example in root().join("examples").read_dir().expect("examples") {
        let example = example.expect("an entry").file_name().to_string_lossy().into_owned();
        assert!(manual.contains(&format!("examples/{example}")), "the manual says nothing of examples/{example}");
    }
}

#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= README_LINES, "README.md has {lines} lines, at most {README_LINES}");
}

#[test]
fn what_is_not_there_is_found() {
    let text = "# A heading: with `code`\n[x](#a-heading-with-code) and `make\ntest`, `A=1 make peers`\n\
                ```sh\nsamlora train \\\n    --data d # [y](z)\n```\n![p](q.png)";
    let document = Document { name: "x.md".into(), text: text.into() };
    assert_eq!(document.links(), ["#a-heading-with-code", "q.png"]);
    assert!(document.anchors().contains("a-heading-with-code"), "{:?}", document.anchors());
    let commands = document.commands();
    for command in ["samlora train --data d", "make test", "make peers", "code"] {
        assert!(commands.iter().any(|c| c == command), "{command} in {commands:?}");
    }
    assert!(has_option("  -V, --version  Print [default: x]", "--version") && !has_option("--versions", "--version"));
}
