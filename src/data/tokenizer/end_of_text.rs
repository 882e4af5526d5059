//! Finds the token that ends a text.

use crate::formats::json;
use crate::{Error, Result};
use serde_json::Value;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use tokenizers::Tokenizer;

/// Names of the token in common tokenizers. If no file names the token, the first of these that the
/// tokenizer has as a special token is taken.
const NAMES: [&str; 11] = [
    "<|endoftext|>",
    "<|end_of_text|>",
    "</s>",
    "<eos>",
    "[EOS]",
    "<EOS>",
    "<EOS_TOKEN>",
    "<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>",
    "<|eot_id|>",
    "<|im_end|>",
    "[SEP]",
];

/// Names for the rule of earlier versions, which looked at no files: the first of these that the
/// tokenizer has.
const EARLIER_NAMES: [&str; 6] =
    ["<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "[EOS]", "<|eot_id|>"];

/// Files next to a `tokenizer.json` that name the token, in the order in which they are read, with the
/// field that names it.
const FILES: [(&str, &str); 4] = [
    ("config.json", "eos_token_id"),
    ("generation_config.json", "eos_token_id"),
    ("tokenizer_config.json", "eos_token"),
    ("special_tokens_map.json", "eos_token"),
];

/// The token that ends a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndOfText {
    /// Its number.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// How it was found.
    pub source: EndOfTextSource,
}

/// How the token that ends a text was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndOfTextSource {
    /// The caller named it.
    Caller,
    /// A field of a file in the tokenizer's folder names it.
    File {
        /// The file's name.
        file: &'static str,
        /// The field's name.
        field: &'static str,
    },
    /// It is a special token with a common name.
    SpecialToken,
    /// It is a token with a common name, in a tokenizer without special tokens.
    Vocabulary,
}

impl fmt::Display for EndOfText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (token {}), ", self.name, self.id)?;
        match self.source {
            EndOfTextSource::Caller => write!(f, "as requested"),
            EndOfTextSource::File { file, field } => write!(f, "from {field} in {file}"),
            EndOfTextSource::SpecialToken => write!(f, "a special token of the tokenizer"),
            EndOfTextSource::Vocabulary => write!(f, "a token of the tokenizer"),
        }
    }
}

/// Finds the token: `asked`, by name or number, if given; else the one that a file in `folder` names;
/// else one with a common name. A file that names a token that the tokenizer does not have is ignored:
/// it is probably the default of a configuration.
pub(super) fn find(
    tokenizer: &Tokenizer,
    origin: &Path,
    folder: Option<&Path>,
    asked: Option<&str>,
) -> Result<EndOfText> {
    let known =
        |id: u32, source| tokenizer.id_to_token(id).map(|name| EndOfText { id, name, source });
    let special: Vec<String> = special_tokens(tokenizer);
    if let Some(asked) = asked {
        let id = tokenizer.token_to_id(asked).or_else(|| asked.parse().ok());
        return id.and_then(|id| known(id, EndOfTextSource::Caller)).ok_or_else(|| {
            let requirement = format!(
                "is not a token of {}, by name or number; its special tokens are {}",
                origin.display(),
                listed(&special)
            );
            Error::setting("end of text", asked, requirement)
        });
    }
    for (folder, (file, field)) in folder.into_iter().flat_map(|folder| FILES.map(|f| (folder, f)))
    {
        let stated = stated(&folder.join(file), field)?;
        let id = |value: &Value| match value {
            Value::String(name) => tokenizer.token_to_id(name),
            id => id.as_u64().and_then(|id| u32::try_from(id).ok()),
        };
        let found = stated.iter().filter_map(id);
        let source = EndOfTextSource::File { file, field };
        if let Some(found) = found.filter_map(|id| known(id, source)).next() {
            return Ok(found);
        }
    }
    let by_name = |source| {
        let is_candidate = |name: &&str| match source {
            EndOfTextSource::SpecialToken => special.iter().any(|special| special == *name),
            _ => special.is_empty(),
        };
        let id = NAMES.iter().filter(|name| is_candidate(name));
        id.filter_map(|name| known(tokenizer.token_to_id(name)?, source)).next()
    };
    let found = by_name(EndOfTextSource::SpecialToken);
    found.or_else(|| by_name(EndOfTextSource::Vocabulary)).ok_or_else(|| {
        let reason = format!(
            "neither it nor a file next to it says which token ends a text; name the token with \
             --end-of-text; its special tokens are {}",
            listed(&special)
        );
        Error::content(origin, None, reason)
    })
}

