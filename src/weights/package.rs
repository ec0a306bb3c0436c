//! Reading a package, shard by shard, from any source of bytes.

use std::collections::BTreeMap;
use std::future::Future;

use sha2::{Digest, Sha256};

use super::manifest::{Kind, LORA_MARK, MANIFEST_BYTES, MANIFEST_FILE, Manifest, Shard};
use super::quantize::{Scheme, matrix};
use super::safetensors::parse_header;
use super::tensor::{Dtype, hex};
use crate::config::SamConfig;
use crate::error::{Error, ErrorKind, Result};

/// The suffix of a block-quantised tensor's scales within a shard.
pub const SCALE_SUFFIX: &str = ".scale";

/// Where a package's files come from: a folder, an archive, HTTP, a browser's file list.
pub trait PackageSource {
    /// What errors call it: a path or a URL.
    fn name(&self) -> String;

    /// The whole file called `file`. It is at most `limit` bytes long; a source that can see more is there gives an
    /// error instead of fetching it. The caller adds package and file to errors.
    fn read(&self, file: &str, limit: usize) -> impl Future<Output = Result<Vec<u8>>>;
}

/// Bytes of shards loaded so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    /// Bytes of shards read and checked.
    pub loaded_bytes: u64,
    /// Bytes of all shards.
    pub total_bytes: u64,
}

/// Reads and checks the manifest.
///
/// # Errors
/// Those of the source and of [`Manifest::parse`], naming the package.
pub async fn read_manifest(source: &impl PackageSource) -> Result<Manifest> {
    let bytes = source.read(MANIFEST_FILE, MANIFEST_BYTES).await;
    let bytes = bytes.map_err(|e| e.at(MANIFEST_FILE).at(source.name()))?;
    Manifest::parse(&bytes).map_err(|e| e.at(source.name()))
}

/// A tensor as a package stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// How its numbers are stored.
    pub scheme: Scheme,
    /// Rows of its matrix.
    pub rows: usize,
    /// Columns of its matrix.
    pub columns: usize,
    /// The numbers of all rows.
    pub values: Vec<u8>,
    /// The scales of all rows; empty for floats.
    pub scales: Vec<u8>,
}

impl Stored {
    /// Stores `values` of `shape` by `scheme`.
    pub fn new(scheme: Scheme, values: &[f32], shape: &[usize]) -> Self {
        let (rows, columns) = matrix(shape);
        let (values, scales) = scheme.encode(values, columns);
        Self { scheme, rows, columns, values, scales }
    }

    /// Its numbers.
    ///
    /// # Errors
    /// Those of [`Scheme::decode`].
    pub fn decode(&self) -> Result<Vec<f32>> {
        self.scheme.decode(&self.values, &self.scales, self.rows, self.columns)
    }
}

/// Reads every tensor of a package, one shard in memory at a time, and hands each to `tensor` as name, shape and
/// values.
///
/// # Errors
/// Those of [`read_stored`]; [`ErrorKind::Format`] naming a tensor with numbers that are not finite.
pub async fn read_tensors(
    source: &impl PackageSource,
    manifest: &Manifest,
    mut tensor: impl FnMut(&str, &[usize], Vec<f32>) -> Result<()>,
    progress: impl FnMut(LoadProgress),
) -> Result<()> {
    let decode = |name: &str, shape: &[usize], stored: Stored| {
        let values = stored.decode().map_err(|e| e.at(format!("tensor {name}")))?;
        tensor(name, shape, values)
    };
    read_stored(source, manifest, decode, progress).await
}

