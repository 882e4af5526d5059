//! Figure 6: predicted against observed losses of both laws.

use crate::blocks::MAIN;
use crate::figures::style::{self, Csv, Scale, Tally, percent};
use crate::figures::{Figure, Finding, Page, Verdict};
use crate::format::cell;
use crate::format::error_percent;
use crate::results::{DomainLaws, Laws, Results};
use drawings::{dot, held_out, kinds, ring, symbol};
use forgetting_laws::Result;
use forgetting_laws::fit::{Fit, Observed};
use forgetting_laws::laws::{Forgetting, Law, Point};
use plot::{
    self, Axis, Corner, Direction, Interval, Mark, Note, Panel, Place, Rule, Share, Stroke,
};

/// Figure 6. What it shows in the paper is not known.
pub const FIG6: Figure = Figure {
    id: "fig6",
    paper: "Figure 6 (arXiv v2; what it shows there is not known)",
    title: "Predicted against observed losses",
    blocks: &[MAIN],
    draw,
};

/// A prediction is accurate if it is within this share of the loss, and a law is accurate if this share
/// of the held-out runs is predicted accurately.
const CLOSE: f64 = 0.05;
const MOST: f64 = 0.8;

/// How many domains are side by side.
const COLUMNS: usize = 4;

/// The rows of panels.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quantity {
    /// L_ft of Equation 6.
    Finetuning,
    /// L_pt of Equation 7.
    Forgetting,
    /// The increase of L_pt, because most of L_pt is L_pt⁰, which is an input of the law.
    Rise,
}

fn draw(results: &Results, laws: &Laws) -> Result<Page> {
    let mut notes = style::notes(results, &[MAIN]);
    notes.extend(laws.missing());
    Ok(Page {
        drawing: laws.fits().next().is_some().then(|| drawing(&FIG6, results, laws)),
        csv: vec![("fig6".into(), predictions(laws))],
        findings: vec![
            accurate(
                laws,
                "finetuning",
                "The loss on the target can be predicted accurately from N and D_ft by Equation 6",
                "reported",
            ),
            accurate(
                laws,
                "forgetting",
                "\"For each target domain … the pretraining loss after finetuning can be \
                 predicted accurately from\" N, D_ft and p, by Equation 7",
                "quoted; the equation reported",
            ),
        ],
        notes,
        ..Page::default()
    })
}

/// The prediction for each row of a fit by a law fitted without it; NaN if the row was not held out.
fn predictions_held_out(fit: &Fit) -> Vec<f64> {
    let mut predictions = vec![f64::NAN; fit.rows.len()];
    for row in held_out(fit) {
        predictions[row.index] = row.prediction;
    }
    predictions
}

/// One row per run and law.
fn predictions(laws: &Laws) -> String {
    let mut csv = Csv::new([
        "domain",
        "law",
        "n_params",
        "d_ft_tokens",
        "p",
        "loss_pt0",
        "observed",
        "predicted",
        "law_low",
        "law_high",
        "low",
        "high",
        "predicted_held_out",
    ]);
    let optional = |value: Option<f64>| value.map_or(String::new(), cell);
    for fit in laws.fits().chain(laws.others()) {
        for (observed, held_out) in fit.rows.iter().zip(predictions_held_out(fit)) {
            let (row, prediction) = (&observed.row, fit.predict(&observed.row));
            csv.row([
                fit.domain.clone(),
                fit.law.name().into(),
                cell(row.n_params),
                cell(row.d_ft_tokens),
                cell(row.p),
                cell(row.loss_pt0),
                cell(observed.loss),
                cell(observed.prediction),
                optional(prediction.law_low),
                optional(prediction.law_high),
                optional(prediction.low),
                optional(prediction.high),
                cell(held_out),
            ]);
        }
    }
    csv.text()
}

/// A row of panels, a panel for each domain.
#[derive(Clone, Copy)]
struct PanelRow<'a> {
    name: &'a str,
    shown: Quantity,
    /// The fit of a domain that is shown.
    fit: fn(&DomainLaws) -> Option<&Fit>,
    /// What is said where there is none.
    none: &'a str,
}

