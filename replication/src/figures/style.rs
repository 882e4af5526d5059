//! Shared code of the figures: colours and marks for sizes N and fractions p, tables of numbers, the
//! counterpart of a run in the main grid, and statistics of pairs.

use super::{Table, Verdict};
use crate::blocks::{MAIN, MODELS};
use crate::format::cell;
use crate::results::{Finetuned, Results, distinct};
use plot::{Color, Dash, Glyph, Key, Legend, Shape, Stroke};

pub use crate::format::{Csv, percent, short, significant};

/// The values of an ordered quantity with their colours, lines and marks. Sizes go from dark to light;
/// fractions have other colours, so that the two are not confused.
pub struct Scale {
    values: Vec<f64>,
    of_sizes: bool,
}

impl Scale {
    /// The scale of model sizes N, in parameters.
    pub fn sizes(sizes: impl IntoIterator<Item = f64>) -> Self {
        Self { values: distinct(sizes), of_sizes: true }
    }

    /// The scale of fractions p.
    pub fn fractions(fractions: impl IntoIterator<Item = f64>) -> Self {
        Self { values: distinct(fractions), of_sizes: false }
    }

    /// The values, ascending.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    fn rank(&self, value: f64) -> usize {
        self.values.partition_point(|known| *known < value)
    }

    /// The colour of a value.
    pub fn color(&self, value: f64) -> Color {
        let rank = self.rank(value);
        if self.of_sizes {
            let colors = Color::sequential(self.values.len());
            colors.get(rank).copied().unwrap_or(Color::GREY)
        } else {
            Color::categorical(rank)
        }
    }

    /// The line of a value; dashes distinguish values without colour.
    pub fn stroke(&self, value: f64) -> Stroke {
        Stroke::new(self.color(value), 1.2).dashed(Dash::nth(self.rank(value)))
    }

    /// The mark of a value.
    pub fn glyph(&self, value: f64) -> Glyph {
        // The last two shapes cannot be hollow, which says something else.
        Glyph::new(Shape::nth(self.rank(value) % 4), self.color(value))
    }

    /// The label of a value: `41M`, `0.5%`.
    pub fn name(&self, value: f64) -> String {
        if self.of_sizes { short(value) } else { percent(value) }
    }

    fn title(&self) -> &'static str {
        if self.of_sizes { "N" } else { "p" }
    }

    /// A legend of lines.
    pub fn lines(&self) -> Legend {
        self.legend(|value| self.stroke(value).into())
    }

    /// A legend of marks.
    pub fn marks(&self) -> Legend {
        self.legend(|value| self.glyph(value).into())
    }

    /// A legend of lines with marks.
    pub fn both(&self) -> Legend {
        self.legend(|value| Key { glyph: Some(self.glyph(value)), ..self.stroke(value).into() })
    }

    fn legend(&self, key: impl Fn(f64) -> Key) -> Legend {
        let entry = |&value: &f64| (key(value), self.name(value));
        Legend { title: self.title().into(), entries: self.values.iter().map(entry).collect() }
    }
}

/// The columns that identify the finetuning run of a row, as filled by [`identity`].
pub const IDENTITY: [&str; 8] =
    ["domain", "size", "n_params", "d_ft_tokens", "p", "seed", "left_out", "run_id"];

/// The cells that identify a finetuning run, and why it is left out of fits, if it is.
pub fn identity(run: &Finetuned) -> Vec<String> {
    vec![
        run.domain.clone(),
        run.size.clone(),
        run.n_params().to_string(),
        run.unique_tokens().to_string(),
        cell(run.p),
        run.seed.to_string(),
        run.left_out().map_or(String::new(), |why| why.name().into()),
        run.record.id.to_string(),
    ]
}

/// A table that starts with the columns of [`identity`].
pub fn csv_of_runs(columns: &[&str]) -> Csv {
    Csv::new(IDENTITY.iter().chain(columns).copied())
}

