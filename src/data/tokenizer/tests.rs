use super::*;
use crate::rng::Key;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::LazyLock;
use tokenizers::AddedToken;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

/// Text of words that are drawn from a small lexicon, the first ones far more often.
fn prose(seed: u64, words: u64) -> String {
    let key = Key::new(seed);
    let lexicon: Vec<String> = (0..300)
        .map(|i| {
            let key = Key::new(0).child(i);
            (0..key.below(0, 7) + 2)
                .map(|j| char::from(b'a' + key.below(j + 1, 26) as u8))
                .collect()
        })
        .collect();
    (0..words)
        .map(|i| {
            let rank = (key.uniform(2 * i).powi(3) * 300.0) as usize;
            let end = [" ", " ", " ", ", ", ".\n"][key.below(2 * i + 1, 5) as usize];
            format!("{}{end}", lexicon[rank])
        })
        .collect()
}

static PROSE: LazyLock<Tokenizer> =
    LazyLock::new(|| Tokenizer::train([prose(1, 5000)].into_iter(), 500).unwrap());

/// One that changes characters, as GPT-NeoX's and Qwen's do, and more.
static FOLDED: LazyLock<Tokenizer> = LazyLock::new(|| {
    let mut file = json(&PROSE);
    file["normalizer"] = json!({"type": "Sequence", "normalizers": [
        {"type": "NFKC"}, {"type": "Lowercase"}, {"type": "StripAccents"}]});
    open(&file).unwrap()
});

fn train(text: &str, vocab_size: usize) -> Tokenizer {
    Tokenizer::train([text.to_owned()].into_iter(), vocab_size).unwrap()
}

fn merges(tokenizer: &Tokenizer) -> Value {
    let json: Value = serde_json::from_str(tokenizer.to_json()).unwrap();
    json["model"]["merges"].clone()
}

fn open(json: &Value) -> Result<Tokenizer> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    fs::write(&path, json.to_string()).unwrap();
    Tokenizer::from_file(path)
}

fn json(tokenizer: &Tokenizer) -> Value {
    serde_json::from_str(tokenizer.to_json()).unwrap()
}

#[test]
fn merges_by_hand() {
    // ab occurs 4 times, ba twice, abab then twice; a pair that occurs once is not merged.
    let tokenizer = train("abab abab", 1000);
    assert_eq!(merges(&tokenizer), json!([["a", "b"], ["ab", "ab"]]));
    assert_eq!(tokenizer.vocab_size(), 259);
    assert_eq!(merges(&train("abab abab", 258)), json!([["a", "b"]]));
    // Runs: after aa is merged from the left, aa and aa are left.
    let tokenizer = train("aaaa aaaa", 1000);
    assert_eq!(merges(&tokenizer), json!([["a", "a"], ["aa", "aa"]]));
    // ab, cd and a space before c occur twice each: the smaller ids first.
    let tokenizer = train("ab cd ab cd", 1000);
    assert_eq!(merges(&tokenizer), json!([["a", "b"], ["c", "d"], ["Ġ", "cd"]]));
}

#[test]
fn without_merges_a_token_is_a_byte() {
    let tokenizer = train("abab", 257);
    assert_eq!(tokenizer.vocab_size(), 257);
    assert_eq!(tokenizer.encode("aé a").unwrap().len(), 5);
    assert_eq!(tokenizer.end_of_text(), 0);
    let error = Tokenizer::train(["a".to_owned()].into_iter(), 256).unwrap_err();
    assert!(error.to_string().contains("at least 257"), "{error}");
    assert!(Tokenizer::train(std::iter::empty(), 300).is_err());
}

