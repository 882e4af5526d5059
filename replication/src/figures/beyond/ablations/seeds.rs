//! How much losses vary with the seed of finetuning alone, the error bars of everything else, and with
//! the pretrained model alone.

use super::{counts, loss_ft, rise};
use crate::blocks::MAIN;
use crate::figures::style::{self, Csv, significant};
use crate::format::Table;
use crate::format::cell;
use crate::results::{Finetuned, Results};

/// "Within the seeds' variance": this many standard deviations of a difference of two runs.
pub const DEVIATIONS: f64 = 2.0;

/// Runs of the main grid, each with those that differ from it in what a block varies.
fn repeated<'a>(results: &'a Results, block: &str) -> Vec<Vec<&'a Finetuned>> {
    let main = results.block(MAIN).filter(counts).map(|run| style::repeats(results, block, run));
    let mut groups: Vec<Vec<&Finetuned>> = main.filter(|group| group.len() > 1).collect();
    // The main grid may itself have several.
    groups.dedup_by(|a, b| a[0].record.id == b[0].record.id);
    groups
}

/// Standard deviations over seeds or models, pooled over all runs that have several.
pub struct Deviations {
    /// Groups of runs that differ in it alone, and their runs.
    pub groups: usize,
    pub runs: usize,
    /// Standard deviations of L_ft, L_pt and the increase, in nats.
    pub loss_ft: f64,
    pub loss_pt: f64,
    pub rise: f64,
    /// Standard deviations of L_ft and the increase, each divided by its mean.
    pub of_target: f64,
    pub of_rise: f64,
}

/// L_ft, L_pt and the increase at the bottom.
const MEASURED: [fn(&Finetuned) -> f64; 3] =
    [loss_ft, |run| run.bottom().map_or(f64::NAN, |bottom| bottom.loss_pt), rise];

impl Deviations {
    /// Of what the block varies; None where no run has a second one.
    pub fn of(results: &Results, block: &str) -> Option<Self> {
        let groups = repeated(results, block);
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

    /// How far a run may lie from its counterpart by the seed alone, as shares of L_ft and the increase.
    pub fn bounds(&self) -> [f64; 2] {
        [self.of_target, self.of_rise].map(|deviation| DEVIATIONS * 2f64.sqrt() * deviation)
    }

    /// The mean and the deviation of each group of runs, a row a group.
    pub fn table_of(results: &Results, block: &str) -> String {
        let mut csv = Csv::new([
            "domain",
            "size",
            "n_params",
            "d_ft_tokens",
            "p",
            block,
            "loss_ft",
            "loss_ft_sd",
            "loss_pt",
            "loss_pt_sd",
            "rise",
            "rise_sd",
        ]);
        for group in repeated(results, block) {
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

    /// The spread as a table for people; `what` is what varies.
    pub fn table(&self, what: &str) -> Table {
        let row = |name: &str, deviation: f64, share: Option<f64>| {
            let share = share.map_or("-".into(), style::share);
            vec![name.to_string(), significant(deviation, 2), share]
        };
        Table {
            caption: format!(
                "Standard deviation over {what}, pooled over {} runs with {} settings.",
                self.runs, self.groups
            ),
            columns: ["at the bottom", "nats", "relative to the mean"].map(String::from).to_vec(),
            rows: vec![
                row("L_ft", self.loss_ft, Some(self.of_target)),
                row("L_pt", self.loss_pt, None),
                row("increase of L_pt", self.rise, Some(self.of_rise)),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::{MODELS, SEEDS};
    use crate::figures::golden::PLANTED;

    #[test]
    fn seeds_deviate_as_planted() {
        let deviations = Deviations::of(&PLANTED.0, SEEDS).unwrap();
        assert_eq!((deviations.groups, deviations.runs), (24, 72));
        // 48 degrees of freedom know a deviation to about a tenth of itself.
        assert!((deviations.of_target / 0.003 - 1.0).abs() < 0.35, "{}", deviations.of_target);
        assert!((deviations.of_rise / 0.02 - 1.0).abs() < 0.35, "{}", deviations.of_rise);
        let [target, _] = deviations.bounds();
        assert!((target / deviations.of_target - 8f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn models_are_told_from_seeds() {
        let mut results = PLANTED.0.clone();
        assert!(Deviations::of(&results, MODELS).is_none());
        let of_seeds = Deviations::of(&results, SEEDS).unwrap();
        // A second model of a size, from which a run ends 1% higher on the target.
        let main = results.block(MAIN).find(|run| run.left_out().is_none()).unwrap();
        let (mut model, mut run) = (results.parent(main).unwrap().clone(), main.clone());
        model.blocks = vec![MODELS.into()];
        model.record.id = forgetting_laws::run::RunId::of(&"another model");
        (run.blocks, run.parent) = (vec![MODELS.into()], model.record.id.clone());
        run.record.evaluations.iter_mut().for_each(|evaluation| evaluation.loss_ft *= 1.01);
        results.pretrained.push(model);
        results.finetuned.push(run);
        let of_models = Deviations::of(&results, MODELS).unwrap();
        assert_eq!((of_models.groups, of_models.runs), (1, 2));
        assert!((of_models.of_target / (0.01 / 1.005 / 2f64.sqrt()) - 1.0).abs() < 1e-9);
        let still = Deviations::of(&results, SEEDS).unwrap();
        assert_eq!((still.groups, still.runs), (of_seeds.groups, of_seeds.runs));
    }
}
