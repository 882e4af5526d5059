//! The gain on the target that injection brings, as equivalent data.

use super::{HIGH, MORE_THAN_CHANCE, counts, loss_ft};
use crate::blocks::MAIN;
use crate::figures::style::{self, Tally, percent, significant};
use crate::figures::{Finding, Table};
use crate::format::cell;
use crate::results::{Finetuned, Laws, Results, distinct};

/// "Much replay".
const MUCH: f64 = 0.25;

/// A run with injection, its counterpart at p = 0, and the factor of D_ft that its gain on the
/// target is worth.
pub struct Gain<'a> {
    pub run: &'a Finetuned,
    pub base: &'a Finetuned,
    pub factor: f64,
}

/// With L_ft = A / (N^α · D_ft^β) + E, reaching L(p) in place of L(0) takes
/// ((L(0) − E) / (L(p) − E))^(1/β) times the data. None where a loss lies below E, or β is 0.
fn equivalent_data(base: f64, with: f64, e: f64, beta: f64) -> Option<f64> {
    let factor = ((base - e) / (with - e)).powf(1.0 / beta);
    (base > e && with > e && factor.is_finite() && factor > 0.0).then_some(factor)
}

/// The gains of the runs of the main grid and of those with larger p.
pub fn gains<'a>(results: &'a Results, laws: &Laws) -> Vec<Gain<'a>> {
    let asked = |run: &&Finetuned| run.p > 0.0 && (run.in_block(MAIN) || run.in_block(HIGH));
    let gain = |run: &'a Finetuned| {
        let law = laws.domain(&run.domain)?.finetuning.as_ref().ok()?;
        let value = |name| law.params.get(name).map(|param| param.value);
        let base = style::like(results, MAIN, run, 0.0).filter(counts)?;
        let factor = equivalent_data(loss_ft(base), loss_ft(run), value("E")?, value("beta")?)?;
        Some(Gain { run, base, factor })
    };
    results.finetuned.iter().filter(asked).filter(counts).filter_map(gain).collect()
}

/// A row for each run with injection.
pub fn table_of(gains: &[Gain<'_>]) -> String {
    let mut csv =
        style::csv_of_runs(&["loss_ft", "base_run_id", "base_loss_ft", "equivalent_data"]);
    for Gain { run, base, factor } in gains {
        let row = style::identity(run).into_iter().chain([cell(loss_ft(run))]);
        csv.row(row.chain([base.record.id.to_string(), cell(loss_ft(base)), cell(*factor)]));
    }
    csv.text()
}

/// The median factor of a domain, or of all, at a p.
fn factor(gains: &[Gain<'_>], domain: Option<&str>, p: f64) -> Option<f64> {
    let alike = gains
        .iter()
        .filter(|gain| gain.run.p == p && domain.is_none_or(|domain| gain.run.domain == domain));
    style::median(alike.map(|gain| gain.factor))
}

/// Whether much injection is worth data.
pub fn finding(gains: &[Gain<'_>]) -> Finding {
    let fractions = distinct(gains.iter().map(|gain| gain.run.p));
    let of = |p: f64| {
        let factors = gains.iter().filter(|gain| gain.run.p == p).map(|gain| gain.factor);
        let above = Tally::count(factors.map(|factor| factor > 1.0));
        Some((p, factor(gains, None, p)?, above))
    };
    let found: Vec<(f64, f64, Tally)> = fractions.into_iter().filter_map(of).collect();
    let word = |(p, factor, above): &(f64, f64, Tally)| {
        let (factor, p) = (significant(*factor, 3), percent(*p));
        format!("{factor} at p = {p} (above 1 in {above} pairs)")
    };
    let words: Vec<_> = found.iter().map(word).collect();
    let much: Vec<_> = found.iter().filter(|(p, ..)| *p >= MUCH).collect();
    Finding {
        claim:
            "Replay of a quarter of the data or more also helps on the target, as much as up to \
             1.87 times the data would"
                .into(),
        source: "Kotha and Liang, arXiv 2603.04964, reported".into(),
        ours: style::about(&words, "No pair of runs has such a factor.", |words| {
            format!(
                "By the finetuning law, injection helps on the target as much as multiplying D_ft by a \
                 median of {words}."
            )
        }),
        rule: format!(
            "the factor of D_ft is above 1 in at least {} of the pairs at some p of at least {}.",
            percent(MORE_THAN_CHANCE),
            percent(MUCH)
        ),
        verdict: style::any(much.iter().map(|(.., above)| above.verdict(MORE_THAN_CHANCE))),
    }
}

/// The median factors for people.
pub fn by_p(gains: &[Gain<'_>]) -> Table {
    let fractions = distinct(gains.iter().map(|gain| gain.run.p));
    let mut domains: Vec<&str> = gains.iter().map(|gain| gain.run.domain.as_str()).collect();
    domains.sort_unstable();
    domains.dedup();
    style::by_domain_and_p(
        "Equivalent data: the median factor of D_ft that injection is worth on the target.",
        domains,
        &fractions,
        |domain, p| factor(gains, Some(domain), p).map(|factor| significant(factor, 3)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::golden::PLANTED;

    #[test]
    fn gains_are_worth_the_data_that_the_law_says() {
        // E = 1, beta = 0.5: twice the data brings 2 down to 1 + 1/√2.
        let factor = equivalent_data(2.0, 1.0 + 0.5f64.sqrt(), 1.0, 0.5).unwrap();
        assert!((factor - 2.0).abs() < 1e-12);
        assert!(
            (equivalent_data(2.0, 2.1, 1.0, 0.5).unwrap() - (1.0f64 / 1.1).powi(2)).abs() < 1e-12
        );
        assert_eq!(equivalent_data(2.0, 0.9, 1.0, 0.5), None);
        assert_eq!(equivalent_data(2.0, 1.5, 1.0, 0.0), None);
        assert_eq!(equivalent_data(2.0, 2.1, 1.0, 0.0), None);
        // Main runs at p > 0 but for those whose counterpart does not count, and those of large p.
        assert_eq!(gains(&PLANTED.0, &PLANTED.1).len(), 144 - 3 + 24);
    }
}
