use super::{
    Injected, Input, Law, Parameter, Point, Structure, Units, coefficient, exponent, input,
    strength, values_of, write,
};
use crate::table::Column;

/// An ablation of Equation 6, not from the paper: the finetuning loss with the effective size of
/// the forgetting law, L_ft = A / (((1 + B·p)·N)^α · D_ft^β) + E.
///
/// With B = 0 it is [`super::Finetuning`]. B adds the effect of injection on the target loss, which
/// the paper's form leaves out. The parameters are A, B, α, β, E in this order: A in nats ·
/// parameters^α · tokens^β, B without unit, E in nats.
///
/// # Examples
/// ```
/// use forgetting_laws::laws::{FinetuningP, Law, Row};
/// // 24 / (((1 + 6/2) · 16)^(1/2) · 8^(1/3)) + 1.5 = 24 / 16 + 1.5
/// let row = Row { n_params: 16.0, d_ft_tokens: 8.0, p: 0.5, ..Row::default() };
/// let values = [24.0, 6.0, 0.5, 1.0 / 3.0, 1.5];
/// assert!((FinetuningP.predict(&(&row).into(), &values) - 3.0).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FinetuningP;

const PARAMETERS: &[Parameter] =
    &[coefficient("A"), strength("B"), exponent("alpha"), exponent("beta"), coefficient("E")];

const INPUTS: &[Input] =
    &[input(Column::NParams, 2), input(Column::DFtTokens, 2), input(Column::P, 2)];

impl Law for FinetuningP {
    fn name(&self) -> &'static str {
        "finetuning-p"
    }

    fn equation(&self) -> &'static str {
        "ablation of Eq. 6: L_ft = A / (((1 + B*p) * N)^alpha * D_ft^beta) + E"
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
        let &[a, b, alpha, beta, e] = values else { return f64::NAN };
        let ln_size = point.ln_n + (b * point.p).ln_1p();
        a * (-alpha * ln_size - beta * point.ln_d_ft).exp() + e
    }

    fn gradient(&self, point: &Point, values: &[f64], out: &mut [f64]) -> f64 {
        let gradient = values_of(values).map(|[a, b, alpha, beta, e]| {
            let ln_size = point.ln_n + (b * point.p).ln_1p();
            let by_a = (-alpha * ln_size - beta * point.ln_d_ft).exp();
            let term = a * by_a;
            let by_b = -term * alpha * point.p / (1.0 + b * point.p);
            (term + e, [by_a, by_b, -term * ln_size, -term * point.ln_d_ft, 1.0])
        });
        write(gradient, out)
    }

    fn in_units(&self, values: &[f64], units: &Units) -> Vec<f64> {
        let &[a, b, alpha, beta, e] = values else { return vec![f64::NAN; values.len()] };
        let a = a * (-alpha * units.ln_n - beta * units.ln_d_ft).exp();
        vec![a, b * units.ln_p.exp(), alpha, beta, e]
    }

    fn structure(&self) -> Option<Structure> {
        Some(Structure::Finetuning { injected: Some(Injected::Fraction) })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::ROW;
    use super::super::{Finetuning, Law};
    use super::*;

    #[test]
    fn without_b_it_is_the_papers() {
        let point = Point::from(&ROW);
        assert_eq!(
            FinetuningP.predict(&point, &[5.0, 0.0, 0.3, 0.2, 1.1]),
            Finetuning.predict(&point, &[5.0, 0.3, 0.2, 1.1])
        );
    }
}
