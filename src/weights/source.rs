//! The common view of a checkpoint: named tensors, read one after another.
//!
//! A reader holds only the checkpoint's table of contents; [`TensorSource::read_f32`] fetches one tensor's bytes from
//! the file, so that a ViT-H checkpoint (2.6 GB) streams through the memory of its largest tensor.

use std::fmt;

use half::{bf16, f16};

use crate::error::{Error, ErrorKind, Result};

#[cfg(not(target_arch = "wasm32"))]
pub use native::{FileReader, open};

/// The type of a stored element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    BF16,
    /// IEEE 754 binary64.
    F64,
    /// Signed byte.
    I8,
    /// Unsigned byte.
    U8,
    /// 32-bit signed integer.
    I32,
    /// 64-bit signed integer.
    I64,
    /// One byte: 0 is false, anything else is true.
    Bool,
}

impl Dtype {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::F16 | Self::BF16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::F64 => "f64",
            Self::I8 => "i8",
            Self::U8 => "u8",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::Bool => "bool",
        })
    }
}

/// A tensor's entry in the table of contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name in the file.
    pub name: String,
    /// Its sides, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// The type its elements are stored as.
    pub dtype: Dtype,
}

impl TensorInfo {
    /// Number of elements; `None` where the product does not fit `usize`.
    pub fn elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side))
    }

    /// Bytes of all elements; `None` where that does not fit `usize`.
    pub fn byte_len(&self) -> Option<usize> {
        self.elements()?.checked_mul(self.dtype.size())
    }
}

/// A checkpoint whose tensors are read one at a time.
pub trait TensorSource {
    /// Every tensor, sorted by name; names are unique.
    fn tensors(&self) -> &[TensorInfo];

    /// The elements of the tensor `name`, row-major, converted to `f32` (booleans to 0 and 1).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such tensor, [`ErrorKind::Format`] naming tensor and index of an element
    /// that is not finite (or not as an `f32`), [`ErrorKind::Io`] if the file cannot be read. They name the tensor; the
    /// caller adds the file.
    fn read_f32(&self, name: &str) -> Result<Vec<f32>>;

    /// SHA-256 of the file, 64 lower-case hexadecimal digits; of several shards, of their bytes one after another in
    /// the order of their file names. Reads the whole checkpoint, a block at a time.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the file cannot be read.
    fn hash(&self) -> Result<String>;

    /// The entry of the tensor `name`, if there is one.
    fn info(&self, name: &str) -> Option<&TensorInfo> {
        let tensors = self.tensors();
        tensors.binary_search_by(|t| t.name.as_str().cmp(name)).ok().and_then(|i| tensors.get(i))
    }
}

/// Converts stored elements of the tensor `name` to `f32`.
///
/// # Errors
/// [`ErrorKind::Format`] naming the tensor and the index (row-major, from 0) of the first element that is not finite.
pub fn to_f32(name: &str, dtype: Dtype, bytes: &[u8], big_endian: bool) -> Result<Vec<f32>> {
    /// `bytes` in steps of `N`, each turned to little-endian and given to `read`.
    fn each<const N: usize>(bytes: &[u8], big_endian: bool, read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        let (steps, _) = bytes.as_chunks::<N>();
        let turn = |&(mut step): &[u8; N]| {
            if big_endian {
                step.reverse();
            }
            read(step)
        };
        steps.iter().map(turn).collect()
    }
    let values = match dtype {
        Dtype::F32 => each(bytes, big_endian, f32::from_le_bytes),
        Dtype::F16 => each(bytes, big_endian, |b| f16::from_le_bytes(b).to_f32()),
        Dtype::BF16 => each(bytes, big_endian, |b| bf16::from_le_bytes(b).to_f32()),
        Dtype::F64 => each(bytes, big_endian, |b| f64::from_le_bytes(b) as f32),
        Dtype::I8 => each(bytes, big_endian, |b| f32::from(i8::from_le_bytes(b))),
        Dtype::U8 => each(bytes, big_endian, |[b]| f32::from(b)),
        Dtype::I32 => each(bytes, big_endian, |b| i32::from_le_bytes(b) as f32),
        Dtype::I64 => each(bytes, big_endian, |b| i64::from_le_bytes(b) as f32),
        Dtype::Bool => each(bytes, big_endian, |[b]| f32::from(u8::from(b != 0))),
    };
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(values),
        Some(i) => {
            Err(Error::new(ErrorKind::Format, format!("element {i} is {}, which is not a finite f32", values[i]))
                .at(format!("tensor {name}"))
                .remedy("the checkpoint is damaged or its training diverged; use another one"))
        }
    }
}

