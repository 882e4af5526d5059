//! Weight decay (the paper's pretraining; Figure 17): three definitions of λ.
//!
//! The paper trains with AdamW and λ = 0.1 and notes issues with the weight decay of PyTorch and
//! Optax. Libraries indeed define λ in three ways, which are easily confused (optax #292, apex
//! #1849, Keras #19051). With g the gradient, η_t in [0, 1] the schedule's multiplier, α the peak
//! learning rate, lr = η_t·α, and u the update of Adam (Kingma & Ba, 2015):
//!
//! | [`WeightDecay`] | step | used by, with default λ |
//! |---|---|---|
//! | [`L2`](WeightDecay::L2) | g ← g + λ·θ, then θ ← θ − lr·u | PyTorch's `Adam(weight_decay=…)`, 0; Optax's `add_decayed_weights` *before* `adam`, 0 |
//! | [`TimesLr`](WeightDecay::TimesLr) | θ ← θ − lr·λ·θ − lr·u | PyTorch's `AdamW`, 1e-2; Optax's `adamw`, 1e-4 |
//! | [`FullyDecoupled`](WeightDecay::FullyDecoupled) | θ ← θ − η_t·λ·θ − lr·u | Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR 2019, Algorithm 2; neither library by default |
//!
//! The defaults of the two libraries differ by a factor of 100. The last two rows differ by a
//! factor 1/α: if fully decoupled, λ = 0.1 would shrink every weight by 10% at every step at the
//! peak rate, so the paper's 0.1 must include the learning rate as a factor. That is our default.
//! The inference is ours, since the paper does not say what the issues are.
//!
//! This module is plain arithmetic on slices. The training engine applies the same
//! [`AdamW::decay_factor`] and [`AdamW::gradient_decay`] to whole buffers and is checked against
//! [`AdamW::reference_step`], which in turn is checked against trajectories that PyTorch and Optax
//! computed (`golden/weight_decay`).

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// PyTorch adds this to the norm in the denominator of the clipping coefficient.
const CLIP_EPSILON: f64 = 1e-6;

/// The definition of λ. The table in the module documentation has the equations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightDecay {
    /// `"l2"`: λ·θ is added to the gradient before the moments see it, so that Adam rescales the
    /// decay together with the gradient.
    L2,
    /// `"times-lr"`: every step subtracts lr·λ·θ from the weights; PyTorch's and Optax's AdamW.
    #[default]
    TimesLr,
    /// `"fully-decoupled"`: every step subtracts η_t·λ·θ from the weights, for any peak rate;
    /// Loshchilov & Hutter's AdamW.
    FullyDecoupled,
}

impl WeightDecay {
    /// Converts `lambda` from this definition to the λ of `other` with the same decay at every
    /// step, for a peak learning rate α: lr·λ = η_t·(α·λ).
    ///
    /// # Errors
    /// If one of the two is [`WeightDecay::L2`] and the other is not: Adam rescales what is in the
    /// gradient, so no λ gives the same decay (Loshchilov & Hutter, 2019, Proposition 2). Also if λ
    /// or the peak is outside its domain.
    ///
    /// # Examples
    /// ```
    /// use forgetting_laws::weight_decay::WeightDecay::{FullyDecoupled, L2, TimesLr};
    ///
    /// // With the paper's 0.1 as a factor of the learning rate, a step at a peak of 1e-3 takes 1e-4 off.
    /// assert_eq!(TimesLr.convert(0.1, FullyDecoupled, 1e-3)?, 1e-4);
    /// assert_eq!(FullyDecoupled.convert(1e-4, TimesLr, 1e-3)?, 0.1);
    /// assert!(L2.convert(0.1, TimesLr, 1e-3).is_err());
    /// # Ok::<(), forgetting_laws::Error>(())
    /// ```
    pub fn convert(self, lambda: f64, other: Self, peak: f64) -> Result<f64> {
        if !(lambda.is_finite() && lambda >= 0.0) {
            return Err(Error::setting("weight_decay", lambda, "must be at least 0 and finite"));
        }
        if self == other {
            return Ok(lambda);
        }
        if self == Self::L2 || other == Self::L2 {
            let requirement = "has no equivalent: Adam rescales a decay that is in the gradient and \
                               none that is beside it; use AdamW on both sides";
            return Err(Error::setting("weight_decay", lambda, requirement));
        }
        if !(peak.is_finite() && peak > 0.0) {
            return Err(Error::setting("peak", peak, "must be a positive learning rate"));
        }
        Ok(if other == Self::FullyDecoupled { lambda * peak } else { lambda / peak })
    }
}

