//! The drawings of fitted laws, each with a table of what it shows: what `replication fit` writes, and
//! `Fit.plots()` of the Python package.

mod curves;
pub mod format;
mod residuals;
pub mod tables;

use crate::format::{error_percent, fit_name, short};
use forgetting_laws::fit::file::LawFile;
use forgetting_laws::fit::{Fit, HeldOutRow, Observed};
use forgetting_laws::store::write_atomic;
use forgetting_laws::table::Column;
use forgetting_laws::{Error, Result};
use plot::{self, Axis, Color, Corner, Glyph, Key, Legend, Mark, Note, Panel, Place, Rule};
use std::path::{Path, PathBuf};

/// Panels side by side.
const COLUMNS: usize = 3;

/// The most groups that are drawn; the tables have all of them.
const MOST_GROUPS: usize = 12;

/// A drawing and the numbers in it.
pub struct Drawing {
    /// The stem of its files.
    pub name: &'static str,
    /// The drawing.
    pub figure: plot::Figure,
    /// The numbers as CSV, one row per mark or point.
    pub table: String,
}

/// Predicted against observed losses, the residuals, and the laws' curves.
pub fn drawings(file: &LawFile) -> [Drawing; 3] {
    let scene = Scene::of(file);
    let provenance = format!(
        "{} commit {}; {} with sha256 {}",
        file.program, file.commit, file.input.path, file.input.sha256
    );
    let drawing = |name, figure: plot::Figure, table| {
        let provenance = provenance.clone();
        Drawing { name, figure: plot::Figure { provenance, ..figure }, table }
    };
    [
        drawing("predicted", predicted(&scene), tables::predicted(file)),
        drawing("residuals", residuals::figure(&scene), tables::residuals(file)),
        drawing("curves", curves::figure(&scene), tables::curves(file)),
    ]
}

/// Writes the drawings and their tables into a folder, and returns the drawings' names.
///
/// # Errors
/// If a file cannot be written.
pub fn draw(file: &LawFile, folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for Drawing { name, figure, table } in drawings(file) {
        write_atomic(&folder.join(format!("{name}.csv")), table.as_bytes())?;
        let [svg, _] = write(&figure, &folder.join(name))?;
        names.push(svg.display().to_string());
    }
    Ok(names)
}

/// Writes a figure as `stem.svg` and `stem.png`, each whole or not at all, and returns their paths.
///
/// # Errors
/// If a file cannot be written, or the figure is too large to draw.
pub fn write(figure: &plot::Figure, stem: &Path) -> Result<[PathBuf; 2]> {
    let paths = ["svg", "png"].map(|extension| {
        let mut name = stem.as_os_str().to_owned();
        name.push(format!(".{extension}"));
        PathBuf::from(name)
    });
    let png = figure.png(plot::DPI);
    let png = png.map_err(|error| Error::content(&paths[1], None, error.to_string()))?;
    write_atomic(&paths[0], figure.svg().as_bytes())?;
    write_atomic(&paths[1], &png)?;
    Ok(paths)
}

/// The fits that are drawn, by law and then by group.
struct Scene<'a> {
    fits: Vec<&'a Fit>,
    /// What is not drawn, in words; empty where all is.
    left_out: String,
    /// Every model size, ascending.
    sizes: Vec<f64>,
}

impl<'a> Scene<'a> {
    fn of(file: &'a LawFile) -> Self {
        let domains = file.domains();
        let drawn = &domains[..domains.len().min(MOST_GROUPS)];
        let mut fits: Vec<&Fit> =
            file.fits().filter(|fit| drawn.contains(&fit.domain.as_str())).collect();
        let mut laws: Vec<&str> = Vec::new();
        for fit in file.fits() {
            if !laws.contains(&fit.law.name()) {
                laws.push(fit.law.name());
            }
        }
        fits.sort_by_key(|fit| laws.iter().position(|name| *name == fit.law.name()));
        let mut sizes: Vec<f64> =
            fits.iter().flat_map(|fit| &fit.rows).map(|row| row.row.n_params).collect();
        sizes.sort_by(f64::total_cmp);
        sizes.dedup();
        let left_out = match domains.len() - drawn.len() {
            0 => String::new(),
            _ => format!(
                " The first {} of {} groups; the table beside it has all.",
                drawn.len(),
                domains.len()
            ),
        };
        Self { fits, left_out, sizes }
    }

