//! What `fit` prints.

use super::drawing;
use super::file::{Group, Growth, LawFile};
use super::sweep::Variant;
use forgetting_laws::fit::{
    Comparison, Errors, Fit, HoldOut, Interval, NullErrors, Objective, Penalty, Proof, Space,
    Status,
};
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
            super::ranking::text(&mut text, ranking);
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
    let level = drawing::percent(growth.level);
    let verdict = match growth.grows {
        true => "B grows with the data, and Eq. 7 takes it for a constant",
        false => "the runs agree with Eq. 7, whose B is a constant",
    };
    let _ = writeln!(
        text,
        "{place}check of Eq. 7: B goes as D_ft^{gamma}, {level} interval [{low}, {high}]\n  {verdict}\n"
    );
}

fn law(text: &mut String, group: &Group) {
    let fit = &group.fit;
    let _ = writeln!(text, "{}", heading(fit));
    let _ = writeln!(text, "  {}", fit.equation);
    entry(text, "status", &status(fit));
    let objective = words(&fit.minimised);
    let _ = writeln!(text, "  objective  {}, {objective}", number(fit.objective));
    if let Some(proof) = &group.proof {
        let _ = writeln!(text, "  proof      {}", proved(proof));
    }
    parameters(text, fit);
    errors(text, fit);
    if !group.sweep.is_empty() {
        variants(text, &group.sweep);
    }
    text.push('\n');
}