/// The peer's trainer learns the same merges from the same text. It breaks ties in the same
/// way, but where a pair is queued twice its order depends on a random hash; hence our own.
#[test]
fn the_peer_learns_the_same() {
    let text = prose(2, 3000);
    let ours = train(&text, 600);
    let byte_level = ByteLevel::new(false, false, true);
    let mut peer = tokenizers::TokenizerBuilder::<
        BPE,
        tokenizers::NormalizerWrapper,
        ByteLevel,
        ByteLevel,
        ByteLevel,
    >::new()
    .with_model(BPE::default())
    .with_normalizer(None)
    .with_pre_tokenizer(Some(byte_level))
    .with_post_processor(None)
    .with_decoder(Some(byte_level))
    .build()
    .unwrap();
    let mut trainer = BpeTrainerBuilder::new()
        .vocab_size(600)
        .min_frequency(2)
        .show_progress(false)
        .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    peer.train(&mut trainer, [&text].into_iter()).unwrap();
    let peer: Value = serde_json::from_str(&peer.to_string(false).unwrap()).unwrap();
    assert_eq!(json(&ours), peer);
    assert_eq!(ours.vocab_size(), 600);
}

#[test]
fn neither_order_nor_repetition_changes_the_result() {
    let texts = [prose(3, 400), prose(4, 400), prose(5, 400)];
    let forward = Tokenizer::train(texts.iter().cloned(), 400).unwrap();
    let backward = Tokenizer::train(texts.iter().rev().cloned(), 400).unwrap();
    assert_eq!(forward.to_json(), backward.to_json());
    assert_ne!(forward.hash(), Tokenizer::train(texts.into_iter(), 401).unwrap().hash());
}

#[test]
fn special_names_in_a_text_are_text() {
    let text = "before <|endoftext|> after";
    let ids = PROSE.encode(text).unwrap();
    assert!(!ids.contains(&PROSE.end_of_text()));
    assert_eq!(PROSE.decode(&ids).unwrap(), text);
    assert_eq!(PROSE.decode(&[PROSE.end_of_text()]).unwrap(), END_OF_TEXT);
}

#[test]
fn ids_outside_the_vocabulary_are_refused() {
    assert!(PROSE.decode(&[499]).is_ok());
    assert!(PROSE.decode(&[500]).unwrap_err().to_string().contains("500"));
}

#[test]
fn a_long_run_of_one_character_is_encoded() {
    for tokenizer in [&*PROSE, &*PIECES] {
        for text in [" ".repeat(300_000), "a".repeat(30_000), format!("{}a", "\n".repeat(30_000))] {
            assert_eq!(tokenizer.decode(&tokenizer.encode(&text).unwrap()).unwrap(), text);
        }
        assert!(tokenizer.encode("").unwrap().is_empty());
    }
}

#[test]
fn saved_and_read_it_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    PROSE.save(&path).unwrap();
    let read = Tokenizer::from_file(&path).unwrap();
    assert_eq!(read.to_json(), PROSE.to_json());
    assert_eq!(read.hash(), PROSE.hash());
    assert_eq!(read.hash(), format!("{:x}", Sha256::digest(fs::read(&path).unwrap())));
    let text = prose(9, 50);
    assert_eq!(read.encode(&text).unwrap(), PROSE.encode(&text).unwrap());
    assert_eq!((read.end_of_text(), read.vocab_size()), (0, 500));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    assert!(PROSE.save(folder.path().join("missing/tokenizer.json")).is_err());
    assert!(PROSE.save(folder.path()).is_err());
}

/// Saved files often carry the truncation of the model that they came with.
#[test]
fn truncation_and_padding_are_switched_off() {
    let mut file = json(&PROSE);
    file["truncation"] = json!({
        "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0
    });
    file["padding"] = json!({
        "strategy": {"Fixed": 512}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": END_OF_TEXT
    });
    let text = prose(6, 100);
    let read = open(&file).unwrap();
    assert_eq!(read.encode(&text).unwrap(), PROSE.encode(&text).unwrap());
    assert_eq!(read.hash(), PROSE.hash());
}

