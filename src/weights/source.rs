//! Checkpoints whatever their format: a file or folder, recognised by its content, as named tensors.

use std::path::Path;

use super::manifest::MANIFEST_FILE;
use super::pytorch::{LEGACY_MAGIC, PytorchFile};
use super::shards::{SafetensorsFile, Shards};
use crate::error::{Error, ErrorKind, Result};

pub use super::file::FileReader;
pub use super::tensor::{Dtype, PassedOver, TensorInfo, TensorSource, hex, to_f32};

/// Opens a checkpoint, recognised by its content: a file of PyTorch's `torch.save` (zip format), a safetensors
/// file, or a Hugging Face folder (or its `*.index.json`) of one or several safetensors shards.
///
/// # Errors
/// [`ErrorKind::NotFound`] if there is nothing at `path`, [`ErrorKind::Unsupported`] for other kinds of files, [`ErrorKind::Format`] for a damaged file.
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
        [b'P', b'K', 3..=8, 4..=8, ..] => Ok(Box::new(PytorchFile::new(file)?)),
        // Of a safetensors file the first eight bytes are the header's length, and the header is a JSON object.
        [_, _, _, _, _, _, _, _, b'{', ..] => Ok(Box::new(SafetensorsFile::new(file)?)),
        [b'{', ..] => Ok(Box::new(Shards::open(path)?)),
        bytes if bytes.starts_with(&LEGACY_MAGIC) => Ok(Box::new(PytorchFile::legacy(file)?)),
        [0x80, 1..=5, ..] => unsupported(
            "this is a pickle, and none of PyTorch's",
            "save the tensors with PyTorch: torch.save(model.state_dict(), file)",
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
        _ => unsupported("this is no checkpoint that is known", "give a .pth file of PyTorch or a safetensors file"),
    }
}

fn open_folder(folder: &Path) -> Result<Box<dyn TensorSource>> {
    let error = |kind, message: &str| Error::new(kind, message).at(folder.display());
    if folder.join(MANIFEST_FILE).is_file() {
        return Err(error(ErrorKind::Unsupported, "this is a package, not a checkpoint").remedy("open it as a package"));
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
