//! Where a long text can be cut so that its pieces have the tokens of the whole.
//!
//! Encoding takes some two hundred times the memory of the text, and tokenizers that were not
//! trained here encode a document as a whole. For two kinds of them it is known that the pieces
//! give the same tokens:
//!
//! - A regular expression first cuts the text into words, and none of its alternatives matches a
//!   space after anything but white space, or looks back or beyond that space. GPT-2, Llama 3, Qwen
//!   and GPT-4o are of this kind: pieces begin with a space.
//! - Byte-pair encoding of the whole text, in which spaces are letters like any other, as in Llama
//!   2, Mistral and Gemma. Merging never crosses a place between two characters that are next to
//!   each other in no token, and does not depend on what is beyond that place: pieces end there.

use serde_json::Value;
use std::collections::HashSet;
use std::ops::Range;
use tokenizers::{ModelWrapper, Tokenizer};

/// Bytes after which the next place to cut is taken.
const PIECE: usize = 1 << 16;
/// The longest piece, in bytes, that is encoded: with it, encoding takes about a gigabyte.
pub(super) const LONGEST: usize = 4 << 20;

/// The alternatives of the regular expressions of published tokenizers.
const ALTERNATIVES: [&str; 23] = [
    "'s",
    "'t",
    "'re",
    "'ve",
    "'m",
    "'ll",
    "'d",
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)",
    "'(?i:[sdmt]|ll|ve|re)",
    r" ?\p{L}+",
    r" ?\p{N}+",
    r" ?[^\s\p{L}\p{N}]+",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*",
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r"[^\r\n\p{L}\p{N}]?\p{L}+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}",
    r"\p{N}+",
    r"\p{N}{1,3}",
    r"\s*[\r\n]+",
    r"\s+(?!\S)",
    // Whatever stands before a space, the next match begins with it or has begun in white space.
    WHITE_SPACE,
];
const WHITE_SPACE: &str = r"\s+";

/// Where texts can be cut.
pub(super) enum Cuts {
    /// Before a space that stands after anything but white space.
    Spaces,
    /// Between characters.
    Characters(Box<Characters>),
}

/// Byte-pair encoding of whole texts.
pub(super) struct Characters {
    /// The characters that are tokens. Others are spelled out or unknown, and may be fused.
    single: HashSet<char>,
    /// Pairs of characters that stand next to each other in a token.
    neighbours: HashSet<(char, char)>,
    /// What characters are replaced by before they are encoded.
    replaced: Vec<(char, char)>,
    /// The same tokenizer without what it puts before a text, for the pieces after the first one.
    later: Tokenizer,
}

impl Cuts {
    /// The cuts of a tokenizer; `None` if nothing is known of where its texts can be cut.
    pub fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let value = |part: Option<Value>, list: &str| match part {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Object(mut one)) if one["type"] == "Sequence" => match one.remove(list) {
                Some(Value::Array(parts)) => parts,
                _ => vec![Value::Object(one)],
            },
            Some(one) => vec![one],
        };
        let normalizer = tokenizer.get_normalizer().map(serde_json::to_value);
        let normalizers = value(normalizer.transpose().ok()?, "normalizers");
        let pre_tokenizer = tokenizer.get_pre_tokenizer().map(serde_json::to_value);
        let pre_tokenizers = value(pre_tokenizer.transpose().ok()?, "pretokenizers");
        // An added token that is not special is looked for in the whole text.
        let added = tokenizer.get_added_tokens_decoder();
        let looks_around = |token: &tokenizers::AddedToken| {
            !token.special && (token.single_word || token.lstrip || token.rstrip)
        };
        if added.values().any(looks_around) {
            return None;
        }
        let added: Vec<&str> = added.values().map(|token| token.content.as_str()).collect();
        if cuts_before_spaces(&normalizers, &pre_tokenizers) {
            let crosses = added.iter().flat_map(|token| neighbours(token)).any(before_space);
            return (!crosses).then_some(Self::Spaces);
        }
        let characters = Characters::of(tokenizer, &normalizers, &pre_tokenizers, &added)?;
        Some(Self::Characters(Box::new(characters)))
    }

    /// The pieces of a text.
    pub fn pieces(&self, text: &str) -> Vec<Range<usize>> {
        let (mut pieces, mut start) = (Vec::new(), 0);
        while let Some(end) = self.next(text, start + PIECE) {
            pieces.push(start..end);
            start = end;
        }
        pieces.push(start..text.len());
        pieces
    }

    /// The first place from a byte on where the text can be cut.
    fn next(&self, text: &str, from: usize) -> Option<usize> {
        let from = (from..text.len()).find(|&at| text.is_char_boundary(at))?;
        let rest = &text[from..];
        let mut before = rest.chars().next()?;
        for (at, c) in rest.char_indices().skip(1) {
            let can = match self {
                Self::Spaces => before_space((before, c)),
                Self::Characters(characters) => characters.can_part(before, c),
            };
            if can {
                return Some(from + at);
            }
            before = c;
        }
        None
    }

    /// The tokenizer of a piece that begins at a byte.
    pub fn tokenizer<'a>(&'a self, whole: &'a Tokenizer, start: usize) -> &'a Tokenizer {
        match self {
            Self::Characters(characters) if start > 0 => &characters.later,
            _ => whole,
        }
    }
}

