//! Safetensors on disk: one file, or several shards.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Component, Path};

use sha2::{Digest, Sha256};

use super::file::FileReader;
use super::safetensors::{PREFIX, SafetensorsHeader, header_len, parse_header};
use super::tensor::{TensorInfo, TensorSource, hex, no_tensor, to_f32};
use crate::error::{Error, ErrorKind, Result};

/// One safetensors file.
#[derive(Debug)]
pub struct SafetensorsFile {
    file: FileReader,
    metadata: BTreeMap<String, String>,
    /// Sorted by name; `ranges` goes with it.
    tensors: Vec<TensorInfo>,
    ranges: Vec<Range<usize>>,
}

impl SafetensorsFile {
    /// Reads the header of `file` and checks that the file has the length it says.
    ///
    /// # Errors
    /// As [`parse_header`], and [`ErrorKind::Format`] if the file is shorter or longer.
    pub fn new(file: FileReader) -> Result<Self> {
        let at = |e: Error| e.at(file.path().display());
        let prefix = file.read(0, file.len().min(PREFIX as u64) as usize).map_err(at)?;
        let head = file.read(0, header_len(&prefix).map_err(at)?).map_err(at)?;
        let SafetensorsHeader { mut tensors, metadata, file_len, .. } = parse_header(&head).map_err(at)?;
        if file.len() != file_len as u64 {
            let message = format!("the file has {} bytes, its header says {file_len}", file.len());
            return Err(file.error(ErrorKind::Format, message).remedy("it is truncated or damaged; fetch it again"));
        }
        tensors.sort_by(|a, b| a.info.name.cmp(&b.info.name));
        let (tensors, ranges) = tensors.into_iter().map(|t| (t.info, t.range)).unzip();
        Ok(Self { file, metadata, tensors, ranges })
    }

    /// The header's `__metadata__`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The stored bytes of the tensor `name`: little-endian, row-major.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such tensor, [`ErrorKind::Io`] if the file cannot be read.
    pub fn read_bytes(&self, name: &str) -> Result<Vec<u8>> {
        let found = self.tensors.binary_search_by(|t| t.name.as_str().cmp(name)).ok();
        let range = found.and_then(|i| self.ranges.get(i));
        let range = range.ok_or_else(|| no_tensor(name))?;
        self.file.read(range.start as u64, range.len()).map_err(|e| e.at(format!("tensor {name}")))
    }
}

impl TensorSource for SafetensorsFile {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn read_f32(&self, name: &str) -> Result<Vec<f32>> {
        let info = self.info(name).ok_or_else(|| no_tensor(name))?;
        to_f32(name, info.dtype, &self.read_bytes(name)?, false)
    }

    fn hash(&self) -> Result<String> {
        self.file.hash()
    }
}

/// Several safetensors files named by a Hugging Face `*.index.json`.
#[derive(Debug)]
pub struct Shards {
    /// Sorted by file name.
    files: Vec<SafetensorsFile>,
    /// Sorted by name; `homes` holds the index of each tensor's file.
    tensors: Vec<TensorInfo>,
    homes: Vec<usize>,
}

/// The longest index that is read, in bytes.
const MAX_INDEX: u64 = 1 << 24;

#[derive(serde::Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Shards {
    /// Opens every shard that the index at `path` names; they lie beside it.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] for a damaged index, a shard name with folders in it, or tensors that index and shards
    /// do not agree on (named); those of [`SafetensorsFile::new`].
    pub fn open(path: &Path) -> Result<Self> {
        let file = FileReader::open(path)?;
        let error = |message: String| file.error(ErrorKind::Format, message);
        if file.len() > MAX_INDEX {
            return Err(file.error(ErrorKind::Limit, format!("an index of more than {MAX_INDEX} bytes")));
        }
        let Index { weight_map } = serde_json::from_slice(
            &file.read(0, file.len() as usize).map_err(|e| e.at(path.display()))?,
        )
        .map_err(|e| {
            let remedy = "expected a Hugging Face index with a \"weight_map\"";
            error("this is not an index of safetensors shards".into()).source(e).remedy(remedy)
        })?;
        let names: BTreeSet<&String> = weight_map.values().collect();
        let folder = path.parent().unwrap_or(Path::new("."));
        let (mut files, mut entries) = (Vec::new(), Vec::new());
        for (home, name) in names.into_iter().enumerate() {
            let mut parts = Path::new(name).components();
            if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) || name.contains('\\') {
                return Err(error(format!("shard {name:?} is not a plain file name")));
            }
            let shard = SafetensorsFile::new(FileReader::open(&folder.join(name))?)?;
            for info in &shard.tensors {
                if weight_map.get(&info.name) != Some(name) {
                    return Err(error(format!("tensor {} is in {name}, the index says otherwise", info.name)));
                }
                entries.push((info.clone(), home));
            }
            files.push(shard);
        }
        entries.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        let (tensors, homes): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
        let held = |name: &str| tensors.binary_search_by(|t: &TensorInfo| t.name.as_str().cmp(name)).is_ok();
        if let Some((tensor, shard)) = weight_map.iter().find(|(tensor, _)| !held(tensor)) {
            return Err(error(format!("tensor {tensor} is missing from {shard}")));
        }
        Ok(Self { files, tensors, homes })
    }
}

impl TensorSource for Shards {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn read_f32(&self, name: &str) -> Result<Vec<f32>> {
        let found = self.tensors.binary_search_by(|t| t.name.as_str().cmp(name)).ok();
        let home = found.and_then(|i| self.homes.get(i)).and_then(|&home| self.files.get(home));
        home.ok_or_else(|| no_tensor(name))?.read_f32(name)
    }

    fn hash(&self) -> Result<String> {
        let mut hasher = Sha256::new();
        for shard in &self.files {
            shard.file.hash_into(&mut hasher)?;
        }
        Ok(hex(&hasher.finalize()))
    }
}
