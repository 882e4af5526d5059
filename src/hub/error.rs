//! What can go wrong between here and a server. No message holds a token or the query of an
//! address, which may be signed.

use super::Hash;
use std::path::PathBuf;

/// Why something could not be fetched, each in one line that says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The server wants to know who asks, or knows and refuses (401, 403).
    #[error(
        "{what}: the server refuses access ({status}); is the name right? A private one needs a \
         token that may read it in HF_TOKEN"
    )]
    Refused {
        /// What was asked for.
        what: String,
        /// The status of HTTP.
        status: u16,
    },
    /// The repository's owner wants to be asked first.
    #[error(
        "{what} is gated: ask for access at {page}, and set HF_TOKEN to a token of that account"
    )]
    Gated {
        /// What was asked for.
        what: String,
        /// Where to ask.
        page: String,
    },
    /// There is no such repository, revision or file (404).
    #[error("{what}: there is no such {kind} at {server}")]
    NotFound {
        /// What was asked for.
        what: String,
        /// `repository`, `revision` or `file`.
        kind: &'static str,
        /// Where.
        server: String,
    },
    /// The server asks for fewer requests (429), and went on to.
    #[error("{what}: the server limits the rate of requests{}; try again later, or with HF_TOKEN", after(*.wait))]
    RateLimited {
        /// What was asked for.
        what: String,
        /// Seconds that it asks to wait.
        wait: Option<u64>,
    },
    /// The server has a fault (5xx), and went on to.
    #[error("{what}: the server has a fault ({status}); try again later")]
    Server {
        /// What was asked for.
        what: String,
        /// The status of HTTP.
        status: u16,
    },
    /// The server cannot be reached.
    #[error("{what}: {server} cannot be reached ({reason}); HF_HUB_OFFLINE=1 uses what is here")]
    Unreachable {
        /// What was asked for.
        what: String,
        /// Where.
        server: String,
        /// The reason.
        reason: String,
    },
    /// The transfer broke off, and went on to; what came is kept.
    #[error("{what}: the transfer broke off at byte {got}{}; the same command continues from there", of(*.size))]
    Interrupted {
        /// What was asked for.
        what: String,
        /// Bytes that are here.
        got: u64,
        /// Bytes in all, where the server says so.
        size: Option<u64>,
    },
    /// The bytes are not those that the server announced; they were removed.
    #[error("{what}: its hash is {found} and not {expected}; it was removed, fetch it again")]
    WrongHash {
        /// What was asked for.
        what: String,
        /// What the server announced.
        expected: Hash,
        /// What came.
        found: Hash,
    },
    /// There is no room for the file; what came is kept.
    #[error(
        "{}: the disk is full ({reason}); make room, or set HF_HOME to a folder elsewhere; the \
         same command continues", path.display()
    )]
    DiskFull {
        /// The file that was written.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// The network is not to be used, and the thing is not here.
    #[error("{what} is not here, and HF_HUB_OFFLINE forbids to fetch it; fetch it once without")]
    Offline {
        /// What was asked for.
        what: String,
    },
    /// A name that would lead out of its folder, or is none on some system.
    #[error("{what} names {name:?}, which is no plain path inside a folder: refused")]
    UnsafeName {
        /// Who says so.
        what: String,
        /// The name.
        name: String,
    },
    /// The server answers what the protocol does not know.
    #[error("{what}: the server's answer is not understood: {reason}")]
    Protocol {
        /// What was asked for.
        what: String,
        /// Why.
        reason: String,
    },
}

fn after(wait: Option<u64>) -> String {
    wait.map(|seconds| format!(" and asks to wait {seconds} s")).unwrap_or_default()
}

fn of(size: Option<u64>) -> String {
    size.map(|size| format!(" of {size}")).unwrap_or_default()
}
