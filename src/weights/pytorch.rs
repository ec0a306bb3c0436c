//! Checkpoints of PyTorch's `torch.save` in its zip format (the default since PyTorch 1.6).
//!
//! The zip holds `<prefix>/data.pkl`, a pickle that says which tensor is which view of which storage, and the storages
//! `<prefix>/data/<key>`, stored without compression. The pickle is read by the restricted machine in `pickle`.

mod pickle;

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;

use zip::{CompressionMethod, ZipArchive};

use self::pickle::{MAX_PICKLE, Storage, View};
use super::source::{FileReader, TensorInfo, TensorSource, no_tensor, to_f32};
use crate::error::{Error, ErrorKind, Result};

/// An opened checkpoint.
#[derive(Debug)]
pub struct Checkpoint {
    file: FileReader,
    big_endian: bool,
    /// Sorted by name; `views` goes with it.
    tensors: Vec<TensorInfo>,
    views: Vec<View>,
    /// Where each storage of the views lies in the file.
    storages: Vec<Stored>,
}

/// A zip entry's bytes.
#[derive(Debug, Clone, Copy)]
struct Stored {
    start: u64,
    len: u64,
    crc32: u32,
}

impl Checkpoint {
    /// Reads the table of contents of `file` and checks that every tensor lies within its storage and every storage
    /// within the file.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] naming `module.class` of anything in the pickle that is no tensor, or for compressed
    /// entries; [`ErrorKind::Format`] for a damaged file.
    pub fn new(file: FileReader) -> Result<Self> {
        let place = file.path().display().to_string();
        Self::read_contents(file).map_err(|e| e.at(place))
    }

    fn read_contents(file: FileReader) -> Result<Self> {
        let damaged =
            || Error::new(ErrorKind::Format, "the zip is damaged").remedy("the file is truncated; fetch it again");
        let mut zip = ZipArchive::new(BufReader::new(file.reopen()?)).map_err(|e| damaged().source(e))?;
        if zip.has_duplicate_names() {
            return Err(Error::new(ErrorKind::Format, "the zip holds two entries of one name"));
        }
        let mut prefix = None;
        for name in zip.file_names() {
            let name = name.map_err(|e| damaged().source(e))?;
            if let Some(found) = name.strip_suffix("data.pkl").filter(|p| p.is_empty() || p.ends_with('/'))
                && prefix.replace(found.to_owned()).is_some()
            {
                return Err(Error::new(ErrorKind::Format, "the zip holds several data.pkl"));
            }
        }
        let prefix = prefix.ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "this zip is no PyTorch checkpoint: it holds no data.pkl")
        })?;
        let mut entry = |name: &str| stored(&mut zip, &format!("{prefix}{name}"), file.len());

        let found = entry("data.pkl")?.filter(|e| e.len <= MAX_PICKLE);
        let found =
            found.ok_or_else(|| Error::new(ErrorKind::Limit, format!("data.pkl exceeds {MAX_PICKLE} bytes")))?;
        let dict = pickle::state_dict(&file.read(found.start, found.len as usize)?)?;
        let big_endian = match entry("byteorder")? {
            Some(order) if order.len <= 16 => file.read(order.start, order.len as usize)?.trim_ascii() == b"big",
            _ => false,
        };

        // Tensors may share a storage; the pickle then names it anew each time.
        let (mut seen, mut storages) = (HashMap::new(), Vec::new());
        let (mut tensors, mut views) = (Vec::new(), Vec::new());
        for (name, mut view) in dict.tensors {
            let at = |e: Error| e.at(format!("tensor {name}"));
            let storage = dict.storages.get(view.storage).ok_or_else(|| at(damaged()))?;
            let home = match seen.get(&storage.key) {
                Some(&home) => home,
                None => {
                    let missing = || Error::new(ErrorKind::Format, format!("the zip lacks data/{}", storage.key));
                    storages.push(entry(&format!("data/{}", storage.key)).map_err(at)?.ok_or_else(|| at(missing()))?);
                    seen.insert(storage.key.clone(), storages.len() - 1);
                    storages.len() - 1
                }
            };
            let held = storages.get(home).map_or(0, |s: &Stored| s.len);
            let info = TensorInfo { name: name.clone(), shape: view.shape.clone(), dtype: storage.dtype };
            check_view(&info, &view, storage, held, file.len()).map_err(at)?;
            view.storage = home;
            tensors.push(info);
            views.push(view);
        }
        Ok(Self { file, big_endian, tensors, views, storages })
    }

    /// The elements of one view as stored bytes, row-major.
    fn read_bytes(&self, info: &TensorInfo, view: &View) -> Result<Vec<u8>> {
        let damaged = || Error::new(ErrorKind::Format, "lies outside its storage"); // `check_view` has excluded it
        let size = info.dtype.size();
        let storage = self.storages.get(view.storage).ok_or_else(damaged)?;
        let span = span(view).ok_or_else(damaged)?;
        let start = storage.start + view.offset * size as u64;
        let bytes = self.file.read(start, span as usize * size)?;
        if start == storage.start && bytes.len() as u64 == storage.len && crc32fast::hash(&bytes) != storage.crc32 {
            return Err(Error::new(ErrorKind::Integrity, "its bytes do not match the zip's checksum")
                .remedy("the file is damaged; fetch it again, or save it again with PyTorch's CRC-32 option on"));
        }
        if is_contiguous(view) {
            return Ok(bytes);
        }
        gather(view, &bytes, size, info.byte_len().unwrap_or(0)).ok_or_else(damaged)
    }
}

