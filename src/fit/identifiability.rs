use crate::laws::{Law, Row};
use crate::{Error, Result};
use ndarray::Array2;
use ndarray_linalg::SVD;

/// The relative singular value below which a direction counts as not determined: √ε of `f64`,
/// about 1.5·10⁻⁸. A least-squares fit sees the square of the Jacobian, whose own rounding hides
/// what is smaller. The choice is ours.
pub const DEFAULT_TOLERANCE: f64 = 1.490_116_119_384_765_6e-8;

/// The derivatives of a law's predictions, with one row per run and one column per parameter, in
/// nats per token for a change of `scales[j]` in parameter j.
///
/// Which directions look weak depends on the scales. With the parameter values as scales the
/// columns are derivatives with respect to ln θ, and units do not matter; a parameter with value 0
/// needs another scale.
///
/// # Errors
/// If a value lies outside the law's domain or a scale is not a number above 0, or if there are
/// not as many scales as parameters.
///
/// # Examples
/// B multiplies p, so runs without injection do not determine it.
/// ```
/// use forgetting_laws::fit::{DEFAULT_TOLERANCE, Identifiability, jacobian};
/// use forgetting_laws::laws::{Forgetting, Row};
///
/// let values = [2.0, 800.0, 0.4, 0.3];
/// let runs = |fractions: &[f64]| -> Vec<Row> {
///     let row = |(i, &p): (usize, &f64)| Row {
///         n_params: 1e7 * 3f64.powi(i as i32),
///         d_ft_tokens: 1e6 * (1 + i * i) as f64,
///         p,
///         loss_pt0: 3.0,
///         d_tokens: 1e9,
///     };
///     fractions.iter().enumerate().map(row).collect()
/// };
/// let look = |fractions: &[f64]| {
///     let derivatives = jacobian(&Forgetting, &runs(fractions), &values, &values)?;
///     Identifiability::of(&derivatives, DEFAULT_TOLERANCE)
/// };
///
/// let without = look(&[0.0; 6])?;
/// assert_eq!(without.rank(), 3);
/// assert!(without.undetermined()[0].components()[1] > 0.999_999);
/// assert!(look(&[0.0, 0.001, 0.01, 0.05, 0.0, 0.01])?.is_identified());
/// # Ok::<(), forgetting_laws::Error>(())
/// ```
pub fn jacobian(
    law: &dyn Law,
    rows: &[Row],
    values: &[f64],
    scales: &[f64],
) -> Result<Array2<f64>> {
    law.check(values)?;
    if scales.len() != values.len() {
        let requirement = format!("must be {}, one for each parameter", values.len());
        return Err(Error::setting("number of scales", scales.len(), requirement));
    }
    if let Some(scale) = scales.iter().find(|scale| !(scale.is_finite() && **scale > 0.0)) {
        return Err(Error::setting("scale of a parameter", scale, "must be a number above 0"));
    }
    let mut derivatives = Array2::zeros((rows.len(), values.len()));
    let mut gradient = vec![0.0; values.len()];
    for (row, mut out) in rows.iter().zip(derivatives.rows_mut()) {
        law.gradient(&row.into(), values, &mut gradient);
        for ((out, derivative), scale) in out.iter_mut().zip(&gradient).zip(scales) {
            *out = derivative * scale;
        }
    }
    Ok(derivatives)
}

/// What the runs determine about a law's parameters, to first order around their values.
///
/// Moving the parameters by a unit vector changes the predictions by the Jacobian times this
/// vector. Along a right singular vector with a negligible singular value the predictions do not
/// change, so no fit to these runs can tell such parameters apart.
///
/// # Examples
/// Two parameters that enter only as their sum:
/// ```
/// use forgetting_laws::fit::{DEFAULT_TOLERANCE, Identifiability};
/// use ndarray::array;
///
/// let found = Identifiability::of(&array![[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]], DEFAULT_TOLERANCE)?;
/// let [direction] = found.undetermined() else { panic!("one direction") };
/// let half = 0.5f64.sqrt();
/// assert!((direction.components()[0] - half).abs() < 1e-12);
/// assert!((direction.components()[1] + half).abs() < 1e-12);
/// # Ok::<(), forgetting_laws::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Identifiability {
    singular_values: Vec<f64>,
    condition_number: f64,
    undetermined: Vec<Direction>,
    tolerance: f64,
}

