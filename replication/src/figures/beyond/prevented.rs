//! Beyond the paper: how much of the forgetting a fraction p prevents, as a function of N and D_ft.
//!
//! Share prevented = 1 − ΔL_pt(p) / ΔL_pt(0), at the bottom of the U. In Equation 7 it is 1 − (1 +
//! B·p)^(−α), whatever N and D_ft. In the forms with injected tokens, p·D_ft, it grows with D_ft, so
//! they give the D_ft from which 1% is enough.

use crate::blocks::MAIN;
use crate::figures::style::{self, ONE_PERCENT, Scale, Tally, percent};
use crate::figures::{Figure, Finding, Page, Table};
use crate::format::{cell, short};
use crate::results::{DomainLaws, Finetuned, Laws, Results, distinct};
use drawings::spread;
use forgetting_laws::Result;
use forgetting_laws::fit::{Fit, Interval};
use forgetting_laws::laws::{Law, Point, Row};
use plot::Stroke;
use plot::{self, Axis, Color, Dash, Key, Legend, Line, Mark, Numbers, Panel, Place, Rule, Share};

/// The most columns and rows of panels; the table has all.
const MOST_SIZES: usize = 4;
const MOST_DOMAINS: usize = 6;

/// The shares of the forgetting for which the figure gives the D_ft from which 1% prevents them.
const SHARES: [f64; 2] = [0.5, 0.9];

/// The largest D_ft that is considered, in tokens.
const MOST_TOKENS: f64 = 1e12;

/// The paper's smallest and largest N and D_ft.
const PAPER: [(f64, f64); 4] = [(41e6, 300e3), (41e6, 30e6), (1.27e9, 300e3), (1.27e9, 30e6)];

/// The required share of pairs of runs in which more is prevented with the larger D_ft.
const MOST_PAIRS: f64 = 0.75;

/// The number of points of a curve.
const POINTS: usize = 61;

/// The share of the forgetting that injection prevents.
pub const PREVENTED: Figure = Figure {
    id: "prevented",
    paper: "beyond the paper",
    title: "The share of the forgetting that injection prevents, by the amount of target data",
    blocks: &[MAIN],
    draw,
};

fn draw(results: &Results, laws: &Laws) -> Result<Page> {
    let scene = Scene::of(results, laws);
    let columns = ["increase_without", "increase", "prevented", "equation_7", "law"];
    let mut csv = style::csv_of_runs(&columns);
    for pair in pairs(results) {
        let of_domain = laws.domain(&pair.with.domain);
        let equation_7 = of_domain.and_then(|laws| laws.forgetting.as_ref().ok());
        let other = of_domain.and_then(|laws| laws.unbounded.as_ref());
        let said = [equation_7, other]
            .map(|fit| fit.map_or(f64::NAN, |fit| of_fit(fit, &pair.with.row())));
        let numbers = [pair.without.rise(), pair.with.rise(), Some(pair.prevented)];
        let numbers = numbers.map(|number| number.unwrap_or(f64::NAN)).into_iter().chain(said);
        csv.row(style::identity(pair.with).into_iter().chain(numbers.map(cell)));
    }
    let mut notes = style::notes(results, PREVENTED.blocks);
    notes.push(
        "The share prevented is 1 − ΔL_pt(p) / ΔL_pt(0) for two runs that differ only in p, at the \
         bottoms of their U-curves. A pair in which nothing was forgotten without injection is left \
         out."
            .into(),
    );
    notes.push(
        "The law of a domain is the form without a bound on the increase that predicts held-out runs \
         better than Equation 7, if there is one, and otherwise Equation 7. Its values at the paper's N and D_ft are \
         extrapolations by factors of a thousand from models, texts and a vocabulary of another \
         kind. They show what the form implies and say nothing about the paper's models."
            .into(),
    );
    Ok(Page {
        drawing: scene.drawing(&PREVENTED),
        csv: vec![(PREVENTED.id.into(), csv.text())],
        findings: vec![grows(results)],
        tables: vec![seen(results), enough(results, laws), at_the_papers_scale(laws)],
        notes,
    })
}

