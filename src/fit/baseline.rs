use super::Fit;
use serde::Serialize;

/// The pretraining loss before finetuning of a model of some size, from the fitted runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Baseline {
    /// L_pt⁰ in nats per token.
    pub loss_pt0: f64,
    /// Where it is from.
    pub from: LossPt0From,
}

/// The source of L_pt⁰.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LossPt0From {
    /// The question.
    Given,
    /// The runs of models of the same size.
    Fitted,
    /// Interpolation between the sizes of the runs.
    Interpolated,
    /// Extrapolation beyond the sizes of the runs.
    Extrapolated,
}

impl LossPt0From {
    /// Its name in reports and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Fitted => "fitted",
            Self::Interpolated => "interpolated",
            Self::Extrapolated => "extrapolated",
        }
    }
}

impl Fit {
    /// L_pt⁰ of a model of N parameters, from the fitted rows: ln L_pt⁰ is interpolated in ln N
    /// between their sizes, each with the mean of its rows. Beyond them, the power law through the
    /// two nearest sizes is continued. If there is only one size, its loss is used for every N.
    ///
    /// `None` if no row has both N and L_pt⁰, or N is not a number above 0. The paper measures
    /// L_pt⁰; this is ours, for questions about sizes that nobody trained.
    pub fn loss_pt0_at(&self, n_params: f64) -> Option<Baseline> {
        if !(n_params.is_finite() && n_params > 0.0) {
            return None;
        }
        let knots = self.knots();
        let x = n_params.ln();
        let (&first, &last) = (knots.first()?, knots.last()?);
        if let Some(known) = knots.iter().find(|knot| knot.0 == x) {
            return Some(Baseline { loss_pt0: known.1, from: LossPt0From::Fitted });
        }
        let above = knots.partition_point(|knot| knot.0 < x).clamp(1, knots.len().max(2) - 1);
        let loss_pt0 = match (knots.get(above - 1), knots.get(above)) {
            (Some(&(x0, low)), Some(&(x1, high))) => low * (high / low).powf((x - x0) / (x1 - x0)),
            _ => first.1,
        };
        let inside = first.0 < x && x < last.0;
        let from = if inside { LossPt0From::Interpolated } else { LossPt0From::Extrapolated };
        Some(Baseline { loss_pt0, from })
    }

    /// ln N and the mean L_pt⁰ of each size, by size.
    fn knots(&self) -> Vec<(f64, f64)> {
        let rows = self.rows.iter().map(|observed| observed.row);
        let mut known: Vec<_> = rows.map(|row| (row.n_params.ln(), row.loss_pt0)).collect();
        known.retain(|(x, loss)| x.is_finite() && *loss > 0.0 && loss.is_finite());
        known.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let mean = |rows: &[(f64, f64)]| {
            // A size of one loss keeps its very digits.
            let sum: f64 = rows.iter().map(|row| row.1 - rows[0].1).sum();
            (rows[0].0, rows[0].1 + sum / rows.len() as f64)
        };
        known.chunk_by(|a, b| a.0 == b.0).map(mean).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::LossPt0From;
    use crate::fit::{Bootstrap, Fit, Options, fit};
    use crate::laws::{Forgetting, Law, Row};
    use crate::table::{Run, Table};
    use approx::assert_relative_eq;

    /// A fit to models of these sizes and losses.
    fn fitted(models: &[(f64, f64)]) -> Fit {
        let mut runs = Vec::new();
        for &(n_params, loss_pt0) in models {
            for (d_ft_tokens, p) in [(1e5, 0.0), (1e6, 0.0), (1e6, 0.01)] {
                let row = Row { n_params, d_ft_tokens, p, loss_pt0, ..Row::default() };
                let loss = Forgetting.predict(&(&row).into(), &[6.0, 829.0, 0.4, 0.35]);
                runs.push(Run { row, loss_pt: Some(loss), ..Run::default() });
            }
        }
        let options = Options { bootstrap: Bootstrap::NONE, hold_out: None, ..Options::default() };
        fit(&Table::new(runs), &Forgetting, &options).unwrap()
    }

    #[test]
    fn losses_are_interpolated_as_a_power_law() {
        let fit = fitted(&[(1e8, 2.0), (1e6, 4.0), (1e7, 3.0)]);
        let at = |n| fit.loss_pt0_at(n).unwrap();
        // Sizes of the runs give their own losses, to the last digit.
        for (n, loss) in [(1e6, 4.0), (1e7, 3.0), (1e8, 2.0)] {
            assert_eq!((at(n).loss_pt0, at(n).from), (loss, LossPt0From::Fitted));
        }
        // Half way in ln N is the geometric mean.
        assert_relative_eq!(at(1e6 * 10f64.sqrt()).loss_pt0, 12f64.sqrt(), max_relative = 1e-12);
        assert_relative_eq!(at(1e7 * 10f64.sqrt()).loss_pt0, 6f64.sqrt(), max_relative = 1e-12);
        assert_eq!(at(3e7).from, LossPt0From::Interpolated);
        // Beyond the ends the nearest two go on.
        assert_relative_eq!(at(1e5).loss_pt0, 4.0 * 4.0 / 3.0, max_relative = 1e-12);
        assert_relative_eq!(at(1e9).loss_pt0, 2.0 * 2.0 / 3.0, max_relative = 1e-12);
        for n in [1e5, 1e9, 1.0001e8] {
            assert_eq!(at(n).from, LossPt0From::Extrapolated);
        }
        for n in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(fit.loss_pt0_at(n), None);
        }
    }

    #[test]
    fn rows_of_one_size_count_by_their_mean() {
        let mut fit = fitted(&[(1e6, 4.0), (1e7, 3.0)]);
        fit.rows[0].row.loss_pt0 = 4.3;
        assert_relative_eq!(fit.loss_pt0_at(1e6).unwrap().loss_pt0, 4.1, max_relative = 1e-12);
        // Rows of unknown loss count for nothing, and one size stands for all.
        for row in &mut fit.rows[3..] {
            row.row.loss_pt0 = f64::NAN;
        }
        let beyond = fit.loss_pt0_at(1e9).unwrap();
        assert_relative_eq!(beyond.loss_pt0, 4.1, max_relative = 1e-12);
        assert_eq!(beyond.from, LossPt0From::Extrapolated);
        for row in &mut fit.rows {
            row.row.loss_pt0 = f64::NAN;
        }
        assert_eq!(fit.loss_pt0_at(1e6), None);
    }
}
