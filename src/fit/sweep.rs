//! How the parameters depend on the objective, since the paper's is unknown.

use crate::Result;
use crate::fit::{Bootstrap, Objective, Options, Params, Penalty, Space, Status, fit as fit_law};
use crate::laws::Law;
use crate::table::Table;
use serde::{Deserialize, Serialize};

/// A law fitted with another objective, without intervals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    /// What was minimised.
    #[serde(flatten)]
    pub minimised: Objective,
    /// Whether the optimum can be trusted.
    pub status: Status,
    /// The parameters.
    pub params: Params,
    /// The mean relative error on the fitted rows.
    pub mre: f64,
}

/// Values of Huber's δ, a decade apart around the usual 10⁻³.
const DELTAS: [f64; 4] = [1e-4, 1e-3, 1e-2, 1e-1];

/// Fits a law with every penalty on log and on raw losses.
///
/// # Errors
/// As [`fit_law`].
pub fn sweep(table: &Table, law: &'static dyn Law, threads: usize) -> Result<Vec<Variant>> {
    let hubers = DELTAS.map(Penalty::Huber);
    let penalties = || hubers.into_iter().chain([Penalty::Squared, Penalty::Absolute]);
    let objectives = [Space::Log, Space::Raw]
        .into_iter()
        .flat_map(|space| penalties().map(move |penalty| Objective { space, penalty }));
    let variant = |objective| {
        let bootstrap = Bootstrap::NONE;
        let options =
            Options { objective, bootstrap, hold_out: None, threads, ..Options::default() };
        let fit = fit_law(table, law, &options)?;
        Ok(Variant { minimised: objective, status: fit.status, params: fit.params, mre: fit.mre })
    };
    objectives.map(variant).collect()
}
