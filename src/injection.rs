//! Pretraining data injection: mix(p) = (1 − p)·D_ft + p·D_pt.
//!
//! With probability p the next finetuning sequence comes from the pretraining data, otherwise from
//! the target. Every choice is a pure function of a key and a *position*, the number of the
//! sequence in the run: `position = step · global_batch + i`. So the sequences and their order stay
//! the same in a resumed run, and for any number of ranks and micro-batches.
//!
//! - [`Sampler`] says which positions are injected;
//! - [`Shuffle`] gives the order of a finite set, with each member once per epoch;
//! - [`InjectionSource`] says which pretraining sequence the j-th injection is;
//! - [`Mixture`] combines the three for a run.
//!
//! ```
//! use forgetting_laws::{Fraction, injection::*, rng::Key};
//!
//! let mixture = MixtureSpec {
//!     sampler: SamplerKind::Exact,
//!     p: Fraction::new(0.001)?,
//!     steps: 1000,
//!     global_batch: 8,
//!     target_sequences: 50,
//!     reserved_sequences: 10,
//!     replay_sequences: None,
//!     sequence_tokens: 1024,
//! }
//! .build(Key::new(0))?;
//! // p · batch is far below 1, and still one sequence in a thousand is injected.
//! assert_eq!(mixture.counts(1000), Counts { target: 7992, pretrain: 8 });
//! # Ok::<(), forgetting_laws::Error>(())
//! ```

use crate::{Error, Fraction, Result, rng::Key};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// p · 2⁶⁴, exact for p ≥ 2⁻¹², otherwise too small by less than 1.
fn fixed_point(p: Fraction) -> u128 {
    (p.get() * 2f64.powi(64)) as u128
}

/// Where the sequence at a position comes from. Which sequence that is, as a [`Draw`] says, depends on
/// the order in which the [`Mixture`] reads each source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pick {
    /// The i-th draw from the target, counted from 0.
    Target(u64),
    /// The j-th injected pretraining sequence, counted from 0.
    Pretrain(u64),
}

/// How the injected positions are chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SamplerKind {
    /// Each position independently with probability p, as in the paper as far as is known (its
    /// sister papers draw per sample). The count of n positions has standard deviation
    /// √(n·p·(1−p)).
    #[default]
    Independent,
    /// Evenly spread from a random phase: the count in the first n positions is within one of p·n,
    /// for every n.
    Exact,
}

/// For each position, whether it is injected and how many injected positions precede it.
#[derive(Debug, Clone)]
pub struct Sampler(Rule);

#[derive(Debug, Clone)]
enum Rule {
    /// `before[b]` is the number injected before position b · BLOCK.
    Independent { key: Key, threshold: u128, before: Vec<u64> },
    /// Fixed point with 64 fractional bits.
    Exact { p: u128, phase: u64 },
}

/// Positions per stored count of [`SamplerKind::Independent`].
const BLOCK: u64 = 256;

impl Sampler {
    /// The sampler of a key, prepared for `horizon` positions.
    ///
    /// With independent draws this hashes each position of the horizon once and stores a count for
    /// every 256 positions. The horizon affects only speed: beyond it, positions are counted from
    /// its end.
    pub fn new(kind: SamplerKind, p: Fraction, key: Key, horizon: u64) -> Self {
        Self(match kind {
            SamplerKind::Independent => {
                let threshold = fixed_point(p);
                let mut before = vec![0];
                for block in 0..horizon / BLOCK {
                    let positions = block * BLOCK..(block + 1) * BLOCK;
                    let count = before[block as usize] + independent(key, threshold, positions);
                    before.push(count);
                }
                Rule::Independent { key, threshold, before }
            }
            SamplerKind::Exact => Rule::Exact { p: fixed_point(p), phase: key.word(0) },
        })
    }

    /// Where the sequence at `position` (below 2⁶⁴ − 1) comes from.
    pub fn pick(&self, position: u64) -> Pick {
        let injected = self.pretrain_count(position);
        if self.injects(position, injected) {
            Pick::Pretrain(injected)
        } else {
            Pick::Target(position - injected)
        }
    }

