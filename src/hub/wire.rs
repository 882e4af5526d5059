//! Requests over HTTP: redirects without the token, patience with faults that pass, and transfers
//! that go on where they broke off.

use super::settings::Settings;
use super::{Hash, HubError, Progress};
use crate::{Error, Result};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::time::Duration;
use ureq::http::{HeaderMap, Response, Uri};
use ureq::{Agent, Body};

/// Redirects in a row, at most.
const REDIRECTS: usize = 10;
/// The largest answer that is not a file: a listing of ten million bytes names 100,000 files.
const LARGEST_ANSWER: u64 = 64 << 20;

/// The way to servers.
#[derive(Debug)]
pub(super) struct Wire {
    agent: Agent,
    settings: Settings,
}

/// What a server says of a file before it sends it.
#[derive(Debug)]
pub(super) struct Head {
    pub etag: Option<String>,
    pub size: Option<u64>,
}

/// Why an attempt failed.
enum Fault {
    /// Another one would fail in the same way.
    Final(Error),
    /// It may pass; the server may say when, and the attempt may have brought bytes.
    Passing { error: HubError, wait: Option<Duration>, brought: bool },
}

impl Fault {
    fn passing(error: HubError) -> Self {
        Self::Passing { error, wait: None, brought: false }
    }
}

impl From<HubError> for Fault {
    fn from(error: HubError) -> Self {
        Self::Final(error.into())
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// A file that is fetched.
#[derive(Clone, Copy)]
pub(super) struct Download<'a> {
    /// What it is, in words.
    pub what: &'a str,
    pub url: &'a str,
    /// Where its bytes are put until all are here.
    pub partial: &'a Path,
    pub size: Option<u64>,
    pub progress: &'a dyn Progress,
}

/// A request: what for, in words, and where.
#[derive(Clone, Copy)]
struct Ask<'a> {
    what: &'a str,
    url: &'a str,
    head: bool,
    /// The first byte that is wanted.
    from: u64,
}

