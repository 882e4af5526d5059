//! Writes `examples/losses.csv`, a table of losses to try the commands on. No model was trained for
//! it: the losses are computed from the laws with known coefficients, plus noise.
//!
//! ```sh
//! cargo run -p forgetting-laws --example planted > examples/losses.csv
//! ```

use forgetting_laws::Result;
use forgetting_laws::laws::{Additive, Finetuning, Forgetting, Law, Row};
use forgetting_laws::rng::Key;

/// What was planted: B is the paper's for wikipedia (near) and dm_mathematics (far), the other
/// coefficients are made up. A, B, alpha, beta of forgetting; A, alpha, beta, E of finetuning.
pub const DOMAINS: [(&str, [f64; 4], [f64; 4]); 2] = [
    ("planted-near", [6.0, 829.0, 0.4, 0.35], [60.0, 0.12, 0.1, 1.4]),
    ("planted-far", [130.0, 1e4, 0.45, 0.3], [300.0, 0.2, 0.12, 0.9]),
];

/// A, B, alpha, beta, E of the losses of pretraining.
pub const PRETRAINING: [f64; 5] = [406.4, 410.7, 0.34, 0.28, 1.69];

/// The standard deviation of the noise of ln L.
const NOISE: f64 = 0.004;

/// Prints the table.
pub fn main() -> Result<()> {
    print!("{}", table());
    Ok(())
}

/// The paper's sizes, fractions, and amounts of data at even distances on a log scale; models are
/// pretrained on 100 tokens per parameter, and for the law of pretraining on other amounts too.
pub fn table() -> String {
    let sizes = [41_000_000u64, 109_000_000, 334_000_000, 665_000_000, 1_270_000_000];
    let key = Key::new(0).named("planted losses");
    let mut draws = 0;
    let mut noisy = |loss: f64| {
        draws += 1;
        loss * (NOISE * key.normal(draws)).exp()
    };
    let pretrained = |n_params: u64, d_tokens: u64| {
        let row = Row { n_params: n_params as f64, d_tokens: d_tokens as f64, ..Row::default() };
        Additive.predict(&(&row).into(), &PRETRAINING)
    };
    let mut text =
        "domain,n_params,d_ft_tokens,d_tokens,p,seed,loss_pt0,loss_pt,loss_ft,loss\n".to_string();
    for n in sizes {
        for ratio in [10, 20, 40, 100, 200] {
            let loss = noisy(pretrained(n, ratio * n));
            text += &format!("pretraining,{n},,{},,0,,,,{loss:.6}\n", ratio * n);
        }
    }
    for (domain, forgetting, finetuning) in DOMAINS {
        for n in sizes {
            let loss_pt0 = pretrained(n, 100 * n);
            for d_ft in [300_000u64, 1_000_000, 3_000_000, 10_000_000, 30_000_000] {
                for p in [0.0, 0.001, 0.005, 0.01, 0.05] {
                    let (n_params, d_ft_tokens) = (n as f64, d_ft as f64);
                    let row = Row { n_params, d_ft_tokens, p, loss_pt0, ..Row::default() };
                    let loss_pt = noisy(Forgetting.predict(&(&row).into(), &forgetting));
                    let loss_ft = noisy(Finetuning.predict(&(&row).into(), &finetuning));
                    text += &format!(
                        "{domain},{n},{d_ft},{},{p},0,{loss_pt0:.6},{loss_pt:.6},{loss_ft:.6},\n",
                        100 * n
                    );
                }
            }
        }
    }
    text
}