/// The kind of a parameter, for weight decay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ParamKind {
    /// The weight of a linear map.
    Matrix,
    /// An embedding table, of tokens (even if tied with the head) or of positions.
    Embedding,
    /// A vector: biases and the weights of normalisations.
    Vector,
}

/// Which parameters decay. The paper does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecayScope {
    /// `"all"`: every parameter, the default of PyTorch and Optax.
    All,
    /// `"matrices"`: tensors of two dimensions including embeddings, as in nanoGPT. Our default.
    #[default]
    Matrices,
    /// `"matrices-without-embeddings"`: linear maps only.
    MatricesWithoutEmbeddings,
}

impl DecayScope {
    /// Whether parameters of this kind decay.
    ///
    /// # Examples
    /// ```
    /// use forgetting_laws::weight_decay::{DecayScope, ParamKind};
    /// assert!(DecayScope::Matrices.applies(ParamKind::Embedding));
    /// assert!(!DecayScope::Matrices.applies(ParamKind::Vector));
    /// ```
    pub fn applies(self, kind: ParamKind) -> bool {
        match self {
            Self::All => true,
            Self::Matrices => kind != ParamKind::Vector,
            Self::MatricesWithoutEmbeddings => kind == ParamKind::Matrix,
        }
    }
}

/// The settings of the optimiser that are the same at every step.
///
/// The defaults are λ = 0.1 (from the paper), β = (0.9, 0.999) (the paper's is unknown; a sister
/// paper's, arXiv 2409.03137), and ε = 1e-8 (the paper's is unknown; PyTorch's and Optax's
/// default).
///
/// # Examples
/// ```
/// use forgetting_laws::weight_decay::{AdamW, Step};
///
/// let adamw = AdamW::default();
/// let (mut theta, mut m, mut v) = ([1.0], [0.0], [0.0]);
/// let step = Step { t: 1, lr: 1e-3, multiplier: 1.0 };
/// adamw.reference_step(&mut theta, &[0.0], &mut m, &mut v, step).unwrap();
/// assert_eq!(theta, [1.0 - 1e-3 * 0.1]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamW {
    /// Decay of the first moment per step, in [0, 1).
    pub beta1: f64,
    /// Decay of the second moment per step, in [0, 1).
    pub beta2: f64,
    /// ε, added to the root of the corrected second moment; above 0.
    pub eps: f64,
    /// λ, at least 0, as defined by `semantics`.
    pub weight_decay: f64,
    /// The definition of λ.
    pub semantics: WeightDecay,
    /// Which parameters decay.
    pub scope: DecayScope,
}

impl Default for AdamW {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.1,
            semantics: WeightDecay::default(),
            scope: DecayScope::default(),
        }
    }
}

/// What the optimiser needs to know about one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// The step's number, counted from 1 as in Adam's bias correction 1 − βᵗ.
    pub t: u64,
    /// Learning rate of this step, η_t·α; at least 0.
    pub lr: f64,
    /// η_t = lr / α: the schedule's multiplier at this step, at least 0, and 1 at the peak α of the
    /// run's schedule. Only [`WeightDecay::FullyDecoupled`] uses it.
    pub multiplier: f64,
}

impl Step {
    fn validate(&self) -> Result<()> {
        if self.t == 0 {
            return Err(Error::setting("t", self.t, "steps are counted from 1"));
        }
        for (name, value) in [("lr", self.lr), ("multiplier", self.multiplier)] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(Error::setting(name, value, "must be at least 0 and finite"));
            }
        }
        Ok(())
    }
}

