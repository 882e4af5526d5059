//! A made-up language: spelling, words and their forms, who goes with whom, topics and facts.

use super::chance::{Alias, low};
use crate::rng::{Draws, Key};
use std::collections::BTreeSet;

/// The open classes of words.
#[derive(Clone, Copy)]
pub(super) enum Class {
    Noun,
    Verb,
    Adjective,
    Adverb,
    Person,
    Place,
}

/// Word types in each class: nearly 4,000, in about 8,000 forms.
const TYPES: [usize; 6] = [1600, 700, 500, 150, 600, 300];

/// Words of each class that a topic favours.
const TOPICAL: [usize; 6] = [60, 30, 24, 10, 12, 6];

/// Roots, of which the first [`SHORT_ROOTS`] have one syllable.
const ROOTS: usize = 400;

/// Roots of one syllable.
const SHORT_ROOTS: usize = 120;

/// Topics of a language.
pub(super) const TOPICS: usize = 40;

/// What the cue word tells about the word that it is linked to. The first five are collocations,
/// the rest are facts about the world.
#[derive(Clone, Copy)]
pub(super) enum Link {
    /// The adjectives of a noun.
    Quality,
    /// From a noun to what it does.
    Act,
    /// The object of a verb.
    Object,
    /// The adverb of a verb.
    Manner,
    /// The noun after "of".
    Part,
    /// The verb of the next sentence.
    Sequel,
    /// The capital of a place.
    Capital,
    /// What a place is known for.
    Product,
    /// Who founded a place.
    Founder,
    /// Where a person was born.
    Birth,
    /// What a person is.
    Trade,
}

/// The cue's class and the linked word's class of each [`Link`].
const LINKS: [(Class, Class); 11] = [
    (Class::Noun, Class::Adjective),
    (Class::Noun, Class::Verb),
    (Class::Verb, Class::Noun),
    (Class::Verb, Class::Adverb),
    (Class::Noun, Class::Noun),
    (Class::Verb, Class::Verb),
    (Class::Place, Class::Place),
    (Class::Place, Class::Noun),
    (Class::Place, Class::Person),
    (Class::Person, Class::Place),
    (Class::Person, Class::Noun),
];

/// Words that the grammar and the components name, besides articles and prepositions. Each is spelt
/// after those before it, so that a new one at the end leaves every other word as it is.
#[derive(Clone, Copy)]
#[rustfmt::skip]
pub(super) enum Role {
    And, But, Or, Of, Because, When, If, Is, Was, He, You, To, In, Has, What, Who, Said, Yes, No,
    With, From, Then, The, Let,
    Capital, Known, Founded, Born, Dear, Greetings, List, Chapter, Mix, Add, Gram, Question,
    Answer, Sum, Left, Times, Shares, Gives, Takes, Well, Report, Today, Define, Return, While,
    Once, Ever, Alas, Thus, Whereas, Upon, Among, Page,
    Sort, Continue,
}

/// Articles: definite or not, by gender and number.
const ARTICLES: usize = 8;

/// Prepositions; every verb governs one of them.
const PREPOSITIONS: usize = 10;

/// Number of words in the closed classes: articles, prepositions, [`Role`]s.
const CLOSED: usize = ARTICLES + PREPOSITIONS + Role::Continue as usize + 1;

/// The closed words before this one are spelt with one syllable.
const SHORT: usize = ARTICLES + PREPOSITIONS + Role::Capital as usize;

/// Ways in which two grammars can differ.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// The adjective follows its noun.
    AdjectiveLast,
    /// The verb follows its object.
    VerbLast,
    /// The adverb opens the sentence.
    AdverbFirst,
    /// The article follows its noun.
    ArticleLast,
    /// The family name comes first.
    FamilyFirst,
    /// Quotations stand between guillemets.
    Guillemets,
    /// Code has braces and semicolons.
    Braces,
    /// Code joins words by capitals, not by underscores.
    Camel,
    /// Plus, minus and times have other signs.
    Signs,
    /// A speaker's name stands on a line of its own.
    NameLine,
}

/// Number of [`Rule`]s.
const RULES: usize = Rule::NameLine as usize + 1;

