//! A stream of tokens cut into sequences of fixed length, on which a model is trained and evaluated,
//! each with a mask of the tokens that count in the loss.

use super::mask::Encoded;
use super::tokens::Chosen;
use crate::{Error, Result};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// Consecutive sequences of T tokens of one stream.
///
/// The inputs of sequence i are the tokens i·T to i·T + T − 1, and it predicts the tokens i·T + 1 to
/// i·T + T. So n sequences take n·T + 1 tokens, and each of n·T tokens is predicted exactly once. The
/// rest at the end of the stream is dropped. Clones and prefixes share the tokens.
///
/// The stream is in memory, and sequences borrow from it; or it is in a token store, from which
/// sequences are copied one by one, and may be larger than memory.
#[derive(Debug, Clone)]
pub struct Sequences {
    stream: Arc<Stream>,
    context: usize,
    /// The number of the first sequence in the stream.
    first: usize,
    count: usize,
}

/// Where the tokens are stored.
#[derive(Debug)]
pub(super) enum Stream {
    Memory(Encoded),
    Stored(Chosen),
}

/// A sequence of tokens, and which of them count in the loss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window<'a> {
    /// T + 1 tokens, of which the first T are the input and the last T the targets.
    pub tokens: Cow<'a, [u32]>,
    /// For each target, whether it counts; `None` means that all do.
    pub counted: Option<Vec<bool>>,
}

impl Window<'_> {
    /// The number of targets.
    pub fn targets(&self) -> u64 {
        self.tokens.len() as u64 - 1
    }

    /// The number of targets that count in the loss.
    pub fn counted(&self) -> u64 {
        let ones = |mask: &Vec<bool>| mask.iter().filter(|&&counts| counts).count() as u64;
        self.counted.as_ref().map_or(self.targets(), ones)
    }
}

impl Stream {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Memory(encoded) => encoded.tokens.len(),
            Self::Stored(chosen) => chosen.len(),
        }
    }

    fn get(&self, range: Range<usize>) -> Cow<'_, [u32]> {
        match self {
            Self::Memory(encoded) => Cow::Borrowed(&encoded.tokens[range]),
            Self::Stored(chosen) => {
                let mut tokens = Vec::with_capacity(range.len());
                chosen.read(range, &mut tokens);
                Cow::Owned(tokens)
            }
        }
    }

    fn is_masked(&self) -> bool {
        match self {
            Self::Memory(encoded) => encoded.counted.is_some(),
            Self::Stored(chosen) => chosen.is_masked(),
        }
    }

    /// Which tokens count in the loss.
    fn counted(&self, range: Range<usize>) -> Vec<bool> {
        match self {
            Self::Memory(Encoded { counted: Some(counted), .. }) => counted[range].to_vec(),
            Self::Memory(_) => vec![true; range.len()],
            Self::Stored(chosen) => {
                let mut counted = Vec::with_capacity(range.len());
                chosen.read_counted(range, &mut counted);
                counted
            }
        }
    }
}

impl Sequences {
    /// All whole sequences of `context` tokens in a stream.
    ///
    /// # Errors
    /// If `context` is 0 or the stream is too short for one sequence.
    ///
    /// # Examples
    /// ```
    /// use forgetting_laws::data::sequences::Sequences;
    /// let sequences = Sequences::new(vec![10, 11, 12, 13, 14, 15], 2)?;
    /// assert_eq!(sequences.len(), 2);
    /// assert_eq!(*sequences.get(1), [12, 13, 14]);
    /// # Ok::<(), forgetting_laws::Error>(())
    /// ```
    pub fn new(tokens: Vec<u32>, context: usize) -> Result<Self> {
        Self::masked(tokens.into(), context)
    }

