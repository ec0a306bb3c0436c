//! The layers of `src`, checked by reading its text: who imports whom, where tensors, JavaScript and files are allowed,
//! and that no file grows beyond what one reads at a sitting. The checker itself is tested on made-up text below.

use std::fs;
use std::path::{Path, PathBuf};

/// What one reads at a sitting; most files have about 200.
const MAX_LINES: usize = 500;
/// A path that ends in `/` allows the whole folder.
const TENSORS: &[&str] = &[
    "preprocess.rs",
    "layers.rs",
    "layers/",
    "model.rs",
    "model/",
    "lora.rs",
    "weights/adapter.rs",
    "weights/checkpoint.rs",
    "weights/modules.rs",
    "weights/upload.rs",
    "kernels.rs",
    "kernels/",
    "engine.rs",
    "engine/",
    "train.rs",
    "train/",
    "bin/samlora/commands/bench.rs",
    "bin/samlora/commands/bench/",
];
/// Time is the one thing besides its face that the library needs of JavaScript: `std::time::Instant` panics in wasm.
const JAVASCRIPT: &[&str] = &["web.rs", "web/", "engine/clock.rs"];
const FILES: &[&str] = &[
    "source.rs",
    "source/",
    "weights/file.rs",
    "weights/pytorch.rs",
    "weights/folder.rs",
    "weights/export.rs",
    "train.rs",
    "train/",
    "bin/",
];
/// Macros and methods that end the program, and how often a file may use them. The manifest's stands in a constant: it
/// can only fail the build; the GPU kernels' is for callers that mix devices, as burn's own operations panic for them.
const PANICS_ALLOWED: &[(&str, &str, usize)] =
    &[("weights/manifest.rs", "panic!", 1), ("kernels/gpu/tensor.rs", "panic!", 1)];

/// A word or a single punctuation character; comments are gone, literals are `"`.
type Tokens<'a> = Vec<&'a str>;

fn tokens(text: &str) -> Tokens<'_> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = literal(rest) {
            tokens.push("\"");
            length
        } else if first.is_alphanumeric() || first == '_' {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            tokens.push(&rest[..length]);
            length
        } else {
            if !first.is_whitespace() {
                tokens.push(&rest[..first.len_utf8()]);
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

/// The length of the string or character literal that `text` begins with; `None` for a lifetime and anything else.
fn literal(text: &str) -> Option<usize> {
    let body = text.strip_prefix('b').unwrap_or(text);
    let prefix = text.len() - body.len();
    if let Some(raw) = body.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", &raw[..hashes]);
            let start = prefix + 1 + hashes + 1;
            return Some(text[start..].find(&end).map_or(text.len(), |at| start + at + end.len()));
        }
    }
    let quote = body.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut inside = body[1..].char_indices();
    let mut count = 0;
    while let Some((at, c)) = inside.next() {
        match c {
            '\\' => drop(inside.next()),
            c if c == quote => return Some(prefix + 1 + at + 1),
            // A lifetime: no quote after one character.
            _ if quote == '\'' && count >= 1 && !body[1..].starts_with('\\') => return None,
            _ => {}
        }
        count += 1;
    }
    None
}

/// Leaves out every item under `#[cfg(test)]`.
fn without_tests<'a>(tokens: &[&'a str]) -> Tokens<'a> {
    const TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        if !tokens[i..].starts_with(&TEST) {
            kept.push(tokens[i]);
            i += 1;
            continue;
        }
        // To the item's `;`, or to the end of its braces.
        let mut depth = 0;
        i += TEST.len();
        while i < tokens.len() {
            match tokens[i] {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            i += 1;
            if depth == 0 && matches!(tokens[i - 1], "}" | ";") {
                break;
            }
        }
    }
    kept
}

/// The first names after `root ::` at token `i`: one, or those of a group in braces.
fn names_after<'a>(tokens: &[&'a str], i: usize) -> Vec<&'a str> {
    let Some(after) = tokens.get(i + 1..).and_then(|t| t.strip_prefix(&[":", ":"])) else { return Vec::new() };
    match after.first() {
        Some(&"{") => {
            let mut names = Vec::new();
            let mut depth = 0;
            for pair in after.windows(2) {
                match pair[0] {
                    "{" => depth += 1,
                    "}" => depth -= 1,
                    _ => {}
                }
                match (depth, pair[0]) {
                    (0, _) => break,
                    (1, "{" | ",") => names.push(pair[1]),
                    _ => {}
                }
            }
            names
        }
        Some(name) => vec![name],
        None => Vec::new(),
    }
}

