//! `samlora download`: Meta's published SAM checkpoints, resumable and verified.
//!
//! Size and CRC-32 of the published files are known (below); their SHA-256 is recorded beside the file as
//! `<file>.sha256` when a download is first verified, and checked from then on.

use super::say;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind as IoKind, IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use samlora::error::{Error, ErrorKind, Result};
use samlora::weights::source::hex;
use sha2::{Digest, Sha256};

/// Where Meta publishes SAM's checkpoints.
const BASE: &str = "https://dl.fbaipublicfiles.com/segment_anything/";
/// A folder of checkpoints that are already here.
const FOLDER_VARIABLE: &str = "SAMLORA_CHECKPOINTS";
/// Connections that may break one after another without a byte arriving.
const ATTEMPTS: u32 = 5;

/// Fetches a checkpoint of Segment Anything and verifies it
///
/// An interrupted download is continued. Size and CRC-32 are checked against the published file's; its SHA-256 is
/// recorded beside it (.sha256) when it is first verified, and checked from then on. A file that is already in --dir, or
/// in the folder that the variable SAMLORA_CHECKPOINTS names, is verified and used.
#[derive(Debug, Args)]
pub struct DownloadArgs {
    /// Which checkpoint: vit_b (375 MB), vit_l (1.2 GB) or vit_h (2.6 GB)
    #[arg(value_parser = PUBLISHED.map(|p| p.backbone))]
    backbone: String,
    /// Folder to keep it in [default: the user's cache folder]; a file that is already there is only verified
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Address of the folder to fetch from
    #[arg(long, value_name = "BASE", default_value = BASE)]
    url: String,
    /// Print one line of JSON: file, bytes, crc32, sha256, downloaded
    #[arg(long)]
    json: bool,
    /// Expected size in bytes, for tests
    #[arg(long, hide = true)]
    size: Option<u64>,
    /// Expected CRC-32 in decimal, for tests
    #[arg(long, hide = true)]
    crc32: Option<u32>,
}

struct Published {
    backbone: &'static str,
    file: &'static str,
    expected: Expected,
}

/// What the complete file must be.
#[derive(Debug, Clone, Copy)]
struct Expected {
    bytes: u64,
    crc32: u32,
}

const PUBLISHED: [Published; 3] = [
    Published {
        backbone: "vit_b",
        file: "sam_vit_b_01ec64.pth",
        expected: Expected { bytes: 375_042_383, crc32: 1_442_441_403 },
    },
    Published {
        backbone: "vit_l",
        file: "sam_vit_l_0b3195.pth",
        expected: Expected { bytes: 1_249_524_607, crc32: 1_653_302_572 },
    },
    Published {
        backbone: "vit_h",
        file: "sam_vit_h_4b8939.pth",
        expected: Expected { bytes: 2_564_550_879, crc32: 2_791_087_151 },
    },
];

