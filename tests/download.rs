//! `samlora download` against a server in this process that misbehaves on request.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;

use samlora::config::{Backbone, SamConfig};
use samlora::weights::layout;
use samlora::weights::safetensors::Writer;
use samlora::weights::source::{Dtype, TensorInfo};

const NAME: &str = "sam_vit_b_01ec64.pth";
const LEN: usize = 300_000;

/// The file that the tests' server publishes.
fn content() -> Vec<u8> {
    (0..LEN as u64).map(|i| (i * i % 251) as u8).collect()
}

/// What the server does with one request.
#[derive(Clone, Copy)]
enum Answer {
    /// The range asked for, or everything; closed after this many bytes of body.
    Range(usize),
    /// Everything, whatever range was asked for.
    Whole,
    /// Other bytes of the right length.
    Wrong,
    /// A range that was not asked for.
    OtherRange,
    Status(u16),
    Body(usize),
    /// The whole file elsewhere on this server.
    Moved,
    /// So many bytes, and no word of how many there are.
    Unsized(usize),
}

/// Answers one request after another (the last answer for all further ones); returns its address and the heads received.
fn server(answers: &[Answer]) -> (String, Arc<Mutex<Vec<String>>>) {
    server_of(content(), answers)
}

/// [`server`] that publishes `content`.
fn server_of(content: Vec<u8>, answers: &[Answer]) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/base/", listener.local_addr().unwrap());
    let heads = Arc::new(Mutex::new(Vec::new()));
    let (log, answers) = (heads.clone(), answers.to_vec());
    thread::spawn(move || {
        for (i, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let head = read_head(&stream);
            log.lock().unwrap().push(head.clone());
            let _ = answer(&mut stream, &content, &head, answers[i.min(answers.len() - 1)]);
            let _ = stream.shutdown(Shutdown::Both);
        }
    });
    (url, heads)
}

fn read_head(stream: &TcpStream) -> String {
    let mut head = String::new();
    for line in BufReader::new(stream).lines() {
        match line {
            Ok(line) if !line.is_empty() => head += &format!("{}\n", line.to_lowercase()),
            _ => break,
        }
    }
    head
}

fn answer(out: &mut TcpStream, content: &[u8], head: &str, answer: Answer) -> std::io::Result<()> {
    let len = content.len();
    let start: usize =
        head.lines().find_map(|l| l.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok()).unwrap_or(0);
    let common = "ETag: \"v1\"\r\nConnection: close\r\n";
    match answer {
        Answer::Range(_) if start >= len => {
            write!(out, "HTTP/1.1 416 No\r\n{common}Content-Range: bytes */{len}\r\nContent-Length: 0\r\n\r\n")
        }
        Answer::Range(n) if start > 0 => {
            let rest = &content[start..];
            let range = format!("Content-Range: bytes {start}-{}/{len}\r\n", len - 1);
            write!(out, "HTTP/1.1 206 Partial Content\r\n{common}{range}Content-Length: {}\r\n\r\n", rest.len())?;
            out.write_all(&rest[..n.min(rest.len())])
        }
        Answer::Range(n) => {
            write!(out, "HTTP/1.1 200 OK\r\n{common}Content-Length: {len}\r\n\r\n")?;
            out.write_all(&content[..n.min(len)])
        }
        Answer::Whole => {
            write!(out, "HTTP/1.1 200 OK\r\n{common}Content-Length: {len}\r\n\r\n")?;
            out.write_all(content)
        }
        Answer::Wrong => {
            write!(out, "HTTP/1.1 200 OK\r\n{common}Content-Length: {len}\r\n\r\n")?;
            out.write_all(&vec![1; len])
        }
        Answer::OtherRange => {
            write!(
                out,
                "HTTP/1.1 206 Partial Content\r\n{common}Content-Range: bytes 5-9/{len}\r\nContent-Length: 5\r\n\r\n01234"
            )
        }
        Answer::Status(code) => write!(out, "HTTP/1.1 {code} No\r\n{common}Content-Length: 0\r\n\r\n"),
        Answer::Body(bytes) => {
            write!(out, "HTTP/1.1 200 OK\r\n{common}Content-Length: {bytes}\r\n\r\n")?;
            out.write_all(&vec![0; bytes])
        }
        Answer::Moved => {
            write!(out, "HTTP/1.1 302 Found\r\n{common}Location: /elsewhere\r\nContent-Length: 0\r\n\r\n")
        }
        Answer::Unsized(n) => {
            write!(out, "HTTP/1.1 200 OK\r\n{common}\r\n")?;
            out.write_all(&content[..n.min(len)])
        }
    }
}

