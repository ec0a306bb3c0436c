//! Runs the command.
#![allow(dead_code)] // each test uses a part
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

use std::process::{Command, Output};

use serde_json::Value;

use super::fixtures;

pub fn samlora(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_samlora")).args(args).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs what must fail: exit code 1, nothing on stdout, and one line of error that holds `words`.
#[track_caller]
pub fn fails(args: &[&str], words: &[&str]) -> String {
    let output = samlora(args);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    println!("{}", err.trim_end());
    assert_eq!(output.status.code(), Some(1), "{args:?}: {out}{err}");
    assert!(out.is_empty(), "{args:?}: stdout {out}");
    let line = err.lines().last().unwrap_or_default();
    assert!(line.starts_with("error: ") && line.len() < 800, "{err}");
    assert_eq!(err.lines().filter(|l| l.starts_with("error")).count(), 1, "{err}");
    assert!(!err.contains("panicked") && words.iter().all(|w| line.contains(w)), "{words:?} in {line}");
    line.to_owned()
}

#[track_caller]
pub fn succeeds(args: &[&str]) -> String {
    let output = samlora(args);
    assert!(output.status.success(), "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[track_caller]
pub fn json(args: &[&str]) -> Value {
    let out = succeeds(args);
    assert_eq!(out.lines().count(), 1, "{out}");
    serde_json::from_str(&out).unwrap()
}

/// A file of the parity fixtures.
pub fn fixture(name: &str) -> String {
    fixtures().join(name).display().to_string()
}
