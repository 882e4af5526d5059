//! The laws' curves over the data.

use super::residuals;
use super::{COLUMNS, Scene, dot, of_group, spread, symbol, width_for};
use crate::format::percent;
use forgetting_laws::fit::Fit;
use forgetting_laws::laws::{Point, Row};
use forgetting_laws::table::Column;
use plot::{self, Axis, Band, Key, Line, Mark, Panel, Stroke};

/// The most curves and panels that are drawn of one law; marks of further sizes have no curve.
const MOST_SIZES: usize = 7;
const MOST_FRACTIONS: usize = 5;

/// Points of a curve.
const POINTS: usize = 33;

/// A law at one size and p, over the amounts of data that were fitted.
pub struct Curve {
    /// N in parameters.
    pub n_params: f64,
    /// p, where the law looks at it.
    pub p: Option<f64>,
    /// Amounts of data in tokens, and what the law says there.
    pub points: Vec<(f64, Value)>,
}

/// A value of a law, in nats per token.
#[derive(Clone, Copy)]
pub struct Value {
    /// The loss by the law at the optimum.
    pub value: f64,
    /// The ends of its interval; without resamples the value itself.
    pub low: f64,
    pub high: f64,
}

/// The column along which a law is drawn: D_ft, or D for a law of pretraining.
pub fn along(fit: &Fit) -> Column {
    if fit.law.reads(Column::DFtTokens) { Column::DFtTokens } else { Column::DTokens }
}

/// The loss without forgetting, above which an increase is measured; 0 for a law without a
/// baseline.
pub fn baseline(fit: &Fit, row: &Row) -> f64 {
    fit.law.baseline(&Point::from(row)).unwrap_or(0.0)
}

/// The values of p that have a panel; one without name where the law does not look at p.
fn fractions(fit: &Fit) -> Vec<Option<f64>> {
    if fit.law.reads(Column::P) {
        distinct(fit, Column::P, MOST_FRACTIONS).into_iter().map(Some).collect()
    } else {
        vec![None]
    }
}

fn distinct(fit: &Fit, column: Column, most: usize) -> Vec<f64> {
    let mut values: Vec<f64> = fit.rows.iter().map(|row| row.row.get(column)).collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    spread(&values, most)
}

/// The curves of a law: of the increase above L_pt⁰ for a law of forgetting, otherwise of the loss.
pub fn curves(fit: &Fit) -> Vec<Curve> {
    let column = along(fit);
    let (low, high) = fit.range(column);
    let at = |i: usize| match i {
        0 => low,
        _ if i == POINTS - 1 => high,
        _ => low * (high / low).powf(i as f64 / (POINTS - 1) as f64),
    };
    let values = fit.values();
    let mut found = Vec::new();
    for p in fractions(fit) {
        for n_params in distinct(fit, Column::NParams, MOST_SIZES) {
            // The increase does not depend on it.
            let loss_pt0 = fit.loss_pt0_at(n_params).map_or(f64::NAN, |known| known.loss_pt0);
            let point = |size: f64| {
                let mut row =
                    Row { n_params, loss_pt0, p: p.unwrap_or(f64::NAN), ..Row::default() };
                match column {
                    Column::DFtTokens => row.d_ft_tokens = size,
                    _ => row.d_tokens = size,
                }
                let (point, base) = (Point::from(&row), baseline(fit, &row));
                let of = |values: &[f64]| fit.law.predict(&point, values) - base;
                let value = of(&values);
                let interval = fit.bootstrap.as_ref().map(|resampled| resampled.interval_of(of));
                let (low, high) = interval.map_or((value, value), |i| (i.low, i.high));
                (size, Value { value, low, high })
            };
            found.push(Curve { n_params, p, points: (0..POINTS).map(|i| point(at(i))).collect() });
        }
    }
    found
}

