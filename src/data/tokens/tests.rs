use super::*;
use crate::data::mask::Passage;
use crate::data::sequences::Sequences;
use proptest::prelude::*;
use std::borrow::Cow;

const END: u32 = 256;

/// Texts, some of which belong together.
struct Texts(Vec<String>);

impl Source for Texts {
    fn content_hash(&self) -> String {
        crate::store::sha256(format!("{:?}", self.0).as_bytes())
    }
    fn len(&self) -> Option<u64> {
        Some(self.0.len() as u64)
    }
    fn document(&self, i: u64) -> Result<Cow<'_, str>> {
        Ok(Cow::Borrowed(&self.0[i as usize]))
    }
    fn group(&self, i: u64) -> u64 {
        i / 2
    }
}

/// The same texts, of which letters and digits count.
struct Letters(Texts);

impl Source for Letters {
    fn content_hash(&self) -> String {
        format!("letters of {}", self.0.content_hash())
    }
    fn len(&self) -> Option<u64> {
        self.0.len()
    }
    fn document(&self, i: u64) -> Result<Cow<'_, str>> {
        self.0.document(i)
    }
    fn passage(&self, i: u64) -> Result<Passage<'_>> {
        let text = self.document(i)?;
        let letters = text.char_indices().filter(|(_, c)| c.is_alphanumeric());
        let counted: Vec<_> = letters.map(|(at, c)| at..at + c.len_utf8()).collect();
        Ok(Passage { text, counted: Some(counted.into()) })
    }
    fn group(&self, i: u64) -> u64 {
        self.0.group(i)
    }
}

/// Which tokens of a text in [`Letters`] count.
fn letters(text: &str) -> Vec<bool> {
    let bytes = |c: char| std::iter::repeat_n(c.is_alphanumeric(), c.len_utf8());
    let end = text.chars().last().is_some_and(char::is_alphanumeric);
    text.chars().flat_map(bytes).chain([end]).collect()
}

/// A token a byte.
struct Bytewise;

impl Encode for Bytewise {
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match text {
            "refused" => Err(Error::setting("text", text, "cannot be encoded")),
            text => Ok(text.bytes().map(u32::from).collect()),
        }
    }
    fn end_of_text(&self) -> u32 {
        END
    }
}

fn expected(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).chain([END]).collect()
}

#[test]
fn only_case_and_white_space_make_no_difference() {
    assert_eq!(fingerprint("A  b\n"), fingerprint(" a B"));
    assert_ne!(fingerprint("34 + 7"), fingerprint("3 + 47"));
    assert_ne!(fingerprint("3 + 4"), fingerprint("3 - 4"));
    assert_ne!(fingerprint("a b"), fingerprint("ab"));
    // The first half of Python's hashlib.sha256(b"a b ").hexdigest().
    assert_eq!(format!("{:032x}", fingerprint("a b")), "60270911794ae6e2b85c041d498c5ecc");
}

#[test]
fn letters_and_digits_place_a_text() {
    assert_eq!(place("“Ä B”, 3\n"), place("ä b 3"));
    assert_ne!(place("a b 3"), place("a b 4"));
    assert_eq!(place("+ - …"), None);
    // Python's int(hashlib.sha256(b"ab3").hexdigest()[:16], 16).
    assert_eq!(place("A-b 3").map(|place| format!("{place:016x}")), Some(AB3.into()));
}

/// Computed with Python, as above.
const AB3: &str = "c4bba1914e2444a5";

#[test]
fn an_unlimited_source_has_no_store() {
    let source = crate::data::synthetic::Synthetic::pretraining(0);
    assert!(Tokens::of(&source, &Bytewise).unwrap_err().to_string().contains("finite"));
}

/// A shard's bytes, of documents that `write` writes.
fn written(write: impl FnOnce(Writer<'_, Cursor<Vec<u8>>>) -> Result<()>) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let header = Header {
        width: 2,
        vocab: 257,
        end_of_text: END,
        tokens: 0,
        documents: 0,
        first: 3,
        masked: false,
        identity: [7; 32],
    };
    write(Writer::new(&mut bytes, "a shard".as_ref(), header).unwrap()).unwrap();
    bytes.into_inner()
}

