use super::{
    Input, Law, Parameter, Point, Row, Structure, Units, exponent, forgetting, strength, through,
    values_of, write,
};
use crate::table::Column;
use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};

/// Beyond the paper: forgetting that is bounded by what pretraining has learnt, L_pt = L_pt⁰ + R ·
/// h / (1 + h) with h = A · D_ft^β / (N + B·p·D_ft)^α and R = ln V − L_pt⁰.
///
/// ln V is the loss of a uniform model over the V tokens of the vocabulary. So R is all that
/// pretraining has learnt, and h / (1 + h) the share of it that is lost. For small h the increase
/// is R·h, as in [`super::ForgettingPlusTokens`], and it never exceeds R (the idea of a bounded
/// increase is from arXiv 2605.09189). V is not a variable, since losses per token of different
/// vocabularies cannot be compared; each V has its own law ([`ForgettingBounded::of`]). A model
/// worse than the uniform one forgets nothing.
///
/// Each domain has its own fit. The parameters are A, B, α, β in this order: A in parameters^α /
/// tokens^β, B in parameters / token.
///
/// # Examples
/// ```
/// use forgetting_laws::laws::{ForgettingBounded, Law, Row};
/// let law = ForgettingBounded::of(512);
/// assert_eq!(law.name(), "forgetting-bounded-512");
/// // h = 5 · 8^(1/3) / (100 + 75 · 50% · 8)^(1/2) = 10 / 20, of which h / (1 + h) is a third.
/// let row = Row { n_params: 100.0, d_ft_tokens: 8.0, p: 0.5, loss_pt0: 2.0, ..Row::default() };
/// let lost = law.predict(&(&row).into(), &[5.0, 75.0, 0.5, 1.0 / 3.0]) - 2.0;
/// assert!((lost - (512f64.ln() - 2.0) / 3.0).abs() < 1e-12);
/// ```
#[derive(Debug)]
pub struct ForgettingBounded {
    name: &'static str,
    equation: &'static str,
    vocab_size: u32,
    ln_vocab: f64,
}

/// The part of the name before V.
const NAME: &str = "forgetting-bounded-";

/// A can have any order of magnitude, and the increase is not affine in it.
const PARAMETERS: &[Parameter] =
    &[strength("A"), strength("B"), exponent("alpha"), exponent("beta")];

impl ForgettingBounded {
    /// The law for a vocabulary of V tokens; equal V give the same law.
    pub fn of(vocab_size: u32) -> &'static Self {
        static KNOWN: LazyLock<Mutex<BTreeMap<u32, &'static ForgettingBounded>>> =
            LazyLock::new(Mutex::default);
        let new = || -> &'static Self {
            let name = format!("{NAME}{vocab_size}").leak();
            let equation = format!(
                "beyond the paper: L_pt = L_pt0 + R * h / (1 + h), R = ln {vocab_size} - L_pt0, \
                 h = A * D_ft^beta / (N + B*p*D_ft)^alpha"
            );
            let (equation, ln_vocab) = (equation.leak(), f64::from(vocab_size).ln());
            Box::leak(Box::new(Self { name, equation, vocab_size, ln_vocab }))
        };
        KNOWN.lock().unwrap_or_else(PoisonError::into_inner).entry(vocab_size).or_insert_with(new)
    }

    /// The law with a name such as `forgetting-bounded-512`.
    pub(super) fn by_name(name: &str) -> Option<&'static Self> {
        let vocab_size: u32 = name.strip_prefix(NAME)?.parse().ok()?;
        // 0512 and +512 are no names.
        let is_name = vocab_size >= 2 && name == format!("{NAME}{vocab_size}");
        is_name.then(|| Self::of(vocab_size))
    }

    /// What pretraining has learnt, R.
    fn room(&self, point: &Point) -> f64 {
        let room = self.ln_vocab - point.loss_pt0;
        // NaN stays what it is.
        if room < 0.0 { 0.0 } else { room }
    }
}

/// The point for h, with an increase above 0.
fn from_zero(point: &Point) -> Point {
    Point { loss_pt0: 0.0, ..*point }
}

/// h = A · D_ft^β / (N + B·p·D_ft)^α.
pub(super) fn h(point: &Point, values: &[f64]) -> f64 {
    forgetting::predict(&from_zero(point), point.tokens_per_parameter(), values)
}

