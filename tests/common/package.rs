//! A package in memory that tests damage.

use std::collections::BTreeMap;
use std::fs;

use samlora::engine::Segmenter;
use samlora::error::Result;
use samlora::weights::manifest::MANIFEST_FILE;
use samlora::weights::package::PackageSource;
use samlora::weights::quantize::Scheme;
use samlora::weights::safetensors::parse_header;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{cpu, listing, merged};

/// A package in memory, to be damaged.
#[derive(Clone)]
pub struct Package {
    pub manifest: Value,
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Package {
    /// Six classes, q8, one shard.
    pub fn tiny() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("package");
        merged("s96_k6", 96, Scheme::Q8, &out);
        let read = |name: &String| (name.clone(), fs::read(out.join(name)).unwrap());
        let mut files: BTreeMap<_, _> = listing(&out).iter().map(read).collect();
        let manifest = serde_json::from_slice(&files.remove(MANIFEST_FILE).unwrap()).unwrap();
        Self { manifest, files }
    }

    pub fn shard(&self) -> String {
        self.manifest["shards"][0]["file"].as_str().unwrap().to_owned()
    }

    /// Changes bytes of a stored tensor and makes the hash right again.
    pub fn patch(&mut self, tensor: &str, change: impl FnOnce(&mut [u8])) {
        let file = self.shard();
        let bytes = self.files.get_mut(&file).unwrap();
        let found = parse_header(bytes).unwrap().tensors.into_iter().find(|t| t.info.name == tensor).unwrap();
        change(&mut bytes[found.range]);
        self.seal();
    }

    /// Changes the header of the one shard and makes the hash right again.
    pub fn rewrite(&mut self, change: impl FnOnce(&str) -> String) {
        let file = self.shard();
        let bytes = &self.files[&file];
        let start = parse_header(bytes).unwrap().data_start;
        let header = change(std::str::from_utf8(&bytes[8..start]).unwrap());
        let length = (header.len() as u64).to_le_bytes();
        let bytes = [&length[..], header.as_bytes(), &bytes[start..]].concat();
        self.files.insert(file, bytes);
        self.seal();
    }

    /// Length and hash of the one shard as they are now.
    pub fn seal(&mut self) {
        let bytes = &self.files[&self.shard()];
        let hash: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
        self.manifest["shards"][0]["bytes"] = bytes.len().into();
        self.manifest["shards"][0]["sha256"] = hash.into();
    }

    pub fn load(&self) -> Result<Segmenter> {
        pollster::block_on(Segmenter::load(self, &cpu(), |_| ()))
    }
}

impl PackageSource for Package {
    fn name(&self) -> String {
        "memory".into()
    }

    async fn read(&self, file: &str, _: usize) -> Result<Vec<u8>> {
        match file {
            MANIFEST_FILE => Ok(serde_json::to_vec(&self.manifest).unwrap()),
            _ => Ok(self.files[file].clone()),
        }
    }
}