    /// As [`new`](Self::new), for a stream in which some tokens may not count in the loss.
    ///
    /// # Errors
    /// As [`new`](Self::new), and if the mask and the stream differ in length.
    ///
    /// # Examples
    /// ```
    /// use forgetting_laws::data::{mask::Encoded, sequences::Sequences};
    /// let counted = Some(vec![true, false, true, false, false]);
    /// let stream = Encoded { tokens: vec![10, 11, 12, 13, 14], counted };
    /// let sequences = Sequences::masked(stream, 2)?;
    /// assert_eq!((sequences.tokens(), sequences.counted_tokens()), (4, 1));
    /// // The first token is not a target.
    /// assert_eq!(sequences.window(0).counted, Some(vec![false, true]));
    /// # Ok::<(), forgetting_laws::Error>(())
    /// ```
    pub fn masked(stream: Encoded, context: usize) -> Result<Self> {
        let (tokens, mask) = (stream.tokens.len(), stream.counted.as_ref().map(Vec::len));
        match mask {
            Some(mask) if mask != tokens => {
                let requirement = format!("must be {tokens}, the length of the stream");
                Err(Error::setting("length of the mask", mask, requirement))
            }
            _ => Self::of(Stream::Memory(stream), context),
        }
    }

    /// All whole sequences of `context` tokens in documents of a token store.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn stored(documents: Chosen, context: usize) -> Result<Self> {
        Self::of(Stream::Stored(documents), context)
    }

    pub(super) fn of(stream: Stream, context: usize) -> Result<Self> {
        check_context(context)?;
        let count = stream.len().saturating_sub(1) / context;
        if count == 0 {
            return Err(Error::Exhausted {
                what: format!("a stream for sequences of {context}"),
                asked: context as u64 + 1,
                available: stream.len() as u64,
                remedy: "give more text or use a shorter context".into(),
            });
        }
        Ok(Self { stream: Arc::new(stream), context, first: 0, count })
    }

    /// No sequences, for a part that was not asked for.
    ///
    /// # Errors
    /// If `context` is 0.
    pub fn empty(context: usize) -> Result<Self> {
        check_context(context)?;
        let stream = Arc::new(Stream::Memory(Encoded::default()));
        Ok(Self { stream, context, first: 0, count: 0 })
    }

    /// T: the number of tokens that a sequence predicts.
    pub fn context(&self) -> usize {
        self.context
    }

    /// The number of sequences.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no sequence.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The number of tokens that all sequences together predict: [`len`](Self::len) · T.
    pub fn tokens(&self) -> u64 {
        self.count as u64 * self.context as u64
    }

    /// Sequence `i`: T + 1 tokens, of which the first T are the input and the last T the targets.
    ///
    /// # Panics
    /// If `i` is not below [`len`](Self::len).
    pub fn get(&self, i: usize) -> Cow<'_, [u32]> {
        assert!(i < self.count, "sequence {i} of {}", self.count);
        let start = (self.first + i) * self.context;
        self.stream.get(start..start + self.context + 1)
    }

    /// Sequence `i` with its mask of targets that count in the loss.
    ///
    /// # Panics
    /// If `i` is not below [`len`](Self::len).
    pub fn window(&self, i: usize) -> Window<'_> {
        let tokens = self.get(i);
        let start = (self.first + i) * self.context + 1;
        let targets = start..start + self.context;
        let counted = self.is_masked().then(|| self.stream.counted(targets));
        let counted = counted.filter(|counted| counted.contains(&false));
        Window { tokens, counted }
    }

    /// Whether some tokens of the stream may not count in the loss.
    pub fn is_masked(&self) -> bool {
        self.stream.is_masked()
    }

    /// The number of predicted tokens that count in the loss. If the stream has a mask, all of it is
    /// read.
    pub fn counted_tokens(&self) -> u64 {
        if self.is_masked() {
            self.masks().map(|mask| mask.iter().map(|&counts| u64::from(counts)).sum::<u64>()).sum()
        } else {
            self.tokens()
        }
    }

    /// Whether each target counts, in parts.
    fn masks(&self) -> impl Iterator<Item = Vec<bool>> {
        let Range { start, end } = self.range();
        let starts = (start + 1..end).step_by(MASKS);
        starts.map(move |start| self.stream.counted(start..end.min(start + MASKS)))
    }

    /// Every sequence, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Cow<'_, [u32]>> {
        (0..self.count).map(|i| self.get(i))
    }

    /// The stream of the sequences: n·T + 1 tokens, or none if there are no sequences. All of a token
    /// store is read into memory; [`chunks`](Self::chunks) reads it in parts.
    pub fn stream(&self) -> Cow<'_, [u32]> {
        self.stream.get(self.range())
    }

    /// The stream in chunks of `size` tokens; the last may be shorter.
    ///
    /// # Panics
    /// If `size` is 0.
    pub fn chunks(&self, size: usize) -> impl Iterator<Item = Cow<'_, [u32]>> {
        let range = self.range();
        let end = range.end;
        range.step_by(size).map(move |start| self.stream.get(start..end.min(start + size)))
    }

    /// The range of the sequences in the stream.
    fn range(&self) -> Range<usize> {
        let start = self.first * self.context;
        start..start + self.stream_len()
    }

    pub(super) fn stream_len(&self) -> usize {
        if self.is_empty() { 0 } else { self.count * self.context + 1 }
    }

    /// The first ⌊`tokens` / T⌋ sequences: the unique target data of D_ft tokens.
    ///
    /// A smaller prefix is contained in a larger one. Report the realised count, [`Sequences::tokens`]
    /// of the result.
    ///
    /// # Errors
    /// If `tokens` is below T or there are fewer sequences.
    ///
    /// # Examples
    /// ```
    /// use forgetting_laws::data::sequences::Sequences;
    /// let all = Sequences::new((0..1000).collect(), 64)?;
    /// assert_eq!(all.prefix(300)?.tokens(), 256);
    /// # Ok::<(), forgetting_laws::Error>(())
    /// ```
    pub fn prefix(&self, tokens: u64) -> Result<Self> {
        let count = whole_sequences("tokens", tokens, self.context)?;
        if count > self.count {
            return Err(Error::Exhausted {
                what: "a prefix of the data".into(),
                asked: tokens,
                available: self.tokens(),
                remedy: "give more text or ask for fewer tokens".into(),
            });
        }
        Ok(Self { count, ..self.clone() })
    }

    /// The first ⌊`tokens` / T⌋ sequences and the rest, for example a validation set and a test set. No
    /// token is predicted in both.
    ///
    /// # Errors
    /// If `tokens` is below T or there are fewer sequences.
    ///
    /// # Examples
    /// ```
    /// use forgetting_laws::data::sequences::Sequences;
    /// let all = Sequences::new((0..1000).collect(), 64)?;
    /// let (validation, test) = all.split_at(300)?;
    /// assert_eq!((validation.len(), test.len()), (4, 11));
    /// assert_eq!(test.get(0), all.get(4));
    /// # Ok::<(), forgetting_laws::Error>(())
    /// ```
    pub fn split_at(&self, tokens: u64) -> Result<(Self, Self)> {
        let before = self.prefix(tokens)?;
        let rest = Self {
            first: self.first + before.count,
            count: self.count - before.count,
            ..self.clone()
        };
        Ok((before, rest))
    }

    /// The hexadecimal SHA-256 of T and the stream, each number in little-endian order. If some targets
    /// do not count in the loss, one byte per target follows, 1 if it counts.
    pub fn hash(&self) -> String {
        let mut hasher = Sha256::new_with_prefix((self.context as u64).to_le_bytes());
        let mut bytes = Vec::with_capacity(4 * 4096);
        for chunk in self.chunks(4096) {
            bytes.clear();
            bytes.extend(chunk.iter().flat_map(|token| token.to_le_bytes()));
            hasher.update(&bytes);
        }
        if self.counted_tokens() < self.tokens() {
            for mask in self.masks() {
                hasher.update(mask.into_iter().map(u8::from).collect::<Vec<_>>());
            }
        }
        format!("{:x}", hasher.finalize())
    }
}