/// Whether two runs have the same size, domain and D_ft.
pub fn alike(a: &Finetuned, b: &Finetuned) -> bool {
    a.size == b.size && a.domain == b.domain && a.d_ft_tokens == b.d_ft_tokens
}

/// The replicates of a run: the runs of the main grid and of another block (of seeds, or of models)
/// that differ from it only in the seed of finetuning, or only in the pretrained model, and take part
/// in fits. The run itself is included.
pub fn repeats<'a>(results: &'a Results, block: &str, run: &Finetuned) -> Vec<&'a Finetuned> {
    let asked = |other: &&Finetuned| {
        let same_otherwise = match block {
            MODELS => other.seed == run.seed,
            _ => other.parent == run.parent,
        };
        (other.in_block(MAIN) || other.in_block(block))
            && alike(other, run)
            && other.p == run.p
            && same_otherwise
            && other.left_out().is_none()
    };
    results.finetuned.iter().filter(asked).collect()
}

/// The mean and the standard deviation of at least two numbers.
pub fn deviation(values: &[f64]) -> Option<(f64, f64)> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() > 1).then(|| (mean, (squares / (n - 1.0)).sqrt()))
}

/// The run of a block with the size, domain and D_ft of another run and with this p; the first if there
/// are several seeds.
pub fn like<'a>(
    results: &'a Results,
    block: &'a str,
    other: &Finetuned,
    p: f64,
) -> Option<&'a Finetuned> {
    let asked = |run: &&Finetuned| alike(run, other) && run.p == p;
    results.block(block).filter(asked).min_by_key(|run| run.seed)
}

/// The pairs of runs of a block at p = 0 and at `p` that differ only in p and take part in fits.
pub fn beside_none<'a>(
    results: &'a Results,
    block: &'a str,
    p: f64,
) -> Vec<(&'a Finetuned, &'a Finetuned)> {
    let counts = |run: &&Finetuned| run.left_out().is_none();
    let pair = |run| Some((like(results, block, run, 0.0).filter(counts)?, run));
    results.block(block).filter(|run| run.p == p).filter(counts).filter_map(pair).collect()
}

/// The share of the increase of L_pt that injection prevents, from two runs that differ only in p.
/// `None` if nothing was forgotten without injection.
pub fn prevented(without: &Finetuned, with: &Finetuned) -> Option<f64> {
    let increase = without.rise().filter(|&increase| increase > 0.0)?;
    Some(1.0 - with.rise()? / increase)
}

/// The smallest fraction of injection that suffices according to the paper.
pub const ONE_PERCENT: f64 = 0.01;

/// The values of p in the main grid, ascending.
pub fn main_fractions(results: &Results) -> Vec<f64> {
    distinct(results.block(MAIN).map(|run| run.p))
}

/// The values of D_ft of runs, as asked for, ascending.
pub fn amounts<'a>(runs: impl IntoIterator<Item = &'a Finetuned>) -> Vec<u64> {
    let mut amounts: Vec<u64> = runs.into_iter().map(|run| run.d_ft_tokens).collect();
    amounts.sort_unstable();
    amounts.dedup();
    amounts
}

/// A panel of L_ft ends this many nats above the highest bottom, so that it shows the U and not the
/// initial fall.
pub const ABOVE_THE_BOTTOM: f64 = 0.8;

/// The upper end of a panel of L_ft.
pub fn above_the_bottom(bottoms: impl Iterator<Item = f64>) -> Option<f64> {
    bottoms.reduce(f64::max).map(|highest| highest + ABOVE_THE_BOTTOM)
}

/// A share as text with two digits: `-3.1%`, `120%`.
pub fn share(share: f64) -> String {
    format!("{}%", significant(100.0 * share, 2))
}

