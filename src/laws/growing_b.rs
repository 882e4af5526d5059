use super::{
    Input, Law, Parameter, Point, Units, coefficient, exponent, forgetting, input, strength,
    values_of, write,
};
use crate::table::Column;

/// Equation 7 with a B that may grow with the data, L_pt = L_pt⁰ + A · D_ft^β / ((1 +
/// B·p·D_ft^γ)·N)^α. It tests an assumption of Equation 7 and is not one of [`super::LAWS`].
///
/// With γ = 0 it is [`super::Forgetting`], with γ = 1 [`super::ForgettingTimesTokens`]. The parameters
/// are A, B, α, β, γ in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GrowingB;

/// The index of γ among the parameters.
pub(crate) const GAMMA: usize = 4;

const PARAMETERS: &[Parameter] =
    &[coefficient("A"), strength("B"), exponent("alpha"), exponent("beta"), exponent("gamma")];

/// How B depends on D_ft shows only with several values of D_ft.
const INPUTS: &[Input] = &[
    input(Column::NParams, 1),
    input(Column::DFtTokens, 3),
    input(Column::P, 2),
    input(Column::LossPt0, 1),
];

impl Law for GrowingB {
    fn name(&self) -> &'static str {
        "forgetting-growing-b"
    }

    fn equation(&self) -> &'static str {
        "L_pt = L_pt0 + A * D_ft^beta / ((1 + B*p*D_ft^gamma) * N)^alpha"
    }

    fn parameters(&self) -> &'static [Parameter] {
        PARAMETERS
    }

    fn inputs(&self) -> &'static [Input] {
        INPUTS
    }

    fn output(&self) -> Column {
        Column::LossPt
    }

    fn predict(&self, point: &Point, values: &[f64]) -> f64 {
        let [rest @ .., gamma] = values else { return f64::NAN };
        forgetting::predict(point, point.p * (gamma * point.ln_d_ft).exp(), rest)
    }

    fn gradient(&self, point: &Point, values: &[f64], out: &mut [f64]) -> f64 {
        let gradient = values_of(values).map(|[a, b, alpha, beta, gamma]| {
            let mut by = [0.0; GAMMA];
            let q = point.p * (gamma * point.ln_d_ft).exp();
            let prediction = forgetting::gradient(point, q, &[a, b, alpha, beta], &mut by);
            let [by_a, by_b, by_alpha, by_beta] = by;
            // B and D_ft^γ enter as their product.
            (prediction, [by_a, by_b, by_alpha, by_beta, by_b * b * point.ln_d_ft])
        });
        write(gradient, out)
    }

    fn in_units(&self, values: &[f64], units: &Units) -> Vec<f64> {
        let [rest @ .., gamma] = values else { return Vec::new() };
        let mut values = forgetting::in_units(rest, units, units.ln_p + gamma * units.ln_d_ft);
        values.push(*gamma);
        values
    }

    fn baseline(&self, point: &Point) -> Option<f64> {
        Some(point.loss_pt0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::ROW;
    use super::super::{Forgetting, ForgettingTimesTokens};
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn it_holds_both_forms_and_has_its_gradient() {
        let point = Point::from(&ROW);
        let values = [0.7, 1.3, 0.45, 0.6];
        let with = |gamma: f64| GrowingB.predict(&point, &[&values[..], &[gamma]].concat());
        assert_eq!(with(0.0), Forgetting.predict(&point, &values));
        let tokens = ForgettingTimesTokens.predict(&point, &values);
        assert_relative_eq!(with(1.0), tokens, max_relative = 1e-14);

        let at = [0.7, 1.3, 0.45, 0.6, 0.8];
        let mut gradient = [0.0; 5];
        assert_eq!(GrowingB.gradient(&point, &at, &mut gradient), GrowingB.predict(&point, &at));
        for j in 0..5 {
            let shifted = |h: f64| {
                let mut at = at;
                at[j] += h;
                GrowingB.predict(&point, &at)
            };
            let numeric = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
            assert_relative_eq!(gradient[j], numeric, max_relative = 1e-7);
        }
        let units = Units { ln_n: 3.0, ln_d_ft: -2.0, ln_p: -4.0, ln_d: 5.0 };
        let scaled = GrowingB.predict(&units.measure(&point), &GrowingB.in_units(&at, &units));
        assert_relative_eq!(scaled, GrowingB.predict(&point, &at), max_relative = 1e-13);
    }
}
