//! The safetensors format: header, streaming writer, and readers of one file or of several shards.
//!
//! Format: 8 bytes little-endian header length, a JSON header (padded with spaces to a multiple of 8), then the
//! tensors' bytes without gaps, little-endian, row-major.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::ops::Range;

use ::safetensors::tensor::{Dtype as FileDtype, Metadata};

use super::source::{Dtype, TensorInfo};
use crate::error::{Error, ErrorKind, Result};

#[cfg(not(target_arch = "wasm32"))]
pub use native::{SafetensorsFile, Shards};

/// The longest header that is read, in bytes; ViT-H's is about 80 kB.
pub const MAX_HEADER: usize = 1 << 24;
/// Bytes before the JSON: its length.
const PREFIX: usize = 8;

/// What a safetensors header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The tensors in the order of their bytes.
    pub tensors: Vec<Entry>,
    /// The header's `__metadata__`: free text by key.
    pub metadata: BTreeMap<String, String>,
    /// Bytes from the start of the file to the first tensor.
    pub data_start: usize,
    /// Length in bytes that the whole file must have.
    pub file_len: usize,
}

/// One tensor of a [`Header`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name, shape and type.
    pub info: TensorInfo,
    /// Its bytes, counted from the start of the file.
    pub range: Range<usize>,
}

/// The length in bytes of prefix and JSON together, from the first 8 bytes of a file (or more).
///
/// # Errors
/// [`ErrorKind::Format`] if there are fewer than 8 bytes, [`ErrorKind::Limit`] above [`MAX_HEADER`].
pub fn header_len(bytes: &[u8]) -> Result<usize> {
    let Some((prefix, _)) = bytes.split_first_chunk::<PREFIX>() else {
        return Err(format_error("shorter than the header's length"));
    };
    match usize::try_from(u64::from_le_bytes(*prefix)) {
        Ok(n) if n <= MAX_HEADER => Ok(n + PREFIX),
        _ => Err(Error::new(ErrorKind::Limit, format!("the header claims to be longer than {MAX_HEADER} bytes"))
            .remedy("the file is damaged or not safetensors")),
    }
}

/// Reads the header at the start of `bytes` (the whole file, or at least [`header_len`] bytes of it). Names are unique
/// and not empty, byte ranges follow each other without gaps, and each fits its shape and type.
///
/// # Errors
/// [`ErrorKind::Format`] for a damaged header, [`ErrorKind::Unsupported`] for an element type that models do not use
/// (naming the tensor), [`ErrorKind::Limit`] above [`MAX_HEADER`].
pub fn parse_header(bytes: &[u8]) -> Result<Header> {
    let data_start = header_len(bytes)?;
    let json = bytes.get(PREFIX..data_start).ok_or_else(|| format_error("the file ends within its header"))?;
    let json = std::str::from_utf8(json).map_err(|e| format_error("the header is not UTF-8").source(e))?;
    let header: Metadata = serde_json::from_str(json).map_err(|e| format_error("the header is damaged").source(e))?;
    let mut tensors = Vec::new();
    for name in header.offset_keys() {
        let Some(found) = header.info(&name) else { continue };
        let at = |e: Error| e.at(format!("tensor {name}"));
        let dtype = dtype_of(found.dtype).map_err(at)?;
        let (start, end) = found.data_offsets;
        let range = data_start
            .checked_add(start)
            .zip(data_start.checked_add(end))
            .ok_or_else(|| at(format_error("its bytes lie beyond what memory can address")))?;
        let info = TensorInfo { name, shape: found.shape.clone(), dtype };
        tensors.push(Entry { info, range: range.0..range.1 });
    }
    let metadata = header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    let file_len = tensors.last().map_or(data_start, |t| t.range.end);
    Ok(Header { tensors, metadata, data_start, file_len })
}

/// Writes a safetensors file tensor by tensor, in the order announced, so that one tensor at a time is in memory.
///
/// ```
/// use samlora::weights::safetensors::{Writer, parse_header};
/// use samlora::weights::source::{Dtype, TensorInfo};
///
/// let bias = TensorInfo { name: "bias".into(), shape: vec![2], dtype: Dtype::F32 };
/// let mut writer = Writer::new(Vec::new(), std::slice::from_ref(&bias), &Default::default())?;
/// writer.tensor("bias", &[0; 8])?;
/// let file = writer.finish()?;
/// assert_eq!(parse_header(&file)?.tensors[0].info, bias);
/// # Ok::<(), samlora::error::Error>(())
/// ```
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: W,
    /// Name and byte length of the tensors still to come, last first.
    pending: Vec<(String, usize)>,
}

impl<W: Write> Writer<W> {
    /// Writes the header for `tensors`, whose bytes will come in this order.
    ///
    /// # Errors
    /// As [`encode_header`]; [`ErrorKind::Io`] if writing fails.
    pub fn new(mut out: W, tensors: &[TensorInfo], metadata: &BTreeMap<String, String>) -> Result<Self> {
        out.write_all(&encode_header(tensors, metadata)?)?;
        let pending = tensors.iter().rev().map(|t| (t.name.clone(), t.byte_len().unwrap_or(usize::MAX))).collect();
        Ok(Self { out, pending })
    }

