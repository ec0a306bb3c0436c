//! A package loads from any source of bytes: a folder, an archive, memory, and HTTP in ranges.
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod common;

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use common::command::succeeds;
use samlora::engine::Segmenter;
use samlora::error::{Error, ErrorKind, Result};
use samlora::image::RgbImage;
use samlora::weights::package::PackageSource;
use samlora::weights::quantize::Scheme;

struct Memory(HashMap<String, Vec<u8>>);

impl PackageSource for Memory {
    fn name(&self) -> String {
        "memory".into()
    }

    async fn read(&self, file: &str, _limit: usize) -> Result<Vec<u8>> {
        self.0.get(file).cloned().ok_or_else(|| Error::new(ErrorKind::NotFound, "is not there").at(file))
    }
}

/// Fetches files piece by piece, as a reader that resumes would.
struct Ranges {
    address: String,
}

impl PackageSource for Ranges {
    fn name(&self) -> String {
        self.address.clone()
    }

    async fn read(&self, file: &str, limit: usize) -> Result<Vec<u8>> {
        const PIECE: usize = 50_000;
        let mut content = Vec::new();
        loop {
            let range = format!("bytes={}-{}", content.len(), content.len() + PIECE - 1);
            let request = ureq::get(format!("{}{file}", self.address)).header("Range", range);
            let mut answer = request.call().map_err(|e| Error::new(ErrorKind::Io, e.to_string()).at(file))?;
            assert_eq!(answer.status(), 206, "the server honours ranges");
            let piece =
                answer.body_mut().read_to_vec().map_err(|e| Error::new(ErrorKind::Io, e.to_string()).at(file))?;
            let last = piece.len() < PIECE;
            content.extend(piece);
            assert!(content.len() <= limit);
            if last {
                return Ok(content);
            }
        }
    }
}

fn logits(source: &impl PackageSource, picture: &RgbImage) -> Vec<f32> {
    let segmenter = pollster::block_on(Segmenter::load(source, &common::cpu(), |_| ())).unwrap();
    pollster::block_on(segmenter.logits(picture)).unwrap().values
}

#[test]
fn every_source_gives_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let (package, archive) = (folder.path().join("tiny"), folder.path().join("tiny.samlora"));
    let manifest = common::merged("s96_k6", 96, Scheme::Q8, &package);
    common::merged("s96_k6", 96, Scheme::Q8, &archive);
    let picture = &common::reference("s96_k6")[0].0;
    let expected = logits(&samlora::weights::folder::Folder::open(&package).unwrap(), picture);
    assert_eq!(logits(&samlora::weights::folder::Folder::open(&archive).unwrap(), picture), expected);

    let names = std::iter::once("samlora.json".to_owned()).chain(manifest.shards.iter().map(|s| s.file.clone()));
    let files = names.map(|name| (name.clone(), std::fs::read(package.join(name)).unwrap()));
    assert_eq!(logits(&Memory(files.collect()), picture), expected);

    let mut server = Command::new(env!("CARGO_BIN_EXE_samlora"))
        .args(["serve", "--port", "0", "--json", "--model"])
        .arg(&package)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let said: serde_json::Value = serde_json::from_str(&line).unwrap();
    let address = format!("{}models/tiny/", said["url"].as_str().unwrap());
    let served = std::panic::catch_unwind(|| logits(&Ranges { address }, picture));
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(served.unwrap(), expected);
    assert!(succeeds(&["inspect", &archive.display().to_string()]).contains("all hashes right"));
}
