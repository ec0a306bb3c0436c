//! From a server to a file, going on where an earlier attempt stopped.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind as IoKind, Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use samlora::error::{Error, ErrorKind, Result};

use super::DownloadProgress;
use super::published::{Expected, Proof};
use super::verify::{Checksums, Found, io_error, record, sidecar};

/// Connections that may break one after another without a byte arriving.
const ATTEMPTS: u32 = 5;

/// Fetches `url` into `path` by way of `<path>.part`, which a later call continues.
///
/// `<path>.part.tag` keeps the server's validator, sent as `If-Range`, so that a file that changed meanwhile starts anew.
pub fn fetch(url: &str, path: &Path, expected: &Expected, progress: &DownloadProgress) -> Result<Found> {
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
    let mut transfer = Transfer {
        url,
        part: &part,
        tag: &tag,
        file: &mut file,
        expected,
        total: expected.bytes,
        checksums: Checksums::default(),
        progress,
    };
    let len = transfer.file.metadata().map_err(|e| io_error(e, &part))?.len();
    // Without a hash in the end, only the server's validator tells that both parts are of one file.
    let is_stray = len > 0 && matches!(expected.proof, Proof::Contents { .. }) && !tag.is_file();
    if is_stray || expected.bytes.is_some_and(|bytes| len > bytes) {
        transfer.restart()?;
    } else {
        transfer.checksums.read(transfer.file, len, progress).map_err(|e| io_error(e, &part))?;
    }
    let mut failures = 0;
    while !transfer.is_done() {
        let before = transfer.checksums.bytes;
        match transfer.attempt() {
            Ok(()) => {}
            Err(AttemptError::Final(e)) => return Err(e),
            Err(AttemptError::Broken(e)) => {
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
    // On some systems a locked file is not read by its name.
    transfer.file.unlock().map_err(file_error)?;
    let checked = transfer.checksums.check(&part, expected);
    let _ = fs::remove_file(&tag);
    let found = checked.map_err(|e| {
        let _ = fs::remove_file(&part);
        e.at(url).remedy("what was fetched is removed; try again, or another --url")
    })?;
    fs::rename(&part, path).map_err(file_error)?;
    record(path, &found.sha256).map_err(|e| io_error(e, path))?;
    Ok(found)
}

/// Why an attempt ended early.
enum AttemptError {
    /// The connection broke; what has arrived stays.
    Broken(Error),
    /// Trying again will not help.
    Final(Error),
}

impl From<Error> for AttemptError {
    fn from(e: Error) -> Self {
        Self::Final(e)
    }
}

struct Transfer<'a> {
    url: &'a str,
    part: &'a Path,
    tag: &'a Path,
    file: &'a mut File,
    expected: &'a Expected,
    /// Bytes of the whole file, once they are known.
    total: Option<u64>,
    /// Of what `file` holds.
    checksums: Checksums,
    progress: &'a DownloadProgress,
}

impl Transfer<'_> {
    /// Whether all that there is has arrived.
    fn is_done(&self) -> bool {
        self.total == Some(self.checksums.bytes)
    }

    /// Throws away what has arrived.
    fn restart(&mut self) -> Result<()> {
        self.checksums = Checksums::default();
        self.progress.at(0);
        let _ = fs::remove_file(self.tag);
        self.file.set_len(0).and_then(|()| self.file.rewind()).map_err(|e| io_error(e, self.part))
    }

    /// One request for what is still missing.
    fn attempt(&mut self) -> Result<(), AttemptError> {
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
                AttemptError::Final(Error::new(ErrorKind::Invalid, "this is no address").source(e).at(self.url))
            }
            e => AttemptError::Broken(Error::new(ErrorKind::Io, "the server cannot be reached").source(e).at(self.url)),
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
            // There is nothing behind what has arrived: that is all of it, or too much.
            416 if start > 0 => {
                let total = header("content-range").and_then(|value| value.strip_prefix("bytes */")?.parse().ok());
                if self.total.is_none() && total == Some(start) {
                    self.total = total;
                    return Ok(());
                }
                return self.restart().map_err(AttemptError::Final);
            }
            404 | 410 => {
                let error = Error::new(ErrorKind::NotFound, format!("the server has no such file (HTTP {status})"));
                return Err(error.at(self.url).remedy("check the address given with --url").into());
            }
            429 | 500..=599 => {
                return Err(AttemptError::Broken(
                    Error::new(ErrorKind::Io, format!("HTTP status {status}")).at(self.url),
                ));
            }
            _ => return Err(Error::new(ErrorKind::Io, format!("HTTP status {status}")).at(self.url).into()),
        };
        if let Some(total) = total {
            if !self.expected.admits(total) {
                let size = self.expected.size_text();
                return Err(self.refused(&format!("the file has {total} bytes, expected {size}")).into());
            }
            self.total = Some(total);
            self.progress.set_total(total);
        }
        // `If-Range` takes strong validators only.
        if let Some(tag) = header("etag").filter(|t| !t.starts_with("W/")).or_else(|| header("last-modified")) {
            fs::write(self.tag, tag).map_err(|e| io_error(e, self.tag))?;
        }
        let mut body = response.into_body().into_reader();
        let mut block = vec![0; 1 << 17];
        loop {
            let n = match body.read(&mut block) {
                // A server that does not say how long the file is ends it by closing the connection.
                Ok(0) if self.total.is_none() => {
                    self.total = Some(self.checksums.bytes);
                    return Ok(());
                }
                Ok(0) if !self.is_done() => {
                    return Err(AttemptError::Broken(Error::new(ErrorKind::Io, "the connection broke").at(self.url)));
                }
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(e) if e.kind() == IoKind::Interrupted => continue,
                Err(e) => {
                    let error = Error::new(ErrorKind::Io, "the connection broke").source(e).at(self.url);
                    return Err(AttemptError::Broken(error));
                }
            };
            let most = self.total.unwrap_or_else(|| 2 * self.expected.about());
            if self.checksums.bytes + n as u64 > most {
                self.restart()?;
                let size = self.expected.size_text();
                return Err(self.refused(&format!("more than the expected {size} bytes")).into());
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
