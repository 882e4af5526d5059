//! Beyond the paper: whether B of a domain can be predicted from its text, before anything is
//! finetuned.
//!
//! In one domain B and α of a forgetting law can be traded for each other, so the B of different
//! domains can be compared only at the same α. Here all domains share it ([`Shared`]). A line of ln B
//! against one measure of the text, fitted to all domains except one, then predicts B of that domain.

use super::prevented::of_law;
use crate::blocks::DOMAINS;
use crate::figures::style::{self, Csv, ONE_PERCENT, rank_correlation, significant};
use crate::figures::{Figure, Finding, Page, Table, Verdict};
use crate::format::cell;
use crate::results::{Domain, Finetuned, Laws, Results, distinct};
use forgetting_laws::Result;
use forgetting_laws::fit::{self, Bootstrap, Options, Shared};
use forgetting_laws::laws::{Forgetting, ForgettingPlusTokens, Held, Law};
use forgetting_laws::table::Table as Losses;
use plot::{
    self, Axis, Color, Direction, Glyph, Interval, Legend, Line, Mark, Panel, Shape, Share, Stroke,
};

/// The laws whose B is predicted: Equation 7, and the form that is mostly ahead of it on held-out runs.
const LAWS: [&dyn Law; 2] = [&Forgetting, &ForgettingPlusTokens];

/// How many measures are drawn side by side; the table has all.
const MOST_MEASURES: usize = 3;

/// B counts as not known if its interval spans a larger factor.
const WIDEST: f64 = 100.0;

/// The fewest domains for judging predictors.
const FEWEST: usize = 6;

/// The number of colours of marks; after that they repeat.
const COLORS: usize = 8;

/// B of a domain, from its text.
pub const B_FROM_TEXT: Figure = Figure {
    id: "b_from_text",
    paper: "beyond the paper",
    title: "B of a domain, by what its text says before anything is finetuned",
    blocks: &[DOMAINS],
    draw,
};

fn draw(results: &Results, laws: &Laws) -> Result<Page> {
    let texts = texts(results);
    let names = measures(&texts);
    let fitted: Vec<Fitted> =
        LAWS.iter().filter_map(|&law| Fitted::of(law, &texts, laws)).collect();
    let columns = ["law", "alpha", "domain", "b", "b_low", "b_high", "known"];
    let mut csv = Csv::new(columns.into_iter().chain(names.iter().map(String::as_str)));
    for (of, b) in fitted.iter().flat_map(|of| of.b.iter().map(move |b| (of, b))) {
        let text = &texts[b.text];
        let ends = [b.value, b.low, b.high].map(cell);
        let measured = names.iter().map(|name| cell(text.measure(name).unwrap_or(f64::NAN)));
        let fixed = [of.law.name().to_string(), cell(of.alpha), text.domain.name.clone()];
        csv.row(fixed.into_iter().chain(ends).chain([b.known.to_string()]).chain(measured));
    }
    let mut notes = style::notes(results, B_FROM_TEXT.blocks);
    for of in &fitted {
        let unknown: Vec<String> =
            of.b.iter().filter(|b| !b.known).map(|b| texts[b.text].domain.name.clone()).collect();
        if !unknown.is_empty() {
            notes.push(format!(
                "B of the law {} counts as unknown in {}, because its 90% interval includes 0 or \
                 spans more than a factor of {WIDEST}.",
                of.law.name(),
                style::list(&unknown)
            ));
        }
    }
    notes.push(
        "All domains of a law share one α, which minimises the sum of their objectives, because B and α \
         of a single domain can be traded for each other. A predictor is the Theil–Sen line of ln B \
         against one measure, whose slope and intercept are medians. Each domain is predicted by a line \
         through the other domains, at the α of the others. The p that prevents a given share of the \
         forgetting is proportional to 1/B, so an advised p is wrong by the same factor as B."
            .into(),
    );
    notes.push(
        "model_excess is the loss on the target minus the loss on the pretraining data, before finetuning. \
         first_step is the increase of L_pt divided by the decrease of L_ft from step 0 to the next \
         evaluation, at p = 0. Both are means over N and D_ft. The other measures depend on tokens alone."
            .into(),
    );
    let judged: Vec<Judged> = fitted.iter().map(|of| of.judge(&texts, &names)).collect();
    let mut predictors = Csv::new([
        "law",
        "predictor",
        "domains",
        "rank_correlation",
        "factor",
        "worst",
        "share_error",
    ]);
    for (of, judged) in fitted.iter().zip(&judged) {
        for row in &judged.0 {
            let numbers =
                [row.correlation.unwrap_or(f64::NAN), row.factor, row.worst, row.share_error];
            let fixed =
                [of.law.name().into(), row.predictor.clone(), of.known().count().to_string()];
            predictors.row(fixed.into_iter().chain(numbers.map(cell)));
        }
    }
    Ok(Page {
        drawing: (!fitted.is_empty() && !names.is_empty())
            .then(|| drawing(results, &texts, &names, &fitted)),
        csv: vec![(B_FROM_TEXT.id.into(), csv.text()), ("predictors".into(), predictors.text())],
        findings: if texts.is_empty() {
            Vec::new()
        } else {
            LAWS.iter().map(|&law| finding(law, &fitted, &judged)).collect()
        },
        tables: fitted
            .iter()
            .zip(&judged)
            .flat_map(|(of, judged)| [of.table(&texts, &names), judged.table(of)])
            .collect(),
        notes,
    })
}

