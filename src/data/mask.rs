//! Which tokens of a text count in the loss.
//!
//! In plain text all tokens count. In instruction data it may be only the answers; the rest is read but
//! not predicted. A document carries the bytes that count ([`Passage`]). Tokenising turns them into a
//! mask of tokens ([`Encoded`]), which token stores and [`Sequences`](super::sequences::Sequences)
//! keep, and a loss is the mean over the tokens that count. If all tokens count, there is no mask.

use super::Encode;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::ops::Range;

/// Which tokens of instruction data count in the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Supervised {
    /// Every token.
    #[default]
    All,
    /// The answers, each with the end of its line, and the end of text after the last one.
    Answer,
}

impl Supervised {
    /// Every choice.
    pub const ALL: [Self; 2] = [Self::All, Self::Answer];

    /// Its name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Answer => "answer",
        }
    }

    /// Whether it is the default, which is not written down.
    #[cfg(feature = "text")]
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A document's text, and which of its bytes count in the loss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage<'a> {
    /// The text.
    pub text: Cow<'a, str>,
    /// The bytes that count, in order and without overlap, cut between characters; `None` means all.
    pub counted: Option<Cow<'a, [Range<usize>]>>,
}

impl<'a> Passage<'a> {
    /// A text in which everything counts.
    pub fn plain(text: impl Into<Cow<'a, str>>) -> Self {
        Self { text: text.into(), counted: None }
    }

    /// The number of bytes that count.
    pub fn counted_bytes(&self) -> usize {
        let length = |counted: &Cow<'_, [Range<usize>]>| counted.iter().map(Range::len).sum();
        self.counted.as_ref().map_or(self.text.len(), length)
    }

    /// Checks the bytes that count.
    ///
    /// # Errors
    /// If they are out of order, overlap, leave the text, or cut a character.
    fn check(&self) -> Result<()> {
        let mut end = 0;
        for counted in self.counted.iter().flat_map(|counted| counted.iter()) {
            let cut = |at| self.text.is_char_boundary(at);
            if counted.start < end || counted.end < counted.start {
                let requirement = "must be in order and without overlap";
                return Err(Error::setting("counted bytes", format!("{counted:?}"), requirement));
            }
            if !cut(counted.start) || !cut(counted.end) {
                let requirement =
                    format!("must be cut between the characters of {} bytes", self.text.len());
                return Err(Error::setting("counted bytes", format!("{counted:?}"), requirement));
            }
            end = counted.end;
        }
        Ok(())
    }
}

/// Tokens, and which of them count in the loss.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Encoded {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// For each token whether it counts; `None` means that all do.
    pub counted: Option<Vec<bool>>,
}

impl From<Vec<u32>> for Encoded {
    /// Tokens of which all count.
    fn from(tokens: Vec<u32>) -> Self {
        Self { tokens, counted: None }
    }
}

impl Encoded {
    /// The tokens of a document, without any that mark its beginning or end.
    ///
    /// # Errors
    /// If the text cannot be encoded, or the bytes that count are invalid.
    pub fn of(encoder: &dyn Encode, passage: &Passage<'_>) -> Result<Self> {
        let Some(counted) = &passage.counted else {
            return Ok(encoder.encode(&passage.text)?.into());
        };
        passage.check()?;
        let (tokens, counted) = encoder.encode_counted(&passage.text, counted)?;
        Ok(Self { tokens, counted: Some(counted) })
    }

    /// As [`of`](Self::of), followed by the end of text, which counts if the last byte of the text
    /// does.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn ended(encoder: &dyn Encode, passage: &Passage<'_>) -> Result<Self> {
        let mut encoded = Self::of(encoder, passage)?;
        encoded.tokens.push(encoder.end_of_text());
        if let (Some(mask), Some(counted)) = (&mut encoded.counted, &passage.counted) {
            let last = |range: &Range<usize>| !range.is_empty() && range.end == passage.text.len();
            mask.push(counted.last().is_some_and(last));
        }
        Ok(encoded)
    }
}

