//! Beyond the paper: models of different size at equal FLOPs of pretraining, including what they
//! forget.
//!
//! A larger model on fewer tokens starts from another L_pt⁰ and forgets less. The law predicts how much
//! it forgets. L_pt⁰ at other tokens per parameter is known only if some size was pretrained on several
//! amounts of tokens. Otherwise the figure shows how much higher L_pt⁰ may be.

mod tokens;

use crate::blocks::MAIN;
use crate::figures::paper::table1::{self, starts};
use crate::figures::style::{self, Csv, Scale, percent, short};
use crate::figures::{Figure, Finding, Page, Table, Verdict};
use crate::format::cell;
use crate::format::significant;
use crate::results::{Laws, Pretrained, Results, distinct};
use forgetting_laws::Result;
use forgetting_laws::fit::advise::Estimate;
use forgetting_laws::fit::{Advisor, Fit, Options, Status, fit};
use forgetting_laws::laws::{Additive, Row};
use forgetting_laws::table::{self, Column, Run};
use plot::{self, Axis, Band, Color, Dash, Line, Panel, Place, Rule, Share, Stroke};

/// Losses of models of different sizes at equal FLOPs.
pub const ISOFLOP: Figure = Figure {
    id: "isoflop",
    paper: "beyond the paper, which discusses IsoFLOPs",
    title: "Forgetting at equal FLOPs of pretraining",
    blocks: &[MAIN, tokens::BLOCK],
    draw,
};

/// The fractions of injection that are drawn.
const P: [f64; 2] = [0.0, 0.01];

/// The number of sizes along the curve.
const POINTS: usize = 17;

const OPACITY: f64 = 0.2;

fn draw(results: &Results, laws: &Laws) -> Result<Page> {
    let before = pretraining_law(results, laws);
    let mut notes = style::notes(results, ISOFLOP.blocks);
    notes.extend(laws.missing());
    let models = starts(results);
    let Some(reference) = models.get(models.len() / 2) else {
        return Ok(Page {
            csv: vec![("isoflop".into(), numbers(&[]))],
            findings: vec![finding(&[], &before)],
            notes,
            ..Page::default()
        });
    };
    let mut curves = Vec::new();
    for fit in laws.0.iter().filter_map(|laws| laws.forgetting.as_ref().ok()) {
        for p in P {
            match curve(fit, before.as_ref().ok(), reference, p) {
                Ok(curve) => curves.push(curve),
                Err(why) => notes.push(format!("{}: {why}.", fit.domain)),
            }
        }
    }
    notes.push(
        "FLOPs are 6·N·D. The forgetting law was fitted to runs with one number of tokens per \
         parameter and is assumed to hold for others; the last finding tests this. L_pt⁰ and L_pt \
         are given only where D/N is within the range of the pretrained models."
            .into(),
    );
    let (of_tokens, by_tokens, depends) = tokens::page(results);
    Ok(Page {
        drawing: (!curves.is_empty()).then(|| drawing(&ISOFLOP, results, laws, &curves, reference)),
        csv: vec![("isoflop".into(), numbers(&curves)), ("tokens".into(), of_tokens)],
        tables: vec![table(&curves), by_tokens],
        findings: vec![finding(&curves, &before), depends],
        notes,
    })
}

/// The additive law of the pretraining runs and the range of their D/N.
struct Before {
    law: Fit,
    per_param: (f64, f64),
}

