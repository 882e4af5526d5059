//! Figure 2: how much of the progress of pretraining a finetuning loses. [Figure 14](super::fig14) shows
//! the same for every amount of data.
//!
//! Progress lost = (L_pt − L_pt⁰) / (L_ref − L_pt⁰) at the bottom of the U, with L_ref the loss of a
//! unigram model. The paper's formula is unknown; this one is ours.

use crate::blocks::{MAIN, SEEDS};
use crate::figures::style::{self, Scale, Tally, percent, short};
use crate::figures::{Figure, Finding, Page, Table, Verdict};
use crate::format::cell;
use crate::results::{Finetuned, Laws, Results, distinct};
use forgetting_laws::Result;
use plot::{self, Axis, Direction, Interval, Line, Mark, Numbers, Panel, Share, Stroke};

/// How many panels are side by side; there is one per domain.
const COLUMNS: usize = 3;

/// "Prevents": the required share of the increase that injection prevents.
const PREVENTED: f64 = 0.9;

/// "More severe": the required share of the pairs of runs.
const MOST_PAIRS: f64 = 0.9;

/// How far a share of the progress may be from the paper's.
const POINTS: f64 = 0.15;

/// Figure 2: the largest D_ft of each domain.
pub const FIG2: Figure = Figure {
    id: "fig2",
    paper: "Figure 2 (arXiv v2)",
    title: "Progress of pretraining that finetuning loses, by model size",
    blocks: &[MAIN, SEEDS],
    draw,
};

fn draw(results: &Results, _: &Laws) -> Result<Page> {
    let mut panels = Vec::new();
    for domain in results.domains_of(MAIN) {
        let of_domain = || results.block(MAIN).filter(|run| run.domain == domain.name);
        let Some(&largest) = style::amounts(of_domain()).last() else { continue };
        let runs: Vec<_> = of_domain().filter(|run| run.d_ft_tokens == largest).collect();
        let title = format!("{}, D_{{ft}} = {}", domain.name, short(largest as f64));
        panels.push((title, runs));
    }
    let drawn: Vec<&Finetuned> = panels.iter().flat_map(|panel| panel.1.clone()).collect();
    let with_titles = |(title, runs): &(String, Vec<&Finetuned>)| {
        let mut panel = panel(results, runs);
        panel.title.clone_from(title);
        panel
    };
    let panels: Vec<Panel> = panels.iter().map(with_titles).collect();
    let rows: Vec<_> = panels.chunks(COLUMNS).map(<[Panel]>::to_vec).collect();
    Ok(Page {
        drawing: (!drawn.is_empty()).then(|| drawing(&FIG2, results, rows)),
        csv: vec![(FIG2.id.into(), table(results, &drawn))],
        findings: vec![
            one_percent(results),
            more_severe(results, Pair::Sizes),
            more_severe(results, Pair::Amounts),
            smallest(results),
            largest(results),
        ],
        tables: vec![prevented_table(results)],
        notes: notes(results),
    })
}

/// The share of the progress of pretraining that is lost at the bottom; 0 if nothing is lost, more than
/// 1 if the model is worse than a unigram model.
pub fn progress_lost(results: &Results, run: &Finetuned) -> Option<f64> {
    let progress = results.pretraining.unigram_pt - run.loss_pt0();
    (progress > 0.0).then_some(run.rise()? / progress)
}

/// The progress lost against N, a line for each p.
pub(super) fn panel(results: &Results, runs: &[&Finetuned]) -> Panel {
    let fractions = Scale::fractions(style::main_fractions(results));
    let y = Axis { numbers: Numbers::Percent, ..Axis::linear("Progress lost") };
    let mut panel = Panel::new(Axis::log("N (parameters)"), y);
    for &p in fractions.values() {
        let at = |run: &&&Finetuned| {
            Some((run.n_params() as f64, progress_lost(results, run)?, run.left_out().is_none()))
        };
        let alike = || runs.iter().filter(|run| run.p == p);
        let mut points: Vec<_> = alike().filter_map(|run| at(&run)).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let line = points.iter().map(|&(n, lost, _)| (n, lost)).collect();
        panel.lines.push(Line::new(line, fractions.stroke(p)));
        for (n, lost, counts) in points {
            let glyph = fractions.glyph(p);
            let glyph = if counts { glyph } else { glyph.hollow() };
            panel.marks.push(Mark::new((n, lost), glyph));
        }
        for run in alike() {
            let seeds = style::repeats(results, SEEDS, run);
            let lost = seeds.iter().filter_map(|run| progress_lost(results, run));
            let ends = style::deviation(&lost.collect::<Vec<_>>());
            panel.intervals.extend(ends.map(|(mean, deviation)| Interval {
                at: run.n_params() as f64,
                low: mean - deviation,
                high: mean + deviation,
                direction: Direction::Vertical,
                stroke: Stroke::new(fractions.color(p), 1.0),
            }));
        }
    }
    panel
}

