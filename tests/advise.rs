//! Advice against planted laws: its promises kept by runs that it has not seen, its inversions
//! against closed forms, its refusals.
#![cfg(feature = "fit")]

use approx::assert_relative_eq;
use forgetting_laws::fit::advise::Estimate;
use forgetting_laws::fit::{Advisor, Bootstrap, Fit, HoldOut, Limit, Options, fit};
use forgetting_laws::laws::{Additive, Finetuning, FinetuningP, Forgetting, Law, Row};
use forgetting_laws::rng::{Draws, Key};
use forgetting_laws::table::{Run, Table};
use forgetting_laws::warning::{Warning, WarningKind};

/// The paper's sizes with losses before finetuning that are made up, its fractions, and amounts of
/// data at even distances on a log scale.
const SIZES: [(f64, f64); 5] =
    [(41e6, 3.4), (109e6, 3.05), (334e6, 2.7), (665e6, 2.45), (1.27e9, 2.2)];
const FRACTIONS: [f64; 5] = [0.0, 0.001, 0.005, 0.01, 0.05];
const TOKENS: [f64; 5] = [3e5, 1e6, 3e6, 1e7, 3e7];

/// The relative noise of a loss.
const NOISE: f64 = 0.005;

/// The grid; D is different at each D_ft, for the law of pretraining.
fn grid() -> Vec<Row> {
    let mut rows = Vec::new();
    for (n_params, loss_pt0) in SIZES {
        for (j, d_ft_tokens) in TOKENS.into_iter().enumerate() {
            let d_tokens = n_params * 20.0 * 2f64.powi(j as i32);
            rows.extend(FRACTIONS.map(|p| Row { n_params, d_ft_tokens, p, loss_pt0, d_tokens }));
        }
    }
    rows
}

/// The loss of the i-th run at a point: the law's times exp(noise · normal).
fn loss(law: &dyn Law, row: &Row, values: &[f64], noise: f64, key: Key, i: usize) -> f64 {
    law.predict(&row.into(), values) * (noise * key.normal(i as u64)).exp()
}

fn table(law: &dyn Law, rows: &[Row], values: &[f64], noise: f64, key: Key) -> Table {
    let run = |(i, row): (usize, &Row)| {
        let mut run = Run { row: *row, ..Run::default() };
        run.set(law.output(), Some(loss(law, row, values, noise, key, i)));
        run
    };
    Table::new(rows.iter().enumerate().map(run).collect())
}

fn options(resamples: usize) -> Options {
    let bootstrap = Bootstrap { resamples, ..Bootstrap::default() };
    Options { bootstrap, hold_out: None, ..Options::default() }
}

/// A law planted on the grid and fitted.
fn fitted(law: &'static dyn Law, values: &[f64], noise: f64) -> Fit {
    fit(&table(law, &grid(), values, noise, Key::new(3)), law, &options(100)).unwrap()
}

const FORGETTING: [f64; 4] = [6.0, 829.0, 0.4, 0.35];
const FINETUNING: [f64; 4] = [60.0, 0.1, 0.12, 1.2];
const FINETUNING_P: [f64; 5] = [60.0, 30.0, 0.1, 0.12, 1.2];
const ADDITIVE: [f64; 5] = [406.4, 410.7, 0.34, 0.28, 1.69];

fn asked() -> Row {
    Row { n_params: 2e8, d_ft_tokens: 5e6, p: 0.01, loss_pt0: 2.85, d_tokens: 2e10 }
}

/// A planted forgetting law, a question between the runs of its grid, and a limit that some p
/// between 0.05% and 5% meets.
struct Planted {
    values: [f64; 4],
    row: Row,
    limit: f64,
}

/// B is between 50 and 10⁴, beyond the two that are known of the paper; rises without injection
/// are 0.2 to 1 nats at N = 109M and D_ft = 3M. `None` for a limit that says little: below three
/// times the noise of a run, where noise decides, or met at B·p < 2, where a quarter of p is nearly
/// as good as p.
fn plant(key: Key) -> Option<Planted> {
    let mut draws = Draws::new(key);
    let mut between = |low: f64, high: f64| low + (high - low) * draws.uniform();
    let b = between(50f64.ln(), 1e4f64.ln()).exp();
    let (alpha, beta) = (between(0.3, 0.5), between(0.2, 0.4));
    let rise = between(0.2f64.ln(), 0.0).exp();
    let values = [rise * 109e6f64.powf(alpha) / 3e6f64.powf(beta), b, alpha, beta];
    let n_params = between(41e6f64.ln(), 1.27e9f64.ln()).exp();
    let d_ft_tokens = between(3e5f64.ln(), 3e7f64.ln()).exp();
    let p = between(0.0005f64.ln(), 0.05f64.ln()).exp();
    let loss_pt0 = 3.4 - 1.2 * (n_params / 41e6).ln() / (1.27e9f64 / 41e6).ln();
    let row = Row { n_params, d_ft_tokens, p, loss_pt0, ..Row::default() };
    let limit = Forgetting.predict(&(&row).into(), &values) - loss_pt0;
    (limit > 3.0 * NOISE * loss_pt0 && b * p > 2.0).then_some(Planted { values, row, limit })
}

