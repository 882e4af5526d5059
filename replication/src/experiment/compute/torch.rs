//! Queries of libtorch.

use super::Effort;
use forgetting_laws::engine::torch::{Collectives, Torch, cuda};
use forgetting_laws::engine::{Engine, Solo};
use forgetting_laws::memory::Passes;
use forgetting_laws::model::Precision;
use std::time::Instant;
use tch::{Device, Kind, Tensor};

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
