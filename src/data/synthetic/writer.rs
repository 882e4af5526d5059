//! Writing one document: choice of words, phrases, sentences.

use super::chance::{chance, low};
use super::language::{Class, Language, Link, Role, Rule, TOPICS};
use crate::rng::{Draws, Key};
use std::fmt::Display;
use std::fmt::Write as _;
use std::ops::Range;

/// How a document's words and sentences are chosen.
#[derive(Clone, Copy)]
pub(super) struct Register {
    /// Percentage of verbs in the past.
    pub(super) past: u64,
    /// Percentage of subjects that are persons.
    pub(super) persons: u64,
    /// Percentage of sentences that go on with a subordinate clause.
    pub(super) subordinate: u64,
    /// Percentage of nouns with an adjective.
    pub(super) adjectives: u64,
}

/// The register of news and of most components.
pub(super) const PLAIN: Register =
    Register { past: 40, persons: 35, subordinate: 20, adjectives: 35 };

/// A person of the document: whose given name and whose family name (the same person's for those
/// that the language knows).
#[derive(Clone, Copy)]
pub(super) struct Person {
    pub(super) given: u16,
    pub(super) family: u16,
}

/// A document being written.
pub(super) struct Writer<'a> {
    pub(super) language: &'a Language,
    pub(super) draws: Draws,
    pub(super) text: String,
    pub(super) register: Register,
    pub(super) cast: [Person; 3],
    pub(super) places: [u16; 2],
    /// The length in bytes at which the document is long enough.
    pub(super) goal: usize,
    topic: usize,
    /// Nouns that were used, to come back to.
    recent: [u16; 4],
    /// The last sentence's verb.
    verb: u16,
    /// Whether the next word follows without a space.
    glued: bool,
}

impl<'a> Writer<'a> {
    /// An empty document, whose choices `key` determines. `topics` are what it can be about.
    pub(super) fn new(language: &'a Language, key: Key, topics: Range<usize>) -> Self {
        let mut draws = Draws::new(key);
        let topic = if topics.len() == TOPICS {
            language.topic_ranks.draw(&mut draws)
        } else {
            topics.start + low(&mut draws, topics.len())
        };
        let cast = std::array::from_fn(|_| {
            let known = if chance(&mut draws, 60) {
                language.topical(topic, Class::Person, &mut draws)
            } else {
                language.common(Class::Person, &mut draws)
            };
            // Some people are met in this document only.
            let family = if chance(&mut draws, 35) {
                language.common(Class::Person, &mut draws)
            } else {
                known
            };
            Person { given: known, family }
        });
        let places = std::array::from_fn(|_| language.topical(topic, Class::Place, &mut draws));
        let recent = std::array::from_fn(|_| language.topical(topic, Class::Noun, &mut draws));
        let verb = language.topical(topic, Class::Verb, &mut draws);
        let goal = 400 + low(&mut draws, 1800);
        Self {
            language,
            text: String::with_capacity(goal + 1000),
            register: PLAIN,
            cast,
            places,
            goal,
            topic,
            recent,
            verb,
            glued: true,
            draws,
        }
    }

    /// Whether the document is long enough.
    pub(super) fn done(&self) -> bool {
        self.text.len() >= self.goal
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        chance(&mut self.draws, percent)
    }

    /// An integer in `range`.
    pub(super) fn number(&mut self, range: Range<u64>) -> u64 {
        range.start + self.draws.below(range.end - range.start)
    }

