//! Writing a package: tensor by tensor, so that memory holds one shard and one tensor whatever the model's size.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::checkpoint::{Adapter, Checkpoint, merged_tensor};
use super::folder::Folder;
use super::keys::{Side, lora_name};
use super::layout;
use super::manifest::{
    Kind, LORA_MARK, MANIFEST_BYTES, MANIFEST_FILE, Manifest, Part, SHARD_BYTES, Shard, TensorEntry,
};
use super::package::SCALE_SUFFIX;
use super::quantize::{Scheme, matrix};
use super::safetensors::encode_header;
use super::tensor::{Dtype, TensorInfo, hex};
use crate::error::{Error, ErrorKind, Result};

/// Room for a shard's own header.
const HEADER_BYTES: usize = 256 << 10;

/// Writes the package that `manifest` describes (its `shards`, `tensors` and hashes are filled in) to the folder or
/// `.samlora` file `out`: `base` with `adapter` merged into it, `base` alone, or `adapter` alone.
///
/// Everything is written beside `out` first and renamed at the end: `out` is complete or untouched. `progress` gets
/// tensors done and tensors in all.
///
/// # Errors
/// Those of reading; [`ErrorKind::Invalid`] if `out` exists and is not a package; [`ErrorKind::Io`] naming the file.
pub fn export(
    manifest: Manifest,
    base: &Checkpoint,
    adapter: Option<&Adapter>,
    out: &Path,
    progress: impl FnMut(usize, usize),
) -> Result<Manifest> {
    let config = manifest.architecture.clone();
    match (manifest.kind, adapter) {
        (Kind::Adapter, Some(adapter)) => {
            // Heads are loaded as a whole: those that the adapter lacks are the base's.
            let mut tensors = if adapter.tensors.is_empty() { Vec::new() } else { layout::heads(&config) };
            let mut factors = BTreeMap::new();
            for factor in &adapter.factors {
                let (inputs, outputs, _) = factor.target.extent(&config, factor.block);
                for (side, shape, values) in
                    [(Side::A, vec![factor.rank, inputs], &factor.a), (Side::B, vec![outputs, factor.rank], &factor.b)]
                {
                    let name = lora_name(factor.block, factor.target, side);
                    tensors.push((name.clone(), shape));
                    factors.insert(name, values);
                }
            }
            let read = |name: &str| match factors.get(name) {
                Some(values) => Ok((*values).clone()),
                None => merged_tensor(name, base, Some(adapter), &config),
            };
            write(manifest, tensors, read, out, progress)
        }
        (Kind::Adapter, None) => Err(Error::new(ErrorKind::Invalid, "an adapter package needs an adapter")),
        (_, adapter) => {
            let read = |name: &str| merged_tensor(name, base, adapter, &config);
            write(manifest, layout::tensors(&config), read, out, progress)
        }
    }
}

/// Writes a package of `tensors` (name and shape), whose values `read` gives; see [`export`].
///
/// # Errors
/// As [`export`].
pub fn write(
    mut manifest: Manifest,
    tensors: Vec<(String, Vec<usize>)>,
    mut read: impl FnMut(&str) -> Result<Vec<f32>>,
    out: &Path,
    mut progress: impl FnMut(usize, usize),
) -> Result<Manifest> {
    manifest.check_settings()?;
    let place = |e: Error| e.at(out.display());
    let target = Destination::new(out)?;
    let mut shards = ShardWriter::new(target.folder.path(), &manifest.name);
    manifest.tensors.clear();
    let count = tensors.len();
    for (done, (name, shape)) in tensors.into_iter().enumerate() {
        let scheme = tensor_scheme(manifest.scheme, &name, &shape);
        let values = read(&name)?;
        let parts = shards.tensor(&name, &shape, scheme, &values).map_err(place)?;
        manifest.tensors.insert(name, TensorEntry { shape, scheme, parts });
        progress(done + 1, count);
    }
    manifest.shards = shards.finish().map_err(place)?;
    let json = manifest.to_json()?;
    Manifest::parse(&json)?; // what is written can be read
    let path = target.folder.path().join(MANIFEST_FILE);
    write_file(&path, &json).map_err(place)?;
    target.commit(&manifest)?;
    Ok(manifest)
}

/// Checks that a package can be written to `out`, before much work is done for it.
///
/// # Errors
/// As [`export`] for what is there already and for a folder that cannot be made.
pub fn vacant(out: &Path) -> Result<()> {
    Destination::new(out).map(drop)
}

