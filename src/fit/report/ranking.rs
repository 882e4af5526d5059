//! Forms of a law ranked by their errors on held-out runs, in words.

use super::format::{entry, error_percent};
use crate::fit::{Ranked, Ranking};
use std::fmt::Write as _;

/// The forms, the best first and the baselines last, with their errors of the increase by axis.
pub fn text(ranking: &Ranking) -> String {
    let mut text = String::new();
    let place = match ranking.domain.as_str() {
        "" => String::new(),
        domain => format!("{domain}, "),
    };
    let _ = writeln!(
        text,
        "{place}forms of {} ranked by the error of the increase on held-out runs ({} runs)",
        ranking.loss, ranking.n_runs
    );
    let heads: String = ranking.axes.iter().map(|by| format!("{:>9}", by.name())).collect();
    let _ = writeln!(text, "  {:<25}{heads}{:>9}{:>9}  behind the best", "form", "mean", "MRE");
    let mut line = |form: &Ranked, is_best: bool, marked: bool| {
        let mark = if marked { '*' } else { ' ' };
        let errors: String =
            form.errors.iter().map(|e| format!("{:>9}", error_percent(e.rise_error))).collect();
        let mean = format!(
            "{:>9}{:>9}",
            error_percent(form.mean.rise_error),
            error_percent(form.mean.mre)
        );
        let behind = if is_best {
            String::new()
        } else if ranking.resamples == 0 {
            points(form.behind.mean)
        } else {
            format!("[{}, {}]", points(form.behind.low), points(form.behind.high))
        };
        let line = format!("{mark} {:<25}{errors}{mean}  {behind}", form.form);
        let _ = writeln!(text, "{}", line.trim_end());
    };
    for (i, form) in ranking.forms.iter().enumerate() {
        line(form, i == 0, form.tied);
    }
    for baseline in &ranking.baselines {
        line(baseline, false, false);
    }
    let told_apart = match ranking.resamples {
        0 => "* the best; without resamples (--bootstrap) nothing says how sure that is",
        _ => "* cannot be told apart from the best",
    };
    let _ = writeln!(text, "  {told_apart}; mean: over all axes except the largest");
    if let Some(preferred) = ranking.preferred() {
        entry(&mut text, "law", &format!("{}: {}", preferred.form, preferred.why));
    }
    text.push('\n');
    text
}

/// A difference of errors in percentage points.
fn points(difference: f64) -> String {
    match difference.abs() {
        x if x < 5e-6 => "0".into(),
        x if x < 0.1 => format!("{:+.2}%", 100.0 * difference),
        x if x < 10.0 => format!("{:+.0}%", 100.0 * difference),
        _ => format!("{:+.0e}%", 100.0 * difference),
    }
}
