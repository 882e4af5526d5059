//! Which pieces a text is best made of: a unigram language model, learnt by expectation
//! maximisation from a surplus of pieces that is pruned step by step.

use crate::parallel::in_order;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;

/// Characters of the longest piece.
pub(super) const LONGEST: usize = 16;
/// The most pieces to begin with.
const MOST_SEEDS: usize = 1_000_000;
/// A piece that occurs once is no regularity.
const LEAST_FREQUENCY: u64 = 2;
/// Steps of expectation maximisation before each pruning.
const STEPS: usize = 2;
/// The share of the pieces that survives a pruning.
const SURVIVE: f64 = 0.75;
/// The last pruning leaves so many times the pieces that are wanted.
const SURPLUS: f64 = 1.1;
/// A piece that is expected less often than this is dropped.
const LEAST_EXPECTED: f64 = 0.5;
/// Parts of the text that are counted on their own and then added up in order, so that sums do
/// not depend on the number of threads.
const PARTS: usize = 8;

/// The `wanted` pieces, or fewer, that describe the segments best, with the natural logarithms of
/// their probabilities: the likeliest first, equally likely ones by their text.
///
/// `segments` are stretches of text with how often they occur; a piece lies within one. Every
/// character of a segment is a piece, also where the segment occurs 0 times.
pub(super) fn learn(segments: &BTreeMap<String, u64>, wanted: usize) -> Vec<(String, f64)> {
    let mut lattice = Lattice::new(segments);
    let enough = (SURPLUS * wanted as f64) as usize;
    loop {
        for _ in 0..STEPS {
            let expected = lattice.expected();
            lattice.maximise(&expected);
        }
        let alive = lattice.alive().count();
        if alive <= enough {
            break;
        }
        lattice.prune(enough.max((SURVIVE * alive as f64) as usize));
    }
    let text = |id: usize| lattice.text(id);
    let mut pieces: Vec<(bool, String, f64)> = lattice
        .alive()
        .map(|id| (lattice.is_character(id), text(id), lattice.scores[id]))
        .collect();
    pieces.sort_unstable_by(|a, b| {
        b.0.cmp(&a.0).then(b.2.total_cmp(&a.2)).then_with(|| a.1.cmp(&b.1))
    });
    pieces.truncate(wanted);
    pieces.sort_unstable_by(|a, b| b.2.total_cmp(&a.2).then_with(|| a.1.cmp(&b.1)));
    pieces.into_iter().map(|(_, text, score)| (text, score)).collect()
}

/// All segments, one after the other, with the pieces that begin at each character.
struct Lattice {
    characters: Vec<char>,
    segments: Vec<Segment>,
    /// Where each piece occurs for the first time, and its characters.
    pieces: Vec<(u32, u32)>,
    /// The logarithm of each piece's probability; −∞ once it is dropped.
    scores: Vec<f64>,
    /// The pieces that begin at character i are `begin[first[i]..first[i + 1]]`, the shortest first.
    first: Vec<u32>,
    begin: Vec<u32>,
    threads: usize,
}

/// A stretch of the text and how often it occurs.
struct Segment {
    at: Range<usize>,
    count: u64,
}

