use super::{Input, Law, Parameter, Point, Role, Units};
use crate::table::Column;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};

/// A law one of whose exponents is held at a value, so that a fit finds the other parameters.
///
/// The B of a forgetting law and its α trade off: a smaller α with a larger B predicts nearly the
/// same. So the B of different domains can be compared only at the same α. [`crate::fit::Shared`]
/// finds that α, and this law holds it.
///
/// The parameters are those of the law without the one that is held, in the law's order and units.
///
/// # Examples
/// ```
/// use forgetting_laws::laws::{Forgetting, Held, Law, Row};
/// let held = Held::of(&Forgetting, "alpha", 0.5)?;
/// assert_eq!(held.name(), "forgetting-alpha-0.5");
/// let row = Row { n_params: 1e6, d_ft_tokens: 1e5, p: 0.01, loss_pt0: 2.0, ..Row::default() };
/// let point = (&row).into();
/// assert_eq!(held.predict(&point, &[3.0, 500.0, 0.4]), Forgetting.predict(&point, &[3.0, 500.0, 0.5, 0.4]));
/// # Ok::<(), forgetting_laws::Error>(())
/// ```
pub struct Held {
    law: &'static dyn Law,
    /// Where the held parameter stands among those of the law.
    index: usize,
    value: f64,
    name: &'static str,
    equation: &'static str,
    parameters: &'static [Parameter],
}

/// The most parameters of a law that can be held.
const MOST: usize = 8;

impl Held {
    /// The law with its exponent `parameter` held at `value`. Equal arguments give the same law,
    /// which is kept until the program ends.
    ///
    /// # Errors
    /// If `parameter` is not an exponent of the law, or `value` is not a number of at least 0.
    pub fn of(law: &'static dyn Law, parameter: &str, value: f64) -> Result<&'static Self> {
        static KNOWN: LazyLock<Mutex<BTreeMap<String, &'static Held>>> =
            LazyLock::new(Mutex::default);
        let parameters = law.parameters();
        let is_it =
            |candidate: &Parameter| candidate.name == parameter && candidate.role == Role::Exponent;
        let index = parameters.iter().position(is_it).filter(|_| parameters.len() <= MOST);
        let Some(index) = index else {
            let exponents: Vec<_> =
                parameters.iter().filter(|p| p.role == Role::Exponent).map(|p| p.name).collect();
            let requirement = format!("must be one of its exponents: {}", exponents.join(", "));
            let name = format!("parameter of the {} law to hold", law.name());
            return Err(Error::setting(name, parameter, requirement));
        };
        if !(value.is_finite() && value >= 0.0) {
            let name = format!("{parameter} of the {} law", law.name());
            return Err(Error::setting(name, value, "must be a number of at least 0"));
        }
        let name = format!("{}-{parameter}-{value}", law.name());
        let new = || -> &'static Self {
            let equation = format!("{}, {parameter} = {value}", law.equation()).leak();
            let mut left = parameters.to_vec();
            left.remove(index);
            let (name, parameters) = (name.clone().leak(), left.leak());
            Box::leak(Box::new(Self { law, index, value, name, equation, parameters }))
        };
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(known.entry(name.clone()).or_insert_with(new))
    }

    /// All values of the law, with the one that is held; none where their number is wrong.
    fn all(&self, values: &[f64]) -> Option<[f64; MOST]> {
        let mut all = [0.0; MOST];
        let (before, after) = values.split_at_checked(self.index)?;
        all[..self.index].copy_from_slice(before);
        all[self.index] = self.value;
        (values.len() == self.parameters.len())
            .then(|| all[self.index + 1..=values.len()].copy_from_slice(after))?;
        Some(all)
    }
}

