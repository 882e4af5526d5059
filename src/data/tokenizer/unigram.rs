//! A unigram language model over pieces of words, in the way of SentencePiece.
//!
//! Kudo, "Subword regularization: improving neural network translation models with multiple
//! subword candidates", ACL 2018, section 3.2; Kudo and Richardson, "SentencePiece: a simple and
//! language independent subword tokenizer and detokenizer for neural text processing", EMNLP 2018.
//!
//! As in SentencePiece's defaults a piece has at most 16 characters, begins with one space or
//! none, and holds neither further white space nor two scripts; the characters that make up
//! 99.95% of the text are pieces, and all others are written as their UTF-8 bytes.
//!
//! Unlike in SentencePiece nothing is lost. The text is not normalised and no space is put in front
//! of it, runs of white space are pieces of their own, and in the file a space is a space:
//! SentencePiece writes ▁, which a text may itself contain. Training does not depend on the order
//! of the texts.

mod pieces;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence;
use tokenizers::models::unigram::Unigram;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::pre_tokenizers::unicode_scripts::UnicodeScripts;
use tokenizers::{
    AddedToken, DecoderWrapper, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
    PreTokenizerWrapper, Result, SplitDelimiterBehavior,
};
use unicode_categories::UnicodeCategories;

/// What stands for text that is neither pieces nor bytes; there is none.
const UNKNOWN: &str = "<unk>";
/// The share of the text's characters that are pieces, in 1/10,000.
const COVERAGE: u64 = 9_995;
/// A longer stretch of one script is learnt from in parts of so many characters.
const LONGEST_SEGMENT: usize = 64;
/// The cuts of [`words`](super::words), as a regular expression.
const WORDS: &str = r"\s*\S+|\s+";

/// Learns a vocabulary of so many tokens, or fewer, from words with how often they occur.
pub(super) fn train(
    words: HashMap<String, u64>,
    vocab_size: usize,
    end_of_text: &str,
) -> Result<tokenizers::Tokenizer> {
    let mut stretches: BTreeMap<String, u64> = BTreeMap::new();
    for (word, count) in words {
        for segment in segments(&word) {
            *stretches.entry(segment.to_owned()).or_default() += count;
        }
    }
    let bytes: Vec<String> = (0..=255u8).map(|byte| format!("<0x{byte:02X}>")).collect();
    let names = bytes.iter().map(String::as_str).chain([UNKNOWN]);
    let wanted = vocab_size - 1 - bytes.len() - 1;
    let alphabet = alphabet(&stretches, names.flat_map(str::chars).collect(), wanted);
    let pieces = pieces::learn(&of_alphabet(&stretches, &alphabet), wanted);
    // In a text the name of a byte is text. It is likelier to be spelled out than to be the byte,
    // as its characters are pieces.
    let round = |score: f64| (score * 1e6).round() / 1e6;
    let least = pieces.iter().fold(0.0, |least: f64, (_, score)| least.min(*score));
    let never = round(6.0 * least - 1.0);
    let tokens = std::iter::once(UNKNOWN.to_owned()).chain(bytes).map(|name| (name, never));
    let vocab =
        tokens.chain(pieces.into_iter().map(|(text, score)| (text, round(score)))).collect();
    let mut tokenizer = tokenizers::Tokenizer::new(Unigram::from(vocab, Some(0), true)?);
    let words = SplitPattern::Regex(WORDS.to_owned());
    let split = Split::new(words, SplitDelimiterBehavior::Isolated, false)?;
    let decoder: Vec<DecoderWrapper> = vec![ByteFallback::new().into(), Fuse::new().into()];
    tokenizer.with_pre_tokenizer(Some(split)).with_decoder(Some(Sequence::new(decoder)));
    // No token of the model, so that no text gives it.
    tokenizer.add_special_tokens([AddedToken::from(end_of_text, true)])?;
    Ok(tokenizer)
}

/// Whether a pre-tokenizer cuts a text into its words and does nothing else.
pub(super) fn cuts_words(pre_tokenizer: &PreTokenizerWrapper) -> bool {
    match pre_tokenizer {
        PreTokenizerWrapper::Split(split) => {
            split.pattern == SplitPattern::Regex(WORDS.to_owned())
                && split.behavior == SplitDelimiterBehavior::Isolated
                && !split.invert
        }
        _ => false,
    }
}

/// The stretches of a word in which a piece may lie: the white space before it, without the last
/// character where that is a space, and the runs of one script, the first with that space.
fn segments(word: &str) -> Vec<&str> {
    let rest = word.trim_start();
    let mut start = word.len() - rest.len();
    if !rest.is_empty() && word[..start].ends_with(' ') {
        start -= 1;
    }
    let (space, rest) = word.split_at(start);
    let mut segments: Vec<&str> = [space].into_iter().filter(|space| !space.is_empty()).collect();
    let mut last = 0;
    for end in changes_of_script(rest).into_iter().chain([rest.len()]) {
        if end > last {
            segments.push(&rest[last..end]);
            last = end;
        }
    }
    segments
}

