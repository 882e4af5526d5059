//! The tables beside the drawings, which hold every group. Equal fits give equal bytes.

use super::curves::{self, along, baseline};
use super::held_out;
use crate::format::{Csv, cell, status};
use forgetting_laws::fit::file::LawFile;
use forgetting_laws::fit::{Fit, HoldOut, Observed, Ranked, Ranking};
use forgetting_laws::laws::Row;
use forgetting_laws::table::Column;

/// What every row begins with.
const RUN: [&str; 7] = ["domain", "law", "n_params", "d_ft_tokens", "d_tokens", "p", "loss_pt0"];

/// Observed and predicted losses in nats per token, one row per run.
pub fn predicted(file: &LawFile) -> String {
    by_run(file, &["observed", "predicted", "predicted_held_out", "weight"], |_, row, held_out| {
        [row.loss, row.prediction, held_out, row.weight].map(cell).to_vec()
    })
}

/// The residuals: ln of predicted over observed, or their difference in nats per token.
pub fn residuals(file: &LawFile) -> String {
    by_run(file, &["residual", "residual_held_out"], |fit, row, held_out| {
        let of = |prediction| cell(fit.minimised.residual(prediction, row.loss));
        vec![of(row.prediction), of(held_out)]
    })
}

fn by_run(
    file: &LawFile,
    columns: &[&str],
    cells: impl Fn(&Fit, &Observed, f64) -> Vec<String>,
) -> String {
    let mut table = table_of_runs(columns);
    for fit in file.fits() {
        let mut predictions = vec![f64::NAN; fit.rows.len()];
        for row in held_out(fit) {
            predictions[row.index] = row.prediction;
        }
        for (row, held_out) in fit.rows.iter().zip(predictions) {
            table.row(run(fit, &row.row).into_iter().chain(cells(fit, row, held_out)));
        }
    }
    table.text()
}

/// The observed runs and the points of the laws' curves. For laws of forgetting, value, low and
/// high are increases above L_pt⁰; all are in nats per token.
pub fn curves(file: &LawFile) -> String {
    let mut table = table_of_runs(&["kind", "value", "low", "high"]);
    for fit in file.fits() {
        for row in &fit.rows {
            let value = row.loss - baseline(fit, &row.row);
            let cells = ["run".into(), cell(value), String::new(), String::new()];
            table.row(run(fit, &row.row).into_iter().chain(cells));
        }
        for curve in curves::curves(fit) {
            for (size, value) in &curve.points {
                let p = curve.p.unwrap_or(f64::NAN);
                let mut row = Row { n_params: curve.n_params, p, ..Row::default() };
                match along(fit) {
                    Column::DFtTokens => row.d_ft_tokens = *size,
                    _ => row.d_tokens = *size,
                }
                let numbers = [value.value, value.low, value.high].map(cell);
                let cells = std::iter::once("law".to_string()).chain(numbers);
                table.row(run(fit, &row).into_iter().chain(cells));
            }
        }
    }
    table.text()
}

/// What a row of [`laws`] says of a form among those that it was ranked with.
const RANKED: [&str; 11] = [
    "loss",
    "rank",
    "not_told_apart_from_best",
    "error_by_size",
    "error_by_data",
    "error_by_p",
    "error_by_largest",
    "error_mean",
    "behind_best",
    "behind_best_low",
    "behind_best_high",
];

