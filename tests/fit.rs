//! Fits against what is known: planted laws on the paper's grid, and certified optima of published
//! tables where a variable names the folder that holds them.
#![cfg(feature = "fit")]

use approx::assert_relative_eq;
use forgetting_laws::fit::{
    Bootstrap, Fit, HoldOut, Objective, Observed, Options, Penalty, ProveOptions, Space, Status,
    compare, fit, growth_of_b, is_provable, rank,
};
use forgetting_laws::laws::{
    Additive, Finetuning, FinetuningP, Forgetting, ForgettingBounded, ForgettingCeiling,
    ForgettingOffset, ForgettingPlusTokens, ForgettingTimesTokens, LAWS, Law, Row,
};
use forgetting_laws::rng::Key;
use forgetting_laws::table::{Run, Table};
use forgetting_laws::warning::WarningKind;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::path::PathBuf;

/// The paper's sizes, fractions, and amounts of data at even distances on a log scale.
const SIZES: [f64; 5] = [41e6, 109e6, 334e6, 665e6, 1.27e9];
const FRACTIONS: [f64; 5] = [0.0, 0.001, 0.005, 0.01, 0.05];
const TOKENS: [f64; 5] = [3e5, 1e6, 3e6, 1e7, 3e7];

/// A point of the paper's grid. Only the laws of pretraining look at D, for which D_ft's place
/// on the grid stands: 20 to 320 tokens per parameter.
fn grid() -> Vec<Row> {
    let mut rows = Vec::new();
    for (i, n_params) in SIZES.into_iter().enumerate() {
        for (j, d_ft_tokens) in TOKENS.into_iter().enumerate() {
            rows.extend(FRACTIONS.map(|p| Row {
                n_params,
                d_ft_tokens,
                p,
                loss_pt0: [3.31, 2.98, 2.66, 2.49, 2.35][i],
                d_tokens: n_params * 20.0 * 2f64.powi(j as i32),
            }));
        }
    }
    rows
}

/// Losses of a law, times exp(noise · normal).
fn planted(law: &dyn Law, rows: &[Row], values: &[f64], noise: f64, key: Key) -> Table {
    let run = |(i, row): (usize, &Row)| {
        let loss = law.predict(&row.into(), values) * (noise * key.normal(i as u64)).exp();
        let mut run = Run { row: *row, ..Run::default() };
        run.set(law.output(), Some(loss));
        run
    };
    Table::new(rows.iter().enumerate().map(run).collect())
}

/// Laws with values such as the paper's: B of wikipedia and of dm_mathematics, the others made up
/// so that rises are 0.01 to 2 nats.
fn truths() -> Vec<(&'static dyn Law, Vec<f64>)> {
    vec![
        (&Forgetting, vec![6.0, 829.0, 0.4, 0.35]),
        (&Forgetting, vec![700.0, 1e4, 0.5, 0.25]),
        (&ForgettingOffset, vec![6.0, 829.0, 0.4, 0.35, 0.04]),
        (&Finetuning, vec![2000.0, 0.25, 0.2, 1.2]),
        (&FinetuningP, vec![2000.0, 30.0, 0.25, 0.2, 1.2]),
        (&Additive, vec![406.4, 410.7, 0.34, 0.28, 1.69]),
        // At D_ft = 3M, the first acts there as B = 829 does, and the second so for N = 334M.
        (&ForgettingTimesTokens, vec![6.0, 829.0 / 3e6, 0.4, 0.35]),
        (&ForgettingPlusTokens, vec![6.0, 829.0 * 334.0 / 3.0, 0.4, 0.35]),
        // A share of the distance to the uniform model, about 7.5 nats.
        (ForgettingBounded::of(32_000), vec![0.8, 829.0 * 334.0 / 3.0, 0.4, 0.35]),
        (&ForgettingCeiling, vec![24.0, 829.0 * 334.0 / 3.0, 0.4, 0.35, 3.0]),
    ]
}

fn quick() -> Options {
    Options { bootstrap: Bootstrap::NONE, hold_out: None, ..Options::default() }
}

const OBJECTIVES: [Objective; 6] = [
    Objective { space: Space::Log, penalty: Penalty::Huber(1e-3) },
    Objective { space: Space::Raw, penalty: Penalty::Huber(1e-3) },
    Objective { space: Space::Log, penalty: Penalty::Squared },
    Objective { space: Space::Raw, penalty: Penalty::Squared },
    Objective { space: Space::Log, penalty: Penalty::Absolute },
    Objective { space: Space::Raw, penalty: Penalty::Absolute },
];

/// Every law is a case and every objective runs it.
#[test]
fn planted_laws_are_recovered_without_noise() {
    for (law, values) in truths() {
        let table = planted(law, &grid(), &values, 0.0, Key::new(0));
        for objective in OBJECTIVES {
            let fitted = fit(&table, law, &Options { objective, ..quick() }).unwrap();
            assert_eq!(fitted.status, Status::Converged, "{} {objective:?}", law.name());
            for (found, planted) in fitted.values().iter().zip(&values) {
                assert_relative_eq!(*found, *planted, max_relative = 1e-6);
            }
            assert!(fitted.mre < 1e-9 && fitted.rise_error < 1e-7);
        }
    }
}

