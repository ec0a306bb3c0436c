//! Checkpoints of PyTorch's `torch.save`: its zip format (the default since PyTorch 1.6) and the one before (`legacy`).
//!
//! The zip holds `<prefix>/data.pkl`, a pickle that says which tensor is which view of which storage, and the storages
//! `<prefix>/data/<key>`, stored without compression. The pickle is read by the restricted machine in `pickle`;
//! `contents` finds the state dict.

mod classes;
mod contents;
mod legacy;
mod pickle;
mod program;
mod view;

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;

use zip::{CompressionMethod, ZipArchive};

use self::contents::{StateDict, state_dict};
pub use self::legacy::MAGIC as LEGACY_MAGIC;
use self::pickle::MAX_PICKLE;
use self::view::StorageView;
use super::file::FileReader;
use super::tensor::{PassedOver, TensorInfo, TensorSource, no_tensor, to_f32};
use crate::error::{Error, ErrorKind, Result};

/// An opened checkpoint.
#[derive(Debug)]
pub struct PytorchFile {
    file: FileReader,
    big_endian: bool,
    /// Sorted by name; `views` goes with it.
    tensors: Vec<TensorInfo>,
    views: Vec<StorageView>,
    /// Where each storage of the views lies in the file.
    storages: Vec<Stored>,
    passed_over: Vec<PassedOver>,
}

/// Where bytes lie in the file: those of a zip entry or of a storage.
#[derive(Debug, Clone, Copy)]
struct Stored {
    start: u64,
    len: u64,
    /// The zip's checksum; the older format has none.
    crc32: Option<u32>,
}

impl PytorchFile {
    /// Reads the table of contents of `file` and checks that every tensor lies within its storage and every storage
    /// within the file.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a pickle without a state dict, or with a call that reaches beyond data (named),
    /// and for compressed entries; [`ErrorKind::Format`] for a damaged file.
    pub fn new(file: FileReader) -> Result<Self> {
        let place = file.path().display().to_string();
        Self::read_zip(file).map_err(|e| e.at(place))
    }

    /// As [`PytorchFile::new`], of a file in the format that PyTorch wrote before 1.6, which begins with [`LEGACY_MAGIC`].
    ///
    /// # Errors
    /// As [`PytorchFile::new`].
    pub fn legacy(file: FileReader) -> Result<Self> {
        let place = file.path().display().to_string();
        let contents = legacy::read(&file).and_then(|(dict, places)| {
            Self::with_storages(file, dict, false, |key| {
                let missing = || Error::new(ErrorKind::Format, format!("the file lacks the storage {key}"));
                places.get(key).copied().ok_or_else(missing)
            })
        });
        contents.map_err(|e| e.at(place))
    }

    fn read_zip(file: FileReader) -> Result<Self> {
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
        let length = file.len();
        let mut entry = |name: &str| zip_entry(&mut zip, &format!("{prefix}{name}"), length);

        let found = entry("data.pkl")?.filter(|e| e.len <= MAX_PICKLE);
        let found =
            found.ok_or_else(|| Error::new(ErrorKind::Limit, format!("data.pkl exceeds {MAX_PICKLE} bytes")))?;
        let dict = state_dict(&file.read(found.start, found.len as usize)?)?;
        let big_endian = match entry("byteorder")? {
            Some(order) if order.len <= 16 => file.read(order.start, order.len as usize)?.trim_ascii() == b"big",
            _ => false,
        };

        Self::with_storages(file, dict, big_endian, |key| {
            let missing = || Error::new(ErrorKind::Format, format!("the zip lacks data/{key}"));
            entry(&format!("data/{key}"))?.ok_or_else(missing)
        })
    }

    /// Puts tensors and storages together; `stored` says where the storage of a key lies.
    fn with_storages(
        file: FileReader,
        dict: StateDict,
        big_endian: bool,
        mut stored: impl FnMut(&str) -> Result<Stored>,
    ) -> Result<Self> {
        // Tensors may share a storage; the pickle then names it anew each time.
        let (mut seen, mut storages) = (HashMap::new(), Vec::new());
        let (mut tensors, mut views) = (Vec::new(), Vec::new());
        for (name, mut view) in dict.tensors {
            let at = |e: Error| e.at(format!("tensor {name}"));
            let unknown = || Error::new(ErrorKind::Format, "a tensor without a storage");
            let storage = dict.storages.get(view.storage).ok_or_else(|| at(unknown()))?;
            let home = match seen.get(&storage.key) {
                Some(&home) => home,
                None => {
                    storages.push(stored(&storage.key).map_err(at)?);
                    seen.insert(storage.key.clone(), storages.len() - 1);
                    storages.len() - 1
                }
            };
            let held = storages.get(home).map_or(0, |s: &Stored| s.len);
            let info = TensorInfo { name: name.clone(), shape: view.shape.clone(), dtype: storage.dtype };
            view.check(&info, storage, held, file.len()).map_err(at)?;
            view.storage = home;
            tensors.push(info);
            views.push(view);
        }
        Ok(Self { file, big_endian, tensors, views, storages, passed_over: dict.passed_over })
    }

    /// The elements of one view as stored bytes, row-major.
    fn read_bytes(&self, info: &TensorInfo, view: &StorageView) -> Result<Vec<u8>> {
        let damaged = || Error::new(ErrorKind::Format, "lies outside its storage"); // `StorageView::check` has excluded it
        let size = info.dtype.size();
        let storage = self.storages.get(view.storage).ok_or_else(damaged)?;
        let span = view.span().ok_or_else(damaged)?;
        let start = storage.start + view.offset * size as u64;
        let bytes = self.file.read(start, span as usize * size)?;
        let whole = start == storage.start && bytes.len() as u64 == storage.len;
        if whole && storage.crc32.is_some_and(|known| known != crc32fast::hash(&bytes)) {
            return Err(Error::new(ErrorKind::Integrity, "its bytes do not match the zip's checksum")
                .remedy("the file is damaged; fetch it again, or save it again with PyTorch's CRC-32 option on"));
        }
        if view.is_contiguous() {
            return Ok(bytes);
        }
        view.gather(&bytes, size, info.byte_len().unwrap_or(0)).ok_or_else(damaged)
    }
}

impl TensorSource for PytorchFile {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn passed_over(&self) -> &[PassedOver] {
        &self.passed_over
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
fn zip_entry(zip: &mut ZipArchive<BufReader<File>>, name: &str, file_len: u64) -> Result<Option<Stored>> {
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
            Ok(Some(Stored { start, len: entry.size(), crc32: Some(entry.crc32()) }))
        }
        _ => Err(damaged()),
    }
}
