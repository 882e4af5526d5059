//! Readers of the file formats in which both texts and tables of losses come. Each format has one
//! reader with one set of guards, so both kinds of file may contain the same things.
//!
//! - [`json::records`] reads JSON Lines and JSON arrays, as Python's `json` writes them.
//! - `parquet` (with the feature `parquet`) opens Parquet files.
//! - [`not_data`] (for plain text [`foreign`]) recognises a file whose content is not what its name
//!   says.

pub mod json;
#[cfg(feature = "parquet")]
pub mod parquet;

/// Bytes from the start of a file that [`foreign`] looks at.
pub const HEAD: usize = 4096;

/// What a file is whose first bytes cannot be text (a git-lfs pointer, UTF-16 or UTF-32, NULs, or
/// another format), and what to do about it; `None` if they may be text. `head` has up to [`HEAD`]
/// bytes from the start of the file. For a compressed file, call this once before and once after it
/// is decompressed.
pub fn foreign(head: &[u8]) -> Option<String> {
    let pointer = without_mark(head);
    let encoded = |name: &str, how: &str, iconv: &str| {
        Some(format!("it is {name} text{how}; convert it: iconv -f {iconv} -t UTF-8 OLD > NEW"))
    };
    if pointer.starts_with(b"version https://git-lfs.github.com/spec/") {
        let text = String::from_utf8_lossy(pointer);
        let size = text.lines().find_map(|line| line.strip_prefix("size "));
        let size = size.map(|size| format!(" of {size} bytes")).unwrap_or_default();
        return Some(format!(
            "it is a git-lfs pointer in place of the file{size}; fetch that with git lfs pull, or \
             download it"
        ));
    }
    if pointer.len() < 256 && pointer.starts_with(b"/annex/objects/") {
        return Some("it is a git-annex pointer; fetch the file with git annex get".into());
    }
    match head {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => return encoded("UTF-32", "", "UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return encoded("UTF-16", "", "UTF-16"),
        [b'P', b'A', b'R', b'1', ..] => {
            return Some("it is a Parquet file; let its name end in .parquet".into());
        }
        [b'P', b'K', 3, 4, ..] => {
            return Some("it is a zip archive (or a file of Excel); unpack or export it".into());
        }
        [0x1f, 0x8b, ..] => {
            return Some("it is compressed with gzip; name it .gz or decompress it".into());
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            return Some(
                "it is compressed with zstd; let its name end in .zst or decompress it".into(),
            );
        }
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, ..] => {
            return Some("it is compressed with bzip2; decompress it: bunzip2".into());
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            return Some("it is compressed with xz; decompress it: unxz".into());
        }
        [b'%', b'P', b'D', b'F', b'-', ..] => {
            return Some("it is a PDF; extract its text: pdftotext".into());
        }
        _ => {}
    }
    if !head.contains(&0) {
        return None;
    }
    // The share of NULs at each place in four bytes: text of mostly ASCII letters in wider units.
    let share = |place: usize| {
        let units: Vec<_> = head.iter().skip(place).step_by(4).collect();
        let nuls = units.iter().filter(|&&&byte| byte == 0).count();
        nuls as f64 / units.len().max(1) as f64
    };
    let [a, b, c, d] = [0, 1, 2, 3].map(share);
    let (most, few) = (0.9, 0.1);
    let marked = " without a byte order mark";
    if c > most && d > most && a < few {
        return encoded("UTF-32", marked, "UTF-32LE");
    }
    if a > most && b > most && d < few {
        return encoded("UTF-32", marked, "UTF-32BE");
    }
    if is_utf16(head, u16::from_le_bytes) {
        return encoded("UTF-16", marked, "UTF-16LE");
    }
    if is_utf16(head, u16::from_be_bytes) {
        return encoded("UTF-16", marked, "UTF-16BE");
    }
    Some("it holds NUL bytes, so it is binary, or cut off by a failed copy; it is no text".into())
}

/// Whether two bytes each are UTF-16 units of a text: characters of any script, spaces or ends of
/// lines among them, and no controls. The last one may be cut off. In the other order a space is
/// U+2000 and a line feed no character, so a text is none in both.
fn is_utf16(head: &[u8], unit: fn([u8; 2]) -> u16) -> bool {
    let units: Vec<u16> = head.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
    let whole = match units.split_last() {
        Some((0xd800..0xdc00, whole)) => whole,
        _ => &units,
    };
    let mut characters = char::decode_utf16(whole.iter().copied());
    whole.iter().any(|unit| [0x20, 0x0a].contains(unit))
        && characters.all(|c| c.is_ok_and(|c| !c.is_control() || c.is_whitespace()))
}

