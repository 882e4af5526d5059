//! The synthetic corpora: determinism, structure, and the meaning of the distance.

use forgetting_laws::Fraction;
use forgetting_laws::data::Source;
use forgetting_laws::data::mask::Supervised;
use forgetting_laws::data::synthetic::{Domain, Synthetic};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};

fn target(domain: Domain, distance: f64, seed: u64) -> Synthetic {
    Synthetic::target(domain, Fraction::new(distance).unwrap(), seed)
}

/// Documents `first..first + n` in one string.
fn text(source: &Synthetic, first: u64, n: u64) -> String {
    (first..first + n).map(|i| source.document(i).unwrap().into_owned()).collect()
}

/// The words of a text in lower case.
fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphabetic()).filter(|w| !w.is_empty()).map(str::to_lowercase)
}

fn any_source() -> impl Strategy<Value = (Option<Domain>, f64, u64)> {
    let domain = prop::option::of(prop::sample::select(&Domain::ALL[..]));
    (domain, prop::sample::select(&[0.0, 0.3, 1.0][..]), 0u64..1000)
}

fn make((domain, distance, seed): (Option<Domain>, f64, u64)) -> Synthetic {
    domain.map_or_else(|| Synthetic::pretraining(seed), |domain| target(domain, distance, seed))
}