/// The paper's errors: 0.83% for the pretraining loss and 2.01% for the finetuning loss on runs
/// that were held out, as a normal noise of that mean size.
#[test]
fn planted_laws_lie_in_the_intervals_with_the_papers_noise() {
    let noise = |law: &dyn Law| {
        let mean = if law.baseline(&(&grid()[0]).into()).is_some() { 0.0083 } else { 0.0201 };
        mean / (2.0 / std::f64::consts::PI).sqrt()
    };
    let bootstrap = Bootstrap { resamples: 200, level: 0.99, seed: 0 };
    let options = Options { bootstrap, ..Options::default() };
    for (law, values) in truths().into_iter().filter(|(law, _)| law.name() != "finetuning-p") {
        let table = planted(law, &grid(), &values, noise(law), Key::new(11));
        let fitted = fit(&table, law, &options).unwrap();
        for (param, planted) in fitted.params.0.iter().zip(&values) {
            let (low, high) = (param.low.unwrap(), param.high.unwrap());
            assert!(low <= *planted && *planted <= high, "{} {param:?} {planted}", law.name());
            assert!(low <= param.value && param.value <= high, "{} {param:?}", law.name());
        }
        assert_eq!(fitted.is_supported(), Some(true), "{}", law.name());
        // A mean over 125 normals is within a fifth of its expectation, 4 standard errors of 0.07.
        assert_relative_eq!(
            fitted.mre_held_out.unwrap(),
            noise(law) * (2.0 / std::f64::consts::PI).sqrt(),
            max_relative = 0.25
        );
        let resampled = fitted.bootstrap.as_ref().unwrap();
        let (inside, outside) = (resampled.mre.unwrap(), resampled.mre_out_of_bag.unwrap());
        assert!(inside.low < fitted.mre && fitted.mre < inside.high);
        assert!(outside.mean > inside.mean);
    }
}

/// No parameters in the whole domain are better: on the paper's grid with noise, whatever the law
/// and the objective.
#[test]
fn optima_are_proved_to_be_optimal() {
    for (i, (law, values)) in truths().into_iter().enumerate() {
        let table = planted(law, &grid(), &values, 0.005, Key::new(20 + i as u64));
        if !is_provable(law) {
            let refusal = fit(&table, law, &quick()).unwrap().prove(&ProveOptions::default());
            let refusal = refusal.unwrap_err().to_string();
            assert!(refusal.starts_with(&format!("law = {}: ", law.name())), "{refusal}");
            continue;
        }
        for objective in OBJECTIVES {
            let fitted = fit(&table, law, &Options { objective, ..quick() }).unwrap();
            let proof = fitted.prove(&ProveOptions::default()).unwrap();
            assert!(proof.complete && proof.relative_gap <= 1e-3, "{} {proof:?}", law.name());
            // 10⁻⁷ for absolute values, which are minimised as Huber's penalty of a tiny δ.
            let better = proof.better.as_ref().map_or(f64::INFINITY, |(value, _)| *value);
            assert!(better >= fitted.objective * (1.0 - 1e-7), "{} {proof:?}", law.name());
        }
    }
}

