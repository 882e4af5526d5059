//! Chooses the sizes and amounts of data that fit into a budget.

use forgetting_laws::{Error, Result};

/// A model size and its costs in seconds of one worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Sizing {
    /// Its name.
    pub name: String,
    /// Its pretraining, if that has not been done.
    pub pretraining: f64,
    /// A finetuning run on the least data, and one on the next amount.
    pub finetunings: [f64; 2],
}

/// The share of the budget for pretraining and the first finetuning runs. The rest is for runs whose
/// choice depends on these.
const FIRST: f64 = 0.6;

/// The largest share of the time for a model and one finetuning run from it, which must follow each
/// other.
const CHAIN: f64 = 0.7;

/// If there are several sizes, at least two are needed.
const LEAST_SIZES: usize = 2;

/// The cost of the first runs of some sizes in seconds of a worker: each model, and two fractions at
/// two amounts of data.
fn first_runs(sizes: &[Sizing]) -> f64 {
    sizes.iter().map(|size| size.pretraining + 2.0 * size.finetunings.iter().sum::<f64>()).sum()
}

/// The least wall time, in seconds, that is enough for some sizes.
fn least_time(sizes: &[Sizing], workers: usize) -> f64 {
    let chain = |size: &Sizing| size.pretraining + size.finetunings[1];
    let longest = sizes.iter().map(chain).fold(0.0, f64::max);
    (longest / CHAIN).max(first_runs(sizes) / (FIRST * workers as f64))
}

/// How many of the sizes, the smallest first, fit into a wall time in seconds.
///
/// A single size is enough if it is the only one, such as a given pretrained model.
///
/// # Errors
/// If not even two fit; the error names the least time that is enough.
pub fn fitting(sizes: &[Sizing], seconds: f64, workers: usize) -> Result<usize> {
    let fewest = LEAST_SIZES.min(sizes.len());
    let fits = |count: &usize| least_time(&sizes[..*count], workers) <= seconds;
    (fewest.max(1)..=sizes.len()).rev().find(fits).ok_or_else(|| {
        let least = least_time(&sizes[..fewest], workers);
        let names: Vec<&str> = sizes[..fewest].iter().map(|size| size.name.as_str()).collect();
        let requirement = format!(
            "is too little for anything here: {fewest} model(s) ({}) and four finetunings of each take \
             at least --budget {}",
            names.join(", "),
            duration(least)
        );
        Error::setting("--budget", duration(seconds), requirement)
    })
}

/// The ratio of neighbouring amounts of data: half an order of magnitude, as nearly as whole sequences
/// allow.
const A_DECADE: f64 = 2.0;

/// The most amounts of data.
const MOST_AMOUNTS: usize = 5;

/// The fewest sequences of an amount of data.
const LEAST_SEQUENCES: u64 = 4;

/// Nested amounts of target data in tokens, ascending, each of whole sequences. The largest is all of
/// the text, or the most that is useful in runs of `steps` steps.
///
/// # Errors
/// If there is too little text, or the steps are too few, for two amounts.
pub fn amounts(available: u64, most: u64, context: u64, steps: u64) -> Result<Vec<u64>> {
    let largest = (available.min(most) / context) as f64;
    let sequences = (0..MOST_AMOUNTS).map(|k| largest / 10f64.powf(k as f64 / A_DECADE));
    let enough = sequences.take_while(|sequences| *sequences >= LEAST_SEQUENCES as f64);
    let mut amounts: Vec<u64> = enough.map(|sequences| sequences as u64 * context).collect();
    amounts.reverse();
    let needed = (10f64.powf(1.0 / A_DECADE) * LEAST_SEQUENCES as f64).ceil() as u64 * context;
    if most < needed {
        let requirement = format!(
            "is too few steps for the smallest model to reach the bottom of its U-curve on {needed} \
             tokens, and two amounts of data are needed"
        );
        return Err(Error::setting("grid.main.steps", steps, requirement));
    }
    match amounts.len() {
        0 | 1 => Err(Error::Exhausted {
            what: "the domain's training text".into(),
            asked: needed,
            available,
            remedy: "give more text, or lower data.validation_tokens".into(),
        }),
        _ => Ok(amounts),
    }
}

/// The fractions to inject: the given ones, and three times the largest if enough data is reserved for
/// it in runs of `sequences` sequences.
pub fn fractions(given: &[f64], sequences: u64, reserved: u64) -> Vec<f64> {
    let mut fractions = given.to_vec();
    let more = 3.0 * given.iter().copied().fold(0.0, f64::max);
    // A tenth is kept for the chance of the draws.
    if more > 0.0 && more <= 0.5 && 1.1 * more * sequences as f64 <= reserved as f64 {
        // As people write it: 3 · 0.05 is not quite 0.15.
        fractions.push((more * 1e6).round() / 1e6);
    }
    fractions.sort_by(f64::total_cmp);
    fractions
}

