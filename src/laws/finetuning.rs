use super::{
    Input, Law, Parameter, Point, Structure, Units, coefficient, exponent, input, values_of, write,
};
use crate::table::Column;

/// Finetuning, Equation 6: the finetuning loss at the bottom of the U-curve,
/// L_ft = A / (N^α · D_ft^β) + E.
///
/// Multiplicative, and without p. Each domain has its own fit. The parameters are A, α, β, E in
/// this order: A in nats · parameters^α · tokens^β, E in nats.
///
/// # Examples
/// ```
/// use forgetting_laws::laws::{Finetuning, Law, Row};
/// // 12 / (16^(1/2) · 8^(1/3)) + 1.5 = 12 / 8 + 1.5
/// let row = Row { n_params: 16.0, d_ft_tokens: 8.0, ..Row::default() };
/// let values = [12.0, 0.5, 1.0 / 3.0, 1.5];
/// assert!((Finetuning.predict(&(&row).into(), &values) - 3.0).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finetuning;

const PARAMETERS: &[Parameter] =
    &[coefficient("A"), exponent("alpha"), exponent("beta"), coefficient("E")];

const INPUTS: &[Input] = &[input(Column::NParams, 2), input(Column::DFtTokens, 2)];

impl Law for Finetuning {
    fn name(&self) -> &'static str {
        "finetuning"
    }

    fn equation(&self) -> &'static str {
        "Eq. 6: L_ft = A / (N^alpha * D_ft^beta) + E"
    }

    fn parameters(&self) -> &'static [Parameter] {
        PARAMETERS
    }

    fn inputs(&self) -> &'static [Input] {
        INPUTS
    }

    fn output(&self) -> Column {
        Column::LossFt
    }

    fn predict(&self, point: &Point, values: &[f64]) -> f64 {
        let &[a, alpha, beta, e] = values else { return f64::NAN };
        a * (-alpha * point.ln_n - beta * point.ln_d_ft).exp() + e
    }

    fn gradient(&self, point: &Point, values: &[f64], out: &mut [f64]) -> f64 {
        let gradient = values_of(values).map(|[a, alpha, beta, e]| {
            let by_a = (-alpha * point.ln_n - beta * point.ln_d_ft).exp();
            let term = a * by_a;
            (term + e, [by_a, -term * point.ln_n, -term * point.ln_d_ft, 1.0])
        });
        write(gradient, out)
    }

    fn in_units(&self, values: &[f64], units: &Units) -> Vec<f64> {
        let &[a, alpha, beta, e] = values else { return vec![f64::NAN; values.len()] };
        vec![a * (-alpha * units.ln_n - beta * units.ln_d_ft).exp(), alpha, beta, e]
    }

    fn structure(&self) -> Option<Structure> {
        Some(Structure::Finetuning { injected: None })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::ROW;
    use super::super::{Law, Row};
    use super::*;

    #[test]
    fn p_does_not_enter() {
        let values = [5.0, 0.3, 0.2, 1.1];
        let with = |p| Finetuning.predict(&(&Row { p, ..ROW }).into(), &values);
        assert_eq!(with(0.0), with(1.0));
    }
}