/// Zero is an answer.
#[test]
fn optima_at_zero_are_found_and_said() {
    let cases: [(&'static dyn Law, &[f64], &[&str]); 5] = [
        (&Finetuning, &[8.0, 0.05, 0.02, 0.0], &["E"]),
        (&Finetuning, &[2.0, 0.0, 0.1, 1.0], &["alpha"]),
        (&Finetuning, &[4.0, 0.08, 0.0, 1.0], &["beta"]),
        (&Forgetting, &[6.0, 829.0, 0.4, 0.0], &["beta"]),
        (&Forgetting, &[6.0, 0.0, 0.4, 0.35], &["B"]),
    ];
    for (law, values, at_bound) in cases {
        let table = planted(law, &grid(), values, 0.0, Key::new(0));
        let fitted = fit(&table, law, &quick()).unwrap();
        for (found, planted) in fitted.values().iter().zip(values) {
            assert_relative_eq!(*found, *planted, max_relative = 1e-6, epsilon = 1e-7);
        }
        // Without noise the derivative at the bound is 0, so that the parameter may count as free;
        // with a loss that asks for a negative value it is held at the bound.
        let pushed = planted(law, &grid(), values, 0.0, Key::new(0));
        let runs = pushed.runs.into_iter().map(|mut run| {
            let output = law.output();
            let loss = run.get(output).unwrap();
            let point = (&run.row).into();
            let mut gradient = vec![0.0; values.len()];
            law.gradient(&point, values, &mut gradient);
            let j = law.parameters().iter().position(|p| p.name == at_bound[0]).unwrap();
            let step = if at_bound[0] == "B" { 0.5 } else { 0.004 };
            run.set(output, Some(loss - step * gradient[j]));
            run
        });
        let objective = Objective { space: Space::Raw, penalty: Penalty::Squared };
        let table = Table::new(runs.collect());
        let fitted = fit(&table, law, &Options { objective, ..quick() }).unwrap();
        assert_eq!(fitted.status, Status::AtBound, "{} {at_bound:?} {fitted:?}", law.name());
        assert_eq!(fitted.at_bound, at_bound);
        assert_eq!(fitted.params.get(at_bound[0]).unwrap().value, 0.0);
    }
}

#[test]
fn what_the_runs_do_not_determine_is_named() {
    // One amount of data per model size: alpha and beta move together with A.
    let rows: Vec<Row> =
        grid().into_iter().filter(|row| row.d_ft_tokens == row_tokens(row.n_params)).collect();
    let table = planted(&Forgetting, &rows, &[6.0, 829.0, 0.4, 0.35], 0.0, Key::new(0));
    // 5 sizes along a curve still determine it; along a power law they do not.
    let power: Vec<Run> = table
        .runs
        .into_iter()
        .map(|mut run| {
            run.row.d_ft_tokens = 0.01 * run.row.n_params;
            let loss = Forgetting.predict(&(&run.row).into(), &[6.0, 829.0, 0.4, 0.35]);
            run.loss_pt = Some(loss);
            run
        })
        .collect();
    let fitted = fit(&Table::new(power), &Forgetting, &quick()).unwrap();
    // α·ln N and β·ln D differ by a constant, but injection moves α alone: all is determined.
    assert_eq!(fitted.status, Status::Converged, "{fitted:?}");

    // Without B there is nothing that tells α and β apart.
    let power: Vec<Run> = grid()
        .into_iter()
        .filter(|row| row.d_ft_tokens == row_tokens(row.n_params))
        .map(|mut row| {
            row.d_ft_tokens = 0.01 * row.n_params;
            let loss_ft = Some(Finetuning.predict(&(&row).into(), &[60.0, 0.1, 0.12, 1.2]));
            Run { row, loss_ft, ..Run::default() }
        })
        .collect();
    let fitted = fit(&Table::new(power), &Finetuning, &quick()).unwrap();
    assert_eq!(fitted.status, Status::NotIdentified, "{fitted:?}");
    let [direction] = &fitted.undetermined[..] else { panic!("{:?}", fitted.undetermined) };
    let (alpha, beta) = (direction.direction[1], direction.direction[2]);
    assert_relative_eq!(alpha, -beta, max_relative = 1e-6);
    assert!(direction.words.contains("alpha") && direction.words.contains("beta"));
}

/// A different amount of data for each size, none of them a power of the other.
fn row_tokens(n_params: f64) -> f64 {
    TOKENS[SIZES.iter().position(|n| *n == n_params).unwrap()]
}

#[test]
fn more_threads_and_the_order_of_rows_change_no_bit() {
    let table = planted(&Forgetting, &grid(), &[6.0, 829.0, 0.4, 0.35], 0.01, Key::new(3));
    let bootstrap = Bootstrap { resamples: 20, ..Bootstrap::default() };
    let with = |table: &Table, threads| {
        let options = Options { bootstrap: bootstrap.clone(), threads, ..Options::default() };
        let fitted = fit(table, &Forgetting, &options).unwrap();
        (fitted.params, fitted.objective, fitted.bootstrap)
    };
    let expected = with(&table, 1);
    assert_eq!(with(&table, 3), expected);
    let key = Key::new(9);
    let mut shuffled: Vec<(u64, Run)> =
        table.runs.iter().cloned().enumerate().map(|(i, run)| (key.word(i as u64), run)).collect();
    shuffled.sort_by_key(|(word, _)| *word);
    let shuffled = Table::new(shuffled.into_iter().map(|(_, run)| run).collect());
    assert_ne!(shuffled.runs, table.runs);
    assert_eq!(with(&shuffled, 2), expected);
}

#[test]
fn rows_of_one_run_are_drawn_together() {
    let mut table = planted(&Finetuning, &grid(), &[60.0, 0.1, 0.12, 1.2], 0.01, Key::new(4));
    for run in &mut table.runs {
        run.run = format!("{} {}", run.row.n_params, run.row.d_ft_tokens);
    }
    let options = Options {
        bootstrap: Bootstrap { resamples: 200, ..Bootstrap::default() },
        hold_out: None,
        ..Options::default()
    };
    let clustered = fit(&table, &Finetuning, &options).unwrap();
    assert_eq!((clustered.n_rows, clustered.n_runs), (125, 25));
    table.runs.iter_mut().for_each(|run| run.run.clear());
    let apart = fit(&table, &Finetuning, &options).unwrap();
    assert_eq!((apart.n_rows, apart.n_runs), (125, 125));
    assert_eq!(apart.values(), clustered.values());
    assert_ne!(apart.bootstrap, clustered.bootstrap);
}

#[test]
fn held_out_rows_are_predicted_by_laws_that_never_saw_them() {
    let values = [6.0, 829.0, 0.4, 0.35];
    let clean = planted(&Forgetting, &grid(), &values, 0.0, Key::new(0));
    // One size is off: only when it is held out does the law not see it.
    let runs = clean.runs.iter().cloned().map(|mut run| {
        if run.row.n_params == SIZES[4] {
            run.loss_pt = run.loss_pt.map(|loss| 1.5 * loss);
        }
        run
    });
    let table = Table::new(runs.collect());
    let options = |by| Options { hold_out: Some(by), ..quick() };
    let fitted = fit(&table, &Forgetting, &options(HoldOut::Size)).unwrap();
    let held_out = fitted.held_out.as_ref().unwrap();
    assert_eq!((held_out.folds, held_out.rows.len()), (5, 125));
    for row in held_out.rows.iter().filter(|row| fitted.rows[row.index].row.n_params == SIZES[4]) {
        let clean = clean.runs[row.index].loss_pt.unwrap();
        assert_relative_eq!(row.prediction, clean, max_relative = 1e-6);
    }

    let largest = fit(&clean, &Forgetting, &options(HoldOut::Largest)).unwrap();
    let held_out = largest.held_out.unwrap();
    assert_eq!((held_out.folds, held_out.rows.len()), (1, 5));
    assert!(held_out.errors.mre < 1e-9 && held_out.supported);
    assert_relative_eq!(held_out.null_models.no_change.rise_error, 1.0, max_relative = 1e-12);
    for (by, rows) in [(HoldOut::Data, 125), (HoldOut::P, 125)] {
        let fitted = fit(&clean, &Forgetting, &options(by)).unwrap();
        let held_out = fitted.held_out.unwrap();
        assert_eq!((held_out.folds, held_out.rows.len()), (5, rows));
        assert!(held_out.errors.rise_error < 1e-7);
    }

    // With two sizes none can be left out, and the fit says so.
    let two = Table::new(clean.runs.into_iter().filter(|run| run.row.n_params < 2e8).collect());
    let fitted = fit(&two, &Forgetting, &options(HoldOut::Size)).unwrap();
    assert!(fitted.held_out.is_none() && fitted.mre_held_out.is_none());
    let untested = fitted.warnings.iter().find(|w| w.kind == WarningKind::NotHeldOut).unwrap();
    assert!(untested.message.contains("too few runs"), "{untested}");
    let fitted = fit(&two, &Forgetting, &options(HoldOut::Largest)).unwrap();
    assert!(fitted.held_out.is_none(), "a larger model is not predicted from one size");
}

/// Nothing rises, but for the last digit of some: whatever has the smaller error by then has it by
/// rounding.
#[test]
fn losses_that_do_not_change_support_nothing() {
    let rows = grid();
    let flat = |law: &'static dyn Law, loss: fn(&Row) -> f64| {
        let runs = rows.iter().enumerate().map(|(i, row)| {
            let mut run = Run { row: *row, ..Run::default() };
            let last_digit = if i % 3 == 0 { 1.0 + f64::EPSILON } else { 1.0 };
            run.set(law.output(), Some(loss(row) * last_digit));
            run
        });
        fit(&Table::new(runs.collect()), law, &Options { hold_out: Some(HoldOut::Size), ..quick() })
    };
    for fitted in [
        flat(&Additive, |_| 2.5),
        flat(&Finetuning, |_| 2.5),
        flat(&Forgetting, |row| row.loss_pt0),
    ] {
        let fitted = fitted.unwrap();
        assert_eq!(fitted.is_supported(), Some(false), "{}", fitted.law.name());
        let held_out = fitted.held_out.unwrap();
        assert!(held_out.null_models.no_change.mre < 1e-12);
        assert!(held_out.null_models.no_change.rise_error.is_nan());
        assert!(fitted.rise_error.is_nan() && held_out.errors.rise_error.is_nan());
    }
}

