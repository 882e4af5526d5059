//! libtorch's fused AdamW: one pass over gradient, parameters and moments, where a chain of operations
//! on whole buffers makes some twenty.
//!
//! The bindings lack it, so it is looked up by its C++ name, which spells out the types of its
//! arguments. A libtorch in which it takes other arguments has no such name; then the chain of
//! operations is used.

use super::cuda::symbol;
use crate::Result;
use crate::weight_decay::AdamW;
use std::ffi::{CStr, c_void};
use std::sync::OnceLock;
use tch::{Kind, Tensor};

/// `at::_ops::_fused_adamw_::call(TensorList self, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs,
/// state_steps, double lr, beta1, beta2, weight_decay, eps, bool amsgrad, maximize,
/// optional<Tensor> grad_scale, found_inf)`.
const NAME: &CStr = c"_ZN2at4_ops13_fused_adamw_4callEN3c108ArrayRefINS_6TensorEEES5_S5_S5_S5_S5_dddddbbRKSt8optionalIS4_ES9_";

type Call = unsafe extern "C-unwind" fn(
    List,
    List,
    List,
    List,
    List,
    List,
    f64,
    f64,
    f64,
    f64,
    f64,
    bool,
    bool,
    &Nothing,
    &Nothing,
);

/// `c10::ArrayRef<at::Tensor>`.
#[repr(C)]
#[derive(Clone, Copy)]
struct List {
    first: *const c_void,
    len: usize,
}

impl List {
    const EMPTY: Self = Self { first: std::ptr::null(), len: 0 };

    /// tch's pointer is to an `at::Tensor`: a list of one.
    fn of(tensor: &Tensor) -> Self {
        Self { first: tensor.as_ptr().cast(), len: 1 }
    }
}

/// An empty `std::optional<at::Tensor>`: room for a pointer, and a flag.
#[repr(C)]
struct Nothing([usize; 2]);

/// The function of this libtorch.
pub(super) struct Fused(Call);

/// The function, if this libtorch has it.
#[allow(unsafe_code, reason = "the bindings lack a function of libtorch's")]
pub(super) fn find() -> Option<Fused> {
    static CALL: OnceLock<Option<Call>> = OnceLock::new();
    let call = *CALL.get_or_init(|| {
        // SAFETY: the name says the types of the arguments, which are those of `Call`.
        symbol(NAME).map(|address| unsafe { std::mem::transmute::<*mut c_void, Call>(address) })
    });
    call.map(Fused)
}

/// The buffers of a step: parameters, gradient and moments, f32 of one length on one device.
pub(super) struct Buffers<'a> {
    pub theta: &'a mut Tensor,
    pub gradient: &'a Tensor,
    pub m: &'a mut Tensor,
    pub v: &'a mut Tensor,
}

impl Fused {
    /// Moments and parameters of step `t`, counted from 1, without decay.
    ///
    /// # Errors
    /// If libtorch refuses memory for the number of the step.
    #[allow(unsafe_code, reason = "the bindings lack a function of libtorch's")]
    pub(super) fn step(&self, buffers: Buffers<'_>, adamw: &AdamW, lr: f64, t: u64) -> Result<()> {
        let Buffers { theta, gradient, m, v } = buffers;
        let steps = Tensor::f_full([1], t as f64, (Kind::Float, theta.device()))?;
        let nothing = Nothing([0; 2]);
        let AdamW { beta1, beta2, eps, .. } = *adamw;
        // SAFETY: the tensors live through the call, which changes those that are borrowed to be
        // changed; lists, numbers and empty optionals are passed as C++ passes them where it has this
        // name: on Linux, with libstdc++.
        unsafe {
            (self.0)(
                List::of(theta),
                List::of(gradient),
                List::of(m),
                List::of(v),
                List::EMPTY,
                List::of(&steps),
                lr,
                beta1,
                beta2,
                0.0,
                eps,
                false,
                false,
                &nothing,
                &nothing,
            );
        }
        Ok(())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::rng::Key;
    use crate::weight_decay::Step;
    use tch::no_grad;

    /// On the CPU, which has the function too.
    #[test]
    fn it_is_the_reference() {
        let fused = find().expect("libtorch has it under another name");
        let (adamw, len) = (AdamW { weight_decay: 0.0, ..AdamW::default() }, 70_001);
        let numbers = |seed: u64| (0..len).map(move |i| Key::new(seed).normal(i));
        let mut expected: Vec<f64> = numbers(0).map(|x| f64::from(x as f32)).collect();
        let (mut m, mut v) = (vec![0.0; expected.len()], vec![0.0; expected.len()]);
        let f32s = |values: &[f64]| Tensor::from_slice(values).to_kind(Kind::Float);
        let (mut theta, mut fm, mut fv) = (f32s(&expected), f32s(&m), f32s(&v));
        for t in 1..=5 {
            let gradient: Vec<f64> = numbers(t).map(|x| f64::from(x as f32)).collect();
            let step = Step { t, lr: 1e-2, multiplier: 1.0 };
            adamw.reference_step(&mut expected, &gradient, &mut m, &mut v, step).unwrap();
            let gradient = f32s(&gradient);
            let buffers =
                Buffers { theta: &mut theta, gradient: &gradient, m: &mut fm, v: &mut fv };
            no_grad(|| fused.step(buffers, &adamw, step.lr, step.t)).unwrap();
        }
        for (found, expected) in [(&theta, &expected), (&fm, &m), (&fv, &v)] {
            let far = (found.to_kind(Kind::Double) - Tensor::from_slice(expected)).abs().max();
            assert!(far.double_value(&[]) < 2e-6, "{far:?}");
        }
    }
}