proptest! {
    /// What is tokenised as a stream is what is tokenised document by document, whatever the
    /// number of threads and however little may wait.
    #[test]
    fn a_shard_depends_on_no_flow(
        texts in prop::collection::vec(".{0,60}", 0..60),
        from in any::<prop::sample::Index>(),
        threads in 1usize..6,
        waiting in 0usize..300,
    ) {
        let from = from.index(texts.len() + 1);
        let expected = written(|mut writer| {
            for (i, text) in texts.iter().enumerate().skip(from) {
                let fingerprint = fingerprint(text);
                let place = place(text).unwrap_or(fingerprint as u64);
                let document = Document { tokens: 0..0, fingerprint, place, group: i as u64 / 2 };
                writer.push(&Encoded::ended(&Bytewise, &Passage::plain(text))?, &document)?;
            }
            writer.finish()
        });
        let source = Texts(texts);
        let heard = std::cell::Cell::new(from as u64);
        let found = written(|writer| {
            let flow = Flow { threads, waiting };
            let documents = from as u64..source.0.len() as u64;
            Packer { source: &source, encoder: &Bytewise, flow }.pack(documents, writer, &mut |_| {
                heard.set(heard.get() + 1);
                ControlFlow::Continue(())
            })
        });
        prop_assert_eq!(found, expected);
        prop_assert_eq!(heard.get(), source.0.len() as u64);
    }

    /// Any choice of documents, in any order, is the stream that they make one after the other.
    #[test]
    fn chosen_documents_are_one_stream(
        texts in prop::collection::vec(".{0,20}", 1..20),
        choice in prop::collection::vec(any::<prop::sample::Index>(), 1..20),
        context in 1usize..9,
    ) {
        let source = Letters(Texts(texts));
        let texts = &source.0.0;
        let tokens = Arc::new(Tokens::of(&source, &Bytewise).unwrap());
        prop_assert_eq!(tokens.documents(), texts.len() as u64);
        let choice: Vec<u64> = choice.iter().map(|i| i.index(texts.len()) as u64).collect();
        let stream: Vec<u32> = choice.iter().flat_map(|&i| expected(&texts[i as usize])).collect();
        let mask: Vec<bool> = choice.iter().flat_map(|&i| letters(&texts[i as usize])).collect();
        let chosen = Chosen::new(Arc::clone(&tokens), choice).unwrap();
        prop_assert_eq!(chosen.len(), stream.len());
        for start in 0..stream.len() {
            for end in [start, start + 1, (start + context).min(stream.len()), stream.len()] {
                let mut read = Vec::new();
                chosen.read(start..end, &mut read);
                prop_assert_eq!(&read, &stream[start..end]);
                let mut read = Vec::new();
                chosen.read_counted(start..end, &mut read);
                prop_assert_eq!(&read, &mask[start..end]);
            }
        }
        if stream.len() > context {
            let plain = Sequences::new(stream.clone(), context).unwrap();
            let all = mask[1..=plain.len() * context].iter().all(|&counts| counts);
            let encoded = Encoded { tokens: stream, counted: Some(mask.clone()) };
            let (stored, memory) = (
                Sequences::stored(chosen, context).unwrap(),
                Sequences::masked(encoded, context).unwrap(),
            );
            let mut counted = 0;
            for i in 0..stored.len() {
                let window = stored.window(i);
                prop_assert_eq!(&window, &memory.window(i));
                let naive = &mask[i * context + 1..(i + 1) * context + 1];
                let given = window.counted.clone().unwrap_or_else(|| vec![true; context]);
                prop_assert_eq!(&given, naive);
                counted += window.counted();
            }
            prop_assert_eq!(counted, stored.counted_tokens());
            prop_assert_eq!(counted, memory.counted_tokens());
            // A mask that leaves nothing out leaves no trace.
            prop_assert_eq!(stored.hash() == plain.hash(), all);
            prop_assert!(stored.iter().eq(memory.iter()));
            prop_assert_eq!(stored.hash(), memory.hash());
            prop_assert_eq!(stored.stream(), memory.stream());
        }
    }

    /// Whatever stands in a header, nothing panics, and nothing is believed that the length denies.
    #[test]
    fn hostile_headers(
        width in prop_oneof![Just(2u32), Just(4), any::<u32>()],
        (tokens, documents, first) in (number(), number(), number()),
        masked: bool,
        body in prop::collection::vec(any::<u8>(), 0..200),
        cut in 0usize..300,
        flip in prop::option::of((any::<prop::sample::Index>(), 1u8..)),
    ) {
        let (vocab, end_of_text, identity) = (9, 1, [7; 32]);
        let header =
            Header { width, tokens, documents, first, vocab, end_of_text, masked, identity };
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend(&body);
        if let Some((at, bits)) = flip {
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
        }
        bytes.truncate(cut);
        if let Ok(shard) = Shard::new("hostile".into(), Bytes::Memory(bytes)) {
            prop_assert_eq!(shard.header(), &header);
            let mask = if masked { tokens.div_ceil(8) } else { 0 };
            let length = tokens * u64::from(width) + documents * shard::ENTRY as u64 + mask;
            prop_assert!(length <= body.len() as u64);
            for i in (0..documents).chain([u64::MAX]) {
                if let Ok(document) = shard.document(i) {
                    shard.read(document.tokens.clone(), &mut Vec::new());
                    shard.read_counted(document.tokens, &mut Vec::new());
                }
            }
            match Tokens::new(vec![shard]) {
                Ok(tokens) => drop(tokens.document(0)),
                Err(_) => prop_assert!(first > 0),
            }
        }
    }
}