/// The laws, one row per parameter; what concerns the whole fit is repeated in each of its rows. If forms
/// were ranked, columns have the rank of each and its errors of the increase on the runs held out
/// along each axis, and a row without a parameter has those of each baseline.
pub fn laws(file: &LawFile) -> String {
    const FIT: [&str; 17] = [
        "domain",
        "law",
        "parameter",
        "value",
        "low",
        "high",
        "level",
        "status",
        "n_rows",
        "n_runs",
        "objective",
        "mre",
        "rise_error",
        "mre_held_out",
        "rise_error_held_out",
        "supported",
        "warnings",
    ];
    let mut table = Csv::new(FIT.into_iter().chain(RANKED));
    for fit in file.fits() {
        let known = |number: Option<f64>| cell(number.unwrap_or(f64::NAN));
        let held_out = fit.held_out.as_ref().map(|held_out| held_out.errors);
        let ids: Vec<_> = fit.warnings.iter().map(|warning| warning.kind.id()).collect();
        let loss = fit.law.output();
        let of_loss =
            |ranking: &&Ranking| ranking.domain == fit.domain && ranking.loss == loss.name();
        let ranked = file.rankings.iter().find(of_loss).and_then(|ranking| {
            let place = ranking.forms.iter().position(|form| form.form == fit.law.name())?;
            Some(ranked(ranking, &ranking.forms[place], Some(place + 1)))
        });
        let ranked = ranked.unwrap_or_else(|| {
            let mut cells = vec![String::new(); RANKED.len()];
            cells[0] = loss.name().into();
            cells
        });
        for param in &fit.params.0 {
            let cells = [
                fit.domain.clone(),
                fit.law.name().into(),
                param.name.clone(),
                cell(param.value),
                known(param.low),
                known(param.high),
                known(fit.bootstrap.as_ref().map(|resampled| resampled.level)),
                status(fit.status).into(),
                fit.n_rows.to_string(),
                fit.n_runs.to_string(),
                cell(fit.objective),
                cell(fit.mre),
                cell(fit.rise_error),
                known(held_out.map(|errors| errors.mre)),
                known(held_out.map(|errors| errors.rise_error)),
                fit.is_supported().map(|supported| supported.to_string()).unwrap_or_default(),
                ids.join(" "),
            ];
            table.row(cells.into_iter().chain(ranked.clone()));
        }
    }
    for ranking in &file.rankings {
        for form in &ranking.baselines {
            let mut cells = vec![String::new(); FIT.len()];
            (cells[0], cells[1]) = (ranking.domain.clone(), form.form.clone());
            (cells[8], cells[9]) = (ranking.n_rows.to_string(), ranking.n_runs.to_string());
            table.row(cells.into_iter().chain(ranked(ranking, form, None)));
        }
    }
    table.text()
}

/// The cells of [`RANKED`] for a form or a baseline, which has no place.
fn ranked(ranking: &Ranking, form: &Ranked, place: Option<usize>) -> Vec<String> {
    let along = |by: HoldOut| {
        let axis = ranking.axes.iter().position(|axis| *axis == by);
        cell(axis.map_or(f64::NAN, |axis| form.errors[axis].rise_error))
    };
    let best = ranking.forms.first().map_or(f64::NAN, |best| best.mean.rise_error);
    let mut cells = vec![
        ranking.loss.clone(),
        place.map(|place| place.to_string()).unwrap_or_default(),
        place.map(|_| form.tied.to_string()).unwrap_or_default(),
    ];
    cells.extend([HoldOut::Size, HoldOut::Data, HoldOut::P, HoldOut::Largest].map(along));
    let (mean, behind) = (form.mean.rise_error, form.behind);
    cells.extend([mean, mean - best, behind.low, behind.high].map(cell));
    cells
}

/// Which run of which law.
fn run(fit: &Fit, row: &Row) -> Vec<String> {
    let Row { n_params, d_ft_tokens, p, loss_pt0, d_tokens } = *row;
    let numbers = [n_params, d_ft_tokens, d_tokens, p, loss_pt0].map(cell);
    [fit.domain.clone(), fit.law.name().to_string()].into_iter().chain(numbers).collect()
}

/// A table whose rows begin with [`run`].
fn table_of_runs(columns: &[&str]) -> Csv {
    Csv::new(RUN.iter().chain(columns).copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_commas_are_quoted() {
        let mut table = table_of_runs(&["x"]);
        table.row(vec!["a, b".into(); 7].into_iter().chain(["1".into()]));
        assert!(table.text().ends_with("\"a, b\",1\n"));
    }
}
