//! Beyond the paper: forgetting during finetuning, and not only at the bottom.

use crate::blocks::MAIN;
use crate::figures::style::{self, Scale, Tally, percent, short, significant};
use crate::figures::{Figure, Finding, Page, Table, Verdict};
use crate::format::cell;
use crate::results::{Finetuned, Laws, Results, distinct};
use drawings::spread;
use forgetting_laws::Result;
use forgetting_laws::finetuning::Evaluation;
use plot::{self, Axis, Color, Glyph, Legend, Line, Mark, Panel, Place, Rule, Share};

/// The most columns and rows of panels; the table has all.
const MOST_SIZES: usize = 4;
const MOST_DOMAINS: usize = 6;

/// "At the start": before this share of the steps to the bottom.
const START: f64 = 0.1;

/// The fewest evaluations at the start with which a spike can be seen.
const FEWEST: usize = 3;

/// A spike falls again by at least this many nats.
const SPIKE: f64 = 0.005;

/// The path of forgetting.
pub const PATH: Figure = Figure {
    id: "path",
    paper: "beyond the paper",
    title: "The path of forgetting during finetuning",
    blocks: &[MAIN],
    draw,
};

fn draw(results: &Results, _: &Laws) -> Result<Page> {
    let scene = Scene::of(results);
    let mut csv = style::csv_of_runs(&["step", "loss_ft", "rise", "bottom"]);
    for run in scene.runs() {
        let bottom = run.bottom_of_curve().map(|bottom| bottom.step);
        for e in &run.record.evaluations {
            let numbers = [e.loss_ft, e.loss_pt - run.loss_pt0_of_curve()].map(cell);
            let row = style::identity(run).into_iter().chain([e.step.to_string()]);
            csv.row(row.chain(numbers).chain([(bottom == Some(e.step)).to_string()]));
        }
    }
    let mut notes = style::notes(results, PATH.blocks);
    notes.push(
        "The drawing shows the largest D_ft of each domain. The table and the findings cover all \
         runs of the main grid that count."
            .into(),
    );
    Ok(Page {
        drawing: scene.drawing(&PATH),
        csv: vec![(PATH.id.into(), csv.text())],
        findings: vec![rewarming(results), late(results)],
        tables: vec![table(results)],
        notes,
    })
}

/// What is drawn.
struct Scene<'a> {
    results: &'a Results,
    domains: Vec<&'a str>,
    sizes: Vec<f64>,
}

impl<'a> Scene<'a> {
    fn of(results: &'a Results) -> Self {
        let domains = results.domains_of(MAIN).into_iter().take(MOST_DOMAINS);
        let sizes = distinct(results.block(MAIN).map(|run| run.n_params() as f64));
        Self {
            results,
            domains: domains.map(|domain| domain.name.as_str()).collect(),
            sizes: spread(&sizes, MOST_SIZES),
        }
    }

    fn of_domain(&self, domain: &'a str) -> Vec<&'a Finetuned> {
        let of_domain = || self.results.block(MAIN).filter(|run| run.domain == domain);
        let largest = style::amounts(of_domain()).last().copied();
        let drawn = |run: &&Finetuned| {
            Some(run.d_ft_tokens) == largest && self.sizes.contains(&(run.n_params() as f64))
        };
        of_domain().filter(drawn).collect()
    }

    fn runs(&self) -> Vec<&'a Finetuned> {
        self.domains.iter().flat_map(|domain| self.of_domain(domain)).collect()
    }

    fn drawing(&self, figure: &Figure) -> Option<plot::Figure> {
        let fractions = Scale::fractions(style::main_fractions(self.results));
        let panel = |domain: &'a str, size: f64| {
            let mut panel = Panel::new(
                Axis::linear("L_{ft} (nats)"),
                Axis::linear("L_{pt} − L_{pt}^{0} (nats)"),
            );
            panel.rules.push(Rule::new(Place::Horizontal(0.0), ""));
            let runs = self.of_domain(domain).into_iter();
            for run in runs.filter(|run| run.n_params() as f64 == size) {
                let rise = |loss_pt: f64| loss_pt - run.loss_pt0_of_curve();
                let points = run.record.evaluations.iter().map(|e| (e.loss_ft, rise(e.loss_pt)));
                panel.lines.push(Line::new(points.collect(), fractions.stroke(run.p)));
                let glyph = fractions.glyph(run.p);
                let glyph = if run.left_out().is_none() { glyph } else { glyph.hollow() };
                let mark = |bottom: forgetting_laws::finetuning::Bottom| {
                    Mark::new((bottom.loss_ft, rise(bottom.loss_pt)), glyph)
                };
                panel.marks.extend(run.bottom_of_curve().map(mark));
            }
            panel
        };
        let row = |domain: &&'a str| {
            self.sizes.iter().map(|&size| panel(domain, size)).collect::<Vec<_>>()
        };
        let rows: Vec<_> = self.domains.iter().map(row).collect();
        if rows.is_empty() {
            return None;
        }
        let mut drawing = plot::Figure::new(figure.title, rows);
        let name = |domain: &&'a str| {
            let largest = self.of_domain(domain).first().map_or(0, |run| run.unique_tokens());
            format!("{domain}, D_{{ft}} = {}", short(largest as f64))
        };
        drawing.rows = self.domains.iter().map(name).collect();
        drawing.columns = self.sizes.iter().map(|&n| format!("N = {}", short(n))).collect();
        drawing.share_x = Share::Row;
        drawing.share_y = Share::Row;
        let bottom = Glyph::dot(Color::GREY);
        drawing.legend = vec![
            fractions.both(),
            Legend { title: String::new(), entries: vec![(bottom.into(), "bottom".into())] },
        ];
        drawing.description =
            "The increase of the pretraining loss against the loss on the target \
                               along each finetuning, a curve for each fraction of injected \
                               pretraining data, the bottom of the U marked; a row for each \
                               domain, a column for each model size."
                .into();
        drawing.footnote = "A run starts at the right on the dashed line, goes left and up to its \
                            bottom, and from there to the right again as it overfits."
            .into();
        drawing.provenance = style::provenance(self.results);
        Some(drawing)
    }
}

