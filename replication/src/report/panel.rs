//! The data of the page's panel as JSON: parameters of the laws, resamples, and ranges of the runs.
//! `panel.js` evaluates Equations 6 and 7 with them as [`Fit::predict`] does.

use crate::results::{DomainLaws, Laws, distinct};
use forgetting_laws::Result;
use forgetting_laws::fit::{Fit, Space};
use forgetting_laws::table::Column;
use serde::Serialize;

/// The most resamples that are embedded, evenly chosen from all.
const MOST_DRAWS: usize = 1000;

/// Digits of a resample's numbers: the panel shows four.
const DIGITS: usize = 9;

#[derive(Serialize)]
struct Domain<'a> {
    name: &'a str,
    /// N and L_pt⁰ of the runs' sizes, ascending.
    knots: Vec<(f64, f64)>,
    forgetting: Panel,
    finetuning: Panel,
}

/// A law, or why there is none.
#[derive(Serialize)]
#[serde(untagged)]
enum Panel {
    Fitted(Box<Fitted>),
    Missing { missing: String },
}

#[derive(Serialize)]
struct Fitted {
    /// A description of the runs behind the law.
    about: String,
    /// The parameters in the law's order.
    values: Vec<f64>,
    /// The parameters of each resample.
    draws: Vec<Vec<f64>>,
    /// The effect of a new run's residual on the prediction of each resample: a factor, or nats to add.
    noise: Vec<f64>,
    /// Whether `noise` is a factor.
    relative: bool,
    /// The level of the bands; null without resamples.
    level: Option<f64>,
    /// The smallest and the largest value among the fitted runs.
    n: (f64, f64),
    d: (f64, f64),
    p: (f64, f64),
}

/// The laws of every domain, as JSON that is safe in a script element.
pub fn json(laws: &Laws) -> String {
    let domains: Vec<_> = laws.0.iter().map(domain).collect();
    let json = serde_json::to_string(&domains).expect("our types have string keys");
    // No name ends the element or starts a comment.
    json.replace('<', "\\u003c")
}

fn domain(laws: &DomainLaws) -> Domain<'_> {
    let any = laws.forgetting.as_ref().or(laws.finetuning.as_ref());
    Domain {
        name: &laws.domain,
        knots: any.map(knots).unwrap_or_default(),
        forgetting: panel(&laws.forgetting),
        finetuning: panel(&laws.finetuning),
    }
}

fn knots(fit: &Fit) -> Vec<(f64, f64)> {
    let sizes = distinct(fit.rows.iter().map(|row| row.row.n_params));
    sizes.into_iter().filter_map(|n| Some((n, fit.loss_pt0_at(n)?.loss_pt0))).collect()
}

fn panel(law: &Result<Fit>) -> Panel {
    match law {
        Ok(fit) => Panel::Fitted(Box::new(fitted(fit))),
        Err(why) => Panel::Missing { missing: why.to_string() },
    }
}

fn fitted(fit: &Fit) -> Fitted {
    let draws = fit.bootstrap.as_ref().map_or(&[][..], |resampled| &resampled.draws);
    let every = draws.len().div_ceil(MOST_DRAWS).max(1);
    let relative = fit.minimised.space == Space::Log;
    // The residual of a resample does not depend on the run.
    let noise = fit.rows.first().map(|observed| {
        let (outcomes, curves) = (fit.outcomes(&observed.row), fit.curves(&observed.row));
        let pairs = outcomes.into_iter().zip(curves).step_by(every);
        pairs.map(|(run, law)| round(if relative { run / law } else { run - law })).collect()
    });
    let rounded = |values: &Vec<f64>| values.iter().map(|value| round(*value)).collect();
    Fitted {
        about: about(fit),
        values: fit.values(),
        draws: draws.iter().step_by(every).map(rounded).collect(),
        noise: noise.unwrap_or_default(),
        relative,
        level: fit.bootstrap.as_ref().map(|resampled| resampled.level),
        n: fit.range(Column::NParams),
        d: fit.range(Column::DFtTokens),
        p: fit.range(Column::P),
    }
}

fn about(fit: &Fit) -> String {
    let held_out = match (fit.mre_held_out, fit.is_supported()) {
        (Some(error), Some(supported)) => format!(
            ", mean relative error {:.2}% on held-out runs, {} than the baselines",
            100.0 * error,
            if supported { "better" } else { "not better" }
        ),
        _ => String::new(),
    };
    format!("{}; {} runs{held_out}", fit.equation, fit.n_runs)
}

/// A number rounded to [`DIGITS`] significant digits.
fn round(value: f64) -> f64 {
    format!("{value:.*e}", DIGITS - 1).parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use forgetting_laws::Error;

    #[test]
    fn numbers_keep_their_digits() {
        assert_eq!(round(1.234_567_890_123), 1.234_567_89);
        assert_eq!(round(-6.1e-300), -6.1e-300);
        assert_eq!(round(0.0), 0.0);
        assert!(round(f64::INFINITY).is_infinite() && round(f64::NAN).is_nan());
    }

    #[test]
    fn no_name_ends_the_script() {
        let missing = || Err(Error::setting("law", "</script>", "must be known"));
        let laws = DomainLaws {
            domain: "<!--</script>".into(),
            forgetting: missing(),
            finetuning: missing(),
            other: None,
            unbounded: None,
        };
        let json = json(&Laws(vec![laws]));
        assert!(!json.contains('<'), "{json}");
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read[0]["name"], "<!--</script>");
        assert_eq!(read[0]["forgetting"]["missing"], "law = </script>: must be known");
    }
}
