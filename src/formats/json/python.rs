//! What Python's `json` writes by default and JSON does not have.

use super::NonFinite;

/// A text with JSON in place of what Python writes and JSON does not have.
pub struct Python {
    pub text: String,
    /// Escapes of half surrogate pairs.
    pub replaced: u64,
    /// Where replacements end in the new text and in the old one.
    ends: Vec<(usize, usize)>,
}

impl Python {
    /// None where there is nothing to replace.
    pub fn read(old: &str, non_finite: NonFinite) -> Option<Self> {
        let bytes = old.as_bytes();
        let mut new =
            Self { text: String::with_capacity(old.len()), replaced: 0, ends: Vec::new() };
        let (mut i, mut copied) = (0, 0);
        let mut replace = |new: &mut Self, from: usize, to: usize, word: &str| {
            new.text.push_str(&old[copied..from]);
            new.text.push_str(word);
            copied = to;
            new.ends.push((new.text.len(), to));
        };
        while i < bytes.len() {
            match bytes[i] {
                b'"' => {
                    i += 1;
                    while i < bytes.len() && bytes[i] != b'"' {
                        let escape = bytes[i] == b'\\';
                        match (escape, escaped_unit(bytes, i)) {
                            (false, _) => i += 1,
                            (true, Some(0xd800..0xdc00))
                                if matches!(escaped_unit(bytes, i + 6), Some(0xdc00..0xe000)) =>
                            {
                                i += 12;
                            }
                            (true, Some(0xd800..0xe000)) => {
                                replace(&mut new, i, i + 6, "\\ufffd");
                                new.replaced += 1;
                                i += 6;
                            }
                            (true, _) => i += 2,
                        }
                    }
                    i += 1;
                }
                byte if byte == b'-' || byte.is_ascii_alphanumeric() => {
                    let in_word =
                        |byte: &&u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
                    let end = i + bytes[i..].iter().take_while(in_word).count();
                    let word = &old[i..end];
                    let number = word.bytes().all(|byte| b"0123456789+-.eE".contains(&byte));
                    let beyond = number && word.parse().is_ok_and(f64::is_infinite);
                    let word = match (word, beyond) {
                        ("NaN" | "Infinity" | "-Infinity", _) => Some(word),
                        (_, true) if word.starts_with('-') => Some("-Infinity"),
                        (_, true) => Some("Infinity"),
                        (_, false) => None,
                    };
                    match (word, non_finite) {
                        (None, _) => {}
                        (Some(_), NonFinite::Null) => replace(&mut new, i, end, "null"),
                        (Some(word), NonFinite::Text) => {
                            replace(&mut new, i, end, &format!("\"{word}\""));
                        }
                    }
                    i = end;
                }
                _ => i += 1,
            }
        }
        if new.ends.is_empty() {
            return None;
        }
        new.text.push_str(&old[copied..]);
        Some(new)
    }

    /// Where in the old text is what is at this offset of the new one.
    pub fn offset_before(&self, offset: usize) -> usize {
        let before = self.ends.partition_point(|&(end, _)| end <= offset);
        match before.checked_sub(1).map(|last| self.ends[last]) {
            Some((new, old)) => old + (offset - new),
            None => offset,
        }
    }
}

/// The UTF-16 unit of the escape `\uXXXX` at a place.
fn escaped_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    let digits = std::str::from_utf8(digits).ok()?;
    // The sign that it would also take is no digit.
    u16::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))
}