impl Lattice {
    fn new(texts: &BTreeMap<String, u64>) -> Self {
        let mut characters = Vec::new();
        let mut segments = Vec::new();
        for (text, &count) in texts {
            let start = characters.len();
            characters.extend(text.chars());
            segments.push(Segment { at: start..characters.len(), count });
        }
        let (seeds, order) = seeds(&characters, &segments);
        let total: f64 = seeds.iter().map(Seed::weight).sum();
        let mut first = vec![0u32; characters.len() + 1];
        for seed in &seeds {
            order[seed.places.clone()].iter().for_each(|&at| first[at as usize + 1] += 1);
        }
        for i in 0..characters.len() {
            first[i + 1] += first[i];
        }
        let mut next = first.clone();
        let mut begin = vec![0u32; first[characters.len()] as usize];
        for (id, seed) in seeds.iter().enumerate() {
            for &at in &order[seed.places.clone()] {
                begin[next[at as usize] as usize] = id as u32;
                next[at as usize] += 1;
            }
        }
        Self {
            pieces: seeds.iter().map(|seed| (order[seed.places.start], seed.length)).collect(),
            scores: seeds.iter().map(|seed| libm::log(seed.weight() / total)).collect(),
            characters,
            segments,
            first,
            begin,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    fn alive(&self) -> impl Iterator<Item = usize> {
        (0..self.pieces.len()).filter(|&id| self.scores[id] > f64::NEG_INFINITY)
    }

    fn is_character(&self, id: usize) -> bool {
        self.pieces[id].1 == 1
    }

    fn text(&self, id: usize) -> String {
        let (start, length) = self.pieces[id];
        self.characters[start as usize..(start + length) as usize].iter().collect()
    }

    /// The pieces that begin at a character and end by `end`: ids and lengths.
    fn from(&self, at: usize, end: usize) -> impl Iterator<Item = (usize, usize)> {
        let range = self.first[at] as usize..self.first[at + 1] as usize;
        self.begin[range]
            .iter()
            .map(|&id| (id as usize, self.pieces[id as usize].1 as usize))
            .filter(move |&(_, length)| at + length <= end)
    }

    /// How often each piece is expected in the text, over all ways to write every segment.
    fn expected(&self) -> Vec<f64> {
        self.in_parts(|segments, expected| {
            let (mut before, mut after) = (Vec::new(), Vec::new());
            for Segment { at, count } in segments {
                let (start, length) = (at.start, at.len());
                // Logarithms of the probabilities of what lies before a character, and after it.
                for side in [&mut before, &mut after] {
                    side.clear();
                    side.resize(length + 1, f64::NEG_INFINITY);
                }
                before[0] = 0.0;
                for i in 0..length {
                    for (id, n) in self.from(start + i, at.end) {
                        before[i + n] = log_of_sum(before[i + n], before[i] + self.scores[id]);
                    }
                }
                after[length] = 0.0;
                for i in (0..length).rev() {
                    for (id, n) in self.from(start + i, at.end) {
                        after[i] = log_of_sum(after[i], self.scores[id] + after[i + n]);
                    }
                }
                for i in 0..length {
                    for (id, n) in self.from(start + i, at.end) {
                        let share = before[i] + self.scores[id] + after[i + n] - before[length];
                        expected[id] += *count as f64 * libm::exp(share);
                    }
                }
            }
        })
    }

    /// How often each piece occurs where every segment is written in its likeliest way.
    fn frequencies(&self) -> Vec<f64> {
        self.in_parts(|segments, frequencies| {
            let mut best = Vec::new();
            for Segment { at, count } in segments {
                self.write(at.clone(), None, &mut best);
                for_each_of_path(&best, |id, _| frequencies[id] += *count as f64);
            }
        })
    }

    /// Sums over the segments: `add` adds up those of a part.
    fn in_parts(&self, add: impl Fn(&[Segment], &mut [f64]) + Sync) -> Vec<f64> {
        let parts: Vec<&[Segment]> =
            self.segments.chunks(self.segments.len().div_ceil(PARTS).max(1)).collect();
        let mut sum = vec![0.0; self.pieces.len()];
        for together in parts.chunks(self.threads.clamp(1, PARTS)) {
            let sum_of = |i: usize| {
                let mut sum = vec![0.0; self.pieces.len()];
                add(together[i], &mut sum);
                sum
            };
            for part in in_order(together.len(), together.len(), sum_of) {
                sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
            }
        }
        sum
    }

    /// The likeliest way to write a stretch, without one piece: `best[i]` is its logarithm up to
    /// character i, with the piece that ends there and where that begins.
    fn write(&self, at: Range<usize>, without: Option<usize>, best: &mut Vec<Best>) {
        best.clear();
        best.resize(at.len() + 1, (f64::NEG_INFINITY, 0, 0));
        best[0].0 = 0.0;
        for i in 0..at.len() {
            for (id, n) in self.from(at.start + i, at.end) {
                let score = best[i].0 + self.scores[id];
                if score > best[i + n].0 && without != Some(id) {
                    best[i + n] = (score, id as u32, i as u32);
                }
            }
        }
    }

    /// New probabilities from how often the pieces are expected; the rare ones are dropped. The
    /// digamma function in place of the logarithm takes most from what is rare: a sparse prior.
    fn maximise(&mut self, expected: &[f64]) {
        let kept = |lattice: &Self, id: usize| {
            if lattice.is_character(id) {
                Some(expected[id].max(LEAST_EXPECTED))
            } else {
                Some(expected[id]).filter(|&expected| expected >= LEAST_EXPECTED)
            }
        };
        let total: f64 = self.alive().filter_map(|id| kept(self, id)).sum();
        for id in 0..self.pieces.len() {
            self.scores[id] = match kept(self, id) {
                Some(expected) => digamma(expected) - digamma(total),
                None => f64::NEG_INFINITY,
            };
        }
        self.forget();
    }

    /// Keeps the characters and those of the other pieces, `target` in all, without which the
    /// text would lose most of its likelihood. What a piece stands for is then written in its
    /// likeliest way without it.
    fn prune(&mut self, target: usize) {
        let frequencies = self.frequencies();
        let total: f64 = frequencies.iter().sum();
        let (mut others, mut best) = (Vec::new(), Vec::new());
        let mut characters = 0;
        for id in self.alive() {
            if self.is_character(id) {
                characters += 1;
                continue;
            }
            let (start, length) = self.pieces[id];
            let frequency = frequencies[id];
            self.write(start as usize..(start + length) as usize, Some(id), &mut best);
            // What is likelier written otherwise never occurs.
            if frequency == 0.0 || best[length as usize].0 >= self.scores[id] {
                continue;
            }
            let (mut count, mut without) = (0, 0.0);
            for_each_of_path(&best, |id, _| {
                count += 1;
                without += libm::log(frequencies[id] + frequency);
            });
            let all = libm::log(total + frequency * f64::from(count - 1));
            let loss =
                (libm::log(frequency) - libm::log(total)) - (without - f64::from(count) * all);
            others.push((frequency * loss, id));
        }
        // Ids are in the order of the texts.
        others.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut stays = vec![false; self.pieces.len()];
        others.iter().take(target.saturating_sub(characters)).for_each(|&(_, id)| stays[id] = true);
        for (id, stays) in stays.into_iter().enumerate() {
            if !stays && !self.is_character(id) {
                self.scores[id] = f64::NEG_INFINITY;
            }
        }
        self.forget();
    }

    /// Takes dropped pieces out of the lattice.
    fn forget(&mut self) {
        let mut kept = 0;
        for i in 0..self.characters.len() {
            let range = self.first[i] as usize..self.first[i + 1] as usize;
            self.first[i] = kept as u32;
            for place in range {
                let id = self.begin[place];
                if self.scores[id as usize] > f64::NEG_INFINITY {
                    self.begin[kept] = id;
                    kept += 1;
                }
            }
        }
        self.begin.truncate(kept);
        self.first[self.characters.len()] = kept as u32;
    }
}

/// The best logarithm up to a character, the last piece, and where that begins.
type Best = (f64, u32, u32);

/// The pieces of a likeliest way and where they begin, from the last to the first.
fn for_each_of_path(best: &[Best], mut each: impl FnMut(usize, usize)) {
    let mut end = best.len() - 1;
    while end > 0 {
        let (_, id, start) = best[end];
        each(id as usize, start as usize);
        end = start as usize;
    }
}

/// A piece to begin with: `length` characters at some places, which are a range of all characters
/// in the order of what follows them.
struct Seed {
    places: Range<usize>,
    length: u32,
    frequency: u64,
}

impl Seed {
    /// Long pieces are worth more; a character is never without any weight.
    fn weight(&self) -> f64 {
        self.frequency as f64 * f64::from(self.length)
            + if self.frequency == 0 { LEAST_EXPECTED } else { 0.0 }
    }
}

/// Every character, and of the longer pieces that occur more than once and that are not always
/// followed by the same character those with the largest weights. In the order of their texts,
/// with the order of all characters by what follows them.
fn seeds(characters: &[char], segments: &[Segment]) -> (Vec<Seed>, Vec<u32>) {
    let ends: Vec<u32> = segments
        .iter()
        .flat_map(|segment| std::iter::repeat_n(segment.at.end as u32, segment.at.len()))
        .collect();
    let following = |at: u32, most: usize| {
        let at = at as usize;
        &characters[at..(ends[at] as usize).min(at + most)]
    };
    let mut order: Vec<u32> = (0..characters.len() as u32).collect();
    order.sort_unstable_by(|&a, &b| {
        following(a, LONGEST + 1).cmp(following(b, LONGEST + 1)).then(a.cmp(&b))
    });
    let counts: Vec<u64> = segments
        .iter()
        .flat_map(|segment| std::iter::repeat_n(segment.count, segment.at.len()))
        .collect();
    let mut up_to = vec![0u64];
    for &at in &order {
        up_to.push(up_to[up_to.len() - 1] + counts[at as usize]);
    }
    let mut seeds: Vec<Seed> = Vec::new();
    // Places that share a number of characters. The last one in is the next, so that seeds come
    // in the order of their texts.
    let mut open = vec![(0..order.len(), 0usize)];
    while let Some((places, length)) = open.pop() {
        let frequency = up_to[places.end] - up_to[places.start];
        if length > 1 && frequency < LEAST_FREQUENCY {
            continue;
        }
        let longer = |&at: &u32| following(at, length + 1).len() > length;
        let shorter = order[places.clone()].partition_point(|at| !longer(at));
        let mut start = places.start + shorter;
        let children = open.len();
        while start < places.end {
            let next = characters[order[start] as usize + length];
            let same = order[start..places.end]
                .partition_point(|&at| characters[at as usize + length] == next);
            open.push((start..start + same, length + 1));
            start += same;
        }
        let branches = open.len() - children;
        open[children..].reverse();
        if length == LONGEST {
            open.truncate(children);
        }
        if length == 1 || (length > 1 && (shorter > 0 || branches > 1)) {
            seeds.push(Seed { places, length: length as u32, frequency });
        }
    }
    let characters = seeds.iter().filter(|seed| seed.length == 1).count();
    if seeds.len() > MOST_SEEDS.max(characters) {
        let mut weights: Vec<(bool, u64, Reverse<usize>)> = seeds
            .iter()
            .enumerate()
            .map(|(i, seed)| {
                (seed.length == 1, seed.frequency * u64::from(seed.length), Reverse(i))
            })
            .collect();
        weights.sort_unstable_by(|a, b| b.cmp(a));
        let least = weights[MOST_SEEDS.max(characters) - 1];
        let mut i = 0;
        seeds.retain(|seed| {
            i += 1;
            (seed.length == 1, seed.frequency * u64::from(seed.length), Reverse(i - 1)) >= least
        });
    }
    (seeds, order)
}

/// ln(eᵃ + eᵇ).
fn log_of_sum(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY { high } else { high + libm::log1p(libm::exp(low - high)) }
}

/// The derivative of ln Γ for x > 0: its recurrence up to 6, then its asymptotic series.
fn digamma(x: f64) -> f64 {
    let (mut x, mut below) = (x, 0.0);
    while x < 6.0 {
        below -= 1.0 / x;
        x += 1.0;
    }
    let square = 1.0 / (x * x);
    let series = square
        * (1.0 / 12.0
            - square
                * (1.0 / 120.0 - square * (1.0 / 252.0 - square * (1.0 / 240.0 - square / 132.0))));
    below + libm::log(x) - 0.5 / x - series
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn segments(of: &[(&str, u64)]) -> BTreeMap<String, u64> {
        of.iter().map(|&(text, count)| (text.to_owned(), count)).collect()
    }

    /// Computed with Python: mpmath.digamma.
    #[test]
    fn digamma_is_that_of_mpmath() {
        for (x, expected) in [
            (0.5, -1.963_510_026_021_423_5),
            (1.0, -0.577_215_664_901_532_9),
            (3.7, 1.167_153_539_361_511_4),
            (20.0, 2.970_523_992_242_149),
            (1e6, 13.815_510_057_964_191),
        ] {
            assert_relative_eq!(digamma(x), expected, epsilon = 1e-9);
        }
    }

    /// Of the text abab there are ab and abab, but not aba, which is always followed by b; c d
    /// occur once, so cd is none.
    #[test]
    fn seeds_by_hand() {
        let lattice = Lattice::new(&segments(&[("abab", 2), ("cd", 1), ("ab", 1)]));
        let texts: Vec<String> = (0..lattice.pieces.len()).map(|id| lattice.text(id)).collect();
        assert_eq!(texts, ["a", "ab", "abab", "b", "bab", "c", "d"]);
        // a and b occur 5 times, ab as often: twice in each abab and once alone.
        let weights = [5.0, 10.0, 8.0, 5.0, 6.0, 1.0, 1.0];
        for (score, weight) in lattice.scores.iter().zip(weights) {
            assert_relative_eq!(*score, (weight / 36.0f64).ln(), epsilon = 1e-12);
        }
        assert_eq!(
            lattice.from(2, 6).map(|(id, _)| lattice.text(id)).collect::<Vec<_>>(),
            ["a", "ab", "abab"]
        );
    }

    /// ab is a, b or ab; with probabilities 1/2, 1/4 and 1/4 it is ab in two of three cases.
    #[test]
    fn expectations_by_hand() {
        let mut lattice = Lattice::new(&segments(&[("ab", 3)]));
        let id = |text: &str| (0..3).find(|&id| lattice.text(id) == text).unwrap();
        let (a, b, ab) = (id("a"), id("b"), id("ab"));
        for (id, p) in [(a, 0.5f64), (b, 0.25), (ab, 0.25)] {
            lattice.scores[id] = p.ln();
        }
        let expected = lattice.expected();
        for (id, count) in [(a, 1.0), (b, 1.0), (ab, 2.0)] {
            assert_relative_eq!(expected[id], count, epsilon = 1e-12);
        }
        let frequencies = lattice.frequencies();
        assert_eq!([a, b, ab].map(|id| frequencies[id]), [0.0, 0.0, 3.0]);
        lattice.maximise(&expected);
        assert_relative_eq!(lattice.scores[ab], digamma(2.0) - digamma(4.0), epsilon = 1e-12);
        lattice.maximise(&[1.0, 0.4, 0.4]);
        assert_eq!(lattice.alive().count(), 2, "a rare character stays, a rare piece does not");
    }

    #[test]
    fn threads_change_no_bit() {
        let words: Vec<String> =
            (0..500u32).map(|i| format!("{:x}", i.wrapping_mul(2_654_435_761) >> 8)).collect();
        let text = words.iter().zip(1..).map(|(word, count)| (word.clone(), count)).collect();
        let expected = [1, 2, 3, 8, 100].map(|threads| {
            let mut lattice = Lattice::new(&text);
            lattice.threads = threads;
            lattice.expected()
        });
        assert!(expected.iter().all(|other| *other == expected[0]));
    }

    #[test]
    fn words_become_pieces() {
        let text = segments(&[(" the", 50), (" then", 9), (" other", 20), (" x", 1), ("q", 0)]);
        let pieces = learn(&text, 15);
        let names: BTreeSet<&str> = pieces.iter().map(|(text, _)| &**text).collect();
        assert!(names.contains(" the") && names.contains(" other"), "{pieces:?}");
        assert!([" ", "t", "h", "e", "n", "o", "r", "x", "q"].iter().all(|c| names.contains(c)));
        assert!(pieces.is_sorted_by(|a, b| a.1 >= b.1));
        assert_eq!(pieces[0].0, " the");
        assert_eq!(learn(&text, 9).len(), 9);
    }

    #[test]
    fn a_long_segment_has_no_piece_of_more_than_16_characters() {
        let text = segments(&[(&"ab".repeat(40), 7)]);
        let pieces = learn(&text, 30);
        assert!(pieces.iter().all(|(text, _)| text.chars().count() <= LONGEST));
        assert!(pieces.iter().any(|(text, _)| text.chars().count() > 8), "{pieces:?}");
    }

    proptest! {
        /// Expectations add up to the characters of the text, and every prune leaves a lattice in
        /// which each segment can be written.
        #[test]
        fn nothing_is_lost(texts in prop::collection::btree_map("[abc]{1,9}", 0u64..20, 1..12)) {
            let mut lattice = Lattice::new(&texts);
            let characters: u64 = texts.iter().map(|(text, count)| text.len() as u64 * count).sum();
            for target in [20, 8, 3] {
                let expected = lattice.expected();
                let covered: f64 =
                    expected.iter().zip(&lattice.pieces).map(|(e, &(_, n))| e * f64::from(n)).sum();
                prop_assert!((covered - characters as f64).abs() < 1e-6 * (characters as f64 + 1.0));
                lattice.maximise(&expected);
                lattice.prune(target);
                let most = lattice.alive().filter(|&id| lattice.is_character(id)).count();
                prop_assert!(lattice.alive().count() <= target.max(most));
            }
            let pieces = learn(&texts, 12);
            let distinct: BTreeSet<char> = texts.keys().flat_map(|text| text.chars()).collect();
            prop_assert!(distinct.iter().all(|c| pieces.iter().any(|(text, _)| *text == c.to_string())));
            prop_assert!(pieces.len() <= 12 && pieces.iter().all(|(_, score)| score.is_finite()));
        }
    }
}