fn drawing(figure: &Figure, results: &Results, laws: &Laws) -> plot::Figure {
    let sizes = Scale::sizes(laws.fits().flat_map(|fit| &fit.rows).map(|row| row.row.n_params));
    let (mut rows, mut panels) = (Vec::new(), Vec::new());
    let one = laws.0.len() <= COLUMNS;
    let rise = "its increase above L_{pt}^{0}";
    let finetuning = PanelRow {
        name: "finetuning, Eq. 6",
        shown: Quantity::Finetuning,
        fit: |laws| laws.finetuning.as_ref().ok(),
        none: "no law",
    };
    let forgetting = PanelRow {
        name: "forgetting, Eq. 7",
        shown: Quantity::Forgetting,
        fit: |laws| laws.forgetting.as_ref().ok(),
        none: "no law",
    };
    let increase = PanelRow { name: rise, shown: Quantity::Rise, ..forgetting };
    let mut kinds_of_rows = vec![finetuning, forgetting, increase];
    if laws.others().next().is_some() {
        let other = PanelRow {
            name: "another form of forgetting",
            shown: Quantity::Forgetting,
            fit: |laws| laws.other.as_ref(),
            none: "no form is ahead of Eq. 7",
        };
        kinds_of_rows.push(other);
        kinds_of_rows.push(PanelRow { name: rise, shown: Quantity::Rise, ..other });
    }
    for laws in laws.0.chunks(COLUMNS) {
        for &PanelRow { name, shown, fit, none } in &kinds_of_rows {
            rows.push(name.to_string());
            let of = |laws: &DomainLaws| panel(fit(laws), none, shown, &sizes);
            // Columns have headers only where they are the same all the way down.
            let title = |laws: &DomainLaws| if one { String::new() } else { laws.domain.clone() };
            let titled = |laws: &DomainLaws| {
                let panel = of(laws);
                let titles = [title(laws), panel.title.clone()];
                let titles: Vec<_> = titles.into_iter().filter(|title| !title.is_empty()).collect();
                Panel { title: titles.join(", "), ..panel }
            };
            panels.push(laws.iter().map(titled).collect());
        }
    }
    let fits: Vec<&Fit> = laws.fits().chain(laws.others()).collect();
    let mut drawing = plot::Figure::new(figure.title, panels);
    drawing.rows = rows;
    if one {
        drawing.columns = laws.0.iter().map(|laws| laws.domain.clone()).collect();
    }
    drawing.aspect = 1.0;
    drawing.share_x = Share::Panel;
    drawing.legend = vec![sizes.marks(), kinds(&fits)];
    drawing.description =
        "Predicted against observed losses of every run, a column for each domain and a row for \
         each law, coloured by model size; below, how far the pretraining loss rises. Hollow marks \
         are predictions of laws that were fitted without the run's size."
            .into();
    let level = percent(laws.bootstrap().level);
    drawing.footnote = format!(
        "Hollow marks are predicted by a law that was fitted without the size. Bars are {level} \
         intervals of the law. Marks beside an arrow lie beyond the edge or have no increase."
    );
    drawing.provenance = style::provenance(results);
    drawing
}

/// `empty` is what the panel says without a fit.
fn panel(fit: Option<&Fit>, empty: &str, shown: Quantity, sizes: &Scale) -> Panel {
    let Some(fit) = fit else {
        let text = empty.to_string();
        let notes = vec![Note { text, corner: Corner::BottomRight }];
        return Panel { notes, ..Panel::default() };
    };
    let what = match shown {
        Quantity::Rise => "increase of L_{pt}",
        _ => symbol(fit.law.output()),
    };
    let mut panel = Panel::new(
        Axis::log(format!("observed {what} (nats)")),
        Axis::log(format!("predicted {what} (nats)")),
    );
    panel.equal = true;
    panel.rules.push(Rule::new(Place::Identity, ""));
    let base = |row: &Observed| match shown {
        Quantity::Rise => fit.law.baseline(&Point::from(&row.row)).unwrap_or(0.0),
        _ => 0.0,
    };
    let values = || {
        let both = |row: &Observed| [row.loss - base(row), row.prediction - base(row)];
        fit.rows.iter().flat_map(both).filter(|value| *value > 0.0)
    };
    let smallest = values().fold(f64::INFINITY, f64::min);
    let largest = values().fold(0.0, f64::max);
    // A law may say anything of a size that it does not know; the edges are those of the others.
    if smallest < largest {
        let (low, high) = (0.8 * smallest, 1.25 * largest);
        panel.x = panel.x.limited(Some(low), Some(high));
        panel.y = panel.y.limited(Some(low), Some(high));
    }
    // Below every range of a log axis, where it gets its arrow.
    let at = |value: f64| value.max(1e-3 * smallest);
    for (row, held_out) in fit.rows.iter().zip(predictions_held_out(fit)) {
        let (base, glyph) = (base(row), sizes.glyph(row.row.n_params));
        let x = at(row.loss - base);
        let prediction = fit.predict(&row.row);
        if let (Some(low), Some(high)) = (prediction.law_low, prediction.law_high) {
            let stroke = Stroke::new(glyph.color, 0.5);
            let (low, high) = (at(low - base), at(high - base));
            let direction = Direction::Vertical;
            panel.intervals.push(Interval { at: x, low, high, direction, stroke });
        }
        if held_out.is_finite() {
            let ring = plot::Glyph { shape: glyph.shape, ..ring(glyph.color) };
            panel.marks.push(Mark::new((x, at(held_out - base)), ring));
        }
        let dot = plot::Glyph { shape: glyph.shape, ..dot(glyph.color) };
        panel.marks.push(Mark::new((x, at(row.prediction - base)), dot));
    }
    let errors = match (shown, &fit.held_out) {
        (Quantity::Rise, held_out) => {
            (fit.rise_error, held_out.as_ref().map(|h| h.errors.rise_error))
        }
        (_, held_out) => (fit.mre, held_out.as_ref().map(|h| h.errors.mre)),
    };
    let name = if shown == Quantity::Rise { "error" } else { "MRE" };
    let mut text = format!("{name} {}", error_percent(errors.0));
    if let Some(held_out) = errors.1 {
        text += &format!("\nheld out {}", error_percent(held_out));
    }
    if shown == Quantity::Forgetting && fit.law.name() != Forgetting.name() {
        panel.title = fit.law.name().to_string();
    }
    panel.notes.push(Note { text, corner: Corner::BottomRight });
    panel
}