/// A list of words: `a, b and c`; "none" if it is empty.
pub fn list(words: &[String]) -> String {
    match words {
        [] => "none".into(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// A sentence about a list of words; `none` if the list is empty.
pub fn about(words: &[String], none: &str, sentence: impl FnOnce(String) -> String) -> String {
    if words.is_empty() { none.into() } else { sentence(list(words)) }
}

/// Tallies with the case of each, the first with a noun: `3 of 4 pairs in far`, `1 of 2 in near`.
pub fn tallies(noun: &str, cases: &[(Tally, String)]) -> Vec<String> {
    let words = |(i, (tally, case)): (usize, &(Tally, String))| match i {
        0 => format!("{tally} {noun} {case}"),
        _ => format!("{tally} {case}"),
    };
    cases.iter().enumerate().map(words).collect()
}

/// The median; `None` if there are no numbers.
pub fn median(numbers: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut numbers: Vec<f64> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    let n = numbers.len();
    (n > 0).then(|| 0.5 * (numbers[(n - 1) / 2] + numbers[n / 2]))
}

/// The distinct names of numbers, in their order.
pub fn names_of<'a>(numbers: impl IntoIterator<Item = &'a (String, f64)>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (name, _) in numbers {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// The number of a name; `None` if it is missing or not finite.
pub fn value_of(numbers: &[(String, f64)], name: &str) -> Option<f64> {
    let known = numbers.iter().find(|(known, _)| known == name);
    known.map(|(_, value)| *value).filter(|value| value.is_finite())
}

/// Ranks from 0; equal values have the mean of their ranks.
fn ranks(values: &[f64]) -> Vec<f64> {
    let rank = |value: &f64| {
        let below = values.iter().filter(|other| *other < value).count();
        let equal = values.iter().filter(|other| *other == value).count();
        below as f64 + 0.5 * (equal as f64 - 1.0)
    };
    values.iter().map(rank).collect()
}

/// Spearman's rank correlation; `None` if all values of one side are equal.
pub fn rank_correlation(pairs: &[(f64, f64)]) -> Option<f64> {
    let (a, b): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let (a, b) = (ranks(&a), ranks(&b));
    let middle = (pairs.len() as f64 - 1.0) / 2.0;
    let product = |a: &[f64], b: &[f64]| -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - middle) * (b - middle)).sum()
    };
    let scale = (product(&a, &a) * product(&b, &b)).sqrt();
    (scale > 0.0).then(|| product(&a, &b) / scale)
}

/// A table with a row per domain and a column per p; an empty cell is a dash.
pub fn by_domain_and_p<'a>(
    caption: &str,
    domains: impl IntoIterator<Item = &'a str>,
    fractions: &[f64],
    of: impl Fn(&str, f64) -> Option<String>,
) -> Table {
    let row = |domain: &'a str| {
        let cells = fractions.iter().map(|&p| of(domain, p).unwrap_or("-".into()));
        std::iter::once(domain.to_string()).chain(cells).collect()
    };
    let names = fractions.iter().map(|&p| format!("p = {}", percent(p)));
    Table {
        caption: caption.into(),
        columns: std::iter::once("domain".to_string()).chain(names).collect(),
        rows: domains.into_iter().map(row).collect(),
    }
}

/// In how many cases a claim holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// The cases in which it holds.
    pub holds: usize,
    /// All cases.
    pub of: usize,
}

impl Tally {
    /// Counts.
    pub fn count(cases: impl IntoIterator<Item = bool>) -> Self {
        let add =
            |tally: Self, holds| Self { holds: tally.holds + usize::from(holds), of: tally.of + 1 };
        cases.into_iter().fold(Self::default(), add)
    }

    /// Whether it holds in at least this share of the cases; not testable if there are none.
    pub fn verdict(self, share: f64) -> Verdict {
        match self.of {
            0 => Verdict::NotTestable,
            of => Verdict::of(self.holds as f64 >= share * of as f64),
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.holds, self.of)
    }
}

