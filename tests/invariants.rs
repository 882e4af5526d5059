//! What must hold for every schedule, mixture, evaluation plan, U-curve and law, through the public
//! interface.

use forgetting_laws::finetuning::{EvalPlan, Evaluation, StopRule, UCurve};
use forgetting_laws::injection::{
    Counts, Draw, MixtureSpec, Pick, Sampler, SamplerKind, Shuffle, share,
};
use forgetting_laws::laws::{Forgetting, LAWS, Law, Point, Row};
use forgetting_laws::pretraining::{Budget, Schedule};
use forgetting_laws::rng::Key;
use forgetting_laws::{Error, Fraction};
use proptest::prelude::*;

fn fraction() -> impl Strategy<Value = Fraction> {
    prop_oneof![
        1 => Just(0.0),
        1 => Just(1.0),
        4 => 0.0..=1.0f64,
        4 => (-12.0..0.0f64).prop_map(f64::exp),
    ]
    .prop_map(|value| Fraction::new(value).unwrap())
}

fn kind() -> impl Strategy<Value = SamplerKind> {
    prop_oneof![Just(SamplerKind::Independent), Just(SamplerKind::Exact)]
}

fn schedule() -> impl Strategy<Value = Schedule> {
    let steps = prop_oneof![1..50u64, 1..2_000_000u64];
    (1e-6..1.0f64, steps, fraction(), fraction()).prop_map(
        |(peak, total_steps, warmup, terminal)| Schedule { peak, total_steps, warmup, terminal },
    )
}

