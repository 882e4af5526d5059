use super::Fit;
use super::bootstrap::Interval;
use crate::rng::Key;
use serde::{Deserialize, Serialize};

/// Two laws on the same held-out rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// The domain or group.
    pub domain: String,
    /// A law.
    pub law: String,
    /// The law that it is compared with.
    pub other: String,
    /// The mean relative error of the first minus that of the second, on the held-out rows that
    /// both predict. Below 0 if the first is better.
    pub difference: f64,
    /// Its interval from a paired bootstrap over held-out rows.
    pub interval: Interval,
    /// The share of resamples in which the first is better.
    pub better: f64,
}

/// Compares every two fits of one domain that predict the same losses, by their errors on the same
/// held-out rows, with a paired bootstrap with the first fit's number of resamples.
pub fn compare(fits: &[Fit]) -> Vec<Comparison> {
    let mut found = Vec::new();
    for (i, first) in fits.iter().enumerate() {
        found.extend(fits[i + 1..].iter().filter_map(|second| pair(first, second)));
    }
    found
}

fn pair(first: &Fit, second: &Fit) -> Option<Comparison> {
    let same = first.domain == second.domain && first.law.output() == second.law.output();
    let (held_out, other) = (first.held_out.as_ref()?, second.held_out.as_ref()?);
    if !same || held_out.by != other.by || first.rows.len() != second.rows.len() {
        return None;
    }
    let error = |fit: &Fit, index: usize, prediction: f64| {
        let loss = fit.rows[index].loss;
        (prediction - loss).abs() / loss
    };
    let differences: Vec<f64> = held_out
        .rows
        .iter()
        .filter_map(|row| {
            let twin = other.rows.iter().find(|twin| twin.index == row.index)?;
            let second = error(second, twin.index, twin.prediction);
            let difference = error(first, row.index, row.prediction) - second;
            // Below what two fits of one law differ by, it is none.
            Some(if difference.abs() < 1e-7 { 0.0 } else { difference })
        })
        .collect();
    if differences.is_empty() {
        return None;
    }
    let (resamples, level, seed) =
        first.bootstrap.as_ref().map_or((1000, 0.9, 0), |b| (b.resamples, b.level, b.seed));
    let n = differences.len();
    let mean = |numbers: &mut dyn Iterator<Item = f64>| numbers.sum::<f64>() / n as f64;
    let key = Key::new(seed).named("paired bootstrap");
    let resample = |b: usize| {
        let key = key.child(b as u64);
        mean(&mut (0..n as u64).map(|i| differences[key.below(i, n as u64) as usize]))
    };
    let mut means: Vec<f64> = (0..resamples).map(resample).collect();
    Some(Comparison {
        domain: first.domain.clone(),
        law: first.law.name().to_string(),
        other: second.law.name().to_string(),
        difference: mean(&mut differences.iter().copied()),
        interval: Interval::around(&mut means, level),
        better: means.iter().filter(|mean| **mean < 0.0).count() as f64 / resamples as f64,
    })
}
