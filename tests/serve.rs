//! `samlora serve`, run as a program and asked over plain sockets.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

struct Server {
    child: Child,
    said: Value,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let mut child = command(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, said: serde_json::from_str(&line).unwrap() }
    }

    /// Status, head in lower case, and body of the answer to `GET path`.
    fn get(&self, path: &str, headers: &str) -> (u16, String, Vec<u8>) {
        self.get_from("localhost", path, headers)
    }

    /// The same under a name that the client takes this machine for.
    fn get_from(&self, host: &str, path: &str, headers: &str) -> (u16, String, Vec<u8>) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.said["port"].as_u64().unwrap() as u16)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let split = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&answer[..split]).to_lowercase();
        (head[9..12].parse().unwrap(), head, answer[split + 4..].to_vec())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_samlora"));
    command.arg("serve").args(["--port", "0", "--json"]).args(arguments);
    command
}

/// A page, a package, and a secret beside them.
fn site() -> (TempDir, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("secret.txt", "secret");
    write("dist/index.html", "<h1>page</h1>");
    write("dist/app.js", "1");
    write("dist/module.wasm", "\0asm");
    write("dist/picture.png", "png");
    write("models/my town/samlora.json", "{}");
    write("models/my town/weights-0.safetensors", "0123456789");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (page, model) = (text(&folder.path().join("dist")), text(&folder.path().join("models/my town")));
    (folder, page, model)
}

#[test]
fn page_and_packages_with_their_types() {
    let (_folder, page, model) = site();
    let server = Server::start(&["--www", &page, "--model", &model]);
    assert_eq!(server.said["models"], serde_json::json!(["my-town"]));
    assert!(server.said["url"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    for (path, kind, body) in [
        ("/", "text/html", "<h1>page</h1>"),
        ("/app.js", "text/javascript", "1"),
        ("/module.wasm", "application/wasm", "\0asm"),
        ("/picture.png", "image/png", "png"),
        ("/models/my-town/samlora.json", "application/json", "{}"),
        ("/models/my-town/weights-0.safetensors", "application/octet-stream", "0123456789"),
    ] {
        let (status, head, found) = server.get(path, "");
        assert_eq!((status, found), (200, body.as_bytes().to_vec()), "{path}");
        assert!(head.contains(&format!("content-type: {kind}")), "{head}");
        assert!(!head.contains("cross-origin"), "{head}");
    }
    let (_, head, body) = server.get("/models/index.json", "");
    assert!(head.contains("application/json"));
    let index: Value = serde_json::from_slice(&body).unwrap();
    let expected = serde_json::json!({ "models": [{
        "name": "my-town", "url": "/models/my-town/", "manifest": "/models/my-town/samlora.json",
        "manifest_bytes": 2, "bytes": 12,
    }]});
    assert_eq!(index, expected);
}

#[test]
fn only_this_machine_s_own_names_are_answered() {
    let (_folder, page, model) = site();
    let server = Server::start(&["--www", &page, "--model", &model]);
    for host in ["localhost", "LOCALHOST:80", "127.0.0.1:8080", "127.9.9.9", "[::1]", "[::1]:8080"] {
        assert_eq!(server.get_from(host, "/", "").0, 200, "{host}");
    }
    for host in ["rebound.example", "rebound.example:8080", "localhost.example", "192.168.1.7", "127.0.0.1.example"] {
        for path in ["/", "/models/index.json", "/models/my-town/samlora.json"] {
            let (status, _, body) = server.get_from(host, path, "");
            assert_eq!(status, 421, "{host}{path}");
            assert!(String::from_utf8(body).unwrap().contains("--host"));
        }
    }
}

#[test]
fn a_package_brings_no_pages_and_no_scripts() {
    let (_folder, page, model) = site();
    for name in ["index.html", "a.js", "a.svg", "A.HTML", "bare", "card.md", "LICENCE.txt"] {
        fs::write(Path::new(&model).join(name), "<script>1</script>").unwrap();
    }
    let server = Server::start(&["--www", &page, "--model", &model]);
    for name in ["", "index.html", "a.js", "a.svg", "A.HTML", "bare", "index%2ehtml"] {
        assert_eq!(server.get(&format!("/models/my-town/{name}"), "").0, 404, "{name}");
    }
    for name in ["card.md", "LICENCE.txt", "samlora.json"] {
        assert_eq!(server.get(&format!("/models/my-town/{name}"), "").0, 200, "{name}");
    }
}

#[test]
fn byte_ranges_and_isolation() {
    let (_folder, page, model) = site();
    let server = Server::start(&["--www", &page, "--model", &model, "--isolated"]);
    let (status, head, body) = server.get("/models/my-town/weights-0.safetensors", "Range: bytes=2-4\r\n");
    assert_eq!((status, body), (206, b"234".to_vec()));
    assert!(head.contains("content-range: bytes 2-4/10"), "{head}");
    assert_eq!(server.get("/models/my-town/weights-0.safetensors", "Range: bytes=90-\r\n").0, 416);
    assert!(head.contains("cross-origin-opener-policy: same-origin"));
    assert!(head.contains("cross-origin-embedder-policy: require-corp"));
    assert!(server.get("/", "").1.contains("cross-origin-embedder-policy: require-corp"));
}

#[test]
fn nothing_outside_is_served() {
    let (folder, page, model) = site();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(folder.path().join("secret.txt"), folder.path().join("dist/link.txt")).unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("models/my town/up")).unwrap();
    }
    let server = Server::start(&["--www", &page, "--model", &model]);
    for path in [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/..%5csecret.txt",
        "/%00",
        "/%ff",
        "//etc/passwd",
        "/link.txt",
        "/models/my-town/../../secret.txt",
        "/models/my-town/%2e%2e/%2e%2e/secret.txt",
        "/models/my-town/up/secret.txt",
        "/models/other/samlora.json",
        "/nothing",
    ] {
        let (status, _, body) = server.get(path, "");
        assert!((400..500).contains(&status), "{path}: {status}");
        assert!(!String::from_utf8_lossy(&body).contains("secret"), "{path}");
    }
    drop(folder);
}