/// Low-rank factors are small and multiply each other's errors: they stay f16 at least.
fn tensor_scheme(scheme: Scheme, name: &str, shape: &[usize]) -> Scheme {
    match scheme {
        Scheme::Q8 | Scheme::Q4 if name.contains(LORA_MARK) => Scheme::F16,
        scheme => scheme.of_tensor(name, shape),
    }
}

/// Collects tensors into shards of at most [`SHARD_BYTES`].
struct ShardWriter {
    folder: PathBuf,
    stem: String,
    shards: Vec<Shard>,
    pending: Vec<(TensorInfo, Vec<u8>)>,
    pending_bytes: usize,
}

impl ShardWriter {
    fn new(folder: &Path, name: &str) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let stem: String = name.chars().map(plain).take(48).collect();
        let stem = if stem.trim_matches('-').is_empty() { "weights".into() } else { stem.trim_matches('-').to_owned() };
        Self { folder: folder.to_owned(), stem, shards: Vec::new(), pending: Vec::new(), pending_bytes: 0 }
    }

    fn tensor(&mut self, name: &str, shape: &[usize], scheme: Scheme, values: &[f32]) -> Result<Vec<Part>> {
        let (rows, columns) = matrix(shape);
        if values.len() != rows * columns {
            let message = format!("{} values for shape {shape:?}", values.len());
            return Err(Error::new(ErrorKind::Format, message).at(format!("tensor {name}")));
        }
        if let Some(value) = values.iter().find(|v| v.is_nan() || v.abs() > scheme.largest()) {
            let message = format!("holds {value}, which {} cannot store", scheme.name());
            return Err(Error::new(ErrorKind::Format, message).at(format!("tensor {name}")).remedy("export as f32"));
        }
        let (row_values, row_scales) = scheme.row_bytes(columns);
        let row_bytes = row_values + row_scales;
        let room = SHARD_BYTES - HEADER_BYTES;
        if row_bytes > room {
            let message = format!("one row has {row_bytes} bytes, a shard has room for {room}");
            return Err(Error::new(ErrorKind::Limit, message).at(format!("tensor {name}")));
        }
        let mut parts = Vec::new();
        let mut done = 0;
        while done < rows {
            let fitting = (room - self.pending_bytes) / row_bytes;
            // Start a new shard rather than splitting what fits into one.
            if fitting == 0 || (fitting < rows - done && self.pending_bytes > 0 && (rows - done) * row_bytes <= room) {
                self.flush()?;
                continue;
            }
            let run = fitting.min(rows - done);
            let (bytes, scales) = scheme.encode(&values[done * columns..(done + run) * columns], columns);
            let info = |name: String, dtype, width| TensorInfo { name, shape: vec![run, width], dtype };
            let dtype = scheme.dtype();
            self.pending.push((info(name.to_owned(), dtype, row_values / dtype.size()), bytes));
            if !scales.is_empty() {
                self.pending.push((info(format!("{name}{SCALE_SUFFIX}"), Dtype::F16, row_scales / 2), scales));
            }
            self.pending_bytes += run * row_bytes;
            parts.push(Part { shard: self.shards.len(), rows: run });
            done += run;
        }
        Ok(parts)
    }

    /// Writes the pending tensors as one shard.
    fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        // Longest elements first keeps every tensor aligned.
        self.pending.sort_by_key(|(info, _)| std::cmp::Reverse(info.dtype.size()));
        let infos: Vec<TensorInfo> = self.pending.iter().map(|(info, _)| info.clone()).collect();
        let mut content = encode_header(&infos, &BTreeMap::new())?;
        for (_, bytes) in &self.pending {
            content.extend_from_slice(bytes);
        }
        let file = format!("{}-{:05}.safetensors", self.stem, self.shards.len() + 1);
        write_file(&self.folder.join(&file), &content)?;
        let sha256 = hex(&Sha256::digest(&content));
        self.shards.push(Shard { file, bytes: content.len(), sha256 });
        self.pending.clear();
        self.pending_bytes = 0;
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Shard>> {
        self.flush()?;
        Ok(self.shards)
    }
}

/// Where a package goes, and the folder beside it that it grows in.
struct Destination {
    out: PathBuf,
    folder: tempfile::TempDir,
}

