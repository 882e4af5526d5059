//! Data sets by name: `hub:NAME` wherever text is named.

use forgetting_laws::Result;
use forgetting_laws::data::registry::Registry;
use std::path::Path;

/// The prefix of the name of a data set in a list of files.
pub const HUB: &str = "hub:";

/// The built-in data sets and those of a file.
///
/// # Errors
/// If the file cannot be read.
pub fn registry(file: Option<&Path>) -> Result<Registry> {
    file.map_or_else(|| Ok(Registry::built_in()), Registry::with_file)
}

/// The name of the data set in a list of files.
pub fn name_of(path: &Path) -> Option<&str> {
    path.to_str()?.strip_prefix(HUB)
}
