use super::gather::{PART, SEPARATOR};
use super::pieces::{PIECE, Pieces};
use super::*;
use crate::data::mask::Supervised;
use ::parquet::basic::Compression as Packed;
use ::parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::Arc;
use tempfile::TempDir;

const TWO_LINES: &str = "{\"text\":\"one two three\"}\n{\"text\":\"four\"}\n";
/// `TWO_LINES` packed by the zstd command line tool 1.5, with a checksum.
const TWO_LINES_ZSTD: &[u8] = b"\x28\xb5\x2f\xfd\x04\x68\x49\x01\x00{\"text\":\"one two three\"}\
    \n{\"text\":\"four\"}\n\x8b\x01\xcc\x58";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(bytes, 1).unwrap()
}

/// A folder with files in it.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn open(name: &str, bytes: impl AsRef<[u8]>) -> Result<Files> {
    open_grouped(name, bytes, None)
}

fn open_grouped(name: &str, bytes: impl AsRef<[u8]>, group: Option<&str>) -> Result<Files> {
    let folder = folder(&[(name, bytes.as_ref())]);
    Files::open(&[folder.path().join(name)], "text", group)
}

fn texts(files: &Files) -> Vec<String> {
    let all = 0..files.len().unwrap();
    all.map(|i| files.document(i).unwrap().into_owned()).collect()
}

fn groups(files: &Files) -> Vec<u64> {
    (0..files.len().unwrap()).map(|i| files.group(i)).collect()
}

/// The error's text without the folder's name.
fn complaint(name: &str, bytes: impl AsRef<[u8]>) -> String {
    let error = open(name, bytes).unwrap_err().to_string();
    error[error.find(name).expect("the file is named")..].to_owned()
}

#[test]
fn every_packing_is_the_same_source() {
    let plain = open("a.jsonl", TWO_LINES).unwrap();
    assert_eq!(texts(&plain), ["one two three", "four"]);
    let halves = TWO_LINES.split_at(24);
    let packed = [
        ("b.jsonl.gz", gzip(TWO_LINES.as_bytes())),
        // Two members, as `cat a.gz b.gz` makes.
        ("b.JSONL.gz", [gzip(halves.0.as_bytes()), gzip(halves.1.as_bytes())].concat()),
        ("b.jsonl.zst", TWO_LINES_ZSTD.to_vec()),
        ("b.jsonl.zst", zstd(TWO_LINES.as_bytes())),
        // Two frames, a skippable one of 3 bytes and an empty one between them.
        (
            "b.jsonl.zst",
            [
                zstd(halves.0.as_bytes()),
                b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec(),
                zstd(b""),
                zstd(halves.1.as_bytes()),
            ]
            .concat(),
        ),
    ];
    for (name, bytes) in packed {
        let files = open(name, bytes).unwrap();
        assert_eq!(texts(&files), texts(&plain), "{name}");
        assert_eq!(files.content_hash(), plain.content_hash(), "{name}");
    }
}

#[test]
fn packed_files_that_end_early_are_damaged() {
    let text = TWO_LINES.repeat(3);
    for (name, whole) in [
        ("a.jsonl.gz", gzip(text.as_bytes())),
        ("a.jsonl.zst", zstd(text.as_bytes())),
        ("a.jsonl.zst", TWO_LINES_ZSTD.to_vec()),
    ] {
        assert!(open(name, &whole).is_ok());
        for length in 1..whole.len() {
            let error = open(name, &whole[..length]).unwrap_err();
            assert!(
                matches!(&error, Error::Damaged { reason, .. } if reason.contains("end early")),
                "{length} of {}: {error}",
                whole.len()
            );
        }
    }
    let skippable = [TWO_LINES_ZSTD, b"\x50\x2a\x4d\x18\x03\0\0\0ab"].concat();
    assert!(complaint("a.jsonl.zst", skippable).contains("end early"));
}

#[test]
fn packed_files_that_are_something_else_are_named() {
    assert!(complaint("a.txt.gz", "plain text").contains("it is not compressed with gzip; remove"));
    assert!(
        complaint("a.txt.zst", "plain text").contains("it is not compressed with zstd; remove")
    );
    let gzip_in_zst = complaint("a.txt.zst", gzip(b"plain text"));
    assert!(gzip_in_zst.contains("it is compressed with gzip"), "{gzip_in_zst}");
    let packed = complaint("a.jsonl", gzip(TWO_LINES.as_bytes()));
    assert!(packed.contains("it is compressed with gzip; name it .gz"), "{packed}");
    let mut flipped = gzip(TWO_LINES.as_bytes());
    let checksum = flipped.len() - 8;
    flipped[checksum] ^= 1;
    assert!(complaint("a.jsonl.gz", flipped).contains("cannot be decompressed"));
    // A letter of the text, which lies there as it is.
    let mut flipped = TWO_LINES_ZSTD.to_vec();
    flipped[20] ^= 1;
    assert!(complaint("a.jsonl.zst", flipped).contains("doesn't match checksum"));
    let garbage = [TWO_LINES_ZSTD, b"garbage"].concat();
    assert!(complaint("a.jsonl.zst", garbage).contains("after its last zstd frame"));
}

