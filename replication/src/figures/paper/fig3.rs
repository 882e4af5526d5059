//! Figure 3: the pretraining loss at the bottom against the fraction p, with the law.
//!
//! The details of the paper's Figure 3 are unknown; readers cite it for injection and retention. The
//! drawing is ours.

use crate::blocks::MAIN;
use crate::figures::style::{self, Csv, Scale, Tally, percent, short};
use crate::figures::{Figure, Finding, Page, Table, Verdict};
use crate::format::cell;
use crate::results::{Finetuned, Laws, Results, distinct};
use drawings::spread;
use forgetting_laws::Result;
use forgetting_laws::fit::Fit;
use forgetting_laws::laws::Row;
use plot::{self, Axis, Band, Color, Glyph, Legend, Line, Mark, Panel, Share, Stroke};
use plot::{Dash, Shape};

/// The block of fractions beyond the paper's.
const HIGH: &str = "high-p";

/// The most columns and rows of panels; the table has all.
const MOST_AMOUNTS: usize = 4;
const MOST_DOMAINS: usize = 12;

/// Points of a curve below the smallest fraction (denser towards 0, where it is steepest), and in each
/// decade above.
const BELOW: usize = 6;
const PER_DECADE: f64 = 4.0;

/// "Reduces": the required share of the pairs of runs.
const MOST_PAIRS: f64 = 0.9;

/// The fewest pairs for a verdict; fewer may be due to chance.
const MORE_THAN_CHANCE: f64 = 0.75;

/// "Costs nothing": L_ft increases by at most this share.
const NOTHING: f64 = 0.005;

/// The required share of runs within 90% intervals; with few runs it may be somewhat below 90%.
const HELD: f64 = 0.8;

/// Figure 3.
pub const FIG3: Figure = Figure {
    id: "fig3",
    paper: "Figure 3 (arXiv v2)",
    title: "Pretraining loss after finetuning, by the fraction injected",
    blocks: &[MAIN, HIGH],
    draw,
};

fn draw(results: &Results, laws: &Laws) -> Result<Page> {
    let scene = Scene::new(results, laws);
    let mut runs = style::csv_of_runs(&[
        "loss_pt0", "loss_pt", "loss_ft", "law", "law_low", "law_high", "run_low", "run_high",
    ]);
    for run in scene.runs() {
        let bottom = run.bottom();
        let losses = bottom.map_or([f64::NAN; 2], |b| [b.loss_pt, b.loss_ft]);
        let law = scene.law(&run.domain).map(|fit| fit.predict(&run.row()));
        let law = law.map_or([f64::NAN; 5], |said| {
            let ends = [said.law_low, said.law_high, said.low, said.high];
            let ends = ends.map(|end| end.unwrap_or(f64::NAN));
            [said.value, ends[0], ends[1], ends[2], ends[3]]
        });
        let numbers = [run.loss_pt0()].into_iter().chain(losses).chain(law).map(cell);
        runs.row(style::identity(run).into_iter().chain(numbers));
    }
    let curves = scene.curves();
    let columns = ["domain", "n_params", "d_ft_tokens", "p", "law", "law_low", "law_high"];
    // Where another form does better in some domain, it stands beside the law.
    let has_other = laws.others().next().is_some();
    let others: &[&str] = if has_other { &["other_form", "other"] } else { &[] };
    let mut csv = Csv::new(columns.iter().chain(others).copied());
    for curve in &curves {
        let other = laws.domain(&curve.domain).and_then(|laws| laws.other.as_ref());
        for &CurvePoint { p, loss, low, high } in &curve.points {
            let numbers = [curve.row.n_params, curve.row.d_ft_tokens, p, loss, low, high];
            let mut cells = vec![curve.domain.clone()];
            cells.extend(numbers.map(cell));
            if has_other {
                cells.push(other.map_or(String::new(), |fit| fit.law.name().into()));
                let value = other.map(|fit| fit.predict(&Row { p, ..curve.row }).value);
                cells.push(cell(value.unwrap_or(f64::NAN)));
            }
            csv.row(cells);
        }
    }
    let mut notes = style::notes(results, FIG3.blocks);
    notes.extend(results.domains_of(MAIN).iter().filter_map(|domain| {
        let why = laws.domain(&domain.name)?.forgetting.as_ref().err()?;
        Some(format!("There is no forgetting law for {}: {why}.", domain.name))
    }));
    Ok(Page {
        drawing: scene.drawing(&FIG3, &curves),
        csv: vec![(FIG3.id.into(), runs.text()), ("curves".into(), csv.text())],
        findings: vec![
            forgets_less(results),
            overfits_later(results),
            costs_nothing(results),
            helps_small_models(results),
            beyond(&scene),
        ],
        tables: vec![target(results)],
        notes,
    })
}

