//! A server in the test, which answers as it is told.
#![allow(dead_code)] // each test uses a part
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// An answer. The server closes the connection after it.
#[derive(Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Bytes that `Content-Length` claims beyond the body.
    pub missing: usize,
    /// How long nothing is sent.
    pub wait: Duration,
}

impl Answer {
    pub fn of(status: u16, body: Vec<u8>) -> Self {
        Self { status, headers: Vec::new(), body, missing: 0, wait: Duration::ZERO }
    }

    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.into(), value.to_string()));
        self
    }

    /// The bytes that a request's `Range` asks for.
    pub fn ranged(file: &[u8], request: &Request) -> Self {
        let Some(range) = request.header("range").and_then(|r| r.strip_prefix("bytes=").map(str::to_owned)) else {
            return Self::of(200, file.to_vec());
        };
        let (first, last) = range.split_once('-').unwrap();
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        let end = (last + 1).min(file.len());
        if first >= end {
            return Self::of(416, Vec::new());
        }
        let told = format!("bytes {first}-{}/{}", end - 1, file.len());
        Self::of(206, file[first..end].to_vec()).header("Content-Range", told)
    }
}

/// What was asked.
#[derive(Clone)]
pub struct Request {
    /// Path and query.
    pub target: String,
    pub headers: Vec<(String, String)>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// A parameter of the query, whatever the case of its name.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let query = self.target.split_once('?')?.1;
        let mut all = query.split('&').map(|p| p.split_once('=').unwrap_or((p, "")));
        all.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.replace("%3A", ":").replace("%2C", ","))
    }
}

/// A server on a port of this machine, until the test's process ends.
pub struct Stub {
    pub port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
    most: Arc<AtomicUsize>,
}

impl Stub {
    /// Begins to answer: `answer` gets a request and how many came before it.
    pub fn new(answer: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (requests, most) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let (answer, now) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
        let stub = Self { port, requests: Arc::clone(&requests), most: Arc::clone(&most) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (requests, most) = (Arc::clone(&requests), Arc::clone(&most));
                let (answer, now) = (Arc::clone(&answer), Arc::clone(&now));
                std::thread::spawn(move || {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    // A client that goes away is no failure of the server.
                    let _ = serve(&stream, &requests, answer.as_ref());
                    now.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        stub
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The most requests that were open at once.
    pub fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

fn serve(
    mut stream: &TcpStream,
    requests: &Mutex<Vec<Request>>,
    answer: &dyn Fn(&Request, usize) -> Answer,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let Some(target) = first.split(' ').nth(1).map(str::to_owned) else { return Ok(()) };
    let mut headers = Vec::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let request = Request { target, headers };
    let before = {
        let mut all = requests.lock().unwrap();
        all.push(request.clone());
        all.len() - 1
    };
    let Answer { status, headers, body, missing, wait } = answer(&request, before);
    std::thread::sleep(wait);
    write!(stream, "HTTP/1.1 {status} Told\r\nConnection: close\r\n")?;
    if status != 204 {
        write!(stream, "Content-Length: {}\r\n", body.len() + missing)?;
    }
    for (name, value) in headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    stream.write_all(b"\r\n")?;
    stream.write_all(&body)?;
    stream.flush()
}
