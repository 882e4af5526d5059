//! The engine on a GPU, with the CUDA half of libtorch that the variable FORGETTING_LAWS_TORCH names.
//! Without the variable, or without a GPU, this says what was left out. One test: the half is loaded
//! once a process, before anything is computed.
#![cfg(feature = "torch")]

use forgetting_laws::Result;
use forgetting_laws::engine::Solo;
use forgetting_laws::engine::torch::{Network, Trainer, cuda, device, windows};
use forgetting_laws::model::{
    Activation, Attention, Head, Mlp, Norm, NormKind, Positions, Precision, Residual, Rotary,
    RotaryScaling, Shape,
};
use forgetting_laws::rng::Key;
use forgetting_laws::weight_decay::{AdamW, Step};
use std::ffi::c_int;
use tch::{Device, Tensor};

/// GPT-2's blocks, and those of other families: between them every choice of a shape.
fn shapes() -> Vec<Shape> {
    let gpt2 = Shape::named("nano-small", 512, 64).unwrap();
    let scaling = RotaryScaling { factor: 8.0, low: 1.0, high: 4.0, original: 16.0 };
    let rotary = |fraction, scaling| Rotary { fraction, scaling, ..Rotary::default() };
    let llama = Shape {
        n_heads: 6,
        positions: Positions::Rotary,
        norm: Norm { kind: NormKind::Rms, epsilon: 1e-6 },
        attention: Attention {
            n_kv_heads: Some(2),
            rotary: rotary(1.0, Some(scaling)),
            ..Attention::default()
        },
        mlp: Mlp { d_ff: Some(128), activation: Activation::Swiglu },
        head: Head::Own,
        ..gpt2
    };
    let grouped = llama.attention;
    let qwen2 = Attention { qkv_bias: true, ..grouped };
    let qwen3 = Attention { qk_norm: true, head_width: Some(16), ..grouped };
    let olmo2 = Attention { qk_norm: true, qk_norm_of_all_heads: true, ..grouped };
    let clipped = Attention { clip_qkv: Some(0.5), ..Attention::default() };
    vec![
        gpt2,
        llama,
        Shape { attention: qwen2, head: Head::Tied, ..llama },
        Shape { attention: qwen3, ..llama },
        Shape { attention: olmo2, residual: Residual::NormAfter, ..llama },
        Shape { attention: clipped, norm: Norm { kind: NormKind::Plain, epsilon: 1e-5 }, ..llama },
        Shape {
            bias: true,
            positions: Positions::Rotary,
            attention: Attention { rotary: rotary(0.25, None), ..Attention::default() },
            mlp: Mlp { d_ff: None, activation: Activation::Gelu },
            residual: Residual::Parallel,
            head: Head::Own,
            ..gpt2
        },
    ]
}

fn trainer(shape: Shape, device: Device, precision: Precision) -> Trainer {
    let network = Network::new(shape, Key::new(0), device).unwrap();
    let network = network.in_precision(precision).unwrap();
    Trainer::new(network, AdamW::default(), 5.0).unwrap()
}

/// The windows of a step, `[8, 65]`.
fn batch(step: u64, device: Device) -> Result<Tensor> {
    let token = |i| Key::new(1).below(1000 * step + i, 8) as u32;
    let tokens: Vec<u32> = (0..8 * 65).map(token).collect();
    windows(&tokens.chunks(65).collect::<Vec<_>>(), device)
}

/// The optimiser's step on the i-th windows.
fn at(i: u64) -> Step {
    Step { t: i + 1, lr: 1e-3, multiplier: 1.0 }
}

/// The losses of 50 steps.
fn losses(shape: Shape, device: Device, precision: Precision) -> Vec<f64> {
    let mut trainer = trainer(shape, device, precision);
    let mut step = |i| trainer.step([batch(i, device)], 8 * 64, at(i), &Solo).unwrap();
    // Read at the end: no step waits for the one before.
    let losses: Vec<_> = (0..50).map(&mut step).collect();
    losses.iter().map(|loss| loss.double_value(&[])).collect()
}

/// libtorch's own check (`torch.cuda.set_sync_debug_mode`): where it is on, whatever would wait for
/// the GPU is an error.
#[allow(unsafe_code, reason = "libtorch has no function for it that C could call")]
fn refuse_to_wait(on: bool) {
    /// `c10::cuda::SyncDebugMode`.
    const DISABLED: c_int = 0;
    const ERROR: c_int = 2;
    // The one variable of c10::cuda::warning_state(), which holds nothing but the mode.
    let name = c"_ZZN3c104cuda13warning_stateEvE14warning_state_";
    // SAFETY: the name is a C string; the variable is an enum of C's int, and no other thread of this
    // process computes.
    unsafe {
        let mode = libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()).cast::<c_int>();
        assert!(!mode.is_null(), "this libtorch keeps its mode elsewhere");
        mode.write_volatile(if on { ERROR } else { DISABLED });
    }
}

/// Steps as [`losses`] takes them, and that they do not wait is what is tested.
fn steps_that_wait_for_nothing(shape: Shape, gpu: Device) {
    for precision in [Precision::F32, Precision::Bf16] {
        let mut trainer = trainer(shape, gpu, precision);
        // The first ones fetch libraries and memory.
        let mut step = |i| trainer.step([batch(i, gpu)], 8 * 64, at(i), &Solo).unwrap();
        (0..3).for_each(|i| drop(step(i)));
        refuse_to_wait(true);
        let loss = (3..10).map(&mut step).reduce(|a, b| a + b).unwrap();
        let read = loss.f_double_value(&[]);
        refuse_to_wait(false);
        assert!(read.is_err(), "reading a loss waits, and the check knows");
    }
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
    for shape in shapes() {
        for (precision, tolerance) in [(Precision::F32, 1e-3), (Precision::Bf16, 2e-2)] {
            let losses = |device| losses(shape, device, precision);
            for (step, (cpu, gpu)) in losses(Device::Cpu).into_iter().zip(losses(gpu)).enumerate() {
                let close = (cpu - gpu).abs() < tolerance;
                assert!(close, "{shape:?}, {precision:?}, step {step}: {cpu} and {gpu}");
            }
        }
        steps_that_wait_for_nothing(shape, gpu);
    }
    let (used, total) = cuda::memory(0).expect("the runtime tells");
    assert!(0 < used && used <= total, "{used} of {total}");
    let name = cuda::name(0).expect("the driver tells");
    eprintln!("{name}: {used} of {total} bytes in use");
}