/// The law at one domain, N and D_ft.
struct Curve {
    domain: String,
    /// Any run of this domain, N and D_ft.
    row: Row,
    d_ft_tokens: u64,
    points: Vec<CurvePoint>,
}

/// What the law says at one p, in nats.
struct CurvePoint {
    p: f64,
    loss: f64,
    /// The interval of the law.
    low: f64,
    high: f64,
}

struct Scene<'a> {
    results: &'a Results,
    laws: &'a Laws,
    sizes: Scale,
    /// The fractions of the main grid, and all fractions.
    fitted: Vec<f64>,
    fractions: Vec<f64>,
}

impl<'a> Scene<'a> {
    fn new(results: &'a Results, laws: &'a Laws) -> Self {
        let runs = || results.block(MAIN).chain(results.block(HIGH));
        Self {
            sizes: Scale::sizes(runs().map(|run| run.n_params() as f64)),
            fitted: style::main_fractions(results),
            fractions: distinct(runs().map(|run| run.p)),
            results,
            laws,
        }
    }

    /// The runs of the main grid and those beyond it, each once.
    fn runs(&self) -> impl Iterator<Item = &'a Finetuned> {
        let asked = |run: &&Finetuned| run.in_block(MAIN) || run.in_block(HIGH);
        self.results.finetuned.iter().filter(asked)
    }

    fn law(&self, domain: &str) -> Option<&'a Fit> {
        self.laws.domain(domain)?.forgetting.as_ref().ok()
    }

    /// The smallest fraction above 0, up to which the axis is linear.
    fn smallest(&self) -> f64 {
        self.fractions.iter().copied().find(|p| *p > 0.0).unwrap_or(0.01)
    }

    /// The fractions at which the law is drawn, from 0 to the largest.
    fn along(&self) -> Vec<f64> {
        let (first, last) = (self.smallest(), self.fractions.last().copied().unwrap_or(0.0));
        let mut along: Vec<f64> =
            (0..BELOW).map(|i| first * (i as f64 / BELOW as f64).powi(2)).collect();
        let steps = (PER_DECADE * (last / first).log10()).ceil().max(0.0) as usize;
        let grown = |i: usize| first * (last / first).powf(i as f64 / steps.max(1) as f64);
        along.extend((0..=steps).map(grown));
        // Where the law was fitted the curve looks otherwise than beyond.
        along.extend(self.fitted.last());
        distinct(along.into_iter().filter(|p| *p <= last))
    }

    fn curves(&self) -> Vec<Curve> {
        let along = self.along();
        let mut curves: Vec<Curve> = Vec::new();
        for run in self.results.block(MAIN) {
            let known = |curve: &Curve| {
                curve.domain == run.domain
                    && curve.row.n_params == run.n_params() as f64
                    && curve.d_ft_tokens == run.d_ft_tokens
            };
            let Some(fit) = self.law(&run.domain).filter(|_| !curves.iter().any(known)) else {
                continue;
            };
            let row = run.row();
            let at = |&p: &f64| {
                let said = fit.predict(&Row { p, ..row });
                let end = |end: Option<f64>| end.unwrap_or(f64::NAN);
                let (low, high) = (end(said.law_low), end(said.law_high));
                CurvePoint { p, loss: said.value, low, high }
            };
            curves.push(Curve {
                domain: run.domain.clone(),
                d_ft_tokens: run.d_ft_tokens,
                points: along.iter().map(at).collect(),
                row,
            });
        }
        curves
    }

    fn drawing(&self, figure: &Figure, curves: &[Curve]) -> Option<plot::Figure> {
        let domains = self.results.domains_of(MAIN);
        let domains = &domains[..domains.len().min(MOST_DOMAINS)];
        let amounts: Vec<f64> =
            style::amounts(self.results.block(MAIN)).into_iter().map(|d| d as f64).collect();
        let amounts = spread(&amounts, MOST_AMOUNTS);
        if domains.is_empty() || amounts.is_empty() {
            return None;
        }
        let row = |domain: &str| amounts.iter().map(|&d| self.panel(curves, domain, d)).collect();
        let panels = domains.iter().map(|domain| row(&domain.name)).collect();
        let mut drawing = plot::Figure::new(figure.title, panels);
        drawing.rows = domains.iter().map(|domain| domain.name.clone()).collect();
        drawing.columns = amounts.iter().map(|&d| format!("D_{{ft}} = {}", short(d))).collect();
        drawing.share_x = Share::Figure;
        drawing.share_y = Share::Row;
        let black = |glyph: Glyph| Glyph { color: Color::GREY, ..glyph }.into();
        let law = |dash| Stroke::new(Color::GREY, 1.2).dashed(dash).into();
        let mut kinds = vec![
            (black(self.glyph(self.results.block(MAIN).next())), "run".to_string()),
            (law(Dash::Solid), "law".into()),
        ];
        if self.results.block(HIGH).next().is_some() {
            kinds.push((black(Glyph::dot(Color::GREY).hollow()), "run beyond the fit".into()));
            kinds.push((law(Dash::Dotted), "law beyond the fit".into()));
        }
        if self.laws.others().next().is_some() {
            kinds.push((law(Dash::Dashed), "form that predicts better".into()));
        }
        if self.runs().any(|run| run.left_out().is_some()) {
            kinds.push((black(Glyph::new(Shape::Cross, Color::GREY)), "left out".into()));
        }
        drawing.legend = vec![self.sizes.marks(), Legend { title: String::new(), entries: kinds }];
        drawing.description = "The pretraining loss at the bottom of the U against the fraction \
                               of injected pretraining data, a colour for each model size, a \
                               panel for each domain and amount of target data, with the law's \
                               curve and its interval."
            .into();
        let level = self
            .results
            .domains_of(MAIN)
            .iter()
            .find_map(|domain| Some(self.law(&domain.name)?.bootstrap.as_ref()?.level));
        drawing.footnote = match level {
            Some(level) => format!("Bands are {} intervals of the law.", percent(level)),
            None => String::new(),
        };
        drawing.provenance = style::provenance(self.results);
        Some(drawing)
    }

    fn glyph(&self, run: Option<&Finetuned>) -> Glyph {
        let Some(run) = run else { return Glyph::dot(Color::GREY) };
        let glyph = self.sizes.glyph(run.n_params() as f64);
        match (run.left_out(), run.in_block(MAIN)) {
            (Some(_), _) => Glyph::new(Shape::Cross, glyph.color),
            (None, true) => glyph,
            (None, false) => glyph.hollow(),
        }
    }

    fn panel(&self, curves: &[Curve], domain: &str, d_ft: f64) -> Panel {
        let smallest = self.smallest();
        let mut x = Axis::symlog("p", smallest);
        let decades = (-6..=0).map(|i| 10f64.powi(i)).filter(|p| *p >= smallest);
        x.ticks = Some(std::iter::once(0.0).chain(decades).map(|p| (p, percent(p))).collect());
        let mut panel = Panel::new(x, Axis::linear("L_{pt} (nats)"));
        let fitted = self.fitted.last().copied().unwrap_or(0.0);
        let here = |name: &str, tokens: u64| name == domain && tokens as f64 == d_ft;
        for curve in curves.iter().filter(|curve| here(&curve.domain, curve.d_ft_tokens)) {
            let color = self.sizes.color(curve.row.n_params);
            let points =
                curve.points.iter().map(|point| (point.p, point.low, point.high)).collect();
            panel.bands.push(Band { points, color, opacity: 0.2 });
            let part = |inside: fn(f64, f64) -> bool| {
                let points = curve.points.iter().filter(|point| inside(point.p, fitted));
                points.map(|point| (point.p, point.loss)).collect()
            };
            let stroke = Stroke::new(color, 1.2);
            panel.lines.push(Line::new(part(|p, last| p <= last), stroke));
            panel.lines.push(Line::new(part(|p, last| p >= last), stroke.dashed(Dash::Dotted)));
            if let Some(other) = self.laws.domain(domain).and_then(|laws| laws.other.as_ref()) {
                let points = curve.points.iter().filter(|point| point.p <= fitted);
                let at = |p: f64| (p, other.predict(&Row { p, ..curve.row }).value);
                let points = points.map(|point| at(point.p)).collect();
                panel.lines.push(Line::new(points, stroke.dashed(Dash::Dashed)));
            }
        }
        for run in self.runs().filter(|run| here(&run.domain, run.d_ft_tokens)) {
            let mark = |loss| Mark::new((run.p, loss), self.glyph(Some(run)));
            panel.marks.extend(run.bottom().map(|bottom| mark(bottom.loss_pt)));
        }
        panel
    }
}