impl Law for Held {
    fn name(&self) -> &'static str {
        self.name
    }

    fn equation(&self) -> &'static str {
        self.equation
    }

    fn parameters(&self) -> &'static [Parameter] {
        self.parameters
    }

    fn inputs(&self) -> &'static [Input] {
        self.law.inputs()
    }

    fn output(&self) -> Column {
        self.law.output()
    }

    fn predict(&self, point: &Point, values: &[f64]) -> f64 {
        let all = self.all(values);
        all.map_or(f64::NAN, |all| self.law.predict(point, &all[..=values.len()]))
    }

    fn gradient(&self, point: &Point, values: &[f64], out: &mut [f64]) -> f64 {
        let Some(all) = self.all(values).filter(|_| out.len() == values.len()) else {
            out.fill(f64::NAN);
            return f64::NAN;
        };
        let mut by = [0.0; MOST];
        let k = values.len();
        let prediction = self.law.gradient(point, &all[..=k], &mut by[..=k]);
        out[..self.index].copy_from_slice(&by[..self.index]);
        out[self.index..].copy_from_slice(&by[self.index + 1..=k]);
        prediction
    }

    /// An exponent has no unit, so the one that is held stays what it is.
    fn in_units(&self, values: &[f64], units: &Units) -> Vec<f64> {
        let Some(all) = self.all(values) else { return Vec::new() };
        let mut values = self.law.in_units(&all[..=values.len()], units);
        values.remove(self.index);
        values
    }

    fn baseline(&self, point: &Point) -> Option<f64> {
        self.law.baseline(point)
    }

    fn is_bounded(&self) -> bool {
        self.law.is_bounded()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::ROW;
    use super::super::{Forgetting, ForgettingPlusTokens, LAWS};
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn it_is_the_law_with_one_parameter_less() {
        let values = [0.7, 1.3, 0.45, 0.6, 0.8];
        let units = Units { ln_n: 3.0, ln_d_ft: -2.0, ln_p: -4.0, ln_d: 5.0 };
        let point = Point::from(&ROW);
        for &law in LAWS {
            let parameters = law.parameters();
            let k = parameters.len();
            let mut whole = vec![0.0; k];
            let prediction = law.gradient(&point, &values[..k], &mut whole);
            for (j, parameter) in parameters.iter().enumerate() {
                if parameter.role != Role::Exponent {
                    assert!(Held::of(law, parameter.name, 0.5).is_err());
                    continue;
                }
                let held = Held::of(law, parameter.name, values[j]).unwrap();
                assert!(std::ptr::eq(held, Held::of(law, parameter.name, values[j]).unwrap()));
                let mut left = values[..k].to_vec();
                left.remove(j);
                let mut by = vec![0.0; k - 1];
                assert_eq!(held.gradient(&point, &left, &mut by), prediction);
                assert_eq!(held.predict(&point, &left), prediction);
                let mut expected = whole.clone();
                expected.remove(j);
                assert_eq!(by, expected);
                let scaled = held.predict(&units.measure(&point), &held.in_units(&left, &units));
                assert_relative_eq!(scaled, prediction, max_relative = 1e-12);
                assert_eq!(held.baseline(&point), law.baseline(&point));
            }
        }
    }

    #[test]
    fn what_cannot_be_held_is_refused_and_wrong_numbers_of_values_give_nan() {
        for (parameter, value) in
            [("B", 1.0), ("gravity", 1.0), ("alpha", -1.0), ("alpha", f64::NAN)]
        {
            assert!(Held::of(&Forgetting, parameter, value).is_err(), "{parameter} {value}");
        }
        let held = Held::of(&ForgettingPlusTokens, "alpha", 0.25).unwrap();
        let point = Point::from(&ROW);
        for count in [0, 1, 2, 4, 9] {
            let values = vec![0.5; count];
            assert!(held.predict(&point, &values).is_nan());
            assert!(held.gradient(&point, &values, &mut vec![0.0; count]).is_nan());
        }
        assert!(held.gradient(&point, &[0.5; 3], &mut [0.0; 2]).is_nan());
    }
}
