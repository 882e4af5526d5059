use super::{
    Forgetting, Injected, Input, Law, Parameter, Point, Structure, Units, coefficient, exponent,
    forgetting, strength,
};
use crate::table::Column;

/// An ablation of Equation 7, not from the paper: forgetting with an additive offset, L_pt = L_pt⁰
/// + A · D_ft^β / ((1 + B·p)·N)^α + E.
///
/// With E = 0 it is [`Forgetting`]. E is an increase that neither model size nor injection
/// prevents, such as rewarming the learning rate might cause. The parameters are A, B, α, β, E in
/// this order, with the units of [`Forgetting`] and E in nats.
///
/// # Examples
/// ```
/// use forgetting_laws::laws::{ForgettingOffset, Law, Row};
/// // 2 + 3 · 8^(1/3) / ((1 + 6/2) · 100)^(1/2) + 0.1 = 2 + 6 / 20 + 0.1
/// let row = Row { n_params: 100.0, d_ft_tokens: 8.0, p: 0.5, loss_pt0: 2.0, ..Row::default() };
/// let values = [3.0, 6.0, 0.5, 1.0 / 3.0, 0.1];
/// assert!((ForgettingOffset.predict(&(&row).into(), &values) - 2.4).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForgettingOffset;

const PARAMETERS: &[Parameter] =
    &[coefficient("A"), strength("B"), exponent("alpha"), exponent("beta"), coefficient("E")];

impl Law for ForgettingOffset {
    fn name(&self) -> &'static str {
        "forgetting-offset"
    }

    fn equation(&self) -> &'static str {
        "ablation of Eq. 7: L_pt = L_pt0 + A * D_ft^beta / ((1 + B*p) * N)^alpha + E"
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
        let [of_forgetting @ .., e] = values else { return f64::NAN };
        Forgetting.predict(point, of_forgetting) + e
    }

    fn gradient(&self, point: &Point, values: &[f64], out: &mut [f64]) -> f64 {
        let ([of_forgetting @ .., e], [rest @ .., by_e]) = (values, &mut *out) else {
            out.fill(f64::NAN);
            return f64::NAN;
        };
        let prediction = Forgetting.gradient(point, of_forgetting, rest) + e;
        // NaN where the number of values is wrong.
        *by_e = 1.0 + 0.0 * prediction;
        prediction
    }

    fn in_units(&self, values: &[f64], units: &Units) -> Vec<f64> {
        let [of_forgetting @ .., e] = values else { return Vec::new() };
        let mut values = Forgetting.in_units(of_forgetting, units);
        values.push(*e);
        values
    }

    fn structure(&self) -> Option<Structure> {
        Some(Structure::Forgetting { injected: Injected::Fraction, offset: true })
    }

    fn baseline(&self, point: &Point) -> Option<f64> {
        Some(point.loss_pt0)
    }
}