/// Seconds of a time such as 90s, 20m or 2h.
pub fn seconds(text: &str) -> Result<f64, String> {
    let wrong = || "must be a time above 0, such as 90s, 20m or 2h".to_string();
    let text = text.trim();
    let unit = match text.chars().last() {
        Some('s') => 1.0,
        Some('m') => 60.0,
        Some('h') => 3600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = text[..text.len() - 1].trim().parse().map_err(|_| wrong())?;
    let seconds = number * unit;
    // A hundred years.
    if seconds > 0.0 && seconds < 3.2e9 { Ok(seconds) } else { Err(wrong()) }
}

/// A time as text, rounded up, which [`seconds`] can read.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 100.0 => format!("{}s", s.ceil()),
        s if s < 6000.0 => format!("{}m", (s / 60.0).ceil()),
        s => format!("{:.1}h", (s / 360.0).ceil() / 10.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sizes() -> Vec<Sizing> {
        let size = |name: &str, pretraining, finetuning| Sizing {
            name: name.into(),
            pretraining,
            finetunings: [finetuning, 2.0 * finetuning],
        };
        vec![size("a", 5.0, 1.0), size("b", 20.0, 2.0), size("c", 200.0, 5.0)]
    }

    #[test]
    fn times_are_read_and_written() {
        for (text, expected) in [("90s", 90.0), ("20m", 1200.0), ("2h", 7200.0), ("1.5 h", 5400.0)]
        {
            assert_eq!(seconds(text), Ok(expected));
        }
        for bad in ["", "90", "-1s", "0m", "inf h", "NaNs", "1e30h", "2d", "h", "é"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
        for (time, text) in [(0.2, "1s"), (90.0, "90s"), (101.0, "2m"), (7200.0, "2.0h")] {
            assert_eq!(duration(time), text);
            assert!(seconds(text).unwrap() >= time);
        }
    }

    /// First runs of a and b: 11 + 32 seconds; of all 273.
    #[test]
    fn as_many_sizes_as_fit() {
        assert_eq!(fitting(&sizes(), 1e6, 1).unwrap(), 3);
        assert_eq!(fitting(&sizes(), 43.0 / FIRST + 0.1, 1).unwrap(), 2);
        // The chain of c, not the sum, decides with many workers.
        assert_eq!(fitting(&sizes(), 210.0 / CHAIN + 0.1, 16).unwrap(), 3);
        assert_eq!(fitting(&sizes(), 210.0 / CHAIN - 0.1, 16).unwrap(), 2);
        let refusal = fitting(&sizes(), 10.0, 1).unwrap_err().to_string();
        assert!(
            refusal.contains("--budget = 10s") && refusal.contains("--budget 72s"),
            "{refusal}"
        );
        // One that is the only one.
        assert_eq!(fitting(&sizes()[..1], 1e6, 1).unwrap(), 1);
        let refusal = fitting(&sizes()[..1], 1.0, 1).unwrap_err().to_string();
        assert!(refusal.contains("1 model(s) (a)"), "{refusal}");
    }

    #[test]
    fn amounts_are_nested_whole_and_no_more_than_there_is() {
        let of = |available, most| amounts(available, most, 64, 12_000);
        assert_eq!(of(100_000, 64_000).unwrap(), [640, 1984, 6400, 20_224, 64_000]);
        assert_eq!(of(3000, 64_000).unwrap(), [256, 896, 2944]);
        let refusal = of(800, 64_000).unwrap_err().to_string();
        assert!(refusal.contains("832 tokens were asked for and 800"), "{refusal}");
        let refusal = of(100_000, 600).unwrap_err().to_string();
        assert!(refusal.contains("grid.main.steps = 12000: is too few"), "{refusal}");
    }

    #[test]
    fn a_larger_fraction_is_added_where_it_can_be_fed() {
        assert_eq!(fractions(&[0.0, 0.05], 96_000, 17_000), [0.0, 0.05, 0.15]);
        assert_eq!(fractions(&[0.0, 0.05], 96_000, 15_000), [0.0, 0.05]);
        assert_eq!(fractions(&[0.0], 96_000, 15_000), [0.0]);
        assert_eq!(fractions(&[0.0, 0.3], 10, 15_000), [0.0, 0.3]);
    }

    proptest! {
        /// What is chosen leaves a part of the budget, and a larger budget never takes away a size.
        #[test]
        fn the_first_runs_leave_something(
            costs in prop::collection::vec((0.1f64..1e3, 0.01f64..50.0), 2..6),
            budget in 1f64..1e5,
            workers in 1usize..16,
        ) {
            let sizes: Vec<Sizing> = costs.iter().map(|&(pretraining, finetuning)| Sizing {
                name: "x".into(), pretraining, finetunings: [finetuning, 1.5 * finetuning],
            }).collect();
            match fitting(&sizes, budget, workers) {
                Ok(count) => {
                    prop_assert!(first_runs(&sizes[..count]) <= FIRST * budget * workers as f64 + 1e-9);
                    prop_assert!(fitting(&sizes, 2.0 * budget, workers).unwrap() >= count);
                }
                Err(_) => {
                    let least = least_time(&sizes[..2], workers);
                    prop_assert!(least > budget);
                    prop_assert!(fitting(&sizes, least, workers).is_ok());
                }
            }
        }
    }
}