    /// The number of injected sequences among the first `n` positions.
    pub fn pretrain_count(&self, n: u64) -> u64 {
        match &self.0 {
            Rule::Independent { key, threshold, before } => {
                let block = (n / BLOCK).min(before.len() as u64 - 1);
                before[block as usize] + independent(*key, *threshold, block * BLOCK..n)
            }
            // ⌊p·n + u⌋ with u uniform in [0, 1): above p·n − 1 and below p·n + 1, and p·n in the
            // mean over seeds.
            Rule::Exact { p, phase } => ((p * u128::from(n) + u128::from(*phase)) >> 64) as u64,
        }
    }

    fn injects(&self, position: u64, before: u64) -> bool {
        match &self.0 {
            Rule::Independent { key, threshold, .. } => u128::from(key.word(position)) < *threshold,
            Rule::Exact { .. } => self.pretrain_count(position.saturating_add(1)) > before,
        }
    }
}

/// One random word per position, compared with p · 2⁶⁴. Whatever is injected at p is also injected
/// at every larger p, so that runs with different p differ as little as possible.
fn independent(key: Key, threshold: u128, positions: Range<u64>) -> u64 {
    positions.filter(|&i| u128::from(key.word(i)) < threshold).count() as u64
}

/// A random order of the indices 0..len that visits each index exactly once per epoch, in a
/// different order every epoch. Any draw is computed in constant time and memory.
///
/// A Feistel network on the smallest near-square grid that holds the indices, iterated until the
/// result is a valid index (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA
/// 2002).
///
/// ```
/// use forgetting_laws::{injection::Shuffle, rng::Key};
/// let shuffle = Shuffle::new(Key::new(0), 5)?;
/// let mut epoch: Vec<u64> = (5..10).map(|draw| shuffle.at(draw)).collect();
/// epoch.sort();
/// assert_eq!(epoch, [0, 1, 2, 3, 4]);
/// # Ok::<(), forgetting_laws::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shuffle {
    key: Key,
    len: u64,
    rows: u64,
    columns: u64,
}

/// Pairs of Feistel rounds. On the 2 × 2 grid each pair shrinks the distance from a uniform
/// permutation by 4 (on larger grids by more), so that after 8 it is below 10⁻⁴.
const ROUND_PAIRS: u64 = 8;

impl Shuffle {
    /// The order of 0..`len` for a key.
    ///
    /// # Errors
    /// If `len` is 0.
    pub fn new(key: Key, len: u64) -> Result<Self> {
        if len == 0 {
            return Err(Error::setting("sequences to shuffle", 0, "must be at least 1"));
        }
        let rows = (len - 1).isqrt() + 1;
        Ok(Self { key, len, rows, columns: len.div_ceil(rows) })
    }

    /// The length of an epoch.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The epoch of a draw, counted from 0.
    pub fn epoch(&self, draw: u64) -> u64 {
        draw / self.len
    }

    /// The index that a draw meets, below the length.
    pub fn at(&self, draw: u64) -> u64 {
        let key = self.key.child(self.epoch(draw));
        // The walk ends: the permutation's cycle through an index leads back to it.
        let mut index = draw % self.len;
        loop {
            index = self.permute(key, index);
            if index < self.len {
                return index;
            }
        }
    }

    /// A permutation of 0..rows·columns.
    fn permute(&self, key: Key, index: u64) -> u64 {
        let (mut row, mut column) = (index / self.columns, index % self.columns);
        for pair in 0..ROUND_PAIRS {
            // A row or column is at most 2³², so the round and it make one address.
            let move_row = key.below((2 * pair) << 40 | column, self.rows);
            row = (row + move_row) % self.rows;
            let move_column = key.below((2 * pair + 1) << 40 | row, self.columns);
            column = (column + move_column) % self.columns;
        }
        row * self.columns + column
    }
}

/// The pretraining data to inject: a part set aside before pretraining, so that it is fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InjectionSource {
    /// The j-th injection is the j-th reserved sequence: never repeated (the paper's stream).
    Fresh {
        /// Sequences that are reserved.
        reserved: u64,
    },
    /// A pool of the first reserved sequences, reshuffled after each epoch.
    Replay {
        /// The order within the pool.
        pool: Shuffle,
    },
}

impl InjectionSource {
    /// The fresh stream over `reserved` sequences.
    pub fn fresh(reserved: u64) -> Self {
        Self::Fresh { reserved }
    }

