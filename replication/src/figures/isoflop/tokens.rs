//! What models forget that were pretrained on fewer or on more tokens than those of the main grid,
//! beside what the laws of the main grid say of them: does forgetting depend on the model by N alone?

use super::super::style::{self, median};
use super::super::{Finding, Table, Verdict};
use crate::fit::tables::cell;
use crate::fit::terminal::significant;
use crate::results::{Finetuned, Laws, MAIN, Results, distinct};

/// The block of these models.
pub const BLOCK: &str = "tokens";

/// The law holds at other tokens per parameter where its rise is wrong by no more than this factor
/// in the median: ours.
const WITHIN: f64 = 1.25;

/// A run that counts, and what the law of its domain says of it.
struct Seen<'a> {
    run: &'a Finetuned,
    /// D over N.
    tokens_per_param: f64,
    /// The rise of L_pt by the law.
    predicted: f64,
}

impl Seen<'_> {
    /// The observed rise over the law's.
    fn ratio(&self) -> f64 {
        self.run.rise().unwrap_or(f64::NAN) / self.predicted
    }
}

/// The runs of the block and those of the main grid with the same sizes, D_ft and p.
fn seen<'a>(results: &'a Results, laws: &Laws) -> Vec<Seen<'a>> {
    let like_one = |run: &Finetuned| {
        results.block(BLOCK).any(|other| style::alike(other, run) && other.p == run.p)
    };
    let asked = |run: &&Finetuned| run.in_block(BLOCK) || (run.in_block(MAIN) && like_one(run));
    let counted = results.finetuned.iter().filter(asked).filter(|run| run.left_out().is_none());
    let of = |run: &'a Finetuned| {
        let fit = laws.domain(&run.domain)?.forgetting.as_ref().ok()?;
        Some(Seen {
            run,
            tokens_per_param: (run.d_tokens as f64 / run.n_params() as f64).round(),
            predicted: fit.predict(&run.row()).value - run.loss_pt0(),
        })
    };
    counted.filter_map(of).collect()
}

/// A row a run, a table by D/N, and the verdict.
pub fn page(results: &Results, laws: &Laws) -> (String, Table, Finding) {
    let seen = seen(results, laws);
    let mut csv = style::csv_of_runs(&["tokens_per_param", "rise", "rise_of_law", "ratio"]);
    for seen in &seen {
        let numbers = [
            seen.tokens_per_param,
            seen.run.rise().unwrap_or(f64::NAN),
            seen.predicted,
            seen.ratio(),
        ];
        csv.row(style::identity(seen.run).into_iter().chain(numbers.map(cell)));
    }
    let amounts = distinct(seen.iter().map(|seen| seen.tokens_per_param));
    let of = |amount: f64| {
        let ratios = seen.iter().filter(|seen| seen.tokens_per_param == amount).map(Seen::ratio);
        let mut ratios: Vec<f64> = ratios.collect();
        ratios.sort_by(f64::total_cmp);
        ratios
    };
    let row = |&amount: &f64| {
        let ratios = of(amount);
        let ends = ratios.first().zip(ratios.last());
        let digits = |value: f64| significant(value, 3);
        vec![
            cell(amount),
            ratios.len().to_string(),
            median(ratios.iter().copied()).map_or("-".into(), digits),
            ends.map_or("-".into(), |(low, high)| format!("{} to {}", digits(*low), digits(*high))),
        ]
    };
    let table = Table {
        caption:
            "The observed rise of L_pt over that of the law, which was fitted to the main grid, \
                  by tokens per parameter of the pretraining."
                .into(),
        columns: ["D/N", "runs", "median", "from the lowest to the highest"]
            .map(String::from)
            .to_vec(),
        rows: amounts.iter().map(row).collect(),
    };
    (
        csv.text(),
        table,
        finding(results, &seen, &amounts.iter().map(|&a| (a, median(of(a)))).collect::<Vec<_>>()),
    )
}

fn finding(results: &Results, seen: &[Seen<'_>], medians: &[(f64, Option<f64>)]) -> Finding {
    let main = seen.iter().filter(|seen| seen.run.in_block(MAIN));
    let usual = distinct(main.map(|seen| seen.tokens_per_param));
    let others: Vec<(f64, f64)> = medians
        .iter()
        .filter(|(amount, _)| !usual.contains(amount))
        .filter_map(|&(amount, median)| Some((amount, median?)))
        .collect();
    let words: Vec<String> = others
        .iter()
        .map(|(amount, median)| format!("{} at D/N = {amount}", significant(*median, 3)))
        .collect();
    let holds = |&(_, median): &(f64, f64)| (1.0 / WITHIN..=WITHIN).contains(&median);
    let verdicts = others.iter().map(|other| Verdict::of(holds(other)));
    let ours = match (results.block(BLOCK).next().is_some(), others.is_empty()) {
        (false, _) => "No model was pretrained on other tokens per parameter.".into(),
        (true, true) => "No run of such a model counts, or no law was fitted.".into(),
        _ => format!(
            "The observed rise of L_pt over that of the law of the main grid, in the median: {}.",
            style::list(&words)
        ),
    };
    Finding {
        claim:
            "Forgetting depends on the model by N alone, however many tokens it was pretrained on"
                .into(),
        source:
            "the form of Equation 7, reported; the paper has one number of tokens per parameter"
                .into(),
        ours,
        rule: format!(
            "a median between {} and {WITHIN} at every other number of tokens per parameter",
            1.0 / WITHIN
        ),
        verdict: style::all(verdicts),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::golden::PLANTED;
    use super::*;
    use forgetting_laws::run::RunId;

    /// The planted grid with models on twice the tokens that forget so many times as much.
    fn with_other_tokens(times: f64) -> Results {
        let mut results = PLANTED.0.clone();
        let asked = |run: &&Finetuned| run.in_block(MAIN) && run.d_ft_tokens == 5_120;
        let mut others: Vec<Finetuned> = results.finetuned.iter().filter(asked).cloned().collect();
        for run in &mut others {
            run.blocks = vec![BLOCK.into()];
            run.d_tokens *= 2;
            run.record.id = RunId::of(&("twice", &run.record.id));
            let before = run.loss_pt0();
            for evaluation in &mut run.record.evaluations {
                evaluation.loss_pt = before + times * (evaluation.loss_pt - before);
            }
        }
        results.finetuned.extend(others);
        results
    }

    #[test]
    fn the_law_holds_at_other_tokens_where_the_rise_is_the_same() {
        for (times, verdict) in
            [(1.0, Verdict::Supported), (1.5, Verdict::NotSupported), (0.6, Verdict::NotSupported)]
        {
            let (csv, table, finding) = page(&with_other_tokens(times), &PLANTED.1);
            assert_eq!(finding.verdict, verdict, "{}", finding.ours);
            // Three domains, four sizes, four fractions; those of the main grid beside them.
            assert_eq!(csv.lines().count(), 1 + 2 * 48);
            let medians: Vec<f64> = table.rows.iter().map(|row| row[2].parse().unwrap()).collect();
            assert!((medians[0] - 1.0).abs() < 0.02 && (medians[1] - times).abs() < 0.02 * times);
        }
        let finding = page(&PLANTED.0, &PLANTED.1).2;
        assert_eq!(finding.verdict, Verdict::NotTestable);
        assert!(finding.ours.starts_with("No model"), "{}", finding.ours);
    }
}