/// The evaluations from the first to the bottom.
fn to_bottom(run: &Finetuned) -> &[Evaluation] {
    let evaluations = &run.record.evaluations;
    let bottom = run.bottom_of_curve().map_or(0, |bottom| bottom.step);
    &evaluations[..evaluations.partition_point(|e| e.step <= bottom)]
}

/// By how many nats the loss falls again after its highest point at the start; `None` if there are too
/// few evaluations.
fn spike(run: &Finetuned) -> Option<f64> {
    let path = to_bottom(run);
    let start = START * path.last()?.step as f64;
    let early = path[1..].iter().filter(|e| e.step as f64 <= start);
    if early.clone().count() < FEWEST {
        return None;
    }
    let top = early.max_by(|a, b| a.loss_pt.total_cmp(&b.loss_pt))?;
    let after = path.iter().filter(|e| e.step > top.step).map(|e| e.loss_pt);
    // What falls below where it started has been no increase.
    let fall = top.loss_pt - after.reduce(f64::min)?;
    (top.loss_pt > run.loss_pt0_of_curve()).then_some(fall.max(0.0)).or(Some(0.0))
}

/// The share of the final increase that has happened when half of the gain on the target is reached.
/// `None` if there is no gain or no increase.
fn at_half(run: &Finetuned) -> Option<f64> {
    let path = to_bottom(run);
    let (first, last) = (path.first()?, path.last()?);
    let rise = last.loss_pt - first.loss_pt;
    let half = 0.5 * (first.loss_ft + last.loss_ft);
    if !(rise > 0.0 && last.loss_ft < first.loss_ft) {
        return None;
    }
    let (before, after) =
        path.windows(2).map(|pair| (pair[0], pair[1])).find(|(_, after)| after.loss_ft <= half)?;
    let share = (before.loss_ft - half) / (before.loss_ft - after.loss_ft);
    let loss_pt = before.loss_pt + share * (after.loss_pt - before.loss_pt);
    Some((loss_pt - first.loss_pt) / rise)
}

fn counted(results: &Results) -> impl Iterator<Item = &Finetuned> {
    results.block(MAIN).filter(|run| run.left_out().is_none())
}

fn rewarming(results: &Results) -> Finding {
    let spikes: Vec<(f64, f64)> =
        counted(results).filter_map(|run| Some((run.p, spike(run)?))).collect();
    let of = |p: f64| {
        let at_p = spikes.iter().filter(|spike| spike.0 == p);
        Tally::count(at_p.map(|spike| spike.1 >= SPIKE))
    };
    let fractions = distinct(spikes.iter().map(|spike| spike.0));
    let case = |&p: &f64| (of(p), format!("at p = {}", percent(p)));
    let words = style::tallies("runs", &fractions.iter().map(case).collect::<Vec<_>>());
    let most = fractions.last().map_or(Tally::default(), |&p| of(p));
    let first = counted(results)
        .filter_map(|run| Some(run.record.evaluations.get(1)?.loss_pt - run.loss_pt0_of_curve()));
    let first = style::median(first).map_or(String::new(), |rise| {
        let rise = significant(rise, 2);
        format!(" At the first evaluation, L_pt has increased by a median of {rise} nats.")
    });
    let start = percent(START);
    let none =
        format!("No run has {FEWEST} evaluations in the first {start} of the steps to the bottom.");
    let spikes = style::about(&words, &none, |words| {
        format!(
            "In the first {start} of the steps to the bottom, L_pt increases and then falls again by \
             at least {SPIKE} nats in {words}."
        )
    });
    Finding {
        claim: "The pretraining loss has a slight spike at the start of finetuning, where the \
                learning rate is warmed up again"
            .into(),
        source: "reported".into(),
        ours: spikes + &first,
        rule: format!(
            "L_pt has a spike of at least {SPIKE} nats in at least half of the runs at the largest p, where \
             forgetting hides it least. Only runs with at least {FEWEST} evaluations in the first \
             {start} of the steps to the bottom are tested."
        ),
        verdict: most.verdict(0.5),
    }
}