    /// A replay pool of the first `pool` of `reserved` sequences, of `sequence_tokens` each.
    ///
    /// # Errors
    /// If the pool is empty or larger than what is reserved.
    pub fn replay(key: Key, pool: u64, reserved: u64, sequence_tokens: u64) -> Result<Self> {
        if pool == 0 {
            let requirement = "must hold at least one sequence";
            return Err(Error::setting("finetuning.replay_tokens", 0, requirement));
        }
        if pool > reserved {
            return Err(Error::Exhausted {
                what: "the replay pool".into(),
                asked: pool.saturating_mul(sequence_tokens),
                available: reserved.saturating_mul(sequence_tokens),
                remedy: "reserve more with data.injection_tokens or ask for a smaller pool with \
                         finetuning.replay_tokens"
                    .into(),
            });
        }
        Ok(Self::Replay { pool: Shuffle::new(key, pool)? })
    }

    /// Refuses a run that would inject `count` sequences, of `sequence_tokens` each, before it
    /// starts.
    ///
    /// # Errors
    /// [`Error::Exhausted`] if a fresh stream has fewer.
    pub fn check(&self, count: u64, sequence_tokens: u64) -> Result<()> {
        match *self {
            Self::Fresh { reserved } if count > reserved => Err(Error::Exhausted {
                what: "the pretraining data reserved for injection".into(),
                asked: count.saturating_mul(sequence_tokens),
                available: reserved.saturating_mul(sequence_tokens),
                remedy: "reserve more with data.injection_tokens or ask for a replay pool with \
                         finetuning.replay_tokens"
                    .into(),
            }),
            _ => Ok(()),
        }
    }

    /// The reserved sequence that the j-th injection is.
    pub fn at(&self, j: u64) -> u64 {
        match self {
            Self::Fresh { .. } => j,
            Self::Replay { pool } => pool.at(j),
        }
    }
}

/// The sequence at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Draw {
    /// A sequence of D_ft, by its index.
    Target(u64),
    /// A sequence of the pretraining data reserved for injection, by its index.
    Pretrain(u64),
}

/// How many sequences are drawn. All have the same number of tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Sequences from the target.
    pub target: u64,
    /// Sequences of pretraining data.
    pub pretrain: u64,
}

impl Counts {
    /// The actual p; `None` if nothing was drawn.
    pub fn fraction(&self) -> Option<f64> {
        let total = self.target + self.pretrain;
        (total > 0).then(|| self.pretrain as f64 / total as f64)
    }
}

/// Everything that determines the [`Mixture`] of a finetuning run, except the key.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixtureSpec {
    /// How the injected positions are chosen.
    pub sampler: SamplerKind,
    /// The fraction of pretraining data.
    pub p: Fraction,
    /// Optimiser steps.
    pub steps: u64,
    /// Sequences per step, over all ranks and micro-batches.
    pub global_batch: u64,
    /// Sequences in D_ft. They are the first of the target's training data, so a smaller D_ft is a
    /// prefix of a larger one.
    pub target_sequences: u64,
    /// Sequences of pretraining data reserved for injection.
    pub reserved_sequences: u64,
    /// The size of a replay pool; `None` for a fresh stream.
    pub replay_sequences: Option<u64>,
    /// Tokens in a sequence.
    pub sequence_tokens: u64,
}

impl MixtureSpec {
    /// The mixture of the finetuning run with this seed: both engines and the Python package read their
    /// sequences in its order.
    ///
    /// # Errors
    /// Those of [`MixtureSpec::build`].
    pub fn of_run(self, seed: u64) -> Result<Mixture> {
        self.build(Key::new(seed).named("finetuning"))
    }

    /// The mixture under a key.
    ///
    /// # Errors
    /// If D_ft or the batch is empty, the run has more than 2⁶³ sequences, or there are too few
    /// reserved sequences.
    pub fn build(self, key: Key) -> Result<Mixture> {
        if self.global_batch == 0 {
            return Err(Error::setting("global_batch", 0, "must be at least 1"));
        }
        if self.target_sequences == 0 {
            let requirement = "must make at least one whole sequence";
            return Err(Error::setting("d_ft_tokens", 0, requirement));
        }
        let horizon =
            self.steps.checked_mul(self.global_batch).filter(|&n| n <= 1 << 63).ok_or_else(
                || Error::setting("steps", self.steps, "must make fewer than 2^63 sequences"),
            )?;
        let sampler = Sampler::new(self.sampler, self.p, key.named("sampler"), horizon);
        let source = match self.replay_sequences {
            None => InjectionSource::fresh(self.reserved_sequences),
            Some(pool) => InjectionSource::replay(
                key.named("replay"),
                pool,
                self.reserved_sequences,
                self.sequence_tokens,
            )?,
        };
        source.check(sampler.pretrain_count(horizon), self.sequence_tokens)?;
        let target = Shuffle::new(key.named("target"), self.target_sequences)?;
        Ok(Mixture { sampler, target, source, global_batch: self.global_batch, horizon })
    }
}