/// The token by the rule of earlier versions, if there is one.
pub(super) fn earlier(tokenizer: &Tokenizer) -> Option<u32> {
    EARLIER_NAMES.iter().find_map(|name| tokenizer.token_to_id(name))
}

/// The names of the special tokens, in the order of their numbers.
fn special_tokens(tokenizer: &Tokenizer) -> Vec<String> {
    let mut special: Vec<(u32, String)> = tokenizer
        .get_added_tokens_decoder()
        .iter()
        .filter(|(_, token)| token.special)
        .map(|(&id, token)| (id, token.content.clone()))
        .collect();
    special.sort_unstable();
    special.into_iter().map(|(_, name)| name).collect()
}

/// Names for a message; only the first of many.
fn listed(names: &[String]) -> String {
    const MOST: usize = 12;
    match names.len() {
        0 => "none".into(),
        count if count > MOST => format!("{} and {} more", names[..MOST].join(", "), count - MOST),
        _ => names.join(", "),
    }
}

/// The numbers or names of tokens in a field of a file; empty if there is no such file.
fn stated(path: &Path, field: &str) -> Result<Vec<Value>> {
    let Some(file) = read_json(path)? else { return Ok(Vec::new()) };
    // Models of several kinds of input keep what is of text by itself.
    let found = file.get(field).or_else(|| file.get("text_config")?.get(field));
    Ok(match found {
        Some(Value::Array(several)) => several.clone(),
        Some(token) => vec![token.get("content").unwrap_or(token).clone()],
        None => Vec::new(),
    })
}

/// A JSON file, if it exists.
pub(super) fn read_json(path: &Path) -> Result<Option<Value>> {
    match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(path)(error)),
        Ok(bytes) => json::whole(path, &bytes, "JSON").map(Some),
    }
}

#[cfg(test)]
mod tests {
    use crate::Result;
    use crate::data::tokenizer::{EndOfTextSource, Tokenizer};
    use serde_json::{Value, json};
    use std::fs;
    use tempfile::TempDir;