/// The share of new runs that keep within the limit, over 60 planted tables and 200 new runs of
/// each. Of 400 tables, 94% of runs did at a confidence of 0.9, and tables differed by 3.3% (one
/// standard deviation), so that the mean of 60 is known to 0.4%: a right procedure falls below 0.9
/// or above 0.97 once in 10¹⁵ choices of seeds. One that takes the quantile of 0.85, or leaves out
/// the noise, falls below. A quarter of p broke it in 90% of runs.
#[test]
fn the_advised_p_keeps_its_promise_and_a_quarter_of_it_does_not() {
    const TABLES: usize = 60;
    const NEW_RUNS: usize = 200;
    let planted = (0..).filter_map(|i| Some((Key::new(i), plant(Key::new(i).named("law"))?)));
    let (mut kept, mut kept_even, mut broken_by_a_quarter) = (0, 0, 0);
    for (key, Planted { values, row, limit }) in planted.take(TABLES) {
        let table = table(&Forgetting, &grid(), &values, NOISE, key.named("runs"));
        // The law is right; with a misfit the advice would be more careful than the noise asks for.
        let options = Options { misfit: false, ..options(200) };
        let fitted = fit(&table, &Forgetting, &options).unwrap();
        let advised = |confidence| {
            let advisor = Advisor::new([&fitted]);
            advisor.smallest_p(&row, Limit::Nats(limit), confidence).unwrap().p.unwrap()
        };
        let keep = |p: f64, name: &str| {
            let row = Row { p, ..row };
            let new = |i: usize| loss(&Forgetting, &row, &values, NOISE, key.named(name), i);
            (0..NEW_RUNS).filter(|&i| new(i) - row.loss_pt0 <= limit).count()
        };
        kept += keep(advised(0.9), "new runs");
        kept_even += keep(advised(0.5), "new runs with even odds");
        broken_by_a_quarter += NEW_RUNS - keep(0.25 * advised(0.9), "new runs at a quarter");
    }
    let share = |count: usize| count as f64 / (TABLES * NEW_RUNS) as f64;
    let (kept, kept_even, broken) = (share(kept), share(kept_even), share(broken_by_a_quarter));
    println!("kept {kept:.4}, at even odds {kept_even:.4}; a quarter breaks {broken:.4}");
    assert!((0.9..0.97).contains(&kept), "{kept}");
    assert!((0.5..0.65).contains(&kept_even), "{kept_even}");
    assert!(broken > 0.5, "{broken}");
}