/// Losses with an offset: the form that has it is better on held-out runs, and not by chance.
#[test]
fn forms_are_told_apart_by_held_out_runs() {
    let values = [6.0, 829.0, 0.4, 0.35, 0.15];
    let table = planted(&ForgettingOffset, &grid(), &values, 0.003, Key::new(5));
    let fits: Vec<Fit> = [&Forgetting as &'static dyn Law, &ForgettingOffset]
        .into_iter()
        .map(|law| {
            let bootstrap = Bootstrap { resamples: 100, ..Bootstrap::default() };
            fit(&table, law, &Options { bootstrap, ..Options::default() }).unwrap()
        })
        .collect();
    let [comparison] = &compare(&fits)[..] else { panic!("one pair") };
    assert!(comparison.difference > 0.0 && comparison.interval.low > 0.0, "{comparison:?}");
    assert_eq!(comparison.better, 0.0);
    let difference = fits[0].mre_held_out.unwrap() - fits[1].mre_held_out.unwrap();
    assert_relative_eq!(comparison.difference, difference, max_relative = 1e-9);
}

#[test]
fn weights_count_rows() {
    let values = [60.0, 0.1, 0.12, 1.2];
    let table = planted(&Finetuning, &grid(), &values, 0.02, Key::new(6));
    let repeated: Vec<Run> = table
        .runs
        .iter()
        .enumerate()
        .flat_map(|(i, run)| {
            let copies = 1 + i % 3;
            (0..copies).map(move |c| Run { seed: c.to_string(), ..run.clone() })
        })
        .collect();
    let mut weighted = table.clone();
    for (i, run) in weighted.runs.iter_mut().enumerate() {
        run.weight = (1 + i % 3) as f64;
    }
    let repeated = fit(&Table::new(repeated), &Finetuning, &quick()).unwrap();
    let weighted = fit(&weighted, &Finetuning, &quick()).unwrap();
    assert_relative_eq!(repeated.objective, weighted.objective, max_relative = 1e-12);
    assert_relative_eq!(repeated.mre, weighted.mre, max_relative = 1e-9);
    for (a, b) in repeated.values().iter().zip(weighted.values()) {
        assert_relative_eq!(*a, b, max_relative = 1e-6);
    }
}

#[test]
fn a_fit_survives_its_file() {
    let table = planted(&Forgetting, &grid(), &[6.0, 829.0, 0.4, 0.35], 0.01, Key::new(7));
    let bootstrap = Bootstrap { resamples: 20, ..Bootstrap::default() };
    let fitted = fit(&table, &Forgetting, &Options { bootstrap, ..Options::default() }).unwrap();
    let text = serde_json::to_string(&fitted).unwrap();
    let back: Fit = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&back).unwrap(), text);
    let row = Row { n_params: 2e8, ..grid()[3] };
    assert_eq!(back.predict(&row), fitted.predict(&row));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["params"]["B"]["value"].as_f64().unwrap(), fitted.values()[1]);
    assert_eq!((json["space"].as_str(), json["delta"].as_f64()), (Some("log"), Some(1e-3)));
    assert_eq!(json["status"], "converged");

    // JSON has no infinity.
    let mut unlimited = fitted;
    unlimited.mre = f64::INFINITY;
    unlimited.condition_number = f64::INFINITY;
    unlimited.null_models.log_linear.rise_error = f64::INFINITY;
    unlimited.held_out.as_mut().unwrap().errors.mre = f64::INFINITY;
    unlimited.bootstrap.as_mut().unwrap().draws[3][1] = f64::INFINITY;
    let back: Fit = serde_json::from_str(&serde_json::to_string(&unlimited).unwrap()).unwrap();
    assert_eq!(format!("{back:?}"), format!("{unlimited:?}"));
}