/// Runs the command.
///
/// # Errors
/// Those of the verification of a file that is already here, and of the download.
pub fn run(args: &DownloadArgs) -> Result<()> {
    let published = PUBLISHED.iter().find(|p| p.backbone == args.backbone);
    let published =
        published.ok_or_else(|| Error::new(ErrorKind::NotFound, "no such checkpoint").at(&args.backbone))?;
    let expected = Expected {
        bytes: args.size.unwrap_or(published.expected.bytes),
        crc32: args.crc32.unwrap_or(published.expected.crc32),
    };
    let folder = match &args.dir {
        Some(folder) => folder.clone(),
        None => cache_folder()?,
    };
    let here = [Some(folder.clone()), std::env::var_os(FOLDER_VARIABLE).map(PathBuf::from)];
    let here = here.into_iter().flatten().map(|f| f.join(published.file)).find(|path| path.is_file());
    let progress = DownloadProgress::new(published.file, expected.bytes);
    let (path, sha256, downloaded) = match here {
        Some(path) => {
            let sha256 = verify(&path, expected, &progress)?;
            (path, sha256, false)
        }
        None => {
            let url = format!("{}/{}", args.url.trim_end_matches('/'), published.file);
            let path = folder.join(published.file);
            let sha256 = fetch(&url, &path, expected, &progress)?;
            (path, sha256, true)
        }
    };
    progress.finish();
    if args.json {
        let (bytes, crc32) = (expected.bytes, format!("{:08x}", expected.crc32));
        let line = serde_json::json!({
            "file": path, "bytes": bytes, "crc32": crc32, "sha256": sha256, "downloaded": downloaded,
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

/// CRC-32 and SHA-256 of the bytes so far.
#[derive(Clone, Default)]
struct Checksums {
    bytes: u64,
    crc32: crc32fast::Hasher,
    sha256: Sha256,
}

impl Checksums {
    fn update(&mut self, block: &[u8]) {
        self.bytes += block.len() as u64;
        self.crc32.update(block);
        self.sha256.update(block);
    }

    /// Takes in what `file` holds from its start, up to `limit` bytes.
    fn read(&mut self, file: &mut File, limit: u64, progress: &DownloadProgress) -> std::io::Result<()> {
        file.seek(SeekFrom::Start(0))?;
        let (mut block, mut file) = (vec![0; 1 << 20], file.take(limit));
        loop {
            match file.read(&mut block)? {
                0 => return Ok(()),
                n => self.update(&block[..n]),
            }
            progress.at(self.bytes);
        }
    }

    /// SHA-256 in hexadecimal if size and CRC-32 are as expected.
    fn check(self, expected: Expected) -> Result<String> {
        let crc32 = self.crc32.finalize();
        if self.bytes != expected.bytes || crc32 != expected.crc32 {
            let (bytes, wanted) = (self.bytes, expected.crc32);
            let message =
                format!("{bytes} bytes with CRC-32 {crc32:08x}, expected {} with {wanted:08x}", expected.bytes);
            return Err(Error::new(ErrorKind::Integrity, message));
        }
        Ok(hex(&self.sha256.finalize()))
    }
}

/// Checks a complete file, records its SHA-256 or compares it with the recorded one, and returns it.
fn verify(path: &Path, expected: Expected, progress: &DownloadProgress) -> Result<String> {
    let mut checksums = Checksums::default();
    let mut file = File::open(path).map_err(|e| io_error(e, path))?;
    checksums.read(&mut file, u64::MAX, progress).map_err(|e| io_error(e, path))?;
    let damaged = |e: Error| e.at(path.display()).remedy("delete this file and run the command again");
    let sha256 = checksums.check(expected).map_err(damaged)?;
    match fs::read_to_string(sidecar(path, "sha256")) {
        Ok(line) if line.split_whitespace().next() == Some(&sha256) => {}
        Ok(_) => {
            let message = format!("its SHA-256 is {sha256}, not the one recorded in the .sha256 file beside it");
            return Err(damaged(Error::new(ErrorKind::Integrity, message)));
        }
        // A folder that cannot be written to is no reason to refuse its file.
        Err(_) => drop(record(path, &sha256)),
    }
    Ok(sha256)
}

/// Writes `<file>.sha256` as `sha256sum` does.
fn record(path: &Path, sha256: &str) -> std::io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    fs::write(sidecar(path, "sha256"), format!("{sha256}  {name}\n"))
}

fn sidecar(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

/// Fetches `url` into `path` by way of `<path>.part`, which a later call continues, and returns the SHA-256.
///
/// `<path>.part.tag` keeps the server's validator, sent as `If-Range`, so that a file that changed meanwhile starts anew.
fn fetch(url: &str, path: &Path, expected: Expected, progress: &DownloadProgress) -> Result<String> {
    let (part, tag) = (sidecar(path, "part"), sidecar(path, "part.tag"));
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|e| io_error(e, folder))?;
    }
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&part);
    let mut file = file.map_err(|e| io_error(e, &part))?;
    if file.try_lock().is_err() {
        let error = Error::new(ErrorKind::Io, "another download is writing this file").at(part.display());
        return Err(error.remedy("wait for it to end"));
    }
    let mut transfer =
        Transfer { url, part: &part, tag: &tag, file: &mut file, expected, checksums: Checksums::default(), progress };
    let len = transfer.file.metadata().map_err(|e| io_error(e, &part))?.len();
    if len > expected.bytes {
        transfer.restart()?;
    } else {
        transfer.checksums.read(transfer.file, len, progress).map_err(|e| io_error(e, &part))?;
    }
    let mut failures = 0;
    while transfer.checksums.bytes < expected.bytes {
        let before = transfer.checksums.bytes;
        match transfer.attempt() {
            Ok(()) => {}
            Err(Failure::Final(e)) => return Err(e),
            Err(Failure::Broken(e)) => {
                failures = if transfer.checksums.bytes > before { 1 } else { failures + 1 };
                if failures >= ATTEMPTS {
                    let kept = format!("run the command again; it goes on from {} bytes", transfer.checksums.bytes);
                    return Err(e.remedy(kept));
                }
                progress.note(&format!("{e}; trying again"));
                std::thread::sleep(Duration::from_millis(250 << failures));
            }
        }
    }
    let file_error = |e| io_error(e, &part);
    transfer.file.sync_all().map_err(file_error)?;
    let checked = transfer.checksums.check(expected);
    let _ = fs::remove_file(&tag);
    let sha256 = checked.map_err(|e| {
        let _ = fs::remove_file(&part);
        e.at(url).remedy("what was fetched is removed; try again, or another --url")
    })?;
    fs::rename(&part, path).map_err(file_error)?;
    record(path, &sha256).map_err(|e| io_error(e, path))?;
    Ok(sha256)
}

/// Why an attempt ended early.
enum Failure {
    /// The connection broke; what has arrived stays.
    Broken(Error),
    /// Trying again will not help.
    Final(Error),
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self::Final(e)
    }
}

struct Transfer<'a> {
    url: &'a str,
    part: &'a Path,
    tag: &'a Path,
    file: &'a mut File,
    expected: Expected,
    /// Of what `file` holds.
    checksums: Checksums,
    progress: &'a DownloadProgress,
}