/// The drawing of these rows of panels, whose axes are alike.
pub(super) fn drawing(figure: &Figure, results: &Results, rows: Vec<Vec<Panel>>) -> plot::Figure {
    let fractions = Scale::fractions(style::main_fractions(results));
    let mut drawing = plot::Figure::new(figure.title, rows);
    drawing.legend = vec![fractions.both()];
    drawing.share_x = Share::Figure;
    drawing.share_y = Share::Figure;
    drawing.description = "The share of the progress of pretraining that is lost at the bottom of \
                           the U against the model size, a curve for each fraction of injected \
                           pretraining data, a panel for each domain."
        .into();
    drawing.footnote = format!(
        "Progress lost: (L_{{pt}} − L_{{pt}}^{{0}}) / (L_{{ref}} − L_{{pt}}^{{0}}) at the bottom of \
         the U, with L_{{ref}} = {} nats, the loss of a unigram model. Hollow marks are left out of \
         fits. Bars extend one standard deviation over seeds to either side, where there are several.",
        style::significant(results.pretraining.unigram_pt, 4)
    );
    drawing.provenance = style::provenance(results);
    drawing
}

/// The table of the runs that are drawn.
pub(super) fn table(results: &Results, runs: &[&Finetuned]) -> String {
    let mut csv = style::csv_of_runs(&["loss_pt0", "loss_pt", "rise", "loss_ref", "progress_lost"]);
    for run in runs {
        let loss_pt = run.bottom().map_or(f64::NAN, |bottom| bottom.loss_pt);
        let lost = progress_lost(results, run).unwrap_or(f64::NAN);
        let rise = run.rise().unwrap_or(f64::NAN);
        let numbers = [run.loss_pt0(), loss_pt, rise, results.pretraining.unigram_pt, lost];
        csv.row(style::identity(run).into_iter().chain(numbers.map(cell)));
    }
    csv.text()
}

/// Notes on the runs that are missing or left out, and on the formula.
pub(super) fn notes(results: &Results) -> Vec<String> {
    let mut notes = style::notes(results, &[MAIN, SEEDS]);
    notes.push(
        "The paper's formula for the progress of pretraining is unknown. Here it is the loss of a \
         unigram model of the pretraining data minus L_pt⁰, the loss before finetuning."
            .into(),
    );
    notes
}

/// The share of the increase that a p prevents, for each pair of runs. Pairs in which nothing was
/// forgotten are left out.
fn undone(results: &Results, domain: &str, p: f64) -> Vec<f64> {
    let pairs = style::beside_none(results, MAIN, p).into_iter();
    let of_domain = pairs.filter(|(_, with)| with.domain == domain);
    of_domain.filter_map(|(without, with)| style::prevented(without, with)).collect()
}

fn one_percent(results: &Results) -> Finding {
    let (mut words, mut verdicts) = (Vec::new(), Vec::new());
    for domain in results.domains_of(MAIN) {
        let shares = undone(results, &domain.name, style::ONE_PERCENT);
        let Some(middle) = style::median(shares.iter().copied()) else { continue };
        let tally = Tally::count(shares.into_iter().map(|share| share >= PREVENTED));
        verdicts.push(Verdict::of(middle >= PREVENTED));
        words.push(format!(
            "{} in {} (at least {} in {tally} pairs)",
            style::share(middle),
            domain.name,
            percent(PREVENTED)
        ));
    }
    Finding {
        claim: "“Injecting as little as 1% of pretraining data in the finetuning data mixture \
                prevents the model from forgetting the pretraining set.”"
            .into(),
        source: "abstract, quoted".into(),
        ours: style::about(&words, "There is no pair of runs at p = 0 and p = 1%.", |words| {
            format!("Of the increase of L_pt at p = 0, p = 1% prevents a median of {words}.")
        }),
        rule: format!(
            "the median share of the increase of L_pt that p = 1% prevents is at least {} in every \
             domain.",
            percent(PREVENTED)
        ),
        verdict: style::all(verdicts),
    }
}