    /// A folder with a tokenizer of single letters and of some special and ordinary tokens, and with
    /// other files.
    fn folder(special: &[&str], ordinary: &[&str], files: &[(&str, Value)]) -> TempDir {
        let added: Vec<Value> = special
            .iter()
            .map(|name| (name, true))
            .chain(ordinary.iter().map(|name| (name, false)))
            .zip(3..)
            .map(|((name, special), id)| {
                json!({"id": id, "content": name, "single_word": false, "lstrip": false,
                       "rstrip": false, "normalized": !special, "special": special})
            })
            .collect();
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
            "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null,
            "decoder": null,
            "model": {"type": "WordLevel", "unk_token": "?", "vocab": {"a": 0, "b": 1, "?": 2}}
        });
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content.to_string()).unwrap();
        }
        folder
    }

    fn found(folder: &TempDir, asked: Option<&str>) -> Result<(String, EndOfTextSource)> {
        let tokenizer = Tokenizer::open(folder.path(), asked)?;
        let found = tokenizer.stated_end_of_text().clone();
        assert_eq!(tokenizer.end_of_text(), found.id);
        Ok((found.name, found.source))
    }

    #[test]
    fn files_are_asked_in_their_order() {
        let special = ["<pad>", "<bos>", "<eos>", "<turn>"];
        let config = ("config.json", json!({"eos_token_id": 3}));
        let generation = ("generation_config.json", json!({"eos_token_id": [6, 5]}));
        let tokenizer = ("tokenizer_config.json", json!({"eos_token": {"content": "<bos>"}}));
        let map = ("special_tokens_map.json", json!({"eos_token": "<turn>"}));
        let mut files = vec![config, generation, tokenizer, map];
        let fields = ["eos_token_id", "eos_token_id", "eos_token", "eos_token"];
        for (expected, field) in ["<pad>", "<turn>", "<bos>", "<turn>"].into_iter().zip(fields) {
            let (name, source) = found(&folder(&special, &[], &files), None).unwrap();
            let file = files.remove(0).0;
            assert_eq!((name.as_str(), source), (expected, EndOfTextSource::File { file, field }));
        }
        let (name, source) = found(&folder(&special, &[], &[]), None).unwrap();
        assert_eq!((name.as_str(), source), ("<eos>", EndOfTextSource::SpecialToken));
    }

    #[test]
    fn what_a_file_does_not_say_others_do() {
        for config in [
            json!({}),
            json!({"eos_token_id": null}),
            json!({"eos_token_id": 50_256}),
            json!({"eos_token_id": -1}),
            json!({"eos_token_id": []}),
            json!([]),
        ] {
            let files =
                [("config.json", config), ("tokenizer_config.json", json!({"eos_token": "<x>"}))];
            let (name, _) = found(&folder(&["<x>", "<eos>"], &[], &files), None).unwrap();
            assert_eq!(name, "<x>");
        }
        let files = [("config.json", json!({"text_config": {"eos_token_id": 3}}))];
        assert_eq!(found(&folder(&["<x>", "<eos>"], &[], &files), None).unwrap().0, "<x>");
        // A file of another name is not what its neighbours are about.
        let files = [("config.json", json!({"eos_token_id": 3}))];
        let of = folder(&["<x>", "<eos>"], &[], &files);
        let other = of.path().join("other.json");
        fs::copy(of.path().join("tokenizer.json"), &other).unwrap();
        let stated = |path| Tokenizer::from_file(path).unwrap().stated_end_of_text().to_string();
        assert_eq!(stated(other), "<eos> (token 4), a special token of the tokenizer");
        let stated = stated(of.path().join("tokenizer.json"));
        assert_eq!(stated, "<x> (token 3), from eos_token_id in config.json");
        fs::write(of.path().join("config.json"), "{").unwrap();
        assert!(found(&of, None).unwrap_err().to_string().contains("config.json"));
    }

    /// As in Gemma's tokenizer: </s> is a tag of HTML like others.
    #[test]
    fn an_ordinary_token_is_not_taken_where_there_are_special_ones() {
        let gemma = folder(&["<eos>", "<bos>"], &["<s>", "</s>"], &[]);
        let tokenizer = Tokenizer::open(gemma.path(), None).unwrap();
        assert_eq!(tokenizer.stated_end_of_text().name, "<eos>");
        assert_eq!(tokenizer.unusual_end_of_text(), Some(3));
        assert_eq!(tokenizer.encode("a </s> b <eos>").unwrap(), [0, 6, 1, 2, 2, 2]);
        let none = folder(&["<bos>", "<pad>"], &["</s>"], &[]);
        let error = found(&none, None).unwrap_err().to_string();
        assert!(error.contains("--end-of-text") && error.contains("<bos>, <pad>"), "{error}");
        assert_eq!(error.lines().count(), 1);
        let caller = |name: &str| Ok((name.to_string(), EndOfTextSource::Caller));
        for (asked, name) in [("</s>", "</s>"), ("<pad>", "<pad>"), ("4", "<pad>")] {
            assert_eq!(found(&none, Some(asked)).map_err(|e| e.to_string()), caller(name));
        }
        for asked in ["<eos>", "77", "-1", ""] {
            let error = found(&none, Some(asked)).unwrap_err().to_string();
            assert!(
                error.contains("is not a token of") && error.contains("<bos>, <pad>"),
                "{error}"
            );
        }
        // Where no token is special, names alone tell.
        let (name, source) = found(&folder(&[], &["</s>", "</div>"], &[]), None).unwrap();
        assert_eq!((name.as_str(), source), ("</s>", EndOfTextSource::Vocabulary));
    }

    #[test]
    fn names_of_common_tokenizers() {
        for special in [
            ["<|im_start|>", "<|im_end|>"],
            [
                "<\u{ff5c}begin\u{2581}of\u{2581}sentence\u{ff5c}>",
                "<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>",
            ],
            ["<BOS_TOKEN>", "<EOS_TOKEN>"],
            ["[CLS]", "[SEP]"],
            ["<|im_end|>", "<|endoftext|>"],
            ["<|eot_id|>", "<|end_of_text|>"],
        ] {
            let of = folder(&special, &[], &[]);
            assert_eq!(found(&of, None).unwrap().0, special[1]);
            // What was found before is no part of an identity, and what was not is.
            let usual = ["<|endoftext|>", "<|end_of_text|>"].contains(&special[1]);
            let tokenizer = Tokenizer::open(of.path(), None).unwrap();
            assert_eq!(tokenizer.unusual_end_of_text().is_none(), usual);
        }
    }
}
