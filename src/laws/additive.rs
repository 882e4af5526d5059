use super::{Law, Parameter, Row, non_negative, positive, write};

/// The additive law of pretraining, L = E + A / N^α + B / D^β (Hoffmann et al., "Training
/// compute-optimal large language models", 2022, Equation 2). Not the paper's: it stands beside
/// as the form that pretraining losses are known to follow.
///
/// The parameters are A, B, α, β, E in this order.
///
/// # Examples
/// ```
/// use forgetting_laws::laws::{Additive, Law, Row};
/// // 1 + 8 / 16^(1/2) + 9 / 27^(1/3) = 1 + 2 + 3
/// let row = Row { n_params: 16.0, d_ft_tokens: 1.0, p: 0.0, loss_pt0: 0.0, d_tokens: 27.0 };
/// assert!((Additive.predict(&row, &[8.0, 9.0, 0.5, 1.0 / 3.0, 1.0]) - 6.0).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Additive;

const PARAMETERS: &[Parameter] =
    &[positive("A"), positive("B"), positive("alpha"), positive("beta"), non_negative("E")];

impl Law for Additive {
    fn name(&self) -> &'static str {
        "additive"
    }

    fn equation(&self) -> &'static str {
        "Hoffmann et al. 2022, Eq. 2: L = E + A / N^alpha + B / D^beta"
    }

    fn parameters(&self) -> &'static [Parameter] {
        PARAMETERS
    }

    fn predict(&self, row: &Row, values: &[f64]) -> f64 {
        let &[a, b, alpha, beta, e] = values else { return f64::NAN };
        e + a / row.n_params.powf(alpha) + b / row.d_tokens.powf(beta)
    }

    fn gradient(&self, row: &Row, values: &[f64], out: &mut [f64]) {
        let gradient = <&[f64; 5]>::try_from(values).ok().map(|&[a, b, alpha, beta, _]| {
            let (by_a, by_b) = (row.n_params.powf(-alpha), row.d_tokens.powf(-beta));
            [by_a, by_b, -a * by_a * row.n_params.ln(), -b * by_b * row.d_tokens.ln(), 1.0]
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
    fn each_unit_goes_into_its_own_coefficient() {
        let scaled = Row { n_params: ROW.n_params / 1e6, d_tokens: ROW.d_tokens / 1e3, ..ROW };
        let (a, b) = (5.0 * 1e6f64.powf(-0.3), 7.0 * 1e3f64.powf(-0.2));
        assert_relative_eq!(
            Additive.predict(&ROW, &[5.0, 7.0, 0.3, 0.2, 1.1]),
            Additive.predict(&scaled, &[a, b, 0.3, 0.2, 1.1]),
            max_relative = 1e-13
        );
    }
}