impl AdamW {
    /// # Errors
    /// If a setting is outside the domain that its field states. ε = 0 is refused since the update
    /// of a weight without any gradient so far would be 0/0; fully decoupled λ ≥ 1 is refused since
    /// one step at the peak would take a weight to zero or past it.
    pub fn validate(&self) -> Result<()> {
        for (name, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(Error::setting(name, beta, "must be at least 0 and below 1"));
            }
        }
        if !(self.eps.is_finite() && self.eps > 0.0) {
            return Err(Error::setting("eps", self.eps, "must be above 0 and finite"));
        }
        let lambda = self.weight_decay;
        if !(lambda.is_finite() && lambda >= 0.0) {
            return Err(Error::setting("weight_decay", lambda, "must be at least 0 and finite"));
        }
        if self.semantics == WeightDecay::FullyDecoupled && lambda >= 1.0 {
            let requirement = "must be below 1 where fully decoupled: it is the share of a weight \
                               that one step at the peak takes off";
            return Err(Error::setting("weight_decay", lambda, requirement));
        }
        Ok(())
    }

    /// These settings for parameters of one kind: without decay if the scope excludes it.
    pub fn for_kind(self, kind: ParamKind) -> Self {
        let weight_decay = if self.scope.applies(kind) { self.weight_decay } else { 0.0 };
        Self { weight_decay, ..self }
    }

    /// The factor on the weights before Adam's update: 1 − lr·λ, 1 − η_t·λ, or 1 if the decay is in
    /// the gradient.
    pub fn decay_factor(&self, step: Step) -> f64 {
        match self.semantics {
            WeightDecay::L2 => 1.0,
            WeightDecay::TimesLr => 1.0 - step.lr * self.weight_decay,
            WeightDecay::FullyDecoupled => 1.0 - step.multiplier * self.weight_decay,
        }
    }

    /// How much of the weights is added to the gradient before the moments: λ for
    /// [`WeightDecay::L2`], else 0.
    pub fn gradient_decay(&self) -> f64 {
        match self.semantics {
            WeightDecay::L2 => self.weight_decay,
            WeightDecay::TimesLr | WeightDecay::FullyDecoupled => 0.0,
        }
    }

    /// One step of the optimiser on parameters that all decay, in the order of PyTorch: decay,
    /// moments, then θ ← θ − lr·m̂ / (√v̂ + ε).
    ///
    /// `m` and `v` are the two moments, all zeros before the first step. (Optax decays and updates
    /// at once, from the same θ: the same sum in another order.)
    ///
    /// # Errors
    /// If the slices differ in length, or a setting or the step is outside its domain; nothing is
    /// changed then.
    pub fn reference_step(
        &self,
        theta: &mut [f64],
        grad: &[f64],
        m: &mut [f64],
        v: &mut [f64],
        step: Step,
    ) -> Result<()> {
        self.validate()?;
        step.validate()?;
        for (name, len) in [("grad", grad.len()), ("m", m.len()), ("v", v.len())] {
            if len != theta.len() {
                let requirement = format!("must be as long as the parameters, {}", theta.len());
                return Err(Error::setting(format!("length of {name}"), len, requirement));
            }
        }
        let Self { beta1, beta2, eps, .. } = *self;
        let factor = self.decay_factor(step);
        let in_gradient = self.gradient_decay();
        let correction1 = 1.0 - beta1.powf(step.t as f64);
        let correction2 = 1.0 - beta2.powf(step.t as f64);
        for (((theta, &grad), m), v) in theta.iter_mut().zip(grad).zip(m).zip(v) {
            let g = grad + in_gradient * *theta;
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            let update = (*m / correction1) / ((*v / correction2).sqrt() + eps);
            *theta = *theta * factor - step.lr * update;
        }
        Ok(())
    }
}

