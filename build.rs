//! Embeds the git revision and the package format's version, so that packages and `--version` name them. Without git
//! the revision is left out: a build from a published crate must not fail.

use std::process::Command;

/// The version of the package format that this revision writes; raise it with every change that old readers cannot read.
const FORMAT_VERSION: u32 = 1;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=.git/HEAD");
    println!("cargo:rerun-if-changed=.git/refs/heads");
    let revision = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit()))
        .map_or_else(String::new, |text| format!(" ({text})"));
    println!("cargo:rustc-env=SAMLORA_REVISION={revision}");
    println!("cargo:rustc-env=SAMLORA_FORMAT_VERSION={FORMAT_VERSION}");
}
