//! Embeds the git revision and the package format's version, so that packages and `--version` name them, names the browser's build for GPUs, and
//! takes comments and indentation out of the kernels' texts. Without git the revision is left out: a build from a published crate must
//! not fail.

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
    if let Err(error) = kernels() {
        println!("cargo::error=src/kernels/gpu: {error}");
    }
    for file in [".git/HEAD", ".git/refs/heads"].into_iter().filter(|file| Path::new(file).exists()) {
        println!("cargo:rerun-if-changed={file}");
    }
    let revision = revision().map_or_else(String::new, |revision| format!(" ({revision})"));
    println!("cargo:rustc-env=SAMLORA_REVISION={revision}");
    println!("cargo:rustc-env=SAMLORA_FORMAT_VERSION={FORMAT_VERSION}");
}

/// Writes the WGSL of `src/kernels/gpu` to the output folder as a browser downloads it: without comments and indentation.
fn kernels() -> std::io::Result<()> {
    const FOLDER: &str = "src/kernels/gpu";
    println!("cargo:rerun-if-changed={FOLDER}");
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    for entry in std::fs::read_dir(FOLDER)? {
        let path = entry?.path();
        if let Some(name) = path.file_name().filter(|_| path.extension().is_some_and(|extension| extension == "wgsl")) {
            let text = std::fs::read_to_string(&path)?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
            std::fs::write(out.join(name), lines.collect::<Vec<_>>().join("\n"))?;
        }
    }
    Ok(())
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
