//! Training steps per second, as a JSON line a size: the counterpart of `peer/train_step.py` and
//! `peer/compiled.py`, which measure PyTorch on the same model and step.
//!
//! `cargo bench -p benches --profile dev --bench train_step -- [--size NAME] [--engine cpu|torch]
//! [--device NAME] [--precision f32|bf16] [--batch N] [--micro-batch N] [--recompute true]
//! [--threads N] [--seconds S]`
//!
//! Without a size, the four that docs/performance.md compares on a CPU. Without an engine, this crate's
//! own where it can: on a CPU in f32. Vocabulary and context are those of the size's preset. A folder in the
//! place of a size has the `config.json` of any model that this library reads.

use benches::{argument, precision};
use forgetting_laws::checkpoint::Checkpoint;
use forgetting_laws::data::sequences::Window;
use forgetting_laws::engine::cpu::Cpu;
use forgetting_laws::engine::torch::{self, Torch, cuda};
use forgetting_laws::engine::{Engine, Solo};
use forgetting_laws::model::{PAPER_CONTEXT, PAPER_VOCAB, Precision, Shape};
use forgetting_laws::rng::Key;
use forgetting_laws::weight_decay::{AdamW, Step};
use std::path::Path;
use std::time::Instant;
use tch::Device;

/// What all sizes share.
struct Settings {
    engine: String,
    device: Device,
    precision: Precision,
    batch: usize,
    /// Sequences per pass of libtorch.
    micro_batch: usize,
    /// Whether the activations of blocks are computed again in the backward pass.
    recompute: bool,
    threads: usize,
    seconds: f64,
}

fn main() {
    let device =
        torch::device(&argument("--device", "cpu")).unwrap_or_else(|error| panic!("{error}"));
    let precision = precision("f32");
    let own = device == Device::Cpu && precision.is_f32();
    let batch: usize = argument("--batch", "16").parse().expect("--batch takes a number");
    let micro_batch = argument("--micro-batch", &batch.to_string());
    let settings = Settings {
        engine: argument("--engine", if own { "cpu" } else { "torch" }),
        device,
        precision,
        batch,
        micro_batch: micro_batch.parse().expect("--micro-batch takes a number"),
        recompute: argument("--recompute", "false")
            .parse()
            .expect("--recompute takes true or false"),
        threads: argument("--threads", "1").parse().expect("--threads takes a number"),
        seconds: argument("--seconds", "5").parse().expect("--seconds takes a number"),
    };
    let only = argument("--size", "");
    let sizes = match only.as_str() {
        "" => vec!["nano-tiny", "nano-small", "nano-medium", "nano-large"],
        size => vec![size],
    };
    let Settings { threads, recompute, .. } = settings;
    let of_torch = |threads| Torch {
        device: settings.device,
        comm: &Solo,
        micro_batch: settings.micro_batch,
        recompute,
        threads,
    };
    for size in sizes {
        let line = match settings.engine.as_str() {
            "cpu" => measure(size, &Cpu { threads, recompute }, &settings),
            "torch" => measure(size, &of_torch(threads as i32), &settings),
            _ => panic!("--engine takes cpu or torch"),
        };
        println!("{line}");
    }
}

/// Median and best over chunks of steps. The host waits for the device at the end of a chunk alone.
fn measure(size: &str, engine: &dyn Engine, settings: &Settings) -> String {
    let &Settings { device, precision, batch, threads, seconds, .. } = settings;
    let (vocab, context) = match size.split('-').next() {
        Some("nano") => (512, 64),
        Some("mini") => (4_096, 256),
        _ => (PAPER_VOCAB, PAPER_CONTEXT),
    };
    let shape = if Path::new(size).is_dir() {
        Checkpoint::read_shape(Path::new(size))
    } else {
        Shape::named(size, vocab, context)
    };
    let shape = shape.unwrap_or_else(|error| panic!("{error}"));
    let Shape { vocab, context, .. } = shape;
    let model = Checkpoint::initial(shape, Key::new(0)).expect("a valid shape");
    let training = engine.training(&model, precision, AdamW::default(), 5.0);
    let mut training = training.unwrap_or_else(|error| panic!("{error}"));
    let token = |i| Key::new(1).below(i, vocab as u64) as u32;
    let tokens: Vec<u32> = (0..(batch * (context + 1)) as u64).map(token).collect();
    let windows: Vec<_> = tokens
        .chunks(context + 1)
        .map(|row| Window { tokens: row.into(), counted: None })
        .collect();
    let mut steps = |count: usize| {
        let begun = Instant::now();
        for _ in 0..count {
            let step = Step { t: 1, lr: 1e-4, multiplier: 1.0 };
            training.step(&windows, step).expect("one process loses no other");
        }
        training.loss_sums().expect("one process loses no other");
        (batch * context * count) as f64 / begun.elapsed().as_secs_f64()
    };
    let chunk = if shape.count().paper() < 1_000_000 { 20 } else { 5 };
    steps(chunk);
    let begun = Instant::now();
    let mut rates = Vec::new();
    while begun.elapsed().as_secs_f64() < seconds || rates.len() < 5 {
        rates.push(steps(chunk));
    }
    rates.sort_by(f64::total_cmp);
    let (median, best) = (rates[rates.len() / 2], rates[rates.len() - 1]);
    let gflops = median * shape.train_flops_per_token() / 1e9;
    let (name, memory) = match device {
        Device::Cuda(index) => (cuda::name(index).unwrap_or_default(), cuda::memory(index)),
        _ => ("cpu".into(), None),
    };
    let memory = memory.map_or("null".into(), |(used, _)| format!("{:.2}", used as f64 / 1e9));
    let precision = if precision.is_f32() { "f32" } else { "bf16" };
    format!(
        "{{\"size\": \"{size}\", \"engine\": \"{}\", \"device\": \"{name}\", \"precision\": \"{precision}\", \
         \"batch\": {batch}, \"threads\": {threads}, \"tokens_per_s\": {median:.0}, \
         \"best_tokens_per_s\": {best:.0}, \"train_gflops\": {gflops:.1}, \"gpu_gb\": {memory}}}",
        engine.kind()
    )
}