/// Bytes without the byte order mark that some programs put before UTF-8.
pub(crate) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes)
}

/// Whether a file begins like an HTML or XML page, which servers may send instead of a file.
pub fn is_page(head: &[u8]) -> bool {
    let head = without_mark(head).trim_ascii_start();
    let begins = |start: &str| {
        head.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start.as_bytes()))
    };
    ["<!doctype html", "<html", "<?xml"].into_iter().any(begins)
}

/// What a file is that does not hold records or a table: what [`foreign`] recognises, or a page.
/// `None` if it may be what its name says. A Parquet or compressed file has first bytes of its own,
/// which must be checked before.
pub fn not_data(head: &[u8]) -> Option<String> {
    foreign(head).or_else(|| is_page(head).then(|| PAGE.into()))
}

const PAGE: &str = "it is an HTML or XML page, as servers send in place of a file that needs a \
    login or is not there; download the file itself";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_named() {
        let text = "The miller sold the bread.\n".repeat(9);
        let wide =
            |unit: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(unit).collect::<Vec<_>>();
        let wider = |unit: fn(u32) -> [u8; 4]| {
            text.chars().flat_map(|c| unit(c as u32)).collect::<Vec<u8>>()
        };
        let marked = |mark: &[u8], text: Vec<u8>| [mark, &text].concat();
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4f4f\nsize 548\n";
        let other =
            |text: &str, unit: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(unit).collect();
        for (head, what) in [
            (pointer.as_bytes().to_vec(), "a git-lfs pointer in place of the file of 548 bytes"),
            (
                marked(b"\xef\xbb\xbf", pointer.into()),
                "a git-lfs pointer in place of the file of 548",
            ),
            // Scripts whose letters have no NULs, or have them in the other byte.
            (other("\u{41c}\u{438}\u{440}. \u{414}\u{430}", u16::to_le_bytes), "iconv -f UTF-16LE"),
            (other("\u{41c}\u{438}\u{440}. \u{414}\u{430}", u16::to_be_bytes), "iconv -f UTF-16BE"),
            (other("\u{4e00}\u{4e00}\n\u{1f600}", u16::to_le_bytes), "iconv -f UTF-16LE"),
            (other("\u{4e00}\u{4e00}\n\u{1f600}", u16::to_be_bytes), "iconv -f UTF-16BE"),
            // Numbers of 16 bits are no text.
            (wide(|unit| (unit % 31).to_le_bytes()), "NUL bytes"),
            (
                wide(u16::to_le_bytes),
                "UTF-16 text without a byte order mark; convert it: iconv -f UTF-16LE",
            ),
            (wide(u16::to_be_bytes), "iconv -f UTF-16BE"),
            (wider(u32::to_le_bytes), "iconv -f UTF-32LE"),
            (wider(u32::to_be_bytes), "iconv -f UTF-32BE"),
            (marked(b"\xff\xfe", wide(u16::to_le_bytes)), "it is UTF-16 text; convert it"),
            (marked(b"\xfe\xff", wide(u16::to_be_bytes)), "it is UTF-16 text; convert it"),
            (marked(b"\xff\xfe\0\0", wider(u32::to_le_bytes)), "it is UTF-32 text; convert it"),
            (marked(b"\0\0\xfe\xff", wider(u32::to_be_bytes)), "it is UTF-32 text; convert it"),
            (vec![0; 4096], "NUL bytes"),
            (b"a text, and then\0".to_vec(), "NUL bytes"),
            (b"PK\x03\x04\x14".to_vec(), "a zip archive"),
        ] {
            let said = foreign(&head).unwrap_or_default();
            assert!(said.contains(what), "{what}: {said}");
        }
        for head in [text.as_bytes(), b"", b"version 2", "\u{feff}Pe\u{e4}".as_bytes()] {
            assert_eq!(foreign(head), None);
        }
        let page = "\u{feff}\n<!DOCTYPE HTML>\n<html>";
        assert!(is_page(page.as_bytes()) && !is_page(b"<p>") && !is_page(b""));
        assert!(not_data(page.as_bytes()).unwrap().contains("HTML"));
        assert!(not_data(pointer.as_bytes()).unwrap().contains("git-lfs"));
        assert_eq!(not_data(b"a,b\n1,2\n"), None);
    }
}