fn download(url: &str, folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_samlora"));
    let crc32 = crc32fast::hash(&content()).to_string();
    command.args(["download", "vit_b", "--json", "--url", url, "--size", &LEN.to_string(), "--crc32", &crc32]);
    command.arg("--dir").arg(folder).env_remove("SAMLORA_CHECKPOINTS").env("NO_PROXY", "127.0.0.1");
    command
}

fn json(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn failure(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn fetches_verifies_and_fetches_no_second_time() {
    let folder = tempfile::tempdir().unwrap();
    let (url, heads) = server(&[Answer::Whole]);
    let inside = folder.path().join("new/folder");
    let first = json(&download(&url, &inside).output().unwrap());
    assert_eq!(first["downloaded"], true);
    assert_eq!(fs::read(inside.join(NAME)).unwrap(), content());
    assert_eq!(files(&inside), [NAME.to_owned(), format!("{NAME}.sha256")]);
    let recorded = fs::read_to_string(inside.join(format!("{NAME}.sha256"))).unwrap();
    assert_eq!(recorded, format!("{}  {NAME}\n", first["sha256"].as_str().unwrap()));

    let second = json(&download(&url, &inside).output().unwrap());
    assert_eq!((&second["downloaded"], &second["sha256"]), (&serde_json::json!(false), &first["sha256"]));
    let heads = heads.lock().unwrap();
    assert_eq!(heads.len(), 1);
    assert!(heads[0].starts_with(&format!("get /base/{NAME} ")) && !heads[0].contains("range:"), "{}", heads[0]);
}

#[test]
fn a_broken_connection_is_continued() {
    let folder = tempfile::tempdir().unwrap();
    let (url, heads) = server(&[Answer::Range(100_000), Answer::Range(50_000), Answer::Range(LEN)]);
    assert_eq!(json(&download(&url, folder.path()).output().unwrap())["downloaded"], true);
    assert_eq!(fs::read(folder.path().join(NAME)).unwrap(), content());
    let heads = heads.lock().unwrap();
    assert_eq!(heads.len(), 3);
    assert!(heads[1].contains("\nrange: bytes=100000-\n") && heads[1].contains("\nif-range: \"v1\"\n"), "{}", heads[1]);
    assert!(heads[2].contains("\nrange: bytes=150000-\n"), "{}", heads[2]);
}

#[test]
fn a_later_run_continues() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(format!("{NAME}.part")), &content()[..123_456]).unwrap();
    fs::write(folder.path().join(format!("{NAME}.part.tag")), "\"v1\"").unwrap();
    let (url, heads) = server(&[Answer::Range(LEN)]);
    assert_eq!(json(&download(&url, folder.path()).output().unwrap())["downloaded"], true);
    assert_eq!(fs::read(folder.path().join(NAME)).unwrap(), content());
    assert!(heads.lock().unwrap()[0].contains("\nrange: bytes=123456-\n"));
    assert_eq!(files(folder.path()).len(), 2);
}

#[test]
fn a_complete_part_needs_no_server() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(format!("{NAME}.part")), content()).unwrap();
    json(&download("http://127.0.0.1:9/", folder.path()).output().unwrap());
    assert_eq!(fs::read(folder.path().join(NAME)).unwrap(), content());
}

#[test]
fn a_server_without_ranges_starts_anew() {
    for answers in [&[Answer::Whole][..], &[Answer::Status(416), Answer::Whole]] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(format!("{NAME}.part")), vec![9; 1000]).unwrap();
        let (url, _) = server(answers);
        json(&download(&url, folder.path()).output().unwrap());
        assert_eq!(fs::read(folder.path().join(NAME)).unwrap(), content());
    }
}

#[test]
fn wrong_bytes_are_removed_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let (url, _) = server(&[Answer::Wrong]);
    let error = failure(&download(&url, folder.path()).output().unwrap());
    assert!(error.contains("CRC-32") && error.contains("removed") && error.contains(&url), "{error}");
    assert!(files(folder.path()).is_empty());
    // A part that was damaged on the disk is found too.
    fs::write(folder.path().join(format!("{NAME}.part")), vec![9; 1000]).unwrap();
    let (url, _) = server(&[Answer::Range(LEN)]);
    failure(&download(&url, folder.path()).output().unwrap());
    assert!(files(folder.path()).is_empty());
}

