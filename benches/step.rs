//! One optimiser step of a nano model on one CPU thread, in tokens per second. The comparison with
//! PyTorch is `train_step.rs` beside `peer/train_step.py`.
//!
//! `cargo bench -p benches --profile dev --bench step`

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use forgetting_laws::engine::Solo;
use forgetting_laws::engine::torch::{Network, Trainer, windows};
use forgetting_laws::model::Shape;
use forgetting_laws::rng::Key;
use forgetting_laws::weight_decay::{AdamW, Step};
use tch::Device;

fn step(c: &mut Criterion) {
    tch::set_num_threads(1);
    let (batch, context) = (8, 64);
    let tokens: Vec<u32> =
        (0..batch * (context + 1)).map(|i| Key::new(1).below(i, 512) as u32).collect();
    let rows: Vec<&[u32]> = tokens.chunks(context as usize + 1).collect();
    let mut group = c.benchmark_group("train step, batch 8");
    group.throughput(Throughput::Elements(batch * context));
    group.sample_size(20);
    for size in ["nano-tiny", "nano-small"] {
        let shape = Shape::named(size, 512, context as usize).expect("a known size");
        let network = Network::new(shape, Key::new(0), Device::Cpu).expect("a valid shape");
        let mut trainer = Trainer::new(network, AdamW::default(), 5.0).expect("valid settings");
        group.bench_function(size, |b| {
            let positions = (rows.len() * (rows[0].len() - 1)) as u64;
            let step = Step { t: 1, lr: 1e-4, multiplier: 1.0 };
            b.iter(|| trainer.step(&[windows(&rows, Device::Cpu)], positions, step, &Solo));
        });
    }
}

criterion_group!(benches, step);
criterion_main!(benches);