/// Numbers that fit, and numbers that overflow.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..6, any::<u64>(), Just(u64::MAX), Just(1 << 63)]
}

#[cfg(feature = "text")]
mod on_the_disk {
    use super::*;
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Counts what it encodes, and gives up after so many.
    struct Counted {
        encoded: AtomicU64,
        limit: u64,
    }

    impl Counted {
        fn up_to(limit: u64) -> Self {
            Self { encoded: AtomicU64::new(0), limit }
        }

        fn count(&self) -> u64 {
            self.encoded.load(Ordering::Relaxed)
        }
    }

    impl Encode for Counted {
        fn encode(&self, text: &str) -> Result<Vec<u32>> {
            if self.encoded.fetch_add(1, Ordering::Relaxed) >= self.limit {
                return Err(Error::Interrupted);
            }
            Bytewise.encode(text)
        }
        fn end_of_text(&self) -> u32 {
            END
        }
    }

    fn texts(count: u64) -> Texts {
        Texts(
            (0..count).map(|i| format!("text {i} {}", "x".repeat((i * 7 % 30) as usize))).collect(),
        )
    }

    fn recipe<'a>(source: &'a dyn Source, encoder: &'a dyn Encode) -> Recipe<'a> {
        Recipe { source, encoder, tokenizer: "bytes", vocab: 257, shard_documents: 7 }
    }

    fn prepare(folder: &Path, recipe: &Recipe<'_>) -> Result<Tokens> {
        Tokens::prepare(folder, recipe, &Origin::default(), &|_| ())
    }