/// The relative change of the target loss at the bottom from the counterpart.
fn change(without: &Finetuned, with: &Finetuned) -> Option<f64> {
    Some(with.bottom()?.loss_ft / without.bottom()?.loss_ft - 1.0)
}

fn injected(results: &Results) -> Vec<f64> {
    style::main_fractions(results).into_iter().filter(|p| *p > 0.0).collect()
}

fn changes(results: &Results, p: f64) -> Vec<f64> {
    let pairs = style::beside_none(results, MAIN, p).into_iter();
    pairs.filter_map(|(without, with)| change(without, with)).collect()
}

fn forgets_less(results: &Results) -> Finding {
    let (mut tallies, mut verdicts) = (Vec::new(), Vec::new());
    for p in injected(results) {
        let pairs = style::beside_none(results, MAIN, p).into_iter();
        let tally = Tally::count(pairs.map(|(without, with)| with.rise() < without.rise()));
        verdicts.push(tally.verdict(MOST_PAIRS));
        tallies.push((tally, format!("at p = {}", percent(p))));
    }
    let words = style::tallies("pairs", &tallies);
    Finding {
        claim:
            "“Injecting pretraining data has a regularizing effect that reduces overfitting and \
                forgetting”: the part about forgetting"
                .into(),
        source: "quoted".into(),
        ours: style::about(&words, "There are no runs with injection.", |words| {
            format!("The increase of L_pt is smaller than at p = 0 in {words}.")
        }),
        rule: format!(
            "the increase of L_pt is smaller than at p = 0 in at least {} of the pairs at every p.",
            percent(MOST_PAIRS)
        ),
        verdict: style::all(verdicts),
    }
}

