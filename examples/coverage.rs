//! How often the 90% bootstrap intervals cover the true parameters, for tables generated from known
//! laws on the paper's grid.
//!
//! ```sh
//! cargo run -p forgetting-laws --example coverage --features fit -- 500 200
//! ```
//!
//! The arguments are the numbers of tables for each law and of resamples for each table. Prints
//! CSV: law, parameter, truth, covered, tables, share. Nothing depends on the number of threads.

use forgetting_laws::fit::{Bootstrap, Options, fit};
use forgetting_laws::laws::{Additive, Finetuning, Forgetting, Law, Row};
use forgetting_laws::rng::Key;
use forgetting_laws::table::{Run, Table};
use forgetting_laws::{Error, Result};

/// A law, its planted values, and the size of the noise, which is normal in the log loss.
type Truth = (&'static dyn Law, &'static [f64], f64);

/// The errors that the paper reports for each loss, and its B for wikipedia and dm_mathematics. The
/// other coefficients are made up.
const TRUTHS: [Truth; 4] = [
    (&Forgetting, &[6.0, 829.0, 0.4, 0.35], 0.0083),
    (&Forgetting, &[700.0, 1e4, 0.5, 0.25], 0.0083),
    (&Finetuning, &[2000.0, 0.25, 0.2, 1.2], 0.0201),
    (&Additive, &[406.4, 410.7, 0.34, 0.28, 1.69], 0.005),
];

/// Prints the coverage of every parameter.
pub fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).map(|text| {
        text.parse::<usize>().map_err(|_| Error::setting("argument", &text, "must be a number"))
    });
    let tables = arguments.next().transpose()?.unwrap_or(500);
    let resamples = arguments.next().transpose()?.unwrap_or(300);
    println!("law,parameter,truth,covered,tables,share");
    for (case, truth) in TRUTHS.into_iter().enumerate() {
        let (law, values, _) = truth;
        let key = Key::new(0).named("coverage").child(case as u64);
        let covered = covered(truth, tables, resamples, key)?;
        for ((parameter, value), covered) in law.parameters().iter().zip(values).zip(covered) {
            let share = covered as f64 / tables as f64;
            let name = parameter.name;
            println!("{},{name},{value},{covered},{tables},{share}", law.name());
        }
    }
    Ok(())
}

/// The number of tables in which the interval of each parameter covers its true value.
pub fn covered(
    (law, values, noise): Truth,
    tables: usize,
    resamples: usize,
    key: Key,
) -> Result<Vec<usize>> {
    let mut covered = vec![0; values.len()];
    for t in 0..tables as u64 {
        let table = planted(law, values, noise, key.child(t));
        let bootstrap = Bootstrap { resamples, seed: t, ..Bootstrap::default() };
        let options = Options { bootstrap, hold_out: None, ..Options::default() };
        let fitted = fit(&table, law, &options)?;
        for ((count, param), value) in covered.iter_mut().zip(&fitted.params.0).zip(values) {
            let holds = |low: f64, high: f64| low <= *value && *value <= high;
            *count += usize::from(param.low.zip(param.high).is_some_and(|(l, h)| holds(l, h)));
        }
    }
    Ok(covered)
}

/// Five sizes, five amounts of data and five fractions; 20 to 320 tokens of pretraining a parameter.
fn planted(law: &dyn Law, values: &[f64], noise: f64, key: Key) -> Table {
    let mut runs = Vec::new();
    let sizes = [(41e6, 3.31), (109e6, 2.98), (334e6, 2.66), (665e6, 2.49), (1.27e9, 2.35)];
    for (n_params, loss_pt0) in sizes {
        for (j, d_ft_tokens) in [3e5, 1e6, 3e6, 1e7, 3e7].into_iter().enumerate() {
            for p in [0.0, 0.001, 0.005, 0.01, 0.05] {
                let d_tokens = n_params * 20.0 * 2f64.powi(j as i32);
                let row = Row { n_params, d_ft_tokens, p, loss_pt0, d_tokens };
                let error = noise * key.normal(runs.len() as u64);
                let mut run = Run { row, ..Run::default() };
                run.set(law.output(), Some(law.predict(&(&row).into(), values) * error.exp()));
                runs.push(run);
            }
        }
    }
    Table::new(runs)
}
