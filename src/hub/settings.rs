//! The address of the Hub, the folder of its cache, and the token.

use crate::{Error, Result};
use hf_hub::Cache;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The Hub itself.
const ENDPOINT: &str = "https://huggingface.co";

/// How the Hub is used. The environment variables are those of the Hub's own clients.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The server's address, without a slash at its end (`HF_ENDPOINT`).
    pub endpoint: String,
    /// The folder of the Hub's cache (`HF_HUB_CACHE`, or `hub` in `HF_HOME`).
    pub cache: PathBuf,
    /// The token (`HF_TOKEN`, or the file that a login leaves in `HF_HOME`).
    pub token: Option<Token>,
    /// Whether only what is in the cache may be used (`HF_HUB_OFFLINE`).
    pub offline: bool,
    /// How often and how long transient failures are retried.
    pub patience: Patience,
}

/// How often and how long transient failures are retried.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How many attempts in a row may fail. An attempt that receives bytes resets the count.
    pub attempts: u32,
    /// The pause before the second attempt; it doubles before each further one.
    pub pause: Duration,
    /// The longest pause. If a server asks for a longer one, the request fails.
    pub longest: Duration,
    /// A transfer counts as broken if no byte arrives for this long.
    pub silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 5,
            pause: Duration::from_secs(1),
            longest: Duration::from_secs(300),
            silence: Duration::from_secs(60),
        }
    }
}

/// A secret, which no message shows.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// A token, or `None` if the text is empty.
    ///
    /// # Errors
    /// If the text contains white space inside, control characters, or characters that are not ASCII.
    pub fn new(text: &str) -> Result<Option<Self>> {
        let text = text.trim();
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let requirement = "contains characters that a token cannot have";
            return Err(Error::setting("HF_TOKEN", "(not shown)", requirement));
        }
        Ok((!text.is_empty()).then(|| Self(text.to_string())))
    }

    /// The value of the header `Authorization`.
    pub(super) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(not shown)")
    }
}

impl Settings {
    /// The settings of the environment variables.
    ///
    /// # Errors
    /// If the token or the endpoint is invalid.
    pub fn from_env() -> Result<Self> {
        Self::of(|name| std::env::var(name).ok())
    }

    /// The settings of variables that `variable` looks up by name. An empty value counts as unset.
    ///
    /// # Errors
    /// If the token or the endpoint is invalid.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let folder = |name: &str| variable(name).map(PathBuf::from);
        let home = folder("HF_HOME")
            .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("huggingface")));
        let of_home = home.map_or_else(Cache::default, |home| Cache::new(home.join("hub")));
        let token = match (variable("HF_TOKEN"), folder("HF_TOKEN_PATH")) {
            (Some(token), _) => Some(token),
            (None, Some(path)) => std::fs::read_to_string(path).ok(),
            (None, None) => of_home.token(),
        };
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into());
        let endpoint = endpoint.trim().trim_end_matches('/').to_string();
        if !endpoint.starts_with("https://") && !endpoint.starts_with("http://") {
            let requirement = "must be an address that starts with https://";
            return Err(Error::setting("HF_ENDPOINT", endpoint, requirement));
        }
        let yes = |value: String| {
            ["1", "ON", "YES", "TRUE"].contains(&value.trim().to_uppercase().as_str())
        };
        Ok(Self {
            endpoint,
            cache: folder("HF_HUB_CACHE").unwrap_or_else(|| of_home.path().clone()),
            token: token.map(|token| Token::new(&token)).transpose()?.flatten(),
            offline: variable("HF_HUB_OFFLINE").is_some_and(yes),
            patience: Patience::default(),
        })
    }

    /// The folder for files from other servers than the Hub, next to the Hub's cache.
    pub fn own_folder(&self) -> PathBuf {
        self.cache.with_file_name("forgetting-laws")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn of(variables: &[(&str, &str)]) -> Result<Settings> {
        let find =
            |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string());
        Settings::of(find)
    }

    #[test]
    fn the_variables_are_those_of_the_hubs_clients() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        let settings = of(&[("HF_HOME", home)]).unwrap();
        assert_eq!(settings.endpoint, "https://huggingface.co");
        assert_eq!(settings.cache, folder.path().join("hub"));
        assert_eq!(settings.own_folder(), folder.path().join("forgetting-laws"));
        assert!(settings.token.is_none() && !settings.offline);
        std::fs::write(folder.path().join("token"), "hf_of_a_file\n").unwrap();
        let header = |variables: &[(&str, &str)]| of(variables).unwrap().token.unwrap().header();
        assert_eq!(header(&[("HF_HOME", home)]), "Bearer hf_of_a_file");
        assert_eq!(header(&[("HF_HOME", home), ("HF_TOKEN", " hf_x ")]), "Bearer hf_x");
        let settings = of(&[
            ("HF_HOME", home),
            ("HF_HUB_CACHE", "/data/hub"),
            ("HF_ENDPOINT", "http://127.0.0.1:1/"),
            ("HF_HUB_OFFLINE", "true"),
        ]);
        let settings = settings.unwrap();
        assert_eq!(settings.cache, Path::new("/data/hub"));
        assert_eq!(settings.endpoint, "http://127.0.0.1:1");
        assert!(settings.offline);
        let settings = of(&[("XDG_CACHE_HOME", home), ("HF_HUB_OFFLINE", "0")]).unwrap();
        assert_eq!(settings.cache, folder.path().join("huggingface/hub"));
        assert!(!settings.offline);
        assert!(of(&[("HF_HOME", home), ("HF_ENDPOINT", "hub.example")]).is_err());
    }

    #[test]
    fn a_token_is_never_shown() {
        let settings = of(&[("HF_HOME", "/nowhere"), ("HF_TOKEN", "hf_secret")]).unwrap();
        assert!(!format!("{settings:?}").contains("secret"));
        let error = of(&[("HF_HOME", "/nowhere"), ("HF_TOKEN", "hf_se\ncret")]).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("cret"), "{error:?}");
        assert!(Token::new(" \n").unwrap().is_none());
    }
}