impl Destination {
    fn new(out: &Path) -> Result<Self> {
        if let Some(why) = occupied(out)? {
            return Err(Error::new(ErrorKind::Invalid, format!("{why}; it is not overwritten"))
                .at(out.display())
                .remedy("choose another --out"));
        }
        let parent = match out.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let no_folder = |e: std::io::Error| Error::from(e).at(parent.display()).remedy("choose another --out");
        fs::create_dir_all(parent).map_err(no_folder)?;
        let folder = tempfile::Builder::new().prefix(".samlora-").tempdir_in(parent);
        Ok(Self { out: out.to_owned(), folder: folder.map_err(no_folder)? })
    }

    /// Puts the finished folder, or a zip of it, in place.
    fn commit(self, manifest: &Manifest) -> Result<()> {
        let place = |e: std::io::Error| Error::from(e).at(self.out.display());
        if is_archive(&self.out) {
            let mut file = tempfile::NamedTempFile::new_in(self.folder.path().parent().unwrap_or(Path::new(".")))
                .map_err(place)?;
            zip_folder(self.folder.path(), manifest, file.as_file_mut()).map_err(place)?;
            readable(file.path()).map_err(place)?;
            file.persist(&self.out).map_err(|e| place(e.error))?;
            return Ok(());
        }
        readable(self.folder.path()).map_err(place)?;
        // A folder cannot be renamed onto a full one: the old package steps aside first and comes back on failure.
        let aside = self.folder.path().with_extension("old");
        let replaced = self.out.is_dir();
        if replaced {
            fs::rename(&self.out, &aside).map_err(place)?;
        }
        let grown = self.folder.keep();
        if let Err(e) = fs::rename(&grown, &self.out) {
            if replaced {
                let _ = fs::rename(&aside, &self.out);
            }
            let _ = fs::remove_dir_all(&grown);
            return Err(place(e));
        }
        if replaced {
            fs::remove_dir_all(&aside).map_err(place)?;
        }
        Ok(())
    }
}

/// Why `out` may not be replaced: it is no package, or a folder that holds more than one.
fn occupied(out: &Path) -> Result<Option<String>> {
    let foreign = || Ok(Some("exists and is not a package".to_owned()));
    if !out.exists() {
        return Ok(None);
    }
    if is_archive(out) {
        let manifest = Folder::open(out).and_then(|archive| archive.read_now(MANIFEST_FILE, MANIFEST_BYTES));
        return if out.is_file() && manifest.is_ok() { Ok(None) } else { foreign() };
    }
    if !out.is_dir() {
        return foreign();
    }
    // Leniently, so that a package of another version can be replaced too.
    let manifest = fs::read(out.join(MANIFEST_FILE)).ok().and_then(|json| serde_json::from_slice::<Value>(&json).ok());
    let manifest = manifest.filter(|m| m["format"] == "samlora");
    let shards = manifest.iter().filter_map(|m| m["shards"].as_array()).flatten().filter_map(|s| s["file"].as_str());
    let known: Vec<&str> = manifest.iter().map(|_| MANIFEST_FILE).chain(shards).collect();
    for entry in fs::read_dir(out).map_err(|e| Error::from(e).at(out.display()))? {
        let name = entry.map_err(|e| Error::from(e).at(out.display()))?.file_name();
        match known.iter().any(|known| *known == name) {
            true => {}
            false if manifest.is_none() => return foreign(),
            false => return Ok(Some(format!("holds {name:?} beside a package"))),
        }
    }
    Ok(None)
}

fn is_archive(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("samlora"))
}

/// Temporary files are private; a package is for a web server to read.
fn readable(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

fn zip_folder(folder: &Path, manifest: &Manifest, out: &mut File) -> std::io::Result<()> {
    let mut zip = ZipWriter::new(out);
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for file in std::iter::once(MANIFEST_FILE).chain(manifest.shards.iter().map(|s| s.file.as_str())) {
        zip.start_file(file, stored).map_err(std::io::Error::other)?;
        std::io::copy(&mut File::open(folder.join(file))?, &mut zip)?;
    }
    zip.finish().map_err(std::io::Error::other)?.sync_all()
}

fn write_file(path: &Path, content: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(|e| {
        let full = e.kind() == std::io::ErrorKind::StorageFull;
        // The caller adds the package: the folder that it grows in is of no interest.
        let e = Error::from(e).at(path.file_name().unwrap_or_default().display());
        if full { e.remedy("free some space, or choose another --out") } else { e }
    })
}