/// Scales a gradient to at most the global norm `max_norm`, as PyTorch's `clip_grad_norm_` does,
/// and returns the Euclidean norm that it had before.
///
/// The coefficient is max_norm / (norm + 1e-6), at most 1: a clipped gradient is a little shorter
/// than `max_norm`. An infinite `max_norm` clips nothing. A norm that is not finite is returned as
/// it is and leaves NaN in the gradient where it was not finite (everywhere, for a NaN norm), as in
/// PyTorch. Callers should check the returned norm.
///
/// # Errors
/// If `max_norm` is not above 0.
///
/// # Examples
/// ```
/// let mut grad = [3.0, 4.0];
/// let norm = forgetting_laws::weight_decay::clip_global_norm(&mut grad, 1.0).unwrap();
/// assert_eq!(norm, 5.0);
/// assert!((grad[0] - 0.6).abs() < 1e-6);
/// ```
pub fn clip_global_norm(grad: &mut [f64], max_norm: f64) -> Result<f64> {
    if max_norm.is_nan() || max_norm <= 0.0 {
        return Err(Error::setting("max_norm", max_norm, "must be above 0"));
    }
    let norm = grad.iter().map(|g| g * g).sum::<f64>().sqrt();
    let coefficient = clip_coefficient(norm, max_norm);
    for g in grad {
        *g *= coefficient;
    }
    Ok(norm)
}