#[test]
fn files_that_are_no_tokenizer_are_refused() {
    let missing = Tokenizer::from_file("no such tokenizer.json").unwrap_err();
    assert!(matches!(missing, Error::Io { .. }));
    let error = open(&json!({"a": 1})).unwrap_err().to_string();
    assert!(error.contains("not a tokenizer.json"), "{error}");
    let mut random = json(&PROSE);
    random["model"]["dropout"] = json!(0.1);
    let error = open(&random).unwrap_err().to_string();
    assert!(error.contains("dropout"), "{error}");
    random["model"]["dropout"] = json!(0.0);
    assert!(open(&random).is_ok());
}

/// The crate that reads them panics on these.
#[test]
fn files_whose_parts_do_not_fit_together_are_refused() {
    let mut file = json(&train("a b", 300));
    let told = "not a tokenizer: its parts do not fit together";
    // The first is noticed on reading, the second, a table of no entries, on a text.
    file["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": "no base64"});
    assert!(open(&file).unwrap_err().to_string().contains(told));
    file["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="});
    let tokenizer = open(&file).unwrap();
    for refusal in [
        tokenizer.encode("a").unwrap_err(),
        tokenizer.token_bytes("a").unwrap_err(),
        tokenizer.encode_counted("a", std::slice::from_ref(&(0..1))).unwrap_err(),
    ] {
        assert!(refusal.to_string().contains(told), "{refusal}");
    }
}

/// Ids with a gap, and the end of text under another name.
#[test]
fn another_kind_of_tokenizer() {
    let file = |end: &str| {
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": null, "decoder": null,
            "model": {"type": "WordLevel", "unk_token": "?",
                      "vocab": {"a": 0, "b": 1, "?": 2, end: 9}}
        })
    };
    let tokenizer = open(&file("</s>")).unwrap();
    assert_eq!((tokenizer.vocab_size(), tokenizer.end_of_text()), (10, 9));
    assert_eq!(tokenizer.encode("A b\n c").unwrap(), [0, 1, 2]);
    let masked = tokenizer.encode_counted("A b\n c", std::slice::from_ref(&(1..3))).unwrap();
    assert_eq!(masked, (vec![0, 1, 2], vec![false, true, false]));
    // What drops white space drops no byte of it.
    assert_eq!(tokenizer.token_bytes("A b\n c ").unwrap(), [1, 2, 4]);
    let error = open(&file("end")).unwrap_err().to_string();
    assert!(error.contains("--end-of-text"), "{error}");
}

#[test]
fn words_are_encoded_one_by_one_only_where_that_is_the_same() {
    assert!(PROSE.words.is_some());
    let changed = |change: fn(&mut Value)| {
        let mut file = json(&PROSE);
        change(&mut file);
        open(&file).unwrap().words.is_some()
    };
    assert!(changed(|_| ()));
    assert!(!changed(|file| file["pre_tokenizer"]["add_prefix_space"] = json!(true)));
    assert!(!changed(|file| file["pre_tokenizer"]["use_regex"] = json!(false)));
    assert!(!changed(|file| file["pre_tokenizer"] = json!(null)));
    assert!(!changed(|file| file["normalizer"] = json!({"type": "NFC"})));
    assert!(!changed(|file| {
        file["added_tokens"].as_array_mut().unwrap().push(json!({
            "id": 500, "content": "a b", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": false
        }));
    }));
}

#[test]
fn words_keep_what_does_not_fit() {
    let words = Words::default();
    let mut ids = Vec::new();
    let long = "x".repeat(Words::LONGEST + 1);
    for round in 0..2 {
        words.append(&long, &mut ids, || Ok(vec![round])).unwrap();
        words.append(&long[1..], &mut ids, || Ok(vec![round])).unwrap();
    }
    // What is short enough is remembered from the first round.
    assert_eq!(ids, [0, 0, 1, 0]);
}

fn train_unigram(text: &str, vocab_size: usize) -> Tokenizer {
    let texts = [text.to_owned()].into_iter();
    Tokenizer::train_kind(TokenizerKind::Unigram, texts, vocab_size).unwrap()
}

static PIECES: LazyLock<Tokenizer> = LazyLock::new(|| {
    // Some of what is rare in prose is frequent here.
    train_unigram(&format!("{} <0x41> ▁▁ <unk> naïve 汉字汉字 \n\n  \t", prose(1, 5000)), 500)
});