    /// Writes the bytes (little-endian, row-major) of the next tensor.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is not this tensor's turn or the length differs, [`ErrorKind::Io`] if writing fails.
    pub fn tensor(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let invalid = |message: String| Err(Error::new(ErrorKind::Invalid, message).at(format!("tensor {name}")));
        match self.pending.last() {
            Some((next, len)) if next == name && *len == bytes.len() => {}
            Some((next, len)) if next == name => {
                return invalid(format!("{} bytes given, expected {len}", bytes.len()));
            }
            Some((next, _)) => return invalid(format!("written out of order, expected {next}")),
            None => return invalid("all announced tensors are already written".into()),
        }
        self.out.write_all(bytes)?;
        self.pending.pop();
        Ok(())
    }

    /// Checks that every tensor has come, flushes, and gives back what was written to.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] naming the first missing tensor, [`ErrorKind::Io`] if writing fails.
    pub fn finish(mut self) -> Result<W> {
        if let Some((name, _)) = self.pending.last() {
            return Err(Error::new(ErrorKind::Invalid, "announced but not written").at(format!("tensor {name}")));
        }
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Prefix and JSON for `tensors` in this order: the same bytes for the same input, a multiple of 8 long. (Tensors whose
/// length is not a multiple of 8 should come last if those after them are to be aligned.)
///
/// # Errors
/// [`ErrorKind::Invalid`] for a name that is empty, reserved (`__metadata__`) or used twice, [`ErrorKind::Limit`] if
/// sizes overflow or the header exceeds [`MAX_HEADER`].
pub fn encode_header(tensors: &[TensorInfo], metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let mut seen = BTreeSet::new();
    let mut fields = Vec::with_capacity(tensors.len() + 1);
    if !metadata.is_empty() {
        fields.push(format!("\"__metadata__\":{}", json(metadata)?));
    }
    let mut start = 0usize;
    for t in tensors {
        if t.name.is_empty() || t.name == "__metadata__" || !seen.insert(&t.name) {
            return Err(
                Error::new(ErrorKind::Invalid, "empty, reserved or repeated name").at(format!("tensor {}", t.name))
            );
        }
        let end = t.byte_len().and_then(|n| start.checked_add(n)).ok_or_else(|| {
            Error::new(ErrorKind::Limit, format!("shape {:?} is too large", t.shape)).at(format!("tensor {}", t.name))
        })?;
        let (name, dtype, shape) = (json(&t.name)?, json(&file_dtype(t.dtype))?, json(&t.shape)?);
        fields.push(format!("{name}:{{\"dtype\":{dtype},\"shape\":{shape},\"data_offsets\":[{start},{end}]}}"));
        start = end;
    }
    let mut text = format!("{{{}}}", fields.join(","));
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    if text.len() > MAX_HEADER {
        return Err(Error::new(ErrorKind::Limit, format!("the header exceeds {MAX_HEADER} bytes")));
    }
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.into_bytes());
    Ok(bytes)
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::new(ErrorKind::Invalid, "cannot be written as JSON").source(e))
}

fn format_error(message: &str) -> Error {
    Error::new(ErrorKind::Format, message).remedy("the file is damaged or not safetensors; fetch it again")
}

fn dtype_of(dtype: FileDtype) -> Result<Dtype> {
    Ok(match dtype {
        FileDtype::F32 => Dtype::F32,
        FileDtype::F16 => Dtype::F16,
        FileDtype::BF16 => Dtype::BF16,
        FileDtype::F64 => Dtype::F64,
        FileDtype::I8 => Dtype::I8,
        FileDtype::U8 => Dtype::U8,
        FileDtype::I32 => Dtype::I32,
        FileDtype::I64 => Dtype::I64,
        FileDtype::BOOL => Dtype::Bool,
        other => {
            return Err(Error::new(ErrorKind::Unsupported, format!("elements of type {other}"))
                .remedy("convert the checkpoint to f32, f16 or bf16"));
        }
    })
}

fn file_dtype(dtype: Dtype) -> FileDtype {
    match dtype {
        Dtype::F32 => FileDtype::F32,
        Dtype::F16 => FileDtype::F16,
        Dtype::BF16 => FileDtype::BF16,
        Dtype::F64 => FileDtype::F64,
        Dtype::I8 => FileDtype::I8,
        Dtype::U8 => FileDtype::U8,
        Dtype::I32 => FileDtype::I32,
        Dtype::I64 => FileDtype::I64,
        Dtype::Bool => FileDtype::BOOL,
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use std::collections::{BTreeMap, BTreeSet};
    use std::ops::Range;
    use std::path::{Component, Path};

    use sha2::{Digest, Sha256};

    use super::{Header, PREFIX, header_len, parse_header};
    use crate::error::{Error, ErrorKind, Result};
    use crate::weights::source::{FileReader, TensorInfo, TensorSource, hex, no_tensor, to_f32};

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
            let Header { mut tensors, metadata, file_len, .. } = parse_header(&head).map_err(at)?;
            if file.len() != file_len as u64 {
                let message = format!("the file has {} bytes, its header says {file_len}", file.len());
                return Err(file
                    .error(ErrorKind::Format, message)
                    .remedy("it is truncated or damaged; fetch it again"));
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
}
