//! Embeds the git revision and the package format's version, so that packages and `--version` name them, and names the browser's build for GPUs. Without git
//! the revision is left out: a build from a published crate must not fail.

use std::path::Path;
use std::process::Command;

/// The version of the package format that this revision writes; raise it with every change that old readers cannot read.
const FORMAT_VERSION: u32 = 1;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // The browser's build for GPUs: there the kernels of our own are all there is, and burn's are left out.
    println!("cargo:rustc-check-cfg=cfg(browser_gpu)");
    let has = |feature: &str| std::env::var_os(format!("CARGO_FEATURE_{feature}")).is_some();
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "wasm32") && has("GPU") && !has("CPU") {
        println!("cargo:rustc-cfg=browser_gpu");
    }
    for file in [".git/HEAD", ".git/refs/heads"].into_iter().filter(|file| Path::new(file).exists()) {
        println!("cargo:rerun-if-changed={file}");
    }
    let revision = revision().map_or_else(String::new, |revision| format!(" ({revision})"));
    println!("cargo:rustc-env=SAMLORA_REVISION={revision}");
    println!("cargo:rustc-env=SAMLORA_FORMAT_VERSION={FORMAT_VERSION}");
}

fn revision() -> Option<String> {
    // A published crate that lies in somebody else's repository must not take that one's revision.
    if !Path::new(".git").exists() {
        return None;
    }
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    let text = text.trim();
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit())).then(|| text.to_owned())
}
