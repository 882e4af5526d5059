use std::path::{Path, PathBuf};

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in this library, each in one line that says what, where and what
/// to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting lies outside its domain.
    #[error("{name} = {value}: {requirement}")]
    Setting {
        /// The setting's name as the user writes it.
        name: String,
        /// The value that was given.
        value: String,
        /// What the value must be.
        requirement: String,
    },
    /// Something that is needed was not given.
    #[error("{name} is missing: {requirement}")]
    Missing {
        /// The setting's name as the user writes it.
        name: String,
        /// What must be given, or what needs it.
        requirement: String,
    },
    /// The operating system refused a file operation.
    #[error("{}: {source}", shown(path))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file's content is not what it should be.
    #[error("{}{}: {reason}", shown(path), line.map(|l| format!(", line {l}")).unwrap_or_default())]
    Content {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1, where there is one.
        line: Option<u64>,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A finite supply of data is smaller than what was asked of it.
    #[error("{what}: {asked} tokens were asked for and {available} are available; {remedy}")]
    Exhausted {
        /// The supply.
        what: String,
        /// Tokens asked for.
        asked: u64,
        /// Tokens that there are.
        available: u64,
        /// What the user can do.
        remedy: String,
    },
    /// A file does not have the hash that it was written with.
    #[error("{} is damaged: {}", shown(path), on_one_line(reason.clone()))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How it was noticed.
        reason: String,
    },
    /// A loss stopped being a finite number.
    #[error("{what} is not finite at step {step}: lower the learning rate")]
    NonFinite {
        /// Which loss.
        what: String,
        /// The optimiser step.
        step: u64,
    },
    /// The user asked for a stop; what was finished is kept.
    #[error("interrupted; the same command continues from the last checkpoint")]
    Interrupted,
    /// Something could not be fetched.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Hub(#[from] crate::hub::HubError),
    /// The ranks of a run lost contact with one another: this process ends.
    #[cfg(feature = "train")]
    #[error("{0}")]
    RankLost(String),
    /// Another rank of the run failed, and reports the reason itself.
    #[cfg(feature = "train")]
    #[error("another rank failed and reports why in its own line")]
    RankFailed,
    /// libtorch refused.
    #[cfg(feature = "torch")]
    #[error("libtorch: {}", .0.to_string().lines().next().unwrap_or_default())]
    Torch(#[from] tch::TchError),
}

impl Error {
    /// A setting outside its domain.
    pub fn setting(
        name: impl Into<String>,
        value: impl ToString,
        requirement: impl Into<String>,
    ) -> Self {
        Self::Setting {
            name: name.into(),
            value: on_one_line(value.to_string()),
            requirement: on_one_line(requirement.into()),
        }
    }

    /// A setting that was not given.
    pub fn missing(name: impl Into<String>, requirement: impl Into<String>) -> Self {
        Self::Missing { name: name.into(), requirement: on_one_line(requirement.into()) }
    }

    /// A failed file operation on `path`: for `map_err`.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { path, source }
    }

    /// A file whose content has another hash than what was written.
    pub(crate) fn altered(path: impl AsRef<Path>, found: &str, written: &str) -> Self {
        let reason = format!("its content has the hash {found}, and {written} was written");
        Self::Damaged { path: path.as_ref().to_path_buf(), reason }
    }

    /// Content of `path` (at `line`, counted from 1) that is not what it should be.
    pub fn content(
        path: impl AsRef<Path>,
        line: impl Into<Option<u64>>,
        reason: impl Into<String>,
    ) -> Self {
        Self::Content {
            path: path.as_ref().to_path_buf(),
            line: line.into(),
            reason: on_one_line(reason.into()),
        }
    }
}

/// A path in a message. A file may name another one whose name has line ends in it.
fn shown(path: &Path) -> String {
    on_one_line(path.display().to_string())
}

/// A message is a line, whatever it names: a column's header may have line ends in it.
fn on_one_line(text: String) -> String {
    if text.contains(['\n', '\r']) {
        text.replace("\r\n", " ").replace(['\n', '\r'], " ")
    } else {
        text
    }
}
