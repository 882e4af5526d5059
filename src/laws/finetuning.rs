use super::{Law, Parameter, Row, non_negative, positive, write};

/// Finetuning, Equation 6: the finetuning loss at the bottom of the U-curve,
/// L_ft = A / (N^α · D_ft^β) + E.
///
/// Multiplicative, and without p. One fit a domain; the parameters are A, α, β, E in this order.
///
/// # Examples
/// ```
/// use forgetting_laws::laws::{Finetuning, Law, Row};
/// // 12 / (16^(1/2) · 8^(1/3)) + 1.5 = 12 / 8 + 1.5
/// let row = Row { n_params: 16.0, d_ft_tokens: 8.0, p: 0.01, loss_pt0: 2.0, d_tokens: 1e4 };
/// assert!((Finetuning.predict(&row, &[12.0, 0.5, 1.0 / 3.0, 1.5]) - 3.0).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finetuning;

const PARAMETERS: &[Parameter] =
    &[positive("A"), positive("alpha"), positive("beta"), non_negative("E")];

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

    fn predict(&self, row: &Row, values: &[f64]) -> f64 {
        let &[a, alpha, beta, e] = values else { return f64::NAN };
        a / (row.n_params.powf(alpha) * row.d_ft_tokens.powf(beta)) + e
    }

    fn gradient(&self, row: &Row, values: &[f64], out: &mut [f64]) {
        let gradient = <&[f64; 4]>::try_from(values).ok().map(|&[a, alpha, beta, _]| {
            let by_a = 1.0 / (row.n_params.powf(alpha) * row.d_ft_tokens.powf(beta));
            let term = a * by_a;
            [by_a, -term * row.n_params.ln(), -term * row.d_ft_tokens.ln(), 1.0]
        });
        write(gradient, out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::ROW;
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn the_units_of_n_and_d_go_into_a() {
        let scaled =
            Row { n_params: ROW.n_params / 1e6, d_ft_tokens: ROW.d_ft_tokens / 1e3, ..ROW };
        let a = 5.0 / (1e6f64.powf(0.3) * 1e3f64.powf(0.2));
        assert_relative_eq!(
            Finetuning.predict(&ROW, &[5.0, 0.3, 0.2, 1.1]),
            Finetuning.predict(&scaled, &[a, 0.3, 0.2, 1.1]),
            max_relative = 1e-13
        );
    }

    #[test]
    fn p_does_not_enter() {
        let values = [5.0, 0.3, 0.2, 1.1];
        let with = |p| Finetuning.predict(&Row { p, ..ROW }, &values);
        assert_eq!(with(0.0), with(1.0));
    }
}
