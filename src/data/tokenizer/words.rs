//! Words: stretches of a text that can be encoded one by one, and the tokens of frequent ones.

use super::unigram;
use crate::Result;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Mutex;
use tokenizers::PreTokenizerWrapper;

/// Cuts a text into runs of white space, each with the run of other characters after it.
///
/// GPT-2's regular expression never matches across these cuts, and what it matches on one side
/// does not depend on the other: it gives white space to what follows it, and a match that begins
/// with anything else ends before white space.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = rest.find(|c: char| !c.is_whitespace())?;
        let end = rest[start..].find(char::is_whitespace).map_or(rest.len(), |end| start + end);
        let (word, after) = rest.split_at(end);
        rest = after;
        Some(word)
    })
    .chain({
        let kept = text.trim_end().len();
        (kept < text.len()).then(|| &text[kept..])
    })
}

/// Whether a text's tokens are those of its [`words`], one after the other.
pub fn words_are_independent(tokenizer: &tokenizers::Tokenizer) -> bool {
    let cuts_words = match tokenizer.get_pre_tokenizer() {
        Some(PreTokenizerWrapper::ByteLevel(byte_level)) => {
            byte_level.use_regex && !byte_level.add_prefix_space
        }
        Some(other) => unigram::cuts_words(other),
        None => false,
    };
    // An added token that is not special is looked for in the whole text, with spaces around it.
    let all_special = tokenizer.get_added_tokens_decoder().values().all(|token| token.special);
    cuts_words && all_special && tokenizer.get_normalizer().is_none()
}

/// The tokens of words that were met before, for several threads.
///
/// Most words of a text are frequent ones, and cutting and merging them anew takes ten times as
/// long as this look-up.
pub struct Words {
    shards: [Mutex<Known>; 64],
}

/// Words and their tokens.
type Known = HashMap<Box<str>, Box<[u32]>>;

impl Words {
    /// Words kept a shard; those that come later are encoded every time.
    pub const CAPACITY: usize = 1 << 12;
    /// Bytes of the longest word that is kept.
    pub const LONGEST: usize = 64;

    /// Appends a word's tokens to `ids`.
    pub fn append(
        &self,
        word: &str,
        ids: &mut Vec<u32>,
        encode: impl FnOnce() -> Result<Vec<u32>>,
    ) -> Result<()> {
        if word.len() > Self::LONGEST {
            ids.extend(encode()?);
            return Ok(());
        }
        let hash = BuildHasherDefault::<DefaultHasher>::new().hash_one(word);
        let shard = &self.shards[hash as usize % self.shards.len()];
        let lock = || shard.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(known) = lock().get(word) {
            ids.extend_from_slice(known);
            return Ok(());
        }
        let encoded = encode()?;
        ids.extend_from_slice(&encoded);
        let mut shard = lock();
        if shard.len() < Self::CAPACITY {
            shard.insert(word.into(), encoded.into());
        }
        Ok(())
    }
}

impl Default for Words {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()) }
    }
}
