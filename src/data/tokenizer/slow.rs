//! GPT-2's tokenizer in its older format: `vocab.json` and `merges.txt`.

use super::end_of_text::read_json;
use super::whole;
use crate::formats::{HEAD, not_data};
use crate::{Error, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

/// The tokens and their numbers.
pub(super) const VOCAB: &str = "vocab.json";
/// The merges, in order.
pub(super) const MERGES: &str = "merges.txt";

/// The special token if the files name none.
const DEFAULT: &str = "<|endoftext|>";
/// The fields of files that name special tokens.
const SPECIAL: [&str; 7] =
    ["eos_token", "bos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"];

/// The tokenizer that `transformers` builds from a folder's files.
pub(super) fn read(folder: &Path) -> Result<Tokenizer> {
    let json = |name: &str| read_json(&folder.join(name));
    let config = json("tokenizer_config.json")?.unwrap_or_default();
    if let Some(class) = config["tokenizer_class"].as_str()
        && !class.starts_with("GPT2Tokenizer")
    {
        let reason = format!(
            "tokenizer_class is {class:?}; without a tokenizer.json only GPT2Tokenizer can be \
             read: python -c \"import sys, transformers as t; \
             t.AutoTokenizer.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[1])\" FOLDER \
             writes one"
        );
        return Err(Error::content(folder.join("tokenizer_config.json"), None, reason));
    }
    for name in [VOCAB, MERGES] {
        let path = folder.join(name);
        let mut head = Vec::new();
        let file = File::open(&path).map_err(Error::io(&path))?;
        file.take(HEAD as u64).read_to_end(&mut head).map_err(Error::io(&path))?;
        if let Some(what) = not_data(&head) {
            return Err(Error::content(path, None, what));
        }
    }
    let path = folder.join(MERGES);
    let refuse = |error: tokenizers::Error| Error::content(&path, None, error.to_string());
    let name = |file: &str| folder.join(file).display().to_string();
    let model = whole(&path, || BPE::from_file(&name(VOCAB), &name(MERGES)).build())?;
    let mut tokenizer = Tokenizer::new(model);
    let prefix = config["add_prefix_space"].as_bool().unwrap_or(false);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(prefix, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    let map = json("special_tokens_map.json")?.unwrap_or_default();
    // First those with a number of their own, then the rest behind them.
    for (id, token) in numbered(&config, &json("added_tokens.json")?.unwrap_or_default()) {
        let name = token.content.clone();
        let special = token.special || names(&config, &map).contains(&name);
        tokenizer.add_tokens([token.special(special)]).map_err(refuse)?;
        if tokenizer.token_to_id(&name) != Some(id) {
            let found = tokenizer.token_to_id(&name).unwrap_or_default();
            let reason = format!("the added token {name} has the number {id}; it would be {found}");
            return Err(Error::content(folder.join(VOCAB), None, reason));
        }
    }
    let special = names(&config, &map).into_iter().map(|name| AddedToken::from(name, true));
    tokenizer.add_special_tokens(special).map_err(refuse)?;
    Ok(tokenizer)
}

/// Added tokens by their numbers.
fn numbered(config: &Value, added: &Value) -> BTreeMap<u32, AddedToken> {
    let decoder = config["added_tokens_decoder"].as_object().into_iter().flatten();
    let full = decoder.filter_map(|(id, token)| {
        let token: AddedToken = serde_json::from_value(token.clone()).ok()?;
        Some((id.parse::<u32>().ok()?, token))
    });
    let plain = added.as_object().into_iter().flatten().filter_map(|(name, id)| {
        Some((u32::try_from(id.as_u64()?).ok()?, AddedToken::from(name.clone(), false)))
    });
    plain.chain(full).collect()
}

/// The names of the special tokens.
fn names(config: &Value, map: &Value) -> Vec<String> {
    let named = |value: &Value| match value {
        Value::String(name) => Some(name.clone()),
        token => token["content"].as_str().map(String::from),
    };
    let default = |field: &str| SPECIAL[..3].contains(&field).then(|| DEFAULT.to_string());
    let one = |field: &&str| named(&config[*field]).or(named(&map[*field])).or(default(field));
    let more = [config, map].into_iter().flat_map(|file| {
        file["additional_special_tokens"].as_array().into_iter().flatten().filter_map(named)
    });
    let mut names: Vec<String> = Vec::new();
    for name in SPECIAL.iter().filter_map(one).chain(more) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::fs;
    use tempfile::TempDir;

    /// The tokenizer of `golden/checkpoint/nano-small`, and a folder with it in the older form.
    fn both() -> (crate::data::tokenizer::Tokenizer, TempDir) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/checkpoint/nano-small");
        let whole = open(&path).unwrap();
        let file: Value = serde_json::from_str(whole.to_json()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(VOCAB), file["model"]["vocab"].to_string()).unwrap();
        let merges =
            file["model"]["merges"].as_array().unwrap().iter().map(|pair| {
                format!("{} {}\n", pair[0].as_str().unwrap(), pair[1].as_str().unwrap())
            });
        let merges = format!("#version: 0.2\n{}", merges.collect::<String>());
        fs::write(folder.path().join(MERGES), merges).unwrap();
        (whole, folder)
    }

    fn open(path: &Path) -> Result<crate::data::tokenizer::Tokenizer> {
        crate::data::tokenizer::Tokenizer::from_file(path)
    }

    #[test]
    fn the_older_form_is_the_same_tokenizer() {
        let (whole, folder) = both();
        let old = open(folder.path()).unwrap();
        assert_eq!(open(&folder.path().join("tokenizer.json")).unwrap().hash(), old.hash());
        assert_eq!(old.end_of_text(), whole.end_of_text());
        assert_eq!(old.vocab_size(), whole.vocab_size());
        for text in ["Rik taid  faik,\n\n the <|endoftext|> don't 12.5", "naïve 汉字 \u{1f9d1}", ""]
        {
            assert_eq!(old.encode(text).unwrap(), whole.encode(text).unwrap());
            assert_eq!(old.decode(&old.encode(text).unwrap()).unwrap(), text);
        }
    }

    #[test]
    fn tokens_are_added_as_the_files_say() {
        let (_, folder) = both();
        let write = |name: &str, content: Value| {
            fs::write(folder.path().join(name), content.to_string()).unwrap();
        };
        write("added_tokens.json", json!({"<tool>": 512, "<pad>": 513}));
        write(
            "special_tokens_map.json",
            json!({"pad_token": "<pad>", "eos_token": {"content": "<end>"}}),
        );
        let tokenizer = open(folder.path()).unwrap();
        assert_eq!((tokenizer.vocab_size(), tokenizer.end_of_text()), (515, 514));
        // A special token's name is text; an ordinary one is a token.
        let ids = tokenizer.encode("a<tool><pad>").unwrap();
        assert!(ids.contains(&512) && !ids.contains(&513), "{ids:?}");
        assert_eq!(tokenizer.needed_vocab(), 515);
        write("added_tokens.json", json!({"<tool>": 600}));
        let error = open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("<tool> has the number 600; it would be 512"), "{error}");
        write("tokenizer_config.json", json!({"tokenizer_class": "Qwen2Tokenizer"}));
        let error = open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("Qwen2Tokenizer") && error.contains("save_pretrained"), "{error}");
        write("tokenizer_config.json", json!({"tokenizer_class": "GPT2TokenizerFast"}));
        fs::write(folder.path().join("added_tokens.json"), "{}").unwrap();
        open(folder.path()).unwrap();
        fs::write(folder.path().join(MERGES), "#version: 0.2\nzz qq\n").unwrap();
        let error = open(folder.path()).unwrap_err().to_string();
        assert!(error.contains(MERGES) && error.contains("zz"), "{error}");
    }

    #[test]
    fn a_file_that_is_another_one_is_named_for_it() {
        for name in [VOCAB, MERGES, "tokenizer_config.json", "added_tokens.json"] {
            let (_, folder) = both();
            let path = folder.path().join(name);
            fs::write(&path, "version https://git-lfs.github.com/spec/v1\nsize 548\n").unwrap();
            let error = open(folder.path()).unwrap_err().to_string();
            let expected = format!("{}: it is a git-lfs pointer", path.display());
            assert!(error.starts_with(&expected), "{error}");
        }
    }
}
