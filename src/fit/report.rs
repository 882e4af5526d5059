//! Fits in words: what `replication fit` prints, and `Fit.report()` of the Python package.

pub mod card;
pub mod format;
pub mod ranking;

use super::file::{Group, Growth, LawFile};
use super::sweep::Variant;
use super::{
    BaselineErrors, Comparison, Errors, Fit, HoldOut, Interval, Objective, Penalty, Proof,
    Restarts, Space, Status,
};
use crate::laws::{Derived, Law};
use format::{entry, error_percent, fit_name, number, percent, significant};
use std::fmt::Write as _;

/// The laws of every group, and the comparison of their forms.
pub fn text(file: &LawFile) -> String {
    let mut text = String::new();
    for domain in file.domains() {
        for group in file.groups.iter().filter(|group| group.fit.domain == domain) {
            law(&mut text, group);
        }
        let rankings: Vec<_> =
            file.rankings.iter().filter(|ranking| ranking.domain == domain).collect();
        for ranking in &rankings {
            text += &ranking::text(ranking);
        }
        if rankings.is_empty() {
            let of_domain = |comparison: &&Comparison| comparison.domain == domain;
            comparisons(&mut text, file.comparisons.iter().filter(of_domain).collect());
        }
        for growth in file.growths.iter().filter(|growth| growth.domain == domain) {
            growth_of_b(&mut text, growth);
        }
    }
    text
}

/// Whether Equation 7's assumption of a constant B holds.
fn growth_of_b(text: &mut String, Growth { domain, growth }: &Growth) {
    let place = if domain.is_empty() { String::new() } else { format!("{domain}, ") };
    let [gamma, low, high] =
        [growth.gamma, growth.interval.low, growth.interval.high].map(|x| significant(x, 3));
    let level = percent(growth.level);
    let verdict = if growth.grows {
        "B grows with D_ft, but Eq. 7 assumes that it is constant"
    } else if growth.interval.high < 1.0 {
        "the runs are consistent with Eq. 7, in which B is constant"
    } else {
        "the runs do not tell a constant B, as in Eq. 7, from one in proportion to D_ft"
    };
    let _ = writeln!(
        text,
        "{place}check of Eq. 7: B scales as D_ft^{gamma}, {level} interval [{low}, {high}]\n  {verdict}\n"
    );
}

fn law(text: &mut String, group: &Group) {
    let fit = &group.fit;
    let _ = writeln!(text, "{}", heading(fit));
    // A long equation has a line for each of its parts.
    let between = if fit.equation.chars().count() > 96 { ",\n    " } else { ", " };
    let _ = writeln!(text, "  {}", fit.equation.replace(", ", between));
    entry(text, "status", &status(fit));
    let objective = format::objective(&fit.minimised);
    let _ = writeln!(text, "  objective  {}, {objective}", number(fit.objective));
    if let Some(proof) = &group.proof {
        let _ = writeln!(text, "  proof      {}", proved(proof, fit.law));
    }
    parameters(text, fit);
    errors(text, fit);
    if !group.sweep.is_empty() {
        variants(text, &group.sweep);
    }
    text.push('\n');
}

/// `wikipedia, forgetting: 125 rows of 125 runs`.
fn heading(fit: &Fit) -> String {
    let rows = match (fit.n_rows, fit.n_runs) {
        (rows, runs) if rows == runs => format!("{rows} runs"),
        (rows, runs) => format!("{rows} rows of {runs} runs"),
    };
    format!("{}: {rows}", fit_name(fit))
}

/// What branch and bound says of the optimum.
fn proved(proof: &Proof, law: &dyn Law) -> String {
    let domain = match proof.ceiling {
        None => "no parameters".to_string(),
        Some(most) if law.is_bounded() => {
            format!("no parameters whose term h is below {}", number(most))
        }
        Some(most) => format!("no parameters whose term is below {} nats", number(most)),
    };
    let claim = match &proof.better {
        Some((better, _)) => format!("there are better parameters, with {}", number(*better)),
        None => format!("{domain} are better by more than {}", error_percent(proof.relative_gap)),
    };
    let cut = if proof.complete { "" } else { "; stopped there" };
    format!("{claim} ({} boxes{cut})", proof.nodes)
}

