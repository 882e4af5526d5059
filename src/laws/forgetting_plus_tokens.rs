use super::{Injected, Input, Law, Parameter, Point, Structure, Units, forgetting};
use crate::table::Column;

/// Beyond the paper: forgetting in which injected tokens add to the size of the model, L_pt = L_pt⁰
/// + A · D_ft^β / (N + B·p·D_ft)^α.
///
/// p·D_ft is the number of tokens injected during one pass over the target (exactly p/(1 − p)·D_ft,
/// almost the same for small p), and each acts as B more parameters. Injection prevents a larger
/// share of the forgetting if D_ft is large, as in [`super::ForgettingTimesTokens`], or if the
/// model is small. Each domain has its own fit. The parameters are A, B, α, β in this order: A in
/// nats · parameters^α / tokens^β, B in parameters / token.
///
/// # Examples
/// ```
/// use forgetting_laws::laws::{ForgettingPlusTokens, Law, Row};
/// // 2 + 3 · 8^(1/3) / (100 + 75 · 50% · 8)^(1/2) = 2 + 6 / 20
/// let row = Row { n_params: 100.0, d_ft_tokens: 8.0, p: 0.5, loss_pt0: 2.0, ..Row::default() };
/// let values = [3.0, 75.0, 0.5, 1.0 / 3.0];
/// assert!((ForgettingPlusTokens.predict(&(&row).into(), &values) - 2.3).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForgettingPlusTokens;

impl Law for ForgettingPlusTokens {
    fn name(&self) -> &'static str {
        "forgetting-plus-tokens"
    }

    fn equation(&self) -> &'static str {
        "beyond the paper: L_pt = L_pt0 + A * D_ft^beta / (N + B*p*D_ft)^alpha"
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
        forgetting::predict(point, point.tokens_per_parameter(), values)
    }

    fn gradient(&self, point: &Point, values: &[f64], out: &mut [f64]) -> f64 {
        forgetting::gradient(point, point.tokens_per_parameter(), values, out)
    }

    fn in_units(&self, values: &[f64], units: &Units) -> Vec<f64> {
        forgetting::in_units(values, units, units.ln_p + units.ln_d_ft - units.ln_n)
    }

    fn structure(&self) -> Option<Structure> {
        Some(Structure::Forgetting { injected: Injected::TokensPerParameter, offset: false })
    }

    fn baseline(&self, point: &Point) -> Option<f64> {
        Some(point.loss_pt0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::ROW;
    use super::super::{Forgetting, Law};
    use super::*;

    /// A model with injection forgets as one of N + B·p·D_ft parameters without.
    #[test]
    fn injected_tokens_stand_for_parameters() {
        let [a, b, alpha, beta] = [0.7, 300.0, 0.45, 0.6];
        let here = ForgettingPlusTokens.predict(&(&ROW).into(), &[a, b, alpha, beta]);
        let n_params = ROW.n_params + b * ROW.p * ROW.d_ft_tokens;
        let larger = Point { ln_n: n_params.ln(), p: 0.0, ..Point::from(&ROW) };
        assert!((here - Forgetting.predict(&larger, &[a, 0.0, alpha, beta])).abs() < 1e-13);
    }
}
