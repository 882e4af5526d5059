//! The drawing of Figure 5.

use super::{Drawn, Results, percent};
use crate::config::Ratio;
use crate::fit::drawing::short;
use crate::plot::{
    self, Axis, Color, Dash, Glyph, Legend, Line, Mark, Panel, Place, Rule, Share, Stroke,
};
use forgetting_laws::finetuning::LR_RATIO;

/// L_ft is drawn up to so many nats above the highest bottom: the U, and not the fall before it.
const ABOVE_THE_BOTTOM: f64 = 0.8;

/// The figure: for each size two rows of panels, one of each validation loss; a column for each p.
pub fn figure(results: &Results<'_>) -> plot::Figure {
    let Results { drawn, facts, .. } = results;
    let ratios = results.ratios();
    let colors = Color::sequential(ratios.len());
    let stroke = |ratio: Ratio| {
        let i = ratios.iter().position(|&known| known == ratio).unwrap_or_default();
        let rule = ratio.get() == LR_RATIO;
        Stroke::new(colors[i], if rule { 2.0 } else { 1.1 }).dashed(if rule {
            Dash::Solid
        } else {
            Dash::nth(1 + i)
        })
    };
    let fractions = results.fractions();
    let mut rows = Vec::new();
    let mut panels = Vec::new();
    for (size, _) in &results.sizes {
        let of_size = || drawn.iter().filter(|d| d.size.name == size.name);
        let bottoms = of_size().filter_map(|d| d.bottom).map(|bottom| bottom.loss_ft);
        let ceiling = bottoms.reduce(f64::max).map(|highest| highest + ABOVE_THE_BOTTOM);
        for pretraining in [false, true] {
            let label = if pretraining { "L_{pt} (nats)" } else { "L_{ft} (nats)" };
            rows.push(format!("{}, N = {}", size.name, short(size.shape.count().paper() as f64)));
            let row = fractions.iter().map(|&p| {
                let mut panel =
                    panel(of_size().filter(|d| d.cell.p == p), pretraining, label, &stroke);
                if !pretraining {
                    panel.y = panel.y.limited(None, ceiling);
                }
                panel
            });
            panels.push(row.collect());
        }
    }
    let mut figure =
        plot::Figure::new("Finetuning at several learning rates: both validation losses", panels);
    figure.rows = rows;
    figure.columns = fractions.iter().map(|&p| format!("p = {}", percent(p))).collect();
    figure.share_x = Share::Figure;
    figure.share_y = Share::Row;
    figure.description = format!(
        "For each model size two rows of panels, the validation loss on the target and on the \
             pretraining data against finetuning steps; a column for each fraction p of injected \
             pretraining data; a curve for each learning rate. Target: {}.",
        facts.target_name()
    );
    figure.provenance = format!(
        "{}; pretraining data {}; target data {}; runs {}",
        results.machine,
        facts.pretraining.spec.id(),
        facts.target.as_ref().map(|target| target.spec.id().to_string()).unwrap_or_default(),
        drawn.iter().map(|d| d.record.id.as_str()).collect::<Vec<_>>().join(" ")
    );
    figure.legend = vec![
        Legend {
            title: "lr / peak".into(),
            entries: ratios.iter().map(|&r| (stroke(r).into(), r.to_string())).collect(),
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
    figure.footnote = format!(
        "D_{{ft}} = {} tokens of {}; pretraining: {}. L_{{ft}} is cut off where it starts.",
        short(results.d_ft_tokens() as f64),
        facts.target_name(),
        facts.pretraining.source
    );
    figure
}

fn panel<'a>(
    runs: impl Iterator<Item = &'a Drawn<'a>>,
    pretraining: bool,
    label: &str,
    stroke: &dyn Fn(Ratio) -> Stroke,
) -> Panel {
    let mut panel = Panel::new(Axis::symlog("Finetuning steps", 10.0), Axis::linear(label));
    let mut loss_pt0 = None;
    for d in runs {
        let loss = |ft: f64, pt: f64| if pretraining { pt } else { ft };
        let evaluations = &d.record.evaluations;
        let points = evaluations.iter().map(|e| (e.step as f64, loss(e.loss_ft, e.loss_pt)));
        panel.lines.push(Line::new(points.collect(), stroke(d.cell.ratio)));
        if let Some(b) = d.bottom {
            let glyph = Glyph::dot(Color::BLACK);
            let glyph = match (d.stable, b.interior) {
                (false, _) => Glyph::new(plot::Shape::Cross, Color::BLACK),
                (true, true) => glyph,
                (true, false) => glyph.hollow(),
            };
            panel.marks.push(Mark::new((b.step as f64, loss(b.loss_ft, b.loss_pt)), glyph));
        }
        loss_pt0 = Some(d.loss_pt0());
    }
    if let Some(loss) = loss_pt0.filter(|_| pretraining) {
        panel.rules.push(Rule::new(Place::Horizontal(loss), ""));
    }
    panel
}
