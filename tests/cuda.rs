//! The engine on a GPU, with the CUDA half of libtorch that the variable FORGETTING_LAWS_TORCH names.
//! Without the variable, or without a GPU, this says what was left out. One test: the half is loaded
//! once a process, before anything is computed.
#![cfg(feature = "train")]

use forgetting_laws::engine::{Network, Solo, Trainer, cuda, device, windows};
use forgetting_laws::model::{Precision, Shape};
use forgetting_laws::rng::Key;
use forgetting_laws::weight_decay::AdamW;
use tch::Device;

/// The losses of 50 steps.
fn losses(device: Device, precision: Precision) -> Vec<f64> {
    let shape = Shape::named("nano-small", 512, 64).unwrap();
    let network = Network::new(shape, Key::new(0), device).unwrap().in_precision(precision);
    let mut trainer = Trainer::new(network, AdamW::default(), 5.0).unwrap();
    let token = |i| Key::new(1).below(i, 8) as u32;
    let steps = (0..50u64).map(|step| {
        let tokens: Vec<u32> = (0..8 * 65).map(|i| token(1000 * step + i)).collect();
        let rows: Vec<&[u32]> = tokens.chunks(65).collect();
        trainer.step(&[windows(&rows, device)], 8 * 64, 1e-3, 1.0, &Solo).unwrap()
    });
    // Read at the end: no step waits for the one before.
    let losses: Vec<_> = steps.collect();
    losses.iter().map(|loss| loss.double_value(&[])).collect()
}

#[test]
fn a_gpu_computes_what_the_cpu_computes() {
    if std::env::var_os(cuda::FOLDER).is_none() {
        eprintln!("skipped: {} names no CUDA libtorch", cuda::FOLDER);
        return;
    }
    let found = cuda::load().expect("the variable names one");
    assert_eq!(found.refusal, None, "{}", found.words());
    assert!(tch::utils::has_cudart(), "the CUDA half has made itself known to libtorch");
    if cuda::count() == 0 {
        let error = device("cuda").unwrap_err().to_string();
        assert!(error.contains("found, but no CUDA device"), "{error}");
        assert_eq!(device("auto").unwrap(), Device::Cpu);
        assert_eq!(cuda::memory(0), None);
        eprintln!("skipped: {error}");
        return;
    }
    let gpu = device("auto").unwrap();
    assert_eq!(gpu, Device::Cuda(0));
    for (precision, tolerance) in [(Precision::F32, 1e-3), (Precision::Bf16, 2e-2)] {
        let pairs = losses(Device::Cpu, precision).into_iter().zip(losses(gpu, precision));
        for (step, (cpu, gpu)) in pairs.enumerate() {
            assert!((cpu - gpu).abs() < tolerance, "{precision:?}, step {step}: {cpu} and {gpu}");
        }
    }
    let (used, total) = cuda::memory(0).expect("the runtime tells");
    assert!(0 < used && used <= total, "{used} of {total}");
    let name = cuda::name(0).expect("the driver tells");
    eprintln!("{name}: {used} of {total} bytes in use");
}