/// Laws that read p have a row of panels per group, with a panel per p; other laws have one panel
/// per group.
pub fn figure(scene: &Scene<'_>) -> plot::Figure {
    let (mut rows, mut panels) = (Vec::new(), Vec::new());
    for of_law in scene.fits.chunk_by(|a, b| a.law.name() == b.law.name()) {
        if of_law[0].law.reads(Column::P) {
            for fit in of_law {
                rows.push(fit.law.name().to_string());
                panels.push(row(scene, fit));
            }
            continue;
        }
        for fits in of_law.chunks(COLUMNS) {
            rows.push(of_law[0].law.name().to_string());
            let panel = |fit: &&Fit| {
                let title = fit.domain.clone();
                row(scene, fit)
                    .into_iter()
                    .map(move |panel| Panel { title: title.clone(), ..panel })
            };
            panels.push(fits.iter().flat_map(panel).collect());
        }
    }
    let width = width_for(&panels);
    let mut figure = plot::Figure::new("The laws over the data", panels);
    figure.width = width;
    figure.rows = rows;
    figure.share_x = plot::Share::Row;
    figure.share_y = plot::Share::Row;
    figure.aspect = 0.95;
    let mut sizes = scene.legend();
    for (key, _) in &mut sizes.entries {
        let color = key.glyph.map_or(plot::Color::GREY, |glyph| glyph.color);
        *key = Key {
            fill: Some((color, OPACITY)),
            stroke: Some(Stroke::new(color, 1.2)),
            glyph: Some(dot(color)),
        };
    }
    figure.legend = vec![sizes];
    figure.description = "Each law's curves over the amount of data, coloured by model size, with \
                          the observed runs as marks and the interval of the law as a band."
        .into();
    let level = scene.fits.iter().find_map(|fit| fit.bootstrap.as_ref()).map(|b| b.level);
    let band = level
        .map_or(String::new(), |level| format!(" Bands: {} intervals of the law.", percent(level)));
    figure.footnote = format!(
        "Marks: runs.{band}{}{}{}",
        if scene.fits.iter().any(|fit| has_other_p(fit)) { OTHERS } else { "" },
        if scene.fits.iter().any(|fit| rises(fit)) { RISE } else { "" },
        scene.left_out
    );
    figure
}

const OPACITY: f64 = 0.2;

const RISE: &str =
    " Rise: above L_{pt}^{0}; a run below the range stands at its edge with an arrow.";

const OTHERS: &str = " Runs at other p than those of the panels are in the table alone.";

/// Whether a law has more p than panels.
fn has_other_p(fit: &Fit) -> bool {
    fit.law.reads(Column::P) && distinct(fit, Column::P, usize::MAX).len() > MOST_FRACTIONS
}

/// Whether a law is one of what is forgotten.
fn rises(fit: &Fit) -> bool {
    fit.rows.first().is_some_and(|row| fit.law.baseline(&Point::from(&row.row)).is_some())
}

/// A law's panels, one for each p.
fn row(scene: &Scene<'_>, fit: &Fit) -> Vec<Panel> {
    let curves = curves(fit);
    let symbol = symbol(fit.law.output());
    let rises = rises(fit);
    let label =
        if rises { format!("increase of {symbol} (nats)") } else { format!("{symbol} (nats)") };
    // A panel a group has it in its title.
    let label = if fit.law.reads(Column::P) { of_group(fit, &label) } else { label };
    let drawn = || curves.iter().flat_map(|curve| &curve.points).map(|(_, value)| value.value);
    let smallest = drawn().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
    // A law that says that nothing is forgotten has nothing to show in decades.
    let logarithmic = drawn().all(|value| value > 0.0);
    let floor = 0.5 * smallest;
    let panel = |p: Option<f64>| {
        let mut y = if logarithmic { Axis::log(&label) } else { Axis::linear(&label) };
        if rises && logarithmic {
            y = y.limited(Some(floor), None);
        }
        let mut panel = Panel::new(residuals::axis(fit, along(fit)), y);
        panel.title = p.map_or(String::new(), |p| format!("p = {}", percent(p)));
        for curve in curves.iter().filter(|curve| curve.p == p) {
            let color = scene.color(curve.n_params);
            if fit.bootstrap.is_some() {
                let point = |(x, value): &(f64, Value)| (*x, value.low, value.high);
                let points = curve.points.iter().map(point).collect();
                panel.bands.push(Band { points, color, opacity: OPACITY });
            }
            let points = curve.points.iter().map(|(x, value)| (*x, value.value)).collect();
            panel.lines.push(Line::new(points, Stroke::new(color, 1.2)));
        }
        for row in fit.rows.iter().filter(|row| p.is_none_or(|p| row.row.p == p)) {
            let rise = row.loss - baseline(fit, &row.row);
            // Below every range of a log axis, where it gets its arrow.
            let y = if rises && logarithmic { rise.max(1e-3 * floor) } else { rise };
            let at = (row.row.get(along(fit)), y);
            panel.marks.push(Mark::new(at, dot(scene.color(row.row.n_params))));
        }
        panel
    };
    fractions(fit).into_iter().map(panel).collect()
}
