use super::Fit;
use super::bootstrap::{ClusterRow, Clusters, Interval};
use crate::rng::Key;
use crate::table::numbered;
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
    /// Its interval from a paired bootstrap over held-out runs. If a size has several pretrained
    /// models, models are drawn first, and then runs of each.
    pub interval: Interval,
    /// The share of resamples in which the first is better.
    pub better: f64,
}

/// Compares every two fits of one domain that predict the same losses, by their errors on the same
/// held-out rows, with a paired bootstrap over runs with the first fit's number of resamples.
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
    // The row and the difference of the errors on it.
    let differences: Vec<(usize, f64)> = held_out
        .rows
        .iter()
        .filter_map(|row| {
            let twin = other.rows.iter().find(|twin| twin.index == row.index)?;
            let second = error(second, twin.index, twin.prediction);
            let difference = error(first, row.index, row.prediction) - second;
            // Below what two fits of one law differ by, it is none.
            Some((row.index, if difference.abs() < 1e-7 { 0.0 } else { difference }))
        })
        .collect();
    if differences.is_empty() {
        return None;
    }
    let (resamples, level, seed) =
        first.bootstrap.as_ref().map_or((1000, 0.9, 0), |b| (b.resamples, b.level, b.seed));
    let (runs, n_runs) = runs(first, differences.iter().map(|(index, _)| *index));
    let of_row = |((index, _), run): (&(usize, f64), &usize)| {
        let row = &first.rows[*index];
        let model = row.origin.map_or(0, |origin| origin.model);
        ClusterRow { n: row.row.n_params, d: row.row.d_tokens, model, run: *run }
    };
    let clusters = Clusters::new(first.law, n_runs, differences.iter().zip(&runs).map(of_row));
    let key = Key::new(seed).named("paired bootstrap");
    let resample = |b: usize| {
        let counts = Clusters::counts(clusters.as_ref(), n_runs, key.child(b as u64));
        let (mut sum, mut rows) = (0.0, 0.0);
        for ((_, difference), run) in differences.iter().zip(&runs) {
            let count = counts[*run] as f64;
            sum += count * difference;
            rows += count;
        }
        sum / rows
    };
    let mut means: Vec<f64> = (0..resamples).map(resample).collect();
    let sum: f64 = differences.iter().map(|(_, difference)| difference).sum();
    Some(Comparison {
        domain: first.domain.clone(),
        law: first.law.name().to_string(),
        other: second.law.name().to_string(),
        difference: sum / differences.len() as f64,
        interval: Interval::around(&mut means, level),
        better: means.iter().filter(|mean| **mean < 0.0).count() as f64 / resamples as f64,
    })
}

/// The runs of rows, numbered anew from 0 in the order in which they come, and how many there are. A
/// row whose run is not known is a run of its own.
fn runs(fit: &Fit, rows: impl Iterator<Item = usize>) -> (Vec<usize>, usize) {
    numbered(rows.map(|index| fit.rows[index].origin.map(|origin| origin.run).ok_or(index)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::{Bootstrap, HoldOut, Options, fit};
    use crate::laws::{Forgetting, ForgettingOffset, Law, Row};
    use crate::table::{Run, Table};

    /// Two pretrained models of each size, which the seed numbers.
    fn table() -> Table {
        let mut runs = Vec::new();
        for (n_params, loss_pt0) in [(1e6, 4.0), (4e6, 3.6), (1.6e7, 3.3), (6.4e7, 3.0)] {
            for model in ["0", "1"] {
                for d_ft_tokens in [1e4, 1e5, 1e6] {
                    for p in [0.0, 0.01, 0.05] {
                        let row = Row { n_params, d_ft_tokens, p, loss_pt0, ..Row::default() };
                        let law = Forgetting.predict(&(&row).into(), &[3.0, 300.0, 0.3, 0.25]);
                        let noise = (0.002 * Key::new(3).normal(runs.len() as u64)).exp();
                        let (loss_pt, seed) = (Some(law * noise), model.to_string());
                        let (parent, run) = (format!("{n_params}-{model}"), runs.len().to_string());
                        runs.push(Run { row, loss_pt, parent, run, seed, ..Run::default() });
                    }
                }
            }
        }
        Table::new(runs)
    }

    /// The width of the interval if one form is exact, and the other misses the runs of one model of
    /// each size by 1%, and those of the other by 3%.
    fn width(table: &Table) -> f64 {
        let (bootstrap, hold_out) = (Bootstrap::NONE, Some(HoldOut::Size));
        let options = Options { bootstrap, hold_out, ..Options::default() };
        let laws: [&'static dyn Law; 2] = [&Forgetting, &ForgettingOffset];
        let mut fits = laws.map(|law| fit(table, law, &options).unwrap());
        for (i, fit) in fits.iter_mut().enumerate() {
            for row in &mut fit.held_out.as_mut().unwrap().rows {
                let missed = if table.runs[row.index].seed == "0" { 0.01 } else { 0.03 };
                row.prediction =
                    fit.rows[row.index].loss * (1.0 + if i == 0 { missed } else { 0.0 });
            }
        }
        let found = compare(&fits);
        assert_eq!(found.len(), 1);
        assert!((found[0].difference - 0.02).abs() < 1e-9, "{}", found[0].difference);
        let Interval { low, high, .. } = found[0].interval;
        assert!(low <= 0.02 && 0.02 <= high, "{low} {high}");
        high - low
    }

    fn without_models(mut table: Table) -> Table {
        table.runs.iter_mut().for_each(|run| run.parent.clear());
        table
    }

    /// Further rows of a run say nothing new.
    #[test]
    fn rows_of_one_run_are_drawn_together() {
        let alone = width(&without_models(table()));
        let mut several = without_models(table());
        for run in without_models(table()).runs {
            let later = |i: u32| {
                let loss_pt = run.loss_pt.map(|loss| loss * (1.0 + 1e-6 * f64::from(i)));
                Run { loss_pt, ..run.clone() }
            };
            several.runs.extend((1..9).map(later));
        }
        let together = width(&several);
        assert!((together / alone - 1.0).abs() < 0.15, "{together} {alone}");
        // As runs of their own, nine times as many, they make the interval a third as wide.
        several.runs.iter_mut().enumerate().for_each(|(i, run)| run.run = i.to_string());
        let apart = width(&several);
        assert!((0.25..0.45).contains(&(apart / alone)), "{apart} {alone}");
    }

    /// Runs of a pretrained model miss alike: eight models say less than 72 runs would.
    #[test]
    fn runs_of_one_pretrained_model_are_drawn_together() {
        let (models, runs) = (width(&table()), width(&without_models(table())));
        assert!((2.0..4.5).contains(&(models / runs)), "{models} {runs}");
    }
}