/// A piece is a byte, part of a word with at most one space before it, or white space.
#[test]
fn pieces_of_words() {
    let file = json(&PIECES);
    let vocab: Vec<(String, f64)> = serde_json::from_value(file["model"]["vocab"].clone()).unwrap();
    assert_eq!((PIECES.vocab_size(), PIECES.end_of_text(), vocab.len()), (500, 499, 499));
    assert_eq!((vocab[0].0.as_str(), vocab[1 + 0x41].0.as_str()), ("<unk>", "<0x41>"));
    let pieces = &vocab[257..];
    assert!(pieces.is_sorted_by(|a, b| a.1 >= b.1 && a.1 > vocab[0].1));
    for (piece, _) in pieces {
        let word = piece.strip_prefix(' ').unwrap_or(piece);
        let white = word.chars().filter(|c| c.is_whitespace()).count();
        assert!(white == 0 || white == word.chars().count(), "{piece:?}");
    }
    let words = pieces.iter().filter(|(piece, _)| piece.starts_with(' ') && piece.len() > 3);
    assert!(words.count() > 50);
    let text = prose(7, 500);
    let [bytes, ours] = [&train(&text, 257), &*PIECES].map(|t| t.encode(&text).unwrap().len());
    assert!(ours * 2 < bytes, "{ours} and {bytes}");
}

#[test]
fn the_order_of_the_texts_changes_no_piece() {
    let texts = [prose(3, 400), prose(4, 400), prose(5, 400)];
    let train = |texts: &mut dyn Iterator<Item = &String>| {
        let texts = texts.cloned();
        Tokenizer::train_kind(TokenizerKind::Unigram, texts, 400).unwrap()
    };
    let forward = train(&mut texts.iter());
    assert_eq!(forward.to_json(), train(&mut texts.iter().rev()).to_json());
    assert_ne!(forward.hash(), train_unigram(&texts.concat(), 401).hash());
}

#[test]
fn pieces_are_read_back_and_the_same() {
    let read = open(&json(&PIECES)).unwrap();
    assert_eq!(read.hash(), PIECES.hash());
    assert!(read.words.is_some());
    let text = format!("{} <|endoftext|> ż", prose(9, 50));
    assert_eq!(read.encode(&text).unwrap(), PIECES.encode(&text).unwrap());
}

#[test]
fn little_text_gives_few_pieces() {
    let tokenizer = train_unigram("to be or not to be", 1000);
    assert!((280..300).contains(&tokenizer.vocab_size()), "{}", tokenizer.vocab_size());
    assert_eq!(train_unigram("to be or not to be", 280).vocab_size(), 280);
    let texts = || ["a".to_owned()].into_iter();
    let error = Tokenizer::train_kind(TokenizerKind::Unigram, texts(), 279).unwrap_err();
    assert!(error.to_string().contains("at least 280"), "{error}");
}

/// The name of a byte is text, and a byte is written where there is no piece.
#[test]
fn bytes_and_their_names() {
    let token = |name: &str| PIECES.inner.token_to_id(name).unwrap();
    assert_eq!(PIECES.encode("ż").unwrap(), [token("<0xC5>"), token("<0xBC>")]);
    for text in ["<0xC5><0xBC>", "<unk>", "<|endoftext|>", "<0x0A>"] {
        let ids = PIECES.encode(text).unwrap();
        let special = |id: &u32| (*id <= 256) || *id == PIECES.end_of_text();
        let spelled = ids.iter().filter(|id| !special(id)).count();
        assert!(spelled > 0 && !ids.contains(&token("<0xC5>")) && !ids.contains(&0), "{ids:?}");
        assert_eq!(PIECES.decode(&ids).unwrap(), text);
    }
    assert_eq!(PIECES.decode(&[PIECES.end_of_text()]).unwrap(), END_OF_TEXT);
    // Half a character is none.
    assert_eq!(PIECES.decode(&[token("<0xC5>")]).unwrap(), "\u{fffd}");
}