/// Which sequence is at each position of a finetuning run.
#[derive(Debug, Clone)]
pub struct Mixture {
    sampler: Sampler,
    target: Shuffle,
    source: InjectionSource,
    global_batch: u64,
    horizon: u64,
}

impl Mixture {
    /// The sequence at `position = step · global_batch + i`; `None` after the last step.
    pub fn draw(&self, position: u64) -> Option<Draw> {
        (position < self.horizon).then(|| match self.sampler.pick(position) {
            Pick::Target(i) => Draw::Target(self.target.at(i)),
            Pick::Pretrain(j) => Draw::Pretrain(self.source.at(j)),
        })
    }

    /// The sequences of a step, in the order of the batch; none after the last step.
    pub fn batch(&self, step: u64) -> impl Iterator<Item = Draw> + '_ {
        self.part(step, 0..self.global_batch)
    }

    /// The sequences of a step for one rank, or one micro-batch: see [`share`].
    pub fn part(&self, step: u64, part: Range<u64>) -> impl Iterator<Item = Draw> + '_ {
        let first = step.saturating_mul(self.global_batch);
        part.filter_map(move |i| self.draw(first.saturating_add(i)))
    }

    /// What the first `steps` steps draw; steps after the last add nothing.
    pub fn counts(&self, steps: u64) -> Counts {
        let positions = steps.saturating_mul(self.global_batch).min(self.horizon);
        let pretrain = self.sampler.pretrain_count(positions);
        Counts { target: positions - pretrain, pretrain }
    }

    /// The epoch of the target, counted from 0, that step `step` starts in.
    pub fn target_epoch(&self, step: u64) -> u64 {
        self.target.epoch(self.counts(step).target)
    }
}

