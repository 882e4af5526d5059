//! What a training is planned to hold, and what it holds: of this process's memory, which Linux tells.
#![cfg(all(feature = "train", target_os = "linux", target_env = "gnu"))]
#![allow(unsafe_code, reason = "the allocator is asked for what it has given")]

use forgetting_laws::checkpoint::Checkpoint;
use forgetting_laws::data::sequences::{Sequences, Window};
use forgetting_laws::engine::Engine;
use forgetting_laws::engine::cpu::Cpu;
use forgetting_laws::memory::{Passes, Workload};
use forgetting_laws::model::{
    Activation, Attention, Head, Mlp, Norm, NormKind, Positions, Precision, Residual, Rotary, Shape,
};
use forgetting_laws::rng::Key;
use forgetting_laws::run::EngineKind;
use forgetting_laws::weight_decay::{AdamW, Step};

/// Models of each form, large enough that tensors outweigh all else.
fn shapes() -> Vec<(&'static str, Shape)> {
    let gpt2 = Shape::gpt2(6, 256, 4, 2_000, 128);
    let llama = Shape {
        positions: Positions::Rotary,
        norm: Norm { kind: NormKind::Rms, epsilon: 1e-6 },
        mlp: Mlp { d_ff: Some(672), activation: Activation::Swiglu },
        head: Head::Own,
        ..gpt2
    };
    let grouped = Attention { n_kv_heads: Some(2), ..Attention::default() };
    let quarter = Rotary { fraction: 0.25, ..Rotary::default() };
    vec![
        ("GPT-2", Shape { bias: true, ..gpt2 }),
        ("Llama", llama),
        ("Llama with grouped heads", Shape { attention: grouped, ..llama }),
        ("Qwen2", Shape { attention: Attention { qkv_bias: true, ..grouped }, ..llama }),
        ("Qwen3", Shape { attention: Attention { qk_norm: true, ..grouped }, ..llama }),
        ("Qwen3 without groups", {
            Shape { attention: Attention { qk_norm: true, ..Attention::default() }, ..llama }
        }),
        ("OLMo", Shape { norm: Norm { kind: NormKind::Plain, epsilon: 1e-5 }, ..llama }),
        ("OLMo of 2024", {
            let attention = Attention { clip_qkv: Some(8.0), ..Attention::default() };
            Shape { norm: Norm { kind: NormKind::Plain, epsilon: 1e-5 }, attention, ..llama }
        }),
        ("OLMo 2", {
            let attention =
                Attention { qk_norm: true, qk_norm_of_all_heads: true, ..Attention::default() };
            Shape { residual: Residual::NormAfter, attention, ..llama }
        }),
        ("Pythia", {
            let attention = Attention { rotary: quarter, ..Attention::default() };
            let mlp = Mlp { d_ff: None, activation: Activation::Gelu };
            Shape { bias: true, residual: Residual::Parallel, attention, mlp, ..llama }
        }),
    ]
}

fn tokens(shape: &Shape, sequences: usize) -> Vec<Vec<u32>> {
    let token = |key: Key, i| key.below(i, shape.vocab as u64) as u32;
    let row = |i| (0..=shape.context as u64).map(|t| token(Key::new(i), t)).collect();
    (0..sequences as u64).map(row).collect()
}

/// Bytes of a line of this process's status.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let kib = line.trim_start_matches(':').trim().strip_suffix("kB").unwrap();
    1024 * kib.trim().parse::<u64>().unwrap()
}

/// Tokens of the evaluation, as many as libtorch takes through a model at a time.
const EVALUATED: u64 = 4_096;

/// The most memory that some steps of a training and an evaluation take, beside what was there before, and
/// what is planned.
fn peak(engine: &dyn Engine, workload: Workload, passes: Passes) -> (u64, u64) {
    let model = Checkpoint::initial(workload.shape, Key::new(0)).unwrap();
    let rows = tokens(&workload.shape, workload.batch);
    let windows: Vec<_> =
        rows.iter().map(|row| Window { tokens: row.into(), counted: None }).collect();
    let set = (0..=EVALUATED).map(|i| Key::new(i).below(0, workload.shape.vocab as u64) as u32);
    let set = Sequences::new(set.collect(), workload.shape.context).unwrap();
    // SAFETY: it gives free memory back to the system.
    unsafe { libc::malloc_trim(0) };
    // 5: the most that was held begins anew.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS");
    let mut training = engine.training(&model, workload.precision, AdamW::default(), 1.0).unwrap();
    for t in 1..=3 {
        training.step(&windows, Step { t, lr: 1e-3, multiplier: 1.0 }).unwrap();
    }
    assert!(training.evaluate(&set).unwrap().is_finite());
    // The CPU's engine counts the model that the training began with, which was there before.
    let given = if workload.engine == EngineKind::Cpu { 4 * model.theta.len() as u64 } else { 0 };
    (status("VmHWM") - before + given, workload.memory(passes).total())
}