/// What `gzip -dc` reads: zeros and other bytes after the last member are no part of it.
#[test]
fn what_follows_the_last_member_of_gzip_is_ignored() {
    let halves = TWO_LINES.split_at(24);
    let two = [gzip(halves.0.as_bytes()), gzip(halves.1.as_bytes())].concat();
    let plain = open("a.jsonl", TWO_LINES).unwrap();
    for (tail, noted) in [
        (&[0; 4][..], false),
        (&[0; 512], false),
        (b"0\r\n\r\n", true),
        (b"-- end of upload, 20 records --\n", true),
        (b"\x1f", true),
    ] {
        let files = open("a.jsonl.gz", [&two[..], tail].concat()).unwrap();
        assert_eq!(files.content_hash(), plain.content_hash());
        assert_eq!(files.notes().len(), usize::from(noted), "{:?}", files.notes());
    }
    // A further member that is cut off is damage.
    let error = complaint("a.jsonl.gz", [&two[..], &gzip(b"{}")[..12]].concat());
    assert!(error.contains("end early"), "{error}");
}

/// Frames with windows up to what the command line tool takes; one beyond it is over a limit, and
/// the file is not called damaged.
#[test]
fn windows_of_zstd_have_the_limit_of_its_tool() {
    let frame = |log: u32| {
        let mut encoder = ::zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(log).unwrap();
        // Text that is longer than the window, for what a frame needs is not more than itself.
        for _ in 0..2 {
            encoder.write_all(TWO_LINES.as_bytes()).unwrap();
            encoder.flush().unwrap();
        }
        encoder.finish().unwrap()
    };
    let two = open("a.jsonl.zst", [frame(27), frame(27)].concat()).unwrap();
    assert_eq!(texts(&two), ["one two three", "four"].repeat(4));
    let error = open("a.jsonl.zst", frame(28)).unwrap_err();
    assert!(matches!(error, Error::Content { .. }));
    assert!(error.to_string().contains("134217728 bytes, which is the limit"), "{error}");
}

#[test]
fn one_line_says_what_is_wrong_and_where() {
    let lines = |line: &str| format!("{{\"text\":\"a\"}}\n\n{line}\n{{\"text\":\"b\"}}\n");
    let cases = [
        ("a.json.parquet.gz", "a".into(), "a.json.parquet.gz: unknown kind of file"),
        ("a.csv", "a".into(), "a.csv: unknown kind of file; the known ones end in .txt or .jsonl"),
        ("a.jsonl", String::new(), "a.jsonl: the file is empty"),
        ("a.txt", String::new(), "a.txt: the file is empty"),
        ("a.txt", "\u{feff}".into(), "a.txt: the file contains no text"),
        ("a.txt", " \n<|endoftext|>\n".into(), "a.txt: the file contains no text"),
        ("a.jsonl", "\n \n".into(), "a.jsonl: the file contains no text"),
        ("a.jsonl", lines("{\"text\": \"a"), "a.jsonl, line 3: malformed JSON at column 11 (EOF"),
        (
            "a.jsonl",
            lines("[1]"),
            "a.jsonl, line 3: a JSON object is expected, but this is an array",
        ),
        ("a.jsonl", lines("{\"text\":5}"), "a.jsonl, line 3: the field \"text\" is a number"),
        ("a.jsonl", lines("{}"), "line 3: no field \"text\"; the fields found are: none"),
        (
            "a.jsonl",
            lines("{\"body\":\"x\",\"id\":1}"),
            "line 3: no field \"text\"; the fields found are: \"body\", \"id\"",
        ),
    ];
    for (name, bytes, expected) in cases {
        let error = open(name, &bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}\n{expected}");
        assert!(!error.contains('\n'));
    }
    let error = open_grouped("a.jsonl", "{\"text\":\"a\"}", Some("book")).unwrap_err();
    let expected = "line 1: no field \"book\"; the fields found are: \"text\"";
    assert!(error.to_string().contains(expected), "{error}");
    let error = open_grouped("a.jsonl", "{\"text\":\"a\",\"book\":null}", Some("book"));
    assert!(error.unwrap_err().to_string().contains("line 1: the field \"book\" is null"));
    let missing = Files::open(&["missing.txt".into()], "text", None).unwrap_err();
    assert!(matches!(missing, Error::Io { .. }));
    assert!(Files::open(&[], "text", None).is_err());
}

#[test]
fn bytes_that_are_not_utf8() {
    let latin = b"one\ntwo\nsm\xf8r\n";
    assert!(complaint("a.txt", latin).starts_with("a.txt, line 3: byte 10 is not UTF-8"));
    let json = b"{\"text\":\"a\"}\n{\"text\":\"\xff\"}";
    assert!(complaint("a.jsonl", json).starts_with("a.jsonl, line 2: byte 22 is not UTF-8"));
    assert!(complaint("a.txt", b"\xff\xfea\0").starts_with("a.txt: it is UTF-16 text"));
}

#[test]
fn text_is_kept_as_it_is() {
    let text = "\u{feff}  e\u{301}\r\n\r\n\ttwo \u{feff}\r\n ";
    assert_eq!(texts(&open("a.txt", text).unwrap()), [&text[3..]]);
    let line = "\u{feff}{\"text\":\" a\\r\\n\\u00e9\\ud83d\\ude00 \"}\r\n";
    assert_eq!(texts(&open("a.jsonl", line).unwrap()), [" a\r\né😀 "]);
}

#[test]
fn separated_documents_are_works() {
    let text = "one\n<|endoftext|>two <|endoftext|> \n<|endoftext|>three";
    let files = open("a.txt", text).unwrap();
    assert_eq!(texts(&files), ["one\n", "two ", "three"]);
    assert_eq!(groups(&files), [0, 1, 2]);
    assert!(!files.blocks());
}