/// The error of a tensor that a checkpoint does not have.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn no_tensor(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, "there is no such tensor").at(format!("tensor {name}"))
}

/// `bytes` in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use std::fs::File;
    use std::io::{Read, Seek, SeekFrom};
    use std::path::{Path, PathBuf};
    use std::sync::Mutex;

    use sha2::{Digest, Sha256};

    use super::{TensorSource, hex};
    use crate::error::{Error, ErrorKind, Result};
    use crate::weights::manifest::MANIFEST_FILE;
    use crate::weights::{pytorch, safetensors};

    /// A file that is read in pieces from any thread.
    ///
    /// Reads rather than a memory map: mapped pages count as the process's memory, and a file that is cut short while
    /// it is mapped kills the process.
    #[derive(Debug)]
    pub struct FileReader {
        path: PathBuf,
        file: Mutex<File>,
        len: u64,
    }

    impl FileReader {
        /// Opens the file at `path`.
        ///
        /// # Errors
        /// [`ErrorKind::NotFound`] or [`ErrorKind::Io`] naming the file; [`ErrorKind::Invalid`] for a folder.
        pub fn open(path: &Path) -> Result<Self> {
            let place = |e: std::io::Error| Error::from(e).at(path.display());
            let file = File::open(path).map_err(place)?;
            let meta = file.metadata().map_err(place)?;
            if meta.is_dir() {
                return Err(Error::new(ErrorKind::Invalid, "this is a folder, not a file").at(path.display()));
            }
            Ok(Self { path: path.to_owned(), file: Mutex::new(file), len: meta.len() })
        }

        /// The file's path as given.
        pub fn path(&self) -> &Path {
            &self.path
        }

        /// The file's length in bytes when it was opened.
        pub fn len(&self) -> u64 {
            self.len
        }

        /// Whether the file had no bytes when it was opened.
        pub fn is_empty(&self) -> bool {
            self.len == 0
        }

        /// `len` bytes from `start` on.
        ///
        /// # Errors
        /// [`ErrorKind::Format`] if the file ends before, [`ErrorKind::Io`] if it cannot be read; the caller adds the file.
        pub fn read(&self, start: u64, len: usize) -> Result<Vec<u8>> {
            // Checked before the allocation, so that a hostile length costs nothing.
            if start.checked_add(len as u64).is_none_or(|end| end > self.len) {
                let message = format!("{len} bytes at {start} lie beyond the file's {}", self.len);
                return Err(Error::new(ErrorKind::Format, message).remedy("the file is truncated; fetch it again"));
            }
            let mut bytes = vec![0; len];
            let mut file = self.lock();
            file.seek(SeekFrom::Start(start)).and_then(|_| file.read_exact(&mut bytes))?;
            Ok(bytes)
        }

        /// Feeds the whole file to `hasher`, a block at a time.
        pub(crate) fn hash_into(&self, hasher: &mut Sha256) -> Result<()> {
            let place = |e: std::io::Error| Error::from(e).at(self.path.display());
            let mut file = self.lock();
            file.seek(SeekFrom::Start(0)).map_err(place)?;
            let mut block = vec![0; 1 << 20];
            loop {
                match file.read(&mut block).map_err(place)? {
                    0 => return Ok(()),
                    n => hasher.update(&block[..n]),
                }
            }
        }

        /// SHA-256 of the whole file in hexadecimal.
        pub(crate) fn hash(&self) -> Result<String> {
            let mut hasher = Sha256::new();
            self.hash_into(&mut hasher)?;
            Ok(hex(&hasher.finalize()))
        }

        /// An independent handle of the same file, for readers that keep a position of their own.
        pub(crate) fn reopen(&self) -> Result<File> {
            File::open(&self.path).map_err(|e| Error::from(e).at(self.path.display()))
        }

        /// An error at this file.
        pub(crate) fn error(&self, kind: ErrorKind, message: impl Into<String>) -> Error {
            Error::new(kind, message).at(self.path.display())
        }

        fn lock(&self) -> std::sync::MutexGuard<'_, File> {
            // Every read seeks first, so a reader that panicked half-way leaves nothing behind.
            self.file.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
        }
    }

    /// Opens a checkpoint, recognised by its content: a file of PyTorch's `torch.save` (zip format), a safetensors
    /// file, or a Hugging Face folder (or its `*.index.json`) of one or several safetensors shards.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is nothing at `path`, [`ErrorKind::Unsupported`] for PyTorch's old format and
    /// for other kinds of files, [`ErrorKind::Format`] for a damaged file.
    pub fn open(path: impl AsRef<Path>) -> Result<Box<dyn TensorSource>> {
        let path = path.as_ref();
        if path.is_dir() { open_folder(path) } else { open_file(path) }
    }

    fn open_file(path: &Path) -> Result<Box<dyn TensorSource>> {
        let file = FileReader::open(path)?;
        let head = file.read(0, file.len().min(264) as usize).map_err(|e| e.at(path.display()))?;
        let unsupported = |what: &str, remedy: &str| Err(file.error(ErrorKind::Unsupported, what).remedy(remedy));
        match head.as_slice() {
            [] => Err(file.error(ErrorKind::Format, "the file is empty").remedy("download or copy it again")),
            [b'P', b'K', 3..=8, 4..=8, ..] => Ok(Box::new(pytorch::Checkpoint::new(file)?)),
            // Of a safetensors file the first eight bytes are the header's length, and the header is a JSON object.
            [_, _, _, _, _, _, _, _, b'{', ..] => Ok(Box::new(safetensors::SafetensorsFile::new(file)?)),
            [b'{', ..] => Ok(Box::new(safetensors::Shards::open(path)?)),
            [0x80, 1..=5, ..] => unsupported(
                "this is a pickle of PyTorch before 1.6 (not a zip file)",
                "rewrite it with a recent PyTorch: torch.save(torch.load(old, map_location=\"cpu\"), new)",
            ),
            bytes if bytes.get(257..262) == Some(b"ustar") => unsupported(
                "this is a tar file of PyTorch before 0.1.10",
                "rewrite it with a recent PyTorch: torch.save(torch.load(old, map_location=\"cpu\"), new)",
            ),
            bytes if bytes.starts_with(b"version https://git-lfs") => {
                unsupported("this is a Git LFS pointer, not the file itself", "fetch the file with `git lfs pull`")
            }
            bytes if bytes.trim_ascii_start().starts_with(b"<") => {
                unsupported("this is a web page, not a checkpoint", "download the file itself")
            }
            _ => {
                unsupported("this is no checkpoint that is known", "give a .pth file of PyTorch or a safetensors file")
            }
        }
    }

    fn open_folder(folder: &Path) -> Result<Box<dyn TensorSource>> {
        let error = |kind, message: &str| Error::new(kind, message).at(folder.display());
        if folder.join(MANIFEST_FILE).is_file() {
            return Err(
                error(ErrorKind::Unsupported, "this is a package, not a checkpoint").remedy("open it as a package")
            );
        }
        // The names that Hugging Face's libraries write, best first.
        for name in ["model.safetensors.index.json", "model.safetensors", "pytorch_model.bin"] {
            if folder.join(name).is_file() {
                return open_file(&folder.join(name));
            }
        }
        let mut files = Vec::new();
        for entry in folder.read_dir().map_err(|e| Error::from(e).at(folder.display()))? {
            let path = entry.map_err(|e| Error::from(e).at(folder.display()))?.path();
            if path.is_file() && path.extension().is_some_and(|e| e == "safetensors" || e == "pth" || e == "pt") {
                files.push(path);
            }
        }
        match files.as_slice() {
            [file] => open_file(file),
            [] => Err(error(ErrorKind::NotFound, "the folder holds no checkpoint")
                .remedy("it should hold model.safetensors or model.safetensors.index.json with its shards")),
            _ => Err(error(ErrorKind::Invalid, "the folder holds several checkpoints").remedy("name one of its files")),
        }
    }
}
