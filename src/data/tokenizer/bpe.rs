//! Byte-pair encoding, learned from words.

use super::END_OF_TEXT;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

/// A pair that occurs once is no regularity.
const MIN_FREQUENCY: u64 = 2;

/// Learns a byte-level BPE from words with how often they occur: of pairs that are equally
/// frequent, the one with the smaller ids is merged first.
pub fn train(
    counts: HashMap<String, u64>,
    vocab_size: usize,
) -> tokenizers::Result<tokenizers::Tokenizer> {
    let byte_level = ByteLevel::new(false, false, true);
    // Words in the byte-level alphabet, in an order that does not depend on the hash map's.
    let mut split: BTreeMap<String, u64> = BTreeMap::new();
    for (word, count) in counts {
        let mut parts = PreTokenizedString::from(word);
        byte_level.pre_tokenize(&mut parts)?;
        for (part, _, _) in parts.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
            *split.entry(part.to_owned()).or_default() += count;
        }
    }
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let tokens = std::iter::once(END_OF_TEXT.to_owned())
        .chain(alphabet.into_iter().map(String::from))
        .collect();
    let (tokens, merges) = learn(tokens, split, vocab_size);
    let vocab: HashMap<String, u32> = tokens.iter().cloned().zip(0..).collect();
    let merges = merges
        .into_iter()
        .map(|(a, b)| (tokens[a as usize].clone(), tokens[b as usize].clone()))
        .collect();
    let model = BPE::builder()
        .vocab_and_merges(vocab.into_iter().collect::<tokenizers::models::bpe::Vocab>(), merges)
        .build()?;
    let mut trained = tokenizers::Tokenizer::new(model);
    trained.with_pre_tokenizer(Some(byte_level)).with_decoder(Some(byte_level));
    trained.add_special_tokens([AddedToken::from(END_OF_TEXT, true)])?;
    Ok(trained)
}

/// Two tokens next to each other.
type Pair = (u32, u32);

/// The merges of byte-pair encoding: as long as the vocabulary is too small, the most frequent
/// pair of neighbours becomes a token; of equally frequent ones the pair with the smaller ids.
///
/// `words` counts words as strings of one-character tokens. Returns the vocabulary and the merges
/// in order.
fn learn(
    mut tokens: Vec<String>,
    words: BTreeMap<String, u64>,
    vocab_size: usize,
) -> (Vec<String>, Vec<Pair>) {
    let mut ids: HashMap<String, u32> = tokens.iter().cloned().zip(0..).collect();
    let mut words: Vec<(Vec<u32>, u64)> = words
        .into_iter()
        .map(|(word, count)| (word.chars().map(|c| ids[&c.to_string()]).collect(), count))
        .collect();
    let mut counts: HashMap<Pair, u64> = HashMap::new();
    // The words in which a pair occurs, or occurred.
    let mut places: HashMap<Pair, Vec<usize>> = HashMap::new();
    for (i, (word, count)) in words.iter().enumerate() {
        for pair in word.windows(2).map(|pair| (pair[0], pair[1])) {
            *counts.entry(pair).or_default() += count;
            places.entry(pair).or_default().push(i);
        }
    }
    let mut queue: BinaryHeap<(u64, Reverse<Pair>)> =
        counts.iter().map(|(&pair, &count)| (count, Reverse(pair))).collect();
    let (mut merges, mut known) = (Vec::new(), HashSet::new());
    while tokens.len() < vocab_size
        && let Some((count, Reverse(pair))) = queue.pop()
    {
        let now = counts.get(&pair).copied().unwrap_or(0);
        if now != count {
            // Since it was queued, other merges took some of its occurrences.
            if now > 0 && now < count {
                queue.push((now, Reverse(pair)));
            }
            continue;
        }
        if count < MIN_FREQUENCY {
            break;
        }
        let merged = format!("{}{}", tokens[pair.0 as usize], tokens[pair.1 as usize]);
        // Two different merges may spell the same token; then a pair can come back.
        let id = *ids.entry(merged).or_insert_with_key(|merged| {
            tokens.push(merged.clone());
            tokens.len() as u32 - 1
        });
        if known.insert(pair) {
            merges.push(pair);
        }
        let mut changed = Vec::new();
        for i in places.remove(&pair).unwrap_or_default() {
            let (word, count) = &mut words[i];
            let after = merge(word, pair, id);
            if after.len() == word.len() {
                continue;
            }
            for pair in word.windows(2).map(|pair| (pair[0], pair[1])) {
                if let Some(total) = counts.get_mut(&pair) {
                    *total -= *count;
                }
            }
            for pair in after.windows(2).map(|pair| (pair[0], pair[1])) {
                *counts.entry(pair).or_default() += *count;
                if pair.0 == id || pair.1 == id {
                    places.entry(pair).or_default().push(i);
                    changed.push(pair);
                }
            }
            *word = after;
        }
        changed.sort_unstable();
        changed.dedup();
        queue.extend(changed.into_iter().map(|pair| (counts[&pair], Reverse(pair))));
    }
    (tokens, merges)
}

/// A word in which every `pair`, from the left, is `id`.
fn merge(word: &[u32], pair: Pair, id: u32) -> Vec<u32> {
    let mut after = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&first, others)) = rest.split_first() {
        if first == pair.0 && others.first() == Some(&pair.1) {
            after.push(id);
            rest = &others[1..];
        } else {
            after.push(first);
            rest = others;
        }
    }
    after
}