#[test]
fn more_is_injected_for_less_forgetting_and_more_confidence() {
    let fitted = fitted(&Forgetting, &FORGETTING, NOISE);
    let advisor = Advisor::new([&fitted]);
    let advice = |limit, confidence| advisor.smallest_p(&asked(), limit, confidence).unwrap();
    let p = |limit, confidence| advice(Limit::Nats(limit), confidence).p.unwrap();
    assert!(p(0.1, 0.9) > p(0.2, 0.9) && p(0.2, 0.9) > 0.0);
    assert!(p(0.1, 0.95) > p(0.1, 0.9) && p(0.1, 0.9) > p(0.1, 0.5));

    let advice_at = advice(Limit::Nats(0.1), 0.9);
    // A binary share of the loss, so that both limits are the same number.
    let relative = advice(Limit::Relative(0.0625), 0.9);
    assert_eq!(relative, advice(Limit::Nats(0.0625 * 2.85), 0.9));
    assert!(advice_at.share >= advice_at.required && advice_at.required > 0.9);
    // It is the smallest: of 100 simulated runs one fewer keeps to it just below.
    assert!(advice_at.share < advice_at.required + 0.0101);
    let Estimate { value, low, high } = advice_at.by_law;
    assert!(low < value && value < high && high < p(0.1, 0.99));
    let row = Row { p: value, ..asked() };
    let at_value = fitted.predict(&row).value - row.loss_pt0;
    assert_relative_eq!(at_value, 0.1, max_relative = 1e-9);
    assert!(advice_at.rise.value < 0.1 && advice_at.rise_without.value > 0.5);

    // Nothing need be injected where the limit lies above what is forgotten without.
    let lax = advice(Limit::Nats(5.0), 0.9);
    assert_eq!((lax.p, lax.share, lax.by_law.value), (Some(0.0), 1.0, 0.0));
    // The law leaves 0.043 at p = 1, and the noise of a run is 0.014: it meets this limit, and no
    // promise can be made.
    let within_noise = advice(Limit::Nats(0.05), 0.9);
    assert_eq!(within_noise.p, None);
    assert!(within_noise.share < 0.9 && within_noise.by_law.value < 1.0);
    let why = within_noise.why_none().unwrap();
    assert!(why.kind == WarningKind::NoPKeepsLimit && why.message.contains("within the noise"));
    assert_eq!(within_noise.warnings.last(), Some(&why));
    // By this law p = 1 leaves a rise of 0.13.
    let weak = self::fitted(&Forgetting, &[6.0, 50.0, 0.4, 0.35], 1e-4);
    let never = Advisor::new([&weak]).smallest_p(&asked(), Limit::Nats(0.01), 0.9).unwrap();
    assert_eq!((never.p, never.by_law.value), (None, f64::INFINITY));
    assert!(never.why_none().unwrap().message.contains("even by the law itself"));
}

#[test]
fn what_injection_does_to_the_target() {
    let (plain, with_p) =
        (fitted(&Finetuning, &FINETUNING, 0.0), fitted(&FinetuningP, &FINETUNING_P, 0.0));
    // The first law that is given is asked.
    let other = Advisor::new([&with_p, &plain]).on_target(&asked()).unwrap();
    assert_eq!(other.law, "finetuning-p");
    let advice = Advisor::new([&plain, &with_p]).on_target(&asked()).unwrap();
    assert_eq!(advice.law, "finetuning");
    let at =
        |law: &dyn Law, values: &[f64], p| law.predict(&(&Row { p, ..asked() }).into(), values);
    let loss_ft = at(&Finetuning, &FINETUNING, 0.01);
    assert_relative_eq!(advice.loss_ft.value, loss_ft, max_relative = 1e-6);
    let change = at(&FinetuningP, &FINETUNING_P, 0.01) - at(&FinetuningP, &FINETUNING_P, 0.0);
    assert_relative_eq!(advice.change.unwrap().value, change, max_relative = 1e-5);
    // ((1 + B·p)·N)^α · D_ft^β = N^α · D^β for D = (1 + B·p)^(α/β) · D_ft.
    let factor = 1.3f64.powf(0.1 / 0.12);
    assert_relative_eq!(advice.equivalent_data.unwrap().value, factor, max_relative = 1e-5);

    let without = Advisor::new([&plain]).on_target(&asked()).unwrap();
    assert_eq!((without.change, without.equivalent_data), (None, None));
    let only = Advisor::new([&with_p]).on_target(&Row { p: 0.0, ..asked() }).unwrap();
    let nothing = Estimate { value: 0.0, low: 0.0, high: 0.0 };
    assert_eq!((only.law, only.change), ("finetuning-p", Some(nothing)));
    assert_eq!(only.equivalent_data, Some(Estimate { value: 1.0, low: 1.0, high: 1.0 }));
}