#[test]
fn predictive_intervals_hold_new_runs() {
    let values = [6.0, 829.0, 0.4, 0.35];
    let table = planted(&Forgetting, &grid(), &values, 0.01, Key::new(8));
    let bootstrap = Bootstrap { resamples: 300, ..Bootstrap::default() };
    let fitted =
        fit(&table, &Forgetting, &Options { bootstrap, hold_out: None, ..Options::default() })
            .unwrap();
    let fresh = planted(&Forgetting, &grid(), &values, 0.01, Key::new(80));
    let (mut new_runs, mut laws) = (0, 0);
    for run in &fresh.runs {
        let found = fitted.predict(&run.row);
        let holds = |low: Option<f64>, x: f64, high: Option<f64>| {
            usize::from(low.unwrap() <= x && x <= high.unwrap())
        };
        new_runs += holds(found.low, run.loss_pt.unwrap(), found.high);
        laws +=
            holds(found.law_low, Forgetting.predict(&(&run.row).into(), &values), found.law_high);
        assert!(found.outside.is_empty());
    }
    // 90% of 125 is 112.5, with a standard deviation of 3.4; the law's own intervals at 125 points
    // hang together, so that only half is asked of them.
    assert!((102..=122).contains(&new_runs), "{new_runs}");
    assert!(laws > 62, "{laws}");
}

/// The folder of published tables, where there is one.
fn reference_data() -> Option<PathBuf> {
    match std::env::var_os("FORGETTING_LAWS_REFERENCE").filter(|folder| !folder.is_empty()) {
        Some(folder) => Some(folder.into()),
        None => {
            eprintln!("skipped: FORGETTING_LAWS_REFERENCE names no folder");
            None
        }
    }
}

fn gemstones(file: &str) -> Option<Table> {
    let text = std::fs::read_to_string(reference_data()?.join("gemstones").join(file)).unwrap();
    let run = |line: &str| {
        let json: serde_json::Value = serde_json::from_str(line).unwrap();
        let number = |name: &str| json[name].as_f64().unwrap();
        let (n_params, d_tokens) = (number("params_active_precise"), number("tokens"));
        let row = Row { n_params, d_tokens, ..Row::default() };
        Run { row, loss: Some(number("final_loss")), ..Run::default() }
    };
    Some(Table::new(text.lines().map(run).collect()))
}

/// The best objectives known of the Gemstones' tables. An optimiser's flag said success at
/// 0.000205940562 of the second one, with β = 0.690.
#[test]
fn certified_optima_of_gemstones() {
    for (file, delta, rows, most, beta) in [
        ("hot.jsonl", 1e-3, 220, 0.001_981_612_810, 0.712_9),
        ("cool_end.jsonl", 1e-4, 199, 0.000_204_779_068, 0.586_0),
    ] {
        let Some(table) = gemstones(file) else { return };
        let objective = Objective { space: Space::Log, penalty: Penalty::Huber(delta) };
        let fitted = fit(&table, &Additive, &Options { objective, ..quick() }).unwrap();
        assert_eq!((fitted.n_rows, fitted.status), (rows, Status::Converged));
        assert!(fitted.objective <= most, "{file}: {:.15}", fitted.objective);
        assert_relative_eq!(fitted.params.get("beta").unwrap().value, beta, epsilon = 1e-3);
    }
}

/// Real losses of finetuning, a family of models at a time.
#[test]
fn real_finetuning_losses_by_family() {
    let Some(folder) = reference_data() else { return };
    let text = std::fs::read_to_string(folder.join("rectified-finetuning/flan.csv")).unwrap();
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let mut runs = Vec::new();
    for cells in lines {
        let number = |i: usize| cells[i].parse::<f64>().unwrap();
        let n_params = number(16);
        for (j, d_ft_tokens) in header.iter().enumerate().take(16).skip(2) {
            let d_ft_tokens = d_ft_tokens.parse().unwrap();
            runs.push(Run {
                domain: cells[17].to_string(),
                row: Row { n_params, d_ft_tokens, ..Row::default() },
                loss_ft: Some(number(j)),
                ..Run::default()
            });
        }
    }
    let mut fitted = 0;
    for (family, table) in Table::new(runs).groups() {
        let sizes: std::collections::BTreeSet<_> =
            table.runs.iter().map(|run| run.row.n_params.to_bits()).collect();
        if sizes.len() < 2 {
            assert!(fit(&table, &Finetuning, &quick()).is_err(), "{family}");
            continue;
        }
        for objective in OBJECTIVES {
            let found = fit(&table, &Finetuning, &Options { objective, ..quick() }).unwrap();
            assert!(
                found.status != Status::NotConverged,
                "{family} {objective:?} {:?} {:?} {:?}",
                found.status,
                found.params,
                found.restarts
            );
            assert!(found.mre < 0.15, "{family} {}", found.mre);
            if objective == Objective::default() {
                let other = optima::best_of_random_starts(&found, 100, Key::new(3));
                assert!(found.objective <= other * (1.0 + 1e-7), "{family} {other}");
            }
            fitted += usize::from(found.status != Status::NotIdentified);
        }
    }
    assert!(fitted >= 6 * 5, "{fitted}");
}

/// Published losses of models finetuned on WMT19 (Apache 2.0), on 6,400 to 1.6M samples: residuals are
/// far above Huber's delta, and in the long valley of the objective one minimum stands beside another.
#[rustfmt::skip]
const VALLEY: [(f64, [f64; 9]); 4] = [
    (
        111050496.0,
        [2.6068115234375, 2.455078125, 2.2489013671875, 2.01177978515625, 1.791748046875, 1.59478759765625, 1.39260864, 1.16953914, 0.95660433],
    ),
    (
        255977024.0,
        [2.364085, 2.177957, 1.950505, 1.786268, 1.56292, 1.392676, 1.228814, 1.053609, 0.918577],
    ),
    (
        1315723264.0,
        [2.238249, 2.096962, 1.925787, 1.732194, 1.595337, 1.459451, 1.315644, 1.155981, 1.030023],
    ),
    (
        2651553280.0,
        [1.704926490783, 1.65021908, 1.60752248764, 1.53987693786621, 1.44211173057556, 1.4287912983, 1.4099719283, 1.3718298397, 1.331293797],
    ),
];

