//! Fits a law to a table of losses made in code, and predicts a model that was not trained, without
//! files and without libtorch:
//!
//! ```sh
//! cargo run -p forgetting-laws --example own_losses --features fit
//! ```

use forgetting_laws::Result;
use forgetting_laws::fit::{Options, fit};
use forgetting_laws::laws::{Forgetting, Row};
use forgetting_laws::table::{Run, Table};

/// N, L_pt⁰, D_ft, p and L_pt at the bottom of the U-curve, in nats per token. Made up.
const LOSSES: [(f64, f64, f64, f64, f64); 12] = [
    (1e7, 3.60, 1e5, 0.00, 4.122),
    (1e7, 3.60, 1e5, 0.01, 3.751),
    (1e7, 3.60, 1e6, 0.00, 4.771),
    (1e7, 3.60, 1e6, 0.01, 3.944),
    (1e8, 2.90, 1e5, 0.00, 3.118),
    (1e8, 2.90, 1e5, 0.01, 2.960),
    (1e8, 2.90, 1e6, 0.00, 3.382),
    (1e8, 2.90, 1e6, 0.01, 3.041),
    (1e9, 2.40, 1e5, 0.00, 2.486),
    (1e9, 2.40, 1e5, 0.01, 2.425),
    (1e9, 2.40, 1e6, 0.00, 2.597),
    (1e9, 2.40, 1e6, 0.01, 2.454),
];

/// Fits and predicts.
pub fn main() -> Result<()> {
    let run = |&(n_params, loss_pt0, d_ft_tokens, p, loss_pt): &(f64, f64, f64, f64, f64)| Run {
        row: Row { n_params, loss_pt0, d_ft_tokens, p, ..Row::default() },
        loss_pt: Some(loss_pt),
        ..Run::default()
    };
    let table = Table::new(LOSSES.iter().map(run).collect());
    let fitted = fit(&table, &Forgetting, &Options::default())?;
    println!("{} ({:?})", fitted.equation, fitted.status);
    for param in &fitted.params.0 {
        let (low, high) = (param.low.unwrap_or(f64::NAN), param.high.unwrap_or(f64::NAN));
        println!("{:>5} = {:<10.4} 90% in [{low:.4}, {high:.4}]", param.name, param.value);
    }
    println!(
        "held out: {:.2}%, supported: {:?}",
        100.0 * fitted.mre_held_out.unwrap_or(f64::NAN),
        fitted.is_supported()
    );

    let row = Row { n_params: 3e8, loss_pt0: 2.63, d_ft_tokens: 1e6, p: 0.005, ..Row::default() };
    let prediction = fitted.predict(&row);
    println!("L_pt = {:.3} at N = 3e8, D_ft = 1e6, p = 0.5%", prediction.value);
    assert!(prediction.value > row.loss_pt0 && prediction.outside.is_empty());
    Ok(())
}