#[test]
fn groups_are_named_by_a_field_in_all_files() {
    let line = |book: &str| format!("{{\"text\":\"x\",\"book\":{book}}}\n");
    let folder = folder(&[
        ("1.jsonl", (line("\"b\"") + &line("\"a\"") + &line("7")).as_bytes()),
        ("2.jsonl.gz", &gzip((line("\"a\"") + &line("\"7\"") + &line("\"c\"")).as_bytes())),
        ("3.txt", b"a work of its own"),
    ]);
    let paths = [folder.path().to_path_buf()];
    let files = Files::open(&paths, "text", Some("book")).unwrap();
    assert_eq!(groups(&files), [0, 1, 2, 1, 2, 3, 4]);
    let works: Vec<Option<&str>> = (0..7).map(|i| files.work(i)).collect();
    let named = ["b", "a", "7", "a", "7", "c"].map(Some);
    assert_eq!(works, [&named[..], &[None]].concat());
    let ungrouped = Files::open(&paths, "text", None);
    assert_eq!(groups(&ungrouped.unwrap()), [0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_folder_is_its_text_files_in_order() {
    let folder = folder(&[
        ("b.txt", b"second"),
        ("a.txt", b"first"),
        ("c.jsonl", b"{\"text\":\"third\"}"),
        (".a.txt", b"\xff"),
        ("README.md", b"no document"),
    ]);
    fs::create_dir(folder.path().join("d.txt")).unwrap();
    let paths = [folder.path().to_path_buf()];
    let files = Files::open(&paths, "text", None).unwrap();
    assert_eq!(texts(&files), ["first", "second", "third"]);
    let error = Files::open(&[folder.path().join("d.txt")], "text", None).unwrap_err();
    assert!(error.to_string().contains("the folder contains no .txt"), "{error}");
    let named = ["a.txt", "b.txt", "c.jsonl"].map(|name| folder.path().join(name));
    assert_eq!(Files::open(&named, "text", None).unwrap().content_hash(), files.content_hash());
    let names: Vec<&str> = files.files().iter().map(|file| &*file.name).collect();
    assert_eq!(names, ["a.txt", "b.txt", "c.jsonl"]);
    assert_eq!(files.files()[0].sha256, crate::store::sha256(b"first"));
}

#[test]
fn the_hash_is_of_what_determines_the_content() {
    let hash = |files: &[(&str, &[u8])], text: &str, group: Option<&str>| {
        let folder = folder(files);
        let paths = files.iter().map(|(name, _)| folder.path().join(name)).collect::<Vec<_>>();
        Files::open(&paths, text, group).unwrap().content_hash()
    };
    let line: &[u8] = b"{\"text\":\"a\",\"b\":\"b\"}\n";
    let hashes = [
        hash(&[("a.jsonl", line)], "text", None),
        hash(&[("a.jsonl", line)], "b", None),
        hash(&[("a.jsonl", line)], "text", Some("b")),
        hash(&[("a.txt", line)], "text", None),
        hash(&[("a.jsonl", line), ("b.jsonl", line)], "text", None),
        hash(&[("a.jsonl", &line.repeat(2))], "text", None),
    ];
    assert_eq!(hashes.iter().collect::<BTreeSet<_>>().len(), hashes.len());
    assert_eq!(hashes[0], hash(&[("c.jsonl", line)], "text", None));
    assert_eq!(hashes[0].len(), 64);
}

#[test]
fn documents_outside_are_an_error() {
    let files = open("a.txt", "a").unwrap();
    assert!(files.document(0).is_ok());
    assert!(files.document(1).is_err() && files.document(u64::MAX).is_err());
}

/// The pieces of a work that is read in parts of so many characters.
fn cut(work: &str, part: usize) -> Vec<String> {
    let mut found = Vec::new();
    let mut each = |piece: &str| {
        found.push(piece.to_string());
        Ok::<_, ()>(())
    };
    let (mut pieces, characters) = (Pieces::new(), work.chars().collect::<Vec<_>>());
    for part in characters.chunks(part) {
        pieces.push(&part.iter().collect::<String>(), &mut each).unwrap();
    }
    pieces.end(each).unwrap();
    found
}

#[test]
fn works_are_cut_at_blank_lines() {
    let lengths =
        |text: &str| -> Vec<usize> { cut(text, 7001).iter().map(|p| p.chars().count()).collect() };
    // A paragraph of 100 characters, the blank line among them.
    let paragraph = |c: &str| format!("{}\n\n", c.repeat(98));
    assert_eq!(lengths(&paragraph("é").repeat(250)), [PIECE, PIECE, 1000]);
    let windows = format!("{}\r\n \r\n", "a".repeat(95));
    assert_eq!(lengths(&windows.repeat(250)), [PIECE, PIECE, 1000]);
    // The blank line that comes one character too early does not count.
    let early = format!("{}\n\n{}\n\nc", "a".repeat(PIECE - 3), "b".repeat(50));
    assert_eq!(lengths(&early), [PIECE - 1 + 52, 1]);
    // No blank lines, then no lines.
    assert_eq!(lengths(&format!("{}\n", "a".repeat(99)).repeat(250)), [2 * PIECE, 1000]);
    assert_eq!(lengths(&"a".repeat(3 * PIECE + 1)), [3 * PIECE, 1]);
    assert_eq!(lengths("short"), [5]);
}

#[test]
fn a_single_work_is_cut_into_blocks() {
    let long = |c: char| format!("{}\n\n", String::from(c).repeat(PIECE - 2));
    let work = |pieces: usize| (0..pieces).map(|_| long('a')).collect::<String>();
    // 96 pieces in blocks of 3.
    let files = open("a.txt", work(96)).unwrap();
    assert!(files.blocks());
    assert_eq!(groups(&files), (0..96).map(|i| i / 3).collect::<Vec<_>>());
    // 97 in blocks of 4, two of three works cut.
    let folder = folder(&[
        ("a.txt", work(60).as_bytes()),
        ("b.txt", work(3).as_bytes()),
        ("c.txt", work(34).as_bytes()),
    ]);
    let paths = [folder.path().to_path_buf()];
    let files = Files::open(&paths, "text", None).unwrap();
    let mut sizes = groups(&files).chunk_by(|a, b| a == b).map(<[u64]>::len).collect::<Vec<_>>();
    assert_eq!(sizes.iter().sum::<usize>(), 97);
    assert_eq!(sizes.split_off(15), [3, 4, 4, 4, 4, 4, 4, 4, 4, 2]);
    assert_eq!(sizes, [4; 15]);
    assert_eq!(groups(&files).into_iter().collect::<BTreeSet<_>>().len(), 25);
    // 16 works are enough to keep them whole; so is a work of one piece, where nothing can be
    // cut.
    let many = vec![work(2); 16].join(SEPARATOR);
    let files = open("a.txt", many).unwrap();
    assert!(!files.blocks());
    assert_eq!(groups(&files), (0..32).map(|i| i / 2).collect::<Vec<_>>());
    assert!(open("a.txt", vec![work(2); 15].join(SEPARATOR)).unwrap().blocks());
    assert!(!open("a.txt", "short").unwrap().blocks());
}

proptest! {
    #[test]
    fn pieces_joined_are_the_work(
        parts in prop::collection::vec(("[ab é\n]{0,9}", 1usize..6000), 0..9),
        read in 1usize..50_000,
    ) {
        let text: String = parts.iter().map(|(part, times)| part.repeat(*times)).collect();
        let pieces = cut(&text, usize::MAX);
        prop_assert_eq!(&cut(&text, read), &pieces);
        prop_assert_eq!(&pieces.concat(), &text);
        for (i, piece) in pieces.iter().enumerate() {
            let length = piece.chars().count();
            prop_assert!(length <= 3 * PIECE);
            prop_assert!(length >= PIECE || i + 1 == pieces.len());
        }
    }

    /// Works in a text file, whatever the lines they lie on, and wherever their text is kept.
    #[test]
    fn works_are_read_line_by_line(
        parts in prop::collection::vec(prop_oneof![
            4 => ("[ab é\n]{0,9}", 1usize..1500),
            1 => Just(("\n".to_string(), 40_000)),
            3 => Just((SEPARATOR.to_string(), 1)),
            1 => Just(("<|endof".to_string(), 1)),
        ], 0..30),
        memory in 0usize..200_000,
    ) {
        let text: String = parts.iter().map(|(part, times)| part.repeat(*times)).collect();
        prop_assume!(text.split(SEPARATOR).any(|work| !work.trim().is_empty()));
        let (mut documents, mut works) = (Vec::new(), Vec::new());
        let all = text.split(SEPARATOR).filter(|work| !work.trim().is_empty());
        for (i, work) in all.enumerate() {
            let pieces = cut(work, usize::MAX).into_iter().filter(|p| !p.trim().is_empty());
            documents.extend(pieces);
            works.resize(documents.len(), i as u64);
        }
        let folder = folder(&[("a.txt", text.as_bytes())]);
        let place = texts::Writer::within(folder.path(), memory);
        let paths = [folder.path().join("a.txt")];
        let files = Files::keep(&paths, &Fields::plain("text", None), place).unwrap();
        prop_assert_eq!(texts(&files), documents);
        prop_assert!(files.blocks() || groups(&files) == works);
    }

    /// Texts of records, wherever they are kept; and they are tokenised to the same.
    #[test]
    fn records_are_the_same_on_the_disk(
        records in prop::collection::vec((".{0,30}", 0u64..9), 1..40),
        memory in 0usize..600,
    ) {
        struct Letters;
        impl crate::data::Encode for Letters {
            fn encode(&self, text: &str) -> Result<Vec<u32>> {
                Ok(text.chars().map(u32::from).collect())
            }
            fn end_of_text(&self) -> u32 {
                u32::MAX
            }
        }
        prop_assume!(records.iter().any(|(text, _)| !text.trim().is_empty()));
        let line = |(text, id): &(String, u64)| {
            serde_json::json!({"text": text, "id": id}).to_string() + "\n"
        };
        let lines: String = records.iter().map(line).collect();
        let folder = folder(&[("a.jsonl", lines.as_bytes())]);
        let paths = [folder.path().join("a.jsonl")];
        let fields = Fields::plain("text", Some("id"));
        let place = texts::Writer::within(folder.path(), memory);
        let files = Files::keep(&paths, &fields, place).unwrap();
        let kept: Vec<&(String, u64)> =
            records.iter().filter(|(text, _)| !text.trim().is_empty()).collect();
        prop_assert!(texts(&files).iter().eq(kept.iter().map(|(text, _)| text)));
        let ids: Vec<String> = kept.iter().map(|(_, id)| id.to_string()).collect();
        let works: Vec<Option<&str>> = (0..kept.len()).map(|i| files.work(i as u64)).collect();
        prop_assert!(works.into_iter().eq(ids.iter().map(|id| Some(&**id))));
        let tokens = crate::data::tokens::Tokens::of(&files, &Letters).unwrap();
        for (i, (text, _)) in kept.iter().enumerate() {
            let expected: Vec<u32> = text.chars().map(u32::from).chain([u32::MAX]).collect();
            prop_assert_eq!(tokens.document(i as u64).unwrap(), expected);
        }
    }

    /// What is packed in a damaged way is refused or read, and never takes the program down.
    #[test]
    fn damaged_files_are_no_disaster(at in 0usize..200, bits in 1u8..) {
        let text = TWO_LINES.repeat(5);
        for (name, mut bytes) in
            [("a.jsonl.gz", gzip(text.as_bytes())), ("a.jsonl.zst", zstd(text.as_bytes()))]
        {
            let at = at % bytes.len();
            bytes[at] ^= bits;
            let _ = open(name, bytes);
        }
    }
}

#[test]
fn an_array_of_records_is_read_one_by_one() {
    let array = " [\n{\"text\":\"one two three\"},\n {\"text\":\"four\"} ]\n";
    for (name, bytes) in [
        ("a.json", array.as_bytes().to_vec()),
        ("a.json", format!("\u{feff}{array}").into_bytes()),
        ("a.json.gz", gzip(array.as_bytes())),
        ("a.json.zst", zstd(array.as_bytes())),
    ] {
        assert_eq!(texts(&open(name, bytes).unwrap()), ["one two three", "four"]);
    }
    // Lines in a file of that name are lines.
    let lines = open("a.json", TWO_LINES).unwrap();
    assert_eq!(lines.content_hash(), open("a.jsonl", TWO_LINES).unwrap().content_hash());
    for (text, expected) in [
        ("[{\"text\":\"a\"},\n{\"text\":5}]", "a.json, line 2: the field \"text\" is a number"),
        ("[\n7]", "a.json, line 2: a JSON object is expected, but this is a number"),
        ("[{\"text\":\"a\"},\n\n{\"te", "a.json, line 3: malformed JSON at column 4 (EOF while"),
        ("[{\"text\":\"a\"}]\nx", "a.json, line 2: malformed JSON at column 1 (trailing"),
        ("[]", "a.json: the file contains no text"),
    ] {
        let error = complaint("a.json", text);
        assert!(error.starts_with(expected), "{error}\n{expected}");
    }
    let latin = b"[{\"text\":\"\xff\"}]";
    assert!(complaint("a.json", latin).contains("line 1: byte 10 is not UTF-8"));
    let whole = gzip(array.repeat(9).as_bytes());
    assert!(complaint("a.json.gz", &whole[..40]).contains("gzip data end early"));
}

/// 100 MB without a line end, a hundred thousand bytes when they are packed.
#[test]
fn what_is_no_text_does_not_fill_the_memory() {
    let long = |before: &str| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(before.as_bytes()).unwrap();
        let block = [b'a'; 1 << 16];
        (0..100 << 20 >> 16).for_each(|_| encoder.write_all(&block).unwrap());
        encoder.finish().unwrap()
    };
    for (name, before) in [
        ("a.jsonl.gz", "{\"text\":\"a\"}\n{\"text\":\""),
        ("a.json.gz", "[{\"text\":\"a\"},\n{\"text\":\""),
    ] {
        let error = complaint(name, long(before));
        let expected = "line 2: the record that begins here is longer than 67108864 bytes";
        assert!(error.starts_with(&format!("{name}, {expected}")), "{error}");
    }
    // A text is cut into documents while it is read, with line ends or without.
    let files = open("a.txt.gz", long("a\n")).unwrap();
    assert_eq!(files.len(), Some((100u64 << 20).div_ceil(3 * PIECE as u64)));
}

/// Parts of a long line meet anywhere, within a character or the separator, and nothing is seen of it.
#[test]
fn a_line_of_any_length_is_text() {
    for shift in 0..SEPARATOR.len() + 4 {
        let before = "x".repeat(PART - SEPARATOR.len() - 2 + shift);
        let text = format!("{before}\u{1f600}{SEPARATOR}\u{1f600}e\u{301}\n{SEPARATOR}end");
        let files = open("a.txt", &text).unwrap();
        // Not `assert_eq`, which would print a million letters.
        assert!(texts(&files).concat() == text.replace(SEPARATOR, ""), "{shift}");
        assert_eq!(groups(&files).last(), Some(&2));
    }
    let latin = [&vec![b'x'; 3 * PART][..], b"\n\xf8"].concat();
    let at = 3 * PART + 1;
    assert!(complaint("a.txt", latin).starts_with(&format!("a.txt, line 2: byte {at} is not")));
}

#[test]
fn what_is_no_text_is_said_by_its_name() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4f4f\nsize 548105171\n";
    let wide: Vec<u8> = "A text.\n".repeat(40).encode_utf16().flat_map(u16::to_le_bytes).collect();
    for name in ["a.txt", "a.jsonl", "a.json", "a.parquet", "a.jsonl.gz", "a.txt.zst"] {
        let error = complaint(name, pointer);
        let expected = format!("{name}: it is a git-lfs pointer in place of the file of 548105171");
        assert!(error.starts_with(&expected), "{error}");
    }
    for (name, bytes, what) in [
        ("a.txt", wide.clone(), "UTF-16 text without a byte order mark"),
        ("a.jsonl", wide.clone(), "UTF-16 text without a byte order mark"),
        ("a.txt.gz", gzip(&wide), "decompressed, it is UTF-16 text"),
        ("a.txt", vec![0; 4096], "NUL bytes"),
        ("a.txt", [&b"x".repeat(9000)[..], b"\0y"].concat(), "line 1: byte 9000 is NUL"),
        ("a.jsonl", b"<!DOCTYPE html>\n<html>".to_vec(), "an HTML or XML page"),
        ("a.parquet", b"<html>".to_vec(), "an HTML or XML page"),
        ("a.parquet", b"{\"text\": 1}".to_vec(), "cannot be read as Parquet"),
    ] {
        let error = complaint(name, bytes);
        assert!(error.contains(what) && !error.contains('\n'), "{error}");
    }
    // A page may be a text.
    let page = open("a.txt", "<html><p>Text.</p></html>").unwrap();
    assert!(page.notes()[0].contains("begins like an HTML or XML page"), "{:?}", page.notes());
}

#[test]
fn files_without_text_among_others_are_skipped() {
    let line = "{\"text\": \"one\"}\n";
    let good = folder(&[("a.jsonl", line.as_bytes())]);
    let expected = Files::open(&[good.path().to_path_buf()], "text", None).unwrap();
    for (name, bytes) in [
        ("b.jsonl", b"".to_vec()),
        ("b.jsonl.gz", b"".to_vec()),
        ("b.jsonl.gz", gzip(b"")),
        ("b.jsonl.zst", zstd(b"")),
        ("b.jsonl", b"\n\n".to_vec()),
        ("b.json", b"[]".to_vec()),
        ("b.txt", b" \n".to_vec()),
        ("b.parquet", b"".to_vec()),
        ("b.jsonl", b"{\"text\": \"\"}".to_vec()),
    ] {
        let both = folder(&[("a.jsonl", line.as_bytes()), (name, &bytes)]);
        let files = Files::open(&[both.path().to_path_buf()], "text", None).unwrap();
        assert_eq!(files.content_hash(), expected.content_hash(), "{name}");
        assert_eq!(files.files().len(), 1);
        let note = &files.notes()[0];
        assert!(note.contains(name) && note.ends_with("no text in it, skipped"), "{note}");
        fs::write(both.path().join("a.jsonl"), "").unwrap();
        let error = Files::open(&[both.path().to_path_buf()], "text", None).unwrap_err();
        assert!(error.to_string().contains("a.jsonl: this file, as each of the 2,"), "{error}");
    }
}

#[test]
fn records_without_text_are_skipped_where_that_is_asked_for() {
    let lines = "{\"text\":\"one\"}\n{\"text\":null}\n{\"id\":1}\n{\"text\": NaN}\n";
    let fields = Fields { skip_missing: true, ..Fields::plain("text", None) };
    let files = read_one("a.jsonl", lines.as_bytes(), &fields).unwrap();
    assert_eq!(texts(&files), ["one"]);
    assert!(files.notes()[0].ends_with("records without text, skipped: 3"));
    let error = complaint("a.jsonl", lines);
    assert!(error.contains("line 2") && error.contains("--skip-missing"), "{error}");
    let error = read_one("a.jsonl", &lines.as_bytes()[15..], &fields).unwrap_err().to_string();
    assert!(error.contains("contains no text: 3 records have none"), "{error}");
    // Rows of Parquet, too.
    let fields = Fields { skip_missing: true, ..Fields::plain("no_text", None) };
    let parquet = parquet_file(&ROWS, 1, Packed::SNAPPY);
    assert!(read_one("a.parquet", &parquet, &fields).unwrap_err().to_string().contains("no field"));
}

#[test]
fn what_python_writes_is_read_and_what_was_replaced_is_counted() {
    let lines = "{\"text\": \"a\\ud83dz\", \"loss\": NaN}\n{\"text\": \"b\", \"n\": -Infinity}\n";
    let files = open("a.jsonl", lines).unwrap();
    assert_eq!(texts(&files), ["a\u{fffd}z", "b"]);
    assert!(files.notes()[0].ends_with("escapes of half a surrogate pair, read as U+FFFD: 1"));
    // Unwanted fields are not looked into, and one that is wanted is what it is.
    assert!(complaint("a.jsonl", "{\"text\": NaN}").contains("is null"));
    assert_eq!(texts(&open("a.ndjson", "\x1e{\"text\":\n\"a\"}\n").unwrap()), ["a"]);
}

const SCHEMA: &str = "message table {
    optional binary text (UTF8);
    required int64 id;
    optional group meta { optional binary pile_set_name (UTF8); }
}";

