//! `samlora download`: published checkpoints, resumable and verified.
//!
//! What tells a complete file is known of each (`published.rs`); its SHA-256 is recorded beside the file as `<file>.sha256` when a
//! download is first verified, and checked from then on.

mod published;
mod transfer;
mod verify;

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use samlora::error::{Error, ErrorKind, Result};

use super::say;
use published::{PUBLISHED, Proof};

/// A folder of checkpoints that are already here.
const FOLDER_VARIABLE: &str = "SAMLORA_CHECKPOINTS";

/// Fetches a published checkpoint and verifies it
///
/// SAM itself: vit_b (375 MB), vit_l (1.2 GB), vit_h (2.6 GB). Light ones: slimsam_77 (about 39 MB) and slimsam_50 (about 112 MB), the
/// pruned SAM of Chen et al.; mobile_sam (41 MB), MobileSAM of Zhang et al. All of these weights are under the Apache licence 2.0.
///
/// An interrupted download is continued. A file is checked against what is published of it: size and CRC-32 of SAM's, size and SHA-256 of
/// MobileSAM's. Of SlimSAM's no hash is published: there the names and shapes of its tensors and the number of parameters are checked,
/// and the command says so. The file's SHA-256 is recorded beside it (.sha256) when it is first verified, and checked from then on. A
/// file that is already in --dir, or in the folder that the variable SAMLORA_CHECKPOINTS names, is verified and used.
#[derive(Debug, Args)]
pub struct DownloadArgs {
    /// Which checkpoint
    #[arg(value_parser = PUBLISHED.map(|p| p.backbone))]
    backbone: String,
    /// Folder to keep it in [default: the user's cache folder]; a file that is already there is only verified
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Address of the folder to fetch from [default: where it is published]
    #[arg(long, value_name = "BASE")]
    url: Option<String>,
    /// Print one line of JSON: file, bytes, crc32, sha256, verified_by, downloaded
    #[arg(long)]
    json: bool,
    /// Expected size in bytes, for tests
    #[arg(long, hide = true)]
    size: Option<u64>,
    /// Expected CRC-32 in decimal, for tests
    #[arg(long, hide = true, conflicts_with = "sha256")]
    crc32: Option<u32>,
    /// Expected SHA-256 in hexadecimal, for tests
    #[arg(long, hide = true)]
    sha256: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// Those of the verification of a file that is already here, and of the download.
pub fn run(args: &DownloadArgs) -> Result<()> {
    let published = PUBLISHED.iter().find(|p| p.backbone == args.backbone);
    let published =
        published.ok_or_else(|| Error::new(ErrorKind::NotFound, "no such checkpoint").at(&args.backbone))?;
    let mut expected = published.expected();
    expected.bytes = args.size.or(expected.bytes);
    match (args.crc32, &args.sha256) {
        (Some(crc32), _) => expected.proof = Proof::Crc32(crc32),
        (None, Some(sha256)) => expected.proof = Proof::Sha256(sha256.clone()),
        (None, None) => {}
    }
    let folder = match &args.dir {
        Some(folder) => folder.clone(),
        None => cache_folder()?,
    };
    let here = [Some(folder.clone()), std::env::var_os(FOLDER_VARIABLE).map(PathBuf::from)];
    let here = here.into_iter().flatten().map(|f| f.join(published.file)).find(|path| path.is_file());
    let progress = DownloadProgress::new(published.file, expected.about());
    let (path, found, downloaded) = match here {
        Some(path) => {
            let found = verify::verify(&path, &expected, &progress)?;
            (path, found, false)
        }
        None => {
            let base = args.url.as_deref().unwrap_or(published.base);
            let url = format!("{}/{}", base.trim_end_matches('/'), published.remote);
            let path = folder.join(published.file);
            let found = transfer::fetch(&url, &path, &expected, &progress)?;
            (path, found, true)
        }
    };
    progress.finish();
    if let Proof::Contents { parameters, .. } = expected.proof {
        let file = published.file;
        eprintln!(
            "{file}: the names and shapes of {}'s tensors, {parameters} parameters; no hash of this file is published",
            published.backbone
        );
    }
    if args.json {
        let line = serde_json::json!({
            "file": path, "bytes": found.bytes, "crc32": format!("{:08x}", found.crc32), "sha256": found.sha256,
            "verified_by": expected.proof.name(), "downloaded": downloaded,
        });
        say(format_args!("{line}"))?;
    } else {
        say(format_args!("{}", path.display()))?;
    }
    Ok(())
}

/// The platform's folder for files that can be fetched again.
fn cache_folder() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let home = || std::env::home_dir().filter(|p| p.is_absolute());
    let base = if cfg!(windows) {
        variable("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        home().map(|h| h.join("Library/Caches"))
    } else {
        variable("XDG_CACHE_HOME").or_else(|| home().map(|h| h.join(".cache")))
    };
    let base = base.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "there is no cache folder for this user").remedy("name a folder with --dir")
    })?;
    Ok(base.join("samlora"))
}

/// A bar on a terminal, a line for every tenth elsewhere; both on standard error.
struct DownloadProgress {
    bar: ProgressBar,
    lines: Option<std::cell::Cell<u64>>,
    name: &'static str,
    total: std::cell::Cell<u64>,
}

impl DownloadProgress {
    fn new(name: &'static str, total: u64) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let template = "{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let (bar, lines) = (bar.with_style(style).with_prefix(name), (!terminal).then(Default::default));
        Self { bar, lines, name, total: total.into() }
    }

    /// Corrects what it was started with.
    fn set_total(&self, total: u64) {
        self.bar.set_length(total);
        self.total.set(total);
    }

    fn at(&self, bytes: u64) {
        self.bar.set_position(bytes);
        if let Some(tenths) = &self.lines {
            let now = bytes.saturating_mul(10) / self.total.get().max(1);
            if now > tenths.replace(now) {
                eprintln!("{}: {bytes} of {} bytes", self.name, self.total.get());
            }
        }
    }

    fn note(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