#[track_caller]
fn assert_planned(what: &str, (found, planned): (u64, u64), range: std::ops::Range<f64>) {
    let ratio = found as f64 / planned as f64;
    println!("{what}: {found} bytes, {planned} planned, {ratio:.3}");
    assert!(range.contains(&ratio), "{what}: {found} bytes, {planned} planned, {ratio:.3}");
}

/// One test: others beside it would be measured with it.
#[test]
fn what_is_planned_is_held() {
    // SAFETY: it sets a number. What is large is given back at once, so that no gaps are measured.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 17) };
    for (name, shape) in shapes() {
        let whole = ["GPT-2", "Qwen3", "Pythia"].contains(&name);
        for (recompute, threads) in [(false, 1), (true, 1), (false, 2)] {
            if !whole {
                continue;
            }
            let workload = Workload {
                shape,
                engine: EngineKind::Cpu,
                on_gpu: false,
                precision: Precision::F32,
                threads,
                batch: 8,
            };
            let passes = Passes { micro_batch: 8, recompute };
            let found = peak(&Cpu { threads, recompute }, workload, passes);
            assert_planned(&format!("cpu, {name}, {recompute}, {threads}"), found, 0.9..1.1);
        }
        #[cfg(feature = "torch")]
        on_libtorch::check(name, shape, whole);
    }
}

#[cfg(feature = "torch")]
mod on_libtorch {
    use super::*;
    use forgetting_laws::engine::Solo;
    use forgetting_laws::engine::torch::{Network, Torch};
    use tch::{Device, Tensor};

    /// Bytes that the allocator has given and not got back.
    fn in_use() -> u64 {
        // SAFETY: it takes nothing and returns numbers.
        let info = unsafe { libc::mallinfo2() };
        (info.uordblks + info.hblkhd) as u64
    }

    /// What a forward leaves for the backward.
    fn kept(workload: &Workload) -> u64 {
        let model = Checkpoint::initial(workload.shape, Key::new(0)).unwrap();
        let network = Network::from_checkpoint(&model, Device::Cpu).unwrap();
        let network = network.in_precision(workload.precision).unwrap();
        let rows = tokens(&workload.shape, workload.batch);
        let flat: Vec<i64> = rows
            .iter()
            .flat_map(|row| &row[..workload.shape.context])
            .map(|&token| i64::from(token))
            .collect();
        let inputs = Tensor::from_slice(&flat).view([workload.batch as i64, -1]);
        // What libtorch allocates once.
        drop(network.hidden(&inputs).unwrap());
        let before = in_use();
        let hidden = network.hidden(&inputs).unwrap();
        let found = in_use() - before;
        drop(hidden);
        found
    }

    pub fn check(name: &str, shape: Shape, whole: bool) {
        tch::set_num_threads(1);
        for precision in [Precision::F32, Precision::Bf16] {
            let workload = Workload {
                shape,
                engine: EngineKind::Torch,
                on_gpu: false,
                precision,
                threads: 1,
                batch: 8,
            };
            let all = Passes { micro_batch: 8, recompute: false };
            let planned = workload.memory(all).activations;
            let what = format!("libtorch keeps, {name}, {precision:?}");
            assert_planned(&what, (kept(&workload), planned), 0.99..1.02);
            for recompute in [false, true] {
                if !whole {
                    continue;
                }
                let passes = Passes { recompute, ..all };
                let engine = Torch {
                    device: Device::Cpu,
                    comm: &Solo,
                    micro_batch: 8,
                    recompute,
                    threads: 1,
                };
                let found = peak(&engine, workload, passes);
                let what = format!("libtorch, {name}, {precision:?}, {recompute}");
                assert_planned(&what, found, 0.8..1.05);
            }
        }
    }
}
