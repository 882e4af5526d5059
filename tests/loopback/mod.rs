//! A server on loopback with the Hub's layout: revisions, resolve with redirects to another path and
//! to another port, ranges, entity tags, errors, limits, and transfers that break off.

#![allow(dead_code, reason = "every test file uses a part")]

use forgetting_laws::hub::Hash;
use forgetting_laws::store::sha256;
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What goes wrong with the next request whose path holds some text.
#[derive(Clone)]
pub enum Fault {
    /// This status with these headers.
    Status(u16, Headers),
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// Other bytes of the same length.
    Wrong,
    /// All of the file, whatever range was asked for.
    NoRange,
}

/// A request that came.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub range: Option<String>,
    pub token: Option<String>,
}

type Headers = Vec<(&'static str, String)>;

#[derive(Default)]
struct State {
    /// Listings by path.
    texts: BTreeMap<String, Vec<u8>>,
    /// Files by path, with the entity tag.
    files: BTreeMap<String, (Vec<u8>, Option<String>)>,
    /// Where paths lead, with headers.
    redirects: BTreeMap<String, (String, Headers)>,
    faults: VecDeque<(String, &'static str, Fault)>,
    /// The token without which everything at the first port is refused.
    private: Option<String>,
    asked: Vec<Asked>,
}

/// The server, at two ports: the Hub's and that of its storage. It ends with the process.
pub struct Loopback {
    pub endpoint: String,
    pub storage: String,
    state: Arc<Mutex<State>>,
}

/// A file of a repository; one in large storage lies at the other port.
pub struct File<'a> {
    pub name: &'a str,
    pub bytes: &'a [u8],
    pub large: bool,
}

pub fn commit(digit: char) -> String {
    digit.to_string().repeat(40)
}

/// The hash by which git knows these bytes.
fn git_hash(bytes: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    Hash::Git(String::new()).same_of(file.path()).unwrap().hex().to_string()
}

impl Loopback {
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let [endpoint, storage] = [true, false].map(|is_hub| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = format!("http://{}", listener.local_addr().unwrap());
            let state = state.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = state.clone();
                    std::thread::spawn(move || serve(stream, &state, is_hub));
                }
            });
            address
        });
        Self { endpoint, storage, state }
    }

    /// A repository of datasets at a revision.
    pub fn dataset(&self, id: &str, revision: &str, commit: &str, files: &[File]) {
        self.repository(["datasets", "/datasets"], id, revision, commit, files);
    }

    /// A repository of a model at a revision.
    pub fn model(&self, id: &str, revision: &str, commit: &str, files: &[File]) {
        self.repository(["models", ""], id, revision, commit, files);
    }

    fn repository(
        &self,
        [kind, before]: [&str; 2],
        id: &str,
        revision: &str,
        commit: &str,
        files: &[File],
    ) {
        let names = files.iter().map(|file| serde_json::json!({ "rfilename": file.name }));
        let info =
            serde_json::json!({ "id": id, "sha": commit, "siblings": names.collect::<Vec<_>>() });
        let mut state = self.state.lock().unwrap();
        for revision in [revision, commit] {
            let path = format!("/api/{kind}/{id}/revision/{}", revision.replace('/', "%2F"));
            state.texts.insert(path, info.to_string().into_bytes());
        }
        for file in files {
            let path = format!("{before}/{id}/resolve/{commit}/{}", file.name.replace(' ', "%20"));
            let repo_commit = ("X-Repo-Commit", commit.to_string());
            if file.large {
                let hash = sha256(file.bytes);
                let place = format!("/storage/{hash}");
                let headers = vec![
                    repo_commit,
                    ("X-Linked-Etag", format!("\"{hash}\"")),
                    ("X-Linked-Size", file.bytes.len().to_string()),
                    ("ETag", "\"of the redirection\"".to_string()),
                ];
                let to = format!("{}{place}?signature=of-the-storage", self.storage);
                state.redirects.insert(path, (to, headers));
                // The storage has tags of its own.
                state.files.insert(place, (file.bytes.to_vec(), Some("\"multi-part-7\"".into())));
            } else {
                let place = format!("/api/resolve-cache{path}");
                state.redirects.insert(path, (place.clone(), vec![repo_commit]));
                let tag = format!("\"{}\"", git_hash(file.bytes));
                state.files.insert(place, (file.bytes.to_vec(), Some(tag)));
            }
        }
    }

    /// A file at a path of its own, with an entity tag or without.
    pub fn file(&self, path: &str, bytes: &[u8], etag: Option<&str>) {
        let tag = etag.map(|tag| format!("\"{tag}\""));
        self.state.lock().unwrap().files.insert(path.into(), (bytes.to_vec(), tag));
    }

    /// Makes another server hand every request for a dataset's files on to this one, without a
    /// header that tells of the file; listings it answers itself.
    pub fn mirrored_by(&self, mirror: &Loopback, id: &str, commit: &str, files: &[File]) {
        mirror.dataset(id, "main", commit, files);
        let mut state = mirror.state.lock().unwrap();
        for (path, (to, headers)) in &mut state.redirects {
            *to = format!("{}{path}", self.endpoint);
            headers.clear();
        }
    }

    /// Any text in place of a revision's.
    pub fn text(&self, path: &str, text: &str) {
        self.state.lock().unwrap().texts.insert(path.into(), text.into());
    }

    /// The next GET whose path holds `part` goes wrong.
    pub fn fault(&self, part: &str, fault: Fault) {
        self.state.lock().unwrap().faults.push_back((part.into(), "GET", fault));
    }

    /// The next HEAD whose path holds `part` goes wrong.
    pub fn fault_of_head(&self, part: &str, fault: Fault) {
        self.state.lock().unwrap().faults.push_back((part.into(), "HEAD", fault));
    }

    /// From now on the Hub's port wants this token.
    pub fn private(&self, token: &str) {
        self.state.lock().unwrap().private = Some(format!("Bearer {token}"));
    }

    /// What came since the last call.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>, is_hub: bool) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_string()),
        }
    }
    let header = |name: &str| {
        lines.iter().skip(1).find_map(|line| {
            let (n, value) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| value.trim().to_string())
        })
    };
    let mut words = lines.first()?.split(' ');
    let (method, path) = (words.next()?.to_string(), words.next()?.to_string());
    let (range, token) = (header("range"), header("authorization"));
    let mut state = state.lock().unwrap();
    let asked = Asked { method: method.clone(), path: path.clone(), range: range.clone(), token };
    state.asked.push(asked.clone());
    let at = state.faults.iter().position(|(part, m, _)| path.contains(part) && *m == method);
    let fault = at.and_then(|at| state.faults.remove(at)).map(|(_, _, fault)| fault);
    let place = path.split('?').next()?;
    let refused = is_hub && state.private.is_some() && state.private != asked.token;
    let (status, mut headers, mut body): Answer = match &fault {
        Some(Fault::Status(status, headers)) => (*status, headers.clone(), b"fault".to_vec()),
        _ if refused => (401, vec![("X-Error-Code", "RepoNotFound".into())], Vec::new()),
        _ => {
            if let Some(text) = state.texts.get(place) {
                (200, Vec::new(), text.clone())
            } else if let Some((to, headers)) = state.redirects.get(place) {
                let location = [("Location", to.clone())];
                (302, location.into_iter().chain(headers.clone()).collect(), b"moved".to_vec())
            } else if let Some((bytes, tag)) = state.files.get(place) {
                let tag: Vec<_> = tag.iter().map(|tag| ("ETag", tag.clone())).collect();
                part(bytes, range.as_deref(), matches!(fault, Some(Fault::NoRange)), tag)
            } else {
                let code =
                    if place.starts_with("/api/") { "RepoNotFound" } else { "EntryNotFound" };
                (404, vec![("X-Error-Code", code.into())], b"nothing".to_vec())
            }
        }
    };
    drop(state);
    headers.push(("Content-Length", body.len().to_string()));
    headers.push(("Connection", "close".into()));
    match fault {
        Some(Fault::Cut(length)) => body.truncate(length),
        Some(Fault::Wrong) => body.iter_mut().for_each(|byte| *byte ^= 1),
        _ => {}
    }
    let mut answer = format!("HTTP/1.1 {status} Status\r\n");
    headers.iter().for_each(|(name, value)| answer.push_str(&format!("{name}: {value}\r\n")));
    answer.push_str("\r\n");
    let mut stream = stream;
    stream.write_all(answer.as_bytes()).ok()?;
    if method != "HEAD" {
        stream.write_all(&body).ok()?;
    }
    stream.flush().ok()
}

type Answer = (u16, Headers, Vec<u8>);

/// A file from a byte on.
fn part(bytes: &[u8], range: Option<&str>, whole: bool, mut headers: Headers) -> Answer {
    let from =
        range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let (Some(from), false) = (from, whole) else { return (200, headers, bytes.to_vec()) };
    let from: usize = from;
    if from >= bytes.len() {
        headers.push(("Content-Range", format!("bytes */{}", bytes.len())));
        return (416, headers, Vec::new());
    }
    let last = bytes.len() - 1;
    headers.push(("Content-Range", format!("bytes {from}-{last}/{}", bytes.len())));
    (206, headers, bytes[from..].to_vec())
}