/// Two runs that differ only in p, one of them without injection.
struct Pair<'a> {
    without: &'a Finetuned,
    with: &'a Finetuned,
    prevented: f64,
}

/// All pairs of the main grid whose runs are not left out.
fn pairs(results: &Results) -> Vec<Pair<'_>> {
    let fractions = style::main_fractions(results).into_iter().filter(|&p| p > 0.0);
    let of_fraction = |p| style::beside_none(results, MAIN, p);
    let found = fractions.flat_map(of_fraction).filter_map(|(without, with)| {
        Some(Pair { without, with, prevented: style::prevented(without, with)? })
    });
    found.collect()
}

/// The share of the increase at p = 0 that p prevents by a law with these parameters.
pub(super) fn of_law(law: &dyn Law, values: &[f64], row: &Row) -> f64 {
    let increase = |p: f64| {
        let row = Row { p, ..*row };
        law.predict(&Point::from(&row), values) - row.loss_pt0
    };
    1.0 - increase(row.p) / increase(0.0)
}

/// The share by a fitted law.
fn of_fit(fit: &Fit, row: &Row) -> f64 {
    of_law(fit.law, &fit.values(), row)
}

/// The smallest D_ft at which p prevents a share of the forgetting, in tokens; `None` if no D_ft up to
/// [`MOST_TOKENS`] does.
fn enough_tokens(law: &dyn Law, values: &[f64], row: &Row, share: f64) -> Option<f64> {
    // A form may prevent a smaller share again with still more data.
    const STEPS: usize = 128;
    let at = |log_d: f64| of_law(law, values, &Row { d_ft_tokens: log_d.exp(), ..*row }) >= share;
    if at(0.0) {
        return Some(1.0);
    }
    let log = |step: usize| MOST_TOKENS.ln() * step as f64 / STEPS as f64;
    let first = (1..=STEPS).find(|&step| at(log(step)))?;
    let (mut low, mut high) = (log(first - 1), log(first));
    while high - low > 1e-9 {
        let middle = 0.5 * (low + high);
        if at(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Some(high.exp())
}

/// The interval of a number over the resamples, at the fit's level; `None` without a bootstrap, or if a
/// resample has no such number.
fn interval(fit: &Fit, of: impl Fn(&[f64]) -> f64) -> Option<Interval> {
    let resampled = fit.bootstrap.as_ref()?;
    Interval::of(resampled.draws.iter().map(|values| of(values)).collect(), resampled.level)
}

/// What is drawn.
struct Scene<'a> {
    results: &'a Results,
    laws: &'a Laws,
    pairs: Vec<Pair<'a>>,
    domains: Vec<&'a str>,
    sizes: Vec<f64>,
}

impl<'a> Scene<'a> {
    fn of(results: &'a Results, laws: &'a Laws) -> Self {
        let pairs = pairs(results);
        let domains = results.domains_of(MAIN).into_iter().map(|domain| domain.name.as_str());
        let has_pair = |domain: &&str| pairs.iter().any(|pair| pair.with.domain == *domain);
        let domains = domains.filter(has_pair).take(MOST_DOMAINS).collect();
        let sizes = distinct(pairs.iter().map(|pair| pair.with.n_params() as f64));
        Self { results, laws, domains, sizes: spread(&sizes, MOST_SIZES), pairs }
    }

    fn panel(&self, fractions: &Scale, domain: &str, size: f64) -> Panel {
        let y = Axis { numbers: Numbers::Percent, ..Axis::linear("Forgetting prevented") };
        let mut panel = Panel::new(Axis::log("D_{ft} (tokens)"), y);
        panel.rules.push(Rule::new(Place::Horizontal(0.0), ""));
        let of_domain = || self.pairs.iter().filter(|pair| pair.with.domain == domain);
        let here = || of_domain().filter(|pair| pair.with.n_params() as f64 == size);
        let tokens = distinct(of_domain().map(|pair| pair.with.unique_tokens() as f64));
        let laws = self.laws.domain(domain);
        let fits = [
            (laws.and_then(|laws| laws.unbounded.as_ref()), Dash::Solid),
            (laws.and_then(|laws| laws.forgetting.as_ref().ok()), Dash::Dashed),
        ];
        let row = here().next().map(|pair| pair.with.row());
        for &p in fractions.values() {
            for (fit, dash) in &fits {
                let (Some(fit), Some(row)) = (fit, row) else { continue };
                let (low, high) = (tokens[0].ln(), tokens[tokens.len() - 1].ln());
                let at = |i: usize| {
                    let share = i as f64 / (POINTS - 1) as f64;
                    let d_ft_tokens = (low + share * (high - low)).exp();
                    (d_ft_tokens, of_fit(fit, &Row { p, d_ft_tokens, ..row }))
                };
                let stroke = Stroke::new(fractions.color(p), 1.2).dashed(*dash);
                panel.lines.push(Line::new((0..POINTS).map(at).collect(), stroke));
            }
            let marks = here().filter(|pair| pair.with.p == p).map(|pair| {
                let at = (pair.with.unique_tokens() as f64, pair.prevented);
                Mark::new(at, fractions.glyph(p))
            });
            panel.marks.extend(marks);
        }
        panel
    }

    fn drawing(&self, figure: &Figure) -> Option<plot::Figure> {
        if self.domains.is_empty() {
            return None;
        }
        let injected = style::main_fractions(self.results).into_iter().filter(|&p| p > 0.0);
        let fractions = Scale::fractions(injected);
        let row = |domain: &&str| {
            let panels = self.sizes.iter().map(|&size| self.panel(&fractions, domain, size));
            panels.collect::<Vec<_>>()
        };
        let rows = self.domains.iter().map(row).collect();
        let mut drawing = plot::Figure::new(figure.title, rows);
        drawing.rows = self.domains.iter().map(ToString::to_string).collect();
        drawing.columns = self.sizes.iter().map(|&n| format!("N = {}", short(n))).collect();
        drawing.share_x = Share::Figure;
        drawing.share_y = Share::Row;
        let line = |dash| Key::from(Stroke::new(Color::GREY, 1.2).dashed(dash));
        let entries = vec![
            (line(Dash::Solid), "law of the domain".to_string()),
            (line(Dash::Dashed), "Equation 7".to_string()),
        ];
        drawing.legend = vec![fractions.marks(), Legend { title: String::new(), entries }];
        drawing.description = "The share of the increase of the pretraining loss without injection \
                               that a fraction of injected pretraining data prevents, against the \
                               amount of target data; a row for each domain, a column for each model \
                               size."
            .into();
        drawing.footnote =
            "Marks are pairs of runs. Dashed lines are Equation 7, in which D_{ft} does not matter. \
             Solid lines are the form that predicts held-out runs better, where there is one."
                .into();
        drawing.provenance = style::provenance(self.results);
        Some(drawing)
    }
}

fn grows(results: &Results) -> Finding {
    let pairs = pairs(results);
    let (mut tallies, mut verdicts) = (Vec::new(), Vec::new());
    for domain in results.domains_of(MAIN) {
        let of_domain = || pairs.iter().filter(|pair| pair.with.domain == domain.name);
        let same = |a: &Pair, b: &Pair| a.with.size == b.with.size && a.with.p == b.with.p;
        let compared = of_domain().flat_map(|a| {
            let more =
                move |b: &&Pair| same(a, b) && b.with.unique_tokens() > a.with.unique_tokens();
            of_domain().filter(more).map(move |b| b.prevented > a.prevented)
        });
        let tally = Tally::count(compared);
        verdicts.push(tally.verdict(MOST_PAIRS));
        tallies.push((tally, format!("in {}", domain.name)));
    }
    let words = style::tallies("pairs", &tallies);
    Finding {
        claim:
            "The share of the forgetting that a fraction p prevents grows with D_ft, whereas by \
                Equation 7 it does not depend on D_ft"
                .into(),
        source: "beyond the paper".into(),
        ours: style::about(&words, "There is no share to compare.", |words| {
            format!(
                "At equal N and p, a larger share is prevented with more target data in {words}."
            )
        }),
        rule: format!(
            "the share prevented is larger with more target data in at least {} of the pairs of every \
             domain.",
            percent(MOST_PAIRS)
        ),
        verdict: style::all(verdicts),
    }
}

/// The share that 1% prevented at each D_ft.
fn seen(results: &Results) -> Table {
    let of_fraction = |pair: &Pair| pair.with.p == ONE_PERCENT;
    let pairs: Vec<Pair> = pairs(results).into_iter().filter(of_fraction).collect();
    let amounts = style::amounts(pairs.iter().map(|pair| pair.with));
    let row = |domain: &str, size: &str| {
        let at = |&d_ft: &u64| {
            let here = |pair: &&Pair| {
                let run = pair.with;
                run.domain == domain && run.size == size && run.d_ft_tokens == d_ft
            };
            pairs.iter().find(here).map_or("-".into(), |pair| style::share(pair.prevented))
        };
        let cells = amounts.iter().map(at);
        [domain.to_string(), size.to_string()].into_iter().chain(cells).collect::<Vec<_>>()
    };
    let mut rows = Vec::new();
    for domain in results.domains_of(MAIN) {
        for model in results.pretrained.iter().filter(|model| model.in_block(MAIN)) {
            let row = row(&domain.name, &model.size);
            if row[2..].iter().any(|cell| cell != "-") && !rows.contains(&row) {
                rows.push(row);
            }
        }
    }
    let names = amounts.iter().map(|&d_ft| format!("D_ft = {}", short(d_ft as f64)));
    let columns = ["domain".to_string(), "size".to_string()].into_iter().chain(names).collect();
    let caption = "Share of the forgetting at p = 0 that p = 1% prevented.".into();
    Table { caption, columns, rows }
}

/// The law that is ahead of Equation 7, or Equation 7.
fn law_of(laws: &DomainLaws) -> Option<&Fit> {
    laws.unbounded.as_ref().or(laws.forgetting.as_ref().ok())
}

/// The D_ft from which 1% is enough, by the law of each domain.
fn enough(results: &Results, laws: &Laws) -> Table {
    let words = |tokens: Option<f64>| match tokens {
        None => "none".to_string(),
        Some(1.0) => "any".to_string(),
        Some(tokens) => short(tokens),
    };
    let mut rows = Vec::new();
    for (fit, domain) in laws.0.iter().filter_map(|laws| Some((law_of(laws)?, &laws.domain))) {
        let runs = || results.block(MAIN).filter(|run| run.domain == *domain);
        for n_params in distinct(runs().map(|run| run.n_params() as f64)) {
            let Some(run) = runs().find(|run| run.n_params() as f64 == n_params) else { continue };
            let row = Row { p: ONE_PERCENT, ..run.row() };
            let mut cells = vec![domain.clone(), short(n_params), fit.law.name().to_string()];
            for share in SHARES {
                let tokens = |values: &[f64]| enough_tokens(fit.law, values, &row, share);
                let ends = interval(fit, |values| tokens(values).unwrap_or(2.0 * MOST_TOKENS));
                let end = |tokens: f64| words(Some(tokens).filter(|&tokens| tokens <= MOST_TOKENS));
                let ends =
                    ends.map_or(String::new(), |i| format!(" [{}, {}]", end(i.low), end(i.high)));
                cells.push(words(tokens(&fit.values())) + &ends);
            }
            rows.push(cells);
        }
    }
    let of_share = |share: f64| format!("smallest D_ft at which {} is prevented", percent(share));
    let mut columns: Vec<String> = ["domain", "N", "law"].map(String::from).to_vec();
    columns.extend(SHARES.map(of_share));
    Table {
        caption: "The smallest D_ft, in tokens, at which p = 1% prevents a given share of the forgetting by \
                  the law of the domain. Brackets hold the middle 90% of resamples. Values beyond the \
                  D_ft of the runs are extrapolations. “any” means at every D_ft, and “none” at no D_ft \
                  up to 1T; by Equation 7 it is always one of these two."
            .into(),
        columns,
        rows,
    }
}

/// What the laws imply for the paper's N and D_ft.
fn at_the_papers_scale(laws: &Laws) -> Table {
    let mut rows = Vec::new();
    for (fit, domain) in laws.0.iter().filter_map(|laws| Some((law_of(laws)?, &laws.domain))) {
        let known = fit.rows.last().map(|observed| observed.row);
        let mut cells = vec![domain.clone(), fit.law.name().to_string()];
        for (n_params, d_ft_tokens) in PAPER {
            let Some(row) = known else { continue };
            let row = Row { n_params, d_ft_tokens, p: ONE_PERCENT, ..row };
            let ends = interval(fit, |values| of_law(fit.law, values, &row))
                .map_or(String::new(), |i| {
                    format!(" [{}, {}]", style::share(i.low), style::share(i.high))
                });
            cells.push(style::share(of_fit(fit, &row)) + &ends);
        }
        rows.push(cells);
    }
    let at = |(n, d): (f64, f64)| format!("N = {}, D_ft = {}", short(n), short(d));
    let columns = ["domain".into(), "law".into()].into_iter().chain(PAPER.map(at)).collect();
    Table {
        caption: "The share of the forgetting that p = 1% would prevent at the paper's smallest and \
                  largest N and D_ft if the law held there. This extrapolates by factors of a thousand \
                  and is not a prediction."
            .into(),
        columns,
        rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Verdict;
    use crate::figures::golden::{self, PLANTED};
    use forgetting_laws::laws::{Forgetting, ForgettingPlusTokens};

    #[test]
    fn the_planted_grid_gives_the_pinned_tables_and_all_panels() {
        let page = golden::page(&PREVENTED);
        let drawing = page.drawing.unwrap();
        assert_eq!(drawing.panels.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 4]);
        for panel in drawing.panels.iter().flatten() {
            // Equation 7 was planted, so no form is ahead of it: a line for each p.
            assert_eq!(panel.lines.len(), 3);
        }
        assert_eq!(page.tables[0].rows.len(), 12);
    }

    #[test]
    fn equation_7_prevents_the_same_share_everywhere() {
        let values = [2.0, 500.0, 0.4, 0.3];
        let row = Row { n_params: 1e6, d_ft_tokens: 1e4, p: 0.01, loss_pt0: 2.0, d_tokens: 1e8 };
        let expected = 1.0 - 6f64.powf(-0.4);
        for row in [row, Row { n_params: 1e9, d_ft_tokens: 1e7, ..row }] {
            assert!((of_law(&Forgetting, &values, &row) - expected).abs() < 1e-9);
        }
        assert_eq!(enough_tokens(&Forgetting, &values, &row, 0.9), None);
        assert_eq!(enough_tokens(&Forgetting, &values, &row, 0.5), Some(1.0));
    }

    /// 1 − (N / (N + B·p·D))^α = s where B·p·D = N · ((1 − s)^(−1/α) − 1).
    #[test]
    fn injected_tokens_prevent_more_where_there_is_more_data() {
        let (b, alpha, n_params) = (20.0, 0.5, 1e6);
        let values = [2.0, b, alpha, 0.3];
        let row = Row { n_params, d_ft_tokens: 1e4, p: 0.01, loss_pt0: 2.0, d_tokens: 1e8 };
        for share in [0.5f64, 0.9] {
            let expected = n_params * ((1.0 - share).powf(-1.0 / alpha) - 1.0) / (b * row.p);
            let found = enough_tokens(&ForgettingPlusTokens, &values, &row, share).unwrap();
            assert!((found / expected - 1.0).abs() < 1e-6, "{share}: {found} {expected}");
        }
    }

    #[test]
    fn an_empty_grid_has_an_empty_page() {
        let mut results = PLANTED.0.clone();
        results.finetuned.clear();
        let page = draw(&results, &Laws(Vec::new())).unwrap();
        assert!(page.drawing.is_none());
        assert_eq!(page.findings[0].verdict, Verdict::NotTestable);
    }
}
