//! What documents are about and look like: one function for each component of the mixture and
//! for each target domain.

use super::chance::low;
use super::language::{Class, Link, Role, Rule};
use super::writer::{Person, Register, Writer};

/// What writes a document.
type Component = fn(&mut Writer);

/// The components of the pretraining mixture, with their weights in documents.
pub(super) const MIXTURE: [(u64, Component); 11] = [
    (22, news),
    (22, encyclopedia),
    (16, narrative),
    (8, letter),
    (7, minutes),
    (6, trivia),
    (5, recipe),
    (5, catalogue),
    (4, dialogue),
    (3, code),
    (2, arithmetic),
];

/// A headline, a dateline, paragraphs, statements by the persons concerned.
fn news(w: &mut Writer) {
    w.title();
    w.raw("\n\n").place().mark(",");
    let day = w.number(1..29);
    w.value(day).role(Role::Today).mark(":");
    let mut said = w.sentence(".");
    while !w.done() {
        w.paragraph();
        if w.chance(60) {
            // A statement is quoted once more later on.
            said = if w.chance(35) {
                w.quoted(|w| {
                    w.repeat(said.clone()).mark(",");
                    said
                })
            } else {
                w.quoted(|w| w.sentence(","))
            };
            w.role(Role::Said).someone();
            w.mark(".");
        }
    }
}

/// Entries on places and persons, whose facts never change.
fn encyclopedia(w: &mut Writer) {
    while !w.done() {
        if w.chance(50) {
            place_entry(w)
        } else {
            person_entry(w)
        }
        for _ in 0..w.number(1..3) {
            w.sentence(".");
        }
        w.raw("\n\n");
    }
}

fn place_entry(w: &mut Writer) {
    let place = w.choose(Class::Place, None);
    w.form(Class::Place, place, 0).raw("\n").form(Class::Place, place, 0);
    w.role(Role::Is).role(Role::Known).role(Role::With);
    let product = w.fact(Link::Product, place);
    w.form(Class::Noun, product, 1).mark(".");
    capital(w, place);
    founding(w, place);
    w.places = [place, w.fact(Link::Capital, place)];
}

/// The sentence that names the capital of a place.
pub(super) fn capital(w: &mut Writer, place: u16) {
    let start = w.mark_start();
    let capital = w.fact(Link::Capital, place);
    w.role(Role::The).role(Role::Capital).role(Role::Of).form(Class::Place, place, 0);
    w.role(Role::Is).form(Class::Place, capital, 0).mark(".").capitalise(start);
}

/// The sentence that says when and by whom a place was founded.
pub(super) fn founding(w: &mut Writer, place: u16) {
    let start = w.mark_start();
    let founder = w.fact(Link::Founder, place);
    let year = 1400 + w.language.word(Class::Place, place).detail;
    let founder = Person { given: founder, family: founder };
    w.role(Role::Founded).role(Role::In).value(year).role(Role::With).name(founder, true);
    w.mark(".").capitalise(start);
}

fn person_entry(w: &mut Writer) {
    let known = w.choose(Class::Person, None);
    let person = Person { given: known, family: known };
    let year = 1500 + w.language.word(Class::Person, known).detail;
    w.name(person, true).raw("\n").name(person, true).open("(").value(year).mark(")");
    w.role(Role::Was);
    let (trade, birth) = (w.fact(Link::Trade, known), w.fact(Link::Birth, known));
    w.qualified(trade, 0, 50).mark(",").role(Role::Born).role(Role::In);
    w.form(Class::Place, birth, 0).mark(".");
    w.cast[0] = person;
    w.places[0] = birth;
}

/// A story in the past about few persons.
fn narrative(w: &mut Writer) {
    w.register = Register { past: 95, persons: 60, subordinate: 30, adjectives: 20 };
    w.role(Role::Once).role(Role::In).place().mark(",").clause();
    w.mark(".");
    while !w.done() {
        w.paragraph();
        if w.chance(30) {
            w.quoted(|w| w.sentence("!"));
            w.role(Role::Said).someone();
            w.raw(".\n\n");
        }
    }
}

/// A letter; the signature names who was announced at its head.
fn letter(w: &mut Writer) {
    w.register = Register { past: 30, persons: 45, subordinate: 35, adjectives: 25 };
    let (from, to) = (w.cast[0], w.cast[1]);
    w.role(Role::From).mark(":").name(from, true).raw("\n").role(Role::To).mark(":");
    w.name(to, true).raw("\n\n").role(Role::Dear).name(to, false).raw(",\n\n");
    while !w.done() {
        w.paragraph();
    }
    w.role(Role::Greetings).raw("\n").name(from, true).raw("\n");
}

/// Minutes of a meeting: numbered points, who was there, who takes what.
fn minutes(w: &mut Writer) {
    w.role(Role::Report).mark(":");
    w.title();
    w.raw("\n");
    for person in w.cast {
        w.raw("- ").name(person, true).raw("\n");
    }
    let mut point = 0;
    while !w.done() {
        point += 1;
        w.value(point).mark(".");
        w.sentence(".");
        w.role(Role::Takes).mark(":").someone();
        w.raw("\n");
    }
}

