//! Forms of a law ranked by their errors on held-out runs, in words and as CSV.

use super::tables::{Csv, cell};
use super::terminal::percent;
use forgetting_laws::fit::{Errors, HoldOut, Ranked, Ranking};
use std::fmt::Write as _;

/// The name of an axis.
fn axis(by: HoldOut) -> &'static str {
    match by {
        HoldOut::Size => "size",
        HoldOut::Data => "data",
        HoldOut::P => "p",
        HoldOut::Largest => "largest",
    }
}

/// The forms, the best first and the baselines last, with their errors of the increase by axis.
pub fn text(text: &mut String, ranking: &Ranking) {
    let place = match ranking.domain.as_str() {
        "" => String::new(),
        domain => format!("{domain}, "),
    };
    let _ = writeln!(
        text,
        "{place}forms of {} ranked by the error of the increase on held-out runs ({} runs)",
        ranking.loss, ranking.n_runs
    );
    let heads: String = ranking.axes.iter().map(|by| format!("{:>9}", axis(*by))).collect();
    let _ = writeln!(text, "  {:<25}{heads}{:>9}{:>9}  behind the best", "form", "mean", "MRE");
    let mut line = |form: &Ranked, is_best: bool, marked: bool| {
        let mark = if marked { '*' } else { ' ' };
        let errors: String =
            form.errors.iter().map(|e| format!("{:>9}", percent(e.rise_error))).collect();
        let mean = format!("{:>9}{:>9}", percent(form.mean.rise_error), percent(form.mean.mre));
        let behind = match is_best {
            true => String::new(),
            false => format!("[{}, {}]", points(form.behind.low), points(form.behind.high)),
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
    let _ = writeln!(text, "  * not told apart from the best; mean: of all axes but the largest");
    if let Some(preferred) = ranking.preferred() {
        super::terminal::entry(text, "law", &format!("{}: {}", preferred.form, preferred.why));
    }
    text.push('\n');
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

/// All rankings as CSV, a row for each form or baseline and axis. Equal rankings give equal bytes.
pub fn table(rankings: &[Ranking]) -> String {
    let mut table = Csv::new([
        "domain",
        "loss",
        "runs",
        "form",
        "parameters",
        "rank",
        "not_told_apart_from_best",
        "supported",
        "held_out",
        "mre",
        "increase_error",
        "behind",
        "behind_low",
        "behind_high",
    ]);
    for ranking in rankings {
        let forms = ranking.forms.iter().enumerate().map(|(i, form)| (form, (i + 1).to_string()));
        let baselines = ranking.baselines.iter().map(|form| (form, String::new()));
        let best = ranking.forms.first().map_or(f64::NAN, |form| form.mean.rise_error);
        for (form, place) in forms.chain(baselines) {
            let mut row = |held_out: &str, errors: &Errors, behind: [f64; 3]| {
                let start = [
                    ranking.domain.clone(),
                    ranking.loss.clone(),
                    ranking.n_runs.to_string(),
                    form.form.clone(),
                    form.parameters.to_string(),
                    place.clone(),
                    form.tied.to_string(),
                    form.supported.to_string(),
                    held_out.to_string(),
                    cell(errors.mre),
                    cell(errors.rise_error),
                ];
                table.row(start.into_iter().chain(behind.map(cell)));
            };
            for (by, errors) in ranking.axes.iter().zip(&form.errors) {
                row(axis(*by), errors, [f64::NAN; 3]);
            }
            let behind = form.mean.rise_error - best;
            row("mean", &form.mean, [behind, form.behind.low, form.behind.high]);
        }
    }
    table.text()
}