/// The conjunction of verdicts: not supported if one is, otherwise not testable if one is or if there
/// are none.
pub fn all(verdicts: impl IntoIterator<Item = Verdict>) -> Verdict {
    let verdicts: Vec<_> = verdicts.into_iter().collect();
    match verdicts.is_empty() {
        true => Verdict::NotTestable,
        false if verdicts.contains(&Verdict::NotSupported) => Verdict::NotSupported,
        false if verdicts.contains(&Verdict::NotTestable) => Verdict::NotTestable,
        false => Verdict::Supported,
    }
}

/// The disjunction of verdicts: supported if one is; not testable if there are none.
pub fn any(verdicts: impl IntoIterator<Item = Verdict>) -> Verdict {
    let verdicts: Vec<_> = verdicts.into_iter().collect();
    let first = [Verdict::Supported, Verdict::NotSupported];
    first.into_iter().find(|of| verdicts.contains(of)).unwrap_or(Verdict::NotTestable)
}

/// Notes on what is missing for a figure: blocks without runs, and runs that are left out of
/// statistics.
pub fn notes(results: &Results, blocks: &[&str]) -> Vec<String> {
    let mut notes = Vec::new();
    for block in blocks {
        let pretrained = results.pretrained.iter().filter(|run| run.in_block(block));
        let left_out = Tally::count(results.block(block).map(|run| run.left_out().is_some()));
        if left_out.of == 0 && pretrained.count() == 0 {
            notes.push(format!(
                "The block {block} has no runs, so whatever needs them is missing here."
            ));
        }
        if left_out.holds > 0 {
            notes.push(format!(
                "The statistics leave out {left_out} finetuning runs of the block {block} because \
                 they are unstable or have no interior bottom."
            ));
        }
    }
    notes
}