/// A direction in the space of the scaled parameters, of unit length.
#[derive(Debug, Clone, PartialEq)]
pub struct Direction {
    components: Vec<f64>,
    relative_singular_value: f64,
}

impl Direction {
    /// The components, one per parameter. By convention the first of the largest components (to
    /// 10⁻⁹) is positive.
    pub fn components(&self) -> &[f64] {
        &self.components
    }

    /// How much the predictions change along this direction, relative to the direction with the
    /// largest change; 0 if no parameter changes them.
    pub fn relative_singular_value(&self) -> f64 {
        self.relative_singular_value
    }
}

impl Identifiability {
    /// Reads a Jacobian: a row for each run and a column for each (scaled) parameter, as
    /// [`jacobian`] makes it. Directions whose singular value lies below `tolerance` times the
    /// largest are not determined; [`DEFAULT_TOLERANCE`] is the numerical limit, and a larger one
    /// asks for more than the noise of the losses.
    ///
    /// # Errors
    /// If the Jacobian has no row or no column or an entry that is not finite, or if the tolerance
    /// does not lie between 0 and 1.
    pub fn of(jacobian: &Array2<f64>, tolerance: f64) -> Result<Self> {
        if !(tolerance > 0.0 && tolerance < 1.0) {
            return Err(Error::setting("tolerance", tolerance, "must lie between 0 and 1"));
        }
        let (runs, parameters) = jacobian.dim();
        if runs == 0 || parameters == 0 {
            let requirement = "must have at least one run and one parameter";
            return Err(Error::setting("Jacobian", format!("{runs} x {parameters}"), requirement));
        }
        if let Some(((run, parameter), entry)) =
            jacobian.indexed_iter().find(|(_, entry)| !entry.is_finite())
        {
            let name = format!("Jacobian, run {run}, parameter {parameter}");
            return Err(Error::setting(name, entry, "must be a finite number"));
        }

        let (relative, directions) = right_singular(jacobian)?;
        // Divided out before the decomposition, so that no square overflows.
        let largest = largest_entry(jacobian) * relative[0];
        let first = if relative[0] > 0.0 { relative[0] } else { 1.0 };
        let relative: Vec<f64> = relative.iter().map(|value| value / first).collect();
        let undetermined = relative
            .iter()
            .zip(directions)
            .filter(|(value, _)| **value < tolerance)
            .map(|(&value, components)| Direction {
                components: oriented(components),
                relative_singular_value: value,
            })
            .collect();
        Ok(Self {
            condition_number: 1.0 / relative[parameters - 1],
            singular_values: relative.iter().map(|value| value * largest).collect(),
            undetermined,
            tolerance,
        })
    }

    /// The singular values, descending, one for each parameter, in the Jacobian's unit. If there
    /// are fewer runs than parameters, the missing ones are 0.
    pub fn singular_values(&self) -> &[f64] {
        &self.singular_values
    }

    /// The largest singular value divided by the smallest; infinite if the smallest is 0. Its
    /// square is the condition number of the Hessian of the least-squares problem.
    pub fn condition_number(&self) -> f64 {
        self.condition_number
    }

    /// A basis of the directions that the runs do not determine, the best determined first. Any
    /// other basis of the same space would do: [`Identifiability::undetermined_share`] does not
    /// depend on the choice.
    pub fn undetermined(&self) -> &[Direction] {
        &self.undetermined
    }

    /// The relative singular value below which a direction counts as not determined.
    pub fn tolerance(&self) -> f64 {
        self.tolerance
    }

    /// The number of directions that the runs determine.
    pub fn rank(&self) -> usize {
        self.singular_values.len() - self.undetermined.len()
    }

