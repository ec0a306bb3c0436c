//! What the tests of checkpoint files share.
#![allow(dead_code)] // each test uses a part
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use samlora::error::{ErrorKind, Result};
use samlora::weights::safetensors::Writer;
use samlora::weights::source::{Dtype, TensorInfo, TensorSource};
use tempfile::TempDir;

/// The parity fixtures of this repository; only `parity.rs` takes another folder, since the others know its cases.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity")
}

pub fn names(source: &dyn TensorSource) -> Vec<&str> {
    source.tensors().iter().map(|t| t.name.as_str()).collect()
}

pub fn message<T>(result: Result<T>) -> (ErrorKind, String) {
    match result {
        Ok(_) => panic!("this should have failed"),
        Err(e) => (e.kind(), e.to_string()),
    }
}

/// A file `name` of `bytes` in a new folder.
pub fn file(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

pub fn info(name: &str, shape: &[usize], dtype: Dtype) -> TensorInfo {
    TensorInfo { name: name.into(), shape: shape.into(), dtype }
}

/// A safetensors file of these tensors.
pub fn safetensors(tensors: &[(TensorInfo, Vec<u8>)]) -> Vec<u8> {
    let infos: Vec<_> = tensors.iter().map(|(info, _)| info.clone()).collect();
    let mut writer = Writer::new(Vec::new(), &infos, &BTreeMap::new()).unwrap();
    for (info, bytes) in tensors {
        writer.tensor(&info.name, bytes).unwrap();
    }
    writer.finish().unwrap()
}