/// How many targets have their mask in memory at a time.
const MASKS: usize = 1 << 16;

fn check_context(context: usize) -> Result<()> {
    if context == 0 {
        return Err(Error::setting("context", context, "must be at least 1 token"));
    }
    Ok(())
}

/// The number of whole sequences in `tokens` predicted tokens; at least one is required.
pub(crate) fn whole_sequences(name: &str, tokens: u64, context: usize) -> Result<usize> {
    check_context(context)?;
    match usize::try_from(tokens / context as u64) {
        Ok(0) => Err(Error::setting(
            name,
            tokens,
            format!("must be enough for one sequence, at least {context} tokens"),
        )),
        Ok(count) => Ok(count),
        Err(_) => Err(Error::setting(name, tokens, "is more than this machine can address")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_token_is_a_target_only() {
        // 2 sequences of 3 need 7 tokens; 6 are enough for 1 only.
        assert_eq!(Sequences::new((0..7).collect(), 3).unwrap().len(), 2);
        assert_eq!(Sequences::new((0..6).collect(), 3).unwrap().len(), 1);
        assert_eq!(Sequences::new((0..4).collect(), 3).unwrap().len(), 1);
        assert!(Sequences::new((0..3).collect(), 3).is_err());
        assert!(Sequences::new(vec![], 3).is_err());
        assert!(Sequences::new(vec![1, 2], 0).is_err());
        assert!(Sequences::empty(0).is_err());
        let none = Sequences::empty(3).unwrap();
        assert_eq!((none.len(), none.tokens(), none.stream().len()), (0, 0, 0));
        assert!(none.is_empty() && none.prefix(3).is_err());
    }

    #[test]
    fn prefix_bounds() {
        let all = Sequences::new((0..13).collect(), 4).unwrap();
        assert_eq!(all.tokens(), 12);
        assert_eq!(all.prefix(15).unwrap().len(), 3);
        assert_eq!(all.prefix(12).unwrap().len(), 3);
        assert_eq!(all.prefix(11).unwrap().len(), 2);
        assert_eq!(all.prefix(4).unwrap().len(), 1);
        assert!(matches!(all.prefix(3), Err(Error::Setting { .. })));
        assert!(matches!(all.prefix(0), Err(Error::Setting { .. })));
        assert!(matches!(all.prefix(16), Err(Error::Exhausted { asked: 16, available: 12, .. })));
    }

    /// Computed with Python: sha256(struct.pack("<Q3I", 2, 1, 2, 3)).
    #[test]
    fn the_hash_is_of_the_stream_and_the_context() {
        let cut = Sequences::new(vec![1, 2, 3, 4], 2).unwrap();
        assert_eq!(cut.hash(), Sequences::new(vec![1, 2, 3], 2).unwrap().hash());
        assert_eq!(cut.hash(), "053bae2c4c65332eba09291d8e41710cc2829f92c436ccf8f3f7fd6aa39d4017");
        assert_ne!(cut.hash(), Sequences::new(vec![1, 2, 4], 2).unwrap().hash());
        assert_ne!(cut.hash(), Sequences::new(vec![1, 2, 3], 1).unwrap().hash());
    }

    proptest! {
        #[test]
        fn every_token_but_the_first_is_predicted_once(length in 2usize..200, context in 1usize..20) {
            prop_assume!(length > context);
            let all = Sequences::new((0..length as u32).collect(), context).unwrap();
            let targets: Vec<u32> = all.iter().flat_map(|s| s[1..].to_vec()).collect();
            prop_assert_eq!(&targets, &(1..=all.tokens() as u32).collect::<Vec<_>>());
            for (i, sequence) in all.iter().enumerate() {
                prop_assert_eq!(sequence.len(), context + 1);
                prop_assert_eq!(sequence[0] as usize, i * context);
            }
            prop_assert!(length - 1 - (all.tokens() as usize) < context);
            let shorter = all.prefix(context as u64).unwrap();
            prop_assert_eq!(shorter.get(0), all.get(0));
            prop_assert_eq!(shorter.stream(), &all.stream()[..=context]);
        }
    }
}