#[path = "../examples/optima.rs"]
#[allow(dead_code)]
mod optima;

/// 0.002784138219 is the minimum that all descents from afar end in.
#[test]
fn the_lowest_of_neighbouring_minima_is_found() {
    let rows = VALLEY.iter().flat_map(|(n_params, losses)| {
        let run = move |(j, loss): (usize, &f64)| {
            let d_ft_tokens = 6400.0 * 2f64.powi(j as i32);
            let row = Row { n_params: *n_params, d_ft_tokens, ..Row::default() };
            Run { row, loss_ft: Some(*loss), ..Run::default() }
        };
        losses.iter().enumerate().map(run)
    });
    let fitted = fit(&Table::new(rows.collect()), &Finetuning, &quick()).unwrap();
    assert!(fitted.objective <= 0.002_783_937_133, "{:.15}", fitted.objective);
    assert_eq!(fitted.status, Status::AtBound);
    assert_relative_eq!(fitted.params.get("A").unwrap().value, 13.653891, max_relative = 1e-5);
}

/// The study of examples/optima.rs in small: tables whose losses no law describes, and another
/// optimiser from random starts. The full study has 1,000 starts.
#[test]
fn no_other_optimiser_finds_better_parameters() {
    let mut compared = 0;
    for seed in 0..5 {
        let table = optima::random(Key::new(seed));
        let bounded: &'static dyn Law = ForgettingBounded::of(32_000);
        for law in LAWS.iter().copied().chain([bounded]) {
            let Some(fitted) = optima::fitted(&table, law) else { continue };
            let other = optima::best_of_random_starts(&fitted, 25, Key::new(2));
            let excess = fitted.objective / other - 1.0;
            assert!(excess <= 1e-7, "table {seed}, {}: {excess:e}", law.name());
            compared += 1;
        }
    }
    assert!(compared > 20, "{compared}");
}

/// golden/optima/optima.csv, which the same example wrote from 1,000 starts: no fit there misses the
/// other optimum, and today's fits to its tables do not either.
#[test]
fn committed_optima_are_reached() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("golden/optima/optima.csv")).unwrap();
    let mut lines = text.lines().skip(1);
    assert_eq!(lines.next(), Some("table,law,rows,status,objective,other,excess"));
    let recorded: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    let tables: std::collections::HashMap<_, _> =
        optima::committed().unwrap().into_iter().collect();
    let (mut again, mut random) = (0, 0);
    for row in &recorded {
        let (name, law) = (row[0], forgetting_laws::laws::by_name(row[1]).unwrap());
        let number = |i: usize| row[i].parse::<f64>().unwrap();
        let (objective, other) = (number(4), number(5));
        assert!(objective <= other * (1.0 + 1e-7), "{name}, {}", row[1]);
        let drawn = name.strip_prefix("random ").map(|i| i.parse::<u64>().unwrap());
        // Some of the random tables: the others are the study's.
        let drawn = drawn.filter(|i| *i < 3).map(|i| optima::random(Key::new(i)));
        random += usize::from(drawn.is_some());
        let Some(table) = drawn.as_ref().or_else(|| tables.get(name)) else { continue };
        let fitted = optima::fitted(table, law).unwrap();
        assert_eq!(fitted.n_rows.to_string(), row[2], "{name}, {}", row[1]);
        assert!(fitted.objective <= other * (1.0 + 1e-7), "{name}, {}", row[1]);
        again += 1;
    }
    let all =
        ["synthetic far", "real french", "more-data law", "gemstones hot", "GPT2", "losses wmt19"];
    for name in all {
        assert!(recorded.iter().any(|row| row[0] == name), "{name} is missing");
    }
    assert!(again > 40 + random && random > 12, "{again} {random}");
}