/// The factor that scales a gradient of global norm `norm` to at most `max_norm`.
pub(crate) fn clip_coefficient(norm: f64, max_norm: f64) -> f64 {
    let coefficient = max_norm / (norm + CLIP_EPSILON);
    // Not f64::min, which would turn a NaN into 1 and hide it.
    if coefficient > 1.0 { 1.0 } else { coefficient }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ParamKind::{Embedding, Matrix, Vector};
    use WeightDecay::{FullyDecoupled, L2, TimesLr};
    use approx::assert_relative_eq;
    use proptest::prelude::*;

    const SEMANTICS: [WeightDecay; 3] = [L2, TimesLr, FullyDecoupled];

    /// The parameters after each step of a run that repeats `grads`, one slice a step.
    fn run(adamw: AdamW, start: &[f64], grads: &[Vec<f64>], steps: &[Step]) -> Vec<Vec<f64>> {
        let mut theta = start.to_vec();
        let (mut m, mut v) = (vec![0.0; start.len()], vec![0.0; start.len()]);
        grads
            .iter()
            .zip(steps)
            .map(|(grad, &step)| {
                adamw.reference_step(&mut theta, grad, &mut m, &mut v, step).unwrap();
                theta.clone()
            })
            .collect()
    }

    fn steps(peak: f64, multipliers: &[f64]) -> Vec<Step> {
        multipliers
            .iter()
            .zip(1..)
            .map(|(&multiplier, t)| Step { t, lr: peak * multiplier, multiplier })
            .collect()
    }

    #[test]
    fn scopes_by_kind() {
        for (scope, expected) in [
            (DecayScope::All, [true, true, true]),
            (DecayScope::Matrices, [true, true, false]),
            (DecayScope::MatricesWithoutEmbeddings, [true, false, false]),
        ] {
            for (kind, applies) in [Matrix, Embedding, Vector].into_iter().zip(expected) {
                assert_eq!(scope.applies(kind), applies, "{scope:?} {kind:?}");
                let adamw = AdamW { scope, ..AdamW::default() }.for_kind(kind);
                assert_eq!(adamw.weight_decay, if applies { 0.1 } else { 0.0 });
            }
        }
    }

    #[test]
    fn names_in_configuration_files() {
        let text = r#"{"beta1":0.9,"beta2":0.999,"eps":1e-8,"weight_decay":0.1,"semantics":"times-lr","scope":"matrices"}"#;
        assert_eq!(serde_json::to_string(&AdamW::default()).unwrap(), text);
        assert_eq!(serde_json::from_str::<AdamW>("{}").unwrap(), AdamW::default());
        let read = |name| serde_json::from_value::<WeightDecay>(serde_json::json!(name)).unwrap();
        assert_eq!(["l2", "times-lr", "fully-decoupled"].map(read), SEMANTICS);
        let read = |name| serde_json::from_value::<DecayScope>(serde_json::json!(name)).unwrap();
        assert_eq!(read("all"), DecayScope::All);
        assert_eq!(read("matrices-without-embeddings"), DecayScope::MatricesWithoutEmbeddings);
        assert!(serde_json::from_str::<AdamW>(r#"{"wieght_decay": 0.1}"#).is_err());
    }

    #[test]
    fn settings_outside_their_domain_are_refused() {
        let good = AdamW::default();
        good.validate().unwrap();
        AdamW { beta1: 0.0, beta2: 0.0, weight_decay: 0.0, ..good }.validate().unwrap();
        AdamW { weight_decay: 1.0, ..good }.validate().unwrap();
        AdamW { weight_decay: 1.0, semantics: L2, ..good }.validate().unwrap();
        AdamW { weight_decay: 0.999, semantics: FullyDecoupled, ..good }.validate().unwrap();
        for (name, bad) in [
            ("beta1", AdamW { beta1: 1.0, ..good }),
            ("beta1", AdamW { beta1: f64::NAN, ..good }),
            ("beta2", AdamW { beta2: -0.1, ..good }),
            ("beta2", AdamW { beta2: 1.0, ..good }),
            ("eps", AdamW { eps: 0.0, ..good }),
            ("eps", AdamW { eps: f64::INFINITY, ..good }),
            ("weight_decay", AdamW { weight_decay: -1e-3, ..good }),
            ("weight_decay", AdamW { weight_decay: f64::INFINITY, ..good }),
            ("weight_decay", AdamW { weight_decay: 1.0, semantics: FullyDecoupled, ..good }),
        ] {
            let message = bad.validate().unwrap_err().to_string();
            assert!(message.starts_with(name), "{message}");
        }
    }

    /// A step that is refused leaves everything as it was.
    #[test]
    fn impossible_steps_are_refused() {
        let adamw = AdamW::default();
        let good = Step { t: 1, lr: 0.0, multiplier: 0.0 };
        let attempt = |adamw: AdamW, lens: [usize; 4], step| {
            let mut theta = vec![1.0; lens[0]];
            let (mut m, mut v) = (vec![0.0; lens[2]], vec![0.0; lens[3]]);
            let result =
                adamw.reference_step(&mut theta, &vec![1.0; lens[1]], &mut m, &mut v, step);
            let untouched =
                theta.iter().all(|&x| x == 1.0) && m.iter().chain(&v).all(|&x| x == 0.0);
            assert!(result.is_ok() || untouched);
            result
        };
        attempt(adamw, [2; 4], good).unwrap();
        for (bad, name) in [
            (Step { t: 0, ..good }, "t ="),
            (Step { lr: -1e-9, ..good }, "lr"),
            (Step { lr: f64::NAN, ..good }, "lr"),
            (Step { multiplier: -1e-9, ..good }, "multiplier"),
            (Step { multiplier: f64::INFINITY, ..good }, "multiplier"),
        ] {
            let message = attempt(adamw, [2; 4], bad).unwrap_err().to_string();
            assert!(message.starts_with(name), "{message}");
        }
        for (lens, name) in [
            ([2, 1, 2, 2], "length of grad = 1"),
            ([2, 2, 3, 2], "length of m = 3"),
            ([2, 2, 2, 0], "length of v = 0"),
        ] {
            let message = attempt(adamw, lens, good).unwrap_err().to_string();
            assert!(message.starts_with(name), "{message}");
        }
        assert!(attempt(AdamW { eps: -1.0, ..adamw }, [2; 4], good).is_err());
    }

    /// The first step by hand: m̂ = g and v̂ = g², so that Adam's update is g / (|g| + ε).
    #[test]
    fn first_step_by_hand() {
        let (peak, multiplier, lambda) = (0.2, 0.5, 0.25);
        let step = Step { t: 1, lr: peak * multiplier, multiplier };
        for (semantics, expected) in [
            (L2, 2.0 - 0.1 * 3.5 / (3.5 + 0.5)),
            (TimesLr, 2.0 - 0.1 * 0.25 * 2.0 - 0.1 * 3.0 / (3.0 + 0.5)),
            (FullyDecoupled, 2.0 - 0.5 * 0.25 * 2.0 - 0.1 * 3.0 / (3.0 + 0.5)),
        ] {
            let adamw = AdamW { eps: 0.5, weight_decay: lambda, semantics, ..AdamW::default() };
            let after = run(adamw, &[2.0], &[vec![3.0]], &[step]);
            // A few roundings of the last bit, amplified by 1 − β2 = 1e-3 in the correction.
            assert_relative_eq!(after[0][0], expected, max_relative = 1e-12);
        }
    }

    /// Why the paper's 0.1 must have the learning rate as a factor.
    #[test]
    fn fully_decoupled_tenth_empties_the_weights() {
        let plateau = steps(1e-3, &[1.0; 50]);
        let still = vec![vec![0.0]; 50];
        let last = |semantics| {
            let adamw = AdamW { semantics, ..AdamW::default() };
            run(adamw, &[1.0], &still, &plateau)[49][0]
        };
        assert_relative_eq!(last(FullyDecoupled), 0.9f64.powi(50), max_relative = 1e-12);
        assert_relative_eq!(last(TimesLr), 0.9999f64.powi(50), max_relative = 1e-12);
    }

    #[test]
    fn clipping_at_its_edges() {
        assert_eq!(clip_global_norm(&mut [], 1.0).unwrap(), 0.0);
        // Just short of the limit by the 1e-6 in the denominator, and just past it.
        let mut grad = [1.0 - 2e-6];
        clip_global_norm(&mut grad, 1.0).unwrap();
        assert_eq!(grad, [1.0 - 2e-6]);
        let mut grad = [1.0];
        clip_global_norm(&mut grad, 1.0).unwrap();
        assert_eq!(grad, [1.0 / (1.0 + 1e-6)]);
        let mut grad = [3e9, 4e9];
        assert_eq!(clip_global_norm(&mut grad, f64::INFINITY).unwrap(), 5e9);
        assert_eq!(grad, [3e9, 4e9]);
        for bad in [0.0, -1.0, f64::NAN] {
            assert!(clip_global_norm(&mut [1.0], bad).is_err());
        }
    }

    #[test]
    fn clipping_does_not_hide_what_is_not_finite() {
        let mut grad = [f64::INFINITY, 1.0];
        assert_eq!(clip_global_norm(&mut grad, 1.0).unwrap(), f64::INFINITY);
        assert!(grad[0].is_nan() && grad[1] == 0.0);
        let mut grad = [f64::NAN, 1.0];
        assert!(clip_global_norm(&mut grad, 1.0).unwrap().is_nan());
        assert!(grad.iter().all(|g| g.is_nan()));
    }

    prop_compose! {
        /// A start, gradients, multipliers and a peak rate.
        fn runs()(
            peak in 1e-5..0.1f64,
            start in prop::collection::vec(-2.0..2.0f64, 3),
            grads in prop::collection::vec(prop::collection::vec(-1.0..1.0f64, 3), 8),
            multipliers in prop::collection::vec(0.0..=1.0f64, 8),
        ) -> (f64, Vec<f64>, Vec<Vec<f64>>, Vec<f64>) {
            (peak, start, grads, multipliers)
        }
    }

    proptest! {
        #[test]
        fn without_decay_the_meanings_agree((peak, start, grads, multipliers) in runs()) {
            let steps = steps(peak, &multipliers);
            let [l2, times_lr, fully] = SEMANTICS.map(|semantics| {
                run(AdamW { weight_decay: 0.0, semantics, ..AdamW::default() }, &start, &grads, &steps)
            });
            prop_assert_eq!(&l2, &times_lr);
            prop_assert_eq!(&l2, &fully);
        }

        /// With lr = η_t·α, λ as a share of lr is λ·α as a share of η_t.
        #[test]
        fn times_lr_is_fully_decoupled_times_the_peak(
            (peak, start, grads, multipliers) in runs(), lambda in 0.0..1.0f64,
        ) {
            let steps = steps(peak, &multipliers);
            let times_lr = AdamW { weight_decay: lambda, ..AdamW::default() };
            let fully =
                AdamW { weight_decay: lambda * peak, semantics: FullyDecoupled, ..AdamW::default() };
            for (a, b) in run(times_lr, &start, &grads, &steps)
                .concat()
                .iter()
                .zip(run(fully, &start, &grads, &steps).concat())
            {
                // Eight steps, each within a few roundings of weights of size 2.
                prop_assert!((a - b).abs() < 1e-14, "{a} {b}");
            }
        }

        /// Decoupled decay shrinks every weight by the product of the factors, whatever the
        /// gradients: what is left between two runs that differ only in their start is that
        /// product.
        #[test]
        fn decoupled_decay_does_not_see_the_gradients(
            (peak, start, grads, multipliers) in runs(), lambda in 0.01..0.5f64,
        ) {
            let steps = steps(peak, &multipliers);
            let shifted: Vec<f64> = start.iter().map(|x| x + 1.0).collect();
            for semantics in [TimesLr, FullyDecoupled] {
                let adamw = AdamW { weight_decay: lambda, semantics, ..AdamW::default() };
                let low = run(adamw, &start, &grads, &steps);
                let high = run(adamw, &shifted, &grads, &steps);
                let mut left = 1.0;
                for ((low, high), step) in low.iter().zip(&high).zip(&steps) {
                    left *= 1.0 - lambda * if semantics == TimesLr { step.lr } else { step.multiplier };
                    for (low, high) in low.iter().zip(high) {
                        prop_assert!((high - low - left).abs() < 1e-13);
                    }
                }
            }
        }

        /// What the engine relies on: the factor on the weights and the share in the gradient,
        /// around an Adam without decay, are the whole of the semantics.
        #[test]
        fn decay_is_its_two_coefficients(
            (peak, start, grads, multipliers) in runs(), lambda in 0.0..0.9f64,
            semantics in prop::sample::select(SEMANTICS.to_vec()),
        ) {
            let adamw = AdamW { weight_decay: lambda, semantics, ..AdamW::default() };
            let plain = AdamW { weight_decay: 0.0, ..adamw };
            let steps = steps(peak, &multipliers);
            let (mut theta, mut m, mut v) = (start.clone(), vec![0.0; 3], vec![0.0; 3]);
            for ((grad, &step), expected) in
                grads.iter().zip(&steps).zip(run(adamw, &start, &grads, &steps))
            {
                let grad: Vec<f64> =
                    grad.iter().zip(&theta).map(|(g, x)| g + adamw.gradient_decay() * x).collect();
                theta.iter_mut().for_each(|x| *x *= adamw.decay_factor(step));
                plain.reference_step(&mut theta, &grad, &mut m, &mut v, step).unwrap();
                prop_assert_eq!(&theta, &expected);
            }
        }

        #[test]
        fn clipping_keeps_the_direction_and_bounds_the_norm(
            grad in prop::collection::vec(-10.0..10.0f64, 1..20), max_norm in 0.01..20.0f64,
        ) {
            let mut clipped = grad.clone();
            let norm = clip_global_norm(&mut clipped, max_norm).unwrap();
            let after = clipped.iter().map(|g| g * g).sum::<f64>().sqrt();
            if norm + CLIP_EPSILON <= max_norm {
                prop_assert_eq!(&clipped, &grad);
            } else {
                prop_assert!(after <= max_norm && after >= max_norm * (1.0 - 2e-6 / norm));
                for (c, g) in clipped.iter().zip(&grad) {
                    prop_assert!((c * norm - g * after).abs() <= 1e-12 * norm * norm);
                }
            }
        }
    }
}
