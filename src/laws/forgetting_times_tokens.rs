use super::{Injected, Input, Law, Parameter, Point, Structure, Units, forgetting};
use crate::table::Column;

/// Beyond the paper: forgetting in which the number of injected tokens, not their share, multiplies
/// the size of the model, L_pt = L_pt⁰ + A · D_ft^β / ((1 + B·p·D_ft)·N)^α.
///
/// p·D_ft is the number of tokens injected during one pass over the target (exactly p/(1 − p)·D_ft,
/// almost the same for small p). In Equation 7 a fraction p prevents the same share of the
/// forgetting for every D_ft; here the share grows with D_ft. Each domain has its own fit. The
/// parameters are A, B, α, β in this order: A in nats · parameters^α / tokens^β, B in 1 / tokens.
///
/// # Examples
/// ```
/// use forgetting_laws::laws::{ForgettingTimesTokens, Law, Row};
/// // 2 + 3 · 8^(1/3) / ((1 + 0.75 · 50% · 8) · 100)^(1/2) = 2 + 6 / 20
/// let row = Row { n_params: 100.0, d_ft_tokens: 8.0, p: 0.5, loss_pt0: 2.0, ..Row::default() };
/// let values = [3.0, 0.75, 0.5, 1.0 / 3.0];
/// assert!((ForgettingTimesTokens.predict(&(&row).into(), &values) - 2.3).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForgettingTimesTokens;

impl Law for ForgettingTimesTokens {
    fn name(&self) -> &'static str {
        "forgetting-times-tokens"
    }

    fn equation(&self) -> &'static str {
        "beyond the paper: L_pt = L_pt0 + A * D_ft^beta / ((1 + B*p*D_ft) * N)^alpha"
    }

    fn parameters(&self) -> &'static [Parameter] {
        forgetting::PARAMETERS
    }

    fn inputs(&self) -> &'static [Input] {
        forgetting::INPUTS
    }

    fn output(&self) -> Column {
        Column::LossPt
    }

    fn predict(&self, point: &Point, values: &[f64]) -> f64 {
        forgetting::predict(point, point.tokens_per_pass(), values)
    }

    fn gradient(&self, point: &Point, values: &[f64], out: &mut [f64]) -> f64 {
        forgetting::gradient(point, point.tokens_per_pass(), values, out)
    }

    fn in_units(&self, values: &[f64], units: &Units) -> Vec<f64> {
        forgetting::in_units(values, units, units.ln_p + units.ln_d_ft)
    }

    fn structure(&self) -> Option<Structure> {
        Some(Structure::Forgetting { injected: Injected::TokensPerPass, offset: false })
    }

    fn baseline(&self, point: &Point) -> Option<f64> {
        Some(point.loss_pt0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::ROW;
    use super::super::{Forgetting, Law, Row};
    use super::*;

    /// Of one D_ft it is Equation 7, whose B is then this law's B · D_ft; of ten times as much data
    /// the same p undoes more.
    #[test]
    fn b_of_equation_7_grows_with_the_data() {
        let [a, b, alpha, beta] = [0.7, 0.02, 0.45, 0.6];
        for d_ft_tokens in [64.0, 640.0] {
            let point = Point::from(&Row { d_ft_tokens, ..ROW });
            let seven = Forgetting.predict(&point, &[a, b * d_ft_tokens, alpha, beta]);
            let here = ForgettingTimesTokens.predict(&point, &[a, b, alpha, beta]);
            assert!((here - seven).abs() < 1e-13);
        }
    }
}