/// Held-out runs tell the forms apart; of two that they do not, the one with fewer parameters is
/// relied on. The exponent of B is found where it was planted.
#[test]
fn forms_are_ranked_and_the_growth_of_b_is_found() {
    let bootstrap = Bootstrap { resamples: 100, ..Bootstrap::default() };
    let options = Options { bootstrap, ..Options::default() };
    let forms: Vec<&'static dyn Law> =
        LAWS.iter().copied().filter(|law| law.baseline(&(&grid()[0]).into()).is_some()).collect();
    assert!(forms.len() >= 4);
    for (law, values, grows) in [
        (&Forgetting as &'static dyn Law, [6.0, 829.0, 0.4, 0.35], false),
        (&ForgettingTimesTokens, [6.0, 829.0 / 3e6, 0.4, 0.35], true),
    ] {
        let table = planted(law, &grid(), &values, 0.003, Key::new(7));
        let ranking = rank(&table, &forms, &[], &options).unwrap().unwrap();
        assert_eq!((ranking.loss.as_str(), ranking.n_runs), ("loss_pt", 125));
        assert_eq!(
            ranking.axes,
            [HoldOut::Size, HoldOut::Data, HoldOut::P, HoldOut::Largest],
            "{}",
            law.name()
        );
        let of = |name: &str| ranking.forms.iter().find(|form| form.form == name).unwrap();
        assert!(of(law.name()).tied && of(law.name()).supported);
        assert_eq!(ranking.preferred().unwrap().form, law.name());
        let other = if grows { "forgetting" } else { "forgetting-times-tokens" };
        assert!(!of(other).tied && of(other).behind.low > 0.0, "{:?}", of(other));
        let errors = ranking.forms.iter().map(|form| form.mean.rise_error);
        assert!(errors.is_sorted());
        // The increase of a prediction of no change is missed whole.
        assert_eq!(ranking.baselines[0].mean.rise_error, 1.0);
        // The mean over all axes but the largest.
        let form = of(law.name());
        let mean = form.errors[..3].iter().map(|e| e.rise_error).sum::<f64>() / 3.0;
        assert_relative_eq!(form.mean.rise_error, mean, max_relative = 1e-12);
        // A fit that has held out the sizes spares the ranking these fits, and changes nothing.
        let fitted = fit(&table, law, &options).unwrap();
        let by_size = fitted.held_out.as_ref().unwrap();
        assert_relative_eq!(
            form.errors[0].rise_error,
            by_size.errors.rise_error,
            max_relative = 1e-9
        );
        let spared = |fits: &[Fit]| rank(&table, &forms, fits, &options).unwrap().unwrap();
        assert_eq!(spared(std::slice::from_ref(&fitted)), ranking);
        // It is read where it is of this table and objective, and not where it is not.
        let mut other = fitted;
        other.held_out.as_mut().unwrap().rows.iter_mut().for_each(|row| row.prediction += 1.0);
        assert!(spared(std::slice::from_ref(&other)) != ranking);
        other.rows[0].loss += 1e-9;
        assert_eq!(spared(&[other]), ranking);

        let growth = growth_of_b(&table, &options).unwrap().unwrap();
        assert_eq!(growth.grows, grows, "{growth:?}");
        let planted = if grows { 1.0 } else { 0.0 };
        assert!((growth.gamma - planted).abs() < 0.1, "{growth:?}");
    }
    // One form has nothing to be ranked with, and without several p nothing shows how B grows.
    let table = planted(&Forgetting, &grid(), &[6.0, 829.0, 0.4, 0.35], 0.003, Key::new(7));
    assert!(rank(&table, &forms[..1], &[], &options).unwrap().is_none());
    let without = Table::new(table.runs.into_iter().filter(|run| run.row.p == 0.0).collect());
    assert_eq!(growth_of_b(&without, &options).unwrap(), None);
}

/// Runs of one pretrained model are drawn together: where another model forgets more, the intervals of
/// a ranking are wider than those that take each run for itself.
#[test]
fn rankings_draw_pretrained_models() {
    let bootstrap = Bootstrap { resamples: 300, ..Bootstrap::default() };
    let options = Options { bootstrap, ..Options::default() };
    let mut table = planted(&Forgetting, &grid(), &[6.0, 829.0, 0.4, 0.35], 0.003, Key::new(7));
    for (i, run) in table.runs.iter_mut().enumerate() {
        let model = i % 2;
        run.parent = format!("{}-{model}", run.row.n_params);
        let increase = run.loss_pt.unwrap() - run.row.loss_pt0;
        run.loss_pt = Some(run.row.loss_pt0 + [1.0, 1.5][model] * increase);
    }
    let width = |table: &Table| {
        let forms: [&'static dyn Law; 2] = [&Forgetting, &ForgettingTimesTokens];
        let ranking = rank(table, &forms, &[], &options).unwrap().unwrap();
        let behind = ranking.forms[1].behind;
        behind.high - behind.low
    };
    let together = width(&table);
    table.runs.iter_mut().for_each(|run| run.parent.clear());
    let apart = width(&table);
    assert!(together > 1.2 * apart, "{together} {apart}");
}

/// Noise that is far larger than the rise: the best law has a rise at one point of the grid alone,
/// with exponents that grow without limit. The parameters still give the objective.
#[test]
fn what_grows_without_limit_is_said_and_stays_a_number() {
    let values = [0.1, 100.0, 0.195, 0.02];
    let rows: Vec<Row> = grid().into_iter().step_by(2).collect();
    let unlimited = (0..40)
        .filter(|&seed| {
            let table = planted(&Forgetting, &rows, &values, 0.02, Key::new(seed));
            let fitted = fit(&table, &Forgetting, &quick()).unwrap();
            let cost = |r: &Observed| Objective::default().cost(r.prediction, r.loss);
            let weighed: f64 = fitted.rows.iter().map(cost).sum();
            assert_relative_eq!(weighed, fitted.objective, max_relative = 1e-9);
            let said = fitted.undetermined.iter().any(|d| d.words.contains("upper limit of"));
            assert!(!said || fitted.status == Status::NotIdentified);
            said
        })
        .count();
    assert!(unlimited > 0);
}

proptest! {
    // Fixed cases: where the noise hides the law, two descents may end in different corners.
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(0),
        ..ProptestConfig::default()
    })]

    /// Whatever the law, the coefficients, the units and the noise: no objective is above that of
    /// the planted values, units change coefficients and nothing else, and scaled weights change
    /// nothing.
    #[test]
    fn fits_are_optimal_and_invariant(
        which in 0..LAWS.len(),
        values in proptest::array::uniform5(0.1..1.0f64),
        noise in 0.0..0.03f64,
        unit_n in -12.0..8.0f64,
        unit_d in -8.0..8.0f64,
        seed: u64,
    ) {
        let law = LAWS[which];
        let [a, b, alpha, beta, e] = values;
        // Terms of around a nat on a grid from 2·10⁴ to 10¹² parameters.
        let values: Vec<f64> = match law.name() {
            "finetuning" => vec![a * 40.0, 0.1 * alpha, 0.1 * beta, e],
            "finetuning-p" => vec![a * 40.0, 100.0 * b, 0.1 * alpha, 0.1 * beta, e],
            "additive" => vec![a * 300.0, b * 300.0, 0.3 * alpha, 0.3 * beta, e],
            "forgetting" => vec![a, 1000.0 * b, 0.2 * alpha, 0.2 * beta],
            "forgetting-times-tokens" => vec![a, 3e-4 * b, 0.2 * alpha, 0.2 * beta],
            "forgetting-plus-tokens" => vec![a, 1e5 * b, 0.2 * alpha, 0.2 * beta],
            "forgetting-ceiling" => vec![a, 1e5 * b, 0.2 * alpha, 0.2 * beta, 0.1 * e],
            _ => vec![a, 1000.0 * b, 0.2 * alpha, 0.2 * beta, 0.1 * e],
        };
        let scale = (20.0f64 * unit_n / 12.0).exp();
        let rows: Vec<Row> = grid()
            .into_iter()
            .enumerate()
            .filter(|(i, _)| i % 2 == 0)
            .map(|(_, row)| Row { n_params: (row.n_params * scale).clamp(2e4, 1e12), ..row })
            .collect();
        let table = planted(law, &rows, &values, noise, Key::new(seed));
        let Ok(fitted) = fit(&table, law, &quick()) else { return Ok(()) };
        let objective = Objective::default();
        let truth: f64 = table
            .runs
            .iter()
            .map(|run| {
                let prediction = law.predict(&(&run.row).into(), &values);
                objective.cost(prediction, run.get(law.output()).unwrap())
            })
            .sum();
        prop_assert!(fitted.objective <= truth * (1.0 + 1e-9) + 1e-24);
        let weighed: f64 = fitted.rows.iter().map(|r| objective.cost(r.prediction, r.loss)).sum();
        prop_assert!((fitted.objective - weighed).abs() <= 1e-9 * weighed + 1e-24, "{} {weighed} {:?}", fitted.objective, fitted.params);

        let mut scaled = table.clone();
        for run in &mut scaled.runs {
            run.row.n_params *= unit_n.exp();
            run.row.d_ft_tokens *= unit_d.exp();
            run.row.d_tokens *= unit_d.exp();
            run.weight = 1000.0;
        }
        // Small models' D must stay above D_ft for the table to be one.
        let trusted = matches!(fitted.status, Status::Converged | Status::AtBound);
        if let (Ok(other), true) = (fit(&scaled, law, &quick()), trusted) {
            let expected = 1000.0 * fitted.objective;
            prop_assert!((other.objective - expected).abs() <= 1e-7 * expected + 1e-20);
            if matches!(fitted.status, Status::Converged) && fitted.condition_number < 1e4 {
                for ((found, expected), parameter) in
                    other.values().iter().zip(fitted.values()).zip(law.parameters())
                {
                    if matches!(parameter.name, "alpha" | "beta" | "E") {
                        prop_assert!((found - expected).abs() <= 1e-4 * (1e-2 + expected));
                    }
                }
            }
        }
    }
}