#[test]
fn sizes_for_a_loss_on_the_target() {
    let exact = fitted(&Finetuning, &FINETUNING, 0.0);
    let noisy = fitted(&Finetuning, &FINETUNING, NOISE);
    let [a, alpha, beta, e] = FINETUNING;
    let term = |row: &Row| a * row.n_params.powf(-alpha) * row.d_ft_tokens.powf(-beta);
    // What one size leaves to the other, of a loss 0.9 of the way from here to the floor.
    let target = e + 0.9 * term(&asked());
    let advisor = Advisor::new([&exact]);
    let n = advisor.n_for_target(&asked(), target).unwrap();
    assert_relative_eq!(n.size.value, 2e8 * 0.9f64.powf(-1.0 / alpha), max_relative = 1e-4);
    assert_relative_eq!(n.floor.value, e, max_relative = 1e-5);
    let d = advisor.d_ft_for_target(&asked(), target).unwrap();
    assert_relative_eq!(d.size.value, 5e6 * 0.9f64.powf(-1.0 / beta), max_relative = 1e-4);
    assert_eq!((n.reachable, d.reachable), (1.0, 1.0));
    let is_not_reached = |warning: &Warning| warning.kind == WarningKind::LossNotReached;
    assert!(!n.warnings.iter().chain(&d.warnings).any(is_not_reached));

    // D_ft^(-β) − (2·D_ft)^(-β) is (1 − 2^(-β)) of the term.
    let gain = term(&asked()) * (1.0 - 2f64.powf(-beta));
    // What doubling gains at a hundred times the data.
    let worth = advisor.worth_collecting(&asked(), gain * 100f64.powf(-beta)).unwrap();
    assert_relative_eq!(worth.doubling.value, gain, max_relative = 1e-4);
    assert_relative_eq!(worth.enough.value, 5e8, max_relative = 1e-3);
    let outside = |warning: &Warning| warning.to_string().starts_with("W09: d_ft_tokens = ");
    assert!(worth.warnings.iter().any(outside));
    // An amount that is never worth it, and one that always is, are those at the ends of what is looked
    // at, a thousandth of the least of the runs and a thousand times the most.
    let never = advisor.worth_collecting(&asked(), 100.0).unwrap();
    assert_eq!(never.enough.value, TOKENS[0] / 1000.0);
    let always = advisor.worth_collecting(&asked(), 1e-9).unwrap();
    let Estimate { value, low, high } = always.enough;
    assert!([value, low, high].iter().all(|end| end.is_infinite()));
    assert_relative_eq!(always.searched.most, TOKENS[TOKENS.len() - 1] * 1000.0);
    assert!(!always.warnings.iter().any(outside), "{:?}", always.warnings);

    let below = advisor.n_for_target(&asked(), 1.1).unwrap();
    assert_eq!((below.size.value, below.reachable), (f64::INFINITY, 0.0));
    assert!(is_not_reached(&below.warnings[0]));
    let message = &below.warnings[0].message;
    assert!(
        message.contains("no n_params up to 1.27e12 reaches the loss, 1000 times"),
        "{message}"
    );
    let advisor = Advisor::new([&noisy]);
    let Estimate { value, low, high } = advisor.n_for_target(&asked(), target).unwrap().size;
    assert!(low < value && value < high);
    // With the largest model that is looked at some of the resampled laws reach a loss and some do not.
    let largest = Row { n_params: 1.27e12, ..asked() };
    let at_largest = Finetuning.predict(&(&largest).into(), &noisy.values());
    let close = advisor.n_for_target(&asked(), at_largest).unwrap();
    assert!(0.1 < close.reachable && close.reachable < 0.9 && close.size.high.is_infinite());
}

#[test]
fn a_larger_model_at_equal_flops() {
    let forgetting = fitted(&Forgetting, &FORGETTING, 0.0);
    let (finetuning, additive) =
        (fitted(&Finetuning, &FINETUNING, 0.0), fitted(&Additive, &ADDITIVE, 0.0));
    let all = Advisor::new([&forgetting, &finetuning, &additive]);
    let advice = all.larger_model(&asked(), 2.0).unwrap();
    assert_eq!(advice.flops, 6.0 * 2e8 * 2e10);
    assert_eq!((advice.larger.n_params, advice.larger.d_tokens), (4e8, 1e10));
    let large = Row { n_params: 4e8, d_tokens: 1e10, ..asked() };
    let rise = |row: &Row| Forgetting.predict(&row.into(), &FORGETTING) - row.loss_pt0;
    let before = |row: &Row| Additive.predict(&row.into(), &ADDITIVE);
    let less = rise(&asked()) - rise(&large);
    assert_relative_eq!(advice.forgets_less.value, less, max_relative = 1e-5);
    let change = before(&large) - before(&asked()) - less;
    assert_relative_eq!(advice.loss_pt.unwrap().value, change, max_relative = 1e-4);
    assert_eq!(advice.better, Some(if change < 0.0 { 1.0 } else { 0.0 }));
    let after = advice.larger.loss_pt.unwrap().value;
    assert_relative_eq!(after, before(&large) + rise(&large), max_relative = 1e-5);
    assert!(advice.loss_ft.unwrap().value < 0.0);
    // The other way round it is the other way round.
    let back = all.larger_model(&large, 0.5).unwrap();
    assert_relative_eq!(back.loss_pt.unwrap().value, -change, max_relative = 1e-4);

    let without = Advisor::new([&forgetting]).larger_model(&asked(), 2.0).unwrap();
    assert_eq!((without.loss_pt, without.better, without.loss_ft), (None, None, None));
    assert_relative_eq!(without.forgets_less.value, less, max_relative = 1e-5);
    assert!(without.assumed.iter().any(|line| line.contains("d_tokens")));
}