/// The part of a batch for one of `ranks` ranks: contiguous pieces in the order of the ranks, whose
/// lengths differ by at most one. Empty for a rank that does not exist.
///
/// ```
/// use forgetting_laws::injection::share;
/// assert_eq!([share(8, 0, 3), share(8, 1, 3), share(8, 2, 3)], [0..2, 2..5, 5..8]);
/// ```
pub fn share(global_batch: u64, rank: u64, ranks: u64) -> Range<u64> {
    if rank >= ranks {
        return 0..0;
    }
    let cut = |rank: u64| (u128::from(global_batch) * u128::from(rank) / u128::from(ranks)) as u64;
    cut(rank)..cut(rank + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const KINDS: [SamplerKind; 2] = [SamplerKind::Independent, SamplerKind::Exact];

    fn fraction(p: f64) -> Fraction {
        Fraction::new(p).unwrap()
    }

    fn sampler(kind: SamplerKind, p: f64, seed: u64, horizon: u64) -> Sampler {
        Sampler::new(kind, fraction(p), Key::new(seed), horizon)
    }

    fn spec() -> MixtureSpec {
        MixtureSpec {
            sampler: SamplerKind::Independent,
            p: fraction(0.25),
            steps: 40,
            global_batch: 8,
            target_sequences: 30,
            reserved_sequences: 500,
            replay_sequences: None,
            sequence_tokens: 64,
        }
    }

    /// Chi-square below mean plus five standard deviations; the seeds are fixed, so it either
    /// always holds or never.
    fn assert_uniform(counts: &[u64]) {
        let mean = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
        let chi2: f64 = counts.iter().map(|&c| (c as f64 - mean).powi(2) / mean).sum();
        let freedom = counts.len() as f64 - 1.0;
        assert!(
            chi2 < freedom + 5.0 * (2.0 * freedom).sqrt(),
            "χ² {chi2} at {freedom}: {counts:?}"
        );
    }

    #[test]
    fn picks_count_both_sources_without_a_gap() {
        for kind in KINDS {
            for p in [0.0, 0.001, 0.05, 0.5, 1.0] {
                let sampler = sampler(kind, p, 3, 2000);
                let (mut target, mut pretrain) = (0, 0);
                for position in 0..2000 {
                    assert_eq!(sampler.pretrain_count(position), pretrain);
                    match sampler.pick(position) {
                        Pick::Target(i) => assert_eq!((i, target += 1).0, target - 1),
                        Pick::Pretrain(j) => assert_eq!((j, pretrain += 1).0, pretrain - 1),
                    }
                }
                assert_eq!(sampler.pretrain_count(2000), pretrain);
            }
        }
    }

    #[test]
    fn nothing_at_0_and_everything_at_1() {
        for kind in KINDS {
            for n in [0, 1, 255, 256, 257, 1000] {
                assert_eq!(sampler(kind, 0.0, 1, 600).pretrain_count(n), 0);
                assert_eq!(sampler(kind, 1.0, 1, 600).pretrain_count(n), n);
            }
            assert_eq!(sampler(kind, 0.0, 1, 600).pick(9), Pick::Target(9));
            assert_eq!(sampler(kind, 1.0, 1, 600).pick(9), Pick::Pretrain(9));
        }
        let last = u64::MAX - 1;
        assert_eq!(sampler(SamplerKind::Exact, 1.0, 1, 0).pick(last), Pick::Pretrain(last));
        assert_eq!(sampler(SamplerKind::Exact, 0.0, 1, 0).pick(last), Pick::Target(last));
    }

    /// Six standard deviations of the binomial, over many seeds one of the whole.
    #[test]
    fn independent_counts_are_binomial() {
        for p in [0.001, 0.05, 0.5] {
            let n = 100_000;
            let deviation = |seed| {
                let count = sampler(SamplerKind::Independent, p, seed, n).pretrain_count(n) as f64;
                (count - p * n as f64) / (n as f64 * p * (1.0 - p)).sqrt()
            };
            let deviations: Vec<f64> = (0..40).map(deviation).collect();
            assert!(deviations.iter().all(|z| z.abs() < 6.0), "{deviations:?}");
            let variance = deviations.iter().map(|z| z * z).sum::<f64>() / 40.0;
            // χ² with 40 degrees of freedom: 1 ± 4 standard deviations of 0.22.
            assert!((0.1..1.9).contains(&variance), "{variance}");
        }
    }

    #[test]
    fn independent_injections_are_nested_in_p() {
        let injected = |p| {
            let sampler = sampler(SamplerKind::Independent, p, 5, 3000);
            (0..3000).filter(|&i| matches!(sampler.pick(i), Pick::Pretrain(_))).collect::<Vec<_>>()
        };
        let (few, many) = (injected(0.01), injected(0.05));
        assert!(!few.is_empty() && few.len() < many.len());
        assert!(few.iter().all(|i| many.contains(i)));
    }

    #[test]
    fn exact_counts_stray_by_less_than_one() {
        for (p, seed) in [(0.001, 0), (1.0 / 3.0, 1), (0.05, 2), (0.999, 3)] {
            let sampler = sampler(SamplerKind::Exact, p, seed, 0);
            for n in 0..5000 {
                let stray = sampler.pretrain_count(n) as f64 - p * n as f64;
                assert!(stray.abs() < 1.0, "{stray} at {n}");
            }
        }
    }

    /// The phase is uniform, so every position is injected with probability p over seeds.
    #[test]
    fn exact_is_unbiased_at_every_position() {
        let injections = |position| {
            (0..4000)
                .filter(|&seed| {
                    let sampler = sampler(SamplerKind::Exact, 0.25, seed, 0);
                    matches!(sampler.pick(position), Pick::Pretrain(_))
                })
                .count() as f64
        };
        for position in [0, 1, 2, 3, 100] {
            // Five standard deviations of √(4000 · 3/16) = 27.
            assert!((injections(position) - 1000.0).abs() < 137.0);
        }
    }

    #[test]
    fn the_horizon_only_stores() {
        let (short, long) = (
            sampler(SamplerKind::Independent, 0.3, 7, 0),
            sampler(SamplerKind::Independent, 0.3, 7, 5000),
        );
        for position in [0, 1, 255, 256, 257, 511, 512, 4999, 5000, 6001] {
            assert_eq!(short.pick(position), long.pick(position));
        }
    }

    #[test]
    fn stores_one_count_a_block() {
        for (horizon, stored) in [(0, 1), (255, 1), (256, 2), (2600, 11)] {
            match sampler(SamplerKind::Independent, 1.0, 0, horizon).0 {
                Rule::Independent { before, .. } => {
                    let expected: Vec<u64> = (0..stored).map(|b| b * 256).collect();
                    assert_eq!(before, expected);
                }
                Rule::Exact { .. } => unreachable!("independent draws were asked for"),
            }
        }
    }

    #[test]
    fn every_epoch_is_a_permutation_and_another_one() {
        for len in [1, 2, 3, 4, 5, 7, 16, 17, 100, 1000] {
            let shuffle = Shuffle::new(Key::new(9), len).unwrap();
            let epoch = |e: u64| (e * len..(e + 1) * len).map(|i| shuffle.at(i));
            for e in 0..3 {
                let mut seen: Vec<u64> = epoch(e).collect();
                seen.sort_unstable();
                assert_eq!(seen, (0..len).collect::<Vec<_>>());
                assert_eq!([e * len, (e + 1) * len - 1].map(|i| shuffle.epoch(i)), [e, e]);
            }
            if len >= 16 {
                assert_ne!(epoch(0).collect::<Vec<_>>(), epoch(1).collect::<Vec<_>>());
                assert_ne!(epoch(0).collect::<Vec<_>>(), (0..len).collect::<Vec<_>>());
            }
            assert_eq!(shuffle.len(), len);
        }
        assert!(Shuffle::new(Key::new(9), 0).is_err());
    }

    #[test]
    fn all_orders_of_few_are_equally_likely() {
        for (len, orders) in [(2u64, 2), (3, 6), (4, 24), (5, 120)] {
            let shuffle = Shuffle::new(Key::new(len), len).unwrap();
            let mut counts = BTreeMap::<Vec<u64>, u64>::new();
            for epoch in 0..20_000 {
                let order = (0..len).map(|i| shuffle.at(epoch * len + i)).collect();
                *counts.entry(order).or_default() += 1;
            }
            assert_eq!(counts.len(), orders);
            assert_uniform(&counts.into_values().collect::<Vec<_>>());
        }
    }

    /// Where one index lands, and by how much two neighbours are apart, over many epochs.
    #[test]
    fn places_and_neighbours_are_uniform() {
        for len in [6u64, 23, 64] {
            let shuffle = Shuffle::new(Key::new(1), len).unwrap();
            let mut places = vec![0; len as usize];
            let mut gaps = vec![0; len as usize - 1];
            for epoch in 0..10_000 {
                let [a, b] = [0, 1].map(|i| shuffle.at(epoch * len + i));
                places[a as usize] += 1;
                gaps[((b + len - a) % len - 1) as usize] += 1;
            }
            assert_uniform(&places);
            assert_uniform(&gaps);
        }
    }

    #[test]
    fn the_largest_set_is_shuffled_too() {
        let shuffle = Shuffle::new(Key::new(2), u64::MAX).unwrap();
        assert_eq!((shuffle.rows, shuffle.columns), (1 << 32, 1 << 32));
        assert_ne!(shuffle.at(0), shuffle.at(u64::MAX - 1));
        assert_eq!(shuffle.epoch(u64::MAX), 1);
    }

    #[test]
    fn a_grid_wastes_less_than_a_column() {
        for len in 1..2000 {
            let Shuffle { rows, columns, .. } = Shuffle::new(Key::new(0), len).unwrap();
            assert!(rows * columns >= len && rows * columns < len + rows);
            assert!(rows.abs_diff(columns) <= 1);
        }
    }

    #[test]
    fn fresh_data_run_out_up_front_with_both_numbers_and_the_remedy() {
        let exact = MixtureSpec { sampler: SamplerKind::Exact, p: fraction(0.125), ..spec() };
        assert!(MixtureSpec { reserved_sequences: 40, ..exact }.build(Key::new(0)).is_ok());
        let short = MixtureSpec { reserved_sequences: 39, ..exact };
        assert_eq!(
            short.build(Key::new(0)).unwrap_err().to_string(),
            "the pretraining data reserved for injection: 2560 tokens were asked for and 2496 are \
             available; reserve more with data.injection_tokens or ask for a replay pool with \
             finetuning.replay_tokens"
        );
        let replay = MixtureSpec { replay_sequences: Some(39), ..short };
        assert!(replay.build(Key::new(0)).is_ok());
        let pool = MixtureSpec { replay_sequences: Some(40), ..short };
        assert_eq!(
            pool.build(Key::new(0)).unwrap_err().to_string(),
            "the replay pool: 2560 tokens were asked for and 2496 are available; reserve more \
             with data.injection_tokens or ask for a smaller pool with finetuning.replay_tokens"
        );
        let none = MixtureSpec { p: fraction(0.0), reserved_sequences: 0, ..spec() };
        assert!(none.build(Key::new(0)).is_ok());
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let name = |spec: MixtureSpec| match spec.build(Key::new(0)).unwrap_err() {
            Error::Setting { name, .. } => name,
            other => panic!("{other}"),
        };
        assert_eq!(name(MixtureSpec { global_batch: 0, ..spec() }), "global_batch");
        assert_eq!(name(MixtureSpec { target_sequences: 0, ..spec() }), "d_ft_tokens");
        assert_eq!(name(MixtureSpec { steps: u64::MAX, ..spec() }), "steps");
        let exact = MixtureSpec { sampler: SamplerKind::Exact, p: fraction(0.0), ..spec() };
        assert_eq!(name(MixtureSpec { steps: (1 << 60) + 1, ..exact }), "steps");
        assert!(MixtureSpec { steps: 1 << 60, ..exact }.build(Key::new(0)).is_ok());
        let empty_pool = MixtureSpec { replay_sequences: Some(0), ..spec() };
        assert_eq!(name(empty_pool), "finetuning.replay_tokens");
    }

    #[test]
    fn fresh_sequences_come_once_and_replayed_ones_in_turn() {
        let injected = |spec: MixtureSpec| -> Vec<u64> {
            let mixture = spec.build(Key::new(4)).unwrap();
            (0..spec.steps)
                .flat_map(|step| mixture.batch(step).collect::<Vec<_>>())
                .filter_map(|draw| match draw {
                    Draw::Pretrain(j) => Some(j),
                    Draw::Target(_) => None,
                })
                .collect()
        };
        let fresh = injected(spec());
        assert_eq!(fresh, (0..fresh.len() as u64).collect::<Vec<_>>());
        let replayed = injected(MixtureSpec { replay_sequences: Some(10), ..spec() });
        assert_eq!(replayed.len(), fresh.len());
        for epoch in replayed.chunks_exact(10) {
            let mut epoch = epoch.to_vec();
            epoch.sort_unstable();
            assert_eq!(epoch, (0..10).collect::<Vec<_>>());
        }
        assert_ne!(replayed[..10], replayed[10..20]);
    }

    #[test]
    fn counts_are_what_is_drawn() {
        let mixture = spec().build(Key::new(8)).unwrap();
        let mut counts = Counts::default();
        assert_eq!(counts.fraction(), None);
        for step in 0..40 {
            assert_eq!(mixture.counts(step), counts);
            assert_eq!(mixture.target_epoch(step), counts.target / 30);
            for draw in mixture.batch(step) {
                match draw {
                    Draw::Target(_) => counts.target += 1,
                    Draw::Pretrain(_) => counts.pretrain += 1,
                }
            }
        }
        assert_eq!(counts.target + counts.pretrain, 320);
        assert_eq!(counts.fraction(), Some(counts.pretrain as f64 / 320.0));
        assert_eq!([40, 41, u64::MAX].map(|step| mixture.counts(step)), [counts; 3]);
        assert_eq!(mixture.batch(40).count() + mixture.batch(u64::MAX).count(), 0);
        assert!(mixture.draw(319).is_some() && mixture.draw(320).is_none());
    }

    #[test]
    fn ranks_cut_the_same_batch() {
        let mixture = spec().build(Key::new(6)).unwrap();
        for step in [0, 1, 39] {
            let whole: Vec<Draw> = mixture.batch(step).collect();
            assert_eq!(whole.len(), 8);
            assert_eq!(Some(whole[3]), mixture.draw(step * 8 + 3));
            for ranks in 1..=10 {
                let cut: Vec<Draw> =
                    (0..ranks).flat_map(|rank| mixture.part(step, share(8, rank, ranks))).collect();
                assert_eq!(cut, whole);
            }
        }
        assert_eq!(share(8, 2, 2), 0..0);
        assert_eq!(share(8, 0, 0), 0..0);
        assert_eq!(share(u64::MAX, 1, 2), (u64::MAX / 2)..u64::MAX);
    }

    #[test]
    fn kinds_are_written_in_lower_case() {
        assert_eq!(serde_json::to_string(&KINDS).unwrap(), r#"["independent","exact"]"#);
        assert_eq!(SamplerKind::default(), SamplerKind::Independent);
    }
}
