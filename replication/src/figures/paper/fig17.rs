//! Figure 17 (PMLR version): pretraining with weight decay and without.

use crate::figures::style::{self, Csv, Scale, Tally, short, significant};
use crate::figures::{Figure, Finding, Page, Table, Verdict};
use crate::format::cell;
use crate::results::{Laws, Pretrained, Results, distinct};
use forgetting_laws::Result;
use plot::{self, Axis, Color, Dash, Legend, Line, Panel, Place, Rule, Share, Stroke};

/// The block of pretraining runs with and without weight decay.
const BLOCK: &str = "fig17";

/// L_pt is drawn up to this many nats above its end, because the effect of decay shows late.
const ABOVE_THE_END: f64 = 1.0;

/// Figure 17.
pub const FIG17: Figure = Figure {
    id: "fig17",
    paper: "Figure 17 (PMLR)",
    title: "Pretraining with and without weight decay",
    blocks: &[BLOCK],
    draw,
};

fn draw(results: &Results, _: &Laws) -> Result<Page> {
    let runs = runs(results);
    let pairs = pairs(&runs);
    let mut csv = Csv::new([
        "size",
        "n_params",
        "d_tokens",
        "weight_decay",
        "seed",
        "step",
        "loss_pt",
        "run_id",
    ]);
    for run in &runs {
        for e in &run.record.evaluations {
            csv.row([
                run.size.clone(),
                n_params(run).to_string(),
                run.d_tokens().to_string(),
                cell(run.weight_decay),
                run.seed.to_string(),
                e.step.to_string(),
                cell(e.loss_pt),
                run.record.id.to_string(),
            ]);
        }
    }
    Ok(Page {
        drawing: (!runs.is_empty()).then(|| drawing(&FIG17, results, &runs, &pairs)),
        csv: vec![(FIG17.id.into(), csv.text())],
        findings: vec![finding(&pairs)],
        tables: vec![table(&pairs)],
        notes: style::notes(results, FIG17.blocks),
    })
}

fn n_params(run: &Pretrained) -> u64 {
    run.shape.count().paper()
}

/// The runs, by size, weight decay and seed.
fn runs(results: &Results) -> Vec<&Pretrained> {
    let asked = |run: &&Pretrained| run.in_block(BLOCK);
    let mut runs: Vec<&Pretrained> = results.pretrained.iter().filter(asked).collect();
    runs.sort_by(|a, b| {
        let key = |run: &Pretrained| (n_params(run), run.seed);
        a.weight_decay.total_cmp(&b.weight_decay).then(key(a).cmp(&key(b)))
    });
    runs.sort_by_key(|run| n_params(run));
    runs
}

/// Each run with weight decay after its counterpart without.
fn pairs<'a>(runs: &[&'a Pretrained]) -> Vec<(&'a Pretrained, &'a Pretrained)> {
    let without = |run: &Pretrained| {
        let alike = |other: &&&'a Pretrained| {
            other.weight_decay == 0.0 && other.size == run.size && other.seed == run.seed
        };
        runs.iter().find(alike).copied()
    };
    let decayed = runs.iter().filter(|run| run.weight_decay > 0.0);
    decayed.filter_map(|run| Some((without(run)?, *run))).collect()
}

fn drawing(
    figure: &Figure,
    results: &Results,
    runs: &[&Pretrained],
    pairs: &[(&Pretrained, &Pretrained)],
) -> plot::Figure {
    let decays = distinct(runs.iter().map(|run| run.weight_decay));
    let stroke = |decay: f64| {
        let i = decays.partition_point(|known| *known < decay);
        // What the paper does is drawn through.
        let dash = if decay > 0.0 { Dash::Solid } else { Dash::Dashed };
        Stroke::new(Color::categorical(i), 1.2).dashed(dash)
    };
    let sizes = Scale::sizes(runs.iter().map(|run| n_params(run) as f64));
    let of = |n: f64| runs.iter().filter(move |run| n_params(run) as f64 == n);
    let loss = |&n: &f64| {
        let mut panel = Panel::new(Axis::linear("Steps"), Axis::linear("L_{pt} (nats)"));
        for run in of(n) {
            let points = run.record.evaluations.iter().map(|e| (e.step as f64, e.loss_pt));
            panel.lines.push(Line::new(points.collect(), stroke(run.weight_decay)));
        }
        let ends = of(n).map(|run| run.loss()).filter(|loss| loss.is_finite());
        let ceiling = ends.reduce(f64::max).map(|end| end + ABOVE_THE_END);
        panel.y = panel.y.limited(None, ceiling);
        panel
    };
    let difference = |&n: &f64| {
        let mut panel = Panel::new(Axis::linear("Steps"), Axis::linear("with − without (nats)"));
        panel.rules.push(Rule::new(Place::Horizontal(0.0), ""));
        for (without, with) in pairs.iter().filter(|pair| n_params(pair.1) as f64 == n) {
            let at = |step| without.record.evaluations.iter().find(|e| e.step == step);
            let evaluations = with.record.evaluations.iter();
            let points = evaluations
                .filter_map(|e| Some((e.step as f64, e.loss_pt - at(e.step)?.loss_pt)))
                .collect();
            panel.lines.push(Line::new(points, stroke(with.weight_decay)));
        }
        panel
    };
    let values = sizes.values();
    let rows =
        vec![values.iter().map(loss).collect::<Vec<_>>(), values.iter().map(difference).collect()];
    let mut drawing = plot::Figure::new(figure.title, rows);
    let name = |&n: &f64| {
        let size = of(n).next().map_or("", |run| &run.size);
        format!("{size}\nN = {}", short(n))
    };
    drawing.columns = values.iter().map(name).collect();
    drawing.share_x = Share::Column;
    drawing.share_y = Share::Row;
    drawing.legend = vec![Legend {
        title: "weight decay".into(),
        entries: decays.iter().map(|&decay| (stroke(decay).into(), decay.to_string())).collect(),
    }];
    drawing.description = "The validation loss of pretraining against steps with and without \
                           weight decay, a column for each model size; below, the difference of \
                           the two."
        .into();
    drawing.footnote =
        "Below: the loss with weight decay minus the loss without it, at the same seed \
                        and step."
            .into();
    drawing.provenance = style::provenance(results);
    drawing
}