/// The runs are made, for 200 planted tables, and the law's error at the point that was asked about
/// falls by what was said; three runs where little is forgotten are no help. What counts is the
/// error against the planted law and not the deviation of a new bootstrap, which fell by less than
/// was said for tables of 12 runs. A mean square over 200 tables is known to 10%, and a ratio of
/// two of the same tables better.
#[test]
fn the_best_new_runs_shrink_the_error_as_said() {
    const TABLES: u64 = 200;
    let of_the_grid = |row: &Row| {
        [41e6, 109e6, 334e6].contains(&row.n_params)
            && [3e5, 1e6, 3e6].contains(&row.d_ft_tokens)
            && [0.0, 0.001, 0.01].contains(&row.p)
    };
    let rows: Vec<Row> = grid().into_iter().filter(of_the_grid).collect();
    let row = Row { n_params: 1.27e9, d_ft_tokens: 3e7, p: 0.01, loss_pt0: 2.2, ..Row::default() };
    let first = table(&Forgetting, &rows, &FORGETTING, NOISE, Key::new(0));
    let first = fit(&first, &Forgetting, &options(1000)).unwrap();
    let advice = Advisor::new([&first]).best_new_runs(&row, 3).unwrap();
    let runs = &advice.runs;
    assert_eq!(runs.len(), 3);
    let has_nothing_to_shrink = |warning: &Warning| warning.kind == WarningKind::NothingToShrink;
    assert!(!advice.warnings.iter().any(has_nothing_to_shrink));
    let exact = table(&Forgetting, &rows, &FORGETTING, 0.0, Key::new(0));
    let exact = fit(&exact, &Forgetting, &options(20)).unwrap();
    let nothing = Advisor::new([&exact]).best_new_runs(&row, 3).unwrap();
    assert!(nothing.warnings.iter().any(has_nothing_to_shrink), "{nothing:?}");
    // 27 residuals know the noise to 14%.
    assert_relative_eq!(advice.noise, NOISE * row.loss_pt0, max_relative = 0.5);
    assert!(runs[0].alone == runs[0].together && runs[0].together < runs[1].together);
    assert!(runs.iter().all(|run| run.alone <= runs[0].alone && run.together < 1.0));

    let error = |new: &[(f64, f64, f64)]| {
        let new = new.iter().map(|&(n_params, d_ft_tokens, p)| Row {
            n_params,
            d_ft_tokens,
            p,
            loss_pt0: 2.7,
            ..Row::default()
        });
        let rows: Vec<Row> = rows.iter().copied().chain(new).collect();
        let truth = Forgetting.predict(&(&row).into(), &FORGETTING);
        let squared = |seed| {
            let table = table(&Forgetting, &rows, &FORGETTING, NOISE, Key::new(seed));
            let fitted = fit(&table, &Forgetting, &options(0)).unwrap();
            (fitted.predict(&row).value - truth).powi(2)
        };
        (0..TABLES).map(squared).sum::<f64>() / TABLES as f64
    };
    let before = error(&[]);
    let best: Vec<_> = runs.iter().map(|run| (run.n_params, run.d_ft_tokens, run.p)).collect();
    let removed = 1.0 - error(&best) / before;
    let others =
        1.0 - error(&[(334e6, 3e5, 0.01), (334e6, 3e5, 0.01), (109e6, 3e5, 0.01)]) / before;
    let said = runs[2].together;
    println!("said {said:.3}, removed {removed:.3}, by others {others:.3}");
    assert!(removed > others + 0.2, "{removed} {others}");
    assert_relative_eq!(said, removed, epsilon = 0.2);
}