/// As in the files of Llama 2: BPE with bytes, ▁ for a space and one in front.
#[test]
fn a_file_with_byte_fallback() {
    let mut vocab = serde_json::Map::new();
    for name in ["<unk>", "<s>", "</s>"] {
        vocab.insert(name.into(), json!(vocab.len()));
    }
    for byte in 0..=255 {
        vocab.insert(format!("<0x{byte:02X}>"), json!(vocab.len()));
    }
    for token in ["▁", "a", "b", "▁a", "▁ab", "<", "/", "s", ">"] {
        vocab.insert(token.into(), json!(vocab.len()));
    }
    let special = |id: u32, name: &str| {
        json!({"id": id, "content": name, "single_word": false, "lstrip": false,
               "rstrip": false, "normalized": false, "special": true})
    };
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null,
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "fuse_unk": true,
            "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "byte_fallback": true, "vocab": vocab, "merges": [["▁", "a"], ["▁a", "b"]]},
    });
    let tokenizer = open(&file).unwrap();
    assert_eq!((tokenizer.end_of_text(), tokenizer.vocab_size()), (2, 268));
    // No <s> in front, and é as two bytes.
    assert_eq!(tokenizer.encode("ab aé").unwrap(), [263, 262, 3 + 0xC3, 3 + 0xA9]);
    assert_eq!(tokenizer.token_bytes("ab aé").unwrap(), [2, 2, 1, 1]);
    for text in ["ab aé", "  a\n\n b ", "</s> a", "", "漢\0"] {
        let ids = tokenizer.encode(text).unwrap();
        assert!(!ids.contains(&2));
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }
}

/// As in GPT-2's file: the end of text is the last of the vocabulary.
#[test]
fn a_file_with_the_end_of_text_at_the_end() {
    let mut file = json(&PROSE);
    let vocab = file["model"]["vocab"].as_object_mut().unwrap();
    vocab.values_mut().for_each(|id| *id = json!((id.as_u64().unwrap() + 499) % 500));
    file["added_tokens"][0]["id"] = json!(499);
    file["added_tokens"][0]["normalized"] = json!(true);
    let tokenizer = open(&file).unwrap();
    assert_eq!((tokenizer.end_of_text(), tokenizer.vocab_size()), (499, 500));
    assert!(tokenizer.words.is_some());
    let text = "one<|endoftext|>two";
    let ids = tokenizer.encode(text).unwrap();
    assert_eq!(ids, PROSE.encode(text).unwrap().iter().map(|id| id - 1).collect::<Vec<_>>());
    assert_eq!(tokenizer.decode(&ids).unwrap(), text);
}

/// As in the files of T5: the special tokens are pieces of the model, with a score of 0.
#[test]
fn a_file_whose_model_would_end_the_text() {
    let vocab = json!([
        ["<pad>", 0.0],
        ["</s>", 0.0],
        ["<unk>", 0.0],
        ["a", -1.0],
        ["b", -1.0],
        ["<", -9.0],
        ["/", -9.0],
        ["s", -9.0],
        [">", -9.0]
    ]);
    let mut file = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": {"type": "Unigram", "unk_id": 2, "vocab": vocab}
    });
    let tokenizer = open(&file).unwrap();
    assert_eq!(tokenizer.encode("a</s>b").unwrap(), [3, 5, 6, 7, 8, 4]);
    file["normalizer"] = json!({"type": "Lowercase"});
    let error = open(&file).unwrap().encode("a</S>b").unwrap_err().to_string();
    let said = "the token that ends a text, \"</s>\" (token 1), is also one of ordinary text";
    assert!(error.ends_with(said), "{error}");
}