/// The parts of a text, alternating between those that count and those that do not; none is empty.
pub(super) fn parts<'a>(text: &'a str, counted: &[Range<usize>]) -> Vec<(&'a str, bool)> {
    let (mut parts, mut last) = (Vec::new(), 0);
    for range in counted.iter().filter(|range| !range.is_empty()) {
        parts.push((&text[last..range.start], false));
        parts.push((&text[range.clone()], true));
        last = range.end;
    }
    parts.push((&text[last..], false));
    parts.retain(|(part, _)| !part.is_empty());
    parts
}

/// Whether a token of these bytes counts, which it does if one of its bytes does. For a token without
/// bytes, the byte at its position decides.
#[cfg(feature = "text")]
pub(super) fn counts(token: Range<usize>, counted: &[Range<usize>]) -> bool {
    let end = token.end.max(token.start + 1);
    let next = counted.partition_point(|range| range.end <= token.start);
    counted[next..].iter().find(|range| !range.is_empty()).is_some_and(|range| range.start < end)
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "one range is meant")]
mod tests {
    use super::*;
    use crate::data::Bytes;
    use proptest::prelude::*;

    const END: u32 = 256;

    fn passage<'a>(text: &'a str, counted: &[Range<usize>]) -> Passage<'a> {
        Passage { text: text.into(), counted: Some(counted.to_vec().into()) }
    }

    #[test]
    fn the_end_of_text_counts_behind_an_answer() {
        let mask = |counted: &[Range<usize>]| {
            let encoded = Encoded::ended(&Bytes, &passage("abc", counted)).unwrap();
            assert_eq!(encoded.tokens, [97, 98, 99, END]);
            encoded.counted.unwrap()
        };
        assert_eq!(mask(&[1..3]), [false, true, true, true]);
        assert_eq!(mask(&[0..1, 1..2]), [true, true, false, false]);
        assert_eq!(mask(&[]), [false; 4]);
        assert_eq!(mask(&[0..1, 3..3]), [true, false, false, false]);
        let plain = Encoded::ended(&Bytes, &Passage::plain("abc")).unwrap();
        assert_eq!((plain.tokens.len(), plain.counted), (4, None));
        assert_eq!(passage("abc", &[0..1, 2..3]).counted_bytes(), 2);
        assert_eq!(Passage::plain("abc").counted_bytes(), 3);
    }

    #[test]
    fn what_does_not_lie_in_the_text_is_refused() {
        let refusal = |counted: &[Range<usize>]| {
            Encoded::of(&Bytes, &passage("aäb", counted)).unwrap_err().to_string()
        };
        let backwards = [Range { start: 2, end: 1 }];
        assert!(refusal(&[1..3, 0..1]).contains("in order"));
        assert!(refusal(&backwards).contains("in order"));
        assert!(refusal(&[0..2]).contains("between the characters of 4 bytes"));
        assert!(refusal(&[3..5]).contains("between the characters"));
    }

    /// Ranges in order from any numbers.
    pub(super) fn ranges(cuts: &[usize], length: usize) -> Vec<Range<usize>> {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (length + 1)).collect();
        cuts.sort_unstable();
        cuts.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect()
    }

    proptest! {
        #[test]
        fn parts_join_to_the_text(text in "[a-c]{0,20}", cuts in prop::collection::vec(0usize..99, 0..9)) {
            let counted = ranges(&cuts, text.len());
            let parts = parts(&text, &counted);
            prop_assert_eq!(parts.iter().map(|(part, _)| *part).collect::<String>(), text.clone());
            let flags: Vec<bool> =
                parts.iter().flat_map(|(part, counts)| vec![*counts; part.len()]).collect();
            let naive: Vec<bool> =
                (0..text.len()).map(|i| counted.iter().any(|range| range.contains(&i))).collect();
            prop_assert_eq!(&flags, &naive);
            let encoded = Encoded::of(&Bytes, &passage(&text, &counted)).unwrap();
            prop_assert_eq!(encoded.counted.unwrap(), naive);
        }

        #[cfg(feature = "text")]
        #[test]
        fn a_token_counts_with_any_of_its_bytes(
            cuts in prop::collection::vec(0usize..99, 0..9), start in 0usize..21, length in 0usize..5
        ) {
            let counted = ranges(&cuts, 20);
            let naive = (start..start + length.max(1))
                .any(|i| counted.iter().any(|range| range.contains(&i)));
            prop_assert_eq!(counts(start..start + length, &counted), naive);
        }
    }
}