/// The additive law for L_pt⁰, or why there is none.
fn pretraining_law(results: &Results, laws: &Laws) -> Result<Before, String> {
    let Some(first) = starts(results).first().map(|run| run.weight_decay) else {
        return Err("no model was pretrained".into());
    };
    let alike: Vec<&Pretrained> =
        results.pretrained.iter().filter(|run| run.weight_decay == first).collect();
    let several = alike.iter().any(|run| {
        let tokens = |other: &&&Pretrained| other.size == run.size;
        alike.iter().filter(tokens).any(|other| other.d_tokens() != run.d_tokens())
    });
    if !several {
        return Err(
            "every size was pretrained on one amount of tokens, so the effects of N and D on L_pt⁰ \
             cannot be told apart, and losses during pretraining cannot replace other amounts \
             because the learning rate had not decayed yet"
                .into(),
        );
    }
    let run = |run: &&Pretrained| Run {
        row: Row {
            n_params: run.record.n_params.paper() as f64,
            d_tokens: run.d_tokens() as f64,
            ..Row::default()
        },
        loss: Some(run.loss()),
        ..Run::default()
    };
    let table = table::Table::new(alike.iter().map(run).collect());
    let options = Options {
        bootstrap: laws.bootstrap(),
        hold_out: None,
        misfit: false,
        ..Options::default()
    };
    let fit = fit(&table, &Additive, &options).map_err(|error| error.to_string())?;
    let per_param = alike.iter().map(|run| table1::tokens_per_param(run));
    let (low, high) = per_param
        .fold((f64::INFINITY, 0f64), |(low, high), value| (low.min(value), high.max(value)));
    match fit.status {
        Status::Converged | Status::AtBound => Ok(Before { law: fit, per_param: (low, high) }),
        _ => Err("the pretraining runs do not determine the additive law".into()),
    }
}

/// A model at equal FLOPs. Losses are in nats per token.
struct Point {
    n_params: f64,
    d_tokens: f64,
    /// L_pt − L_pt⁰.
    rise: Estimate,
    /// How much less it forgets than the reference, which is how much higher its L_pt⁰ may be.
    allowance: Estimate,
    /// L_pt⁰ and L_pt, if the additive law is known.
    losses: Option<(Estimate, Estimate)>,
}

/// Models at equal FLOPs and their losses after finetuning on a domain.
struct Curve {
    domain: String,
    p: f64,
    d_ft_tokens: f64,
    flops: f64,
    points: Vec<Point>,
    /// The point with twice the reference's parameters.
    twice: Point,
}

fn curve(fit: &Fit, before: Option<&Before>, reference: &Pretrained, p: f64) -> Result<Curve> {
    let advisor = Advisor::new(std::iter::once(fit).chain(before.map(|before| &before.law)));
    let n_params = reference.record.n_params.paper() as f64;
    let d_tokens = reference.d_tokens() as f64;
    let d_ft_tokens = fit.range(Column::DFtTokens).1;
    let row = Row { n_params, d_tokens, d_ft_tokens, p, ..Row::default() };
    let point = |ratio: f64| {
        let found = advisor.larger_model(&row, ratio)?;
        // By a law that was fitted to such models.
        let per_param = found.larger.d_tokens / found.larger.n_params;
        let known = before
            .is_some_and(|before| (before.per_param.0..=before.per_param.1).contains(&per_param));
        Ok(Point {
            n_params: found.larger.n_params,
            d_tokens: found.larger.d_tokens,
            rise: found.larger.rise,
            allowance: found.forgets_less,
            losses: found.larger.loss_pt0.zip(found.larger.loss_pt).filter(|_| known),
        })
    };
    let (low, high) = fit.range(Column::NParams);
    let ratio = |i: usize| low / n_params * (high / low).powf(i as f64 / (POINTS - 1) as f64);
    Ok(Curve {
        domain: fit.domain.clone(),
        p,
        d_ft_tokens,
        flops: 6.0 * n_params * d_tokens,
        points: (0..POINTS).map(|i| point(ratio(i))).collect::<Result<_>>()?,
        twice: point(2.0)?,
    })
}