proptest! {
    #[test]
    fn rates_are_positive_below_the_peak_and_end_at_the_terminal_value(
        schedule in schedule(), at in 0.0..2.0f64,
    ) {
        let step = (at * schedule.total_steps as f64) as u64;
        let rate = schedule.lr(step);
        // A rounding or two above the peak is a rounding.
        prop_assert!(rate >= 0.0 && rate <= schedule.peak * (1.0 + 1e-15));
        prop_assert_eq!(rate, schedule.peak * schedule.multiplier(step));
        if schedule.warmup.get() < 1.0 {
            let last = schedule.terminal.get() * schedule.peak;
            let end = schedule.lr(schedule.total_steps - 1);
            prop_assert!((end - last).abs() <= 1e-15 * schedule.peak);
            prop_assert_eq!(end, schedule.lr(schedule.total_steps));
        }
    }

    #[test]
    fn rates_rise_during_the_warmup_and_fall_after_it(schedule in schedule(), at in 0.0..1.0f64) {
        let step = (at * schedule.total_steps as f64) as u64;
        let (now, next) = (schedule.lr(step), schedule.lr(step + 1));
        // Steps `step` and `step + 1` stand at (step + 1)/T and (step + 2)/T of the run.
        let warmup = schedule.warmup.get() * schedule.total_steps as f64;
        if (step + 2) as f64 <= warmup && step + 1 < schedule.total_steps {
            prop_assert!(next > now);
        } else if (step + 1) as f64 >= warmup {
            prop_assert!(next <= now + 1e-15 * schedule.peak);
        }
    }

    #[test]
    fn the_curve_does_not_depend_on_the_length(schedule in schedule(), times in 2..9u64) {
        let longer = Schedule { total_steps: schedule.total_steps * times, ..schedule };
        let step = schedule.total_steps / 3;
        let (a, b) = (schedule.multiplier(step), longer.multiplier((step + 1) * times - 1));
        prop_assert!((a - b).abs() < 1e-9, "{} {}", a, b);
    }

    #[test]
    fn the_rate_at_a_crossing_is_the_one_asked_for(schedule in schedule(), share in 0.0..=1.0f64) {
        let terminal = schedule.terminal.get();
        let multiplier = terminal + share * (1.0 - terminal);
        if let Some(progress) = schedule.crossing(multiplier) {
            // Evaluated at 1/10⁶ of the run, where the slope is at most π / 2(1 − warmup).
            let fine = Schedule { total_steps: 1_000_000, ..schedule };
            let step = ((progress * 1e6).round() as u64).saturating_sub(1);
            let allowed = 2e-6 * std::f64::consts::PI / (1.0 - schedule.warmup.get());
            let warming = 1e-6 / schedule.warmup.get();
            prop_assert!((fine.multiplier(step) - multiplier).abs() <= allowed + warming);
        } else {
            prop_assert!(schedule.warmup.get() == 1.0 || terminal == 1.0);
        }
    }

    #[test]
    fn a_budget_is_spent_and_by_less_than_a_step_too_much(
        tokens_per_param in 0.01..200.0f64, n in 1..2_000_000_000u64, step in 1..4_000_000u64,
    ) {
        let budget = Budget { tokens_per_param };
        let (tokens, steps) = (budget.tokens(n).unwrap(), budget.steps(n, step).unwrap());
        prop_assert!(tokens as f64 >= tokens_per_param * n as f64);
        prop_assert!((tokens as f64) < tokens_per_param * n as f64 + 1.0);
        prop_assert!(steps * step >= tokens && (steps - 1) * step < tokens);
    }

    #[test]
    fn an_exact_count_never_strays_by_more_than_one(
        p in fraction(), seed: u64, n in 0..1_000_000_000u64,
    ) {
        let count = Sampler::new(SamplerKind::Exact, p, Key::new(seed), 0).pretrain_count(n);
        // p·n itself is rounded, by 10⁹ · 2⁻⁵³ at most.
        prop_assert!((count as f64 - p.get() * n as f64).abs() <= 1.0 + 2e-7);
    }

    #[test]
    fn a_pick_agrees_with_the_counts(
        kind in kind(), p in fraction(), seed: u64, horizon in 0..3000u64, position in 0..4000u64,
    ) {
        let sampler = Sampler::new(kind, p, Key::new(seed), horizon);
        let (before, after) =
            (sampler.pretrain_count(position), sampler.pretrain_count(position + 1));
        let expected = if after > before {
            Pick::Pretrain(before)
        } else {
            Pick::Target(position - before)
        };
        prop_assert!(after - before <= 1);
        prop_assert_eq!(sampler.pick(position), expected);
        let other = Sampler::new(kind, p, Key::new(seed), horizon / 2);
        prop_assert_eq!(other.pick(position), expected);
    }

    #[test]
    fn a_larger_p_injects_wherever_a_smaller_does(
        p in fraction(), q in fraction(), seed: u64, position in 0..5000u64,
    ) {
        let injects = |p: Fraction| {
            let sampler = Sampler::new(SamplerKind::Independent, p, Key::new(seed), 0);
            matches!(sampler.pick(position), Pick::Pretrain(_))
        };
        let (small, large) = if p < q { (p, q) } else { (q, p) };
        prop_assert!(!injects(small) || injects(large));
    }

    #[test]
    fn an_epoch_meets_every_index_once(seed: u64, len in 1..400u64, epoch in 0..1_000_000u64) {
        let shuffle = Shuffle::new(Key::new(seed), len).unwrap();
        let mut seen = vec![false; len as usize];
        for draw in epoch * len..(epoch + 1) * len {
            prop_assert_eq!(shuffle.epoch(draw), epoch);
            prop_assert!(!std::mem::replace(&mut seen[shuffle.at(draw) as usize], true));
        }
    }

    #[test]
    fn any_set_is_shuffled_into_itself(seed: u64, len in 1..=u64::MAX, a: u64, b: u64) {
        let shuffle = Shuffle::new(Key::new(seed), len).unwrap();
        prop_assert!(shuffle.at(a) < len);
        let (a, b) = (a % len, b % len);
        prop_assert_eq!(shuffle.at(a) == shuffle.at(b), a == b);
    }
}

fn mixture_spec() -> impl Strategy<Value = MixtureSpec> {
    let replay = proptest::option::of(1..50u64);
    (kind(), fraction(), 0..60u64, 1..20u64, 1..100u64, replay).prop_map(
        |(sampler, p, steps, global_batch, target_sequences, replay_sequences)| MixtureSpec {
            sampler,
            p,
            steps,
            global_batch,
            target_sequences,
            reserved_sequences: 1200,
            replay_sequences,
            sequence_tokens: 64,
        },
    )
}