fn before_space((before, c): (char, char)) -> bool {
    c == ' ' && !before.is_whitespace()
}

/// The characters of a text that stand next to each other.
fn neighbours(text: &str) -> impl Iterator<Item = (char, char)> {
    text.chars().zip(text.chars().skip(1))
}

/// Whether each part of a text that begins with a space after other characters is cut off.
fn cuts_before_spaces(normalizers: &[Value], pre_tokenizers: &[Value]) -> bool {
    let Some((first, rest)) = pre_tokenizers.split_first() else { return false };
    let cuts = match first["type"].as_str() {
        Some("Split") => {
            let whole = first["behavior"] == "Isolated" && first["invert"] == false;
            whole && first["pattern"]["Regex"].as_str().is_some_and(is_known)
        }
        Some("ByteLevel") => first["use_regex"] == true && first["add_prefix_space"] == false,
        _ => false,
    };
    // What cuts words further, each by itself.
    let local = |part: &Value| match part["type"].as_str() {
        Some("ByteLevel") => part["add_prefix_space"] == false,
        Some("Split" | "Digits" | "Punctuation") => true,
        _ => false,
    };
    // Nothing composes with a space.
    cuts && rest.iter().all(local) && normalizers.iter().all(|part| part["type"] == "NFC")
}

/// Whether a regular expression consists of known alternatives.
fn is_known(pattern: &str) -> bool {
    let (mut depth, mut class, mut start, mut alternatives) = (0, false, 0, Vec::new());
    let mut escaped = false;
    for (at, c) in pattern.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => class = true,
            ']' => class = false,
            '(' if !class => depth += 1,
            ')' if !class => depth -= 1,
            '|' if !class && depth == 0 => {
                alternatives.push(&pattern[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    alternatives.push(&pattern[start..]);
    alternatives.iter().all(|one| ALTERNATIVES.contains(one)) && alternatives.contains(&WHITE_SPACE)
}

impl Characters {
    fn of(
        tokenizer: &Tokenizer,
        normalizers: &[Value],
        pre_tokenizers: &[Value],
        added: &[&str],
    ) -> Option<Self> {
        let ModelWrapper::BPE(model) = tokenizer.get_model() else { return None };
        let affixes = [&model.continuing_subword_prefix, &model.end_of_word_suffix];
        let affixed = affixes.iter().any(|affix| affix.as_ref().is_some_and(|a| !a.is_empty()));
        if affixed || model.ignore_merges {
            return None;
        }
        let one = |value: &Value| {
            let mut chars = value.as_str()?.chars();
            chars.next().filter(|_| chars.next().is_none())
        };
        let (mut replaced, mut kept) = (Vec::new(), Vec::new());
        for part in normalizers {
            match part["type"].as_str() {
                Some("Prepend") => continue,
                Some("Replace") => {
                    replaced.push((one(&part["pattern"]["String"])?, one(&part["content"])?));
                }
                _ => return None,
            }
            kept.push(part.clone());
        }
        let mut later = tokenizer.clone();
        match pre_tokenizers {
            [] => {}
            [one_of] if one_of["type"] == "Metaspace" && one_of["split"] == false => {
                replaced.push((' ', one(&one_of["replacement"])?));
                let mut never = one_of.clone();
                never["prepend_scheme"] = "never".into();
                let never = serde_json::from_value::<tokenizers::PreTokenizerWrapper>(never);
                later.with_pre_tokenizer(Some(never.ok()?));
            }
            // There is no space left to cut at.
            [one_of]
                if one_of["type"] == "Split"
                    && one_of["pattern"]["String"] == " "
                    && replaced.iter().any(|&(from, to)| from == ' ' && to != ' ') => {}
            _ => return None,
        }
        let normalizer = serde_json::json!({ "type": "Sequence", "normalizers": kept });
        let normalizer = serde_json::from_value::<tokenizers::NormalizerWrapper>(normalizer);
        later.with_normalizer(Some(normalizer.ok()?)).ok()?;
        let vocab = tokenizer.get_vocab(false);
        let single = vocab.keys().filter_map(|token| one(&Value::from(token.as_str()))).collect();
        let tokens = vocab.keys().map(String::as_str).chain(added.iter().copied());
        let neighbours = tokens.flat_map(neighbours).collect();
        Some(Self { single, neighbours, replaced, later })
    }

    fn can_part(&self, before: char, after: char) -> bool {
        let [a, b] = [before, after]
            .map(|c| self.replaced.iter().fold(c, |c, &(from, to)| if c == from { to } else { c }));
        self.single.contains(&a)
            && self.single.contains(&b)
            && !self.neighbours.contains(&(a, b))
            && !self.neighbours.contains(&(before, after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use std::sync::LazyLock;

    const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    fn split(pattern: &str) -> Value {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        ]})
    }

    /// Byte-pair encoding after a regular expression, as Llama 3, with merges over bytes.
    fn words(pattern: &str, normalizer: Value) -> Tokenizer {
        let texts = ["The miller sold, don't 1234 two\n\n  letters; the river's bread."; 3];
        let trained =
            crate::data::tokenizer::Tokenizer::train(texts.map(String::from).into_iter(), 320);
        let mut value: Value = serde_json::from_str(trained.unwrap().to_json()).unwrap();
        value["pre_tokenizer"] = split(pattern);
        value["normalizer"] = normalizer;
        load(&value)
    }

    /// Byte-pair encoding of all of a text, as Llama 2 and Gemma.
    fn characters(normalizers: Value, pre_tokenizer: Value) -> Tokenizer {
        let merges = ["\u{2581} t", "h e", "\u{2581}t he", "o o", "\u{2581} \u{2581}", ". \n"];
        let mut tokens: Vec<String> = ["<unk>", "</s>"].map(String::from).to_vec();
        tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
        tokens.extend("abcdefghijklmnopqrstuvwxyzT.,\n\u{2581}".chars().map(String::from));
        tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
        let vocab: serde_json::Map<String, Value> =
            tokens.into_iter().zip((0u32..).map(Value::from)).collect();
        load(&json!({
            "version": "1.0",
            "added_tokens": [{"id": 1, "content": "</s>", "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true}],
            "normalizer": normalizers, "pre_tokenizer": pre_tokenizer,
            "post_processor": null, "decoder": null,
            "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
                "vocab": vocab, "merges": merges},
        }))
    }

    fn load(value: &Value) -> Tokenizer {
        let mut tokenizer = Tokenizer::from_bytes(value.to_string()).unwrap();
        tokenizer.set_encode_special_tokens(true);
        tokenizer
    }

    fn prepend_and_replace() -> Value {
        json!({"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u{2581}"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"},
        ]})
    }

    /// One of each kind.
    static KINDS: LazyLock<Vec<Tokenizer>> = LazyLock::new(|| {
        let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"});
        let space = json!({"type": "Split", "pattern": {"String": " "},
            "behavior": "MergedWithPrevious", "invert": false});
        let metaspace = json!({"type": "Metaspace", "replacement": "\u{2581}",
            "prepend_scheme": "first", "split": false});
        vec![
            words(LLAMA_3, Value::Null),
            words(&LLAMA_3.replace("{1,3}", ""), json!({"type": "NFC"})),
            characters(prepend_and_replace(), Value::Null),
            characters(replace, space),
            characters(Value::Null, metaspace),
        ]
    });

    fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
        tokenizer.encode_fast(text, false).unwrap().get_ids().to_vec()
    }

    proptest! {
        /// Cut wherever it can be, a text has the same tokens.
        #[test]
        fn pieces_have_the_tokens_of_the_whole(
            text in "([aeothTs.,;'1-4 \n\r\t\u{a0}\u{e4}\u{301}\u{2581}]|the |  |\r\n|</s>|'s ){0,60}",
        ) {
            for tokenizer in KINDS.iter() {
                let cuts = Cuts::of(tokenizer).unwrap();
                let (mut found, mut start) = (Vec::new(), 0);
                while start < text.len() {
                    let end = cuts.next(&text, start).unwrap_or(text.len());
                    found.extend(ids(cuts.tokenizer(tokenizer, start), &text[start..end]));
                    start = end;
                }
                prop_assert_eq!(found, ids(tokenizer, &text));
            }
        }
    }

    #[test]
    fn long_texts_are_cut_and_covered() {
        let text = "the miller sold the bread, ".repeat(20_000);
        for tokenizer in KINDS.iter() {
            let pieces = Cuts::of(tokenizer).unwrap().pieces(&text);
            assert!(pieces.len() > 5);
            assert!(pieces.iter().all(|piece| piece.len() < PIECE + 100));
            assert_eq!((pieces[0].start, pieces[pieces.len() - 1].end), (0, text.len()));
            assert!(pieces.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
    }

    #[test]
    fn what_is_not_known_is_not_cut() {
        // Looks back, and may match a space after a letter.
        for pattern in [r"\p{L}+ \p{L}+|\s+", r"(?<=a) ?\p{L}+|\s+", r" ?\p{L}+"] {
            assert!(Cuts::of(&words(pattern, Value::Null)).is_none(), "{pattern}");
        }
        assert!(Cuts::of(&words(LLAMA_3, json!({"type": "NFKC"}))).is_none());
        let lower = json!({"type": "Lowercase"});
        assert!(Cuts::of(&characters(lower, Value::Null)).is_none());
        for pattern in
            [LLAMA_3, r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"]
        {
            assert!(is_known(pattern));
        }
    }
}