fn costs_nothing(results: &Results) -> Finding {
    let (mut words, mut verdicts) = (Vec::new(), Vec::new());
    for p in injected(results) {
        let changes = changes(results, p);
        let Some(middle) = style::median(changes.iter().copied()) else { continue };
        let lower = Tally::count(changes.into_iter().map(|change| change < 0.0));
        verdicts.push(Verdict::of(middle <= NOTHING));
        let (middle, p) = (style::share(middle), percent(p));
        words.push(format!("{middle} at p = {p} (lower in {lower} pairs)"));
    }
    Finding {
        claim: "Injection costs nothing on the target".into(),
        source: "reported".into(),
        ours: style::about(&words, "There are no runs with injection.", |words| {
            format!("Compared with p = 0, L_ft at the bottom changes by a median of {words}.")
        }),
        rule: format!(
            "L_ft increases by a median of at most {} at every p of the main grid.",
            percent(NOTHING)
        ),
        verdict: style::all(verdicts),
    }
}

fn helps_small_models(results: &Results) -> Finding {
    let sizes = distinct(results.block(MAIN).map(|run| run.n_params() as f64));
    // The size, its median change, and in how many pairs the loss is lower.
    let of_size = |size: f64| {
        let pairs =
            injected(results).into_iter().flat_map(|p| style::beside_none(results, MAIN, p));
        let alike = pairs.filter(|(_, with)| with.n_params() as f64 == size);
        let changes: Vec<f64> = alike.filter_map(|(without, with)| change(without, with)).collect();
        let lower = Tally::count(changes.iter().map(|change| *change < 0.0));
        Some((size, style::median(changes)?, lower))
    };
    let found: Vec<_> = sizes.into_iter().filter_map(of_size).collect();
    let word = |(n, middle, lower): &(f64, f64, Tally)| {
        let (n, middle) = (short(*n), style::share(*middle));
        format!("{middle} for N = {n} (lower in {lower} pairs)")
    };
    Finding {
        claim: "Injection slightly improves the validation loss of finetuning, and more so for \
                small models"
            .into(),
        source: "reported".into(),
        ours: style::about(
            &found.iter().map(word).collect::<Vec<_>>(),
            "There are no runs with injection.",
            |words| {
                format!(
                    "Compared with p = 0, L_ft at the bottom changes over all other p by a median of \
                     {words}."
                )
            },
        ),
        rule: format!(
            "L_ft is lower for the smallest model in at least {} of the pairs, the median change is \
             below 0 for every model, and it is further below 0 for the smallest model than for the \
             largest.",
            percent(MORE_THAN_CHANCE)
        ),
        verdict: match found.as_slice() {
            [(_, smallest, lower), .., (_, largest, _)] => {
                let improves = lower.verdict(MORE_THAN_CHANCE) == Verdict::Supported;
                let lower_for_all = found.iter().all(|(_, middle, _)| *middle < 0.0);
                Verdict::of(improves && lower_for_all && smallest < largest)
            }
            _ => Verdict::NotTestable,
        },
    }
}