    /// The colour of a model size.
    fn color(&self, n_params: f64) -> Color {
        let rank = self.sizes.partition_point(|size| *size < n_params);
        Color::sequential(self.sizes.len()).get(rank).copied().unwrap_or(Color::GREY)
    }

    /// Some sizes and their colours.
    fn legend(&self) -> Legend {
        const MOST: usize = 7;
        let entry = |size: f64| (Glyph::dot(self.color(size)).into(), short(size));
        let entries = spread(&self.sizes, MOST).into_iter().map(entry).collect();
        Legend { title: "N".into(), entries }
    }
}

/// The legend of marks: fitted runs are full, held-out ones hollow.
pub fn kinds(fits: &[&Fit]) -> Legend {
    let mut entries: Vec<(Key, String)> = vec![(dot(Color::GREY).into(), "fitted".into())];
    if fits.iter().any(|fit| fit.held_out.is_some()) {
        entries.push((ring(Color::GREY).into(), "held out".into()));
    }
    Legend { title: String::new(), entries }
}

/// The mark of a held-out run: around the dot of the fitted one, where they agree.
pub fn ring(color: Color) -> Glyph {
    Glyph { radius: 2.2, ..Glyph::dot(color).hollow() }
}

/// What a ring is, where there are some.
fn rings(fits: &[&Fit]) -> &'static str {
    if fits.iter().any(|fit| fit.held_out.is_some()) {
        " Rings: predicted by a law that was fitted without the run; far beyond the others \
         they stand at the edge with an arrow."
    } else {
        ""
    }
}

/// A small mark: there may be hundreds.
pub fn dot(color: Color) -> Glyph {
    Glyph { radius: 1.4, ..Glyph::dot(color) }
}

/// The label of a y axis: the group of the fit, then what is drawn.
fn of_group(fit: &Fit, what: &str) -> String {
    match fit.domain.as_str() {
        "" => what.to_string(),
        domain => format!("{domain}: {what}"),
    }
}

/// A panel's width is bounded, so that a single panel does not fill the page.
fn width_for(panels: &[Vec<Panel>]) -> f64 {
    match panels.iter().map(Vec::len).max().unwrap_or(0) {
        0 | 1 => 280.0,
        2 => 420.0,
        _ => 504.0,
    }
}

/// The rows that were held out, with their predictions.
pub fn held_out(fit: &Fit) -> &[HeldOutRow] {
    fit.held_out.as_ref().map_or(&[], |held_out| &held_out.rows)
}

fn predicted(scene: &Scene<'_>) -> plot::Figure {
    let panel = |fit: &Fit| {
        let symbol = symbol(fit.law.output());
        let mut panel = Panel::new(
            Axis::log(format!("Observed {symbol} (nats)")),
            Axis::log(format!("Predicted {symbol} (nats)")),
        );
        panel.equal = true;
        let losses = fit.rows.iter().flat_map(|row| [row.loss, row.prediction]);
        let predictions = held_out(fit).iter().map(|row| row.prediction);
        // A held-out prediction may be off by orders of magnitude; it stands at the edge.
        let (low, high) = capped(losses, predictions, |low, high| (low / 1.5, 1.5 * high));
        panel.x = panel.x.limited(low, high);
        panel.y = panel.y.limited(low, high);
        panel.rules.push(Rule::new(Place::Identity, ""));
        let mark = |row: &Observed, prediction: f64, glyph: fn(Color) -> Glyph| {
            Mark::new((row.loss, prediction), glyph(scene.color(row.row.n_params)))
        };
        let held_out = held_out(fit).iter();
        let rings = held_out.map(|held| mark(&fit.rows[held.index], held.prediction, ring));
        panel.marks.extend(rings);
        panel.marks.extend(fit.rows.iter().map(|row| mark(row, row.prediction, dot)));
        let mut text = format!("MRE {}", error_percent(fit.mre));
        if let Some(mre) = fit.mre_held_out {
            text += &format!("\nheld out {}", error_percent(mre));
        }
        panel.notes.push(Note { text, corner: Corner::BottomRight });
        panel.title = fit_name(fit);
        panel
    };
    let all: Vec<Panel> = scene.fits.iter().map(|fit| panel(fit)).collect();
    let panels: Vec<_> = all.chunks(COLUMNS).map(<[Panel]>::to_vec).collect();
    let width = width_for(&panels);
    let mut figure = plot::Figure::new("Predicted against observed losses", panels);
    figure.width = width;
    figure.aspect = 1.0;
    figure.legend = vec![scene.legend(), kinds(&scene.fits)];
    figure.description =
        "Predicted against observed losses of every run, a panel for each law and \
                          group, coloured by model size; rings are predictions of laws that were \
                          fitted without the run."
            .into();
    figure.footnote = format!("MRE: mean relative error.{}{}", rings(&scene.fits), scene.left_out);
    figure
}

