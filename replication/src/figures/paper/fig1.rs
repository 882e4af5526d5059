//! Figure 1: the losses during finetuning with and without injection, and the bottom of the U-curve.

use crate::blocks::MAIN;
use crate::figures::style::{self, Scale, Tally, percent, short};
use crate::figures::{Figure, Finding, Page};
use crate::format::cell;
use crate::results::{Finetuned, Laws, Results};
use forgetting_laws::Result;
use forgetting_laws::finetuning::Evaluation;
use plot::{self, Axis, Glyph, Legend, Line, Mark, Panel, Place, Rule, Share};

/// The fractions that the paper draws.
const FRACTIONS: [f64; 3] = [0.0, 0.01, 0.05];

/// How many domains are drawn: those that forget most.
const MOST_DOMAINS: usize = 3;

/// "Every configuration": the required share of interior bottoms. Whether a bottom is at the first or
/// the last evaluation also depends on how often and how long one evaluates.
const NEARLY_ALL: f64 = 0.95;

/// "Nearly flat": the loss rises by at most this share.
const FLAT: f64 = 0.02;

/// Figure 1.
pub const FIG1: Figure = Figure {
    id: "fig1",
    paper: "Figure 1 (arXiv v2)",
    title: "The course of finetuning with and without injection",
    blocks: &[MAIN],
    draw,
};

fn draw(results: &Results, _: &Laws) -> Result<Page> {
    let shown = shown(results);
    let mut csv = style::csv_of_runs(&["step", "loss_ft", "loss_train", "loss_pt", "bottom"]);
    for run in shown.iter().flatten() {
        let bottom = run.bottom().map(|bottom| bottom.step);
        for e in &run.record.evaluations {
            let train = e.loss_train.unwrap_or(f64::NAN);
            let losses = [e.loss_ft, train, e.loss_pt].map(cell);
            let row = style::identity(run).into_iter().chain([e.step.to_string()]);
            csv.row(row.chain(losses).chain([(bottom == Some(e.step)).to_string()]));
        }
    }
    let mut notes = style::notes(results, FIG1.blocks);
    notes.push(format!(
        "Each row shows a domain, with at most {MOST_DOMAINS} domains; the one that forgets most \
         at p = 0 comes first. The model is the second smallest, and D_ft is the largest whose \
         bottoms are interior at every p shown. The paper shows one domain, Github. A training loss \
         is the mean over the mixture since the previous evaluation."
    ));
    Ok(Page {
        drawing: (!shown.is_empty()).then(|| drawing(&FIG1, results, &shown)),
        csv: vec![(FIG1.id.into(), csv.text())],
        findings: vec![u_curves(results), overfitting(results), flat(&shown)],
        notes,
        ..Page::default()
    })
}

/// The runs that are drawn: one row per domain, p ascending.
fn shown(results: &Results) -> Vec<Vec<&Finetuned>> {
    let sizes = Scale::sizes(results.block(MAIN).map(|run| run.n_params() as f64));
    // The smallest where there is but one.
    let Some(&size) = sizes.values().get(1).or(sizes.values().first()) else { return Vec::new() };
    let of_size = || results.block(MAIN).filter(|run| run.n_params() as f64 == size);
    let mut rows = Vec::new();
    for domain in results.domains_of(MAIN) {
        let of_domain = || of_size().filter(|run| run.domain == domain.name);
        let at = |d_ft| {
            let at_p = |&p: &f64| {
                let alike = of_domain().filter(|run| run.d_ft_tokens == d_ft && run.p == p);
                alike.min_by_key(|run| run.seed)
            };
            FRACTIONS.iter().filter_map(at_p).collect::<Vec<&Finetuned>>()
        };
        let clear = |runs: &Vec<&Finetuned>| {
            !runs.is_empty() && runs.iter().all(|run| run.left_out().is_none())
        };
        let amounts = style::amounts(of_domain());
        let row = amounts.iter().rev().map(|&d_ft| at(d_ft)).find(clear);
        // Without a clear U the largest D_ft shows how the bottoms were missed.
        rows.extend(row.or(amounts.last().map(|&d_ft| at(d_ft))).filter(|row| !row.is_empty()));
    }
    let rise = |row: &Vec<&Finetuned>| row[0].rise().unwrap_or(f64::NEG_INFINITY);
    rows.sort_by(|a, b| rise(b).total_cmp(&rise(a)));
    rows.truncate(MOST_DOMAINS);
    rows
}