    /// Whether the runs determine every direction.
    pub fn is_identified(&self) -> bool {
        self.undetermined.is_empty()
    }

    /// How much of each parameter's axis lies in the undetermined space: 0 if the parameter is
    /// determined, 1 if nothing is known about it, and between if it is known only in combination
    /// with others. The shares add up to the number of directions that are not determined.
    pub fn undetermined_share(&self) -> Vec<f64> {
        (0..self.singular_values.len())
            .map(|j| self.undetermined.iter().map(|d| d.components[j] * d.components[j]).sum())
            .collect()
    }
}

fn largest_entry(jacobian: &Array2<f64>) -> f64 {
    jacobian.iter().fold(0.0, |largest: f64, entry| largest.max(entry.abs()))
}

/// The singular values of the Jacobian over its largest entry, descending, and the right singular
/// vectors; both as many as there are parameters.
fn right_singular(jacobian: &Array2<f64>) -> Result<(Vec<f64>, Vec<Vec<f64>>)> {
    let largest = largest_entry(jacobian);
    let scaled = if largest > 0.0 { jacobian / largest } else { jacobian.clone() };
    let unsolved = || {
        let requirement = "LAPACK found no singular value decomposition; choose other scales";
        Error::setting("Jacobian", format!("largest entry {largest:e}"), requirement)
    };
    let (_, values, vectors) = scaled.svd(false, true).map_err(|_| unsolved())?;
    let vectors = vectors.ok_or_else(unsolved)?;
    let mut values = values.to_vec();
    values.resize(jacobian.ncols(), 0.0);
    Ok((values, vectors.rows().into_iter().map(|row| row.to_vec()).collect()))
}

