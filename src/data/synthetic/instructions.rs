//! The instruction-tuned domain: tasks between markers, each with its answer.
//!
//! Stands for the paper's Open Hermes (Teknium, 2023), whose instruction part lies between [INST]
//! and [/INST]. The tasks are ours, and the answer follows from the instruction wherever there is
//! one right answer: facts and definitions are the same in every document, sums are right, lists
//! are sorted.

use super::components::{self, Sum};
use super::language::{Class, Link, Role};
use super::writer::{Register, Writer};
use std::ops::Range;

/// Opens the instruction.
const OPEN: &str = "[INST]";

/// Ends the instruction.
const CLOSE: &str = "[/INST]";

/// Exchanges of an instruction and its answer, one a line.
pub(super) fn instructions(w: &mut Writer) {
    w.register = Register { past: 25, persons: 30, subordinate: 25, adjectives: 30 };
    while !w.done() {
        w.word(OPEN);
        match w.number(0..6) {
            0 => define(w),
            1 => capital(w),
            2 => founder(w),
            3 => sum(w),
            4 => sort(w),
            _ => go_on(w),
        }
        w.raw("\n");
    }
}

/// The bytes of the answers in such a text, each with the end of its line. No task writes a marker.
pub(super) fn answers(text: &str) -> Vec<Range<usize>> {
    let mut end = 0;
    let of_line = |line: &str| {
        let start = end;
        end += line.len();
        line.find(CLOSE).map(|at| start + at + CLOSE.len()..end)
    };
    text.split_inclusive('\n').filter_map(of_line).collect()
}

/// What a noun is: its kind, its quality, what it does. Always the same for the same noun; the few
/// nouns that are spelt alike have a definition each.
fn define(w: &mut Writer) {
    let noun = w.noun(None);
    let start = w.mark_start();
    w.role(Role::What).role(Role::Is).form(Class::Noun, noun, 0).mark("?").capitalise(start);
    w.word(CLOSE);
    let start = w.mark_start();
    let (kind, act) = (w.fact(Link::Part, noun), w.fact(Link::Act, noun));
    let (quality, object) = (w.fact(Link::Quality, kind), w.fact(Link::Object, act));
    w.form(Class::Noun, noun, 0).role(Role::Is);
    w.agreeing(kind, 0, Some(quality)).mark(",").role(Role::Who);
    w.form(Class::Verb, act, 0).form(Class::Noun, object, 1).mark(".").capitalise(start);
}

fn capital(w: &mut Writer) {
    let place = w.choose(Class::Place, None);
    components::capital_question(w, place);
    w.word(CLOSE);
    components::capital(w, place);
}

fn founder(w: &mut Writer) {
    let place = w.choose(Class::Place, None);
    components::founding_question(w, place);
    w.word(CLOSE);
    components::founding(w, place);
}

fn sum(w: &mut Writer) {
    let (operation, a, b) = (w.number(0..4), w.number(2..100), w.number(2..100));
    let sum = Sum::new(operation as usize, a, b);
    let start = w.mark_start();
    sum.question(w);
    w.capitalise(start);
    w.word(CLOSE);
    sum.result(w);
    w.mark(".");
}

/// A list of numbers in any order, then in ascending order.
fn sort(w: &mut Writer) {
    let mut numbers: Vec<u64> = (0..w.number(3..7)).map(|_| w.number(1..100)).collect();
    let start = w.mark_start();
    w.role(Role::Sort).capitalise(start);
    w.mark(":");
    list(w, &numbers);
    w.word(CLOSE);
    numbers.sort_unstable();
    list(w, &numbers);
}

fn list(w: &mut Writer, numbers: &[u64]) {
    for (i, number) in numbers.iter().enumerate() {
        w.value(number).mark(if i + 1 < numbers.len() { "," } else { "." });
    }
}

/// A sentence to go on with, and what comes next.
fn go_on(w: &mut Writer) {
    let start = w.mark_start();
    w.role(Role::Continue).capitalise(start);
    w.mark(":");
    w.sentence(".");
    w.word(CLOSE);
    for _ in 0..w.number(1..4) {
        w.sentence(".");
    }
}