proptest! {
    #[test]
    fn any_text_survives(
        parts in prop::collection::vec(
            prop_oneof![
                any::<String>(),
                "[a-z]{1,6}",
                prop::sample::select(vec![
                    " ", "  ", "\n", "\r\n", "\t ", "\u{a0}", "\u{2003}", "\u{85}", "\u{200b}",
                    "'s", "'ll", "e\u{301}", "نص", "नमस्ते", "汉字", "½", "Ⅷ", "👩‍👩‍👧", "_", "...",
                    "<|endoftext|>", "\0", "\u{feff}", "▁", "▁▁a", "<0x41>", "<0xE2>", "<unk>",
                    "</s>", "\t\t", "\u{1f9d1}\u{200d}\u{1f52c}", "\u{fffd}", "\u{10ffff}",
                ]).prop_map(String::from),
            ],
            0..12,
        )
    ) {
        let text = parts.concat();
        // Every byte is one token's, whatever becomes of the text.
        for tokenizer in [&*PROSE, &*PIECES, &*FOLDED] {
            let bytes = tokenizer.token_bytes(&text).unwrap();
            prop_assert_eq!(bytes.len(), tokenizer.encode(&text).unwrap().len());
            let all = if bytes.is_empty() { 0 } else { text.len() };
            prop_assert_eq!(bytes.iter().sum::<usize>(), all);
        }
        for tokenizer in [&*PROSE, &*PIECES] {
            let ids = tokenizer.encode(&text).unwrap();
            prop_assert_eq!(tokenizer.decode(&ids).unwrap(), text.clone());
            prop_assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
            prop_assert!(!ids.contains(&tokenizer.end_of_text()));
            // By words, as the peer does it at one go.
            prop_assert_eq!(ids, tokenizer.encode_word(&tokenizer.inner, &text).unwrap());
        }
        prop_assert_eq!(words(&text).collect::<String>(), text);
    }

    /// What counts changes no token, and a token counts with any of its bytes: worked out from
    /// the lengths of the tokens, which make up the text.
    #[test]
    fn masks_of_tokens(
        words in prop::collection::vec(
            prop_oneof![
                any::<String>(),
                prop::sample::select(vec![
                    " ", "\n", "[INST] sum [/INST]", " [/INST]", " two  words\n", "naïve 汉字",
                    "👩‍👩‍👧", "<|endoftext|>", "<0x41>", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                ]).prop_map(String::from),
            ],
            0..12,
        ),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..9),
    ) {
        let text = words.concat();
        let borders: Vec<usize> = (0..=text.len()).filter(|&at| text.is_char_boundary(at)).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| borders[cut.index(borders.len())]).collect();
        cuts.sort_unstable();
        let counted: Vec<_> = cuts.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect();
        for tokenizer in [&*PROSE, &*PIECES] {
            let (ids, mask) = tokenizer.encode_counted(&text, &counted).unwrap();
            prop_assert_eq!(&ids, &tokenizer.encode(&text).unwrap());
            // By words, as at one go.
            let whole = tokenizer.mask_word(&tokenizer.inner, &text, 0, &counted).unwrap();
            prop_assert_eq!(whole.into_iter().unzip::<_, _, Vec<_>, Vec<_>>(), (ids.clone(), mask.clone()));
            let (mut start, mut lengths) = (0, Vec::new());
            for (&id, counts) in ids.iter().zip(mask) {
                let name = tokenizer.inner.id_to_token(id).unwrap();
                let length = match (std::ptr::eq(tokenizer, &*PROSE), id) {
                    // In the byte-level alphabet a character is a byte.
                    (true, _) => name.chars().count(),
                    // The names of bytes.
                    (false, 1..=256) => 1,
                    (false, _) => name.len(),
                };
                let token = start..start + length;
                let overlaps = |range: &Range<usize>| range.start < token.end && token.start < range.end;
                let naive = counted.iter().filter(|range| !range.is_empty()).any(overlaps);
                start = token.end;
                lengths.push(length);
                prop_assert_eq!(counts, naive, "{:?} at {}", name, token.start);
            }
            prop_assert_eq!(start, text.len());
            prop_assert_eq!(lengths, tokenizer.token_bytes(&text).unwrap());
        }
    }
}
