//! The layers of `src`, checked by reading its text: who imports whom, where tensors, JavaScript and files are allowed,
//! and that no file grows beyond what one reads at a sitting. The checker itself is tested on made-up text below.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "layering/graph.rs"]
mod graph;
#[path = "layering/tokens.rs"]
mod tokens;

use graph::Graph;
use tokens::{paths, tokens, words};

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
    "vector.rs",
    "vector/",
    "weights/file.rs",
    "weights/pytorch.rs",
    "weights/folder.rs",
    "weights/export.rs",
    "area/fingerprint.rs",
    "area/block.rs",
    "area/store.rs",
    "train.rs",
    "train/",
    "bin/",
];
/// Macros and methods that end the program, and how often a file may use them. The manifest's stands in a constant: it
/// can only fail the build; the GPU kernels' is for callers that mix devices, as burn's own operations panic for them.
const PANICS_ALLOWED: &[(&str, &str, usize)] =
    &[("weights/manifest.rs", "panic!", 1), ("kernels/gpu/tensor.rs", "panic!", 1)];

fn allowed(file: &str, places: &[&str]) -> bool {
    places.iter().any(|place| if place.ends_with('/') { file.starts_with(place) } else { file == *place })
}

/// What is wrong with a file of `src`, whose path in it is `file`, besides what it imports of the crate.
fn violations(file: &str, tokens: &[String]) -> Vec<String> {
    let tokens = words(tokens);
    let mut wrong = Vec::new();
    let mut say = |what: String| wrong.push(format!("src/{file}: {what}"));

    let named: Vec<Vec<String>> = paths(&tokens).into_iter().map(|n| n.path).collect();
    let attributes = tokens.windows(3).filter(|t| t[..2] == ["#", "["]).map(|t| t[2]);
    for name in named.iter().map(|path| path[0].as_str()).chain(attributes) {
        if (name == "burn" || name.starts_with("burn_")) && !allowed(file, TENSORS) {
            say(format!("uses {name}: tensors belong in {TENSORS:?}"));
        }
        let javascript = matches!(name, "js_sys" | "web_sys" | "serde_wasm_bindgen" | "console_error_panic_hook");
        if (javascript || name.starts_with("wasm_bindgen")) && !allowed(file, JAVASCRIPT) {
            say(format!("uses {name}: JavaScript belongs in {JAVASCRIPT:?}"));
        }
    }
    for path in &named {
        let files =
            matches!(path[0].as_str(), "memmap2" | "tempfile") || path.starts_with(&["std".into(), "fs".into()]);
        if files && !allowed(file, FILES) {
            say(format!("uses files (through {}): they belong in {FILES:?}", path.join("::")));
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

/// The command is a crate of its own.
const COMMAND: &str = "bin/samlora/";

#[test]
fn modules_import_only_what_stands_above_them() {
    let files = sources("src");
    assert!(files.len() > 30, "{} files", files.len());
    let (mut library, mut command) = (Graph::default(), Graph::default());
    let mut wrong = Vec::new();
    for path in files.iter().filter(|p| p.extension().is_some_and(|e| e == "rs")) {
        let (name, text) = read(path);
        let file = name.trim_start_matches("src/");
        let tokens = tokens(&text);
        wrong.extend(violations(file, &tokens));
        match file.strip_prefix(COMMAND) {
            Some(file) => command.add(file, &text, &tokens),
            None => library.add(file, &text, &tokens),
        }
    }
    wrong.extend(library.violations().into_iter().chain(command.violations()));
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn files_are_short() {
    let files = ["src", "tests", "www"].into_iter().flat_map(sources).map(|path| read(&path));
    let wrong: Vec<_> = files.filter_map(|(name, text)| too_long(&name, &text)).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// What the checker says about `text` as `file`, in a crate of four modules in this order.
fn verdict(file: &str, text: &str) -> String {
    let files = [
        (
            "lib.rs",
            "//! A module imports only what stands above it in this file.\nmod error; mod mask; mod web; mod weights;",
        ),
        ("error.rs", "pub struct Error; pub mod code;"),
        ("mask.rs", "pub mod regions;"),
        ("web.rs", "pub struct Page;"),
        ("weights.rs", "pub mod adapter; pub mod export; pub mod folder; pub mod manifest;"),
    ];
    let mut all: Vec<(&str, &str)> = files.into_iter().filter(|(name, _)| *name != file).collect();
    all.push((file, text));
    let mut wrong = violations(file, &tokens(text));
    wrong.extend(crate_of(&all));
    wrong.join("; ")
}

fn crate_of(files: &[(&str, &str)]) -> Vec<String> {
    let mut graph = Graph::default();
    files.iter().for_each(|(file, text)| graph.add(file, text, &tokens(text)));
    graph.violations()
}

#[test]
fn imports_from_below_are_found() {
    for text in [
        "use crate::web;",
        "use crate::{error::Error, web::Page};",
        "use super::web::Page;",
        "fn f() -> crate::web::Page { crate::error::x() }",
        "fn f() { format!(\"{}\", crate::web::x()) }",
        "mod inside { use super::super::web; }",
        "fn f<'a>(x: &'a str) {} use crate::web; const C: char = '\\'';",
        "#[cfg(test)] use a::{b}; use crate::web;",
    ] {
        let text = format!("pub mod regions; {text}");
        assert!(verdict("mask.rs", &text).contains("web stands below mask"), "{text}: {}", verdict("mask.rs", &text));
    }
    assert!(verdict("mask/regions.rs", "use super::super::web;").contains("web stands below mask"));
    assert!(verdict("paint.rs", "").contains("paint is not a module"));
    for text in [
        "use crate::error::{Error, code};",
        "use crate::mask::web; // crate::web",
        "/// [`crate::web`]\nconst A: &str = \"crate::web\"; const B: &str = r#\"\"crate::web\"#; const C: char = '\"';",
        "mod inside { use super::web; }",
        "#[cfg(test)]\nmod tests { #[test] fn f() { use crate::web; } }",
        "fn f<'a>(x: &'a str) -> &'a str { x }",
    ] {
        assert_eq!(verdict("mask.rs", &format!("pub mod regions; {text}")), "", "{text}");
    }
    assert_eq!(verdict("mask/regions.rs", "use super::web;"), "");
}

#[test]
fn circles_are_found_at_every_depth() {
    let three = |a: &str, b: &str, c: &str| {
        crate_of(&[
            ("lib.rs", "mod x;"),
            ("x.rs", "mod a; mod b; mod c; pub struct Shared; pub use c::C;"),
            ("x/a.rs", a),
            ("x/b.rs", b),
            ("x/c.rs", c),
        ])
    };
    let c = "pub struct C; use super::Shared;";
    assert!(three("use super::{Shared, b::B};", "pub struct B; use super::c;", c).is_empty());
    for (a, b, c, size) in [
        ("pub struct A; use super::b::B;", "pub struct B; use super::a::A;", c, 2),
        ("pub struct A; use super::b::B;", "pub struct B; use super::c::C;", "pub struct C; use crate::x::a::A;", 3),
        // Through a name that the parent hands on, a renamed import, an inline module, and all names of one.
        ("pub struct A; use super::C;", "", "pub struct C; fn f(x: super::a::A) {}", 2),
        ("pub fn a() {} use super::c as other; fn f() { other::C }", "", "pub struct C; fn f() { super::a::a() }", 2),
        ("pub struct A; mod deep { use super::super::C; }", "", "pub struct C; use super::a::A;", 2),
        ("pub use super::b::*; use super::c::C;", "pub struct B;", "pub struct C; use super::a;", 2),
    ] {
        let found = three(a, b, c);
        assert!(
            found.len() == 1 && found[0].contains(&format!("a circle of {size} modules")),
            "{a} {b} {c}: {found:?}"
        );
    }
    // Folders that need each other, although no two files do.
    let found = crate_of(&[
        ("main.rs", "mod a; mod b;"),
        ("a.rs", "pub mod x; pub mod y;"),
        ("b.rs", "pub mod x; pub mod y;"),
        ("a/x.rs", "use crate::b::x;"),
        ("a/y.rs", ""),
        ("b/x.rs", ""),
        ("b/y.rs", "use crate::a::y;"),
    ]);
    assert!(found.len() == 1 && found[0].contains("a circle of 2 modules, a, b"), "{found:?}");
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
        let found = violations(file, &tokens(text)).join("; ");
        assert!(found.contains(what), "{file}: {text}: {found}");
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
        assert_eq!(violations(file, &tokens(text)), [""; 0], "{file}: {text}");
    }
}

#[test]
fn long_files_are_found() {
    assert_eq!(too_long("a.rs", &"x\n".repeat(MAX_LINES)), None);
    assert_eq!(too_long("a.rs", &"x\n".repeat(MAX_LINES + 1)), Some("a.rs: 501 lines, at most 500".into()));
}