/// One word type.
pub(super) struct Word {
    /// Nouns: `[singular, plural]`; adjectives: by `2 · gender + number`; verbs: by
    /// `2 · past + number`; persons: `[family name, given name]`.
    pub(super) forms: [Box<str>; 4],
    /// The agreement class of a noun, 0 or 1.
    pub(super) gender: usize,
    /// A number that belongs to the word: which preposition a verb governs, the year in which a
    /// person was born or a place was founded (0 to 399).
    pub(super) detail: usize,
}

impl Word {
    /// `stem`, bare and with three endings.
    fn inflected(stem: &str, endings: &[String], gender: usize, detail: usize) -> Self {
        let forms = std::array::from_fn(|i| match i {
            0 => stem.into(),
            _ => format!("{stem}{}", endings[i - 1]).into(),
        });
        Self { forms, gender, detail }
    }
}

/// The words that a document's subject favours, per class, the commonest first.
pub(super) struct Topic {
    words: [Vec<u16>; 6],
}

/// Everything that a document needs to know besides its own draws.
pub(super) struct Language {
    words: Vec<Vec<Word>>,
    links: Vec<Vec<[u16; 4]>>,
    topics: Vec<Topic>,
    closed: Vec<Box<str>>,
    rules: Vec<bool>,
    common: [Alias; 6],
    topical: [Alias; 6],
    pub(super) topic_ranks: Alias,
}

impl Language {
    /// The language of a key. A `foreign` one has accents, and the opposite grammar.
    pub(super) fn new(key: Key, foreign: bool) -> Self {
        let sounds = Sounds::new(key.named("sounds"), foreign);
        let flat = TYPES.map(|n| Alias::zipf(n, 8));
        let mut draws = Draws::new(key.named("links"));
        let mut pick = |class: Class| flat[class as usize].draw(&mut draws) as u16;
        let links = LINKS.map(|(from, to)| {
            (0..TYPES[from as usize]).map(|_| std::array::from_fn(|_| pick(to))).collect()
        });
        let classes = [
            Class::Noun,
            Class::Verb,
            Class::Adjective,
            Class::Adverb,
            Class::Person,
            Class::Place,
        ];
        let topics = (0..TOPICS)
            .map(|_| Topic {
                words: classes
                    .map(|class| (0..TOPICAL[class as usize]).map(|_| pick(class)).collect()),
            })
            .collect();
        Self {
            words: sounds.lexicon(key.named("lexicon")),
            links: links.into(),
            topics,
            closed: sounds.closed(key.named("closed")),
            rules: vec![foreign; RULES],
            common: TYPES.map(|n| Alias::zipf(n, 3)),
            topical: TOPICAL.map(|n| Alias::zipf(n, 2)),
            topic_ranks: Alias::zipf(TOPICS, 6),
        }
    }

    /// This language with a share `distance` of its word types, collocations, facts, topics and
    /// rules replaced by those of `own`. The choice is nested: what is replaced at one distance
    /// is replaced at every larger one.
    pub(super) fn towards(self, own: Self, distance: f64, key: Key) -> Self {
        fn mix<T>(base: Vec<T>, own: Vec<T>, distance: f64, key: Key) -> Vec<T> {
            let pairs = base.into_iter().zip(own).zip(0..);
            pairs.map(|((b, o), i)| if key.uniform(i) < distance { o } else { b }).collect()
        }
        fn mix_all<T>(base: Vec<Vec<T>>, own: Vec<Vec<T>>, distance: f64, key: Key) -> Vec<Vec<T>> {
            let pairs = base.into_iter().zip(own).zip(0..);
            pairs.map(|((b, o), i)| mix(b, o, distance, key.child(i))).collect()
        }
        Self {
            words: mix_all(self.words, own.words, distance, key.named("words")),
            links: mix_all(self.links, own.links, distance, key.named("links")),
            topics: mix(self.topics, own.topics, distance, key.named("topics")),
            closed: mix(self.closed, own.closed, distance, key.named("closed")),
            rules: mix(self.rules, own.rules, distance, key.named("rules")),
            ..self
        }
    }