/// A domain of the block: its runs and the measures of its text.
struct Text<'a> {
    domain: &'a Domain,
    losses: Losses,
    /// Pairs of runs: the counterpart without injection, and the run with injection.
    pairs: Vec<(&'a Finetuned, &'a Finetuned)>,
    measures: Vec<(String, f64)>,
}

impl Text<'_> {
    fn measure(&self, name: &str) -> Option<f64> {
        style::value_of(&self.measures, name)
    }

    /// The mean share of the forgetting that this p prevented.
    fn prevented(&self, p: f64) -> Option<f64> {
        let at_p = self.pairs.iter().filter(|(_, with)| with.p == p);
        mean(at_p.filter_map(|(without, with)| style::prevented(without, with)))
    }
}

fn mean(numbers: impl Iterator<Item = f64>) -> Option<f64> {
    let numbers: Vec<f64> = numbers.collect();
    (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>() / numbers.len() as f64)
}

fn texts(results: &Results) -> Vec<Text<'_>> {
    let groups = results.table(DOMAINS).groups();
    let fractions = distinct(results.block(DOMAINS).map(|run| run.p));
    let all: Vec<_> = fractions
        .iter()
        .filter(|&&p| p > 0.0)
        .flat_map(|&p| style::beside_none(results, DOMAINS, p))
        .collect();
    let text = |(name, losses): (String, Losses)| {
        let domain = results.domain(&name)?;
        let without = || results.block(DOMAINS).filter(|run| run.domain == name && run.p == 0.0);
        let excess = mean(without().map(|run| run.loss_ft0() - run.loss_pt0_of_curve()));
        let mut measures = domain.distances.clone();
        measures.extend(excess.map(|excess| ("model_excess".into(), excess)));
        measures.extend(mean(without().filter_map(first_step)).map(|s| ("first_step".into(), s)));
        let pairs = all.iter().copied().filter(|(_, with)| with.domain == name).collect();
        Some(Text { domain, losses, pairs, measures })
    };
    groups.into_iter().filter_map(text).collect()
}

/// The increase of L_pt over the decrease of L_ft from step 0 to the next evaluation.
fn first_step(run: &Finetuned) -> Option<f64> {
    let [start, next, ..] = run.record.evaluations.as_slice() else { return None };
    let ratio = (next.loss_pt - start.loss_pt) / (start.loss_ft - next.loss_ft);
    Some(ratio).filter(|ratio| ratio.is_finite())
}

