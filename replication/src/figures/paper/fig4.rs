//! Figure 4: forgetting and the effect of injection in each domain, against the distance of the domain
//! from the pretraining data.
//!
//! How the paper measures the distance is unknown. Here several measures are shown side by side,
//! because they disagree.

use super::fig2::progress_lost;
use crate::blocks::MAIN;
use crate::figures::style::{self, Csv, rank_correlation, significant};
use crate::figures::{Figure, Finding, Page, Table, Verdict};
use crate::format::cell;
use crate::results::{Domain, Finetuned, Laws, Results};
use forgetting_laws::fit::Param;
use forgetting_laws::{Error, Result};
use plot::{
    self, Axis, Color, Direction, Glyph, Interval, Legend, Mark, Numbers, Panel, Shape, Share,
    Stroke,
};

/// How many measures are drawn side by side; the table has all.
const MOST_MEASURES: usize = 5;

/// "Far domains have a larger …": the required rank correlation, for most measures.
const CORRELATED: f64 = 0.8;

/// The fewest domains for a verdict.
const FEWEST: usize = 3;

/// Figure 4.
pub const FIG4: Figure = Figure {
    id: "fig4",
    paper: "Figure 4 (arXiv v2)",
    title: "The law's B and what is forgotten, by the distance of the domain",
    blocks: &[MAIN],
    draw,
};

fn draw(results: &Results, laws: &Laws) -> Result<Page> {
    let points = points(results, laws);
    let measures = measures(&points);
    let columns = ["domain", "b", "b_low", "b_high", "progress_lost"];
    let names = measures.iter().map(String::as_str);
    let mut csv = Csv::new(columns.into_iter().chain(names));
    for point in &points {
        let ends = point.b.map_or([f64::NAN; 3], |b| {
            [b.value, b.low.unwrap_or(f64::NAN), b.high.unwrap_or(f64::NAN)]
        });
        let distances = measures.iter().map(|name| point.distance(name).unwrap_or(f64::NAN));
        let lost = point.lost.unwrap_or(f64::NAN);
        let numbers = ends.into_iter().chain([lost]).chain(distances).map(cell);
        csv.row(std::iter::once(point.domain.name.clone()).chain(numbers));
    }
    let mut notes = style::notes(results, FIG4.blocks);
    for point in points.iter().filter(|point| point.b.is_none()) {
        let why = laws.domain(&point.domain.name).and_then(|laws| laws.forgetting.as_ref().err());
        let why = why.map_or("no run counts".into(), Error::to_string);
        notes.push(format!("There is no B for {}: {why}.", point.domain.name));
    }
    notes.push(
        "The progress lost is the mean over the N and D_ft for which every domain has a run at \
         p = 0 that counts. How the paper measures the distance is unknown."
            .into(),
    );
    Ok(Page {
        drawing: (!points.is_empty() && !measures.is_empty())
            .then(|| drawing(&FIG4, results, &points, &measures)),
        csv: vec![(FIG4.id.into(), csv.text())],
        findings: vec![
            finding(&points, &measures, What::Forgotten),
            finding(&points, &measures, What::B),
        ],
        tables: vec![table(&points, &measures)],
        notes,
    })
}

/// A domain and the quantities that are compared.
struct Point<'a> {
    domain: &'a Domain,
    b: Option<&'a Param>,
    /// The mean share of progress lost at p = 0.
    lost: Option<f64>,
}

impl Point<'_> {
    fn distance(&self, measure: &str) -> Option<f64> {
        style::value_of(&self.domain.distances, measure)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum What {
    B,
    Forgotten,
}

impl What {
    fn of(self, point: &Point<'_>) -> Option<f64> {
        match self {
            Self::B => point.b.map(|b| b.value),
            Self::Forgotten => point.lost,
        }
    }
}

fn points<'a>(results: &'a Results, laws: &'a Laws) -> Vec<Point<'a>> {
    let domains = results.domains_of(MAIN);
    let without = || results.block(MAIN).filter(|run| run.p == 0.0 && run.left_out().is_none());
    // What a domain is not measured at says nothing beside the others.
    let everywhere = |run: &&Finetuned| {
        domains.iter().all(|domain| {
            without().any(|other| {
                other.domain == domain.name
                    && other.size == run.size
                    && other.d_ft_tokens == run.d_ft_tokens
            })
        })
    };
    let common: Vec<&Finetuned> = without().filter(everywhere).collect();
    let point = |&domain: &&'a Domain| {
        let of_domain = common.iter().filter(|run| run.domain == domain.name);
        let lost: Vec<f64> = of_domain.filter_map(|run| progress_lost(results, run)).collect();
        let law = laws.domain(&domain.name).and_then(|laws| laws.forgetting.as_ref().ok());
        Point {
            domain,
            b: law.and_then(|fit| fit.params.get("B")),
            lost: (!lost.is_empty()).then(|| lost.iter().sum::<f64>() / lost.len() as f64),
        }
    };
    domains.iter().map(point).collect()
}