#[test]
fn what_the_server_refuses_or_confuses() {
    let part = format!("{NAME}.part");
    for (answer, expected) in [
        (Answer::Status(404), "no such file"),
        (Answer::Status(403), "HTTP status 403"),
        (Answer::Body(10), "the file has 10 bytes"),
        (Answer::Body(LEN + 1), "expected 300000"),
        (Answer::OtherRange, "another range"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(&part), &content()[..1000]).unwrap();
        let (url, _) = server(&[answer]);
        let error = failure(&download(&url, folder.path()).output().unwrap());
        assert!(error.contains(expected) && error.contains(&url), "{error}");
        assert!(!folder.path().join(NAME).exists());
    }
}

#[test]
fn files_that_are_already_here() {
    let (here, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = here.path().join(NAME);
    fs::write(&path, content()).unwrap();
    let run =
        || download("http://127.0.0.1:9/", cache.path()).env("SAMLORA_CHECKPOINTS", here.path()).output().unwrap();
    let found = json(&run());
    assert_eq!(
        (found["file"].as_str().unwrap(), &found["downloaded"]),
        (path.to_str().unwrap(), &serde_json::json!(false))
    );

    fs::write(path.with_extension("pth.sha256"), "0000  x\n").unwrap();
    assert!(failure(&run()).contains("SHA-256"));
    fs::write(&path, b"short").unwrap();
    let error = failure(&run());
    assert!(error.contains("expected 300000") && error.contains("delete this file"), "{error}");
    assert!(path.exists(), "a file that the user put here is never removed");
}

#[test]
fn a_folder_that_cannot_be_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("file");
    fs::write(&blocked, "").unwrap();
    let error = failure(&download("http://127.0.0.1:9/", &blocked).output().unwrap());
    assert!(error.contains("--dir"), "{error}");
}

/// A checkpoint in SAM's names, in 16 bits, all zero.
fn checkpoint(config: &SamConfig) -> Vec<u8> {
    let info = |(name, shape)| TensorInfo { name, shape, dtype: Dtype::F16 };
    let infos: Vec<TensorInfo> = layout::tensors(config).into_iter().map(info).collect();
    let mut writer = Writer::new(Vec::new(), &infos, &Default::default()).unwrap();
    for info in &infos {
        writer.tensor(&info.name, &vec![0; 2 * info.shape.iter().product::<usize>()]).unwrap();
    }
    writer.finish().unwrap()
}

fn slimsam() -> SamConfig {
    Backbone::named("slimsam_77").unwrap().config(4)
}

const SLIMSAM: &str = "SlimSAM-uniform-77.safetensors";

fn download_slimsam(url: &str, folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_samlora"));
    command.args(["download", "slimsam_77", "--json", "--url", url, "--dir"]).arg(folder);
    command.env_remove("SAMLORA_CHECKPOINTS").env("NO_PROXY", "127.0.0.1").output().unwrap()
}

/// The published SlimSAM has no hash that is known: it is told by what it holds.
#[test]
fn without_a_published_hash_the_contents_are_verified() {
    let folder = tempfile::tempdir().unwrap();
    let file = checkpoint(&slimsam());
    // As Hugging Face does, which sends each request on to where the file is.
    let (url, heads) =
        server_of(file.clone(), &[Answer::Moved, Answer::Range(5_000_000), Answer::Moved, Answer::Range(file.len())]);
    let output = download_slimsam(&url, folder.path());
    let first = json(&output);
    assert_eq!((&first["downloaded"], &first["verified_by"]), (&true.into(), &"contents".into()));
    assert_eq!(first["bytes"], file.len());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("9723528 parameters; no hash of this file is published"), "{said}");
    assert_eq!(files(folder.path()), [SLIMSAM.to_owned(), format!("{SLIMSAM}.sha256")]);
    assert!(fs::read(folder.path().join(SLIMSAM)).unwrap() == file);
    let heads = heads.lock().unwrap();
    assert!(heads[0].starts_with("get /base/model.safetensors ") && heads[1].starts_with("get /elsewhere "));
    assert!(
        heads[3].contains("\nrange: bytes=5000000-\n") && heads[3].contains("\nif-range: \"v1\"\n"),
        "{}",
        heads[3]
    );

    let second = json(&download_slimsam("http://127.0.0.1:9/", folder.path()));
    assert_eq!((&second["downloaded"], &second["sha256"]), (&false.into(), &first["sha256"]));
}