    pub(super) fn word(&self, class: Class, i: u16) -> &Word {
        &self.words[class as usize][usize::from(i)]
    }

    /// The four words that `cue` is linked to, the most usual first.
    pub(super) fn linked(&self, link: Link, cue: u16) -> [u16; 4] {
        self.links[link as usize][usize::from(cue)]
    }

    /// A word regardless of the topic, by Zipf's law.
    pub(super) fn common(&self, class: Class, draws: &mut Draws) -> u16 {
        self.common[class as usize].draw(draws) as u16
    }

    /// A word of a topic.
    pub(super) fn topical(&self, topic: usize, class: Class, draws: &mut Draws) -> u16 {
        let rank = self.topical[class as usize].draw(draws);
        self.topics[topic].words[class as usize][rank]
    }

    pub(super) fn article(&self, definite: bool, gender: usize, number: usize) -> &str {
        &self.closed[4 * usize::from(definite) + 2 * gender + number]
    }

    /// The preposition that a verb governs.
    pub(super) fn preposition(&self, verb: u16) -> &str {
        &self.closed[ARTICLES + self.word(Class::Verb, verb).detail % PREPOSITIONS]
    }

    pub(super) fn role(&self, role: Role) -> &str {
        &self.closed[ARTICLES + PREPOSITIONS + role as usize]
    }

    pub(super) fn rule(&self, rule: Rule) -> bool {
        self.rules[rule as usize]
    }
}

/// The syllables of a language.
struct Sounds {
    onsets: Vec<&'static str>,
    nuclei: Vec<&'static str>,
    codas: Vec<&'static str>,
}

#[rustfmt::skip]
mod letters {
    pub(super) const ONSETS: [&str; 30] = [
        "b", "c", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z",
        "br", "cl", "dr", "fl", "gr", "pr", "st", "sh", "th", "tr", "ch", "sp",
    ];
    pub(super) const NUCLEI: [&str; 8] = ["a", "e", "i", "o", "u", "y", "ai", "ou"];
    pub(super) const ACCENTED: [&str; 8] = ["é", "è", "ê", "ö", "ü", "å", "ø", "î"];
    pub(super) const CODAS: [&str; 14] =
        ["n", "r", "s", "l", "t", "m", "d", "k", "nd", "st", "rt", "ll", "ng", "p"];
}

impl Sounds {
    fn new(key: Key, foreign: bool) -> Self {
        let subset = |purpose, pool: &[&'static str], n| {
            let key: Key = key.named(purpose);
            let mut order: Vec<usize> = (0..pool.len()).collect();
            order.sort_by_key(|&i| key.word(i as u64));
            order.into_iter().take(n).map(|i| pool[i]).collect::<Vec<_>>()
        };
        let mut nuclei = subset("nuclei", &letters::NUCLEI, 4);
        if foreign {
            nuclei.extend(subset("accents", &letters::ACCENTED, 2));
        }
        Self {
            onsets: subset("onsets", &letters::ONSETS, 11),
            nuclei,
            codas: subset("codas", &letters::CODAS, 6),
        }
    }

    fn syllable(&self, draws: &mut Draws, out: &mut String) {
        out.push_str(self.onsets[low(draws, self.onsets.len())]);
        out.push_str(self.nuclei[low(draws, self.nuclei.len())]);
    }

    /// A spelling of `syllables` syllables (more, where these run out) that `taken` does not have
    /// yet.
    fn fresh(&self, draws: &mut Draws, syllables: usize, taken: &mut BTreeSet<String>) -> String {
        let mut attempt = 0;
        loop {
            let mut spelling = String::new();
            for _ in 0..syllables + attempt / 16 {
                self.syllable(draws, &mut spelling);
            }
            // Endings begin with a vowel.
            spelling.push_str(self.codas[low(draws, self.codas.len())]);
            if taken.insert(spelling.clone()) {
                break spelling;
            }
            attempt += 1;
        }
    }

    /// `n` different endings.
    fn endings(&self, key: Key, n: usize) -> Vec<String> {
        let mut draws = Draws::new(key);
        let mut endings = Vec::new();
        while endings.len() < n {
            let nucleus = self.nuclei[low(&mut draws, self.nuclei.len())];
            let ending = format!("{nucleus}{}", self.codas[low(&mut draws, self.codas.len())]);
            if !endings.contains(&ending) {
                endings.push(ending);
            }
        }
        endings
    }