/// The names of all measures.
fn measures(texts: &[Text<'_>]) -> Vec<String> {
    style::names_of(texts.iter().flat_map(|text| &text.measures))
}

/// A law at the α that all domains share.
struct Fitted {
    law: &'static dyn Law,
    shared: Shared,
    alpha: f64,
    b: Vec<Strength>,
}

/// B of a domain.
struct Strength {
    /// The index of the domain among the texts.
    text: usize,
    value: f64,
    low: f64,
    high: f64,
    /// Whether the interval is narrow enough for B to count as known.
    known: bool,
}

impl Fitted {
    fn of(law: &'static dyn Law, texts: &[Text<'_>], laws: &Laws) -> Option<Self> {
        let tables: Vec<_> =
            texts.iter().map(|text| (text.domain.name.clone(), text.losses.clone())).collect();
        let bootstrap = match laws.bootstrap() {
            Bootstrap::NONE => Bootstrap::default(),
            bootstrap => bootstrap,
        };
        let options = Options { bootstrap, hold_out: None, misfit: false, ..Options::default() };
        let shared = Shared::fit(&tables, law, "alpha", &options).ok()?;
        let alpha = shared.value(|_| true)?;
        let held = Held::of(law, "alpha", alpha).ok()?;
        let strength = |(text, (_, losses)): (usize, &(String, Losses))| {
            let fitted = fit::fit(losses, held, &options).ok()?;
            let b = fitted.params.get("B")?;
            let (low, high) = (b.low?, b.high?);
            let known = b.value > 0.0 && low > 0.0 && high / low <= WIDEST;
            Some(Strength { text, value: b.value, low, high, known })
        };
        let b = tables.iter().enumerate().filter_map(strength).collect();
        Some(Self { law, shared, alpha, b })
    }

    fn known(&self) -> impl Iterator<Item = &Strength> {
        self.b.iter().filter(|b| b.known)
    }

    /// The predictors, each with its predictions of every domain from the others.
    fn judge(&self, texts: &[Text<'_>], names: &[String]) -> Judged {
        let known: Vec<usize> = self.known().map(|b| b.text).collect();
        if known.len() < FEWEST {
            return Judged(Vec::new());
        }
        let ln_b = |text: usize, alpha: f64| Some(self.shared.param(text, "B", alpha)?.ln());
        // The measure of a predictor, and ln B, of all domains but one.
        let points = |without: &[usize], measure: &str, alpha: f64| -> Option<Vec<(f64, f64)>> {
            let others = known.iter().filter(|text| !without.contains(text));
            others.map(|&text| Some((texts[text].measure(measure)?, ln_b(text, alpha)?))).collect()
        };
        let by_line = |without: &[usize], text: usize, measure: &str, alpha: f64| {
            let line = theil_sen(&points(without, measure, alpha)?)?;
            Some(line.0 + line.1 * texts[text].measure(measure)?)
        };
        let by_median = |without: &[usize], alpha: f64| {
            let others = known.iter().filter(|text| !without.contains(text));
            style::median(others.filter_map(|&text| ln_b(text, alpha)))
        };
        // The measure whose lines predict the domains but one best, each from the rest of them.
        let chosen = |left_out: usize, alpha: f64| {
            let error = |measure: &String| {
                let others = known.iter().filter(|&&text| text != left_out);
                let errors = others.map(|&text| {
                    let predicted = by_line(&[left_out, text], text, measure, alpha)?;
                    Some((predicted - ln_b(text, alpha)?).abs())
                });
                errors.sum::<Option<f64>>()
            };
            let errors = names.iter().filter_map(|name| Some((name, error(name)?)));
            errors.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(name, _)| name)
        };
        let judge = |predictor: &str, predict: &dyn Fn(usize, f64) -> Option<f64>| {
            let of_domain = |&text: &usize| {
                let alpha = self.shared.value(|domain| domain != text)?;
                let predicted = predict(text, alpha)?;
                let missed = (predicted - ln_b(text, alpha)?).abs();
                Some((missed, self.share_error(&texts[text], predicted.exp(), alpha)?))
            };
            let errors: Vec<(f64, f64)> = known.iter().map(of_domain).collect::<Option<_>>()?;
            let pairs = points(&[], predictor, self.alpha);
            Some(Skill {
                predictor: predictor.into(),
                correlation: pairs.and_then(|pairs| rank_correlation(&pairs)),
                factor: mean(errors.iter().map(|(missed, _)| *missed))?.exp(),
                worst: errors.iter().map(|(missed, _)| *missed).fold(0.0, f64::max).exp(),
                share_error: mean(errors.iter().map(|(_, share)| *share))?,
            })
        };
        let mut rows = Vec::new();
        rows.extend(judge(MEDIAN, &|text, alpha| by_median(&[text], alpha)));
        rows.extend(judge(CHOSEN, &|text, alpha| {
            by_line(&[text], text, chosen(text, alpha)?, alpha)
        }));
        rows.extend(judge(OWN, &|text, alpha| ln_b(text, alpha)));
        for name in names {
            rows.extend(judge(name, &|text, alpha| by_line(&[text], text, name, alpha)));
        }
        Judged(rows)
    }

    /// The mean error, over the pairs of runs of a domain, of the share of the forgetting that
    /// injection prevents by the law with this B and α. A and β cancel.
    fn share_error(&self, text: &Text<'_>, b: f64, alpha: f64) -> Option<f64> {
        let error = |(without, with): &(&Finetuned, &Finetuned)| {
            let said = of_law(self.law, &[1.0, b, alpha, 0.0], &with.row());
            Some((said - style::prevented(without, with)?).abs())
        };
        mean(text.pairs.iter().filter_map(error))
    }

    fn table(&self, texts: &[Text<'_>], names: &[String]) -> Table {
        let number = |value: Option<f64>| value.map_or("-".into(), |value| significant(value, 3));
        let row = |b: &Strength| {
            let text = &texts[b.text];
            let [value, low, high] = [b.value, b.low, b.high].map(|b| significant(b, 3));
            let share = |p| text.prevented(p).map_or("-".into(), style::share);
            let fixed = [
                text.domain.name.clone(),
                text.losses.runs.len().to_string(),
                format!("{value} [{low}, {high}]{}", if b.known { "" } else { " (unknown)" }),
                share(ONE_PERCENT),
                share(0.05),
            ];
            let measured = names.iter().map(|name| number(text.measure(name)));
            fixed.into_iter().chain(measured).collect()
        };
        let mut order: Vec<&Strength> = self.b.iter().collect();
        order.sort_by(|a, b| a.value.total_cmp(&b.value));
        let fixed = ["domain", "runs", "B", "prevented by 1%", "prevented by 5%"];
        Table {
            caption: format!(
                "The law {} with α = {} in every domain, sorted by B. Brackets hold the middle 90% of \
                 resamples. The shares prevented are means over the runs.",
                self.law.name(),
                significant(self.alpha, 3)
            ),
            columns: fixed.map(String::from).into_iter().chain(names.iter().cloned()).collect(),
            rows: order.into_iter().map(row).collect(),
        }
    }
}

const MEDIAN: &str = "the median B of the others";
const CHOSEN: &str = "the measure that is best on the others";
const OWN: &str = "its own B";

/// The errors of a predictor.
struct Skill {
    predictor: String,
    /// Spearman's rank correlation of the measure with B.
    correlation: Option<f64>,
    /// The mean factor by which B is missed: e to the mean of |ln(predicted B / B)|.
    factor: f64,
    /// The largest such factor.
    worst: f64,
    /// The mean error of the share of the forgetting that is prevented.
    share_error: f64,
}

/// The predictors of a law; empty if there are too few domains.
struct Judged(Vec<Skill>);

impl Judged {
    fn of(&self, predictor: &str) -> Option<&Skill> {
        self.0.iter().find(|row| row.predictor == predictor)
    }

    fn table(&self, of: &Fitted) -> Table {
        let row = |row: &Skill| {
            vec![
                row.predictor.clone(),
                row.correlation.map_or("-".into(), |r| significant(r, 2)),
                significant(row.factor, 3),
                significant(row.worst, 3),
                style::share(row.share_error),
            ]
        };
        let columns = [
            "predictor",
            "rank correlation",
            "mean factor by which B is missed",
            "largest factor",
            "mean error of the share prevented",
        ];
        Table {
            caption: format!(
                "Predictors of B of the law {}. Each domain is predicted from the others. The share prevented \
                 is that of the domain's runs. The row “{OWN}” has the error of the law itself, which no \
                 predictor of B can reduce.",
                of.law.name()
            ),
            columns: columns.map(String::from).to_vec(),
            rows: self.0.iter().map(row).collect(),
        }
    }
}

fn finding(law: &dyn Law, fitted: &[Fitted], judged: &[Judged]) -> Finding {
    let found = fitted.iter().zip(judged).find(|(of, _)| of.law.name() == law.name());
    let rows = found.and_then(|(of, judged)| {
        Some((of, judged.of(CHOSEN)?, judged.of(MEDIAN)?, judged.of(OWN)?))
    });
    let (ours, verdict) = match rows {
        None => (
            format!("Fewer than {FEWEST} domains have a known B and measures of their text."),
            Verdict::NotTestable,
        ),
        Some((of, chosen, median, own)) => {
            let points = |skill: &Skill| significant(100.0 * skill.share_error, 2);
            let holds = chosen.factor < median.factor && chosen.share_error < median.share_error;
            let words = format!(
                "Each of {} domains is predicted from the others. B is missed by a mean factor of {} and \
                 at most {}; the median B of the others misses it by {} and {}. The mean error of the \
                 share of the forgetting that is prevented is {} points; it is {} with the median B of \
                 the others and {} with the domain's own B.",
                of.known().count(),
                significant(chosen.factor, 3),
                significant(chosen.worst, 3),
                significant(median.factor, 3),
                significant(median.worst, 3),
                points(chosen),
                points(median),
                points(own),
            );
            (words, Verdict::of(holds))
        }
    };
    Finding {
        claim: format!("B of a domain in the law {} can be predicted from its text", law.name()),
        source: "beyond the paper".into(),
        ours,
        rule: "the measure that is best on the other domains misses both B and the share prevented by \
               less, in the mean, than their median B does."
            .into(),
        verdict,
    }
}

/// Intercept and slope of the Theil–Sen line: the median of the slopes between points, and the median
/// of the intercepts with that slope. `None` if all points have the same abscissa.
pub fn theil_sen(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let pairs =
        points.iter().enumerate().flat_map(|(i, a)| points[..i].iter().map(move |b| (a, b)));
    let apart = pairs.filter(|(a, b)| a.0 != b.0);
    let slope = style::median(apart.map(|(a, b)| (a.1 - b.1) / (a.0 - b.0)))?;
    Some((style::median(points.iter().map(|(x, y)| y - slope * x))?, slope))
}

fn drawing(
    results: &Results,
    texts: &[Text<'_>],
    names: &[String],
    fitted: &[Fitted],
) -> plot::Figure {
    let names = &names[..names.len().min(MOST_MEASURES)];
    let drawn: Vec<usize> = (0..texts.len())
        .filter(|&i| fitted.iter().any(|of| of.known().any(|b| b.text == i)))
        .collect();
    // Colours repeat after some, and shapes must not with them.
    let glyph = |text: usize| {
        let i = drawn.iter().position(|&drawn| drawn == text).unwrap_or(0);
        Glyph::new(Shape::nth((i + i / COLORS) % 4), Color::categorical(i))
    };
    let panel = |of: &Fitted, name: &String| {
        let mut panel = Panel::new(Axis::linear(name.replace('_', " ")), Axis::log("B"));
        let at = |b: &Strength| Some((texts[b.text].measure(name)?, b.value));
        for b in of.known() {
            let (Some(at), glyph) = (at(b), glyph(b.text)) else { continue };
            panel.marks.push(Mark::new(at, glyph));
            panel.intervals.push(Interval {
                at: at.0,
                low: b.low,
                high: b.high,
                direction: Direction::Vertical,
                stroke: Stroke::new(glyph.color, 1.0),
            });
        }
        let points: Vec<_> = of.known().filter_map(at).map(|(x, b)| (x, b.ln())).collect();
        if let Some((intercept, slope)) = theil_sen(&points) {
            let ends = [f64::min, f64::max].map(|end| points.iter().map(|(x, _)| *x).reduce(end));
            let line = ends.iter().flatten().map(|&x| (x, (intercept + slope * x).exp())).collect();
            panel.lines.push(Line::new(line, Stroke::new(Color::GREY, 1.2)));
        }
        panel
    };
    let row = |of: &Fitted| names.iter().map(|name| panel(of, name)).collect::<Vec<_>>();
    let mut drawing = plot::Figure::new(B_FROM_TEXT.title, fitted.iter().map(row).collect());
    let name = |of: &Fitted| match of.law.name() {
        name if name == Forgetting.name() => "Equation 7".to_string(),
        _ => "N + B·p·D_{ft}".into(),
    };
    drawing.rows = fitted.iter().map(name).collect();
    drawing.share_x = Share::Column;
    drawing.share_y = Share::Row;
    drawing.legend = vec![Legend {
        title: "domain".into(),
        entries: drawn.iter().map(|&i| (glyph(i).into(), texts[i].domain.name.clone())).collect(),
    }];
    drawing.description = "The coefficient B of two forgetting laws, with one α for all domains, against \
                           measures of the distance of each domain's text from the pretraining text; a \
                           row for each law, a column for each measure."
        .into();
    drawing.footnote =
        "Bars are 90% intervals from resamples of the runs. The line is the Theil–Sen line through all \
         domains."
            .into();
    drawing.provenance = style::provenance(results);
    drawing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::MAIN;
    use crate::figures::golden::{self, PLANTED};

    /// The planted grid's runs of one domain under the names of eight, with B = e^(2 + 8·x) where x is
    /// the first measure; the second measure says nothing.
    fn planted() -> Results {
        let mut results = PLANTED.0.clone();
        let is_taken = |run: &&Finetuned| {
            run.domain == "far" && ["nano-tiny", "nano-small"].contains(&run.size.as_str())
        };
        let runs: Vec<Finetuned> = results.block(MAIN).filter(is_taken).cloned().collect();
        let (far, planted_b, alpha) = (results.domain("far").unwrap().clone(), 600.0, 0.35);
        results.finetuned.clear();
        results.domains.clear();
        for i in 0..8 {
            let x = 0.2 + 0.06 * i as f64;
            let name = format!("domain {i}");
            let b = (2.0 + 8.0 * x).exp();
            let distances = vec![("tells".into(), x), ("silent".into(), (i * 3 % 8) as f64)];
            results.domains.push(Domain { name: name.clone(), distances, ..far.clone() });
            for run in &runs {
                let mut run =
                    Finetuned { blocks: vec![DOMAINS.into()], domain: name.clone(), ..run.clone() };
                let ratio = ((1.0 + planted_b * run.p) / (1.0 + b * run.p)).powf(alpha);
                let start = run.record.evaluations[0].loss_pt;
                for evaluation in &mut run.record.evaluations {
                    evaluation.loss_pt = start + (evaluation.loss_pt - start) * ratio;
                }
                results.finetuned.push(run);
            }
        }
        results
    }

    #[test]
    fn a_grid_without_many_domains_has_an_empty_page() {
        let page = golden::page(&B_FROM_TEXT);
        assert!(page.drawing.is_none() && page.findings.is_empty() && page.tables.is_empty());
        assert!(page.notes[0].contains("block domains has no runs"), "{}", page.notes[0]);
    }

    #[test]
    fn a_planted_line_is_found_and_predicts_what_it_has_not_seen() {
        let results = planted();
        let texts = texts(&results);
        let names = measures(&texts);
        assert_eq!(names, ["tells", "silent", "model_excess", "first_step"]);
        let fitted = Fitted::of(&Forgetting, &texts, &PLANTED.1).unwrap();
        assert!((fitted.alpha / 0.35 - 1.0).abs() < 0.1, "{}", fitted.alpha);
        let judged = fitted.judge(&texts, &names);
        let factor = |predictor: &str| judged.of(predictor).unwrap().factor;
        // The losses of the grid are off by 2%.
        assert!(factor("tells") < 1.3 && factor(CHOSEN) < 1.3, "{}", factor(CHOSEN));
        assert!(factor(MEDIAN) > 2.0 && factor("silent") > 2.0, "{}", factor(MEDIAN));
        assert_eq!(factor(OWN), 1.0);
        assert!(judged.of("tells").unwrap().correlation.unwrap() > 0.98);
        assert!(judged.of(OWN).unwrap().share_error < 0.02);
        let (fitted, judged) = ([fitted], [judged]);
        let finding = finding(&Forgetting, &fitted, &judged);
        assert_eq!(finding.verdict, Verdict::Supported, "{}", finding.ours);
        let drawing = drawing(&results, &texts, &names, &fitted);
        assert_eq!(drawing.panels.iter().map(Vec::len).collect::<Vec<_>>(), [3]);
        assert_eq!((drawing.panels[0][0].marks.len(), drawing.panels[0][0].lines.len()), (8, 1));
    }

    #[test]
    fn few_domains_judge_nothing() {
        let mut results = planted();
        let first = ["domain 0", "domain 1", "domain 2"];
        results.finetuned.retain(|run| first.contains(&run.domain.as_str()));
        let texts = texts(&results);
        let fitted = [Fitted::of(&Forgetting, &texts, &PLANTED.1).unwrap()];
        let judged = [fitted[0].judge(&texts, &measures(&texts))];
        let finding = finding(&Forgetting, &fitted, &judged);
        assert_eq!(finding.verdict, Verdict::NotTestable, "{}", finding.ours);
    }

    #[test]
    fn the_line_of_medians_is_not_moved_by_one_point() {
        let mut points: Vec<(f64, f64)> =
            (0..7).map(|i| (i as f64, 1.0 + 2.0 * i as f64)).collect();
        points[3].1 = 1e3;
        assert_eq!(theil_sen(&points), Some((1.0, 2.0)));
        assert_eq!(theil_sen(&[(1.0, 2.0), (1.0, 3.0)]), None);
    }
}