#[test]
fn a_size_that_only_the_server_knows() {
    let file = checkpoint(&slimsam());
    let part = format!("{SLIMSAM}.part");
    // All had arrived before the last run was stopped.
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(&part), &file).unwrap();
    fs::write(folder.path().join(format!("{part}.tag")), "\"v1\"").unwrap();
    let (url, heads) = server_of(file.clone(), &[Answer::Range(file.len())]);
    json(&download_slimsam(&url, folder.path()));
    assert_eq!((heads.lock().unwrap().len(), files(folder.path()).len()), (1, 2));
    assert!(heads.lock().unwrap()[0].contains(&format!("\nrange: bytes={}-\n", file.len())));
    // What nobody knows to be of the same file is fetched again: no hash would tell.
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(&part), vec![9; 1000]).unwrap();
    let (url, heads) = server_of(file.clone(), &[Answer::Range(file.len())]);
    json(&download_slimsam(&url, folder.path()));
    assert!(!heads.lock().unwrap()[0].contains("range:"));
    assert!(fs::read(folder.path().join(SLIMSAM)).unwrap() == file);
    // More than there is had arrived: it starts anew.
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(&part), vec![0; file.len() + 10]).unwrap();
    fs::write(folder.path().join(format!("{part}.tag")), "\"v1\"").unwrap();
    let (url, _) = server_of(file.clone(), &[Answer::Range(file.len()), Answer::Whole]);
    json(&download_slimsam(&url, folder.path()));
    // A server that does not tell: what the header of the file says decides.
    let folder = tempfile::tempdir().unwrap();
    let (url, _) = server_of(file.clone(), &[Answer::Unsized(file.len())]);
    json(&download_slimsam(&url, folder.path()));
    let folder = tempfile::tempdir().unwrap();
    let (url, _) = server_of(file.clone(), &[Answer::Unsized(file.len() - 1)]);
    let error = failure(&download_slimsam(&url, folder.path()));
    assert!(error.contains("no checkpoint of slimsam_77") && files(folder.path()).is_empty(), "{error}");
    // Broken off for good: what has arrived is kept.
    let folder = tempfile::tempdir().unwrap();
    let (url, _) = server_of(file, &[Answer::Range(1_000_000), Answer::Status(503)]);
    let error = failure(&download_slimsam(&url, folder.path()));
    assert!(error.contains("goes on from 1000000 bytes") && files(folder.path()).contains(&part), "{error}");
}

#[test]
fn another_model_is_refused_and_removed() {
    let other = SamConfig { mlp_dim: 700, ..slimsam() };
    for (content, expected) in [
        (checkpoint(&other), "no known backbone with 9739704 parameters, expected slimsam_77 with 9723528"),
        (vec![b' '; 20_000_000], "no checkpoint of slimsam_77"),
        (content(), "the file has 300000 bytes, expected about 38894112"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (url, _) = server_of(content, &[Answer::Whole]);
        let error = failure(&download_slimsam(&url, folder.path()));
        assert!(error.contains(expected) && error.contains(&url), "{error}");
        let left = files(folder.path());
        assert!(left.is_empty() || left == [format!("{SLIMSAM}.part")], "{left:?}");
        // A file of the user's own is named, and stays.
        fs::write(folder.path().join(SLIMSAM), b"something else").unwrap();
        assert!(failure(&download_slimsam(&url, folder.path())).contains("delete this file"));
        assert!(folder.path().join(SLIMSAM).exists());
    }
}

#[test]
fn mobile_sam_is_told_by_its_hash() {
    let sha256 = "fa7deae4b0504401a056ca3b1e6007902a7e681efda07fd7ca8819760caeff95";
    for (answer, fits) in [(Answer::Whole, true), (Answer::Wrong, false)] {
        let folder = tempfile::tempdir().unwrap();
        let (url, heads) = server(&[answer]);
        let mut command = Command::new(env!("CARGO_BIN_EXE_samlora"));
        command.args([
            "download",
            "mobile_sam",
            "--json",
            "--url",
            &url,
            "--size",
            &LEN.to_string(),
            "--sha256",
            sha256,
        ]);
        command.arg("--dir").arg(folder.path()).env_remove("SAMLORA_CHECKPOINTS").env("NO_PROXY", "127.0.0.1");
        let output = command.output().unwrap();
        assert!(heads.lock().unwrap()[0].starts_with("get /base/mobile_sam.pt "));
        if fits {
            let found = json(&output);
            assert_eq!((&found["verified_by"], &found["sha256"]), (&"sha256".into(), &sha256.into()));
            assert_eq!(files(folder.path()), ["mobile_sam.pt", "mobile_sam.pt.sha256"]);
        } else {
            let error = failure(&output);
            assert!(
                error.contains("SHA-256") && error.contains("removed") && files(folder.path()).is_empty(),
                "{error}"
            );
        }
    }
}