impl TensorSource for Checkpoint {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn read_f32(&self, name: &str) -> Result<Vec<f32>> {
        let found = self.tensors.binary_search_by(|t| t.name.as_str().cmp(name)).ok();
        let found = found.and_then(|i| self.tensors.get(i).zip(self.views.get(i)));
        let (info, view) = found.ok_or_else(|| no_tensor(name))?;
        let bytes = self.read_bytes(info, view).map_err(|e| e.at(format!("tensor {name}")))?;
        to_f32(name, info.dtype, &bytes, self.big_endian)
    }

    fn hash(&self) -> Result<String> {
        self.file.hash()
    }
}

/// Where the bytes of the zip entry `name` lie; `None` if there is none.
fn stored(zip: &mut ZipArchive<BufReader<File>>, name: &str, file_len: u64) -> Result<Option<Stored>> {
    let Some(index) = zip.index_for_name(name) else { return Ok(None) };
    let damaged = || Error::new(ErrorKind::Format, "lies outside the file").at(format!("zip entry {name}"));
    let entry = zip.by_index_raw(index).map_err(|e| damaged().source(e))?;
    if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
        return Err(Error::new(ErrorKind::Unsupported, "is compressed or encrypted")
            .at(format!("zip entry {name}"))
            .remedy("PyTorch stores tensors as they are; repack the file without compression (zip -0)"));
    }
    let start = entry.data_start().ok_or_else(damaged)?;
    match start.checked_add(entry.size()) {
        Some(end) if end <= file_len && entry.size() == entry.compressed_size() => {
            Ok(Some(Stored { start, len: entry.size(), crc32: entry.crc32() }))
        }
        _ => Err(damaged()),
    }
}

/// Elements from the view's first to its last, both counted; `None` on overflow.
fn span(view: &View) -> Option<u64> {
    if view.shape.contains(&0) {
        return Some(0);
    }
    let sides = view.shape.iter().zip(&view.strides);
    sides.into_iter().try_fold(1u64, |last, (&side, &stride)| last.checked_add((side as u64 - 1).checked_mul(stride)?))
}

/// Checks that `view` lies within its storage, whose zip entry has `held` bytes.
fn check_view(info: &TensorInfo, view: &View, storage: &Storage, held: u64, file_len: u64) -> Result<()> {
    let size = info.dtype.size() as u64;
    let end = span(view).and_then(|span| view.offset.checked_add(span)).and_then(|n| n.checked_mul(size));
    if storage.len.checked_mul(size) != Some(held) || end.is_none_or(|end| end > held) {
        let message = format!("shape {:?} at {} does not fit its storage of {held} bytes", info.shape, view.offset);
        return Err(Error::new(ErrorKind::Format, message).remedy("the checkpoint is damaged; fetch it again"));
    }
    // A stride of 0 repeats elements: a small file must not claim gigabytes.
    if info.byte_len().is_none_or(|len| len as u64 > file_len) {
        return Err(Error::new(ErrorKind::Limit, format!("shape {:?} is larger than the whole file", info.shape)));
    }
    Ok(())
}

/// Whether the view's elements lie one after another in row-major order.
fn is_contiguous(view: &View) -> bool {
    let mut expected = 1u64;
    view.shape.iter().zip(&view.strides).rev().all(|(&side, &stride)| {
        let fits = side == 1 || stride == expected;
        expected = expected.saturating_mul(side as u64);
        fits
    }) || view.shape.contains(&0)
}

/// Picks the view's elements of `size` bytes out of `bytes`, which begin at its first one, in row-major order.
fn gather(view: &View, bytes: &[u8], size: usize, len: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(len);
    let mut index = vec![0usize; view.shape.len()];
    while out.len() < len {
        let at = index.iter().zip(&view.strides).map(|(&i, &stride)| i * stride as usize).sum::<usize>() * size;
        out.extend_from_slice(bytes.get(at..at + size)?);
        for (i, &side) in index.iter_mut().zip(&view.shape).rev() {
            *i += 1;
            if *i < side {
                break;
            }
            *i = 0;
        }
    }
    Some(out)
}
