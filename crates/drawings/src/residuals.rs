//! Residuals against the inputs of the laws. Those of a law that fits have no shape.

use super::{Scene, capped, dot, held_out, kinds, of_group, ring, symbol, width_for};
use crate::format::percent;
use forgetting_laws::fit::{Fit, Space};
use forgetting_laws::table::Column;
use plot::{self, Axis, Color, Line, Mark, Numbers, Panel, Place, Rule, Stroke};

/// The most rows of panels that are drawn.
const MOST_ROWS: usize = 24;

/// A row of panels for each law and group, a column for each input of the law.
pub fn figure(scene: &Scene<'_>) -> plot::Figure {
    let fits = &scene.fits[..scene.fits.len().min(MOST_ROWS)];
    let row = |fit: &&Fit| {
        let columns = fit.law.inputs().iter().map(|input| input.column);
        let columns = columns.filter(|&column| column != Column::LossPt0);
        columns.map(|column| panel(scene, fit, column)).collect::<Vec<_>>()
    };
    let panels: Vec<Vec<Panel>> = fits.iter().map(row).collect();
    let width = width_for(&panels);
    let mut figure = plot::Figure::new("Residuals", panels);
    figure.width = width;
    figure.rows = fits.iter().map(|fit| fit.law.name().to_string()).collect();
    figure.share_y = plot::Share::Row;
    figure.aspect = 0.66;
    figure.legend = vec![scene.legend(), kinds(fits)];
    figure.legend[1]
        .entries
        .push((Stroke::new(Color::GREY, 1.0).into(), "mean of the fitted".into()));
    figure.description = "Residuals of each law against each of its inputs, a row of panels for \
                          each law and group, coloured by model size."
        .into();
    let more = match scene.fits.len() - fits.len() {
        0 => String::new(),
        _ => format!(" The first {} of {} laws and groups.", fits.len(), scene.fits.len()),
    };
    let residual = match fits.first().map(|fit| fit.minimised.space) {
        Some(Space::Raw) => "predicted less observed loss, in nats",
        _ => "ln of the predicted over the observed loss",
    };
    let rings = super::rings(fits);
    figure.footnote = format!("Residual: {residual}.{rings}{more}{}", scene.left_out);
    figure
}

fn panel(scene: &Scene<'_>, fit: &Fit, column: Column) -> Panel {
    let value = |i: usize| fit.rows[i].row.get(column);
    let mut panel = Panel::new(axis(fit, column), Axis::linear(of_group(fit, "residual")));
    let of = |i: usize, prediction| fit.minimised.residual(prediction, fit.rows[i].loss);
    let fitted = fit.rows.iter().enumerate().map(|(i, row)| of(i, row.prediction).abs());
    let largest = fitted.fold(0.0, f64::max);
    let others = held_out(fit).iter().map(|row| of(row.index, row.prediction));
    // A held-out prediction may be off by orders of magnitude; it stands at the edge.
    let (low, high) =
        capped(std::iter::once(largest), others, |_, largest| (-4.0 * largest, 4.0 * largest));
    if largest > 0.0 {
        panel.y = panel.y.limited(low, high);
    }
    panel.rules.push(Rule::new(Place::Horizontal(0.0), ""));
    for held_out in held_out(fit) {
        let row = &fit.rows[held_out.index];
        let residual = of(held_out.index, held_out.prediction);
        let glyph = ring(scene.color(row.row.n_params));
        panel.marks.push(Mark::new((value(held_out.index), residual), glyph));
    }
    let mut points = Vec::with_capacity(fit.rows.len());
    for (i, row) in fit.rows.iter().enumerate() {
        let residual = of(i, row.prediction);
        points.push((value(i), residual));
        let glyph = dot(scene.color(row.row.n_params));
        panel.marks.push(Mark::new((value(i), residual), glyph));
    }
    let trend = means(points);
    if trend.len() > 1 {
        panel.lines.push(Line::new(trend, Stroke::new(Color::GREY, 1.0)));
    }
    panel
}

/// The mean at each x, or over neighbours where there are many x; none where an x has one point.
fn means(mut points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    const MOST: usize = 12;
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mean = |of: &[(f64, f64)]| {
        (of[of.len() / 2].0, of.iter().map(|point| point.1).sum::<f64>() / of.len() as f64)
    };
    let by_value: Vec<_> = points.chunk_by(|a, b| a.0 == b.0).collect();
    match by_value.len() {
        n if n > MOST => points.chunks(points.len().div_ceil(MOST)).map(mean).collect(),
        n if 2 * n > points.len() => Vec::new(),
        _ => by_value.into_iter().map(mean).collect(),
    }
}

/// The axis of an input: sizes in decades, and p in decades around 0.
pub fn axis(fit: &Fit, column: Column) -> Axis {
    let label = match column {
        Column::NParams => "Parameters",
        Column::DFtTokens => "Target tokens",
        Column::DTokens => "Tokens",
        _ => "Injected",
    };
    let label = format!("{label} {}", symbol(column));
    if column != Column::P {
        return Axis::log(label);
    }
    let positive = fit.rows.iter().map(|row| row.row.p).filter(|p| *p > 0.0);
    let smallest = positive.reduce(f64::min).unwrap_or(1.0);
    let mut fractions: Vec<f64> = fit.rows.iter().map(|row| row.row.p).collect();
    fractions.sort_by(f64::total_cmp);
    fractions.dedup();
    // A round number, so that the decades above it are.
    let mut axis = Axis::symlog(label, 10f64.powf(smallest.log10().floor()));
    axis.numbers = Numbers::Percent;
    if fractions.len() <= 8 {
        axis.ticks = Some(fractions.iter().map(|&p| (p, percent(p))).collect());
    }
    axis
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_of_equal_x_or_of_neighbours() {
        let points = vec![(2.0, 5.0), (1.0, 1.0), (1.0, 3.0), (2.0, 7.0)];
        assert_eq!(means(points), [(1.0, 2.0), (2.0, 6.0)]);
        // Single points are no trend.
        assert_eq!(means(vec![(1.0, 1.0), (2.0, 1.0), (3.0, 1.0)]), []);
        let many = means((0..120).map(|i| (f64::from(i), f64::from(i))).collect());
        assert_eq!((many.len(), many[0], many[11]), (12, (5.0, 4.5), (115.0, 114.5)));
    }
}