/// The names that a file takes from the crate's root, by `crate::` or by as many `super::` as lead there. `depth` is the
/// file's own depth: 1 for `src/mask.rs`, 2 for `src/mask/regions.rs`.
fn root_names<'a>(tokens: &[&'a str], depth: usize) -> Vec<&'a str> {
    let mut names = Vec::new();
    // For each open brace, whether it is an inline module's.
    let mut braces = Vec::new();
    for (i, &token) in tokens.iter().enumerate() {
        match token {
            "{" => braces.push(i >= 2 && tokens[i - 2] == "mod"),
            "}" => drop(braces.pop()),
            "crate" => names.extend(names_after(tokens, i)),
            "super" if i < 3 || tokens[i - 3..i] != ["super", ":", ":"] => {
                let mut last = i;
                let mut supers = 1;
                while tokens[last + 1..].starts_with(&[":", ":", "super"]) {
                    last += 3;
                    supers += 1;
                }
                if supers >= depth + braces.iter().filter(|module| **module).count() {
                    names.extend(names_after(tokens, last));
                }
            }
            _ => {}
        }
    }
    names
}

/// The crate's modules, in the order of `lib.rs`.
fn modules(lib: &str) -> Vec<String> {
    tokens(lib).windows(3).filter(|t| t[0] == "mod" && t[2] == ";").map(|t| t[1].to_owned()).collect()
}

fn allowed(file: &str, places: &[&str]) -> bool {
    places.iter().any(|place| if place.ends_with('/') { file.starts_with(place) } else { file == *place })
}

/// What is wrong with a file of `src`, whose path in it is `file`.
fn violations(file: &str, text: &str, order: &[String]) -> Vec<String> {
    let tokens = without_tests(&tokens(text));
    let mut wrong = Vec::new();
    let mut say = |what: String| wrong.push(format!("src/{file}: {what}"));

    // The command is another crate, and lib.rs only lists.
    if file != "lib.rs" && !file.starts_with("bin/") {
        let own = file.split(['/', '.']).next().unwrap_or_default();
        let place = |name: &str| order.iter().position(|m| m == name);
        match place(own) {
            None => say(format!("{own} is not a module of lib.rs")),
            Some(own_place) => {
                for name in root_names(&tokens, file.split('/').count()) {
                    if place(name).is_some_and(|p| p > own_place) {
                        say(format!("imports {name}, which stands below {own} in lib.rs"));
                    }
                }
            }
        }
    }

    for (i, &token) in tokens.iter().enumerate() {
        let path = tokens[i + 1..].starts_with(&[":", ":"]);
        let attribute = i >= 2 && tokens[i - 2..i] == ["#", "["];
        let crate_name = path || attribute;
        if crate_name && (token == "burn" || token.starts_with("burn_")) && !allowed(file, TENSORS) {
            say(format!("uses {token}: tensors belong in {TENSORS:?}"));
        }
        let javascript = matches!(token, "js_sys" | "web_sys" | "serde_wasm_bindgen" | "console_error_panic_hook");
        if crate_name && (javascript || token.starts_with("wasm_bindgen")) && !allowed(file, JAVASCRIPT) {
            say(format!("uses {token}: JavaScript belongs in {JAVASCRIPT:?}"));
        }
        let files = token == "std" && names_after(&tokens, i).contains(&"fs")
            || path && matches!(token, "memmap2" | "tempfile");
        if files && !allowed(file, FILES) {
            say(format!("uses files (through {token}): they belong in {FILES:?}"));
        }
    }

    for (what, pattern) in [
        (".unwrap()", &[".", "unwrap", "("][..]),
        (".expect()", &[".", "expect", "("]),
        ("panic!", &["panic", "!"]),
        ("todo!", &["todo", "!"]),
        ("unimplemented!", &["unimplemented", "!"]),
        ("unreachable!", &["unreachable", "!"]),
    ] {
        let found = tokens.windows(pattern.len()).filter(|t| *t == pattern).count();
        let may = PANICS_ALLOWED.iter().find(|(f, w, _)| (*f, *w) == (file, what)).map_or(0, |a| a.2);
        if found > may {
            say(format!("has {found} {what} outside tests, {may} allowed: bad input is an Error"));
        }
    }
    wrong
}

