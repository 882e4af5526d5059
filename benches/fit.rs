//! Fits of 500 rows: one that can be trusted, 1,000 resamples of the bootstrap, and the ranking of all
//! forms.
//!
//! `cargo bench -p benches --profile dev --bench fit`
//!
//! With the variable FIT_TABLE, it also writes the forgetting law's table and the objective that was
//! reached there, for `benches/peer/fit.py`.

use criterion::{Criterion, criterion_group, criterion_main};
use forgetting_laws::fit::{Bootstrap, Options, fit, rank};
use forgetting_laws::laws::{
    Additive, Finetuning, FinetuningP, Forgetting, ForgettingBounded, ForgettingCeiling,
    ForgettingOffset, ForgettingPlusTokens, ForgettingTimesTokens, LAWS, Law, Row,
};
use forgetting_laws::rng::Key;
use forgetting_laws::table::{Column, Run, Table};
use std::fmt::Write as _;
use std::hint::black_box;

/// A law with planted values.
type Truth = (&'static dyn Law, &'static [f64]);

const EQUATION_7: Truth = (&Forgetting, &[6.0, 829.0, 0.4, 0.35]);

const TRUTHS: [Truth; 8] = [
    EQUATION_7,
    (&Finetuning, &[2000.0, 0.25, 0.2, 1.2]),
    (&Additive, &[406.4, 410.7, 0.34, 0.28, 1.69]),
    (&ForgettingOffset, &[6.0, 829.0, 0.4, 0.35, 0.04]),
    (&FinetuningP, &[2000.0, 30.0, 0.25, 0.2, 1.2]),
    (&ForgettingTimesTokens, &[6.0, 829.0 / 3e6, 0.4, 0.35]),
    (&ForgettingPlusTokens, &[6.0, 829.0 * 334.0 / 3.0, 0.4, 0.35]),
    (&ForgettingCeiling, &[24.0, 829.0 * 334.0 / 3.0, 0.4, 0.35, 3.0]),
];

/// Every form.
fn truths() -> impl Iterator<Item = Truth> {
    const BOUNDED: &[f64] = &[0.9, 829.0 * 334.0 / 3.0, 0.4, 0.35];
    TRUTHS.into_iter().chain([(ForgettingBounded::of(32_000) as &dyn Law, BOUNDED)])
}

/// The paper's grid with four seeds: 500 rows, with a noise of 0.5%.
fn table((law, values): Truth) -> Table {
    let key = Key::new(0).named("bench");
    let sizes = [(41e6, 3.31), (109e6, 2.98), (334e6, 2.66), (665e6, 2.49), (1.27e9, 2.35)];
    let mut runs = Vec::new();
    for (n_params, loss_pt0) in sizes {
        for (j, d_ft_tokens) in [3e5, 1e6, 3e6, 1e7, 3e7].into_iter().enumerate() {
            for p in [0.0, 0.001, 0.005, 0.01, 0.05] {
                for seed in 0..4 {
                    let d_tokens = n_params * 20.0 * 2f64.powi(j as i32);
                    let row = Row { n_params, d_ft_tokens, p, loss_pt0, d_tokens };
                    let noise = (0.005 * key.normal(runs.len() as u64)).exp();
                    let mut run = Run { row, seed: format!("{seed}"), ..Run::default() };
                    run.set(law.output(), Some(law.predict(&(&row).into(), values) * noise));
                    runs.push(run);
                }
            }
        }
    }
    Table::new(runs)
}

fn one_fit(c: &mut Criterion) {
    let options = Options { bootstrap: Bootstrap::NONE, hold_out: None, ..Options::default() };
    let mut group = c.benchmark_group("one fit of 500 rows");
    for truth in truths() {
        let table = table(truth);
        group.bench_function(truth.0.name(), |b| {
            b.iter(|| fit(black_box(&table), truth.0, &options).expect("a fit"));
        });
    }
    group.finish();
    if let Some(path) = std::env::var_os("FIT_TABLE") {
        let table = table(EQUATION_7);
        let objective = fit(&table, &Forgetting, &options).expect("a fit").objective;
        let mut text = format!("# {objective}\nn_params,d_ft_tokens,p,loss_pt0,loss_pt\n");
        for run in &table.runs {
            let Row { n_params, d_ft_tokens, p, loss_pt0, .. } = run.row;
            let loss_pt = run.loss_pt.expect("a loss");
            let _ = writeln!(text, "{n_params},{d_ft_tokens},{p},{loss_pt0},{loss_pt}");
        }
        std::fs::write(path, text).expect("FIT_TABLE must be a file to write to");
    }
}

fn bootstrap(c: &mut Criterion) {
    let bootstrap = Bootstrap { resamples: 1000, ..Bootstrap::default() };
    let options = Options { bootstrap, hold_out: None, ..Options::default() };
    let mut group = c.benchmark_group("1,000 resamples of 500 rows");
    group.sample_size(10);
    for truth in truths() {
        let table = table(truth);
        group.bench_function(truth.0.name(), |b| {
            b.iter(|| fit(black_box(&table), truth.0, &options).expect("a fit"));
        });
    }
}

/// All forms of forgetting on every axis, with a paired bootstrap of 1,000 resamples of runs.
fn ranking(c: &mut Criterion) {
    let of_loss = LAWS.iter().copied().filter(|law| law.output() == Column::LossPt);
    let forms: Vec<_> = of_loss.chain([ForgettingBounded::of(32_000) as &dyn Law]).collect();
    let options = Options::default();
    let table = table(EQUATION_7);
    let mut group = c.benchmark_group("a ranking of all forms on 500 rows");
    group.sample_size(10);
    group.bench_function("forgetting", |b| {
        b.iter(|| rank(black_box(&table), &forms, &[], &options).expect("a ranking"));
    });
}

criterion_group!(benches, one_fit, bootstrap, ranking);
criterion_main!(benches);
