//! The number of bytes of a text that each of its tokens represents.

use super::{Tokenizer, whole, words};
use crate::{Error, Result};
use std::ops::Range;

impl Tokenizer {
    /// The number of bytes of a text that each of its tokens ([`encode`](Self::encode)) represents.
    ///
    /// Every byte belongs to one token, so the numbers sum to the length of the text (unless there are
    /// no tokens). Bytes that the tokenizer drops, such as white space between words, belong to the
    /// next token; characters that it adds have no bytes. Tokens that share a character share its
    /// bytes.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    ///
    /// # Examples
    /// ```
    /// use forgetting_laws::data::tokenizer::Tokenizer;
    /// let tokenizer = Tokenizer::train(["one two"].map(String::from).into_iter(), 300)?;
    /// // é has a byte-level token for each of its two bytes.
    /// assert_eq!(tokenizer.token_bytes("aé")?, [1, 1, 1]);
    /// # Ok::<(), forgetting_laws::Error>(())
    /// ```
    pub fn token_bytes(&self, text: &str) -> Result<Vec<usize>> {
        let places = |part: Range<usize>| self.places(text, part);
        let tokens = self.without_end(text, |&(id, _)| id, places)?;
        let (mut bytes, mut start) = (Vec::with_capacity(tokens.len()), 0);
        for (i, (id, place)) in tokens.iter().enumerate() {
            let end = match tokens.get(i + 1) {
                None => text.len(),
                Some((_, next)) if next.start >= place.end => place.end,
                Some((_, next)) => (start + self.own_length(*id)).clamp(next.start, place.end),
            };
            let end = end.max(start);
            bytes.push(end - start);
            start = end;
        }
        Ok(bytes)
    }

    /// The tokens of a part of a text, and the bytes of each as the tokenizer reports them: whole
    /// characters, even if a token is only a part of one.
    fn places(&self, text: &str, part: Range<usize>) -> Result<Vec<(u32, Range<usize>)>> {
        let mut tokens = Vec::new();
        let mut append = |tokenizer: &tokenizers::Tokenizer, text: &str, start: usize| {
            let encoding = whole(&self.origin, || tokenizer.encode(text, false))?;
            let offsets = encoding.get_offsets().iter().map(|&(from, to)| start + from..start + to);
            tokens.extend(encoding.get_ids().iter().copied().zip(offsets));
            Ok::<_, Error>(())
        };
        let (text, first) = (&text[part.clone()], part.start);
        if self.words.is_some() {
            let mut start = first;
            for word in words(text) {
                append(&self.inner, word, start)?;
                start += word.len();
            }
        } else {
            for piece in self.pieces(text)? {
                let start = first + piece.start;
                append(self.of_piece(piece.start), &text[piece], start)?;
            }
        }
        Ok(tokens)
    }

    /// The number of bytes of a token that shares a character with the next one: 1 for a byte token,
    /// and one per character for a token of the byte-level alphabet.
    fn own_length(&self, id: u32) -> usize {
        let name = self.inner.id_to_token(id).unwrap_or_default();
        let hex = name.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
        match hex {
            Some(hex) if hex.len() == 2 => 1,
            _ => name.chars().count(),
        }
    }
}