/// Words that begin a line with a name and go on below each other.
pub fn entry(text: &mut String, name: &str, words: &str) {
    const WIDTH: usize = 98;
    const INDENT: usize = 13;
    let mut line = format!("  {name:<10}");
    for word in words.split_whitespace() {
        let length = line.chars().count() + 1 + word.chars().count();
        if length > WIDTH && line.trim_start().len() > name.len() && line.len() > INDENT {
            let _ = writeln!(text, "{line}");
            line = " ".repeat(INDENT - 1);
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(text, "{line}");
}

/// `wikipedia, forgetting: 125 rows of 125 runs`.
fn heading(fit: &Fit) -> String {
    let rows = match (fit.n_rows, fit.n_runs) {
        (rows, runs) if rows == runs => format!("{rows} runs"),
        (rows, runs) => format!("{rows} rows of {runs} runs"),
    };
    format!("{}: {rows}", name(fit))
}

/// The group and the law.
pub fn name(fit: &Fit) -> String {
    match fit.domain.as_str() {
        "" => fit.law.name().to_string(),
        domain => format!("{domain}, {}", fit.law.name()),
    }
}

/// What branch and bound says of the optimum.
fn proved(proof: &Proof) -> String {
    let domain = match proof.ceiling {
        None => "no parameters".to_string(),
        Some(most) => format!("no parameters whose term is below {} nats", number(most)),
    };
    let claim = match &proof.better {
        Some((better, _)) => format!("there are better parameters, with {}", number(*better)),
        None => format!("{domain} are better by more than {}", percent(proof.relative_gap)),
    };
    let cut = if proof.complete { "" } else { "; stopped there" };
    format!("{claim} ({} boxes{cut})", proof.nodes)
}

/// The status, and what it means.
fn status(fit: &Fit) -> String {
    let restarts = format!("{} of {} starts end here", fit.restarts.agreed, fit.restarts.started);
    match fit.status {
        Status::Converged => format!("converged; {restarts}"),
        Status::AtBound => {
            format!("at_bound: {} = 0 is the optimum; {restarts}", fit.at_bound.join(" = "))
        }
        Status::NotIdentified => {
            let directions: Vec<_> = fit.undetermined.iter().map(|u| u.words.as_str()).collect();
            let bound = match fit.at_bound.is_empty() {
                true => String::new(),
                false => format!("; {} = 0", fit.at_bound.join(" = ")),
            };
            format!("not_identified: the runs do not determine {}{bound}", directions.join(", "))
        }
        Status::NotConverged => {
            format!("not_converged: not to be trusted; {restarts}")
        }
    }
}

/// `Huber with delta = 0.001 on log losses`.
pub fn words(objective: &Objective) -> String {
    let space = match objective.space {
        Space::Log => "log losses",
        Space::Raw => "raw losses",
    };
    match objective.penalty {
        Penalty::Huber(delta) => format!("Huber with delta = {delta} on {space}"),
        Penalty::Squared => format!("squares on {space}"),
        Penalty::Absolute => format!("absolute errors on {space}"),
    }
}

fn parameters(text: &mut String, fit: &Fit) {
    let head = match &fit.bootstrap {
        Some(resampled) => {
            let level = drawing::percent(resampled.level);
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
}

/// The law's errors beside those of the null models, on fitted rows and on rows held out.
fn errors(text: &mut String, fit: &Fit) {
    let held_out = fit.held_out.as_ref();
    let fitted = Errors { mre: fit.mre, rise_error: fit.rise_error };
    let rows = [
        ("law", fitted, held_out.map(|h| h.errors)),
        ("no change", fit.null_models.no_change, of(fit, |null| null.no_change)),
        ("log-linear", fit.null_models.log_linear, of(fit, |null| null.log_linear)),
    ];
    let columns = |first: &str, second: &str| format!("{first:>9} {second:>9}");
    let head = columns("MRE", "rise");
    let by = held_out.map(|h| {
        let times = if h.folds == 1 { "once".into() } else { format!("{} times", h.folds) };
        format!("   held out, {}, {times}", held(h.by))
    });
    let _ = writeln!(text, "  error on       {:>19}{}", "fitted runs", by.unwrap_or_default());
    let beside = if held_out.is_some() { head.as_str() } else { "" };
    let _ = writeln!(text, "{}", format!("  {:<14} {head}   {beside}", "").trim_end());
    let shown = |e: Errors| columns(&percent(e.mre), &percent(e.rise_error));
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
    let _ = writeln!(
        text,
        "  {}",
        match fit.is_supported() {
            Some(true) => "supported: on held-out runs it beats both null models, in both errors",
            Some(false) => "not supported: on held-out runs it does not beat both null models",
            None => "neither supported nor not: no runs were held out",
        }
    );
}

fn of(fit: &Fit, errors: impl Fn(&NullErrors) -> Errors) -> Option<Errors> {
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
        "forms on the held-out runs{place}{}: MRE of the first less that of the second",
        first.domain
    );
    for c in comparisons {
        let pair = format!("{} - {}", c.law, c.other);
        let Interval { low, high, .. } = c.interval;
        let verdict = match (high < 0.0, low > 0.0) {
            _ if negligible(low) && negligible(high) => "the same".into(),
            (true, _) => format!("{} is better", c.law),
            (_, true) => format!("{} is better", c.other),
            _ => "no difference beyond chance".into(),
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
        line(&objective, values, &percent(variant.mre), label(variant.status));
    }
}

/// A status as a file has it.
pub fn label(status: Status) -> &'static str {
    match status {
        Status::Converged => "converged",
        Status::AtBound => "at_bound",
        Status::NotIdentified => "not_identified",
        Status::NotConverged => "not_converged",
    }
}

fn within(interval: &Interval) -> String {
    let Interval { mean, low, high } = *interval;
    format!("{} [{}, {}]", percent(mean), percent(low), percent(high))
}

/// A share with three digits, `0.310%`; a dash where there is none, as of no rise.
pub fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent.is_nan() {
        return "-".into();
    }
    // Below a thousandth of a percent the exponent would take more room than it says.
    let places = match percent.abs() {
        x if x >= 1e5 => return format!("{percent:.1e}%"),
        x if x >= 99.95 => 0,
        x if x >= 9.995 => 1,
        x if x >= 0.9995 => 2,
        x if x >= 0.09995 => 3,
        0.0 => 0,
        x if x >= 1e-3 => 4,
        _ => return format!("{percent:.1e}%"),
    };
    format!("{percent:.places$}%")
}

/// A difference of shares, to a thousandth of a percent.
fn points(difference: f64) -> String {
    match negligible(difference) {
        true => "0".into(),
        false => format!("{:+.3}%", 100.0 * difference),
    }
}

/// Whether nothing is left of a difference in the digits that are shown.
fn negligible(difference: f64) -> bool {
    difference.abs() < 5e-6
}

/// A number with six significant digits.
pub fn number(value: f64) -> String {
    significant(value, 6)
}

/// As many significant digits, with a power of ten where plain decimals would be long.
pub fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.abs().to_string();
    }
    // Rounded first: 9.9996 has five digits before it is 10.000.
    let written = format!("{value:.*e}", digits - 1);
    let Some((mantissa, exponent)) = written.split_once('e') else { return written };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trimmed = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text.to_string(),
    };
    match exponent {
        -4..=6 => {
            let places = (digits as i32 - 1 - exponent).max(0) as usize;
            trimmed(&format!("{value:.places$}"))
        }
        _ => format!("{}e{exponent}", trimmed(mantissa)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_six_digits() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (829.0, "829"),
            (0.123456789, "0.123457"),
            (-2.5, "-2.5"),
            (9_999_999.0, "1e7"),
            (123_456.7, "123457"),
            (1_234_567.0, "1234567"),
            (12_345_678.0, "1.23457e7"),
            (0.00012, "0.00012"),
            (0.00001234, "1.234e-5"),
            (9.9999996, "10"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn shares_are_percent() {
        for (share, text) in [
            (0.00312345, "0.312%"),
            (0.0031, "0.310%"),
            (0.9, "90.0%"),
            (0.09996, "10.0%"),
            (0.009999, "1.00%"),
            (1.0, "100%"),
            (1.1716, "117%"),
            (48_136.0, "4.8e6%"),
            (0.0, "0%"),
            (0.0005, "0.0500%"),
            (1.234e-6, "1.2e-4%"),
            (1.234e-9, "1.2e-7%"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(percent(share), text);
        }
        assert_eq!(points(-0.0001234), "-0.012%");
        assert_eq!(points(0.01), "+1.000%");
        assert_eq!(points(-4.9e-6), "0");
        assert_eq!(points(5.1e-6), "+0.001%");
    }

    #[test]
    fn long_words_go_on_below() {
        let mut text = String::new();
        entry(&mut text, "status", "short");
        entry(&mut text, "warning", &"seven77 ".repeat(24));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "  status     short");
        assert!(lines[1].starts_with("  warning    seven77 seven77"), "{text}");
        assert!(lines[2].starts_with("             seven77"), "{text}");
        // Eleven of eight columns stand between the indent and the edge, but for the first's blank.
        assert_eq!(lines[1].split_whitespace().count(), 1 + 10);
        assert!(lines.iter().all(|line| line.len() <= 98));
        assert_eq!(text.matches("seven77").count(), 24);
    }

    #[test]
    fn objectives_are_named() {
        let words = |space, penalty| words(&Objective { space, penalty });
        assert_eq!(
            words(Space::Log, Penalty::Huber(1e-3)),
            "Huber with delta = 0.001 on log losses"
        );
        assert_eq!(words(Space::Raw, Penalty::Squared), "squares on raw losses");
        assert_eq!(words(Space::Raw, Penalty::Absolute), "absolute errors on raw losses");
    }
}