fn accurate(laws: &Laws, law: &str, claim: &str, source: &str) -> Finding {
    let close = |fit: &Fit| {
        Tally::count(held_out(fit).iter().map(|row| {
            let loss = fit.rows[row.index].loss;
            (row.prediction - loss).abs() <= CLOSE * loss
        }))
    };
    let of = |domain: &str| {
        laws.fits().find(|fit| fit.law.name() == law && fit.domain == domain).map(close)
    };
    let tallies: Vec<(&str, Tally)> = laws
        .0
        .iter()
        .map(|laws| (laws.domain.as_str(), of(&laws.domain).unwrap_or_default()))
        .collect();
    let cases: Vec<_> =
        tallies.iter().map(|(domain, tally)| (*tally, format!("in {domain}"))).collect();
    let words = style::tallies("runs", &cases);
    let verdicts = tallies.iter().map(|(_, tally)| tally.verdict(MOST));
    let verdict: Verdict = style::all(verdicts);
    Finding {
        claim: claim.into(),
        source: source.into(),
        ours: style::about(&words, "There are no predictions.", |words| {
            let close = percent(CLOSE);
            format!("Predictions for held-out sizes are within {close} of the loss for {words}.")
        }),
        rule: format!(
            "at least {} of the predictions for held-out sizes are within {} of the loss in every \
             domain.",
            percent(MOST),
            percent(CLOSE)
        ),
        verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::golden::{self, PLANTED};
    use forgetting_laws::Error;

    #[test]
    fn the_planted_laws_are_drawn() {
        let page = golden::page(&FIG6);
        let drawing = page.drawing.unwrap();
        assert_eq!(drawing.panels.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 3]);
        assert_eq!(drawing.columns, ["far", "middle", "near"]);
        let far = &drawing.panels[0][0];
        // Each of 64 runs once fitted and once held out, and with its band.
        assert_eq!((far.marks.len(), far.intervals.len()), (128, 64));
        assert!(page.findings.iter().all(|finding| finding.verdict == Verdict::Supported));
        assert_eq!(page.csv[0].1.lines().count(), 1 + 2 * 191);
    }

    #[test]
    fn wrong_predictions_are_not_supported_and_no_law_is_said() {
        let refit = |domain: &str| {
            let planted = PLANTED.1.domain(domain).unwrap();
            let mut finetuning = planted.finetuning.as_ref().unwrap().clone();
            for row in &mut finetuning.held_out.as_mut().unwrap().rows {
                row.prediction *= 1.0 + 1.1 * CLOSE;
            }
            Laws(vec![DomainLaws {
                domain: domain.into(),
                forgetting: Err(Error::setting("runs", 1, "must be more")),
                finetuning: Ok(finetuning),
                other: None,
                unbounded: None,
            }])
        };
        let page = draw(&PLANTED.0, &refit("far")).unwrap();
        let verdicts: Vec<_> = page.findings.iter().map(|finding| finding.verdict).collect();
        assert_eq!(verdicts, [Verdict::NotSupported, Verdict::NotTestable]);
        assert!(page.drawing.unwrap().panels[1][0].marks.is_empty());
        assert!(page.notes.iter().any(|note| note.contains("no forgetting law for far")));
        let page = draw(&PLANTED.0, &Laws(Vec::new())).unwrap();
        assert!(page.drawing.is_none());
    }

    /// A run that forgot nothing has no place on an axis of decades; it stands at the edge.
    #[test]
    fn no_rise_stands_at_the_edge() {
        let mut fit = PLANTED.1.domain("far").unwrap().forgetting.as_ref().unwrap().clone();
        fit.rows[0].loss = fit.rows[0].row.loss_pt0 - 0.01;
        let sizes = Scale::sizes(fit.rows.iter().map(|row| row.row.n_params));
        let panel = panel(Some(&fit), "", Quantity::Rise, &sizes);
        let smallest = panel.marks.iter().map(|mark| mark.at.0).fold(f64::INFINITY, f64::min);
        assert!(smallest > 0.0);
        assert_eq!(panel.marks.iter().filter(|mark| mark.at.0 == smallest).count(), 2);
    }
}
