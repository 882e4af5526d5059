//! How much losses vary with the seed alone: the error bars of everything else.

use super::super::Table;
use super::super::style::{self, Csv, significant};
use super::{counts, loss_ft, rise};
use crate::fit::tables::cell;
use crate::results::{Finetuned, MAIN, Results};

/// "Within the seeds' variance": this many standard deviations of a difference of two runs.
pub const DEVIATIONS: f64 = 2.0;

/// Runs of the main grid, each with those that differ from it in the seed alone.
fn repeated(results: &Results) -> Vec<Vec<&Finetuned>> {
    let main = results.block(MAIN).filter(counts).map(|run| style::repeats(results, run));
    let mut groups: Vec<Vec<&Finetuned>> = main.filter(|group| group.len() > 1).collect();
    // The main grid may itself have several seeds.
    groups.dedup_by(|a, b| a[0].record.id == b[0].record.id);
    groups
}

/// Standard deviations over seeds, pooled over all runs that have several.
pub struct Deviations {
    /// Groups of runs that differ in the seed alone, and their runs.
    pub groups: usize,
    pub runs: usize,
    /// Of L_ft, L_pt and the rise, in nats.
    pub loss_ft: f64,
    pub loss_pt: f64,
    pub rise: f64,
    /// Of L_ft and the rise, each over its mean.
    pub of_target: f64,
    pub of_rise: f64,
}

/// L_ft, L_pt and the rise at the bottom.
const MEASURED: [fn(&Finetuned) -> f64; 3] =
    [loss_ft, |run| run.bottom().map_or(f64::NAN, |bottom| bottom.loss_pt), rise];

impl Deviations {
    /// None where no run has a second seed.
    pub fn of(results: &Results) -> Option<Self> {
        let groups = repeated(results);
        let runs: usize = groups.iter().map(Vec::len).sum();
        let pooled = |of: fn(&Finetuned) -> f64, over: fn(f64) -> f64| {
            let squares = groups.iter().map(|group| {
                let values: Vec<f64> = group.iter().map(|run| of(run)).collect();
                let (mean, deviation) = style::deviation(&values).unwrap_or((f64::NAN, f64::NAN));
                (group.len() - 1) as f64 * (deviation / over(mean)).powi(2)
            });
            (squares.sum::<f64>() / (runs - groups.len()) as f64).sqrt()
        };
        let plain = |_| 1.0;
        (!groups.is_empty()).then(|| Self {
            groups: groups.len(),
            runs,
            loss_ft: pooled(MEASURED[0], plain),
            loss_pt: pooled(MEASURED[1], plain),
            rise: pooled(MEASURED[2], plain),
            of_target: pooled(MEASURED[0], |mean| mean),
            of_rise: pooled(MEASURED[2], |mean| mean),
        })
    }

    /// How far a run may lie from its counterpart by the seed alone, as shares of L_ft and the rise.
    pub fn bounds(&self) -> [f64; 2] {
        [self.of_target, self.of_rise].map(|deviation| DEVIATIONS * 2f64.sqrt() * deviation)
    }

    /// The mean and the deviation of each group of runs, a row a group.
    pub fn table_of(results: &Results) -> String {
        let mut csv = Csv::new([
            "domain",
            "size",
            "n_params",
            "d_ft_tokens",
            "p",
            "seeds",
            "loss_ft",
            "loss_ft_sd",
            "loss_pt",
            "loss_pt_sd",
            "rise",
            "rise_sd",
        ]);
        for group in repeated(results) {
            let of = |of: fn(&Finetuned) -> f64| {
                let values: Vec<f64> = group.iter().map(|run| of(run)).collect();
                let (mean, deviation) = style::deviation(&values).unwrap_or((f64::NAN, f64::NAN));
                [mean, deviation]
            };
            let run = group[0];
            let names = [run.domain.clone(), run.size.clone()];
            let sizes =
                [run.n_params() as f64, run.unique_tokens() as f64, run.p, group.len() as f64];
            let numbers = sizes.into_iter().chain(MEASURED.into_iter().flat_map(of));
            csv.row(names.into_iter().chain(numbers.map(cell)));
        }
        csv.text()
    }

    /// For people.
    pub fn table(&self) -> Table {
        let row = |name: &str, deviation: f64, share: Option<f64>| {
            let share = share.map_or("-".into(), style::share);
            vec![name.to_string(), significant(deviation, 2), share]
        };
        Table {
            caption: format!(
                "Standard deviation over seeds, pooled over {} runs of {} settings.",
                self.runs, self.groups
            ),
            columns: ["at the bottom", "nats", "of its mean"].map(String::from).to_vec(),
            rows: vec![
                row("L_ft", self.loss_ft, Some(self.of_target)),
                row("L_pt", self.loss_pt, None),
                row("rise of L_pt", self.rise, Some(self.of_rise)),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::golden::PLANTED;
    use super::*;

    #[test]
    fn seeds_deviate_as_planted() {
        let deviations = Deviations::of(&PLANTED.0).unwrap();
        assert_eq!((deviations.groups, deviations.runs), (24, 72));
        // 48 degrees of freedom know a deviation to about a tenth of itself.
        assert!((deviations.of_target / 0.003 - 1.0).abs() < 0.35, "{}", deviations.of_target);
        assert!((deviations.of_rise / 0.02 - 1.0).abs() < 0.35, "{}", deviations.of_rise);
        let [target, _] = deviations.bounds();
        assert!((target / deviations.of_target - 8f64.sqrt()).abs() < 1e-12);
    }
}
