//! What models forget that were pretrained on fewer or on more tokens than those of the main grid,
//! beside their counterparts there: does forgetting depend on the model by N alone?

use crate::blocks::MAIN;
use crate::figures::style::{self, median};
use crate::figures::{Finding, Table, Verdict};
use crate::format::cell;
use crate::format::significant;
use crate::results::{Finetuned, Results, distinct};

/// The block of these models.
pub const BLOCK: &str = "tokens";

/// Forgetting is the same at other tokens per parameter where it differs by no more than this factor
/// in the median: ours.
const WITHIN: f64 = 1.25;

/// A run of the block and its counterpart in the main grid, which differs in the pretraining's tokens
/// alone; both count.
struct Pair<'a> {
    run: &'a Finetuned,
    main: &'a Finetuned,
}

/// Tokens over parameters, D/N.
fn per_param(run: &Finetuned) -> f64 {
    (run.d_tokens as f64 / run.n_params() as f64).round()
}

impl Pair<'_> {
    /// The increase of L_pt over that of the counterpart.
    fn ratio(&self) -> f64 {
        self.run.rise().unwrap_or(f64::NAN) / self.main.rise().unwrap_or(f64::NAN)
    }
}

fn pairs(results: &Results) -> Vec<Pair<'_>> {
    let counts = |run: &&Finetuned| run.left_out().is_none();
    let pair = |run| {
        let main = style::like(results, MAIN, run, run.p).filter(counts)?;
        (per_param(run) != per_param(main)).then_some(Pair { run, main })
    };
    results.block(BLOCK).filter(counts).filter_map(pair).collect()
}

/// The ratios of a size at a D/N.
struct Cell {
    size: String,
    n_params: u64,
    per_param: f64,
    ratios: Vec<f64>,
}

impl Cell {
    fn middle(&self) -> f64 {
        median(self.ratios.iter().copied()).unwrap_or(f64::NAN)
    }
}

