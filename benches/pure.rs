//! What needs no libtorch: the schedule, the samplers, the order of a finetuning run, the
//! generator of synthetic text.
//!
//! `cargo bench -p benches --profile dev --bench pure`

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use forgetting_laws::Fraction;
use forgetting_laws::data::Source;
use forgetting_laws::data::synthetic::Synthetic;
use forgetting_laws::injection::{MixtureSpec, SamplerKind};
use forgetting_laws::pretraining::Schedule;
use forgetting_laws::rng::Key;
use std::hint::black_box;

fn schedule(c: &mut Criterion) {
    let schedule = Schedule::paper(1e-3, 12_000);
    let mut group = c.benchmark_group("schedule");
    group.throughput(Throughput::Elements(12_000));
    group.bench_function("12,000 rates", |b| {
        b.iter(|| (0..12_000).map(|step| schedule.lr(black_box(step))).sum::<f64>());
    });
}

/// All draws of a finetuning run of the paper's length, in sequences per second.
fn mixture(c: &mut Criterion) {
    let mut group = c.benchmark_group("mixture");
    group.throughput(Throughput::Elements(12_000 * 64));
    group.sample_size(10);
    for sampler in [SamplerKind::Independent, SamplerKind::Exact] {
        let spec = MixtureSpec {
            sampler,
            p: Fraction::new(0.01).expect("a fraction"),
            steps: 12_000,
            global_batch: 64,
            target_sequences: 2_929,
            reserved_sequences: 20_000,
            replay_sequences: None,
            sequence_tokens: 1_024,
        };
        group.bench_function(format!("{sampler:?}"), |b| {
            b.iter(|| {
                let mixture = spec.build(Key::new(0)).expect("a valid mixture");
                (0..12_000).flat_map(|step| mixture.batch(step)).map(black_box).count()
            });
        });
    }
}

/// Documents of the pretraining source, in bytes per second.
fn generator(c: &mut Criterion) {
    let source = Synthetic::pretraining(0);
    let document = |i| source.document(i).expect("an unlimited source").len();
    let bytes: usize = (0..200).map(document).sum();
    let mut group = c.benchmark_group("generator");
    group.throughput(Throughput::Bytes(bytes as u64));
    group.bench_function("200 documents", |b| {
        b.iter(|| (0..200).map(|i| document(black_box(i))).sum::<usize>());
    });
}

criterion_group!(benches, schedule, mixture, generator);
criterion_main!(benches);
