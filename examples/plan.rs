//! Plans a finetuning run, and predicts with the law how much it forgets. Builds without libtorch:
//!
//! ```sh
//! cargo run -p forgetting-laws --example plan
//! ```

use forgetting_laws::injection::{MixtureSpec, SamplerKind};
use forgetting_laws::laws::{Forgetting, Law, Row};
use forgetting_laws::model::{PAPER_CONTEXT, PAPER_VOCAB, Shape};
use forgetting_laws::pretraining::{Budget, Schedule};
use forgetting_laws::rng::Key;
use forgetting_laws::{Fraction, Result, finetuning};

/// Prints a plan.
pub fn main() -> Result<()> {
    let n = Shape::named("medium", PAPER_VOCAB, PAPER_CONTEXT)?.count().paper();
    let context = PAPER_CONTEXT as u64;

    // Pretraining: 100 tokens per parameter, here in steps of 96 sequences.
    let steps = Budget::paper().steps(n, 96 * context)?;
    let pretraining = Schedule::paper(5e-4, steps);
    // Finetuning at a thirtieth of the peak, the rate that pretraining had here:
    let finetuning = finetuning::Schedule::paper(pretraining.peak);
    let crossing = pretraining.crossing(finetuning.ratio).expect("the cosine ends below peak/30");
    println!(
        "N = {n}: {steps} steps; then {:.2e}, as at {:.1}%",
        finetuning.lr(0),
        100.0 * crossing
    );

    // Which sequence is at each position of 12,000 steps of 64, with 1% injected.
    let p = Fraction::new(0.01)?;
    let mixture = MixtureSpec {
        sampler: SamplerKind::Exact,
        p,
        steps: finetuning::STEPS,
        global_batch: 64,
        target_sequences: 3_000_000 / context,
        reserved_sequences: 10_000,
        replay_sequences: None,
        sequence_tokens: context,
    }
    .build(Key::new(0))?;
    let first: Vec<_> = mixture.batch(0).take(3).collect();
    println!("{:?} in all, starting with {first:?}", mixture.counts(finetuning::STEPS));

    // Equation 7. B = 829 is the paper's for wikipedia; A, alpha and beta are made up here.
    let values = [2.0, 829.0, 0.4, 0.4];
    Forgetting.check(&values)?;
    let mut rises = Vec::new();
    for p in [0.0, p.get()] {
        let row = Row { n_params: n as f64, d_ft_tokens: 3e6, p, loss_pt0: 2.8, ..Row::default() };
        rises.push(Forgetting.predict(&(&row).into(), &values) - row.loss_pt0);
    }
    println!("L_pt rises by {:.3} nats, with 1% injected by {:.3}", rises[0], rises[1]);
    assert!(rises[1] < rises[0]);
    Ok(())
}