/// What stands behind the markers, and nothing else, where that is asked for.
fn answers_count_alone(distance: f64, seed: u64) {
    let answers = target(Domain::Instructions, distance, seed).counting(Supervised::Answer);
    let all = target(Domain::Instructions, distance, seed);
    assert_ne!(answers.content_hash(), all.content_hash());
    assert_eq!(all.passage(3).unwrap().counted, None);
    let passage = answers.passage(3).unwrap();
    assert_eq!(passage.text, all.document(3).unwrap());
    let counted = passage.counted.unwrap();
    let found: Vec<&str> = counted.iter().map(|range| &passage.text[range.clone()]).collect();
    let expected = exchanges(&passage.text).into_iter().map(|(_, answer)| format!(" {answer}\n"));
    assert_eq!(found, expected.collect::<Vec<_>>());
    // Other text counts everywhere, and stays the same source.
    let prose = || target(Domain::Prose, distance, seed);
    assert_eq!(prose().counting(Supervised::Answer).content_hash(), prose().content_hash());
    assert_eq!(prose().counting(Supervised::Answer).passage(3).unwrap().counted, None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// A document is a function of source and index, whatever was asked before, and a second
    /// object of the same source agrees.
    #[test]
    fn documents_are_pure(spec in any_source(), i in any::<u64>()) {
        let (one, two) = (make(spec), make(spec));
        let before = one.document(i).unwrap().into_owned();
        one.document(i.wrapping_add(1)).unwrap();
        prop_assert_eq!(&*one.document(i).unwrap(), &before);
        prop_assert_eq!(&*two.document(i).unwrap(), &before);
        prop_assert_ne!(&*two.document(i.wrapping_add(1)).unwrap(), &before);
    }

    /// 200 to 4,000 characters, no control characters but the line feed, no seam left between
    /// words and marks.
    #[test]
    fn documents_are_bounded_and_clean(spec in any_source(), first in any::<u32>()) {
        let source = make(spec);
        for i in 0..50 {
            let document = source.document(u64::from(first) + i).unwrap();
            let length = document.chars().count();
            prop_assert!((200..=4000).contains(&length), "{}", length);
            prop_assert!(document.chars().all(|c| c == '\n' || !c.is_control()));
            for seam in [" ,", " .", " ;", " ?", "( ", " )", " \n", "« ", " »"] {
                prop_assert!(!document.contains(seam), "{:?} in {}", seam, document);
            }
        }
    }

    /// Equations are right at every distance, and there are many.
    #[test]
    fn arithmetic_is_right(distance in 0.0..=1.0f64, seed in 0u64..100) {
        let text = text(&target(Domain::Arithmetic, distance, seed), 0, 20);
        let tokens: Vec<&str> = text.split_whitespace().collect();
        let number = |token: &str| token.trim_end_matches('.').parse::<i64>().unwrap();
        let mut signs = BTreeMap::new();
        for (i, _) in tokens.iter().enumerate().filter(|(_, token)| **token == "=") {
            let (a, b, c) = (number(tokens[i - 3]), number(tokens[i - 1]), number(tokens[i + 1]));
            *signs.entry(tokens[i - 2]).or_insert(0) += 1;
            match tokens[i - 2] {
                "+" => prop_assert_eq!(a + b, c),
                "-" | "−" => prop_assert_eq!(a - b, c),
                "*" | "×" => prop_assert_eq!(a * b, c),
                "/" | "÷" => prop_assert_eq!(b * c, a),
                other => prop_assert!(false, "unknown operation {}", other),
            }
        }
        prop_assert_eq!(signs.len(), 4);
        prop_assert!(signs.values().all(|&n| n > 20), "{:?}", signs);
    }
}

/// The exchanges of instruction documents: what stands between the markers, and what follows.
fn exchanges(text: &str) -> Vec<(&str, &str)> {
    text.lines()
        .map(|line| {
            let (instruction, answer) =
                line.strip_prefix("[INST] ").unwrap().split_once(" [/INST] ").unwrap();
            assert!(!instruction.contains("INST]") && !answer.contains("INST]"), "{line}");
            assert!(instruction.ends_with(['?', '.']) && answer.ends_with('.'), "{line}");
            (instruction, answer)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Every line is an exchange; sums are right and lists are sorted at every distance; the same
    /// question of fact has the same answer in all documents.
    #[test]
    fn instructions_are_answered(distance in 0.0..=1.0f64, seed in 0u64..100) {
        answers_count_alone(distance, seed);
        let text = text(&target(Domain::Instructions, distance, seed), 0, 60);
        let mut answers = BTreeMap::new();
        let (mut sums, mut lists, mut facts, mut again, mut others) = (0, 0, 0, 0, 0);
        for (instruction, answer) in exchanges(&text) {
            let numbers = |text: &str| -> Vec<u64> {
                text.split_whitespace()
                    .filter_map(|word| word.trim_end_matches([',', '.', '?']).parse().ok())
                    .collect()
            };
            let (given, mut result) = (numbers(instruction), numbers(answer));
            if answer.contains('=') {
                sums += 1;
                prop_assert_eq!(&given[..], &result[..2]);
                let (a, b) = (given[0], given[1]);
                let (sign, c) = (answer.split(' ').nth(1).unwrap(), result[2]);
                match sign {
                    "+" => prop_assert_eq!(a + b, c),
                    "-" | "−" => prop_assert_eq!(a - b, c),
                    "*" | "×" => prop_assert_eq!(a * b, c),
                    _ => prop_assert_eq!(b * c, a),
                }
            } else if given.len() >= 3 {
                lists += 1;
                prop_assert!(result.is_sorted());
                result.sort_unstable();
                let mut given = given;
                given.sort_unstable();
                prop_assert_eq!(given, result);
            } else if instruction.ends_with('?') {
                facts += 1;
                let before = *answers.entry(instruction).or_insert(answer);
                again += u32::from(!std::ptr::eq(before, answer));
                others += u32::from(before != answer);
            }
        }
        // A sixth each of some 400 exchanges are sums and lists, a half asks for facts.
        prop_assert!(sums > 30 && lists > 30 && facts > 100, "{sums} {lists} {facts}");
        // One noun in thousands is spelt like another.
        prop_assert!(again > 20 && others * 20 <= facts, "{again} {others} {facts}");
    }
}

/// The markers tell an instruction-tuned domain from everything else.
#[test]
fn markers_occur_nowhere_else() {
    for domain in [None, Some(Domain::Code), Some(Domain::Prose)] {
        assert!(!text(&make((domain, 0.5, 0)), 0, 200).contains("INST"));
    }
}

/// Snapshots: our own output, kept so that a change of the generator is noticed. Whoever changes
/// one raises `synthetic::VERSION`.
#[test]
fn first_documents_are_unchanged() {
    insta::with_settings!({
        snapshot_path => "../golden/synthetic",
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!("pretraining", text(&Synthetic::pretraining(0), 0, 4));
        for domain in Domain::ALL {
            for distance in [0.0, 0.5, 1.0] {
                let name = format!("{domain}-{distance:.1}");
                insta::assert_snapshot!(name, &*target(domain, distance, 0).document(0).unwrap());
            }
        }
    });
}

#[test]
fn the_hash_tells_sources_apart() {
    let mut hashes = BTreeSet::new();
    for seed in [0, 1] {
        hashes.insert(Synthetic::pretraining(seed).content_hash());
        for domain in Domain::ALL {
            for distance in [0.0, 0.1, 1.0] {
                hashes.insert(target(domain, distance, seed).content_hash());
            }
        }
    }
    assert_eq!(hashes.len(), 32);
    assert!(hashes.iter().all(|hash| hash.len() == 64));
    assert_eq!(
        target(Domain::Code, 0.5, 3).content_hash(),
        target(Domain::Code, 0.5, 3).content_hash()
    );
    // SHA-256 of "synthetic version 1 seed 0 pretraining", by an independent implementation: the
    // generator's version is a part of the hash.
    assert_eq!(
        Synthetic::pretraining(0).content_hash(),
        "ff8e456f8042ddfad9aa11386c3cf77ae23a461ef5718f0f7febfa57ac8bf2a4"
    );
}

#[test]
fn sources_are_unlimited_and_seeds_differ() {
    assert_eq!(Synthetic::pretraining(0).len(), None);
    for domain in [None, Some(Domain::Prose)] {
        let (a, b) = (make((domain, 0.0, 1)), make((domain, 0.0, 2)));
        assert_ne!(a.document(0).unwrap(), b.document(0).unwrap());
        assert!(a.document(u64::MAX).is_ok());
    }
}

#[test]
fn domain_names_round_trip() {
    for domain in Domain::ALL {
        assert_eq!(domain.name().parse::<Domain>().unwrap(), domain);
        assert_eq!(serde_json::to_string(&domain).unwrap(), format!("{:?}", domain.name()));
    }
    let error = "verse".parse::<Domain>().unwrap_err().to_string();
    assert!(error.contains("verse"), "{error}");
    assert!(Domain::ALL.into_iter().all(|domain| error.contains(domain.name())), "{error}");
}

/// Zipf's law: thousands of word types, with frequency about proportional to 1 / rank.
#[test]
fn word_frequencies_follow_zipfs_law() {
    let mut counts = HashMap::new();
    for word in words(&text(&Synthetic::pretraining(0), 0, 2000)) {
        *counts.entry(word).or_insert(0u32) += 1;
    }
    let mut counts: Vec<f64> = counts.into_values().map(f64::from).collect();
    counts.sort_by(|a, b| b.total_cmp(a));
    assert!(counts.len() > 4000, "{} word types", counts.len());
    let slope = (counts[999] / counts[9]).ln() / (1000f64 / 10.0).ln();
    assert!((-1.15..=-0.8).contains(&slope), "slope {slope}");
}

/// Words prefer few successors: knowing the word before makes the next one cheaper by far, and
/// documents come back to their words.
#[test]
fn documents_have_collocations_and_repeat_themselves() {
    let source = Synthetic::pretraining(0);
    let (mut again, mut others) = (0, 0);
    for i in 0..200 {
        let (one, next) = (source.document(2 * i).unwrap(), source.document(2 * i + 1).unwrap());
        let middle = (one.len() / 2..).find(|&m| one.is_char_boundary(m)).unwrap();
        let (early, late) = one.split_at(middle);
        let long = |text: &str| words(text).filter(|w| w.len() > 5).collect::<BTreeSet<_>>();
        let (early, late, next) = (long(early), long(late), long(&next));
        again += late.intersection(&early).count() * 100 / late.len().max(1);
        others += next.intersection(&early).count() * 100 / next.len().max(1);
    }
    assert!(again > 2 * others, "{again} against {others}");

    let train: Vec<String> = words(&text(&source, 0, 6000)).collect();
    let held_out: Vec<String> = words(&text(&source, 1_000_000, 100)).collect();
    let (mut single, mut pairs) = (HashMap::new(), HashMap::new());
    for pair in train.windows(2) {
        *single.entry(pair[0].as_str()).or_insert(0.0) += 1.0;
        *pairs.entry((pair[0].as_str(), pair[1].as_str())).or_insert(0.0) += 1.0;
    }
    let types = single.len() as f64;
    let (mut unigram, mut bigram) = (0.0, 0.0);
    for pair in held_out.windows(2) {
        let count = |word: &str| single.get(word).copied().unwrap_or(0.0);
        let p = (count(&pair[1]) + 1.0) / (train.len() as f64 + types);
        let seen = pairs.get(&(pair[0].as_str(), pair[1].as_str())).copied().unwrap_or(0.0);
        // Dirichlet smoothing with the unigram as its mean and the weight of 20 words.
        let q = (seen + 20.0 * p) / (count(&pair[0]) + 20.0);
        unigram -= p.ln();
        bigram -= q.ln();
    }
    let gain = (unigram - bigram) / held_out.len() as f64;
    assert!(gain > 1.0, "{gain} nats a word");
}

/// Nats a byte of `text` under a table of byte trigrams of `train`, with add-one smoothing.
fn trigram_cross_entropy(train: &HashMap<[u8; 3], u32>, text: &str) -> f64 {
    let bytes = text.as_bytes();
    let mut contexts: HashMap<[u8; 2], u32> = HashMap::new();
    for (&[a, b, _], &n) in train {
        *contexts.entry([a, b]).or_default() += n;
    }
    let count = |n: Option<&u32>| f64::from(n.copied().unwrap_or(0));
    let nats = bytes.windows(3).map(|w| {
        let context = count(contexts.get(&[w[0], w[1]]));
        -((count(train.get(&[w[0], w[1], w[2]])) + 1.0) / (context + 256.0)).ln()
    });
    nats.sum::<f64>() / (bytes.len() - 2) as f64
}

/// The distance does what it says: the farther, the worse the pretraining statistics fit, by
/// letters and by words, in every domain.
#[test]
fn distance_is_monotone_in_every_domain() {
    for seed in [0, 7] {
        let pretraining = text(&Synthetic::pretraining(seed), 0, 1000);
        let mut trigrams = HashMap::new();
        for w in pretraining.as_bytes().windows(3) {
            *trigrams.entry([w[0], w[1], w[2]]).or_default() += 1;
        }
        let known: BTreeSet<String> = words(&pretraining).collect();
        for domain in Domain::ALL {
            let measured = [0.0, 0.25, 0.5, 0.75, 1.0].map(|distance| {
                let text = text(&target(domain, distance, seed), 0, 60);
                let (mut all, mut unknown) = (0.0, 0.0);
                // The markers of instructions are nobody's words.
                for word in words(&text).filter(|word| word != "inst") {
                    all += 1.0;
                    unknown += f64::from(u8::from(!known.contains(&word)));
                }
                (trigram_cross_entropy(&trigrams, &text), unknown / all)
            });
            for pair in measured.windows(2) {
                assert!(pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1, "{domain} {measured:?}");
            }
            // Near: nearly all words are known. Far: nearly none.
            assert!(measured[0].1 < 0.15 && measured[4].1 > 0.8, "{domain} {measured:?}");
            assert!(measured[4].0 > measured[0].0 + 1.0, "{domain} {measured:?}");
        }
    }
}