    /// The files of a store, without the lock.
    fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        let named = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path()));
        named
            .filter(|(name, _)| name != ".lock")
            .map(|(name, path)| (name, fs::read(path).unwrap()))
            .collect()
    }

    fn check(tokens: &Tokens, source: &Texts) {
        assert_eq!(tokens.documents(), source.0.len() as u64);
        for (i, text) in source.0.iter().enumerate() {
            assert_eq!(tokens.document(i as u64).unwrap(), expected(text));
        }
        assert!(tokens.document(source.0.len() as u64).is_err());
    }

    #[test]
    fn a_second_call_tokenises_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let source = texts(40);
        let encoder = Counted::up_to(1000);
        let counted = recipe(&source, &encoder);
        let heard = AtomicU64::new(0);
        let hear = |documents| {
            heard.fetch_add(documents, Ordering::Relaxed);
        };
        let origin = Origin {
            name: "texts".into(),
            revision: Some("abc".into()),
            files: vec![OriginFile { name: "a.txt".into(), sha256: "00".into() }],
        };
        let tokens = Tokens::prepare(folder.path(), &counted, &origin, &hear).unwrap();
        check(&tokens, &source);
        assert_eq!((encoder.count(), heard.load(Ordering::Relaxed)), (40, 40));
        let before = files(folder.path());
        check(&Tokens::prepare(folder.path(), &counted, &origin, &hear).unwrap(), &source);
        assert_eq!((encoder.count(), heard.load(Ordering::Relaxed)), (40, 40));
        assert_eq!(files(folder.path()), before);
        check(&Tokens::open(folder.path()).unwrap(), &source);
        let manifest = StoreManifest::read(folder.path()).unwrap().unwrap();
        assert_eq!((manifest.documents, manifest.tokens), (40, tokens.tokens()));
        assert_eq!((manifest.bytes_per_token, manifest.shards.len()), (2, 6));
        assert_eq!((manifest.origin, &*manifest.tokenizer), (origin, "bytes"));
        assert_eq!(manifest.source, source.content_hash());
        for shard in &manifest.shards {
            assert_eq!(shard.sha256, crate::store::sha256(&before[&shard.file]));
        }
    }

    /// Interrupted at any document, and gone on with: the bytes of a call that was not.
    #[test]
    fn what_was_interrupted_goes_on() {
        let (source, whole) = (texts(40), tempfile::tempdir().unwrap());
        prepare(whole.path(), &recipe(&source, &Bytewise)).unwrap();
        for limit in [0, 3, 7, 20, 39] {
            let folder = tempfile::tempdir().unwrap();
            let stopped = Counted::up_to(limit);
            let error = prepare(folder.path(), &recipe(&source, &stopped)).unwrap_err();
            assert!(matches!(error, Error::Interrupted), "{error}");
            let error = Tokens::open(folder.path()).unwrap_err().to_string();
            assert!(error.contains("not finished"), "{error}");
            // What a process that was killed leaves behind, and a shard that is not what it says.
            fs::write(folder.path().join(".shard-00001.77-0.partial"), "half").unwrap();
            let forged = "shard-00005.0123456789abcdef.tokens";
            fs::write(folder.path().join(forged), "forged").unwrap();
            let resumed = Counted::up_to(1000);
            prepare(folder.path(), &recipe(&source, &resumed)).unwrap();
            assert_eq!(resumed.count(), 40 - limit / 7 * 7);
            assert_eq!(files(folder.path()), files(whole.path()));
        }
    }

    /// Texts without an end.
    struct Endless;

    impl Source for Endless {
        fn content_hash(&self) -> String {
            "endless".into()
        }
        fn len(&self) -> Option<u64> {
            None
        }
        fn document(&self, i: u64) -> Result<Cow<'_, str>> {
            Ok(format!("text {i} {}", "x".repeat((i * 7 % 30) as usize)).into())
        }
    }

    /// Asks for so many documents.
    fn grow(folder: &Path, encoder: &dyn Encode, documents: u64) -> Result<Tokens> {
        let (mut left, recipe) = (documents, recipe(&Endless, encoder));
        Tokens::grow(folder, &recipe, &Origin::default(), &mut |_| {
            left -= 1;
            match left {
                0 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        })
    }

    #[test]
    fn of_an_endless_source_there_is_what_was_ever_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let encoder = Counted::up_to(1000);
        let mut before = BTreeMap::new();
        for (asked, there, shards) in
            [(10, 10, 2), (4, 10, 2), (10, 10, 2), (12, 12, 3), (30, 30, 6)]
        {
            let encoded = encoder.count();
            let tokens = grow(folder.path(), &encoder, asked).unwrap();
            check(&tokens, &texts(there));
            let manifest = StoreManifest::read(folder.path()).unwrap().unwrap();
            assert_eq!((manifest.documents, manifest.shards.len()), (there, shards));
            let mut after = files(folder.path());
            assert_eq!(encoder.count() == encoded, after == before, "{asked}");
            assert!(Tokens::verify(folder.path()).unwrap().is_empty());
            after.remove("manifest.json");
            assert!(
                before.iter().all(|(name, file)| name == "manifest.json" || after[name] == *file)
            );
            before = files(folder.path());
        }

        // Missing shards are made again, to the same bytes, whether they are asked for or not.
        for shard in &StoreManifest::read(folder.path()).unwrap().unwrap().shards[1..4] {
            fs::remove_file(folder.path().join(&shard.file)).unwrap();
        }
        check(&grow(folder.path(), &encoder, 8).unwrap(), &texts(30));
        assert_eq!(files(folder.path()), before);
    }

    #[test]
    fn what_was_interrupted_of_an_endless_source_goes_on() {
        let whole = tempfile::tempdir().unwrap();
        grow(whole.path(), &Bytewise, 30).unwrap();
        for limit in [0, 3, 7, 20, 29] {
            let folder = tempfile::tempdir().unwrap();
            let error = grow(folder.path(), &Counted::up_to(limit), 30).unwrap_err();
            assert!(matches!(error, Error::Interrupted), "{error}");
            // Of shards that the manifest does not speak of.
            fs::write(folder.path().join(".shard-00003.77-0.partial"), "half").unwrap();
            fs::write(folder.path().join("shard-00004.0123456789abcdef.tokens"), "forged").unwrap();
            let resumed = Counted::up_to(1000);
            check(&grow(folder.path(), &resumed, 30).unwrap(), &texts(30));
            assert_eq!(files(folder.path()), files(whole.path()));
            assert!(resumed.count() < 30 - limit / 7 * 7 + 7, "{} {limit}", resumed.count());
        }
    }

    #[test]
    fn a_shard_is_wide_enough_for_the_vocabulary() {
        struct Large;
        impl Encode for Large {
            fn encode(&self, text: &str) -> Result<Vec<u32>> {
                Ok(text.bytes().map(|byte| u32::from(byte) + 65_500).collect())
            }
            fn end_of_text(&self) -> u32 {
                0
            }
        }
        let source = Texts(vec!["a".into(), "bc".into()]);
        for (vocab, width) in [(65_700, 4), (1 << 20, 4)] {
            let folder = tempfile::tempdir().unwrap();
            let recipe = Recipe { vocab, ..recipe(&source, &Large) };
            let tokens = prepare(folder.path(), &recipe).unwrap();
            assert_eq!(tokens.document(1).unwrap(), [65_598, 65_599, 0]);
            let manifest = StoreManifest::read(folder.path()).unwrap().unwrap();
            assert_eq!(manifest.bytes_per_token, width);
        }
        let folder = tempfile::tempdir().unwrap();
        let recipe = Recipe { vocab: 1 << 16, ..recipe(&source, &Large) };
        let error = prepare(folder.path(), &recipe).unwrap_err().to_string();
        assert!(error.contains("65597") && error.contains("vocabulary"), "{error}");
    }

    #[test]
    fn a_folder_holds_one_store() {
        let folder = tempfile::tempdir().unwrap();
        let (source, other) = (texts(9), texts(10));
        let first = recipe(&source, &Bytewise);
        prepare(folder.path(), &first).unwrap();
        let before = files(folder.path());
        let others = [
            recipe(&other, &Bytewise),
            Recipe { tokenizer: "other", ..first },
            Recipe { vocab: 300, ..first },
            Recipe { shard_documents: 8, ..first },
        ];
        for other in others {
            assert_ne!(other.id(), first.id());
            let error = prepare(folder.path(), &other).unwrap_err().to_string();
            assert!(error.contains("another source or tokenizer"), "{error}");
        }
        assert_eq!(files(folder.path()), before);
        assert!(prepare(folder.path(), &Recipe { shard_documents: 0, ..first }).is_err());
        let refused = Texts(vec!["refused".into()]);
        let folder = tempfile::tempdir().unwrap();
        assert!(prepare(folder.path(), &recipe(&refused, &Bytewise)).is_err());
        let nothing = Texts(Vec::new());
        let tokens = prepare(folder.path(), &recipe(&nothing, &Bytewise)).unwrap();
        assert_eq!((tokens.documents(), tokens.tokens()), (0, 0));
    }

    /// A missing shard is made again, to the same bytes; a damaged one is refused.
    #[test]
    fn a_missing_shard_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let source = texts(40);
        prepare(folder.path(), &recipe(&source, &Bytewise)).unwrap();
        let before = files(folder.path());
        let name = &StoreManifest::read(folder.path()).unwrap().unwrap().shards[2].file;
        let path = folder.path().join(name);
        fs::remove_file(&path).unwrap();
        let error = Tokens::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("prepare again"), "{error}");
        assert_eq!(Tokens::verify(folder.path()).unwrap().len(), 1);
        let counted = Counted::up_to(1000);
        prepare(folder.path(), &recipe(&source, &counted)).unwrap();
        assert_eq!(counted.count(), 7);
        assert_eq!(files(folder.path()), before);
        fs::write(&path, &before[name][..before[name].len() - 1]).unwrap();
        let error = prepare(folder.path(), &recipe(&source, &counted)).unwrap_err();
        assert!(matches!(error, Error::Damaged { path: damaged, .. } if damaged == path));
    }

    /// Every byte of every shard is covered: by the check at opening where it is the header, the
    /// length or the name, else by the hash.
    #[test]
    fn every_flipped_byte_and_every_truncation_is_named() {
        every_flip_and_truncation_is_named(&texts(9));
        every_flip_and_truncation_is_named(&Letters(texts(9)));
    }

    fn every_flip_and_truncation_is_named(source: &dyn Source) {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path(), &recipe(source, &Bytewise)).unwrap();
        assert!(Tokens::verify(folder.path()).unwrap().is_empty());
        let name = &StoreManifest::read(folder.path()).unwrap().unwrap().shards[1].file;
        let path = folder.path().join(name);
        let whole = fs::read(&path).unwrap();
        for i in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[i] ^= 1 << (i % 8);
            fs::write(&path, &bytes).unwrap();
            if i < shard::HEADER {
                let error = Tokens::open(folder.path()).unwrap_err().to_string();
                assert!(error.contains(&**name), "{i}: {error}");
            }
            let damages = Tokens::verify(folder.path()).unwrap();
            assert_eq!(damages.len(), 1, "{i}");
            assert!(damages[0].to_string().contains(&**name), "{}", damages[0]);
        }
        for length in (0..whole.len()).chain([whole.len() + 1]) {
            let mut bytes = whole.clone();
            bytes.resize(length, 0);
            fs::write(&path, &bytes).unwrap();
            let error = Tokens::open(folder.path()).unwrap_err().to_string();
            assert!(error.contains(&**name), "{length}: {error}");
            assert_eq!(Tokens::verify(folder.path()).unwrap().len(), 1, "{length}");
        }
        fs::write(&path, &whole).unwrap();
        assert!(Tokens::verify(folder.path()).unwrap().is_empty());
    }

    /// A store whose text all counts is the one of before there were masks, byte by byte; of a masked
    /// one only the shards in which something does not count have a mask.
    #[test]
    fn what_all_counts_has_no_mask() {
        let words = |text: &str| Texts(vec![text.into(); 14]);
        let shards = |source: &dyn Source| {
            let folder = tempfile::tempdir().unwrap();
            prepare(folder.path(), &recipe(source, &Bytewise)).unwrap();
            assert!(Tokens::verify(folder.path()).unwrap().is_empty());
            StoreManifest::read(folder.path()).unwrap().unwrap()
        };
        let (plain, all) = (shards(&words("abc")), shards(&Letters(words("abc"))));
        assert_eq!((plain.counted, all.counted), (None, None));
        assert!(!serde_json::to_string(&plain).unwrap().contains("\"counted\""));
        // Version 1, written by Python's struct and hashlib.
        let version_1 = "aa09010877bb4d38b2ffb17ec5b2f0c6bcce14b1672fd4cc5607c5cf2d1100e2";
        assert_eq!(plain.shards[0].sha256, version_1);
        let mut some = words("abc");
        some.0[3] = "a c".into();
        let some = shards(&Letters(some));
        assert_eq!([some.shards[0].counted, some.shards[1].counted], [Some(27), None]);
        assert_eq!((some.counted, some.tokens), (Some(55), 56));
    }

    /// A mask that is cut off, says more than there is, or is kept quiet about.
    #[test]
    fn hostile_masks() {
        let folder = tempfile::tempdir().unwrap();
        let source = Letters(texts(9));
        prepare(folder.path(), &recipe(&source, &Bytewise)).unwrap();
        let manifest = folder.path().join("manifest.json");
        let text = fs::read_to_string(&manifest).unwrap();
        let parsed = StoreManifest::read(folder.path()).unwrap().unwrap();
        let shard = &parsed.shards[0];
        let counted = format!("\"counted\": {}", shard.counted.unwrap());
        assert!(text.contains(&counted), "{text}");
        // The manifest says another number, or that all count.
        fs::write(&manifest, text.replacen(&counted, "\"counted\": 1", 1)).unwrap();
        let damages: Vec<String> =
            Tokens::verify(folder.path()).unwrap().iter().map(Error::to_string).collect();
        assert!(damages[0].contains(&shard.file) && damages[0].contains("count"), "{damages:?}");
        fs::write(&manifest, text.replacen(&counted, "\"counted\": null", 1)).unwrap();
        let error = Tokens::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&shard.file) && error.contains("header"), "{error}");
        // A mask with bits behind the last token, in a file whose hash is right.
        let path = folder.path().join(&shard.file);
        let mut bytes = fs::read(&path).unwrap();
        assert_ne!(shard.tokens % 8, 0, "the last byte has room");
        *bytes.last_mut().unwrap() |= 1 << 7;
        fs::write(&path, &bytes).unwrap();
        let hash = crate::store::sha256(&bytes);
        fs::write(&manifest, text.replace(&shard.sha256, &hash)).unwrap();
        let found = Tokens::open(folder.path()).unwrap();
        let shard = &found.shards[0];
        assert!(shard.check().unwrap_err().to_string().contains("after its last token"));
    }

    #[test]
    fn hostile_manifests() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Tokens::open(folder.path()).is_err() && Tokens::verify(folder.path()).is_err());
        let source = texts(9);
        prepare(folder.path(), &recipe(&source, &Bytewise)).unwrap();
        let path = folder.path().join("manifest.json");
        let text = fs::read_to_string(&path).unwrap();
        let name = &StoreManifest::read(folder.path()).unwrap().unwrap().shards[0].file;
        let cases = [
            (text[..100].to_string(), "not the manifest"),
            ("[]".to_string(), "not the manifest"),
            (text.replacen("\"format\": 1", "\"format\": 2", 1), "this program reads 1"),
            (text.replace(&**name, "../escape"), "is not in the folder"),
            (text.replace(&**name, "/etc/hostname"), "is not in the folder"),
            (text.replace(&**name, ".."), "is not in the folder"),
            (text.replace("\"documents\": 7", "\"documents\": 18446744073709551615"), "header"),
            (text.replace("\"vocab\": 257", "\"vocab\": 300"), "header"),
        ];
        for (text, words) in cases {
            fs::write(&path, text).unwrap();
            let error = Tokens::open(folder.path()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        fs::write(&path, text.replacen("\"documents\": 9", "\"documents\": 10", 1)).unwrap();
        let damages = Tokens::verify(folder.path()).unwrap();
        assert!(damages.len() == 1 && damages[0].to_string().contains("counts"), "{damages:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// Any documents survive the way to the disk and back.
        #[test]
        fn round_trip(texts in prop::collection::vec(any::<String>(), 0..20), shard in 1u64..30) {
            prop_assume!(!texts.iter().any(|text| text == "refused"));
            let folder = tempfile::tempdir().unwrap();
            let source = Letters(Texts(texts));
            let recipe = Recipe { shard_documents: shard, ..recipe(&source, &Bytewise) };
            let tokens = prepare(folder.path(), &recipe).unwrap();
            check(&tokens, &source.0);
            let mut counted = 0;
            for (i, text) in source.0.0.iter().enumerate() {
                let mask = letters(text);
                counted += mask.iter().filter(|&&counts| counts).count() as u64;
                prop_assert_eq!(tokens.counted(i as u64).unwrap(), mask);
            }
            let manifest = StoreManifest::read(folder.path()).unwrap().unwrap();
            prop_assert_eq!(manifest.counted.unwrap_or(manifest.tokens), counted);
            let memory = Tokens::of(&source, &Bytewise).unwrap();
            prop_assert_eq!(tokens.tokens(), memory.tokens());
            for (disk, memory) in tokens.entries().zip(memory.entries()) {
                let (disk, memory) = (disk.unwrap(), memory.unwrap());
                prop_assert_eq!(disk.fingerprint, memory.fingerprint);
                prop_assert_eq!((disk.place, disk.group), (memory.place, memory.group));
            }
            prop_assert!(Tokens::verify(folder.path()).unwrap().is_empty());
        }
    }
}