#[test]
fn mistakes_are_named() {
    let (folder, page, model) = site();
    let fails = |arguments: &[&str], part: &str| {
        let output = command(arguments).current_dir(folder.path()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(part), "{text}");
    };
    fails(&["--www", "/no/such/folder"], "--www");
    fails(&["--www", &page, "--model", &page], "samlora.json");
    fails(&["--www", &page, "--model", &model, "--model", &model], "is taken");
    let server = Server::start(&["--www", &page]);
    let port = server.said["port"].to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_samlora")).args(["serve", "--www", &page, "--port", &port]).output();
    let text = String::from_utf8_lossy(&output.unwrap().stderr).into_owned();
    assert!(text.contains("--port"), "{text}");
}

#[test]
fn folders_of_tiles_are_offered_to_the_map() {
    let (folder, page, _) = site();
    let tile = image::RgbImage::from_pixel(8, 8, image::Rgb([90, 120, 80]));
    let place = |name: &str| {
        let path = folder.path().join("town tiles").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        tile.save(&path).unwrap();
        path
    };
    place("3/4/5.png");
    place("4/8/10.png");
    let tiles = folder.path().join("town tiles").to_str().unwrap().to_owned();
    let server = Server::start(&["--www", &page, "--tiles", &tiles]);
    let (status, head, body) = server.get("/tiles/index.json", "");
    assert!(status == 200 && head.contains("application/json"));
    let layer = &serde_json::from_slice::<Value>(&body).unwrap()["tiles"][0];
    assert_eq!(layer["url"], "/tiles/town-tiles/{z}/{x}/{y}.png");
    assert_eq!(
        (layer["minzoom"].as_u64(), layer["maxzoom"].as_u64(), layer["tileSize"].as_u64()),
        (Some(3), Some(4), Some(8))
    );
    let bounds: Vec<f64> = layer["bounds"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
    assert!(near(bounds[0], 0.0) && near(bounds[2], 45.0) && bounds[1] < bounds[3], "{bounds:?}");
    let view: Vec<f64> = layer["view"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    assert!(near(view[0], 0.0) && near(view[2], 22.5) && near(view[3], bounds[3]) && view[1] > bounds[1], "{view:?}");
    let (status, head, _) = server.get("/tiles/town-tiles/3/4/5.png", "");
    assert!(status == 200 && head.contains("image/png"));
    drop(server);

    let fails = |arguments: &[&str], part: &str| {
        let output = command(&["--www", &page]).args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(part), "{text}");
    };
    fails(&["--tiles", &tiles, "--tiles", &tiles], "is taken");
    fails(&["--tiles", &page], "no tiles");
    place("3-4-6.png");
    fails(&["--tiles", &tiles], "keep tiles of one kind");
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_it() {
    let (_folder, page, _) = site();
    let mut server = Server::start(&["--www", &page]);
    let _open = TcpStream::connect(("127.0.0.1", server.said["port"].as_u64().unwrap() as u16)).unwrap();
    let sent = Command::new("kill").args(["-INT", &server.child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    assert!(server.child.wait().unwrap().success());
}