/// The same with its derivatives by A, B, α and β.
pub(super) fn gradient_of_h(point: &Point, values: &[f64; 4]) -> (f64, [f64; 4]) {
    let mut by = [0.0; 4];
    let h = forgetting::gradient(&from_zero(point), point.tokens_per_parameter(), values, &mut by);
    (h, by)
}

/// The values of A, B, α and β for sizes in other units.
pub(super) fn in_units(values: &[f64], units: &Units) -> Vec<f64> {
    forgetting::in_units(values, units, units.ln_p + units.ln_d_ft - units.ln_n)
}

impl Law for ForgettingBounded {
    fn name(&self) -> &'static str {
        self.name
    }

    fn equation(&self) -> &'static str {
        self.equation
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
        // 0 where h is, and the room where h is infinite.
        point.loss_pt0 + self.room(point) / (1.0 + 1.0 / h(point, values))
    }

    fn gradient(&self, point: &Point, values: &[f64], out: &mut [f64]) -> f64 {
        let gradient = values_of(values).map(|values| {
            let (h, by) = gradient_of_h(point, &values);
            let room = self.room(point);
            let slope = room / (1.0 + h).powi(2);
            (point.loss_pt0 + room / (1.0 + 1.0 / h), through(slope, by))
        });
        write(gradient, out)
    }

    fn in_units(&self, values: &[f64], units: &Units) -> Vec<f64> {
        in_units(values, units)
    }

    fn structure(&self) -> Option<Structure> {
        Some(Structure::Bounded { vocab_size: self.vocab_size })
    }

    fn baseline(&self, point: &Point) -> Option<f64> {
        Some(point.loss_pt0)
    }

    fn is_bounded(&self) -> bool {
        true
    }

    fn fault(&self, row: &Row) -> Option<String> {
        (row.loss_pt0 >= self.ln_vocab).then(|| {
            format!(
                "loss_pt0 is not below {:.2}, the loss of a model that has learnt nothing of its {} \
                 tokens: the size of the vocabulary must be that of the models' tokenizer",
                self.ln_vocab,
                self.name.trim_start_matches(NAME)
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::ROW;
    use super::super::{ForgettingPlusTokens, by_name};
    use super::*;

    /// A small increase is R times that of the form without a bound, a large one is R.
    #[test]
    fn it_is_linear_at_first_and_ends_at_the_uniform_model() {
        let law = ForgettingBounded::of(512);
        let point = Point::from(&ROW);
        let room = 512f64.ln() - ROW.loss_pt0;
        let [b, alpha, beta] = [300.0, 0.45, 0.6];
        let increase = |a: f64| law.predict(&point, &[a, b, alpha, beta]) - ROW.loss_pt0;
        let h = ForgettingPlusTokens.predict(&point, &[1e-6, b, alpha, beta]) - ROW.loss_pt0;
        assert!((increase(1e-6) / (room * h) - 1.0).abs() < 1e-5);
        assert_eq!((increase(0.0), increase(f64::MAX)), (0.0, room));
        let mut gradient = [1.0; 4];
        law.gradient(&point, &[f64::MAX, b, alpha, beta], &mut gradient);
        assert_eq!(gradient, [0.0; 4]);
        // Worse than the uniform model: nothing is left to forget, and no law is fitted to it.
        let worse = Row { loss_pt0: 7.0, ..ROW };
        assert_eq!(law.predict(&Point::from(&worse), &[0.7, b, alpha, beta]), 7.0);
        assert!(law.fault(&worse).unwrap().contains("6.24") && law.fault(&ROW).is_none());
    }

    #[test]
    fn a_vocabulary_has_one_law_and_one_name() {
        assert!(std::ptr::eq(ForgettingBounded::of(32_000), ForgettingBounded::of(32_000)));
        assert_eq!(by_name("forgetting-bounded-32000").unwrap().name(), "forgetting-bounded-32000");
        for bad in ["", "0", "1", "0512", "+512", "-1", "512.0", "1e3", "4294967296", "x"] {
            assert!(by_name(&format!("{NAME}{bad}")).is_err(), "{bad}");
        }
    }
}