    /// One of `items`.
    pub(super) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.draws.below(items.len() as u64) as usize]
    }

    /// Adds a word, after a space unless something opened just before.
    pub(super) fn word(&mut self, word: &str) -> &mut Self {
        if !std::mem::take(&mut self.glued) {
            self.text.push(' ');
        }
        self.text.push_str(word);
        self
    }

    /// Adds text as it is; the next word follows without a space.
    pub(super) fn raw(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self.glued = true;
        self
    }

    /// Adds a mark that belongs to the word before it.
    pub(super) fn mark(&mut self, mark: &str) -> &mut Self {
        self.text.push_str(mark);
        self
    }

    /// Adds a mark that belongs to the word after it.
    pub(super) fn open(&mut self, mark: &str) -> &mut Self {
        self.word(mark).glued = true;
        self
    }

    /// Adds a number or another displayed value as a word.
    pub(super) fn value(&mut self, value: impl Display) -> &mut Self {
        self.word("");
        // Writing to a string cannot fail.
        let _ = write!(self.text, "{value}");
        self
    }

    pub(super) fn role(&mut self, role: Role) -> &mut Self {
        self.word(self.language.role(role))
    }

    /// Gives the sentence that began at byte `start` a capital letter.
    pub(super) fn capitalise(&mut self, start: usize) {
        if let Some(first) = self.text.get_mut(start..start + 1) {
            first.make_ascii_uppercase();
        }
    }

    /// Where the next word will begin.
    pub(super) fn mark_start(&self) -> usize {
        self.text.len() + usize::from(!self.glued)
    }

    /// Repeats earlier text.
    pub(super) fn repeat(&mut self, range: Range<usize>) -> &mut Self {
        self.word("");
        self.text.extend_from_within(range);
        self
    }

    /// The heart of the corpus's statistics: a word that the cue is linked to, or one of the
    /// topic's, or any by Zipf's law.
    pub(super) fn choose(&mut self, class: Class, cue: Option<(Link, u16)>) -> u16 {
        let roll = self.draws.below(100);
        match cue {
            Some((link, cue)) if roll < 60 => self.linked(link, cue),
            _ if roll < 92 => self.language.topical(self.topic, class, &mut self.draws),
            _ => self.language.common(class, &mut self.draws),
        }
    }

    /// One of the four words that `cue` is linked to, in proportions 8 : 4 : 2 : 1 and a bit.
    pub(super) fn linked(&mut self, link: Link, cue: u16) -> u16 {
        let rank = (self.draws.word() | 8).trailing_zeros();
        self.language.linked(link, cue)[rank as usize]
    }

    /// The fact about `cue`: always the same word.
    pub(super) fn fact(&self, link: Link, cue: u16) -> u16 {
        self.language.linked(link, cue)[0]
    }

    /// A noun of the topic, or one that came before.
    pub(super) fn noun(&mut self, cue: Option<(Link, u16)>) -> u16 {
        let noun = if self.chance(35) {
            self.pick(&self.recent.clone())
        } else {
            self.choose(Class::Noun, cue)
        };
        let slot = self.draws.below(4) as usize;
        self.recent[slot] = noun;
        noun
    }

    /// Adds form `form` of a word.
    pub(super) fn form(&mut self, class: Class, word: u16, form: usize) -> &mut Self {
        self.word(&self.language.word(class, word).forms[form])
    }

    /// Adds a bare noun phrase, an adjective and a noun that agree, without an article.
    pub(super) fn qualified(&mut self, noun: u16, plural: usize, adjectives: u64) -> &mut Self {
        let adjective = self
            .chance(adjectives)
            .then(|| self.choose(Class::Adjective, Some((Link::Quality, noun))));
        self.agreeing(noun, plural, adjective)
    }

    /// Adds a noun and an adjective, if there is one, that agrees with it.
    pub(super) fn agreeing(
        &mut self,
        noun: u16,
        plural: usize,
        adjective: Option<u16>,
    ) -> &mut Self {
        let gender = self.language.word(Class::Noun, noun).gender;
        let last = self.language.rule(Rule::AdjectiveLast);
        if let Some(adjective) = adjective.filter(|_| !last) {
            self.form(Class::Adjective, adjective, 2 * gender + plural);
        }
        self.form(Class::Noun, noun, plural);
        if let Some(adjective) = adjective.filter(|_| last) {
            self.form(Class::Adjective, adjective, 2 * gender + plural);
        }
        self
    }

    /// Adds a noun phrase about `noun`; article, adjective and noun agree in gender and number.
    pub(super) fn noun_phrase(&mut self, noun: u16, plural: usize) {
        let gender = self.language.word(Class::Noun, noun).gender;
        let definite = self.chance(65);
        let article = self.language.article(definite, gender, plural);
        let last = self.language.rule(Rule::ArticleLast);
        if !last {
            self.word(article);
        }
        self.qualified(noun, plural, self.register.adjectives);
        if last {
            self.word(article);
        }
        if self.chance(14) {
            let part = self.choose(Class::Noun, Some((Link::Part, noun)));
            self.role(Role::Of).qualified(part, 0, 0);
        }
    }

    /// Adds a person's name: in full, or the family name or the given name alone.
    pub(super) fn name(&mut self, person: Person, full: bool) -> &mut Self {
        let form = |i: u16, form: usize| &*self.language.word(Class::Person, i).forms[form];
        let (family, given) = (form(person.family, 0), form(person.given, 1));
        if !full {
            let short = if self.language.rule(Rule::FamilyFirst) { given } else { family };
            self.word(short)
        } else if self.language.rule(Rule::FamilyFirst) {
            self.word(family).word(given)
        } else {
            self.word(given).word(family)
        }
    }

    /// Adds one of the document's persons.
    pub(super) fn someone(&mut self) -> Person {
        let person = self.cast[low(&mut self.draws, 3)];
        let full = self.chance(30);
        self.name(person, full);
        person
    }

    pub(super) fn place(&mut self) -> &mut Self {
        let place = self.pick(&self.places.clone());
        self.form(Class::Place, place, 0)
    }

    /// Adds a clause without a mark at its end; subject and verb agree in number across what
    /// stands between them, and the words cue each other.
    pub(super) fn clause(&mut self) {
        let adverb_first = self.language.rule(Rule::AdverbFirst);
        let tense = 2 * usize::from(self.chance(self.register.past));
        let (cue, number) = if self.chance(self.register.persons) {
            if self.chance(30) {
                self.role(Role::He);
            } else {
                self.someone();
            }
            ((Link::Sequel, self.verb), 0)
        } else {
            let (noun, plural) = (self.noun(None), usize::from(self.chance(30)));
            self.noun_phrase(noun, plural);
            ((Link::Act, noun), plural)
        };
        let verb = self.choose(Class::Verb, Some(cue));
        self.verb = verb;
        let manner =
            self.chance(18).then(|| self.choose(Class::Adverb, Some((Link::Manner, verb))));
        if let Some(manner) = manner.filter(|_| adverb_first) {
            self.form(Class::Adverb, manner, 0);
        }
        let verb_last = self.language.rule(Rule::VerbLast);
        if !verb_last {
            self.form(Class::Verb, verb, tense + number);
        }
        if self.chance(75) {
            let (object, plural) =
                (self.noun(Some((Link::Object, verb))), usize::from(self.chance(35)));
            self.noun_phrase(object, plural);
        }
        if verb_last {
            self.form(Class::Verb, verb, tense + number);
        }
        if let Some(manner) = manner.filter(|_| !adverb_first) {
            self.form(Class::Adverb, manner, 0);
        }
        if self.chance(30) {
            self.word(self.language.preposition(verb));
            if self.chance(35) {
                self.place();
            } else {
                let noun = self.noun(None);
                self.noun_phrase(noun, 0);
            }
        }
    }

    /// Adds a sentence that ends in `end`, and says where it stands without that end.
    pub(super) fn sentence(&mut self, end: &str) -> Range<usize> {
        let start = self.mark_start();
        self.clause();
        if self.chance(self.register.subordinate) {
            let joint =
                self.pick(&[Role::And, Role::But, Role::Because, Role::When, Role::If, Role::Or]);
            self.mark(",").role(joint).clause();
        }
        self.capitalise(start);
        let range = start..self.text.len();
        self.mark(end);
        range
    }

    /// Adds a paragraph of a few sentences.
    pub(super) fn paragraph(&mut self) {
        for _ in 0..self.number(2..6) {
            self.sentence(".");
        }
        self.raw("\n\n");
    }

    /// Adds a title: a qualified noun with a capital letter.
    pub(super) fn title(&mut self) -> Range<usize> {
        let start = self.mark_start();
        let noun = self.noun(None);
        self.qualified(noun, 0, 70);
        self.capitalise(start);
        start..self.text.len()
    }

    /// Puts what `inside` writes in quotation marks.
    pub(super) fn quoted<T>(&mut self, inside: impl FnOnce(&mut Self) -> T) -> T {
        let (open, close) =
            if self.language.rule(Rule::Guillemets) { ("«", "»") } else { ("\"", "\"") };
        self.open(open);
        let result = inside(self);
        self.mark(close);
        result
    }
}
