//! Errors of fetching from a server. No message contains a token, or the query of a URL, which may be
//! signed.

use super::Hash;
use std::path::PathBuf;

/// Why something could not be fetched. Each message is one line and says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The server refuses access, with or without a token (401, 403).
    #[error(
        "{what}: the server refuses access ({status}); check the name, and for a private repository \
         set HF_TOKEN to a token that may read it"
    )]
    Refused {
        /// What was asked for.
        what: String,
        /// The HTTP status.
        status: u16,
    },
    /// The repository is gated: access must be requested first.
    #[error(
        "{what} is gated: request access at {page}, and set HF_TOKEN to a token of that account"
    )]
    Gated {
        /// What was asked for.
        what: String,
        /// The page on which access is requested.
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
    /// The server limits the rate of requests (429), after all attempts.
    #[error("{what}: the server limits the rate of requests{}; try again later, or with HF_TOKEN", after(*.wait))]
    RateLimited {
        /// What was asked for.
        what: String,
        /// How many seconds the server asks to wait.
        wait: Option<u64>,
    },
    /// The server has an internal error (5xx), after all attempts.
    #[error("{what}: the server failed with status {status}; try again later")]
    Server {
        /// What was asked for.
        what: String,
        /// The HTTP status.
        status: u16,
    },
    /// The server cannot be reached.
    #[error(
        "{what}: {server} cannot be reached ({reason}); HF_HUB_OFFLINE=1 uses only what is in the cache"
    )]
    Unreachable {
        /// What was asked for.
        what: String,
        /// Where.
        server: String,
        /// The reason.
        reason: String,
    },
    /// The transfer broke off, after all attempts; the bytes received are kept.
    #[error("{what}: the transfer broke off at byte {got}{}; the same command continues from there", of(*.size))]
    Interrupted {
        /// What was asked for.
        what: String,
        /// Bytes received.
        got: u64,
        /// Bytes of the whole file, if the server says so.
        size: Option<u64>,
    },
    /// The hash of the received bytes is not the one that the server announced; they were removed.
    #[error(
        "{what}: its hash is {found}, and the server announced {expected}; it was removed, fetch it again"
    )]
    WrongHash {
        /// What was asked for.
        what: String,
        /// The hash that the server announced.
        expected: Hash,
        /// The hash of the received bytes.
        found: Hash,
    },
    /// The disk is full; the bytes received are kept.
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
    /// The network must not be used, and the file is not in the cache.
    #[error(
        "{what} is not in the cache, and HF_HUB_OFFLINE is set; unset it to fetch the file once"
    )]
    Offline {
        /// What was asked for.
        what: String,
    },
    /// A file name that leads out of its folder, or is invalid on some system.
    #[error("{what} names {name:?}, which is not a relative path inside a folder: refused")]
    UnsafeName {
        /// What names it.
        what: String,
        /// The name.
        name: String,
    },
    /// The server's answer does not follow the protocol.
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
