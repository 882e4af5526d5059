use super::{Law, Parameter, Row, non_negative, positive, write};

/// Forgetting, Equation 7: the pretraining loss after finetuning,
/// L_pt = L_pt⁰ + A · D_ft^β / ((1 + B·p)·N)^α.
///
/// Injecting a fraction p acts as if the model were 1 + B·p times as large. One fit a domain; the
/// parameters are A, B, α, β in this order. With p = 0 alone, B has no effect and cannot be found.
///
/// # Examples
/// The paper's B for wikipedia is 829: one percent of injection gives 9.3 N.
/// ```
/// use forgetting_laws::laws::{Forgetting, Law, Row};
/// assert!((Forgetting::effective_size(829.0, 0.01, 1.0) - 9.29).abs() < 1e-12);
///
/// // N = 100, D_ft = 8, p = 50%: 2 + 3 · 8^(1/3) / ((1 + 6/2) · 100)^(1/2) = 2 + 6 / 20.
/// let row = Row { n_params: 100.0, d_ft_tokens: 8.0, p: 0.5, loss_pt0: 2.0, d_tokens: 1e4 };
/// assert!((Forgetting.predict(&row, &[3.0, 6.0, 0.5, 1.0 / 3.0]) - 2.3).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forgetting;

const PARAMETERS: &[Parameter] =
    &[positive("A"), non_negative("B"), positive("alpha"), positive("beta")];

impl Forgetting {
    /// The size (1 + B·p)·N of the model that would forget as much without injection.
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

    fn predict(&self, row: &Row, values: &[f64]) -> f64 {
        let &[a, b, alpha, beta] = values else { return f64::NAN };
        let size = Self::effective_size(b, row.p, row.n_params);
        row.loss_pt0 + a * row.d_ft_tokens.powf(beta) / size.powf(alpha)
    }

    fn gradient(&self, row: &Row, values: &[f64], out: &mut [f64]) {
        let gradient = <&[f64; 4]>::try_from(values).ok().map(|&[a, b, alpha, beta]| {
            let size = Self::effective_size(b, row.p, row.n_params);
            let by_a = row.d_ft_tokens.powf(beta) / size.powf(alpha);
            let rise = a * by_a;
            let by_b = -rise * alpha * row.p / (1.0 + b * row.p);
            [by_a, by_b, -rise * size.ln(), rise * row.d_ft_tokens.ln()]
        });
        write(gradient, out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::ROW;
    use super::*;
    use approx::assert_relative_eq;

    /// A change of N's unit by c is a change of A by c^α; B, α and β stay.
    #[test]
    fn the_unit_of_n_goes_into_a() {
        let scaled = Row { n_params: ROW.n_params / 1e6, ..ROW };
        let a = 0.7 * 1e6f64.powf(-0.45);
        assert_relative_eq!(
            Forgetting.predict(&ROW, &[0.7, 30.0, 0.45, 0.6]),
            Forgetting.predict(&scaled, &[a, 30.0, 0.45, 0.6]),
            max_relative = 1e-13
        );
    }

    #[test]
    fn no_forgetting_without_a_coefficient_and_none_undone_without_injection() {
        assert_eq!(Forgetting.predict(&ROW, &[0.0, 1.0, 0.5, 0.5]), ROW.loss_pt0);
        let at_zero = Row { p: 0.0, ..ROW };
        let with = |b| Forgetting.predict(&at_zero, &[0.7, b, 0.45, 0.6]);
        assert_eq!(with(0.0), with(1e4));
        let mut gradient = [1.0; 4];
        Forgetting.gradient(&at_zero, &[0.7, 829.0, 0.45, 0.6], &mut gradient);
        assert_eq!(gradient[1], 0.0);
    }
}