/// The bytes at which another script begins; letters and what stands between them are two, and a
/// mark belongs to the character before it.
fn changes_of_script(word: &str) -> Vec<usize> {
    if word.is_ascii() {
        let bytes = word.as_bytes();
        let changes = |&i: &usize| {
            bytes[i - 1] != b' '
                && bytes[i - 1].is_ascii_alphabetic() != bytes[i].is_ascii_alphabetic()
        };
        return (1..bytes.len()).filter(changes).collect();
    }
    let (mut bare, mut places) = (String::new(), HashMap::new());
    for (i, c) in word.char_indices().filter(|&(i, c)| i == 0 || !c.is_mark()) {
        places.insert(bare.len(), i);
        bare.push(c);
    }
    let mut parts = PreTokenizedString::from(bare);
    UnicodeScripts::new().pre_tokenize(&mut parts).expect("it refuses nothing");
    let parts = parts.get_splits(OffsetReferential::Original, OffsetType::Byte);
    parts.into_iter().skip(1).filter_map(|(_, (start, _), _)| places.get(&start).copied()).collect()
}

/// The characters that become pieces: some, and the most frequent ones that make up
/// [`COVERAGE`] of the text, as long as there is room.
fn alphabet(
    stretches: &BTreeMap<String, u64>,
    mut some: BTreeSet<char>,
    room: usize,
) -> BTreeSet<char> {
    let mut counts: BTreeMap<char, u64> = BTreeMap::new();
    for (text, count) in stretches {
        text.chars().for_each(|c| *counts.entry(c).or_default() += count);
    }
    let all: u64 = counts.values().sum();
    let mut counts: Vec<(char, u64)> = counts.into_iter().collect();
    // Of equally frequent ones the first by their numbers.
    counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let mut covered = 0;
    for (c, count) in counts {
        if covered * 10_000 >= all * COVERAGE || some.len() >= room {
            break;
        }
        covered += count;
        some.insert(c);
    }
    some
}

/// The parts of the stretches that are written in an alphabet, none too long, and its characters.
fn of_alphabet(
    stretches: &BTreeMap<String, u64>,
    alphabet: &BTreeSet<char>,
) -> BTreeMap<String, u64> {
    let mut parts: BTreeMap<String, u64> = alphabet.iter().map(|c| (c.to_string(), 0)).collect();
    for (text, count) in stretches {
        for part in text.split(|c| !alphabet.contains(&c)).filter(|part| !part.is_empty()) {
            let characters: Vec<char> = part.chars().collect();
            for part in characters.chunks(LONGEST_SEGMENT) {
                *parts.entry(part.iter().collect()).or_default() += count;
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn segments_by_hand() {
        for (word, expected) in [
            (" word", &[" word"][..]),
            ("word", &["word"]),
            ("\n\n  The", &["\n\n ", " The"]),
            ("\tThe", &["\t", "The"]),
            ("  \n", &["  \n"]),
            (" (don't)", &[" (", "don", "'", "t", ")"]),
            (" <0xAB>", &[" <0", "xAB", ">"]),
            (" naïve", &[" naïve"]),
            ("nai\u{308}ve,", &["nai\u{308}ve", ","]),
            ("日本語のテスト。", &["日本語のテスト", "。"]),
            ("миръpeace", &["миръ", "peace"]),
            ("", &[]),
        ] {
            assert_eq!(segments(word), expected, "{word:?}");
        }
    }

    #[test]
    fn rare_characters_are_no_pieces_and_cut_the_text() {
        let stretches =
            BTreeMap::from([("ab".to_owned(), 9_996), ("a".to_owned(), 5), ("axb".to_owned(), 2)]);
        let chosen = alphabet(&stretches, BTreeSet::from(['<']), 10);
        assert_eq!(chosen, BTreeSet::from(['<', 'a', 'b']));
        let parts = of_alphabet(&stretches, &chosen);
        let expected = [("<", 0), ("a", 7), ("ab", 9_996), ("b", 2)];
        assert_eq!(parts, expected.map(|(text, count)| (text.to_owned(), count)).into());
        assert_eq!(alphabet(&stretches, BTreeSet::from(['<']), 2), BTreeSet::from(['<', 'a']));
        let long = BTreeMap::from([("a".repeat(2 * LONGEST_SEGMENT + 1), 3)]);
        let parts: Vec<_> = of_alphabet(&long, &chosen).into_iter().collect();
        assert_eq!(parts[1], ("a".to_owned(), 3));
        assert_eq!(parts[2], ("a".repeat(LONGEST_SEGMENT), 6));
    }

    proptest! {
        #[test]
        fn segments_join_to_the_word_and_ascii_is_no_other_case(word in "[ \n]{0,3}[!-~é]{0,9}") {
            prop_assert_eq!(segments(&word).concat(), word.clone());
            // An accented letter at the end is of the same script as letters before it.
            let ascii: String = word.trim_start().chars().filter(char::is_ascii).collect();
            let ascii = format!(" {ascii}");
            let cuts = changes_of_script(&ascii);
            let mut longer = changes_of_script(&format!("{ascii}а"));
            longer.retain(|&cut| cut < ascii.len());
            prop_assert_eq!(cuts, longer, "{:?}", ascii);
        }
    }
}
