//! Requests to servers.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED, RETRY_AFTER};

use super::cache::Cache;
use crate::TOOL;
use crate::error::{Error, ErrorKind, Result};

/// The longest that is waited between two attempts, whatever the server asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The first wait, doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// How servers are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpOptions {
    /// Headers of every request, for instance `Authorization`.
    pub headers: Vec<(String, String)>,
    /// The longest that a connection, and each part of an answer, may take.
    pub timeout: Duration,
    /// Attempts after the first that are made where a server is busy or a connection breaks.
    pub retries: u32,
    /// Requests at once, at least 1.
    pub parallel: usize,
    /// A folder that keeps tiles for later runs; none keeps none.
    pub cache: Option<PathBuf>,
    /// The most bytes in it.
    pub cache_bytes: u64,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            headers: Vec::new(),
            timeout: Duration::from_secs(30),
            retries: 4,
            // What the usage policies of public tile servers bear.
            parallel: 4,
            cache: None,
            cache_bytes: 1 << 30,
        }
    }
}

/// Asks servers.
pub struct Client {
    agent: ureq::Agent,
    options: HttpOptions,
    pub(super) cache: Option<Cache>,
}

/// An answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    pub(super) content_type: String,
    pub(super) content_range: String,
    /// What changes when the file does, if the server says.
    pub(super) version: String,
}

/// Why an attempt failed.
enum Failure {
    /// Another attempt may help, after what the server asks to wait.
    Passing(Error, Option<Duration>),
    Final(Error),
}

impl Client {
    /// A client.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for headers that are none; [`ErrorKind::Io`] if the cache's folder cannot be made.
    pub fn new(options: &HttpOptions) -> Result<Self> {
        for (name, value) in &options.headers {
            let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
            if !is_name || value.bytes().any(|b| b < b' ' || b == 127) {
                return Err(Error::new(ErrorKind::Invalid, format!("{name:?} is no header"))
                    .at("--header")
                    .remedy("write it as \"Name: value\""));
            }
        }
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .user_agent(TOOL)
            .timeout_connect(Some(options.timeout))
            .timeout_recv_response(Some(options.timeout))
            .timeout_per_read(Some(options.timeout))
            .build()
            .into();
        let cache = match &options.cache {
            Some(folder) => Some(Cache::open(folder, options.cache_bytes)?),
            None => None,
        };
        Ok(Self { agent, options: options.clone(), cache })
    }

    /// Requests at once.
    pub(super) fn parallel(&self) -> usize {
        self.options.parallel.clamp(1, 64)
    }

    /// What makes answers differ besides the address.
    pub(super) fn key(&self, url: &str) -> String {
        let headers = self.options.headers.iter().map(|(name, value)| format!("\n{name}: {value}"));
        std::iter::once(url.to_owned()).chain(headers).collect()
    }

    /// Asks for an address, for some of its bytes with `range` (first and last); tries again where that may help. Answers of
    /// status 200, 204, 206, 404, 410 and 416 are given back.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the server cannot be reached, breaks off or refuses; [`ErrorKind::Limit`] beyond `limit` bytes;
    /// [`ErrorKind::Invalid`] for what is no address. All name it, without what looks like a key.
    pub(super) fn get(&self, url: &str, range: Option<(u64, u64)>, limit: u64) -> Result<Answer> {
        let mut attempt = 0;
        loop {
            match self.attempt(url, range, limit) {
                Ok(answer) => return Ok(answer),
                Err(Failure::Final(e)) => return Err(e.at(shown(url))),
                Err(Failure::Passing(e, asked)) => {
                    let wait = asked.unwrap_or(FIRST_WAIT * 2u32.pow(attempt.min(6)));
                    if attempt >= self.options.retries || wait > LONGEST_WAIT {
                        let attempts = attempt + 1;
                        let remedy = match asked {
                            Some(wait) => format!("it asks to wait {} s; try again then", wait.as_secs()),
                            None => format!("given up after {attempts} attempts; try again later"),
                        };
                        return Err(e.at(shown(url)).remedy(remedy));
                    }
                    std::thread::sleep(wait);
                    attempt += 1;
                }
            }
        }
    }