/// The ends of a range that holds `shown` and of `others` what lies within `bounds` of it; none
/// where all of them do.
fn capped(
    shown: impl Iterator<Item = f64>,
    others: impl Iterator<Item = f64> + Clone,
    bounds: impl Fn(f64, f64) -> (f64, f64),
) -> (Option<f64>, Option<f64>) {
    let (low, high) = shown.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    let (low, high) = bounds(low, high);
    let mut beyond = others.clone();
    let below = beyond.any(|value| value < low);
    let mut beyond = others;
    let above = beyond.any(|value| value > high);
    (below.then_some(low), above.then_some(high))
}

/// The symbol of a column.
pub fn symbol(column: Column) -> &'static str {
    match column {
        Column::NParams => "N",
        Column::DFtTokens => "D_{ft}",
        Column::DTokens => "D",
        Column::P => "p",
        Column::LossPt0 => "L_{pt}^{0}",
        Column::LossPt => "L_{pt}",
        Column::LossFt => "L_{ft}",
        Column::Loss => "L",
    }
}

/// At most `most` of the sorted values, at even distances, including the first and the last.
pub fn spread(values: &[f64], most: usize) -> Vec<f64> {
    let n = values.len();
    if n <= most {
        values.to_vec()
    } else {
        (0..most).map(|i| values[i * (n - 1) / (most - 1)]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plot::Figure;
    use std::fs;

    #[test]
    fn what_lies_far_outside_caps_a_range() {
        let bounds = |low: f64, high: f64| (low - 1.0, high + 1.0);
        let ends = |others: &[f64]| capped([2.0, 3.0].into_iter(), others.iter().copied(), bounds);
        assert_eq!(ends(&[1.0, 4.0, f64::NAN]), (None, None));
        assert_eq!(ends(&[0.9, 3.0]), (Some(1.0), None));
        assert_eq!(ends(&[4.1, f64::NEG_INFINITY]), (Some(1.0), Some(4.0)));
    }

    #[test]
    fn some_of_many_are_spread() {
        let many: Vec<f64> = (0..=20).map(f64::from).collect();
        assert_eq!(spread(&many, 5), [0.0, 5.0, 10.0, 15.0, 20.0]);
        assert_eq!(spread(&many[..3], 5), [0.0, 1.0, 2.0]);
        assert_eq!(spread(&[], 5), [0.0; 0]);
    }

    #[test]
    fn a_figure_is_two_files() {
        let folder = tempfile::tempdir().unwrap();
        let panel = Panel::new(Axis::linear("x"), Axis::linear("y"));
        let figure = Figure { width: 200.0, ..Figure::new("Nothing", vec![vec![panel]]) };
        let paths = write(&figure, &folder.path().join("fig5.v2")).unwrap();
        assert_eq!(paths, ["fig5.v2.svg", "fig5.v2.png"].map(|name| folder.path().join(name)));
        assert_eq!(fs::read_to_string(&paths[0]).unwrap(), figure.svg());
        assert_eq!(fs::read(&paths[1]).unwrap(), figure.png(plot::DPI).unwrap());
        let error = write(&figure, &folder.path().join("no/folder")).unwrap_err();
        assert!(matches!(error, Error::Io { path, .. } if path.ends_with("no/folder.svg")));
        let none = Figure { width: 1e9, ..figure };
        let large = write(&none, &folder.path().join("large")).unwrap_err().to_string();
        assert!(large.contains("large.png: a figure of"), "{large}");
    }
}