fn prevented_table(results: &Results) -> Table {
    let fractions: Vec<f64> =
        style::main_fractions(results).into_iter().filter(|p| *p > 0.0).collect();
    let domains = results.domains_of(MAIN);
    style::by_domain_and_p(
        "Median share of the increase of L_pt at p = 0 that injection prevents, over N and D_ft.",
        domains.iter().map(|domain| domain.name.as_str()),
        &fractions,
        |domain, p| style::median(undone(results, domain, p)).map(style::share),
    )
}

/// Which runs are compared.
#[derive(Clone, Copy, PartialEq)]
enum Pair {
    /// Different N and the same D_ft: the smaller model should forget more.
    Sizes,
    /// Different D_ft and the same N: the run with more data should forget more.
    Amounts,
}

impl Pair {
    /// Whether the first run should forget more than the second; `None` if they are not such a pair.
    fn more(self, a: &Finetuned, b: &Finetuned) -> bool {
        let (smaller, equal_size) = (a.n_params() < b.n_params(), a.size == b.size);
        let (more_data, equal_data) =
            (a.d_ft_tokens > b.d_ft_tokens, a.d_ft_tokens == b.d_ft_tokens);
        match self {
            Self::Sizes => smaller && equal_data,
            Self::Amounts => equal_size && more_data,
        }
    }
}

fn more_severe(results: &Results, pair: Pair) -> Finding {
    let (mut tallies, mut verdicts) = (Vec::new(), Vec::new());
    for domain in results.domains_of(MAIN) {
        let counted = results
            .block(MAIN)
            .filter(|run| run.domain == domain.name && run.p == 0.0 && run.left_out().is_none());
        let runs: Vec<(&Finetuned, f64)> =
            counted.filter_map(|run| Some((run, run.rise()?))).collect();
        let pairs = runs.iter().flat_map(|a| runs.iter().map(move |b| (a, b)));
        let compared = pairs.filter(|(a, b)| pair.more(a.0, b.0));
        let tally = Tally::count(compared.map(|(a, b)| a.1 > b.1));
        verdicts.push(tally.verdict(MOST_PAIRS));
        tallies.push((tally, format!("in {}", domain.name)));
    }
    let (claim, equal, one) = match pair {
        Pair::Sizes => ("the model is small", "D_ft", "the smaller model"),
        Pair::Amounts => ("the finetuning dataset is big", "N", "the run with more target data"),
    };
    let words = style::tallies("pairs", &tallies);
    Finding {
        claim: format!("“Forgetting is more severe when … {claim}”"),
        source: "abstract, quoted".into(),
        ours: style::about(&words, "There is no pair of runs at p = 0.", |words| {
            format!("At p = 0 and equal {equal}, {one} has the larger increase of L_pt in {words}.")
        }),
        rule: format!(
            "{one} has the larger increase of L_pt in at least {} of the pairs of every domain.",
            percent(MOST_PAIRS)
        ),
        verdict: style::all(verdicts),
    }
}

/// The most progress that a size loses at p = 0, and in which run.
fn most_lost(results: &Results, n_params: f64) -> Option<(&Finetuned, f64)> {
    let of_size = results.block(MAIN).filter(|run| {
        run.n_params() as f64 == n_params && run.p == 0.0 && run.left_out().is_none()
    });
    let lost = of_size.filter_map(|run| Some((run, progress_lost(results, run)?)));
    lost.max_by(|a, b| a.1.total_cmp(&b.1))
}

fn losses_of(
    results: &Results,
    n_params: Option<f64>,
    claim: &str,
    (low, high): (f64, f64),
) -> Finding {
    let found = n_params.and_then(|n_params| most_lost(results, n_params));
    Finding {
        claim: claim.into(),
        source: "captions, reported".into(),
        ours: found.map_or("There is no run at p = 0.".into(), |(run, lost)| {
            format!(
                "The largest loss of {} (N = {} parameters) is {} of the progress, in {} with D_ft = {} \
                 tokens.",
                run.size,
                short(run.n_params() as f64),
                style::share(lost),
                run.domain,
                short(run.unique_tokens() as f64)
            )
        }),
        rule: format!(
            "the largest loss of progress lies between {} and {}, which is the reported range widened by \
             {} points. The formula is ours, because the paper's is unknown.",
            percent(low - POINTS),
            percent(high + POINTS),
            100.0 * POINTS
        ),
        verdict: found.map_or(Verdict::NotTestable, |(_, lost)| {
            Verdict::of((low - POINTS..=high + POINTS).contains(&lost))
        }),
    }
}