fn late(results: &Results) -> Finding {
    let (mut words, mut verdicts) = (Vec::new(), Vec::new());
    for domain in results.domains_of(MAIN) {
        let of_domain = counted(results).filter(|run| run.domain == domain.name && run.p == 0.0);
        let Some(middle) = style::median(of_domain.filter_map(at_half)) else { continue };
        verdicts.push(Verdict::of(middle < 0.5));
        words.push(format!("{} in {}", style::share(middle), domain.name));
    }
    Finding {
        claim: "The second half of the gain on the target costs more forgetting than the first"
            .into(),
        source: "beyond the paper".into(),
        ours: style::about(
            &words,
            "There is no run at p = 0 with a gain and an increase.",
            |words| {
                format!(
                    "Of the increase of L_pt at the bottom, a median of {words} has happened at p = 0 when \
                 half of the gain in L_ft is reached."
                )
            },
        ),
        rule: "in every domain, a median of less than half of the increase of L_pt at the bottom has happened \
               at p = 0 when half of the gain in L_ft is reached.".into(),
        verdict: style::all(verdicts),
    }
}

fn table(results: &Results) -> Table {
    let domains = results.domains_of(MAIN);
    style::by_domain_and_p(
        "Median share of the increase of L_pt at the bottom that has happened when half of the gain in \
         L_ft is reached.",
        domains.iter().map(|domain| domain.name.as_str()),
        &style::main_fractions(results),
        |domain, p| {
            let alike = counted(results).filter(|run| run.domain == domain && run.p == p);
            style::median(alike.filter_map(at_half)).map(style::share)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::golden::{self, PLANTED};

    /// A run whose losses on the target and on the pretraining data are these, 10 steps apart.
    fn with(losses: &[(f64, f64)]) -> Finetuned {
        let mut run = PLANTED.0.finetuned[0].clone();
        let at = |(i, &(loss_ft, loss_pt)): (usize, &(f64, f64))| Evaluation {
            step: 10 * i as u64,
            loss_ft,
            loss_pt,
            loss_train: None,
        };
        run.record.evaluations = losses.iter().enumerate().map(at).collect();
        run
    }

    #[test]
    fn the_planted_grid_gives_the_pinned_table_and_all_panels() {
        let page = golden::page(&PATH);
        let drawing = page.drawing.unwrap();
        assert_eq!(drawing.panels.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 4]);
        for panel in drawing.panels.iter().flatten() {
            assert_eq!((panel.lines.len(), panel.marks.len()), (4, 4));
        }
        // The planted runs have one evaluation in the first tenth.
        assert_eq!(page.findings[0].verdict, Verdict::NotTestable);
        assert_eq!(page.tables[0].rows.len(), 3);
    }

    #[test]
    fn half_of_the_gain_lies_between_evaluations() {
        // Gain of 2 at the bottom; half of it in the middle of the second step, where 1 + 0.5 of
        // the increase of 4 has come.
        let run = with(&[(5.0, 3.0), (4.5, 4.0), (3.5, 5.0), (3.0, 7.0), (3.1, 9.0)]);
        assert!((at_half(&run).unwrap() - 1.5 / 4.0).abs() < 1e-12);
        assert_eq!(at_half(&with(&[(5.0, 3.0), (5.5, 4.0)])), None);
        assert_eq!(at_half(&with(&[(5.0, 3.0), (4.0, 2.0), (4.5, 4.0)])), None);
    }

    #[test]
    fn a_spike_rises_early_and_falls() {
        let path = |early: [f64; 3]| {
            let mut losses = vec![(5.0, 3.0)];
            losses.extend(early.map(|loss_pt| (4.9, loss_pt)));
            losses.extend((4..=30).map(|i| (5.0 - 0.1 * i as f64, 3.0 + 0.01 * i as f64)));
            losses.push((9.0, 5.0));
            with(&losses)
        };
        assert!((spike(&path([3.2, 3.3, 3.1])).unwrap() - 0.26).abs() < 1e-12);
        assert_eq!(spike(&path([3.01, 3.02, 3.03])), Some(0.0));
        // Lower than at the start all along.
        assert_eq!(spike(&path([2.9, 2.8, 2.7])), Some(0.0));
        assert_eq!(spike(&with(&[(5.0, 3.0), (4.0, 3.5), (3.0, 3.1), (4.0, 4.0)])), None);
    }

    #[test]
    fn an_empty_grid_has_no_path() {
        let mut results = PLANTED.0.clone();
        results.finetuned.clear();
        let page = draw(&results, &PLANTED.1).unwrap();
        assert!(page.drawing.is_none());
        assert!(page.findings.iter().all(|finding| finding.verdict == Verdict::NotTestable));
    }
}
