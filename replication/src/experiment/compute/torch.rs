//! Queries of libtorch.

use super::Effort;
use forgetting_laws::Error;
use forgetting_laws::engine::torch::{Collectives, Torch, cuda};
use forgetting_laws::engine::{Engine, Solo};
use forgetting_laws::memory::Passes;
use forgetting_laws::model::Precision;
use std::any::Any;
use std::time::Instant;
use tch::{Device, Kind, TchError, Tensor};

pub fn engine<'a>(
    device: Device,
    effort: Effort,
    ranks: Option<&'a dyn Collectives>,
) -> Box<dyn Engine + 'a> {
    let Effort { threads, passes: Passes { micro_batch, recompute } } = effort;
    let comm = ranks.unwrap_or(&Solo);
    Box::new(Torch { device, comm, micro_batch, recompute, threads })
}

/// `cpu`, or `cuda:N` and the name of the device.
pub fn device_name(device: Device) -> String {
    match device {
        Device::Cuda(index) => {
            let name = cuda::name(index).map(|name| format!(" {name}")).unwrap_or_default();
            format!("cuda:{index}{name}")
        }
        other => format!("{other:?}").to_lowercase(),
    }
}

/// The versions of libtorch (and of CUDA if it computes) and of the bindings.
pub fn versions(device: Device) -> String {
    let cuda = match device {
        Device::Cuda(_) => cuda::load().map(|found| format!(", libtorch_cuda {}", found.version)),
        _ => None,
    };
    format!("libtorch {}{}, tch 0.24.0", env!("REPLICATION_LIBTORCH"), cuda.unwrap_or_default())
}

/// The library of matrix products on the CPU.
pub fn blas() -> String {
    if tch::utils::has_mkl() { "MKL" } else { "not MKL" }.into()
}

/// How many GPUs this process can use.
pub fn gpus() -> usize {
    cuda::count()
}

/// FLOP/s of a square matrix product, the best of several.
pub fn matmul_rate(device: Device, threads: i32, precision: Precision) -> f64 {
    tch::set_num_threads(threads);
    let n = if device.is_cuda() { 8192 } else { 1024 };
    let kind = match precision {
        Precision::F32 => Kind::Float,
        Precision::Bf16 => Kind::BFloat16,
    };
    let a = Tensor::ones([n, n], (kind, device));
    let seconds = (0..5).map(|_| {
        let begun = Instant::now();
        // Reading one element waits for the device.
        let _ = a.matmul(&a).double_value(&[0, 0]);
        begun.elapsed().as_secs_f64()
    });
    2.0 * (n as f64).powi(3) / seconds.fold(f64::INFINITY, f64::min)
}

/// The message of libtorch, if the panic is from a function of tch that returns no `Result`. In most
/// cases it is too little memory.
pub fn refusal(panic: &(dyn Any + Send)) -> Option<Error> {
    let message = panic.downcast_ref::<String>()?;
    let said = message.strip_prefix("called `Result::unwrap()` on an `Err` value: Torch(\"")?;
    // The rest is a trace of C++ functions, with its line ends escaped.
    let said = said.split("\\n").next().unwrap_or_default();
    Some(Error::Torch(TchError::Torch(said.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::catch_unwind;

    #[test]
    fn a_refusal_is_an_error_and_other_panics_are_none() {
        let too_much = || Tensor::zeros([1 << 60], (Kind::Float, Device::Cpu));
        let panic = catch_unwind(|| too_much().numel()).unwrap_err();
        let message = refusal(&*panic).unwrap().to_string();
        assert!(message.starts_with("libtorch: ") && message.contains("memory"), "{message}");
        assert!(!message.contains('\n') && !message.contains("frame #"), "{message}");
        let panic = catch_unwind(|| panic!("a bug in {}", 7)).unwrap_err();
        assert!(refusal(&*panic).is_none());
    }
}
