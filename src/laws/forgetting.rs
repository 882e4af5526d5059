use super::{
    Injected, Input, Law, Parameter, Point, Structure, Units, coefficient, exponent, input,
    strength, values_of, write,
};
use crate::table::Column;

/// Forgetting, Equation 7: the pretraining loss after finetuning,
/// L_pt = L_pt⁰ + A · D_ft^β / ((1 + B·p)·N)^α.
///
/// Injecting a fraction p acts as if the model were 1 + B·p times as large. Each domain has its own
/// fit. The parameters are A, B, α, β in this order: A in nats · parameters^α / tokens^β, B without
/// unit. With p = 0 alone, B has no effect and is not determined. Runs of one size are enough to
/// fit the law for that size: three or more values of p then determine α, and A fits that N. For
/// other sizes the law then only assumes that N acts as 1 + B·p does.
///
/// # Examples
/// The paper's B for wikipedia is 829: one percent of injection gives 9.3 N.
/// ```
/// use forgetting_laws::laws::{Forgetting, Law, Row};
/// assert!((Forgetting::effective_size(829.0, 0.01, 1.0) - 9.29).abs() < 1e-12);
///
/// // N = 100, D_ft = 8, p = 50%: 2 + 3 · 8^(1/3) / ((1 + 6/2) · 100)^(1/2) = 2 + 6 / 20.
/// let row = Row { n_params: 100.0, d_ft_tokens: 8.0, p: 0.5, loss_pt0: 2.0, ..Row::default() };
/// let values = [3.0, 6.0, 0.5, 1.0 / 3.0];
/// assert!((Forgetting.predict(&(&row).into(), &values) - 2.3).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forgetting;

pub(super) const PARAMETERS: &[Parameter] =
    &[coefficient("A"), strength("B"), exponent("alpha"), exponent("beta")];

pub(super) const INPUTS: &[Input] = &[
    input(Column::NParams, 1),
    input(Column::DFtTokens, 2),
    input(Column::P, 2),
    input(Column::LossPt0, 1),
];

impl Forgetting {
    /// The size (1 + B·p)·N of a model that would forget as much without injection.
    pub fn effective_size(b: f64, p: f64, n_params: f64) -> f64 {
        (1.0 + b * p) * n_params
    }
}

impl Law for Forgetting {
    fn name(&self) -> &'static str {
        "forgetting"
    }

    fn equation(&self) -> &'static str {
        "Eq. 7: L_pt = L_pt0 + A * D_ft^beta / ((1 + B*p) * N)^alpha"
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
        predict(point, point.p, values)
    }

    fn gradient(&self, point: &Point, values: &[f64], out: &mut [f64]) -> f64 {
        gradient(point, point.p, values, out)
    }

    fn in_units(&self, values: &[f64], units: &Units) -> Vec<f64> {
        in_units(values, units, units.ln_p)
    }

    fn structure(&self) -> Option<Structure> {
        Some(Structure::Forgetting { injected: Injected::Fraction, offset: false })
    }

    fn baseline(&self, point: &Point) -> Option<f64> {
        Some(point.loss_pt0)
    }
}

/// L_pt⁰ + A · D_ft^β / ((1 + B·q)·N)^α: the effect of injection depends on q, which is p in
/// Equation 7.
pub(super) fn predict(point: &Point, q: f64, values: &[f64]) -> f64 {
    let &[a, b, alpha, beta] = values else { return f64::NAN };
    let ln_size = point.ln_n + (b * q).ln_1p();
    point.loss_pt0 + a * (beta * point.ln_d_ft - alpha * ln_size).exp()
}

/// The same with its derivatives, in the form of [`Law::gradient`].
pub(super) fn gradient(point: &Point, q: f64, values: &[f64], out: &mut [f64]) -> f64 {
    let gradient = values_of(values).map(|[a, b, alpha, beta]| {
        let ln_size = point.ln_n + (b * q).ln_1p();
        let by_a = (beta * point.ln_d_ft - alpha * ln_size).exp();
        let increase = a * by_a;
        let by_b = -increase * alpha * q / (1.0 + b * q);
        (point.loss_pt0 + increase, [by_a, by_b, -increase * ln_size, increase * point.ln_d_ft])
    });
    write(gradient, out)
}

/// The same law's values if q is measured in a unit whose logarithm is `ln_q`.
pub(super) fn in_units(values: &[f64], units: &Units, ln_q: f64) -> Vec<f64> {
    let &[a, b, alpha, beta] = values else { return vec![f64::NAN; values.len()] };
    let a = a * (beta * units.ln_d_ft - alpha * units.ln_n).exp();
    vec![a, b * ln_q.exp(), alpha, beta]
}

#[cfg(test)]
mod tests {
    use super::super::tests::ROW;
    use super::super::{Law, Row};
    use super::*;

    #[test]
    fn no_forgetting_without_a_coefficient_and_none_undone_without_injection() {
        assert_eq!(Forgetting.predict(&(&ROW).into(), &[0.0, 1.0, 0.5, 0.5]), ROW.loss_pt0);
        let at_zero = Point::from(&Row { p: 0.0, ..ROW });
        let with = |b| Forgetting.predict(&at_zero, &[0.7, b, 0.45, 0.6]);
        assert_eq!(with(0.0), with(1e4));
        let mut gradient = [1.0; 4];
        Forgetting.gradient(&at_zero, &[0.7, 829.0, 0.45, 0.6], &mut gradient);
        assert_eq!(gradient[1], 0.0);
    }
}