    fn attempt(&self, url: &str, range: Option<(u64, u64)>, limit: u64) -> Result<Answer, Failure> {
        // Bytes as they lie on the server: lengths and ranges count those.
        let mut request = self.agent.get(url).header("accept-encoding", "identity");
        for (name, value) in &self.options.headers {
            request = request.header(name, value);
        }
        if let Some((first, last)) = range {
            request = request.header("range", format!("bytes={first}-{last}"));
        }
        let response = request.call().map_err(|e| match e {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                Failure::Final(Error::new(ErrorKind::Invalid, "this is no address that can be asked").source(e))
            }
            e => Failure::Passing(Error::new(ErrorKind::Io, "the server cannot be reached").source(e), None),
        })?;
        let header = |name| response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let status = response.status().as_u16();
        let refused = |remedy: &str| Error::new(ErrorKind::Io, format!("the server says HTTP {status}")).remedy(remedy);
        match status {
            200 | 204 | 206 | 404 | 410 | 416 => {}
            429 | 500 | 502 | 503 | 504 => {
                let asked = header(RETRY_AFTER).trim().parse().ok().map(Duration::from_secs);
                return Err(Failure::Passing(refused("try again later"), asked));
            }
            401 | 403 => {
                let remedy = "it wants a key or other permission: see --header, and what the provider says";
                return Err(Failure::Final(refused(remedy)));
            }
            _ => return Err(Failure::Final(refused("check the address"))),
        }
        let version = [header(ETAG), header(LAST_MODIFIED)].into_iter().find(|v| !v.is_empty()).unwrap_or_default();
        let (content_type, content_range) = (header(CONTENT_TYPE), header(CONTENT_RANGE));
        let length: Option<u64> = header(CONTENT_LENGTH).trim().parse().ok();
        let mut body = Vec::new();
        if status == 200 || status == 206 {
            let too_long = || {
                let error = Error::new(ErrorKind::Limit, format!("the answer is longer than {limit} bytes"));
                Failure::Final(error.remedy("check the address: this is not what was asked for"))
            };
            if length.is_some_and(|n| n > limit) {
                return Err(too_long());
            }
            let read = response.into_body().into_reader().take(limit + 1).read_to_end(&mut body);
            let broken = |e: Error| Failure::Passing(e.remedy("try again later"), None);
            read.map_err(|e| broken(Error::new(ErrorKind::Io, "the connection broke").source(e)))?;
            if body.len() as u64 > limit {
                return Err(too_long());
            }
            if length.is_some_and(|n| n != body.len() as u64) {
                let message = format!("the answer broke off after {} of {} bytes", body.len(), length.unwrap_or(0));
                return Err(broken(Error::new(ErrorKind::Io, message)));
            }
        }
        Ok(Answer { status, body, content_type, content_range, version })
    }
}

/// An address as messages may show it: without a password, and without values of parameters that look like keys.
pub fn shown(url: &str) -> String {
    let (head, query) = url.split_once('?').map_or((url, None), |(head, query)| (head, Some(query)));
    let head = match head.split_once("://") {
        Some((scheme, rest)) => {
            let host_end = rest.find('/').unwrap_or(rest.len());
            let host = rest[..host_end].rfind('@').map_or(rest, |at| &rest[at + 1..]);
            format!("{scheme}://{host}")
        }
        None => head.to_owned(),
    };
    let Some(query) = query else { return head };
    let hidden = |parameter: &str| {
        let (name, _) = parameter.split_once('=').unwrap_or((parameter, ""));
        let lower = name.to_ascii_lowercase();
        let secret = ["key", "token", "sig", "secret", "password", "auth"].iter().any(|word| lower.contains(word));
        if secret { format!("{name}=...") } else { parameter.to_owned() }
    };
    format!("{head}?{}", query.split('&').map(hidden).collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_show_no_keys() {
        for (url, text) in [
            ("https://a.b/1/2/3.png", "https://a.b/1/2/3.png"),
            ("https://me:secret@a.b/1?x=1&api_key=abc&y=2", "https://a.b/1?x=1&api_key=...&y=2"),
            ("https://a.b/@2x/1.png?access_token=abc", "https://a.b/@2x/1.png?access_token=..."),
        ] {
            assert_eq!(shown(url), text);
        }
    }
}