#[test]
fn what_cannot_be_answered_is_refused_in_words() {
    let fitted = fitted(&Forgetting, &FORGETTING, NOISE);
    let advisor = Advisor::new([&fitted]);
    let refusal = |result: Result<(), forgetting_laws::Error>| result.unwrap_err().to_string();
    let smallest =
        |row: &Row, limit, confidence| advisor.smallest_p(row, limit, confidence).map(drop);
    let limit = Limit::Relative(0.01);
    assert_eq!(
        refusal(advisor.n_for_target(&asked(), 2.0).map(drop)),
        "fitted laws = forgetting: the question needs finetuning or finetuning-p; fit it too \
         (--law all)"
    );
    assert!(refusal(Advisor::new([]).rise(&asked()).map(drop)).starts_with("fitted laws = none"));
    let table = table(&Forgetting, &grid(), &FORGETTING, NOISE, Key::new(0));
    let plain = fit(&table, &Forgetting, &options(0)).unwrap();
    assert_eq!(
        refusal(Advisor::new([&plain]).best_new_runs(&asked(), 3).map(drop)),
        "resamples of the forgetting law = 0: advice needs intervals; fit again with --bootstrap \
         1000"
    );
    for n_params in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let refused = refusal(smallest(&Row { n_params, ..asked() }, limit, 0.9));
        assert_eq!(refused, format!("n_params = {n_params}: must be a number above 0"));
    }
    let no_loss = Row { loss_pt0: f64::NAN, ..asked() };
    assert!(refusal(smallest(&no_loss, limit, 0.9)).starts_with("loss_pt0 = NaN"));
    assert!(refusal(smallest(&asked(), Limit::Nats(0.0), 0.9)).starts_with("limit = 0"));
    for confidence in [0.0, 1.0, f64::NAN] {
        let refused = refusal(smallest(&asked(), limit, confidence));
        assert_eq!(refused, format!("confidence = {confidence}: must lie between 0 and 1"));
    }
    let much = Row { p: 1.5, ..asked() };
    assert_eq!(refusal(advisor.rise(&much).map(drop)), "p = 1.5: must lie between 0 and 1");
}

#[test]
fn warnings_say_what_not_to_rely_on() {
    let table = table(&Forgetting, &grid(), &FORGETTING, NOISE, Key::new(0));
    let held_out = Options { hold_out: Some(HoldOut::Size), ..options(50) };
    let supported = fit(&table, &Forgetting, &held_out).unwrap();
    let limit = Limit::Nats(0.2);
    let warnings = |fit: &Fit, row: &Row| -> Vec<String> {
        let found = Advisor::new([fit]).smallest_p(row, limit, 0.9).unwrap();
        found.warnings.iter().map(Warning::to_string).collect()
    };
    assert_eq!(warnings(&supported, &asked()), Vec::<String>::new());
    let outside = warnings(&supported, &Row { n_params: 7e9, loss_pt0: 2.0, ..asked() });
    assert_eq!(
        outside,
        [
            "W09: n_params = 7e9 is outside the range 4.1e7 to 1.27e9 of the forgetting law's runs, by \
          a factor of 5.51"
        ]
    );
    let untested = fit(&table, &Forgetting, &options(50)).unwrap();
    assert_eq!(
        warnings(&untested, &asked()),
        ["W12: the forgetting law was not tested on held-out runs"]
    );
    // Losses that no size explains.
    let noise = self::table(&Forgetting, &grid(), &[0.0; 4], 0.05, Key::new(1));
    let unsupported = fit(&noise, &Forgetting, &held_out).unwrap();
    assert!(
        warnings(&unsupported, &asked()).iter().any(|warning| warning.contains("not supported"))
    );
}

/// Every run ends below its L_pt⁰, which Equation 7 cannot say: by the law L_pt stays, and the simulated
/// runs all lie below.
#[test]
fn an_interval_holds_its_value_also_where_losses_fall() {
    let mut table = table(&Forgetting, &grid(), &FORGETTING, NOISE, Key::new(3));
    for (i, run) in table.runs.iter_mut().enumerate() {
        let noise = 0.002 * Key::new(4).normal(i as u64);
        run.loss_pt = Some(run.row.loss_pt0 * (0.98 + noise));
    }
    let fit = fit(&table, &Forgetting, &options(100)).unwrap();
    let rise = Advisor::new([&fit]).rise(&asked()).unwrap();
    assert!(rise.value == 0.0 && rise.low < -0.04 && rise.high == 0.0, "{rise:?}");
    let prediction = fit.predict(&asked());
    assert!(fit.outcomes(&asked()).iter().all(|&loss| loss < prediction.value));
    let (low, high) = prediction.low.zip(prediction.high).unwrap();
    assert!(low < prediction.value && high == prediction.value, "{prediction:?}");
}