fn drawing(figure: &Figure, results: &Results, shown: &[Vec<&Finetuned>]) -> plot::Figure {
    let fractions = Scale::fractions(shown.iter().flatten().map(|run| run.p));
    type Read = fn(&Evaluation) -> f64;
    let columns: [(&str, &str, Read); 3] = [
        ("Target, validation", "L_{ft} (nats)", |e| e.loss_ft),
        ("Mixture, training", "training loss (nats)", |e| e.loss_train.unwrap_or(f64::NAN)),
        ("Pretraining, validation", "L_{pt} (nats)", |e| e.loss_pt),
    ];
    let panel = |row: &[&Finetuned], (_, label, read): (&str, &str, Read)| {
        let mut panel = Panel::new(Axis::linear("Finetuning steps"), Axis::linear(label));
        for run in row {
            let evaluations = &run.record.evaluations;
            let points = evaluations.iter().map(|e| (e.step as f64, read(e))).collect();
            panel.lines.push(Line::new(points, fractions.stroke(run.p)));
        }
        for run in row {
            let Some(bottom) = run.bottom_of_curve() else { continue };
            let at = run.record.evaluations.iter().find(|e| e.step == bottom.step);
            let glyph = Glyph::dot(plot::Color::BLACK);
            let glyph = if run.left_out().is_none() { glyph } else { glyph.hollow() };
            panel.marks.extend(at.map(|e| Mark::new((e.step as f64, read(e)), glyph)));
        }
        if label.starts_with("L_{ft}") {
            let bottoms =
                row.iter().filter_map(|run| run.bottom_of_curve()).map(|bottom| bottom.loss_ft);
            panel.y = panel.y.limited(None, style::above_the_bottom(bottoms));
        }
        if label.starts_with("L_{pt}") {
            panel
                .rules
                .push(Rule::new(Place::Horizontal(row[0].loss_pt0_of_curve()), "L_{pt}^{0}"));
        }
        panel
    };
    let panels = shown.iter().map(|row| columns.iter().map(|column| panel(row, *column)).collect());
    let mut drawing = plot::Figure::new(figure.title, panels.collect());
    drawing.columns = columns.iter().map(|column| column.0.to_string()).collect();
    let name = |row: &Vec<&Finetuned>| {
        format!("{}, D_{{ft}} = {}", row[0].domain, short(row[0].unique_tokens() as f64))
    };
    drawing.rows = shown.iter().map(name).collect();
    drawing.share_x = Share::Row;
    drawing.legend = vec![
        fractions.lines(),
        Legend {
            title: String::new(),
            entries: vec![(Glyph::dot(plot::Color::BLACK).into(), "bottom of the U".into())],
        },
    ];
    drawing.description = "Validation loss on the target, training loss and validation loss on \
                           the pretraining data against finetuning steps, a row for each domain \
                           and a curve for each fraction of injected pretraining data; a dot \
                           marks the lowest loss on the target."
        .into();
    let first = shown[0][0];
    drawing.footnote = format!("{}, N = {}.", first.size, short(first.n_params() as f64));
    drawing.provenance = style::provenance(results);
    drawing
}

fn u_curves(results: &Results) -> Finding {
    let runs = || results.block(MAIN);
    let tally = Tally::count(runs().map(|run| run.left_out().is_none()));
    Finding {
        claim: "12K steps are enough for a U-curve on the validation loss in every configuration"
            .into(),
        source: "setup, quoted in part".into(),
        ours: match runs().map(|run| run.steps).max() {
            None => "The main grid has no runs.".into(),
            Some(steps) => format!(
                "{tally} runs of the main grid are stable and have an interior bottom within their \
                 {steps} steps."
            ),
        },
        rule: format!(
            "at least {} of the runs are stable and have an interior bottom.",
            percent(NEARLY_ALL)
        ),
        verdict: tally.verdict(NEARLY_ALL),
    }
}