/// The provenance of a drawing, for its files.
pub fn provenance(results: &Results) -> String {
    format!("{}; preset {}; runs with the hash {}", results.program, results.preset, results.hash())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::SEEDS;
    use crate::results::planted::planted;

    #[test]
    fn values_have_looks_of_their_own() {
        let fractions = Scale::fractions([0.05, 0.0, 0.01, 0.0]);
        assert_eq!(fractions.values(), [0.0, 0.01, 0.05]);
        assert_eq!(fractions.color(0.01), Color::categorical(1));
        assert_eq!(fractions.stroke(0.0).color, Color::categorical(0));
        assert_eq!(fractions.glyph(0.05).shape, Shape::nth(2));
        let names: Vec<_> = fractions.lines().entries.into_iter().map(|entry| entry.1).collect();
        assert_eq!(names, ["0%", "1%", "5%"]);
        let sizes = Scale::sizes([41e6, 109e6]);
        assert_eq!(sizes.color(109e6), Color::sequential(2)[1]);
        assert_eq!(sizes.marks().entries[0].1, "41M");
        assert_eq!(sizes.color(1e12), Color::GREY);
    }

    #[test]
    fn tables_quote_and_keep_their_columns() {
        let mut table = Csv::new(["a", "b"]);
        table.row(["x, y".into(), cell(0.1)]);
        assert_eq!(table.text(), "a,b\n\"x, y\",0.1\n");
        assert!(csv_of_runs(&["rise"]).text().ends_with(",run_id,rise\n"));
    }

    #[test]
    fn medians_and_tallies() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median([]), None);
        let tally = Tally::count([true, false, true, true]);
        assert_eq!(tally.to_string(), "3 of 4");
        assert_eq!(tally.verdict(0.75), Verdict::Supported);
        assert_eq!(tally.verdict(0.76), Verdict::NotSupported);
        assert_eq!(Tally::default().verdict(0.0), Verdict::NotTestable);
        let words = tallies("pairs", &[(tally, "in far".into()), (tally, "in near".into())]);
        assert_eq!(words, ["3 of 4 pairs in far", "3 of 4 in near"]);
        let sentence = |words| format!("It holds in {words}.");
        assert_eq!(
            about(&words, "-", sentence),
            "It holds in 3 of 4 pairs in far and 3 of 4 in near."
        );
        assert_eq!(about(&[], "There are none.", sentence), "There are none.");
    }

    #[test]
    fn one_bad_verdict_spoils_all() {
        use Verdict::{NotSupported, NotTestable, Supported};
        assert_eq!(all([Supported, Supported]), Supported);
        assert_eq!(all([Supported, NotTestable]), NotTestable);
        assert_eq!(all([NotTestable, NotSupported, Supported]), NotSupported);
        assert_eq!(all([]), NotTestable);
        assert_eq!(any([NotSupported, NotTestable, Supported]), Supported);
        assert_eq!(any([NotTestable, NotSupported]), NotSupported);
        assert_eq!(any([]), NotTestable);
    }

    #[test]
    fn deviations_need_two_numbers() {
        assert_eq!(deviation(&[1.0, 2.0, 6.0]), Some((3.0, 7f64.sqrt())));
        assert_eq!(deviation(&[1.0]), None);
        assert_eq!(list(&[]), "none");
        assert_eq!(list(&["a".into()]), "a");
        assert_eq!(list(&["a".into(), "b".into(), "c".into()]), "a, b and c");
    }

    #[test]
    fn runs_of_other_seeds_are_repeats() {
        let results = planted();
        let has_seeds = |run: &&Finetuned| run.in_block(SEEDS);
        let run = results.finetuned.iter().find(has_seeds).unwrap();
        let seeds: Vec<_> = repeats(&results, SEEDS, run).iter().map(|run| run.seed).collect();
        assert_eq!(seeds, [0, 1, 2]);
        let alone = results.block(MAIN).find(|run| run.p == 0.05).unwrap();
        assert_eq!(repeats(&results, SEEDS, alone).len(), 1);
    }

    #[test]
    fn counterparts_are_alike_and_count() {
        let results = planted();
        let pairs = beside_none(&results, MAIN, 0.01);
        // One run of the planted grid does not count, and is one at p = 0.
        assert_eq!(pairs.len(), 47);
        for (without, with) in pairs {
            assert_eq!((without.p, with.p), (0.0, 0.01));
            assert_eq!(
                (&without.size, &without.domain, without.d_ft_tokens),
                (&with.size, &with.domain, with.d_ft_tokens)
            );
        }
        assert!(like(&results, "none", &results.finetuned[0], 0.0).is_none());
        assert_eq!(main_fractions(&results), [0.0, 0.005, 0.01, 0.05]);
    }

    #[test]
    fn what_is_missing_or_left_out_is_said() {
        let notes = notes(&planted(), &[MAIN, "fig17", "decay"]);
        assert_eq!(notes.len(), 2);
        let left_out =
            "The statistics leave out 1 of 192 finetuning runs of the block main because";
        assert!(notes[0].starts_with(left_out), "{}", notes[0]);
        assert_eq!(
            notes[1],
            "The block decay has no runs, so whatever needs them is missing here."
        );
    }

    #[test]
    fn ranks_and_their_correlation() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 7.0]), [1.5, 0.0, 1.5, 3.0]);
        let of =
            |b: [f64; 4]| rank_correlation(&[1.0, 2.0, 3.0, 4.0].map(|a| (a, b[a as usize - 1])));
        assert_eq!(of([1.0, 10.0, 11.0, 100.0]), Some(1.0));
        assert_eq!(of([4.0, 3.0, 2.0, 1.0]), Some(-1.0));
        // 1 − 6·2 / (4·15).
        assert!((of([1.0, 3.0, 2.0, 4.0]).unwrap() - 0.8).abs() < 1e-12);
        assert_eq!(of([1.0; 4]), None);
        assert_eq!(rank_correlation(&[]), None);
    }
}