fn finding(pairs: &[(&Pretrained, &Pretrained)]) -> Finding {
    let differences: Vec<(&str, f64)> =
        pairs.iter().map(|(a, b)| (b.size.as_str(), b.loss() - a.loss())).collect();
    let tally = Tally::count(differences.iter().map(|(_, difference)| *difference < 0.0));
    let change = |(i, (size, d)): (usize, &(&str, f64))| {
        let nats = if i == 0 { " nats" } else { "" };
        format!("{}{nats} for {size}", significant(*d, 2))
    };
    let words: Vec<_> = differences.iter().enumerate().map(change).collect();
    let decays = distinct(pairs.iter().map(|pair| pair.1.weight_decay));
    let decays: Vec<_> = decays.iter().map(ToString::to_string).collect();
    Finding {
        claim: "Weight decay of 0.1 is better than none in pretraining".into(),
        source: "Figure 17 of the PMLR version, quoted in part".into(),
        ours: if pairs.is_empty() {
            "There is no pair of runs with and without weight decay.".into()
        } else {
            format!(
                "With weight decay of {} the final L_pt is lower in {tally} pairs. It changes by {}.",
                decays.join(" or "),
                style::list(&words)
            )
        },
        rule: "the final L_pt is lower with weight decay at every size.".into(),
        verdict: if decays.contains(&"0.1".to_string()) {
            tally.verdict(1.0)
        } else {
            Verdict::NotTestable
        },
    }
}

fn table(pairs: &[(&Pretrained, &Pretrained)]) -> Table {
    let columns = ["size", "N", "seed", "decay", "L_pt without", "L_pt with", "difference"];
    let row = |(without, with): &(&Pretrained, &Pretrained)| {
        vec![
            with.size.clone(),
            short(n_params(with) as f64),
            with.seed.to_string(),
            with.weight_decay.to_string(),
            significant(without.loss(), 5),
            significant(with.loss(), 5),
            significant(with.loss() - without.loss(), 2),
        ]
    };
    Table {
        caption: "Final validation loss of pretraining without and with weight decay, in nats per \
                  token."
            .into(),
        columns: columns.map(String::from).to_vec(),
        rows: pairs.iter().map(row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::golden::{self, PLANTED};

    #[test]
    fn the_planted_grid_gives_the_pinned_table_and_all_panels() {
        let page = golden::page(&FIG17);
        let drawing = page.drawing.unwrap();
        assert_eq!(drawing.panels.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4]);
        for (loss, difference) in drawing.panels[0].iter().zip(&drawing.panels[1]) {
            assert_eq!((loss.lines.len(), difference.lines.len()), (2, 1));
            // The planted difference.
            assert!(difference.lines[0].points.iter().all(|(_, d)| (d + 0.03).abs() < 1e-9));
        }
        assert_eq!(page.findings[0].verdict, Verdict::Supported);
        assert!(page.findings[0].ours.contains("4 of 4"), "{}", page.findings[0].ours);
        assert_eq!(page.tables[0].rows.len(), 4);
    }

    #[test]
    fn one_size_that_does_not_gain_is_enough() {
        let mut results = PLANTED.0.clone();
        let run = results.pretrained.iter_mut().find(|run| run.weight_decay == 0.1).unwrap();
        run.record.evaluations.last_mut().unwrap().loss_pt += 0.04;
        let verdict = |results: &Results| draw(results, &PLANTED.1).unwrap().findings[0].verdict;
        assert_eq!(verdict(&results), Verdict::NotSupported);
        results.pretrained.retain(|run| run.weight_decay > 0.0);
        assert_eq!(verdict(&results), Verdict::NotTestable);
        results.pretrained.clear();
        assert!(draw(&results, &PLANTED.1).unwrap().drawing.is_none());
    }
}