fn overfitting(results: &Results) -> Finding {
    let falls = |run: &Finetuned| {
        let evaluations = &run.record.evaluations;
        let at = evaluations.iter().find(|e| Some(e.step) == run.bottom().map(|b| b.step))?;
        let last = evaluations.last()?;
        Some(last.loss_train? < at.loss_train? && last.loss_ft > at.loss_ft)
    };
    let counted = results.block(MAIN).filter(|run| run.left_out().is_none());
    let tally = Tally::count(counted.filter_map(falls));
    Finding {
        claim: "After the bottom the model overfits: the training loss keeps falling while the \
                validation loss increases"
            .into(),
        source: "Figure 1, reported".into(),
        ours: match tally.of {
            0 => "No run counts.".into(),
            _ => format!(
                "{tally} runs end with a lower training loss and a higher loss on the target than \
                 they had at the bottom."
            ),
        },
        rule: format!(
            "at least {} of the stable runs with an interior bottom end with a lower training loss and \
 a higher loss on the target than they had at the bottom.",
            percent(NEARLY_ALL)
        ),
        verdict: tally.verdict(NEARLY_ALL),
    }
}

fn flat(shown: &[Vec<&Finetuned>]) -> Finding {
    let (mut words, mut flat) = (Vec::new(), Vec::new());
    for run in shown.iter().flatten().filter(|run| run.p == 0.01) {
        let Some(rise) = run.rise() else { continue };
        let share = rise / run.loss_pt0();
        flat.push(share <= FLAT);
        words.push(format!("{} in {}", style::share(share), run.domain));
    }
    let tally = Tally::count(flat);
    Finding {
        claim: "p = 1% keeps the pretraining loss of the small model nearly flat on arXiv".into(),
        source: "reported".into(),
        ours: style::about(&words, "No run shown has p = 1%.", |words| {
            format!("At p = 1% the increase of L_pt, as a share of L_pt⁰, is {words}.")
        }),
        rule: format!(
            "the increase of L_pt at p = 1% is at most {} of L_pt⁰ in every domain shown.",
            percent(FLAT)
        ),
        verdict: tally.verdict(1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Verdict;
    use crate::figures::golden::{self, PLANTED};
    use crate::results::planted::planted;

    #[test]
    fn the_planted_grid_gives_the_pinned_table_and_all_panels() {
        let page = golden::page(&FIG1);
        let drawing = page.drawing.unwrap();
        let sizes: Vec<_> = drawing.panels.iter().map(Vec::len).collect();
        assert_eq!(sizes, [3, 3, 3]);
        let planted = planted();
        let rises: Vec<_> = shown(&planted).iter().map(|row| row[0].rise().unwrap()).collect();
        assert!(rises.is_sorted_by(|a, b| a > b));
        assert!(drawing.panels.iter().flatten().all(|p| p.lines.len() == 3 && p.marks.len() == 3));
        let verdicts: Vec<_> = page.findings.iter().map(|finding| finding.verdict).collect();
        // Half of what is planted near the pretraining data is not undone by 1%.
        assert_eq!(verdicts, [Verdict::Supported, Verdict::Supported, Verdict::NotSupported]);
        assert!(page.findings[0].ours.starts_with("191 of 192"));
    }

    #[test]
    fn a_d_ft_whose_bottom_was_missed_is_not_drawn() {
        let mut results = planted();
        let missed = |run: &&mut Finetuned| run.size == "nano-tiny" && run.d_ft_tokens > 12_800;
        for run in results.finetuned.iter_mut().filter(missed) {
            run.record.evaluations.truncate(5);
        }
        for row in shown(&results) {
            assert_eq!((row.len(), row[0].d_ft_tokens), (3, 12_800));
        }
        for run in &mut results.finetuned {
            run.record.evaluations.truncate(5);
        }
        assert_eq!(shown(&results)[0][0].d_ft_tokens, 40_960);
        assert_eq!(u_curves(&results).verdict, Verdict::NotSupported);
        results.finetuned.clear();
        let page = draw(&results, &PLANTED.1).unwrap();
        assert!(page.drawing.is_none());
        assert!(page.findings.iter().all(|finding| finding.verdict == Verdict::NotTestable));
    }
}