/// [`read_tensors`] that leaves the numbers as they are stored; scales are finite.
///
/// # Errors
/// Those of the source; [`ErrorKind::Integrity`] if a shard's length or SHA-256 is not the manifest's;
/// [`ErrorKind::Format`] naming shard and tensor.
pub async fn read_stored(
    source: &impl PackageSource,
    manifest: &Manifest,
    mut tensor: impl FnMut(&str, &[usize], Stored) -> Result<()>,
    mut progress: impl FnMut(LoadProgress),
) -> Result<()> {
    let total_bytes = manifest.weight_bytes();
    let mut loaded_bytes = 0;
    // Tensors of which some rows have come and others lie in later shards.
    let mut begun: BTreeMap<&str, Stored> = BTreeMap::new();
    for (index, shard) in manifest.shards.iter().enumerate() {
        let place = |e: Error| e.at(&shard.file).at(source.name());
        let bytes = source.read(&shard.file, shard.bytes).await.map_err(place)?;
        verify(shard, &bytes).map_err(place)?;
        let header = parse_header(&bytes).map_err(place)?;
        let mut unclaimed: BTreeMap<&str, _> = header.tensors.iter().map(|t| (t.info.name.as_str(), t)).collect();
        let mut find = |name: &str, dtype: Dtype| {
            let entry = unclaimed.remove(name).filter(|t| t.info.dtype == dtype);
            entry.and_then(|t| bytes.get(t.range.clone())).ok_or_else(|| {
                let message = format!("is not in this shard as {dtype}");
                place(Error::new(ErrorKind::Format, message).at(format!("tensor {name}")))
            })
        };
        for (name, entry) in &manifest.tensors {
            let rows: usize = entry.parts.iter().filter(|p| p.shard == index).map(|p| p.rows).sum();
            if rows == 0 {
                continue;
            }
            let (all_rows, columns) = matrix(&entry.shape);
            let scales = match entry.scheme.row_bytes(columns) {
                (_, 0) => &[][..],
                _ => find(&format!("{name}{SCALE_SUFFIX}"), Dtype::F16)?,
            };
            let values = find(name, entry.scheme.dtype())?;
            entry.scheme.check(values, scales, rows, columns).map_err(|e| place(e.at(format!("tensor {name}"))))?;
            let stored = begun.entry(name).or_insert_with(|| Stored {
                scheme: entry.scheme,
                rows: 0,
                columns,
                values: Vec::new(),
                scales: Vec::new(),
            });
            stored.rows += rows;
            stored.values.extend_from_slice(values);
            stored.scales.extend_from_slice(scales);
            if stored.rows == all_rows
                && let Some(stored) = begun.remove(name.as_str())
            {
                tensor(name, &entry.shape, stored).map_err(place)?;
            }
        }
        if let Some(name) = unclaimed.keys().next() {
            let error = Error::new(ErrorKind::Format, "is in this shard, but not in the manifest");
            return Err(place(error.at(format!("tensor {name}"))));
        }
        loaded_bytes += shard.bytes as u64;
        progress(LoadProgress { loaded_bytes, total_bytes });
    }
    match begun.keys().next() {
        Some(name) => {
            Err(Error::new(ErrorKind::Format, "is not complete").at(format!("tensor {name}")).at(source.name()))
        }
        None => Ok(()),
    }
}

/// Checks that an adapter package belongs to a base package.
///
/// # Errors
/// [`ErrorKind::Invalid`] if the kinds are wrong, [`ErrorKind::Integrity`] if the adapter names another base,
/// [`ErrorKind::Format`] if it does not fit the base that it names.
pub fn check_pair(base: &Manifest, adapter: &Manifest) -> Result<()> {
    if base.kind != Kind::Base || adapter.kind != Kind::Adapter {
        let message = format!("expected a base and an adapter package, got {:?} and {:?}", base.kind, adapter.kind);
        return Err(
            Error::new(ErrorKind::Invalid, message).remedy("put an adapter package onto the base that it names")
        );
    }
    let (wanted, found) = (adapter.origin.base_sha256.as_deref().unwrap_or("none"), base.content_hash());
    if wanted != found {
        let message = format!("the adapter {:?} was made for the base {wanted}, this base is {found}", adapter.name);
        return Err(
            Error::new(ErrorKind::Integrity, message).remedy("load the base package that the adapter was made for")
        );
    }
    let same = SamConfig { mask_tokens: adapter.architecture.mask_tokens, ..base.architecture.clone() };
    let heads = adapter.tensors.keys().any(|name| !name.contains(LORA_MARK));
    if adapter.architecture != same || (!heads && same.mask_tokens != base.architecture.mask_tokens) {
        let message = format!("the adapter {:?} is for another architecture than its base's", adapter.name);
        return Err(Error::new(ErrorKind::Format, message).remedy("export the adapter again"));
    }
    Ok(())
}

fn verify(shard: &Shard, bytes: &[u8]) -> Result<()> {
    let remedy = "the file is damaged or from another package: copy or download it again";
    if bytes.len() != shard.bytes {
        let message = format!("has {} bytes, the manifest says {}", bytes.len(), shard.bytes);
        return Err(Error::new(ErrorKind::Integrity, message).remedy(remedy));
    }
    if !hex(&Sha256::digest(bytes)).eq_ignore_ascii_case(&shard.sha256) {
        return Err(Error::new(ErrorKind::Integrity, "its SHA-256 is not the manifest's").remedy(remedy));
    }
    Ok(())
}