/// One row per point.
fn numbers(curves: &[Curve]) -> String {
    let mut csv = Csv::new([
        "domain",
        "p",
        "d_ft_tokens",
        "flops",
        "n_params",
        "d_tokens",
        "rise",
        "rise_low",
        "rise_high",
        "allowance",
        "allowance_low",
        "allowance_high",
        "loss_pt0",
        "loss_pt",
        "loss_pt_low",
        "loss_pt_high",
    ]);
    let three = |estimate: Estimate| [estimate.value, estimate.low, estimate.high].map(cell);
    for curve in curves {
        for point in &curve.points {
            let place = [curve.p, curve.d_ft_tokens, curve.flops, point.n_params, point.d_tokens];
            let losses = match point.losses {
                Some((before, after)) => [cell(before.value)].into_iter().chain(three(after)),
                None => [String::new()].into_iter().chain([const { String::new() }; 3]),
            };
            csv.row(
                std::iter::once(curve.domain.clone())
                    .chain(place.map(cell))
                    .chain(three(point.rise))
                    .chain(three(point.allowance))
                    .chain(losses),
            );
        }
    }
    csv.text()
}

fn drawing(
    figure: &Figure,
    results: &Results,
    laws: &Laws,
    curves: &[Curve],
    reference: &Pretrained,
) -> plot::Figure {
    let fractions = Scale::fractions(P);
    let n_params = reference.record.n_params.paper() as f64;
    let mut domains: Vec<&str> = curves.iter().map(|curve| curve.domain.as_str()).collect();
    domains.dedup();
    type Of = fn(&Point) -> Option<Estimate>;
    let mut shown: Vec<(&str, &str, Of)> = vec![
        ("forgetting", "increase of L_{pt} (nats)", |point| Some(point.rise)),
        ("L_{pt}^{0} may be higher by", "nats", |point| Some(point.allowance)),
    ];
    let mut before = "";
    if curves.iter().flat_map(|curve| &curve.points).any(|point| point.losses.is_some()) {
        before = " Dotted lines are L_{pt}^{0}.";
        shown.push(("after finetuning", "L_{pt} (nats)", |point| Some(point.losses?.1)));
    }
    let panel = |domain: &str, label: &str, of: Of| {
        let mut panel = Panel::new(Axis::log("Parameters N"), Axis::linear(label));
        panel.rules.push(Rule::new(Place::Vertical(n_params), ""));
        for curve in curves.iter().filter(|curve| curve.domain == domain) {
            let estimates: Vec<_> = curve
                .points
                .iter()
                .filter_map(|point| Some((point.n_params, of(point)?)))
                .collect();
            let stroke = fractions.stroke(curve.p);
            panel.bands.push(Band {
                points: estimates.iter().map(|(n, e)| (*n, e.low, e.high)).collect(),
                color: stroke.color,
                opacity: OPACITY,
            });
            let points = estimates.iter().map(|(n, e)| (*n, e.value)).collect();
            panel.lines.push(Line::new(points, stroke));
            if label.starts_with("L_{pt}") {
                let before = curve.points.iter().filter_map(|point| {
                    point.losses.map(|(before, _)| (point.n_params, before.value))
                });
                let stroke = Stroke::new(Color::GREY, 1.0).dashed(Dash::Dotted);
                panel.lines.push(Line::new(before.collect(), stroke));
            }
        }
        panel
    };
    let row = |&(_, label, of): &(&str, &str, Of)| {
        domains.iter().map(|domain| panel(domain, label, of)).collect()
    };
    let mut drawing = plot::Figure::new(figure.title, shown.iter().map(row).collect());
    drawing.rows = shown.iter().map(|(name, ..)| name.to_string()).collect();
    drawing.columns = domains.iter().map(|domain| domain.to_string()).collect();
    drawing.share_x = Share::Figure;
    drawing.share_y = Share::Row;
    drawing.legend = vec![fractions.lines()];
    drawing.description =
        "What the forgetting law says of models of different size that cost the same FLOPs to \
         pretrain: the increase of the pretraining loss against N, and how much higher the loss before \
         finetuning may be than that of the reference, a column for each domain."
            .into();
    let curve = &curves[0];
    let level = percent(laws.bootstrap().level);
    drawing.footnote = format!(
        "{} FLOPs, D_{{ft}} = {}. The vertical line is the reference, N = {} on {} tokens. Bands are \
         {level} intervals of the laws.{before}",
        significant(curve.flops, 3),
        short(curve.d_ft_tokens),
        short(n_params),
        short(reference.d_tokens() as f64)
    );
    drawing.provenance = style::provenance(results);
    drawing
}