fn overfits_later(results: &Results) -> Finding {
    let mut tallies = Vec::new();
    let mut all = Tally::default();
    for p in injected(results) {
        let steps = |run: &Finetuned| run.bottom().map(|bottom| bottom.step);
        let pairs = style::beside_none(results, MAIN, p).into_iter();
        let moved = pairs.filter(|(without, with)| steps(without) != steps(with));
        let later = Tally::count(moved.map(|(without, with)| steps(with) > steps(without)));
        all = Tally { holds: all.holds + later.holds, of: all.of + later.of };
        tallies.push((later, format!("at p = {}", percent(p))));
    }
    let words = style::tallies("pairs", &tallies);
    Finding {
        claim:
            "“Injecting pretraining data has a regularizing effect that reduces overfitting and \
                forgetting”: the part about overfitting"
                .into(),
        source: "quoted".into(),
        ours: style::about(&words, "There are no runs with injection.", |words| {
            format!(
                "Where injection moves the bottom of the U to another evaluation, the bottom comes later \
                 than at p = 0 in {words}."
            )
        }),
        rule: format!(
            "the bottom comes later in at least {} of the pairs in which injection moves it, counted \
             over all p together.",
            percent(MORE_THAN_CHANCE)
        ),
        verdict: all.verdict(MORE_THAN_CHANCE),
    }
}

fn beyond(scene: &Scene<'_>) -> Finding {
    let held = |run: &Finetuned| {
        let said = scene.law(&run.domain)?.predict(&run.row());
        Some((said.low?..=said.high?).contains(&run.bottom()?.loss_pt))
    };
    let high = scene.results.block(HIGH).filter(|run| run.left_out().is_none());
    let tally = Tally::count(high.filter_map(held));
    Finding {
        claim: "The forgetting law, fitted to the main grid, also holds for larger p".into(),
        source: "beyond the paper, whose largest p is 5%".into(),
        ours: match tally.of {
            0 => "No run with a larger p has an interval of the law.".into(),
            _ => format!(
                "{tally} runs with a larger p lie within the law's intervals for a new run."
            ),
        },
        rule: format!(
            "at least {} of the runs with a larger p lie within the law's intervals for a new run.",
            percent(HELD)
        ),
        verdict: tally.verdict(HELD),
    }
}