/// The status, and what it means.
fn status(fit: &Fit) -> String {
    let Restarts { started, agreed, started_nearby, agreed_nearby } = fit.restarts;
    let restarts = format!(
        "{agreed} of {started} starts end here, and {agreed_nearby} of {started_nearby} from nearby"
    );
    match fit.status {
        Status::Converged => format!("converged; {restarts}"),
        Status::AtBound => {
            format!("at_bound: {} = 0 is the optimum; {restarts}", fit.at_bound.join(" = "))
        }
        Status::NotIdentified => {
            let directions: Vec<_> = fit.undetermined.iter().map(|u| u.words.as_str()).collect();
            let bound = if fit.at_bound.is_empty() {
                String::new()
            } else {
                format!("; {} = 0", fit.at_bound.join(" = "))
            };
            format!("not_identified: the runs do not determine {}{bound}", directions.join(", "))
        }
        Status::NotConverged => {
            format!("not_converged: not to be trusted; {restarts}")
        }
    }
}

fn parameters(text: &mut String, fit: &Fit) {
    let head = match &fit.bootstrap {
        Some(resampled) => {
            let level = percent(resampled.level);
            format!("{level} interval, {} resamples of runs", resampled.resamples)
        }
        None => "no interval: no resamples".into(),
    };
    let _ = writeln!(text, "  parameter {:>13}  {head}", "value");
    for param in &fit.params.0 {
        let interval = match (param.low, param.high) {
            (Some(low), Some(high)) => format!("[{}, {}]", number(low), number(high)),
            // An end that is infinite is not in a file.
            _ if fit.bootstrap.is_some() => "not bounded".into(),
            _ => String::new(),
        };
        let line = format!("  {:<9} {:>13}  {interval}", param.name, number(param.value));
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if let Some(Derived { name, meaning, value }) = fit.law.derived() {
        let values: Vec<f64> = fit.params.0.iter().map(|param| param.value).collect();
        let interval = fit.bootstrap.as_ref().map_or_else(String::new, |resampled| {
            let Interval { low, high, .. } = resampled.interval_of(value);
            format!("[{}, {}]  ", number(low), number(high))
        });
        let _ = writeln!(text, "  {name:<9} {:>13}  {interval}{meaning}", number(value(&values)));
    }
}

/// The law's errors beside those of the baselines, on fitted rows and on rows held out.
fn errors(text: &mut String, fit: &Fit) {
    let held_out = fit.held_out.as_ref();
    let fitted = Errors { mre: fit.mre, rise_error: fit.rise_error };
    let rows = [
        ("law", fitted, held_out.map(|h| h.errors)),
        ("no change", fit.null_models.no_change, of(fit, |null| null.no_change)),
        ("log-linear", fit.null_models.log_linear, of(fit, |null| null.log_linear)),
    ];
    let columns = |first: &str, second: &str| format!("{first:>9} {second:>9}");
    let head = columns("MRE", "increase");
    let by = held_out.map(|h| {
        let times = if h.folds == 1 { "once".into() } else { format!("{} times", h.folds) };
        format!("   held out, {}, {times}", held(h.by))
    });
    let _ = writeln!(text, "  error on       {:>19}{}", "fitted runs", by.unwrap_or_default());
    let beside = if held_out.is_some() { head.as_str() } else { "" };
    let _ = writeln!(text, "{}", format!("  {:<14} {head}   {beside}", "").trim_end());
    let shown = |e: Errors| columns(&error_percent(e.mre), &error_percent(e.rise_error));
    for (name, fitted, held_out) in rows {
        let held_out = held_out.map(shown).unwrap_or_default();
        let line = format!("  {name:<14} {}   {held_out}", shown(fitted));
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if let Some(resampled) = &fit.bootstrap {
        let interval = |of: &Option<Interval>| of.as_ref().map(within);
        let inside = interval(&resampled.mre).map(|mre| format!("bootstrapped MRE {mre}"));
        let outside = interval(&resampled.mre_out_of_bag)
            .map(|mre| format!("on runs that a resample lacks {mre}"));
        let both: Vec<_> = inside.into_iter().chain(outside).collect();
        let _ = writeln!(text, "  {}", both.join("; "));
    }
    let on = held_out.map_or("", |held_out| held_out.by.runs());
    let _ = writeln!(
        text,
        "  {}",
        match fit.is_supported() {
            Some(true) => format!("supported: on {on} it beats both baselines, in both errors"),
            Some(false) => format!("not supported: on {on} it does not beat both baselines"),
            None => "not tested: no runs were held out".into(),
        }
    );
}

fn of(fit: &Fit, errors: impl Fn(&BaselineErrors) -> Errors) -> Option<Errors> {
    fit.held_out.as_ref().map(|held_out| errors(&held_out.null_models))
}

fn held(by: HoldOut) -> &'static str {
    match by {
        HoldOut::Size => "each size",
        HoldOut::Data => "each amount of data",
        HoldOut::P => "each p",
        HoldOut::Largest => "largest size and data",
    }
}

fn comparisons(text: &mut String, comparisons: Vec<&Comparison>) {
    let Some(first) = comparisons.first() else { return };
    let place = if first.domain.is_empty() { "" } else { " of " };
    let _ = writeln!(
        text,
        "forms on the held-out runs{place}{}: MRE of the first minus that of the second",
        first.domain
    );
    for c in comparisons {
        let pair = format!("{} - {}", c.law, c.other);
        let Interval { low, high, .. } = c.interval;
        let verdict = match (high < 0.0, low > 0.0) {
            _ if negligible(low) && negligible(high) => "the same".into(),
            (true, _) => format!("{} is better", c.law),
            (_, true) => format!("{} is better", c.other),
            _ => "no significant difference".into(),
        };
        let difference = format!("{} [{}, {}]", points(c.difference), points(low), points(high));
        let _ = writeln!(text, "  {pair:<32} {difference:<30} {verdict}");
    }
    text.push('\n');
}

/// How the parameters move with the objective.
fn variants(text: &mut String, sweep: &[Variant]) {
    let mut line = |objective: &str, values: Vec<String>, mre: &str, status: &str| {
        let values: String = values.iter().map(|value| format!("{value:>10}")).collect();
        let _ = writeln!(text, "  {objective:<18}{values}{mre:>9}  {status}");
    };
    let names = sweep[0].params.0.iter().map(|param| param.name.clone()).collect();
    line("other objectives", names, "MRE", "status");
    for variant in sweep {
        let Objective { space, penalty } = variant.minimised;
        let space = if space == Space::Log { "log" } else { "raw" };
        let objective = match penalty {
            Penalty::Huber(delta) => format!("Huber {delta}, {space}"),
            Penalty::Squared => format!("squared, {space}"),
            Penalty::Absolute => format!("absolute, {space}"),
        };
        let values = variant.params.0.iter().map(|param| significant(param.value, 4)).collect();
        line(&objective, values, &error_percent(variant.mre), format::status(variant.status));
    }
}

fn within(interval: &Interval) -> String {
    let Interval { mean, low, high } = *interval;
    format!("{} [{}, {}]", error_percent(mean), error_percent(low), error_percent(high))
}

/// A difference of shares, to a thousandth of a percent.
fn points(difference: f64) -> String {
    if negligible(difference) { "0".into() } else { format!("{:+.3}%", 100.0 * difference) }
}

/// Whether nothing is left of a difference in the digits that are shown.
fn negligible(difference: f64) -> bool {
    difference.abs() < 5e-6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_to_a_thousandth_of_a_percent() {
        assert_eq!(points(-0.0001234), "-0.012%");
        assert_eq!(points(0.01), "+1.000%");
        assert_eq!(points(-4.9e-6), "0");
        assert_eq!(points(5.1e-6), "+0.001%");
    }
}