#[path = "../examples/coverage.rs"]
#[allow(dead_code)]
mod coverage;

/// The study of examples/coverage.rs in small: 90% of 100 tables, with a standard deviation of 3. The
/// full study has 500.
#[test]
fn intervals_of_nine_tenths_cover_about_nine_tenths() {
    let truth: (&'static dyn Law, &'static [f64], f64) =
        (&Forgetting, &[6.0, 829.0, 0.4, 0.35], 0.0083);
    let covered = coverage::covered(truth, 100, 100, Key::new(1)).unwrap();
    for count in covered {
        assert!((82..=98).contains(&count), "{count}");
    }
}

#[path = "../examples/new_runs.rs"]
#[allow(dead_code)]
mod new_runs;

/// The committed numbers of examples/new_runs.rs are those that it gives, on the part of one domain.
#[test]
fn intervals_of_new_runs_hold_as_often_as_is_committed() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/coverage/new-runs.csv");
    let committed = std::fs::read_to_string(path).unwrap();
    let (_, table) = new_runs::committed("synthetic").unwrap().remove(0);
    let at = ["synthetic, far".to_string(), "forgetting".into(), "p".into()];
    let mut counts = new_runs::Counts::new();
    new_runs::held_out(&table, &Forgetting, "p", 200, &at, &mut counts).unwrap();
    let found = new_runs::csv(&counts);
    assert_eq!(found.lines().count(), 1 + new_runs::LEVELS.len());
    for line in found.lines().skip(1) {
        let cells = |line: &str| -> Vec<f64> {
            let numbers = line.rsplit(',').take(7).map(|cell| cell.parse().unwrap());
            numbers.collect()
        };
        let start = line.splitn(6, ',').take(5).collect::<Vec<_>>().join(",");
        let known = committed.lines().find(|known| known.starts_with(&start)).unwrap();
        // Another machine may round a run at an end of an interval to its other side.
        for (found, known) in cells(line).into_iter().zip(cells(known)) {
            assert!((found - known).abs() <= 1.0, "{line}\n{known}");
        }
    }
}

/// What is promised of intervals of a new run: together within 5 points of nominal on the committed
/// tables, and at most a quarter wider where the law is right.
#[test]
fn committed_intervals_of_new_runs_hold() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/coverage/new-runs.csv");
    let text = std::fs::read_to_string(path).unwrap();
    let number = |line: &str, from_the_end: usize| -> f64 {
        line.rsplit(',').nth(from_the_end).unwrap().parse().unwrap()
    };
    let of = |start: &str| text.lines().filter(|line| line.starts_with(start)).collect::<Vec<_>>();
    let together = of("\"committed\",both,together");
    assert_eq!(together.len(), new_runs::LEVELS.len());
    for (line, level) in together.iter().zip(new_runs::LEVELS) {
        assert!((number(line, 3) - level).abs() < 0.05, "{line}");
        // Those that take the law for right do not.
        assert!(number(line, 1) < level - 0.1, "{line}");
    }
    let right = of("\"planted, right\"");
    assert!(right.iter().any(|line| line.contains(",together,")));
    for line in right.iter().filter(|line| line.contains(",together,")) {
        assert!(number(line, 0) < 1.25, "{line}");
    }
}