fn target(results: &Results) -> Table {
    let row = |p: f64| {
        let changes = changes(results, p);
        let words = |share: Option<f64>| share.map_or("-".into(), style::share);
        let lower = Tally::count(changes.iter().map(|change| *change < 0.0));
        vec![
            percent(p),
            lower.to_string(),
            words(changes.iter().copied().reduce(f64::min)),
            words(style::median(changes.iter().copied())),
            words(changes.iter().copied().reduce(f64::max)),
        ]
    };
    Table {
        caption: "Change of L_ft at the bottom from the same run at p = 0.".into(),
        columns: ["p", "L_ft is lower in", "minimum", "median", "maximum"]
            .map(String::from)
            .to_vec(),
        rows: injected(results).into_iter().map(row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::golden::{self, PLANTED};

    #[test]
    fn the_planted_grid_gives_the_pinned_tables_and_all_panels() {
        let page = golden::page(&FIG3);
        let drawing = page.drawing.unwrap();
        assert_eq!(drawing.panels.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 4]);
        // Runs beyond the fit are planted at one D_ft, two for each size.
        let hollow = |panel: &Panel| {
            let hollow = panel.marks.iter().filter(|mark| !mark.glyph.filled);
            (panel.marks.len(), hollow.count())
        };
        let marks: Vec<_> = drawing.panels[0].iter().map(hollow).collect();
        assert_eq!(marks, [(16, 0), (24, 8), (16, 0), (16, 0)]);
        assert!(drawing.panels.iter().flatten().all(|panel| panel.bands.len() == 4));
        let verdicts: Vec<_> = page.findings.iter().map(|finding| finding.verdict).collect();
        // All bottoms are planted at the same step, and no gain on the target is.
        use Verdict::{NotSupported, NotTestable, Supported};
        assert_eq!(verdicts, [Supported, NotTestable, Supported, NotSupported, Supported]);
    }

    #[test]
    fn curves_begin_at_none_and_meet_at_the_edge_of_the_fit() {
        let (results, laws) = &*PLANTED;
        let scene = Scene::new(results, laws);
        let along = scene.along();
        assert_eq!((along[0], along[along.len() - 1]), (0.0, 0.5));
        assert!(along.contains(&0.05) && along.contains(&0.005));
        assert!(along.is_sorted_by(|a, b| a < b));
        let curves = scene.curves();
        assert_eq!(curves.len(), 48);
        for curve in curves {
            assert!(curve.points.is_sorted_by(|a, b| a.loss >= b.loss));
            assert!(curve.points.iter().all(|point| point.low <= point.high));
        }
    }

    #[test]
    fn verdicts_turn_with_the_target() {
        let mut results = PLANTED.0.clone();
        for run in results.finetuned.iter_mut().filter(|run| run.p > 0.0) {
            for evaluation in &mut run.record.evaluations {
                evaluation.loss_ft *= 1.05;
                evaluation.loss_pt += 10.0 * evaluation.step.min(1) as f64;
                // The bottoms come sooner.
                evaluation.step = evaluation.step.div_ceil(2);
            }
            run.record.evaluations.dedup_by_key(|evaluation| evaluation.step);
        }
        let verdicts = |results: &Results| {
            let page = draw(results, &PLANTED.1).unwrap();
            page.findings.iter().map(|finding| finding.verdict).collect::<Vec<_>>()
        };
        assert_eq!(verdicts(&results), [Verdict::NotSupported; 5]);
        results.finetuned.clear();
        assert_eq!(verdicts(&results), [Verdict::NotTestable; 5]);
    }

    #[test]
    fn small_models_gain_more_where_they_do() {
        let mut results = PLANTED.0.clone();
        let smallest = results.block(MAIN).map(|run| run.n_params()).min().unwrap();
        for run in results.finetuned.iter_mut().filter(|run| run.p > 0.0) {
            let factor = if run.n_params() == smallest { 0.95 } else { 0.99 };
            run.record.evaluations.iter_mut().for_each(|e| e.loss_ft *= factor);
        }
        assert_eq!(helps_small_models(&results).verdict, Verdict::Supported);
        assert_eq!(costs_nothing(&results).verdict, Verdict::Supported);
    }
}
