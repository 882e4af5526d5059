//! Training steps per second at three sizes, as a JSON line a size: the counterpart of
//! `peer/train_step.py`, which measures PyTorch on the same model and step.
//!
//! `cargo bench -p benches --profile dev --bench train_step -- [--threads N] [--size NAME] [--seconds S]`

use forgetting_laws::engine::{Network, Solo, Trainer, windows};
use forgetting_laws::model::Shape;
use forgetting_laws::rng::Key;
use forgetting_laws::weight_decay::AdamW;
use std::time::Instant;
use tch::Device;

const BATCH: usize = 16;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str, default: &str| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)).map_or(default.to_string(), String::clone)
    };
    let threads: i32 = option("--threads", "1").parse().expect("--threads takes a number");
    let seconds: f64 = option("--seconds", "5").parse().expect("--seconds takes a number");
    let only = option("--size", "");
    tch::set_num_threads(threads);
    for size in ["nano-tiny", "nano-small", "nano-medium"] {
        if only.is_empty() || only == size {
            println!("{}", measure(size, threads, seconds));
        }
    }
}

/// Median and best over chunks of 20 steps.
fn measure(size: &str, threads: i32, seconds: f64) -> String {
    let shape = Shape::named(size, 512, 64).expect("a known size");
    let network = Network::new(shape, Key::new(0), Device::Cpu).expect("a valid shape");
    let mut trainer = Trainer::new(network, AdamW::default(), 5.0).expect("valid settings");
    let tokens: Vec<u32> =
        (0..(BATCH * 65) as u64).map(|i| Key::new(1).below(i, 512) as u32).collect();
    let rows: Vec<&[u32]> = tokens.chunks(65).collect();
    let mut steps = |count: usize| {
        let begun = Instant::now();
        for _ in 0..count {
            let positions = (rows.len() * (rows[0].len() - 1)) as u64;
            let step = trainer.step(&[windows(&rows, Device::Cpu)], positions, 1e-4, 1.0, &Solo);
            let _ = step.expect("one process loses no other");
        }
        (BATCH * 64 * count) as f64 / begun.elapsed().as_secs_f64()
    };
    steps(20);
    let begun = Instant::now();
    let mut rates = Vec::new();
    while begun.elapsed().as_secs_f64() < seconds || rates.len() < 5 {
        rates.push(steps(20));
    }
    rates.sort_by(f64::total_cmp);
    let (median, best) = (rates[rates.len() / 2], rates[rates.len() - 1]);
    let gflops = median * shape.train_flops_per_token() / 1e9;
    format!(
        "{{\"size\": \"{size}\", \"threads\": {threads}, \"tokens_per_s\": {median:.0}, \
         \"best_tokens_per_s\": {best:.0}, \"train_gflops\": {gflops:.1}}}"
    )
}
