use super::{
    Input, Law, Parameter, Point, Units, coefficient, exponent, forgetting, forgetting_bounded,
    strength, values_of, write,
};
use crate::table::Column;

/// Beyond the paper: forgetting that ends at a ceiling, L_pt = L_pt⁰ + (C − L_pt⁰) · h / (1 + h)
/// with h = A · D_ft^β / (N + B·p·D_ft)^α.
///
/// C is the loss that L_pt approaches as more and more is forgotten. Unlike in
/// [`super::ForgettingBounded`] it is fitted, since models that are finetuned on much data can end
/// worse than a uniform model, and no vocabulary size is needed. For small h the increase is
/// (C − L_pt⁰)·h, as in [`super::ForgettingPlusTokens`]. A table in which the increase does not
/// level off cannot determine C: the fit is then [`crate::fit::Status::NotIdentified`] or C is
/// very large, and both forms predict the same. Such a fit takes ten times as long as one of another
/// form, so [`super::LAWS`] does not have this law. With C below L_pt⁰, the law says that finetuning
/// lowers L_pt.
///
/// Each domain has its own fit. The parameters are A, B, α, β, C in this order: A in parameters^α /
/// tokens^β, B in parameters / token, C in nats per token.
///
/// # Examples
/// ```
/// use forgetting_laws::laws::{ForgettingCeiling, Law, Row};
/// // h = 5 · 8^(1/3) / (100 + 75 · 50% · 8)^(1/2) = 10 / 20, of which h / (1 + h) is a third.
/// let row = Row { n_params: 100.0, d_ft_tokens: 8.0, p: 0.5, loss_pt0: 2.0, ..Row::default() };
/// let values = [5.0, 75.0, 0.5, 1.0 / 3.0, 8.0];
/// assert!((ForgettingCeiling.predict(&(&row).into(), &values) - 4.0).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForgettingCeiling;

const PARAMETERS: &[Parameter] =
    &[strength("A"), strength("B"), exponent("alpha"), exponent("beta"), coefficient("C")];

impl Law for ForgettingCeiling {
    fn name(&self) -> &'static str {
        "forgetting-ceiling"
    }

    fn equation(&self) -> &'static str {
        "beyond the paper: L_pt = L_pt0 + (C - L_pt0) * h / (1 + h), \
         h = A * D_ft^beta / (N + B*p*D_ft)^alpha"
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

    fn predict(&self, point: &Point, values: &[f64]) -> f64 {
        let [of_h @ .., ceiling] = values else { return f64::NAN };
        forgetting_bounded::predict(point, ceiling - point.loss_pt0, of_h)
    }

    fn gradient(&self, point: &Point, values: &[f64], out: &mut [f64]) -> f64 {
        let gradient = values_of(values).map(|[a, b, alpha, beta, ceiling]: [f64; 5]| {
            forgetting_bounded::gradient(point, ceiling - point.loss_pt0, &[a, b, alpha, beta])
        });
        write(gradient, out)
    }

    fn in_units(&self, values: &[f64], units: &Units) -> Vec<f64> {
        let [of_h @ .., ceiling] = values else { return Vec::new() };
        let mut values = forgetting_bounded::in_units(of_h, units);
        values.push(*ceiling);
        values
    }

    fn baseline(&self, point: &Point) -> Option<f64> {
        Some(point.loss_pt0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::ROW;
    use super::super::{ForgettingBounded, ForgettingPlusTokens};
    use super::*;

    /// With C = ln V it is the form bounded by the uniform model, and with a C out of reach the one
    /// without a bound.
    #[test]
    fn it_joins_the_bounded_and_the_unbounded_form() {
        let point = Point::from(&ROW);
        let [a, b, alpha, beta] = [0.7, 300.0, 0.45, 0.6];
        let bounded = ForgettingBounded::of(512).predict(&point, &[a, b, alpha, beta]);
        let uniform = 512f64.ln();
        assert_eq!(ForgettingCeiling.predict(&point, &[a, b, alpha, beta, uniform]), bounded);
        let far = 1e9;
        let unbounded = ForgettingPlusTokens.predict(&point, &[a, b, alpha, beta]);
        let here = ForgettingCeiling.predict(&point, &[a / far, b, alpha, beta, far]);
        assert!((here / unbounded - 1.0).abs() < 1e-7, "{here} {unbounded}");
        let at_most = ForgettingCeiling.predict(&point, &[f64::MAX, b, alpha, beta, 9.0]);
        assert_eq!(at_most, 9.0);
        assert_eq!(ForgettingCeiling.predict(&point, &[0.0, b, alpha, beta, 9.0]), ROW.loss_pt0);
    }
}