/// Twice the reference's parameters, in every domain.
fn table(curves: &[Curve]) -> Table {
    let row = |curve: &Curve| {
        let with_interval = |Estimate { value, low, high }: Estimate| {
            let digits = |value: f64| significant(value, 3);
            format!("{} [{}, {}]", digits(value), digits(low), digits(high))
        };
        vec![
            curve.domain.clone(),
            percent(curve.p),
            with_interval(curve.twice.rise),
            with_interval(curve.twice.allowance),
        ]
    };
    Table {
        caption:
            "A model with twice the parameters of the reference, pretrained on half its tokens. \
                  Losses are in nats."
                .into(),
        columns: ["domain", "p", "increase of L_pt", "how much less than the reference"]
            .map(String::from)
            .to_vec(),
        rows: curves.iter().map(row).collect(),
    }
}

/// The points whose losses are known.
fn known(curve: &Curve) -> Vec<(&Point, &(Estimate, Estimate))> {
    curve.points.iter().filter_map(|point| Some((point, point.losses.as_ref()?))).collect()
}

/// The known point with the smallest loss.
fn optimum(curve: &Curve, of: impl Fn(&(Estimate, Estimate)) -> f64) -> Option<usize> {
    let losses: Vec<f64> = known(curve).iter().map(|(_, losses)| of(losses)).collect();
    (0..losses.len()).min_by(|&a, &b| losses[a].total_cmp(&losses[b]))
}

/// Its N; at an end of the curve the optimum may lie beyond.
fn name_of_optimum(curve: &Curve, at: Option<usize>) -> String {
    let (Some(i), known) = (at, known(curve)) else { return "unknown".into() };
    let n_params = short(known[i].0.n_params);
    match i {
        0 => format!("at most {n_params}"),
        i if i + 1 == known.len() => format!("at least {n_params}"),
        _ => n_params,
    }
}