/// The names of all measures.
fn measures(points: &[Point<'_>]) -> Vec<String> {
    style::names_of(points.iter().flat_map(|point| &point.domain.distances))
}

fn drawing(
    figure: &Figure,
    results: &Results,
    points: &[Point<'_>],
    measures: &[String],
) -> plot::Figure {
    let measures = &measures[..measures.len().min(MOST_MEASURES)];
    let glyph = |i: usize| Glyph::new(Shape::nth(i % 4), Color::categorical(i));
    let panel = |name: &String, what: What| {
        let y = match what {
            What::B => Axis::log("B"),
            What::Forgotten => {
                Axis { numbers: Numbers::Percent, ..Axis::linear("Progress lost at p = 0") }
            }
        };
        let mut panel = Panel::new(Axis::linear(name.replace('_', " ")), y);
        for (i, point) in points.iter().enumerate() {
            let (Some(x), Some(y)) = (point.distance(name), what.of(point)) else { continue };
            panel.marks.push(Mark::new((x, y), glyph(i)));
            let ends = point.b.filter(|_| what == What::B).and_then(|b| Some((b.low?, b.high?)));
            panel.intervals.extend(ends.map(|(low, high)| Interval {
                at: x,
                low,
                high,
                direction: Direction::Vertical,
                stroke: Stroke::new(glyph(i).color, 1.0),
            }));
        }
        panel
    };
    let row = |what| measures.iter().map(|name| panel(name, what)).collect::<Vec<_>>();
    let mut drawing = plot::Figure::new(figure.title, vec![row(What::B), row(What::Forgotten)]);
    drawing.share_x = Share::Column;
    drawing.share_y = Share::Row;
    let names = points.iter().enumerate();
    drawing.legend = vec![Legend {
        title: "domain".into(),
        entries: names.map(|(i, point)| (glyph(i).into(), point.domain.name.clone())).collect(),
    }];
    drawing.description = "The coefficient B of the forgetting law of each domain and the mean \
                           share of pretraining's progress that is lost without injection, \
                           against the distance of the domain from the pretraining data, a column \
                           for each measure of the distance."
        .into();
    let level = |point: &Point<'_>| point.b.is_some_and(|b| b.low.is_some());
    if points.iter().any(level) {
        drawing.footnote =
            "Bars are intervals of B from resamples of the runs. At p, the law treats \
                            a model of N parameters as one of (1 + B·p)·N."
                .into();
    }
    drawing.provenance = style::provenance(results);
    drawing
}

/// The correlation by a measure, and the number of domains.
fn correlation(points: &[Point<'_>], measure: &str, what: What) -> (Option<f64>, usize) {
    let pair = |point: &Point<'_>| {
        let value = what.of(point).filter(|value| value.is_finite());
        Some((point.distance(measure)?, value?))
    };
    let pairs: Vec<_> = points.iter().filter_map(pair).collect();
    (rank_correlation(&pairs).filter(|_| pairs.len() >= FEWEST), pairs.len())
}

fn finding(points: &[Point<'_>], measures: &[String], what: What) -> Finding {
    let found = measures.iter().map(|name| (name, correlation(points, name, what)));
    let found: Vec<_> = found.filter_map(|(name, (r, n))| Some((name, r?, n))).collect();
    let words: Vec<_> =
        found.iter().map(|(name, r, _)| format!("{} by {name}", significant(*r, 2))).collect();
    let n = found.iter().map(|(.., n)| *n).max().unwrap_or(0);
    let high = found.iter().filter(|(_, r, _)| *r >= CORRELATED).count();
    let (claim, subject) = match what {
        What::B => ("gain more from injection", "B"),
        What::Forgotten => ("forget more", "the progress lost at p = 0"),
    };
    let ours = if found.is_empty() {
        format!("Fewer than {FEWEST} domains have both a distance and {subject}.")
    } else {
        format!(
            "Over {n} domains the rank correlation of {subject} with the distance is {}. By chance \
             alone, {n} domains are in exactly the order of their distances in one case of {}.",
            style::list(&words),
            (1..=n as u64).map(|i| i as f64).product::<f64>()
        )
    };
    Finding {
        claim: format!("Domains far from the pretraining data {claim}"),
        source: "Figure 4, reported".into(),
        ours,
        rule: format!(
            "the rank correlation with the distance is at least {CORRELATED} by more than half of the \
             measures."
        ),
        verdict: if found.is_empty() {
            Verdict::NotTestable
        } else {
            Verdict::of(2 * high > found.len())
        },
    }
}

fn table(points: &[Point<'_>], measures: &[String]) -> Table {
    let number = |value: Option<f64>| value.map_or("-".into(), |value| significant(value, 3));
    let row = |point: &Point<'_>| {
        let b = match point.b {
            None => "-".into(),
            Some(b) => match (b.low, b.high) {
                (Some(low), Some(high)) => {
                    let [value, low, high] = [b.value, low, high].map(|x| significant(x, 3));
                    format!("{value} [{low}, {high}]")
                }
                _ => significant(b.value, 3),
            },
        };
        let effective = point.b.map(|b| 1.0 + 0.01 * b.value);
        let fixed = [
            point.domain.name.clone(),
            b,
            number(effective),
            point.lost.map_or("-".into(), style::share),
        ];
        let distances = measures.iter().map(|name| number(point.distance(name)));
        fixed.into_iter().chain(distances).collect()
    };
    let columns = ["domain", "B", "1 + B·p at 1%", "progress lost at p = 0"].map(String::from);
    Table {
        caption:
            "The paper's B is reported as about 10⁴ for dm_mathematics and 829 for wikipedia. \
                  At p = 1% models then act as if they were 101 and 9.3 times as large."
                .into(),
        columns: columns.into_iter().chain(measures.iter().cloned()).collect(),
        rows: points.iter().map(row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::golden::{self, PLANTED};

    #[test]
    fn the_planted_grid_gives_the_pinned_table_and_all_panels() {
        let page = golden::page(&FIG4);
        let drawing = page.drawing.unwrap();
        assert_eq!(drawing.panels.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3]);
        for panel in &drawing.panels[0] {
            assert_eq!((panel.marks.len(), panel.intervals.len()), (3, 3));
        }
        // B grows with the planted distance; what is forgotten does not depend on it.
        let verdicts: Vec<_> = page.findings.iter().map(|finding| finding.verdict).collect();
        assert_eq!(verdicts, [Verdict::NotSupported, Verdict::Supported]);
        assert!(page.findings[1].ours.contains("Over 3 domains"));
        assert!(page.findings[1].ours.ends_with("in one case of 6."));
    }

    #[test]
    fn two_domains_have_no_order() {
        let mut results = PLANTED.0.clone();
        results.finetuned.retain(|run| run.domain != "far");
        let page = draw(&results, &PLANTED.1).unwrap();
        assert!(page.findings.iter().all(|finding| finding.verdict == Verdict::NotTestable));
        results.finetuned.clear();
        assert!(draw(&results, &PLANTED.1).unwrap().drawing.is_none());
    }

    #[test]
    fn only_what_all_domains_have_is_averaged() {
        let (mut results, laws) = (PLANTED.0.clone(), &PLANTED.1);
        let lost = |results: &Results| points(results, laws)[0].lost.unwrap();
        let before = lost(&results);
        // The planted run that does not count is of another domain, and its size and D_ft are left
        // out everywhere.
        results.finetuned.retain(|run| {
            run.domain != "near" || run.size != "nano-micro" || run.d_ft_tokens != 40_960
        });
        assert_eq!(lost(&results), before);
        results.finetuned.retain(|run| run.domain != "near" || run.size != "nano-micro");
        assert!(lost(&results) < before);
    }
}