    /// The closed classes.
    fn closed(&self, key: Key) -> Vec<Box<str>> {
        let (mut draws, mut taken) = (Draws::new(key), BTreeSet::new());
        (0..CLOSED)
            .map(|i| self.fresh(&mut draws, 1 + usize::from(i >= SHORT), &mut taken).into())
            .collect()
    }

    /// All words, class by class. Stems are made of shared roots and derivational suffixes;
    /// common words have common, short roots.
    fn lexicon(&self, key: Key) -> Vec<Vec<Word>> {
        let (mut draws, mut taken) = (Draws::new(key.named("roots")), BTreeSet::new());
        let roots: Vec<String> = (0..ROOTS)
            .map(|i| self.fresh(&mut draws, 1 + usize::from(i >= SHORT_ROOTS), &mut taken))
            .collect();
        let mut stems = BTreeSet::new();
        let mut inflecting = |class: Class, name: &str| {
            let key = key.named(name);
            let suffixes = self.endings(key.named("suffixes"), 6);
            let endings = self.endings(key.named("endings"), 4);
            let mut draws = Draws::new(key);
            let word = |i: usize| {
                let mut stem = loop {
                    let reach = (60 + 3 * i).min(ROOTS);
                    let mut stem = roots[draws.below(reach as u64) as usize].clone();
                    // Half of the stems have a suffix, an eighth are compounds.
                    if let Some(suffix) = suffixes.get(draws.below(12) as usize) {
                        stem.push_str(suffix);
                    }
                    if draws.below(8) == 0 {
                        stem.push_str(&roots[low(&mut draws, SHORT_ROOTS)]);
                    }
                    if stems.insert(stem.clone()) {
                        break stem;
                    }
                };
                let gender = draws.below(2) as usize;
                // Nouns show their gender.
                if matches!(class, Class::Noun) && gender == 1 {
                    stem.push_str(&endings[3]);
                }
                Word::inflected(&stem, &endings, gender, low(&mut draws, 400))
            };
            (0..TYPES[class as usize]).map(word).collect::<Vec<_>>()
        };
        let mut words = vec![
            inflecting(Class::Noun, "noun"),
            inflecting(Class::Verb, "verb"),
            inflecting(Class::Adjective, "adjective"),
            inflecting(Class::Adverb, "adverb"),
        ];
        words.extend(self.names(key.named("names"), &mut taken));
        words
    }

    /// Persons and places. A quarter of the names are foreign.
    fn names(&self, key: Key, taken: &mut BTreeSet<String>) -> [Vec<Word>; 2] {
        let abroad: Vec<Sounds> =
            (0..4).map(|i| Sounds::new(key.named("abroad").child(i), true)).collect();
        let mut spell = |kind: &str, n: usize| -> Vec<String> {
            let mut draws = Draws::new(key.named(kind));
            (0..n)
                .map(|i| {
                    let sounds = abroad.get(draws.below(16) as usize).unwrap_or(self);
                    capital(&sounds.fresh(&mut draws, 2 + i % 2, taken))
                })
                .collect()
        };
        let (given, family) = (spell("given", 160), spell("family", 500));
        let places = spell("places", TYPES[Class::Place as usize]);
        let mut draws = Draws::new(key);
        let word = |forms: [&str; 4], draws: &mut Draws| Word {
            forms: forms.map(Into::into),
            gender: 0,
            detail: low(draws, 400),
        };
        let people = (0..TYPES[Class::Person as usize]).map(|_| {
            let (given, family) = (&given[low(&mut draws, 160)], &family[low(&mut draws, 500)]);
            word([family, given, "", ""], &mut draws)
        });
        let people = people.collect();
        [people, places.iter().map(|place| word([place, "", "", ""], &mut draws)).collect()]
    }
}

/// `word` with a capital first letter.
fn capital(word: &str) -> String {
    let mut rest = word.chars();
    rest.next().map_or_else(String::new, |c| c.to_uppercase().chain(rest).collect())
}