/// The pairs by size and D/N.
fn cells(pairs: &[Pair<'_>]) -> Vec<Cell> {
    let mut cells: Vec<Cell> = Vec::new();
    for pair in pairs {
        let (n_params, per_param) = (pair.run.n_params(), per_param(pair.run));
        let known = cells.iter_mut().find(|c| c.n_params == n_params && c.per_param == per_param);
        match known {
            Some(cell) => cell.ratios.push(pair.ratio()),
            None => cells.push(Cell {
                size: pair.run.size.clone(),
                n_params,
                per_param,
                ratios: vec![pair.ratio()],
            }),
        }
    }
    cells.sort_by(|a, b| a.n_params.cmp(&b.n_params).then(a.per_param.total_cmp(&b.per_param)));
    cells
}

/// A row a run, a table by size and D/N, and the verdict.
pub fn page(results: &Results) -> (String, Table, Finding) {
    let pairs = pairs(results);
    let mut csv = style::csv_of_runs(&[
        "tokens_per_param",
        "rise",
        "tokens_per_param_main",
        "rise_main",
        "ratio",
    ]);
    for pair in &pairs {
        let rise = |run: &Finetuned| run.rise().unwrap_or(f64::NAN);
        let [run, main] = [pair.run, pair.main].map(|run| [per_param(run), rise(run)]);
        let numbers = run.into_iter().chain(main).chain([pair.ratio()]);
        csv.row(style::identity(pair.run).into_iter().chain(numbers.map(cell)));
    }
    let cells = cells(&pairs);
    let digits = |value: f64| significant(value, 3);
    let row = |of: &Cell| {
        let ends = distinct(of.ratios.iter().copied());
        let (low, high) = (ends[0], ends[ends.len() - 1]);
        vec![
            of.size.clone(),
            cell(of.per_param),
            of.ratios.len().to_string(),
            digits(of.middle()),
            format!("{} to {}", digits(low), digits(high)),
        ]
    };
    let table = Table {
        caption: "The increase of L_pt divided by that of the counterpart in the main grid, which \
                  differs only in the tokens of pretraining."
            .into(),
        columns: ["size", "D/N", "pairs", "median", "range"].map(String::from).to_vec(),
        rows: cells.iter().map(row).collect(),
    };
    (csv.text(), table, finding(results, &pairs, &cells))
}

fn finding(results: &Results, pairs: &[Pair<'_>], cells: &[Cell]) -> Finding {
    let word = |of: &Cell| format!("{} at D/N = {}", significant(of.middle(), 3), of.per_param);
    let of_size = |cells: &[Cell]| {
        let words: Vec<_> = cells.iter().map(word).collect();
        format!("{} for {}", style::list(&words), cells[0].size)
    };
    let sizes: Vec<_> = cells.chunk_by(|a, b| a.size == b.size).map(of_size).collect();
    let usual = distinct(pairs.iter().map(|pair| per_param(pair.main)));
    let usual: Vec<String> = usual.into_iter().map(cell).collect();
    let ours = match (results.block(BLOCK).next().is_some(), cells.is_empty()) {
        (false, _) => "No model was pretrained on another number of tokens per parameter.".into(),
        (true, true) => "No run of such a model counts and has a counterpart that counts.".into(),
        _ => format!(
            "Relative to the same run at D/N = {}, the median increase of L_pt is {}.",
            style::list(&usual),
            sizes.join("; ")
        ),
    };
    let holds = |of: &Cell| (1.0 / WITHIN..=WITHIN).contains(&of.middle());
    Finding {
        claim: "Forgetting depends on the model through N alone, however many tokens it was \
             pretrained on"
            .into(),
        source:
            "the form of Equation 7, reported; the paper has one number of tokens per parameter"
                .into(),
        ours,
        rule: format!(
            "the median increase of L_pt, relative to the same run of the main grid, is between {} and \
             {WITHIN} for every size and D/N.",
            1.0 / WITHIN
        ),
        verdict: style::all(cells.iter().map(|of| Verdict::of(holds(of)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::golden::PLANTED;
    use forgetting_laws::run::RunId;

    /// The planted grid with models on twice the tokens. Those of one size forget so many times as
    /// much, all others as much as before.
    fn with_other_tokens(times: f64) -> Results {
        let mut results = PLANTED.0.clone();
        let asked = |run: &&Finetuned| run.in_block(MAIN) && run.d_ft_tokens == 5_120;
        let mut others: Vec<Finetuned> = results.finetuned.iter().filter(asked).cloned().collect();
        for run in &mut others {
            run.blocks = vec![BLOCK.into()];
            run.d_tokens *= 2;
            run.record.id = RunId::of(&("twice", &run.record.id));
            let times = if run.size == "nano-small" { times } else { 1.0 };
            let before = run.loss_pt0();
            for evaluation in &mut run.record.evaluations {
                evaluation.loss_pt = before + times * (evaluation.loss_pt - before);
            }
        }
        results.finetuned.extend(others);
        results
    }

    #[test]
    fn one_size_that_forgets_otherwise_is_enough() {
        for (times, verdict) in [
            (1.0, Verdict::Supported),
            (1.2, Verdict::Supported),
            (1.5, Verdict::NotSupported),
            (0.6, Verdict::NotSupported),
        ] {
            let (csv, table, finding) = page(&with_other_tokens(times));
            assert_eq!(finding.verdict, verdict, "{}", finding.ours);
            // Three domains, four sizes, four fractions.
            assert_eq!(csv.lines().count(), 1 + 48);
            assert_eq!(table.rows.len(), 4);
            for row in &table.rows {
                let expected = if row[0] == "nano-small" { times } else { 1.0 };
                let middle: f64 = row[3].parse().unwrap();
                assert!((middle - expected).abs() < 0.01, "{row:?}");
                assert_eq!(row[2], "12");
            }
        }
        let finding = page(&PLANTED.0).2;
        assert_eq!(finding.verdict, Verdict::NotTestable);
        assert!(finding.ours.starts_with("No model"), "{}", finding.ours);
    }
}