fn finding(curves: &[Curve], before: &Result<Before, String>) -> Finding {
    let twice = distinct(curves.iter().map(|curve| curve.twice.allowance.value));
    let twice = twice.first().zip(twice.last()).map_or_else(String::new, |(low, high)| {
        format!(
            " Twice the parameters on half the tokens reduce the forgetting by {} to {} nats, and pay off \
             if they increase L_pt⁰ by less than that.",
            significant(*low, 2),
            significant(*high, 2)
        )
    });
    let optima: Vec<_> = curves
        .iter()
        .filter(|curve| curve.p == P[0])
        .map(|curve| (curve, optimum(curve, |loss| loss.0.value), optimum(curve, |l| l.1.value)))
        .collect();
    let (ours, verdict) = match before {
        Err(why) => (format!("The best N cannot be found: {why}.{twice}"), None),
        Ok(_) => {
            let name = |(curve, at): (&Curve, Option<usize>)| {
                format!("{} in {}", name_of_optimum(curve, at), curve.domain)
            };
            let before: Vec<_> = optima.iter().map(|&(curve, at, _)| name((curve, at))).collect();
            let after: Vec<_> = optima.iter().map(|&(curve, _, at)| name((curve, at))).collect();
            // Where both are the same end of the curve, what lies beyond it decides.
            let shifted = optima.iter().map(|(curve, before, after)| match (before, after) {
                (Some(before), Some(after)) => {
                    let at_one_end =
                        before == after && (*before == 0 || *before + 1 == known(curve).len());
                    if at_one_end { Verdict::NotTestable } else { Verdict::of(after > before) }
                }
                _ => Verdict::NotTestable,
            });
            let verdict = style::all(shifted);
            let best = style::about(&before, "No domain has a forgetting law.", |before| {
                let after = style::list(&after);
                format!(
                    "Before finetuning the best N is {before}. After finetuning at p = 0 it is {after}."
                )
            });
            (format!("{best}{twice}"), Some(verdict))
        }
    };
    Finding {
        claim:
            "At equal FLOPs of pretraining, forgetting makes a larger model the better choice for \
                finetuning"
                .into(),
        source: "reported that IsoFLOPs are discussed; the question is the paper's, the statement \
                 ours"
            .into(),
        ours,
        rule: "the N with the lowest L_pt at equal FLOPs is larger after finetuning without \
               injection than before it in every domain, by the additive law of L_pt⁰ and the \
               forgetting law."
            .into(),
        verdict: verdict.unwrap_or(Verdict::NotTestable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::golden::{self, PLANTED};
    use forgetting_laws::laws::Law;
    use forgetting_laws::run::RunId;

    #[test]
    fn one_amount_of_tokens_a_size_cannot_tell() {
        let page = golden::page(&ISOFLOP);
        let finding = &page.findings[0];
        assert_eq!(finding.verdict, Verdict::NotTestable);
        assert!(finding.ours.contains("every size was pretrained on one amount of tokens"));
        assert_eq!(page.tables[0].rows.len(), 6);
        let drawing = page.drawing.unwrap();
        assert_eq!(drawing.panels.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3]);
        // Two fractions, each with its band.
        let panel = &drawing.panels[0][0];
        assert_eq!((panel.lines.len(), panel.bands.len()), (2, 2));
        // Larger models forget less, and with injection everyone does.
        let line = |i: usize| &panel.lines[i].points;
        assert!(line(0).windows(2).all(|pair| pair[1].1 < pair[0].1));
        assert!(line(0).iter().zip(line(1)).all(|(without, with)| with.1 < without.1));
    }

    /// With several amounts of tokens the optimum is found, and it moves to larger models: their
    /// forgetting falls with N.
    #[test]
    fn several_amounts_of_tokens_find_the_optimum() {
        let mut results = PLANTED.0.clone();
        let values = [40.0, 400.0, 0.35, 0.4, 1.0];
        let mut all = Vec::new();
        for run in results.pretrained.iter().filter(|run| run.weight_decay > 0.0) {
            for times in [1, 2, 4, 8] {
                let mut run = run.clone();
                run.record.realised.tokens *= times;
                run.record.id = RunId::of(&(&run.record.id, times));
                let row = Row {
                    n_params: run.record.n_params.paper() as f64,
                    d_tokens: run.d_tokens() as f64,
                    ..Row::default()
                };
                let ripple = 1.0 + 1e-4 * (1.7 * all.len() as f64).sin();
                let last = run.record.evaluations.last_mut().unwrap();
                last.loss_pt = ripple * Additive.predict(&(&row).into(), &values);
                all.push(run);
            }
        }
        results.pretrained = all;
        let page = draw(&results, &PLANTED.1).unwrap();
        let finding = &page.findings[0];
        assert_eq!(finding.verdict, Verdict::Supported, "{}", finding.ours);
        // Losses are given for the tokens per parameter that were pretrained, 40 to 320.
        let mut known = 0;
        for line in page.csv[0].1.lines().skip(1) {
            let cells: Vec<&str> = line.split(',').collect();
            let number = |i: usize| cells[i].parse::<f64>().unwrap();
            let per_param = number(5) / number(4);
            assert_eq!(!cells[12].is_empty(), (40.0..320.0).contains(&per_param), "{line}");
            known += usize::from(!cells[12].is_empty());
        }
        assert!(known >= 3 * 2 * 4, "{known}");
        assert_eq!(page.drawing.unwrap().panels.len(), 3);
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        let mut results = PLANTED.0.clone();
        results.pretrained.clear();
        let page = draw(&results, &PLANTED.1).unwrap();
        assert!(page.drawing.is_none());
        assert!(page.findings[0].ours.contains("no model was pretrained"));
        let page = draw(&PLANTED.0, &Laws(Vec::new())).unwrap();
        assert!(page.drawing.is_none());
        assert_eq!(page.findings[0].verdict, Verdict::NotTestable);
    }
}
