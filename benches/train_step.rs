//! Training steps per second, as a JSON line a size: the counterpart of `peer/train_step.py` and
//! `peer/compiled.py`, which measure PyTorch on the same model and step.
//!
//! `cargo bench -p benches --profile dev --bench train_step -- [--size NAME] [--device NAME]
//! [--precision f32|bf16] [--batch N] [--threads N] [--seconds S]`
//!
//! Without a size, the three that the README compares on the CPU. Vocabulary and context are those of
//! the size's preset.

use benches::{argument, precision};
use forgetting_laws::engine::Solo;
use forgetting_laws::engine::torch::{self, Network, Trainer, cuda, windows};
use forgetting_laws::model::{PAPER_CONTEXT, PAPER_VOCAB, Precision, Shape};
use forgetting_laws::rng::Key;
use forgetting_laws::weight_decay::{AdamW, Step};
use std::time::Instant;
use tch::{Device, Tensor};

/// What all sizes share.
struct Settings {
    device: Device,
    precision: Precision,
    batch: usize,
    threads: i32,
    seconds: f64,
}

fn main() {
    let settings = Settings {
        device: torch::device(&argument("--device", "cpu"))
            .unwrap_or_else(|error| panic!("{error}")),
        precision: precision("f32"),
        batch: argument("--batch", "16").parse().expect("--batch takes a number"),
        threads: argument("--threads", "1").parse().expect("--threads takes a number"),
        seconds: argument("--seconds", "5").parse().expect("--seconds takes a number"),
    };
    tch::set_num_threads(settings.threads);
    let only = argument("--size", "");
    let sizes = match only.as_str() {
        "" => vec!["nano-tiny", "nano-small", "nano-medium"],
        size => vec![size],
    };
    for size in sizes {
        println!("{}", measure(size, &settings));
    }
}

/// Median and best over chunks of steps. The host waits for the device at the end of a chunk alone.
fn measure(size: &str, settings: &Settings) -> String {
    let Settings { device, precision, batch, threads, seconds } = *settings;
    let (vocab, context) = match size.split('-').next() {
        Some("nano") => (512, 64),
        Some("mini") => (4_096, 256),
        _ => (PAPER_VOCAB, PAPER_CONTEXT),
    };
    let shape = Shape::named(size, vocab, context).unwrap_or_else(|error| panic!("{error}"));
    let network = Network::new(shape, Key::new(0), device).expect("a valid shape");
    let network = network.in_precision(precision);
    let mut trainer = Trainer::new(network, AdamW::default(), 5.0).expect("valid settings");
    let token = |i| Key::new(1).below(i, vocab as u64) as u32;
    let tokens: Vec<u32> = (0..(batch * (context + 1)) as u64).map(token).collect();
    let rows: Vec<&[u32]> = tokens.chunks(context + 1).collect();
    let mut steps = |count: usize| {
        let begun = Instant::now();
        let mut loss = Tensor::from(0f32);
        for _ in 0..count {
            let positions = (batch * context) as u64;
            let step = Step { t: 1, lr: 1e-4, multiplier: 1.0 };
            let taken = trainer.step(&[windows(&rows, device)], positions, step, &Solo);
            loss = taken.expect("one process loses no other");
        }
        let _ = loss.double_value(&[]);
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
        "{{\"size\": \"{size}\", \"device\": \"{name}\", \"precision\": \"{precision}\", \
         \"batch\": {batch}, \"threads\": {threads}, \"tokens_per_s\": {median:.0}, \
         \"best_tokens_per_s\": {best:.0}, \"train_gflops\": {gflops:.1}, \"gpu_gb\": {memory}}}"
    )
}
