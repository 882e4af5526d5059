use super::{
    Derived, Input, Law, Parameter, Point, Units, coefficient, exponent, forgetting,
    forgetting_bounded, strength, through, values_of, write,
};
use crate::table::Column;

/// Beyond the paper: forgetting that levels off, L_pt = (L_pt⁰ + A·q) / (1 + K·q) with
/// q = D_ft^β / (N + B·p·D_ft)^α.
///
/// L_pt is a mean of L_pt⁰ and of the ceiling A / K, which it approaches as more and more is
/// forgotten; K·q is the weight of the ceiling. Unlike in [`super::ForgettingBounded`] the ceiling
/// is fitted, since models that are finetuned on much data can end worse than a uniform model, and
/// no vocabulary size is needed. With K = 0 there is no ceiling, and the law is
/// [`super::ForgettingPlusTokens`]. With A / K below L_pt⁰, the law says that finetuning lowers
/// L_pt.
///
/// Each domain has its own fit. The parameters are A, B, α, β, K in this order: A in nats ·
/// parameters^α / tokens^β, B in parameters / token, K in parameters^α / tokens^β.
///
/// # Examples
/// ```
/// use forgetting_laws::laws::{ForgettingCeiling, Law, Row};
/// // q = 8^(1/3) / (100 + 75 · 50% · 8)^(1/2) = 2 / 20, so that K·q = 0.5 is the weight of A / K = 8.
/// let row = Row { n_params: 100.0, d_ft_tokens: 8.0, p: 0.5, loss_pt0: 2.0, ..Row::default() };
/// let values = [40.0, 75.0, 0.5, 1.0 / 3.0, 5.0];
/// assert!((ForgettingCeiling.predict(&(&row).into(), &values) - 4.0).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForgettingCeiling;

const PARAMETERS: &[Parameter] =
    &[coefficient("A"), strength("B"), exponent("alpha"), exponent("beta"), strength("K")];

impl Law for ForgettingCeiling {
    fn name(&self) -> &'static str {
        "forgetting-ceiling"
    }

    fn equation(&self) -> &'static str {
        "beyond the paper: L_pt = (L_pt0 + A*q) / (1 + K*q), q = D_ft^beta / (N + B*p*D_ft)^alpha"
    }

    fn parameters(&self) -> &'static [Parameter] {
        PARAMETERS
    }

    fn inputs(&self) -> &'static [Input] {
        forgetting::INPUTS
    }

    fn output(&self) -> Column {
        Column::LossPt
    }

    /// The ceiling is A / K.
    fn ratio(&self) -> Option<(usize, usize)> {
        Some((0, 4))
    }

    fn predict(&self, point: &Point, values: &[f64]) -> f64 {
        let &[a, b, alpha, beta, k] = values else { return f64::NAN };
        let q = forgetting_bounded::h(point, &[1.0, b, alpha, beta]);
        point.loss_pt0 + (a - k * point.loss_pt0) / (1.0 / q + k)
    }

    fn gradient(&self, point: &Point, values: &[f64], out: &mut [f64]) -> f64 {
        let gradient = values_of(values).map(|[a, b, alpha, beta, k]: [f64; 5]| {
            let (q, [_, by @ ..]) =
                forgetting_bounded::gradient_of_h(point, &[1.0, b, alpha, beta]);
            let rise = a - k * point.loss_pt0;
            let by_a = 1.0 / (1.0 / q + k);
            let prediction = point.loss_pt0 + rise * by_a;
            let slope = rise / (1.0 + k * q).powi(2);
            let [by_b, by_alpha, by_beta] = through(slope, by);
            (prediction, [by_a, by_b, by_alpha, by_beta, -by_a * prediction])
        });
        write(gradient, out)
    }

    fn in_units(&self, values: &[f64], units: &Units) -> Vec<f64> {
        let &[a, b, alpha, beta, k] = values else { return vec![f64::NAN; values.len()] };
        let mut values = forgetting_bounded::in_units(&[1.0, b, alpha, beta], units);
        let of_q = values[0];
        values[0] = a * of_q;
        values.push(k * of_q);
        values
    }

    fn baseline(&self, point: &Point) -> Option<f64> {
        Some(point.loss_pt0)
    }

    fn is_bounded(&self) -> bool {
        true
    }

    /// Infinite where K is 0.
    fn derived(&self) -> Option<Derived> {
        let value = |values: &[f64]| match *values {
            [_, _, _, _, 0.0] => f64::INFINITY,
            [a, _, _, _, k] => a / k,
            _ => f64::NAN,
        };
        Some(Derived { name: "A / K", meaning: "the ceiling of L_pt in nats per token", value })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::ROW;
    use super::super::{ForgettingBounded, ForgettingPlusTokens};
    use super::*;

    /// With A / K = ln V it is the form bounded by the uniform model, and with K = 0 the one without
    /// a bound.
    #[test]
    fn it_joins_the_bounded_and_the_unbounded_form() {
        let point = Point::from(&ROW);
        let [a, b, alpha, beta] = [0.7, 300.0, 0.45, 0.6];
        let bounded = ForgettingBounded::of(512).predict(&point, &[a, b, alpha, beta]);
        let uniform = 512f64.ln();
        let ceiling = |a: f64, k: f64| ForgettingCeiling.predict(&point, &[a, b, alpha, beta, k]);
        assert!((ceiling(a * uniform, a) - bounded).abs() < 1e-14);
        let unbounded = ForgettingPlusTokens.predict(&point, &[a, b, alpha, beta]);
        assert!((ceiling(a, 0.0) - unbounded).abs() < 1e-14);
        let derived = ForgettingCeiling.derived().unwrap().value;
        assert_eq!(derived(&[9e40, b, alpha, beta, 1e40]), 9.0);
        assert!((ceiling(9e40, 1e40) - 9.0).abs() < 1e-14);
        assert_eq!(derived(&[0.0, b, alpha, beta, 0.0]), f64::INFINITY);
        assert_eq!(ceiling(0.0, 0.0), ROW.loss_pt0);
    }
}