fn smallest(results: &Results) -> Finding {
    let sizes = distinct(results.block(MAIN).map(|run| run.n_params() as f64));
    let claim = "Without injection small models lose up to 95% of the progress of pretraining (one \
                 caption says 80%)";
    losses_of(results, sizes.first().copied(), claim, (0.8, 0.95))
}

fn largest(results: &Results) -> Finding {
    let sizes = distinct(results.block(MAIN).map(|run| run.n_params() as f64));
    let claim = "Without injection the largest model loses about 20% of the progress of pretraining \
                 (one reader says 30%)";
    // Of one size alone there is no largest.
    losses_of(results, sizes.last().copied().filter(|_| sizes.len() > 1), claim, (0.2, 0.3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::golden::{self, PLANTED};
    use crate::results::planted::planted;

    fn verdicts(results: &Results) -> Vec<Verdict> {
        let page = draw(results, &PLANTED.1).unwrap();
        page.findings.iter().map(|finding| finding.verdict).collect()
    }

    #[test]
    fn the_planted_grid_gives_the_pinned_table_and_all_panels() {
        let page = golden::page(&FIG2);
        let drawing = page.drawing.unwrap();
        assert_eq!(drawing.panels.iter().map(Vec::len).collect::<Vec<_>>(), [3]);
        for panel in drawing.panels.iter().flatten() {
            assert_eq!((panel.lines.len(), panel.marks.len()), (4, 16));
        }
        let hollow = |panel: &Panel| panel.marks.iter().filter(|mark| !mark.glyph.filled).count();
        assert_eq!(drawing.panels.iter().flatten().map(hollow).sum::<usize>(), 1);
    }

    #[test]
    fn what_is_planted_is_found() {
        let results = planted();
        let verdicts = verdicts(&results);
        // With B = 20 and alpha = 0.35, one percent undoes 1 − 1.2^−0.35 = 6%.
        assert_eq!(verdicts[0], Verdict::NotSupported);
        let near = style::median(undone(&results, "near", 0.01)).unwrap();
        assert!((near - (1.0 - 1.2f64.powf(-0.35))).abs() < 0.03, "{near}");
        let far = style::median(undone(&results, "far", 0.01)).unwrap();
        assert!((far - (1.0 - 7f64.powf(-0.35))).abs() < 0.03, "{far}");
        assert_eq!(verdicts[1..3], [Verdict::Supported, Verdict::Supported]);
    }

    #[test]
    fn every_pair_is_compared_once() {
        let results = planted();
        // Six pairs of four sizes for each of four D_ft; one run of near does not count.
        let finding = more_severe(&results, Pair::Sizes);
        for words in ["24 of 24 pairs in far", "21 of 21 in near"] {
            assert!(finding.ours.contains(words), "{}", finding.ours);
        }
    }

    #[test]
    fn progress_is_that_of_the_reference_and_needs_one() {
        let mut results = planted();
        let run = results.finetuned[0].clone();
        results.pretraining.unigram_pt = run.loss_pt0() + 2.0 * run.rise().unwrap();
        assert!((progress_lost(&results, &run).unwrap() - 0.5).abs() < 1e-12);
        results.pretraining.unigram_pt = run.loss_pt0();
        assert_eq!(progress_lost(&results, &run), None);
    }

    #[test]
    fn verdicts_turn_with_the_runs() {
        let mut results = planted();
        for run in &mut results.finetuned {
            let loss_pt0 = run.loss_pt0();
            let keep = if run.p > 0.0 { 0.0 } else { 1.0 };
            for evaluation in &mut run.record.evaluations {
                evaluation.loss_pt = loss_pt0 + keep * (evaluation.loss_pt - loss_pt0);
            }
        }
        assert_eq!(verdicts(&results)[0], Verdict::Supported);
        results.finetuned.retain(|run| run.p != 0.0);
        let none = [Verdict::NotTestable; 5];
        assert_eq!(verdicts(&results), none);
        results.finetuned.clear();
        assert_eq!(verdicts(&results), none);
    }
}