/// Questions about the facts of places and persons.
fn trivia(w: &mut Writer) {
    while !w.done() {
        let place = w.choose(Class::Place, None);
        if w.chance(50) {
            capital_question(w, place);
            capital(w, place);
        } else {
            founding_question(w, place);
            founding(w, place);
        }
        w.raw("\n");
    }
}

/// The question that [`capital`] answers.
pub(super) fn capital_question(w: &mut Writer, place: u16) {
    let start = w.mark_start();
    w.role(Role::What).role(Role::Is).role(Role::The).role(Role::Capital);
    w.role(Role::Of).form(Class::Place, place, 0).mark("?").capitalise(start);
}

/// The question that [`founding`] answers.
pub(super) fn founding_question(w: &mut Writer, place: u16) {
    let start = w.mark_start();
    w.role(Role::Who).role(Role::Founded).form(Class::Place, place, 0).mark("?");
    w.capitalise(start);
}

/// A list of parts with amounts, then steps that use them in turn.
fn recipe(w: &mut Writer) {
    while !w.done() {
        w.title();
        w.raw("\n");
        let parts: [u16; 5] = std::array::from_fn(|_| w.choose(Class::Noun, None));
        for &part in &parts {
            let amount = 5 * w.number(1..40);
            w.raw("- ").value(amount).role(Role::Gram).qualified(part, 0, 30).raw("\n");
        }
        for (step, &part) in parts.iter().enumerate() {
            let how = w.pick(&[Role::Mix, Role::Add]);
            w.value(step + 1).mark(".").role(how).role(Role::The).form(Class::Noun, part, 0);
            w.role(Role::With).role(Role::The).form(Class::Noun, parts[(step + 1) % 5], 0);
            w.raw(".\n");
        }
        w.raw("\n");
    }
}

/// Records with the same fields in the same order.
fn catalogue(w: &mut Writer) {
    w.role(Role::List).mark(":");
    w.title();
    w.raw("\n");
    let mut page = w.number(1..50);
    while !w.done() {
        page += w.number(1..6);
        let noun = w.noun(None);
        let part = w.choose(Class::Noun, Some((Link::Part, noun)));
        w.raw("* ").qualified(noun, 0, 60).mark(";").form(Class::Noun, part, 1).mark(";");
        w.someone();
        w.mark(";").role(Role::Page).value(page).raw("\n");
    }
}

/// Turns of two or three speakers, who ask, answer and take up what was said.
pub(super) fn dialogue(w: &mut Writer) {
    w.register = Register { past: 20, persons: 25, subordinate: 10, adjectives: 20 };
    let (mut speaker, mut said) = (0, 0..0);
    let apart = if w.language.rule(Rule::NameLine) { "\n— " } else { ": " };
    while !w.done() {
        w.name(w.cast[speaker], false).raw(apart);
        if !said.is_empty() {
            if w.chance(25) {
                w.repeat(said.clone()).mark("?");
            } else if w.chance(40) {
                let opening = w.pick(&[Role::Yes, Role::No, Role::Well, Role::Alas]);
                w.role(opening).mark(",");
            }
        }
        let end = w.pick(&[".", ".", "?", "!"]);
        said = w.sentence(end);
        if w.chance(35) {
            let addressed = w.cast[(speaker + 1 + low(&mut w.draws, 2)) % 3];
            w.role(Role::You).mark(",").name(addressed, false).mark("?");
        }
        w.raw("\n");
        speaker = (speaker + 1 + low(&mut w.draws, 2)) % 3;
    }
}

/// Sums in figures and in words, each followed by its equation.
pub(super) fn arithmetic(w: &mut Writer) {
    while !w.done() {
        let (a, b) = (w.number(2..100), w.number(2..100));
        match w.number(0..5) {
            4 => word_problem(w, a, b),
            operation => {
                let sum = Sum::new(operation as usize, a, b);
                w.role(Role::Question).mark(":");
                sum.question(w);
                w.raw("\n").role(Role::Answer).mark(":");
                sum.result(w);
                w.raw(".\n");
            }
        }
    }
}

/// The signs of addition, subtraction, multiplication and division.
const SIGNS: [[&str; 4]; 2] = [["+", "-", "*", "/"], ["+", "−", "×", "÷"]];

fn sign(w: &Writer, operation: usize) -> &'static str {
    SIGNS[usize::from(w.language.rule(Rule::Signs))][operation]
}

/// Two numbers and what is done with them.
pub(super) struct Sum {
    a: u64,
    /// The index of the operation in [`SIGNS`].
    operation: usize,
    b: u64,
}

impl Sum {
    /// A sum without a negative or broken result, from two numbers from 2 to 99.
    pub(super) fn new(operation: usize, a: u64, b: u64) -> Self {
        let (a, b) = match operation {
            0 => (a, b),
            1 => (a + b, a),
            2 => (a % 20 + 2, b % 12 + 2),
            _ => ((a % 20 + 2) * (b % 12 + 2), b % 12 + 2),
        };
        Self { a, operation, b }
    }