proptest! {
    /// The whole run, in order: target sequences once each before any repeats, fresh sequences
    /// never again, counts as they are announced, and no trace of how ranks cut it.
    #[test]
    fn a_mixture_keeps_its_promises(
        spec in mixture_spec(), seed: u64, ranks in 1..12u64,
    ) {
        let mixture = spec.build(Key::new(seed)).unwrap();
        let mut counts = Counts::default();
        let (mut targets, mut injected) = (Vec::new(), Vec::new());
        for step in 0..spec.steps {
            prop_assert_eq!(mixture.counts(step), counts);
            let batch: Vec<Draw> = mixture.batch(step).collect();
            prop_assert_eq!(batch.len() as u64, spec.global_batch);
            let cut: Vec<Draw> = (0..ranks)
                .flat_map(|rank| mixture.part(step, share(spec.global_batch, rank, ranks)))
                .collect();
            prop_assert_eq!(&cut, &batch);
            for draw in batch {
                match draw {
                    Draw::Target(index) => targets.push(index),
                    Draw::Pretrain(index) => injected.push(index),
                }
            }
            counts = Counts { target: targets.len() as u64, pretrain: injected.len() as u64 };
        }
        prop_assert_eq!(mixture.counts(spec.steps), counts);
        let once_each = |draws: &[u64], len: u64| {
            draws.chunks(len as usize).all(|epoch| {
                let mut sorted = epoch.to_vec();
                sorted.sort_unstable();
                sorted.dedup();
                sorted.len() == epoch.len() && sorted.iter().all(|&index| index < len)
            })
        };
        prop_assert!(once_each(&targets, spec.target_sequences));
        match spec.replay_sequences {
            Some(pool) => prop_assert!(once_each(&injected, pool)),
            None => prop_assert!(injected.iter().copied().eq(0..injected.len() as u64)),
        }
    }

    #[test]
    fn a_fresh_stream_is_refused_exactly_when_it_is_too_short(
        spec in mixture_spec(), seed: u64, reserved in 0..1200u64,
    ) {
        let enough = MixtureSpec { replay_sequences: None, ..spec }.build(Key::new(seed)).unwrap();
        let needed = enough.counts(spec.steps).pretrain;
        let tight = MixtureSpec { replay_sequences: None, reserved_sequences: reserved, ..spec };
        match tight.build(Key::new(seed)) {
            Ok(_) => prop_assert!(needed <= reserved),
            Err(Error::Exhausted { asked, available, .. }) => {
                prop_assert_eq!((asked, available), (needed * 64, reserved * 64));
                prop_assert!(needed > reserved);
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}

fn loss() -> impl Strategy<Value = f64> {
    prop_oneof![8 => (0..40u32).prop_map(|x| f64::from(x) / 8.0), 1 => Just(f64::NAN)]
}

fn evaluations() -> impl Strategy<Value = Vec<Evaluation>> {
    proptest::collection::vec((1..200u64, loss(), loss()), 0..30).prop_map(|rows| {
        let mut step = 0;
        rows.into_iter()
            .map(|(gap, loss_ft, loss_pt)| {
                step += gap;
                Evaluation { step, loss_ft, loss_pt, loss_train: None }
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn plans_ascend_from_0_to_the_horizon(
        min_interval in 1..20u64, more in 0..500u64, ratio in 1.0..3.0f64, horizon in 0..20_000u64,
    ) {
        let plan = EvalPlan { min_interval, ratio, max_interval: min_interval + more };
        plan.validate().unwrap();
        let steps = plan.steps(horizon);
        prop_assert_eq!((steps[0], *steps.last().unwrap()), (0, horizon));
        let gaps: Vec<u64> = steps.windows(2).map(|pair| pair[1] - pair[0]).collect();
        prop_assert!(gaps.iter().all(|&gap| gap > 0 && gap <= plan.max_interval));
        // All but the last gap, which the horizon may cut.
        let whole = &gaps[..gaps.len().saturating_sub(1)];
        prop_assert!(whole.iter().all(|&gap| gap >= min_interval));
        prop_assert!(whole.windows(2).all(|pair| pair[0] <= pair[1]));
        let longer = plan.steps(horizon + 777);
        let shared = steps.len() - 1;
        prop_assert_eq!(&longer[..shared], &steps[..shared]);
    }

    #[test]
    fn no_finite_evaluation_lies_below_the_bottom_and_none_before_it_level(
        evaluations in evaluations(),
    ) {
        let finite: Vec<&Evaluation> = evaluations
            .iter()
            .filter(|e| e.loss_ft.is_finite() && e.loss_pt.is_finite())
            .collect();
        match UCurve::new(&evaluations).unwrap().bottom() {
            None => prop_assert!(finite.is_empty()),
            Some(bottom) => {
                for e in &finite {
                    prop_assert!(e.loss_ft >= bottom.loss_ft);
                    prop_assert!(e.step >= bottom.step || e.loss_ft > bottom.loss_ft);
                }
                let ends = [finite[0].step, finite[finite.len() - 1].step];
                prop_assert_eq!(bottom.interior, !ends.contains(&bottom.step));
                let here = finite.iter().find(|e| e.step == bottom.step).unwrap();
                prop_assert_eq!((here.loss_ft, here.loss_pt), (bottom.loss_ft, bottom.loss_pt));
            }
        }
    }

    /// Stopping cuts the run short and leaves the bottom where it was seen.
    #[test]
    fn a_stop_comes_after_the_bottom(evaluations in evaluations()) {
        let rule = StopRule { rise: 0.5, factor: 2.0, min_steps: 50 };
        let stop = (1..=evaluations.len())
            .find(|&n| rule.stops(&UCurve::new(&evaluations[..n]).unwrap()));
        if let Some(n) = stop {
            let (seen, last) = (UCurve::new(&evaluations[..n]).unwrap(), evaluations[n - 1]);
            if last.loss_ft.is_finite() && last.loss_pt.is_finite() {
                let bottom = seen.bottom().unwrap();
                prop_assert!(bottom.step < last.step && 2 * bottom.step <= last.step);
                prop_assert!(bottom.loss_ft + 0.5 <= last.loss_ft);
            }
        }
    }

    #[test]
    fn a_looser_jump_is_never_less_stable(evaluations in evaluations(), jump in 0.0..5.0f64) {
        let curve = UCurve::new(&evaluations).unwrap();
        if curve.instability(jump).is_none() {
            prop_assert!(curve.instability(jump + 0.5).is_none());
        }
    }

    /// Scaling the unit of N by c turns A into A·c^α and leaves everything else.
    #[test]
    fn the_unit_of_n_is_in_a_alone(
        n in 1e4..1e10f64, d in 1e3..1e8f64, p in 0.0..=1.0f64, c in 1e-6..1e6f64,
        a in 0.1..10.0f64, b in 0.0..1e4f64, alpha in 0.05..1.0f64, beta in 0.05..1.0f64,
    ) {
        let row = Row { n_params: n, d_ft_tokens: d, p, loss_pt0: 3.0, d_tokens: 1e9 };
        let scaled = Row { n_params: c * n, ..row };
        let one = Forgetting.predict(&(&row).into(), &[a, b, alpha, beta]);
        let other = Forgetting.predict(&(&scaled).into(), &[a * c.powf(alpha), b, alpha, beta]);
        prop_assert!((one / other - 1.0).abs() < 1e-12);
    }

    /// The claims: forgetting falls with N and p and grows with D_ft.
    #[test]
    fn forgetting_is_worse_for_small_models_much_data_and_no_injection(
        n in 1e4..1e10f64, d in 1e3..1e8f64, p in 0.0..0.9f64,
        a in 0.1..10.0f64, b in 1.0..1e4f64, alpha in 0.05..1.0f64, beta in 0.05..1.0f64,
    ) {
        let values = [a, b, alpha, beta];
        let row = Row { n_params: n, d_ft_tokens: d, p, loss_pt0: 0.0, d_tokens: 1e9 };
        let base = Forgetting.predict(&(&row).into(), &values);
        let larger_model = Forgetting.predict(&(&Row { n_params: 2.0 * n, ..row }).into(), &values);
        let more_injection = Forgetting.predict(&(&Row { p: p + 0.1, ..row }).into(), &values);
        let more_target = Forgetting.predict(&(&Row { d_ft_tokens: 2.0 * d, ..row }).into(), &values);
        prop_assert!(larger_model < base && more_injection < base && more_target > base);
    }

    /// A step along the gradient changes the prediction by the gradient's squared length.
    #[test]
    fn gradients_point_uphill(
        n in 1e2..1e6f64, d in 1e2..1e6f64, p in 0.0..=1.0f64,
        values in proptest::array::uniform5(0.1..1.0f64),
    ) {
        let row = Row { n_params: n, d_ft_tokens: d, p, loss_pt0: 3.0, d_tokens: 20.0 * n };
        let point = Point::from(&row);
        for law in LAWS {
            let values = &values[..law.parameters().len()];
            prop_assert!(law.check(values).is_ok());
            let mut gradient = vec![0.0; values.len()];
            law.gradient(&point, values, &mut gradient);
            let length = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
            let at = |h: f64| {
                let moved: Vec<f64> =
                    values.iter().zip(&gradient).map(|(v, g)| v + h * g / length).collect();
                law.predict(&point, &moved)
            };
            let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
            // h² of the third derivative, which the logarithm of N or D (at most 17) makes as
            // large as 17³ / 6 of the first.
            // Rounding of a loss around 3 by 10⁻¹⁶ counts for 10⁵ times as much.
            let error = (numeric - length).abs();
            prop_assert!(error < 1e-5 * length + 1e-10, "{} {}", numeric, length);
        }
    }
}
