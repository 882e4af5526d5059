use super::{
    Input, Law, Parameter, Point, Structure, Units, coefficient, exponent, input, values_of, write,
};
use crate::table::Column;

/// The additive law of pretraining, L = E + A / N^α + B / D^β (Hoffmann et al., "Training
/// compute-optimal large language models", 2022, Equation 2). Not from the paper: it is the form
/// that pretraining losses are known to follow.
///
/// The parameters are A, B, α, β, E in this order: A in nats · parameters^α, B in nats ·
/// tokens^β, E in nats.
///
/// # Examples
/// ```
/// use forgetting_laws::laws::{Additive, Law, Row};
/// // 1 + 8 / 16^(1/2) + 9 / 27^(1/3) = 1 + 2 + 3
/// let row = Row { n_params: 16.0, d_tokens: 27.0, ..Row::default() };
/// let values = [8.0, 9.0, 0.5, 1.0 / 3.0, 1.0];
/// assert!((Additive.predict(&(&row).into(), &values) - 6.0).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Additive;

const PARAMETERS: &[Parameter] =
    &[coefficient("A"), coefficient("B"), exponent("alpha"), exponent("beta"), coefficient("E")];

/// Only the curvature of a term distinguishes it from E, so each term needs three sizes.
const INPUTS: &[Input] = &[input(Column::NParams, 3), input(Column::DTokens, 3)];

impl Law for Additive {
    fn name(&self) -> &'static str {
        "additive"
    }

    fn equation(&self) -> &'static str {
        "Hoffmann et al. 2022, Eq. 2: L = E + A / N^alpha + B / D^beta"
    }

    fn parameters(&self) -> &'static [Parameter] {
        PARAMETERS
    }

    fn inputs(&self) -> &'static [Input] {
        INPUTS
    }

    fn output(&self) -> Column {
        Column::Loss
    }

    fn predict(&self, point: &Point, values: &[f64]) -> f64 {
        let &[a, b, alpha, beta, e] = values else { return f64::NAN };
        e + a * (-alpha * point.ln_n).exp() + b * (-beta * point.ln_d).exp()
    }

    fn gradient(&self, point: &Point, values: &[f64], out: &mut [f64]) -> f64 {
        let gradient = values_of(values).map(|[a, b, alpha, beta, e]| {
            let (by_a, by_b) = ((-alpha * point.ln_n).exp(), (-beta * point.ln_d).exp());
            let (by_alpha, by_beta) = (-a * by_a * point.ln_n, -b * by_b * point.ln_d);
            (e + a * by_a + b * by_b, [by_a, by_b, by_alpha, by_beta, 1.0])
        });
        write(gradient, out)
    }

    fn in_units(&self, values: &[f64], units: &Units) -> Vec<f64> {
        let &[a, b, alpha, beta, e] = values else { return vec![f64::NAN; values.len()] };
        vec![a * (-alpha * units.ln_n).exp(), b * (-beta * units.ln_d).exp(), alpha, beta, e]
    }

    fn structure(&self) -> Option<Structure> {
        Some(Structure::Additive)
    }
}