    /// Asks for the result, by a word for the operation and in figures.
    pub(super) fn question(&self, w: &mut Writer) {
        let word = [Role::Sum, Role::Left, Role::Times, Role::Shares][self.operation];
        let sign = sign(w, self.operation);
        w.role(Role::What).role(Role::Is).role(word).value(self.a).word(sign).value(self.b);
        w.mark("?");
    }

    /// Writes the equation; the value is its right side.
    pub(super) fn result(&self, w: &mut Writer) -> u64 {
        let result = match self.operation {
            0 => self.a + self.b,
            1 => self.a - self.b,
            2 => self.a * self.b,
            _ => self.a / self.b,
        };
        let sign = sign(w, self.operation);
        w.value(self.a).word(sign).value(self.b).word("=").value(result);
        result
    }
}

/// Somebody has things, then gets or gives some, perhaps several times.
fn word_problem(w: &mut Writer, mut amount: u64, mut change: u64) {
    let noun = w.noun(None);
    let start = w.mark_start();
    w.someone();
    w.role(Role::Has).value(amount).qualified(noun, 1, 30).mark(".").capitalise(start);
    for _ in 0..w.number(1..4) {
        let gains = change > amount || w.chance(50);
        w.role(Role::Then).role(if gains { Role::Takes } else { Role::Gives }).value(change);
        w.form(Class::Noun, noun, 1).mark(":");
        amount = Sum { a: amount, operation: usize::from(!gains), b: change }.result(w);
        w.mark(".");
        change = w.number(2..50);
    }
    w.raw("\n");
}

/// Definitions of functions that work on their parameters and call one another.
pub(super) fn code(w: &mut Writer) {
    let mut defined: Vec<(u16, u16)> = Vec::new();
    let braces = w.language.rule(Rule::Braces);
    let (open, end) = if braces { (" {\n", ";\n") } else { (":\n", "\n") };
    while !w.done() {
        let verb = w.choose(Class::Verb, None);
        let function = (verb, w.noun(Some((Link::Object, verb))));
        let names: [u16; 3] = std::array::from_fn(|_| w.noun(None));
        w.role(Role::Define);
        call(w, function, &names[..2]);
        w.raw(open);
        for _ in 0..w.number(2..6) {
            w.raw("    ");
            let name = w.pick(&names);
            let nested = w.chance(25);
            if nested {
                let opening = w.pick(&[Role::While, Role::If]);
                let bound = w.number(0..100);
                w.role(opening).form(Class::Noun, name, 0).word("<").value(bound).raw(open);
                w.raw("        ");
            } else if w.chance(30) {
                w.role(Role::Let);
            }
            w.form(Class::Noun, name, 0).word("=");
            match defined.last() {
                Some(_) if w.chance(50) => {
                    let callee = w.pick(&defined);
                    let arguments = [w.pick(&names), w.pick(&names)];
                    call(w, callee, &arguments);
                }
                _ => {
                    let (other, constant) = (w.pick(&names), w.number(1..50));
                    let operation = w.pick(&["+", "-", "*"]);
                    w.form(Class::Noun, other, 0).word(operation).value(constant);
                }
            }
            w.raw(end);
            if nested && braces {
                w.raw("    }\n");
            }
        }
        w.raw("    ").role(Role::Return).form(Class::Noun, names[0], 0).raw(end);
        w.raw(if braces { "}\n\n" } else { "\n" });
        defined.push(function);
    }
}

/// A function's name and its parameters or arguments.
fn call(w: &mut Writer, (verb, noun): (u16, u16), names: &[u16]) {
    w.form(Class::Verb, verb, 0);
    if w.language.rule(Rule::Camel) {
        let start = w.text.len();
        w.raw("").form(Class::Noun, noun, 0).capitalise(start);
    } else {
        w.raw("_").form(Class::Noun, noun, 0);
    }
    w.raw("(");
    for (i, &name) in names.iter().enumerate() {
        if i > 0 {
            w.mark(",");
        }
        w.form(Class::Noun, name, 0);
    }
    w.mark(")");
}

/// Chapters of long sentences in an older register, with a refrain.
pub(super) fn prose(w: &mut Writer) {
    w.register = Register { past: 85, persons: 25, subordinate: 75, adjectives: 60 };
    let chapter = w.number(1..40);
    w.role(Role::Chapter).value(chapter).mark(".");
    w.title();
    w.raw("\n\n");
    let mut refrain = w.sentence(".");
    while !w.done() {
        for _ in 0..w.number(1..4) {
            let opening = w.pick(&[Role::Thus, Role::Alas, Role::Whereas, Role::Ever]);
            let start = w.mark_start();
            w.role(opening).mark(",").clause();
            w.capitalise(start);
            let joint = w.pick(&[Role::Upon, Role::Among]);
            w.mark(";").role(joint).clause();
            w.mark(",").role(Role::And);
            w.clause();
            w.mark(".");
        }
        if w.chance(30) {
            w.repeat(refrain.clone()).mark("!");
        } else {
            refrain = w.sentence(".");
        }
        w.raw("\n\n");
    }
}