/// A file of texts, each with a number and the name of a set, in row groups.
fn parquet_file(rows: &[(&[u8], i64, &str)], groups: usize, packed: Packed) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let properties = WriterProperties::builder().set_compression(packed).build();
    let mut out = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut out, schema, Arc::new(properties)).unwrap();
    for rows in rows.chunks(rows.len().div_ceil(groups)) {
        let mut group = writer.next_row_group().unwrap();
        let texts: Vec<ByteArray> = rows.iter().map(|row| row.0.to_vec().into()).collect();
        let ids: Vec<i64> = rows.iter().map(|row| row.1).collect();
        let sets: Vec<ByteArray> = rows.iter().map(|row| row.2.into()).collect();
        let mut column = group.next_column().unwrap().unwrap();
        let defined = vec![1; rows.len()];
        column.typed::<ByteArrayType>().write_batch(&texts, Some(&defined), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&ids, None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let defined = vec![2; rows.len()];
        column.typed::<ByteArrayType>().write_batch(&sets, Some(&defined), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
    out
}

const ROWS: [(&[u8], i64, &str); 3] =
    [(b"one", 7, "Github"), (b"two", 8, "ArXiv"), ("drei \u{e4}".as_bytes(), 7, "Github")];

fn read_one(name: &str, bytes: &[u8], fields: &Fields) -> Result<Files> {
    let folder = folder(&[(name, bytes)]);
    Files::read(&[folder.path().join(name)], fields)
}

#[test]
fn rows_of_parquet_are_records() {
    let zstd = Packed::ZSTD(Default::default());
    let fields = Fields::plain("text", Some("id"));
    let mut hashes = BTreeSet::new();
    for packed in [Packed::UNCOMPRESSED, Packed::SNAPPY, zstd, Packed::GZIP(Default::default())] {
        for groups in [1, 2, 3] {
            let files =
                read_one("a.parquet", &parquet_file(&ROWS, groups, packed), &fields).unwrap();
            assert_eq!(texts(&files), ["one", "two", "drei ä"]);
            assert_eq!(self::groups(&files), [0, 1, 0]);
            hashes.insert(files.content_hash());
        }
    }
    assert_eq!(hashes.len(), 1);
    // More rows than are decoded at a time.
    let many: Vec<(&[u8], i64, &str)> = (0..1000).map(|i| (&b"text"[..], i, "ArXiv")).collect();
    let files = read_one("a.parquet", &parquet_file(&many, 3, Packed::SNAPPY), &fields).unwrap();
    assert_eq!(self::groups(&files), (0..1000).collect::<Vec<_>>());
    let file = parquet_file(&ROWS, 1, Packed::SNAPPY);
    let error = read_one("a.parquet", &file, &Fields::plain("body", None)).unwrap_err().to_string();
    let expected = "no field \"body\"; the fields found are: \"text\", \"id\", \"meta\"";
    assert!(error.contains(expected), "{error}");
    let error = read_one("a.parquet", &file, &Fields::plain("id", None)).unwrap_err().to_string();
    assert!(error.contains("a.parquet: row 1: the field \"id\" is a number"), "{error}");
}

#[test]
fn a_filter_keeps_some_records_in_every_format() {
    let line = |(text, id, set): &(&[u8], i64, &str)| {
        let text = std::str::from_utf8(text).unwrap();
        let value = serde_json::json!({"text": text, "id": id, "meta": {"pile_set_name": set}});
        value.to_string()
    };
    let lines = ROWS.iter().map(line).collect::<Vec<_>>().join("\n");
    let kept = |values: &[&str]| {
        let values = values.iter().map(|value| value.to_string()).collect();
        let filter = Filter { field: "meta.pile_set_name".into(), values };
        Fields { filter: Some(filter), ..Fields::plain("text", None) }
    };
    let parquet = parquet_file(&ROWS, 2, Packed::SNAPPY);
    for (name, bytes) in [("a.jsonl", lines.as_bytes()), ("a.parquet", &parquet)] {
        let github = read_one(name, bytes, &kept(&["Github"])).unwrap();
        assert_eq!(texts(&github), ["one", "drei ä"], "{name}");
        let both = read_one(name, bytes, &kept(&["Github", "ArXiv"])).unwrap();
        assert_eq!(both.len(), Some(3));
        assert_ne!(
            both.content_hash(),
            read_one(name, bytes, &Fields::plain("text", None)).unwrap().content_hash()
        );
        let error = read_one(name, bytes, &kept(&["Books3"])).unwrap_err().to_string();
        let expected =
            "meta.pile_set_name = Books3: no record has it; the values found include ArXiv, Github";
        assert_eq!(error, expected);
    }
    // A file that has none is no error where another has some.
    let folder = folder(&[("a.jsonl", line(&ROWS[1]).as_bytes()), ("b.parquet", &parquet)]);
    let files = Files::read(&[folder.path().into()], &kept(&["Github"])).unwrap();
    assert_eq!(texts(&files), ["one", "drei ä"]);
}

#[test]
fn damaged_parquet_is_said_in_one_line() {
    let whole = parquet_file(&ROWS, 2, Packed::SNAPPY);
    for length in 1..whole.len() {
        let error = complaint("a.parquet", &whole[..length]);
        assert!(error.starts_with("a.parquet is damaged: it cannot be read as Parquet"), "{error}");
        assert!(!error.contains('\n') && error.len() < 400, "{error}");
    }
    let latin = parquet_file(&[(b"sm\xf8r", 1, "x")], 1, Packed::UNCOMPRESSED);
    let error = complaint("a.parquet", latin);
    assert!(error.contains("damaged") && error.len() < 400, "{error}");
}

/// A dictionary that claims two thousand million values in a few bytes.
#[test]
fn a_dictionary_that_lies_makes_no_room() {
    let mut bytes = parquet_file(&ROWS, 1, Packed::UNCOMPRESSED);
    // The first page's header in Thrift's compact form: its type (2, a dictionary), two sizes, then
    // the header of the dictionary (a struct) with the number of values, 3, as a zigzag.
    let at = bytes.windows(3).position(|w| w == [0x4c, 0x15, 0x06]).expect("a dictionary's header");
    assert!(at < 20, "{at}");
    let mut long = bytes[..at + 2].to_vec();
    long.extend([0xfe, 0xff, 0xff, 0xff, 0x0f]);
    long.extend(&bytes[at + 3..]);
    // The offsets in the footer no longer fit; the page of the first column comes first.
    std::mem::swap(&mut bytes, &mut long);
    let error = complaint("a.parquet", &bytes);
    assert!(error.contains("damaged"), "{error}");
    assert!(error.contains("claims 2147483647 values"), "{error}");
}

#[test]
fn patterns_stand_for_the_files_that_fit() {
    let folder = folder(&[
        ("b.txt", b"second"),
        ("a.txt", b"first"),
        ("c.jsonl", b"{\"text\":\"third\"}"),
        (".a.txt", b"\xff"),
        ("README.md", b"no document"),
        ("odd[1].txt", b"fourth"),
    ]);
    let fitting = |pattern: &str| {
        Files::open(&[folder.path().join(pattern)], "text", None).map(|files| texts(&files))
    };
    assert_eq!(fitting("*.txt").unwrap(), ["first", "second", "fourth"]);
    assert_eq!(fitting("[ac].*").unwrap(), ["first", "third"]);
    assert_eq!(fitting("*").unwrap(), ["first", "second", "third", "fourth"]);
    assert_eq!(fitting("odd[1].txt").unwrap(), ["fourth"]);
    let error = fitting("*.csv").unwrap_err().to_string();
    assert!(error.contains("*.csv: no .txt or .jsonl"), "{error}");
    assert!(fitting("a[").unwrap_err().to_string().contains("not a pattern"));
}

#[test]
fn a_stream_says_itself_what_it_is() {
    let read = |bytes: &[u8]| {
        let fields = Fields::plain("text", None);
        let mut gathered = Gathered::new(&fields, texts::Writer::new());
        let stream = io::Cursor::new(bytes.to_vec());
        gathered.stream(Path::new("standard input"), stream)?;
        let (mut start, written) = (0, gathered.texts.finish().unwrap());
        let text =
            |d: &Document| written.read(std::mem::replace(&mut start, d.end)..d.end).unwrap();
        Ok(gathered.documents.iter().map(text).collect::<Vec<_>>())
    };
    let read = |bytes: &[u8]| -> Result<Vec<String>> { read(bytes) };
    let two = ["one two three", "four"];
    assert_eq!(read(TWO_LINES.as_bytes()).unwrap(), two);
    assert_eq!(read(&gzip(TWO_LINES.as_bytes())).unwrap(), two);
    assert_eq!(read(TWO_LINES_ZSTD).unwrap(), two);
    assert_eq!(read(b" [{\"text\":\"a\"}]").unwrap(), ["a"]);
    assert_eq!(read(b"Once {upon}").unwrap(), ["Once {upon}"]);
    let error = read(&parquet_file(&ROWS, 1, Packed::SNAPPY)).unwrap_err().to_string();
    assert_eq!(
        error,
        "standard input: Parquet is read from its end and needs a file: give its name"
    );
    let error = read(b"{\"text\":1}").unwrap_err().to_string();
    assert!(error.starts_with("standard input, line 1: the field"), "{error}");
    assert!(read(&gzip(TWO_LINES.as_bytes())[..30]).unwrap_err().to_string().contains("end early"));
}

proptest! {
    /// Some bytes of a Parquet file changed: refused or read, and never a panic.
    #[test]
    fn damaged_rows_are_no_disaster(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)
    ) {
        let mut bytes = parquet_file(&ROWS, 2, Packed::SNAPPY);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Err(error) = open("a.parquet", bytes) {
            prop_assert_eq!(error.to_string().lines().count(), 1);
        }
    }
}

/// What counts is part of the content, beside the text; files of text count everywhere.
#[test]
fn answers_count_alone_where_that_is_asked_for() {
    let instructions = Instructions::Exchange { question: vec!["q".into()], answer: "a".into() };
    let fields = |loss| Fields {
        instructions: Some(instructions.clone()),
        loss,
        ..Fields::plain("text", None)
    };
    let lines = "{\"q\":\"1+1?\",\"a\":\"2\"}\n{\"q\":\"So?\",\"a\":\"\"}\n";
    let texts_of = |files: &Files| texts(files);
    let folder = folder(&[("a.jsonl", lines.as_bytes()), ("b.txt", b"plain text")]);
    let read = |loss| Files::read(&[folder.path().to_path_buf()], &fields(loss)).unwrap();
    let (all, answers) = (read(Supervised::All), read(Supervised::Answer));
    assert_eq!(texts_of(&all), texts_of(&answers));
    assert_ne!(all.content_hash(), answers.content_hash());
    let counted = |files: &Files, i| files.passage(i).unwrap().counted.map(Cow::into_owned);
    assert_eq!((0..3).map(|i| counted(&all, i)).collect::<Vec<_>>(), [None, None, None]);
    let text = "[INST] 1+1? [/INST] 2\n";
    assert_eq!(texts_of(&answers)[0], text);
    let answer = text.len() - " 2\n".len()..text.len();
    let expected = [Some(vec![answer]), Some(vec![]), None];
    assert_eq!((0..3).map(|i| counted(&answers, i)).collect::<Vec<_>>(), expected);
    assert!(answers.passage(3).is_err());
    // Where a text field is read there is nothing to leave out, and the source is the same.
    let plain = |loss| {
        let fields = Fields { loss, ..Fields::plain("q", None) };
        Files::read(&[folder.path().join("a.jsonl")], &fields).unwrap().content_hash()
    };
    assert_eq!(plain(Supervised::All), plain(Supervised::Answer));
}
