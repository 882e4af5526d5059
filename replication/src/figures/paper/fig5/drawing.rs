//! The drawing of Figure 5.

use super::{FIG5, ratio, ratios};
use crate::figures::style::{self, percent, short};
use crate::results::{Finetuned, Results, distinct};
use forgetting_laws::finetuning::LR_RATIO;
use plot::{self, Axis, Color, Dash, Glyph, Legend, Line, Mark, Panel, Place, Rule, Share, Stroke};

/// For each size two rows of panels, one of each validation loss; a column for each p. There is at
/// least one run.
pub fn figure(results: &Results, runs: &[&Finetuned]) -> plot::Figure {
    let ratios = ratios(runs);
    let colors = Color::sequential(ratios.len());
    let stroke = |ratio: f64| {
        let i = ratios.iter().position(|&known| known == ratio).unwrap_or_default();
        let rule = ratio == LR_RATIO;
        Stroke::new(colors[i], if rule { 2.0 } else { 1.1 }).dashed(if rule {
            Dash::Solid
        } else {
            Dash::nth(1 + i)
        })
    };
    let fractions = distinct(runs.iter().map(|run| run.p));
    let mut sizes: Vec<&Finetuned> = runs.to_vec();
    sizes.dedup_by_key(|run| &run.size);
    let mut rows = Vec::new();
    let mut panels = Vec::new();
    for first in sizes {
        let of_size = || runs.iter().filter(|run| run.size == first.size);
        let ceiling = style::above_the_bottom(
            of_size().filter_map(|run| run.bottom_of_curve()).map(|b| b.loss_ft),
        );
        for pretraining in [false, true] {
            let label = if pretraining { "L_{pt} (nats)" } else { "L_{ft} (nats)" };
            rows.push(format!("{}, N = {}", first.size, short(first.n_params() as f64)));
            let row = fractions.iter().map(|&p| {
                let mut panel =
                    panel(of_size().filter(|run| run.p == p), pretraining, label, &stroke);
                if !pretraining {
                    panel.y = panel.y.limited(None, ceiling);
                }
                panel
            });
            panels.push(row.collect());
        }
    }
    let target = results.domain(&runs[0].domain).map_or("", |domain| &domain.source);
    let mut drawing = plot::Figure::new(FIG5.title, panels);
    drawing.rows = rows;
    drawing.columns = fractions.iter().map(|&p| format!("p = {}", percent(p))).collect();
    drawing.share_x = Share::Figure;
    drawing.share_y = Share::Row;
    drawing.description = format!(
        "For each model size two rows of panels, the validation loss on the target and on the \
         pretraining data against finetuning steps; a column for each fraction p of injected \
         pretraining data; a curve for each learning rate. Target: {target}."
    );
    drawing.provenance = style::provenance(results);
    drawing.legend = vec![
        Legend {
            title: "lr / peak".into(),
            entries: ratios.iter().map(|&r| (stroke(r).into(), ratio(r))).collect(),
        },
        Legend {
            title: String::new(),
            entries: vec![
                (Glyph::dot(Color::BLACK).into(), "bottom of the U".into()),
                (Glyph::dot(Color::BLACK).hollow().into(), "not interior".into()),
                (Glyph::new(plot::Shape::Cross, Color::BLACK).into(), "not stable".into()),
                (Rule::new(Place::Identity, "").stroke.into(), "L_{pt}^{0}".into()),
            ],
        },
    ];
    drawing.footnote = format!(
        "D_{{ft}} = {} tokens of {target}; pretraining on {}. Panels of L_{{ft}} end {} nats above the \
         highest bottom. A curve ends once its U has turned.",
        short(runs[0].unique_tokens() as f64),
        results.pretraining.source,
        style::ABOVE_THE_BOTTOM
    );
    drawing
}

fn panel<'a>(
    runs: impl Iterator<Item = &'a &'a Finetuned>,
    pretraining: bool,
    label: &str,
    stroke: &dyn Fn(f64) -> Stroke,
) -> Panel {
    let mut panel = Panel::new(Axis::symlog("Finetuning steps", 10.0), Axis::linear(label));
    let mut loss_pt0 = None;
    for run in runs {
        let loss = |ft: f64, pt: f64| if pretraining { pt } else { ft };
        let evaluations = &run.record.evaluations;
        let points = evaluations.iter().map(|e| (e.step as f64, loss(e.loss_ft, e.loss_pt)));
        panel.lines.push(Line::new(points.collect(), stroke(run.lr_ratio)));
        if let Some(b) = run.bottom_of_curve() {
            let glyph = Glyph::dot(Color::BLACK);
            let glyph = match (run.stable(), b.interior) {
                (false, _) => Glyph::new(plot::Shape::Cross, Color::BLACK),
                (true, true) => glyph,
                (true, false) => glyph.hollow(),
            };
            panel.marks.push(Mark::new((b.step as f64, loss(b.loss_ft, b.loss_pt)), glyph));
        }
        loss_pt0 = Some(run.loss_pt0_of_curve());
    }
    if let Some(loss) = loss_pt0.filter(|_| pretraining) {
        panel.rules.push(Rule::new(Place::Horizontal(loss), ""));
    }
    panel
}