impl Transfer<'_> {
    /// Throws away what has arrived.
    fn restart(&mut self) -> Result<()> {
        self.checksums = Checksums::default();
        self.progress.at(0);
        let _ = fs::remove_file(self.tag);
        self.file.set_len(0).and_then(|()| self.file.rewind()).map_err(|e| io_error(e, self.part))
    }

    /// One request for what is still missing.
    fn attempt(&mut self) -> Result<(), Failure> {
        let start = self.checksums.bytes;
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .build()
            .into();
        let mut request = agent.get(self.url).header("accept-encoding", "identity");
        if start > 0 {
            request = request.header("range", format!("bytes={start}-"));
            if let Ok(tag) = fs::read_to_string(self.tag) {
                request = request.header("if-range", tag);
            }
        }
        let response = request.call().map_err(|e| match e {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                Failure::Final(Error::new(ErrorKind::Invalid, "this is no address").source(e).at(self.url))
            }
            e => Failure::Broken(Error::new(ErrorKind::Io, "the server cannot be reached").source(e).at(self.url)),
        })?;
        let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok());
        let status = response.status().as_u16();
        let total = match status {
            206 => match header("content-range").and_then(content_range) {
                Some((first, total)) if first == start => total,
                _ => return Err(self.refused("the server sent another range than asked for").into()),
            },
            // The whole file: a first request, a server without ranges, or a file that has changed.
            200 => {
                let total = header("content-length").and_then(|n| n.parse().ok());
                self.restart()?;
                total
            }
            416 if start > 0 => return self.restart().map_err(Failure::Final),
            404 | 410 => {
                let error = Error::new(ErrorKind::NotFound, format!("the server has no such file (HTTP {status})"));
                return Err(error.at(self.url).remedy("check the address given with --url").into());
            }
            429 | 500..=599 => {
                return Err(Failure::Broken(Error::new(ErrorKind::Io, format!("HTTP status {status}")).at(self.url)));
            }
            _ => return Err(Error::new(ErrorKind::Io, format!("HTTP status {status}")).at(self.url).into()),
        };
        if let Some(total) = total.filter(|&total| total != self.expected.bytes) {
            return Err(self.refused(&format!("the file has {total} bytes, expected {}", self.expected.bytes)).into());
        }
        // `If-Range` takes strong validators only.
        if let Some(tag) = header("etag").filter(|t| !t.starts_with("W/")).or_else(|| header("last-modified")) {
            fs::write(self.tag, tag).map_err(|e| io_error(e, self.tag))?;
        }
        let mut body = response.into_body().into_reader();
        let mut block = vec![0; 1 << 17];
        loop {
            let n = match body.read(&mut block) {
                Ok(0) if self.checksums.bytes < self.expected.bytes => {
                    return Err(Failure::Broken(Error::new(ErrorKind::Io, "the connection broke").at(self.url)));
                }
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(e) if e.kind() == IoKind::Interrupted => continue,
                Err(e) => {
                    let error = Error::new(ErrorKind::Io, "the connection broke").source(e).at(self.url);
                    return Err(Failure::Broken(error));
                }
            };
            if self.checksums.bytes + n as u64 > self.expected.bytes {
                self.restart()?;
                return Err(self.refused(&format!("more than the expected {} bytes", self.expected.bytes)).into());
            }
            self.file.write_all(&block[..n]).map_err(|e| io_error(e, self.part))?;
            self.checksums.update(&block[..n]);
            self.progress.at(self.checksums.bytes);
        }
    }

    fn refused(&self, message: &str) -> Error {
        Error::new(ErrorKind::Integrity, message).at(self.url).remedy("this is not the published file; check --url")
    }
}

/// First byte and total (none for `*`) of `bytes first-last/total`.
fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

fn io_error(e: std::io::Error, path: &Path) -> Error {
    let remedy = match e.kind() {
        IoKind::StorageFull | IoKind::QuotaExceeded => "free some space; the download goes on from where it stopped",
        IoKind::PermissionDenied | IoKind::ReadOnlyFilesystem | IoKind::NotADirectory | IoKind::AlreadyExists => {
            "name a folder that can be written to with --dir"
        }
        _ => "check the folder and the disk",
    };
    Error::new(ErrorKind::Io, e.to_string()).at(path.display()).remedy(remedy)
}

/// A bar on a terminal, a line for every tenth elsewhere; both on standard error.
struct DownloadProgress {
    bar: ProgressBar,
    lines: Option<std::cell::Cell<u64>>,
    name: &'static str,
    total: u64,
}

impl DownloadProgress {
    fn new(name: &'static str, total: u64) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let template = "{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Self { bar: bar.with_style(style).with_prefix(name), lines: (!terminal).then(Default::default), name, total }
    }

    fn at(&self, bytes: u64) {
        self.bar.set_position(bytes);
        if let Some(tenths) = &self.lines {
            let now = bytes.saturating_mul(10) / self.total.max(1);
            if now > tenths.replace(now) {
                eprintln!("{}: {bytes} of {} bytes", self.name, self.total);
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
