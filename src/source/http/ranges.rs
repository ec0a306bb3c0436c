//! A file behind HTTP, read by ranges of bytes.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use super::client::{Client, shown};
use crate::error::{Error, ErrorKind, Result};
use crate::source::bytes::ByteSource;

/// Bytes that are fetched and kept at a time.
const BLOCK: u64 = 64 << 10;
/// Blocks that are kept: 64 MiB.
const BLOCKS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);
/// The most bytes of one request.
const MAX_REQUEST: u64 = 8 << 20;

/// A file on a server that answers ranges.
pub(in crate::source) struct HttpFile {
    url: String,
    name: String,
    client: Arc<Client>,
    length: u64,
    version: String,
    blocks: Mutex<LruCache<u64, Arc<[u8]>>>,
}

impl HttpFile {
    /// Asks for the file's first bytes, and so for its length and whether the server answers ranges.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such file, [`ErrorKind::Unsupported`] if the server does not answer ranges; those
    /// of asking. All name the address.
    pub(in crate::source) fn open(url: &str, client: Arc<Client>) -> Result<Arc<dyn ByteSource>> {
        let name = shown(url);
        let answer = client.get(url, Some((0, BLOCK - 1)), BLOCK).map_err(|e| match e.kind() {
            // The whole of a file longer than a block.
            ErrorKind::Limit => no_ranges().at(&name),
            _ => e,
        })?;
        match answer.status {
            206 => {}
            404 | 410 | 204 => {
                return Err(Error::new(ErrorKind::NotFound, "the server has no such file")
                    .at(name)
                    .remedy("check the address"));
            }
            416 => return Err(Error::new(ErrorKind::Format, "the file is empty").at(name).remedy("check the address")),
            _ => return Err(no_ranges().at(name)),
        }
        let (_, length) =
            range(&answer.content_range).filter(|(first, _)| *first == 0).ok_or_else(|| no_ranges().at(&name))?;
        if answer.body.len() as u64 != length.min(BLOCK) {
            return Err(Error::new(ErrorKind::Io, "the server sent another range than asked for").at(name));
        }
        let mut blocks = LruCache::new(BLOCKS);
        blocks.put(0, answer.body.into());
        let blocks = Mutex::new(blocks);
        Ok(Arc::new(Self { url: url.to_owned(), name, client, length, version: answer.version, blocks }))
    }

    /// Fetches some blocks that follow each other.
    fn fetch(&self, first: u64, count: u64) -> Result<Vec<Arc<[u8]>>> {
        let (from, to) = (first * BLOCK, ((first + count) * BLOCK).min(self.length));
        let answer = self.client.get(&self.url, Some((from, to - 1)), to - from)?;
        let changed = || {
            Error::new(ErrorKind::Io, "the file has changed on the server while it was read")
                .at(&self.name)
                .remedy("run it again")
        };
        if answer.status != 206 || range(&answer.content_range) != Some((from, self.length)) {
            return Err(changed());
        }
        if !answer.version.is_empty() && !self.version.is_empty() && answer.version != self.version {
            return Err(changed());
        }
        if answer.body.len() as u64 != to - from {
            return Err(Error::new(ErrorKind::Io, "the server sent another range than asked for").at(&self.name));
        }
        Ok(answer.body.chunks(BLOCK as usize).map(Arc::from).collect())
    }
}

fn no_ranges() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "the server does not answer ranges of bytes, so that all of the file would have to be read",
    )
    .remedy("download the file, or put it on a server that answers ranges (most do)")
}

/// First byte and length of the whole file of `bytes first-last/length`.
fn range(value: &str) -> Option<(u64, u64)> {
    let (range, length) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, length.parse().ok()?))
}

impl ByteSource for HttpFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let end = offset.saturating_add(buffer.len() as u64).min(self.length);
        if offset >= end {
            return Ok(0);
        }
        let lock = || self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let last = (end - 1) / BLOCK;
        let mut block = offset / BLOCK;
        while block <= last {
            let known = lock().get(&block).cloned();
            let parts = match known {
                Some(part) => vec![part],
                None => {
                    // What is missing from here on, in one request.
                    let most = (last - block + 1).min(MAX_REQUEST / BLOCK);
                    let count = (1..most).find(|i| lock().contains(&(block + i))).unwrap_or(most);
                    let parts = self.fetch(block, count)?;
                    let mut blocks = lock();
                    parts.iter().enumerate().for_each(|(i, part)| {
                        blocks.put(block + i as u64, Arc::clone(part));
                    });
                    parts
                }
            };
            for part in parts {
                let start = block * BLOCK;
                let (from, to) = (offset.max(start), end.min(start + part.len() as u64));
                let place = (from - offset) as usize..(to - offset) as usize;
                buffer[place].copy_from_slice(&part[(from - start) as usize..(to - start) as usize]);
                block += 1;
            }
        }
        Ok((end - offset) as usize)
    }
}