/// The same direction with the sign that [`Direction::components`] promises.
fn oriented(mut components: Vec<f64>) -> Vec<f64> {
    let largest = components.iter().fold(0.0, |largest: f64, c| largest.max(c.abs()));
    let first = components.iter().find(|c| c.abs() >= largest * (1.0 - 1e-9));
    if first.is_some_and(|c| *c < 0.0) {
        components.iter_mut().for_each(|c| *c = -*c);
    }
    components
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::Forgetting;
    use approx::assert_relative_eq;
    use ndarray::{array, s};

    /// LAPACK's backward error is a few ε times the norm; these matrices are small.
    const CLOSE: f64 = 1e-13;

    fn row(n_params: f64, d_ft_tokens: f64, p: f64) -> Row {
        Row { n_params, d_ft_tokens, p, loss_pt0: 3.0, d_tokens: 1e9 }
    }

    #[test]
    fn equal_columns_are_known_only_as_their_sum() {
        let twice = array![[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        let found = Identifiability::of(&twice, 1e-10).unwrap();
        for (value, expected) in found.singular_values().iter().zip([2.0, 1.0, 0.0]) {
            assert_relative_eq!(*value, expected, epsilon = CLOSE);
        }
        assert_eq!((found.rank(), found.is_identified()), (2, false));
        let [direction] = found.undetermined() else { panic!("{found:?}") };
        let half = 0.5f64.sqrt();
        for (component, expected) in direction.components().iter().zip([half, -half, 0.0]) {
            assert_relative_eq!(*component, expected, epsilon = CLOSE);
        }
        for (share, expected) in found.undetermined_share().iter().zip([0.5, 0.5, 0.0]) {
            assert_relative_eq!(*share, expected, epsilon = CLOSE);
        }
        assert!(found.condition_number() > 1e15);
    }

    /// 1.495105864e7 is the published condition number of the Hilbert matrix of order 6.
    #[test]
    fn the_condition_number_is_that_of_the_hilbert_matrix() {
        let hilbert = Array2::from_shape_fn((6, 6), |(i, j)| 1.0 / (i + j + 1) as f64);
        let found = Identifiability::of(&hilbert, DEFAULT_TOLERANCE).unwrap();
        assert_relative_eq!(found.condition_number(), 1.495_105_864e7, max_relative = 1e-8);
        assert_relative_eq!(found.singular_values()[0], 1.618_899_858_9, max_relative = 1e-10);
        assert!(found.is_identified());
    }

    #[test]
    fn a_direction_at_the_tolerance_is_determined() {
        let weak = array![[4.0, 0.0], [0.0, 1.0], [0.0, 0.0]];
        assert!(Identifiability::of(&weak, 0.25).unwrap().is_identified());
        let found = Identifiability::of(&weak, 0.25 + 1e-15).unwrap();
        assert_eq!(found.undetermined()[0].components(), [0.0, 1.0]);
        assert_eq!(found.undetermined()[0].relative_singular_value(), 0.25);
        assert_eq!(
            (found.rank(), found.condition_number(), found.tolerance()),
            (1, 4.0, 0.25 + 1e-15)
        );
    }

    #[test]
    fn fewer_runs_than_parameters_leave_the_rest_open() {
        let found = Identifiability::of(&array![[0.0, 3.0, 4.0]], DEFAULT_TOLERANCE).unwrap();
        assert_relative_eq!(found.singular_values()[0], 5.0, max_relative = CLOSE);
        assert_eq!(found.singular_values()[1..], [0.0, 0.0]);
        assert_eq!((found.rank(), found.condition_number()), (1, f64::INFINITY));
        for (share, expected) in found.undetermined_share().iter().zip([1.0, 0.64, 0.36]) {
            assert_relative_eq!(*share, expected, epsilon = CLOSE);
        }
    }

    #[test]
    fn a_law_that_nothing_moves_is_not_determined_at_all() {
        let found = Identifiability::of(&Array2::zeros((5, 2)), DEFAULT_TOLERANCE).unwrap();
        assert_eq!(found.singular_values(), [0.0, 0.0]);
        assert_eq!((found.rank(), found.condition_number()), (0, f64::INFINITY));
        assert_eq!(found.undetermined_share(), [1.0, 1.0]);
    }

    #[test]
    fn the_size_of_the_entries_does_not_matter() {
        let shape = array![[1.0, 2.0], [3.0, 4.0]];
        let expected = Identifiability::of(&shape, DEFAULT_TOLERANCE).unwrap();
        for factor in [1e-300, 1e-160, 1e160, 1e307] {
            let found = Identifiability::of(&(&shape * factor), DEFAULT_TOLERANCE).unwrap();
            let pairs = found.singular_values().iter().zip(expected.singular_values());
            for (value, expected) in pairs {
                assert_relative_eq!(*value, expected * factor, max_relative = CLOSE);
            }
            let (condition, expected) = (found.condition_number(), expected.condition_number());
            assert_relative_eq!(condition, expected, max_relative = CLOSE);
        }
    }

    /// The sign of a singular vector is LAPACK's whim; ours is fixed.
    #[test]
    fn the_first_of_the_largest_components_is_positive() {
        assert_eq!(oriented(vec![-0.6, 0.8]), [-0.6, 0.8]);
        assert_eq!(oriented(vec![0.6, -0.8]), [-0.6, 0.8]);
        assert_eq!(oriented(vec![-0.5, 0.5]), [0.5, -0.5]);
        assert_eq!(oriented(vec![-0.5, 0.5 + 1e-15])[0], 0.5);
    }

    #[test]
    fn more_model_sizes_determine_more() {
        let values = [2.0, 800.0, 0.4, 0.3];
        let fractions = [0.0, 0.001, 0.01, 0.05];
        let sizes = |n: [f64; 2]| {
            let mut rows = Vec::new();
            for p in fractions {
                for n_params in n {
                    rows.extend([1e5, 1e6].map(|d_ft_tokens| row(n_params, d_ft_tokens, p)));
                }
            }
            let derivatives = jacobian(&Forgetting, &rows, &values, &values).unwrap();
            Identifiability::of(&derivatives, DEFAULT_TOLERANCE).unwrap()
        };
        assert!(sizes([1e7, 1e8]).is_identified());
        // Injection moves the effective size: alpha stays visible with one size, but less so.
        assert!(sizes([1e7, 1e7]).is_identified());
        assert!(sizes([1e7, 1e7]).condition_number() > 2.0 * sizes([1e7, 1e8]).condition_number());
    }

    #[test]
    fn without_injection_only_b_is_unknown() {
        let values = [2.0, 800.0, 0.4, 0.3];
        let mut rows = Vec::new();
        for n_params in [1e7, 1e8, 1e9] {
            rows.extend([1e5, 1e6, 1e7].map(|d_ft_tokens| row(n_params, d_ft_tokens, 0.0)));
        }
        let derivatives = jacobian(&Forgetting, &rows, &values, &values).unwrap();
        let found = Identifiability::of(&derivatives, DEFAULT_TOLERANCE).unwrap();
        assert_eq!(found.undetermined().len(), 1);
        assert!(found.undetermined()[0].relative_singular_value() < CLOSE);
        for (share, expected) in found.undetermined_share().iter().zip([0.0, 1.0, 0.0, 0.0]) {
            assert_relative_eq!(*share, expected, epsilon = CLOSE);
        }

        // Neither does an injection that every run has in common tell B from A.
        rows.iter_mut().for_each(|row| row.p = 0.01);
        let derivatives = jacobian(&Forgetting, &rows, &values, &values).unwrap();
        let found = Identifiability::of(&derivatives, DEFAULT_TOLERANCE).unwrap();
        assert_eq!(found.rank(), 3);
        assert!(found.undetermined_share()[0] > 1e-3, "{found:?}");
        assert!(found.undetermined_share()[1] > 0.5, "{found:?}");
        assert!(found.undetermined_share()[3] < 1e-9, "{found:?}");
    }

    /// d(ln θ) columns: the scales multiply the law's own derivatives.
    #[test]
    fn a_jacobian_holds_the_scaled_derivatives_run_by_run() {
        let rows = [row(1e7, 1e5, 0.0), row(1e8, 1e6, 0.01)];
        let values = [2.0, 800.0, 0.4, 0.3];
        let scales = [1.0, 10.0, 0.5, 3.0];
        let found = jacobian(&Forgetting, &rows, &values, &scales).unwrap();
        assert_eq!(found.dim(), (2, 4));
        for (row, found) in rows.iter().zip(found.rows()) {
            let mut expected = [0.0; 4];
            Forgetting.gradient(&row.into(), &values, &mut expected);
            let expected: Vec<f64> = expected.iter().zip(scales).map(|(d, s)| d * s).collect();
            assert_eq!(found.to_vec(), expected);
        }
        assert_eq!(found.slice(s![0, 1..2]).to_vec(), [0.0]);
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        let good = array![[1.0, 2.0]];
        for tolerance in [0.0, 1.0, -1.0, f64::NAN, f64::INFINITY] {
            let message = Identifiability::of(&good, tolerance).unwrap_err().to_string();
            assert!(message.starts_with("tolerance = "), "{message}");
        }
        for (runs, parameters) in [(0, 3), (3, 0), (0, 0)] {
            let empty = Array2::zeros((runs, parameters));
            let message = Identifiability::of(&empty, 0.1).unwrap_err().to_string();
            assert!(message.contains(&format!("{runs} x {parameters}")), "{message}");
        }
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let message = Identifiability::of(&array![[1.0, bad]], 0.1).unwrap_err().to_string();
            assert!(message.contains("run 0, parameter 1"), "{message}");
        }

        let values = [2.0, 800.0, 0.4, 0.3];
        let refused = |values: &[f64], scales: &[f64]| {
            jacobian(&Forgetting, &[], values, scales).unwrap_err().to_string()
        };
        assert!(refused(&values, &values[1..]).contains("number of scales = 3: must be 4"));
        assert!(refused(&values, &[1.0, 0.0, 1.0, 1.0]).contains("must be a number above 0"));
        assert!(refused(&values, &[1.0, f64::NAN, 1.0, 1.0]).contains("scale of a parameter"));
        assert!(refused(&values[1..], &values[1..]).contains("parameters"));
    }
}