/// A complaint if a text is longer than one reads at a sitting.
fn too_long(file: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > MAX_LINES).then(|| format!("{file}: {lines} lines, at most {MAX_LINES}"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Source files under a folder of the project, without what is built or fetched.
fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let extension = path.extension().unwrap_or_default().to_string_lossy();
            if path.is_dir() && !matches!(&*name, "node_modules" | "dist" | "wasm" | "fixtures") {
                folders.push(path);
            } else if path.is_file() && matches!(&*extension, "rs" | "ts" | "mjs" | "py" | "sh" | "css" | "html") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> (String, String) {
    let name = path.strip_prefix(root()).unwrap_or(path).to_string_lossy().replace('\\', "/");
    (name, fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

#[test]
fn modules_import_only_what_stands_above_them() {
    let order = modules(&read(&root().join("src/lib.rs")).1);
    assert!(order.len() > 10, "{order:?}");
    let files = sources("src");
    assert!(files.len() > 30, "{} files", files.len());
    let wrong: Vec<_> = files
        .iter()
        .flat_map(|path| {
            let (name, text) = read(path);
            violations(name.trim_start_matches("src/"), &text, &order)
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn files_are_short() {
    let files = ["src", "tests", "www"].into_iter().flat_map(sources).map(|path| read(&path));
    let wrong: Vec<_> = files.filter_map(|(name, text)| too_long(&name, &text)).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// What the checker says about `text` as `file`, in a crate of three modules.
fn verdict(file: &str, text: &str) -> String {
    violations(file, text, &["error".into(), "mask".into(), "web".into(), "weights".into()]).join("; ")
}

#[test]
fn the_order_comes_from_lib_rs() {
    let lib = "//! mod not_this;\npub mod error;\n#[cfg(test)]\nmod mask;\n/* mod nor_this; */ pub(crate) mod web;";
    assert_eq!(modules(lib), ["error", "mask", "web"]);
}

#[test]
fn imports_from_below_are_found() {
    for text in [
        "use crate::web;",
        "use crate::{error::Error, web::Page};",
        "use super::web::Page;",
        "fn f() -> crate::web::Page { crate::error::x() }",
        "mod inside { use super::super::web; }",
    ] {
        assert!(verdict("mask.rs", text).contains("imports web, which stands below mask"), "{text}");
    }
    assert!(verdict("mask/regions.rs", "use super::super::web;").contains("imports web"));
    assert!(verdict("paint.rs", "").contains("paint is not a module"));
    for text in [
        "use crate::error::{Error, web};",
        "use crate::mask::web; // crate::web",
        "/// [`crate::web`]\nconst A: &str = \"crate::web\"; const B: &str = r#\"\"crate::web\"#; const C: char = '\"';",
        "mod inside { use super::web; }",
        "#[cfg(test)]\nmod tests { #[test] fn f() { use crate::web; } }",
        "fn f<'a>(x: &'a str) -> &'a str { x }",
    ] {
        assert_eq!(verdict("mask.rs", text), "", "{text}");
    }
    assert_eq!(verdict("mask/regions.rs", "use super::web;"), "");
    assert!(
        verdict("mask.rs", "fn f<'a>(x: &'a str) {} use crate::web; const C: char = '\\'';").contains("imports web")
    );
    assert!(verdict("mask.rs", "#[cfg(test)] use a::{b}; use crate::web;").contains("imports web"));
}

#[test]
fn what_is_out_of_place_is_found() {
    for (file, text, what) in [
        ("mask.rs", "use burn::tensor::Tensor;", "tensors belong"),
        ("weights/export.rs", "fn f(x: burn_flex::Thing) {}", "tensors belong"),
        ("mask.rs", "use js_sys::Date;", "JavaScript belongs"),
        ("mask.rs", "#[wasm_bindgen(start)] fn f() {}", "JavaScript belongs"),
        ("mask.rs", "use std::fs::File;", "uses files"),
        ("mask.rs", "use std::{io, fs};", "uses files"),
        ("mask.rs", "fn f() { std::fs::read(p); }", "uses files"),
        ("weights/manifest.rs", "use memmap2::Mmap;", "uses files"),
        ("mask.rs", "fn f() { x.unwrap(); }", "1 .unwrap() outside tests"),
        ("mask.rs", "fn f() { x\n    .expect(\"why\") }", ".expect()"),
        ("mask.rs", "fn f() { panic!() }", "panic!"),
        ("bin/samlora/main.rs", "fn main() { todo!() }", "todo!"),
        ("weights/manifest.rs", "fn f() { panic!(); panic!() }", "2 panic! outside tests, 1 allowed"),
    ] {
        assert!(verdict(file, text).contains(what), "{file}: {text}: {}", verdict(file, text));
    }
    for (file, text) in [
        ("weights/adapter.rs", "use burn::tensor::Tensor;"),
        ("web/page.rs", "use js_sys::Date; #[wasm_bindgen] fn f() {}"),
        ("weights/folder.rs", "use std::fs::File;"),
        ("bin/samlora/main.rs", "use std::fs; use crate::web;"),
        ("mask.rs", "fn f() { x.unwrap_or(1); x.unwrap_or_default(); burn(x); }"),
        ("weights/manifest.rs", "const A: u8 = panic!();"),
        ("mask.rs", "#[cfg(test)] mod tests { fn f() { x.unwrap(); panic!(\"}\") } }"),
    ] {
        assert_eq!(verdict(file, text), "", "{file}: {text}");
    }
}

#[test]
fn long_files_are_found() {
    assert_eq!(too_long("a.rs", &"x\n".repeat(MAX_LINES)), None);
    assert_eq!(too_long("a.rs", &"x\n".repeat(MAX_LINES + 1)), Some("a.rs: 501 lines, at most 500".into()));
}