impl Wire {
    pub fn new(settings: Settings) -> Self {
        let config = Agent::config_builder()
            .max_redirects(0)
            .http_status_as_error(false)
            .accept_encoding("identity")
            .user_agent(concat!("forgetting-laws/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(settings.patience.silence))
            .timeout_recv_response(Some(settings.patience.silence))
            .timeout_per_read(Some(settings.patience.silence));
        Self { agent: config.build().new_agent(), settings }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The text at an address.
    pub fn text(&self, what: &str, url: &str, progress: &dyn Progress) -> Result<String> {
        self.retry(what, progress, || {
            let mut response = self.ask(Ask { what, url, head: false, from: 0 })?;
            good(what, url, &response)?;
            let body = response.body_mut().with_config().limit(LARGEST_ANSWER);
            let bytes = body.read_to_vec().map_err(|error| match error {
                ureq::Error::BodyExceedsLimit(most) => {
                    Fault::from(protocol(what, format!("it is longer than {most} bytes")))
                }
                error => Fault::passing(HubError::Unreachable {
                    what: what.into(),
                    server: server(url),
                    reason: reason(&error),
                }),
            })?;
            String::from_utf8(bytes).map_err(|_| protocol(what, "it is not UTF-8").into())
        })
    }

    /// What a server says of the file at an address. Where it redirects to another one, what it
    /// says itself counts if it names a hash: the other one may know none. Where it names none, as
    /// mirrors do that hand on every request, the other one is asked.
    pub fn head(&self, what: &str, url: &str, progress: &dyn Progress) -> Result<Head> {
        self.retry(what, progress, || {
            let response = self.ask(Ask { what, url, head: true, from: 0 })?;
            if !response.status().is_redirection() {
                good(what, url, &response)?;
            }
            let number = |name| text(response.headers(), name).and_then(|value| value.parse().ok());
            let size = number("x-linked-size");
            Ok(Head {
                etag: stated_version(&response),
                // A redirection's own length is that of its page.
                size: size.or_else(|| {
                    if response.status().is_redirection() { None } else { number("content-length") }
                }),
            })
        })
    }

    /// Fills the file at `partial` up with what is missing of the one at an address.
    pub fn download(&self, download: &Download<'_>) -> Result<()> {
        let Download { what, partial, size, progress, .. } = *download;
        let options = || File::options().create(true).append(true).open(partial);
        let mut file = options().map_err(|error| write_error(partial, error))?;
        self.retry(what, progress, || {
            let here = file.metadata().map_err(Error::io(partial))?.len();
            let here = match size {
                Some(size) if here > size => restart(&file, partial)?,
                Some(size) if here == size && size > 0 => return Ok(()),
                _ => here,
            };
            self.go_on(download, &mut file, here)
        })?;
        file.sync_all().map_err(|error| write_error(partial, error))
    }

    /// One attempt at the bytes from `here` on.
    fn go_on(&self, download: &Download<'_>, file: &mut File, here: u64) -> Result<(), Fault> {
        let Download { what, url, partial, size, progress } = *download;
        let response = self.ask(Ask { what, url, head: false, from: here })?;
        let here = match response.status().as_u16() {
            206 => {
                let range = text(response.headers(), "content-range").unwrap_or_default();
                if !range.starts_with(&format!("bytes {here}-")) {
                    let reason = format!("bytes from {here} on were asked for, and {range:?} came");
                    return Err(protocol(what, reason).into());
                }
                here
            }
            // All that is here is all there is, or more: where the size is not known.
            416 if here > 0 => {
                let range = text(response.headers(), "content-range").unwrap_or_default();
                if size.is_none() && range == format!("bytes */{here}") {
                    return Ok(());
                }
                restart(file, partial)?;
                return Err(Fault::passing(HubError::Interrupted {
                    what: what.into(),
                    got: 0,
                    size,
                }));
            }
            _ => {
                good(what, url, &response)?;
                // The server sends all of it, whatever was asked for.
                if here > 0 { restart(file, partial)? } else { 0 }
            }
        };
        let length = text(response.headers(), "content-length").and_then(|v| v.parse::<u64>().ok());
        let size = size.or_else(|| Some(here + length?));
        progress.started(what, here, size);
        let (mut body, mut got) = (response.into_body().into_reader(), here);
        let mut buffer = vec![0; 1 << 16];
        let broken = loop {
            let read = match body.read(&mut buffer) {
                Ok(0) => break false,
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break true,
            };
            if size.is_some_and(|size| got + read as u64 > size) {
                restart(file, partial)?;
                return Err(protocol(what, "more bytes come than it announced").into());
            }
            file.write_all(&buffer[..read]).map_err(|error| write_error(partial, error))?;
            got += read as u64;
            progress.advanced(read as u64);
        };
        if broken || size.is_some_and(|size| got < size) {
            let error = HubError::Interrupted { what: what.into(), got, size };
            return Err(Fault::Passing { error, wait: None, brought: got > here });
        }
        Ok(())
    }

    /// Attempts something until it succeeds, cannot, or patience ends.
    fn retry<T>(
        &self,
        what: &str,
        progress: &dyn Progress,
        mut attempt: impl FnMut() -> Result<T, Fault>,
    ) -> Result<T> {
        let patience = self.settings.patience;
        let mut failed = 0u32;
        loop {
            let (error, wait, brought) = match attempt() {
                Ok(done) => return Ok(done),
                Err(Fault::Final(error)) => return Err(error),
                Err(Fault::Passing { error, wait, brought }) => (error, wait, brought),
            };
            failed = if brought { 1 } else { failed + 1 };
            let pause = patience.pause * 2u32.saturating_pow(failed.saturating_sub(1).min(10));
            let pause = wait.unwrap_or(pause).max(patience.pause);
            if failed >= patience.attempts || pause > patience.longest {
                return Err(error.into());
            }
            progress.waiting(what, &error, pause);
            std::thread::sleep(pause);
        }
    }

    /// The answer to a request, after redirects. The token goes to the endpoint alone. A redirect
    /// of [`Ask::head`] to another server is followed if it names no hash, and is the answer itself
    /// if that server does not answer well: some addresses can be read and not asked about.
    fn ask(&self, ask: Ask) -> Result<Response<Body>, Fault> {
        let what = ask.what;
        let mut url = ask.url.to_string();
        let mut redirect = None;
        for _ in 0..REDIRECTS {
            let mut request = if ask.head { self.agent.head(&url) } else { self.agent.get(&url) };
            if ask.from > 0 {
                request = request.header("Range", format!("bytes={}-", ask.from));
            }
            if let Some(token) = &self.settings.token
                && origin(&url).is_some_and(|at| Some(at) == origin(&self.settings.endpoint))
            {
                request = request.header("Authorization", token.header());
            }
            let response = request.call().map_err(|error| unreachable(what, &url, &error))?;
            let location = match response.status().as_u16() {
                301 | 302 | 303 | 307 | 308 => text(response.headers(), "location"),
                _ => None,
            };
            let Some(location) = location else {
                let good = response.status().is_success();
                return Ok(redirect.filter(|_| !good).unwrap_or(response));
            };
            let next = resolve(&url, &location)
                .ok_or_else(|| protocol(what, "it redirects to no address"))?;
            if url.starts_with("https:") && !next.starts_with("https:") {
                return Err(
                    protocol(what, "it redirects from https to an address without https").into()
                );
            }
            if ask.head && origin(&next) != origin(&url) {
                if stated_version(&response).as_deref().and_then(Hash::of_etag).is_some() {
                    return Ok(response);
                }
                redirect.get_or_insert(response);
            }
            url = next;
        }
        Err(protocol(what, format!("it redirects more than {REDIRECTS} times")).into())
    }
}

fn protocol(what: &str, reason: impl Into<String>) -> HubError {
    HubError::Protocol { what: what.into(), reason: reason.into() }
}

/// A header's text.
fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.trim().to_string())
}

/// The version of the file that an answer is about, which the Hub makes of its hash.
fn stated_version(response: &Response<Body>) -> Option<String> {
    let header = |name| text(response.headers(), name);
    header("x-linked-etag").or_else(|| header("etag"))
}

/// Whose address it is: scheme, host and port.
fn origin(url: &str) -> Option<(String, String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_string();
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some((scheme, uri.host()?.to_lowercase(), port))
}

/// Host and port, for people.
pub(super) fn server(url: &str) -> String {
    let uri: Option<Uri> = url.parse().ok();
    let host = uri.as_ref().and_then(|uri| uri.host()).unwrap_or("the server");
    match uri.as_ref().and_then(|uri| uri.port_u16()) {
        Some(port) => format!("{host}:{port}"),
        None => host.into(),
    }
}

/// The address that a `Location` means, seen from another one.
fn resolve(from: &str, location: &str) -> Option<String> {
    if location.contains("://") {
        return origin(location).map(|_| location.to_string());
    }
    let (scheme, rest) = from.split_once("://")?;
    let path = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(path);
    if let Some(rest) = location.strip_prefix("//") {
        return Some(format!("{scheme}://{rest}"));
    }
    if location.starts_with('/') {
        return Some(format!("{scheme}://{authority}{location}"));
    }
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    Some(format!("{scheme}://{authority}{folder}/{location}"))
}

/// Refuses an answer that is not what was asked for.
fn good(what: &str, url: &str, response: &Response<Body>) -> Result<(), Fault> {
    let status = response.status().as_u16();
    let header = |name| text(response.headers(), name);
    let code = header("x-error-code").unwrap_or_default();
    let what = what.to_string();
    match (status, code.as_str()) {
        (200..=299, _) => Ok(()),
        (401 | 403, "GatedRepo") => {
            let page = url.split("/resolve/").next().unwrap_or(url).split('?').next();
            Err(HubError::Gated { what, page: page.unwrap_or_default().into() }.into())
        }
        (404, _) => {
            let kind = match code.as_str() {
                "RepoNotFound" => "repository",
                "RevisionNotFound" => "revision",
                _ => "file",
            };
            Err(HubError::NotFound { what, kind, server: server(url) }.into())
        }
        (401 | 403, _) => Err(HubError::Refused { what, status }.into()),
        (429 | 503, _) => {
            let wait = header("retry-after").and_then(|seconds| seconds.parse().ok());
            let error = match status {
                429 => HubError::RateLimited { what, wait },
                _ => HubError::Server { what, status },
            };
            let wait = wait.map(Duration::from_secs);
            Err(Fault::Passing { error, wait, brought: false })
        }
        (500..=599, _) => Err(Fault::passing(HubError::Server { what, status })),
        _ => Err(protocol(&what, format!("status {status}")).into()),
    }
}

/// Why there was no answer.
fn unreachable(what: &str, url: &str, error: &ureq::Error) -> Fault {
    let (what, server, reason) = (what.into(), server(url), reason(error));
    let unreachable = HubError::Unreachable { what, server, reason };
    match error {
        // Names that do not exist and certificates that do not fit will not pass.
        ureq::Error::HostNotFound
        | ureq::Error::BadUri(_)
        | ureq::Error::Http(_)
        | ureq::Error::Tls(_)
        | ureq::Error::Rustls(_) => unreachable.into(),
        _ => Fault::passing(unreachable),
    }
}

/// In one line, without an address.
fn reason(error: &ureq::Error) -> String {
    let text = match error {
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => "no address".to_string(),
        ureq::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    };
    text.lines().next().unwrap_or_default().to_string()
}

/// Forgets what is here of a file.
fn restart(file: &File, partial: &Path) -> Result<u64> {
    file.set_len(0).map_err(Error::io(partial))?;
    Ok(0)
}

/// What a failed write means.
fn write_error(path: &Path, error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            HubError::DiskFull { path: path.into(), reason: error.to_string() }.into()
        }
        _ => Error::io(path)(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_seen_from_where_they_were_found() {
        let from = "https://a.example:8/b/c?d=/e";
        for (location, expected) in [
            ("https://x.example/y", "https://x.example/y"),
            ("//x.example/y", "https://x.example/y"),
            ("/y?z", "https://a.example:8/y?z"),
            ("y", "https://a.example:8/b/y"),
        ] {
            assert_eq!(resolve(from, location).as_deref(), Some(expected));
        }
        assert_eq!(resolve(from, "nonsense://"), None);
        assert_eq!(resolve("https://a.example", "y").as_deref(), Some("https://a.example/y"));
        assert_eq!(origin("https://A.example/x"), origin("https://a.example:443/y"));
        assert_ne!(origin("http://a.example/x"), origin("https://a.example/x"));
        assert_eq!(server("https://u:secret@a.example:8/x?secret"), "a.example:8");
    }
}
