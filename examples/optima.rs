//! Whether any parameters are better than those of a fit: compares its objective with the best of
//! an independent optimiser (Nelder and Mead, 1965) from many random starts.
//!
//! ```sh
//! cargo run -p forgetting-laws --example optima --features fit -- 1000 16
//! ```
//!
//! The arguments are the numbers of starts and of random tables, and files of losses as CSV. The
//! tables are, in this order: if `FORGETTING_LAWS_REFERENCE` names the folder of published tables,
//! theirs; the files; each domain of the grids in golden/nano, the rows that count; and random
//! tables with residuals far above Huber's delta, where minima are close to each other. Every form
//! is fitted to each table that has the columns and distinct values for it.
//!
//! Prints CSV: table, law, rows, status, objective of the fit, of the other optimiser, excess
//! (relative, above 0 where the fit is worse). At the end it prints how many fits miss a better
//! optimum by more than 1e-7.

use forgetting_laws::fit::{Bootstrap, Fit, Options, Status, fit};
use forgetting_laws::laws::{ForgettingBounded, LAWS, Law, Parameter, Point, Role, Row, Units};
use forgetting_laws::rng::{Draws, Key};
use forgetting_laws::table::{Run, Table};
use forgetting_laws::{Error, Result};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The vocabulary of the bounded form, which is that of the grids in golden/nano.
const VOCAB_SIZE: u32 = 512;

/// How far above the other optimum a fit may end, as a share of it.
const MISS: f64 = 1e-7;

/// Prints a row for every table and law.
pub fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: usize| match arguments.next() {
        None => Ok(default),
        Some(text) => {
            text.parse().map_err(|_| Error::setting("argument", &text, "must be a number"))
        }
    };
    let starts: usize = number(1000)?;
    let count = number(16)?;
    let mut tables = Vec::new();
    if let Some(folder) = std::env::var_os("FORGETTING_LAWS_REFERENCE") {
        tables.extend(families(Path::new(&folder))?);
        tables.extend(gemstones(Path::new(&folder))?);
    }
    for path in arguments.map(PathBuf::from) {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        tables.extend(losses(&path)?.into_iter().map(|(group, table)| {
            let name = if group.is_empty() { name.clone() } else { format!("{name} {group}") };
            (name, table)
        }));
    }
    tables.extend(committed()?);
    tables.extend((0..count as u64).map(|i| (format!("random {i}"), random(Key::new(i)))));
    let bounded: &'static dyn Law = ForgettingBounded::of(VOCAB_SIZE);
    let laws: Vec<&'static dyn Law> = LAWS.iter().copied().chain([bounded]).collect();
    println!(
        "# Objectives of fits against the best of {starts} random starts of Nelder and Mead: \
         FORGETTING_LAWS_REFERENCE=FOLDER cargo run -p forgetting-laws --example optima \
         --features fit -- {starts} {count} FILE"
    );
    println!("table,law,rows,status,objective,other,excess");
    let mut worst = f64::NEG_INFINITY;
    let (mut fits, mut misses, mut trusted) = (0, 0, 0);
    for (name, table) in &tables {
        for &law in &laws {
            let Some(fitted) = fitted(table, law) else { continue };
            let other = best_of_random_starts(&fitted, starts, Key::new(1));
            let excess = fitted.objective / other - 1.0;
            worst = worst.max(excess);
            let (status, rows) = (fitted.status, fitted.n_rows);
            fits += 1;
            misses += usize::from(excess > MISS);
            trusted += usize::from(excess > MISS && status == Status::Converged);
            let objective = fitted.objective;
            let law = law.name();
            println!("{name},{law},{rows},{status:?},{objective},{other},{excess:.2e}");
        }
    }
    eprintln!(
        "{fits} fits; {misses} miss an optimum by more than {MISS:.0e} of it, {trusted} of them \
         with the status converged; the largest excess {worst:.2e}"
    );
    Ok(())
}

/// The domains of the committed grids.
pub fn committed() -> Result<Vec<(String, Table)>> {
    let mut tables = Vec::new();
    for grid in ["synthetic", "real", "more-data"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/nano").join(grid);
        let groups = losses(&path.join("losses.csv"))?;
        tables.extend(groups.into_iter().map(|(name, table)| (format!("{grid} {name}"), table)));
    }
    Ok(tables)
}

/// The fit of a law with the default objective, where the table has enough for it.
pub fn fitted(table: &Table, law: &'static dyn Law) -> Option<Fit> {
    let bootstrap = Bootstrap::NONE;
    let options = Options { bootstrap, hold_out: None, threads: 1, ..Options::default() };
    fit(table, law, &options).ok()
}

/// The groups of a file of losses in CSV without quotation marks; of a grid, its main rows that are
/// not left out.
fn losses(path: &Path) -> Result<Vec<(String, Table)>> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().unwrap_or_default();
    let column: HashMap<&str, usize> =
        header.iter().enumerate().map(|(i, &name)| (name, i)).collect();
    let mut runs = Vec::new();
    for cells in lines {
        let cell = |name: &str| column.get(name).and_then(|&i| cells.get(i)).copied().unwrap_or("");
        if cell("main") == "false" || !cell("left_out").is_empty() {
            continue;
        }
        let known = |name: &str| cell(name).parse::<f64>().ok();
        let number = |name: &str| known(name).unwrap_or(f64::NAN);
        let row = Row {
            n_params: number("n_params"),
            d_ft_tokens: number("d_ft_tokens"),
            p: number("p"),
            loss_pt0: number("loss_pt0"),
            d_tokens: number("d_tokens"),
        };
        let (loss_pt, loss_ft, loss) = (known("loss_pt"), known("loss_ft"), known("loss"));
        let domain = cell("domain").to_string();
        runs.push(Run { domain, row, loss_pt, loss_ft, loss, ..Run::default() });
    }
    Ok(Table::new(runs).groups())
}

/// Pretraining losses of the Gemstones.
fn gemstones(folder: &Path) -> Result<Vec<(String, Table)>> {
    let table = |name: &str| {
        let path = folder.join("gemstones").join(format!("{name}.jsonl"));
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        let run = |line: &str| {
            let value = serde_json::from_str::<serde_json::Value>(line).unwrap_or_default();
            let number = |name: &str| value[name].as_f64().unwrap_or(f64::NAN);
            let (n_params, d_tokens) = (number("params_active_precise"), number("tokens"));
            let row = Row { n_params, d_tokens, ..Row::default() };
            Run { row, loss: Some(number("final_loss")), ..Run::default() }
        };
        Ok((format!("gemstones {name}"), Table::new(text.lines().map(run).collect())))
    };
    ["hot", "cool_end"].into_iter().map(table).collect()
}

/// The model families of the table of Lin et al., 2024, that have two sizes or more.
fn families(folder: &Path) -> Result<Vec<(String, Table)>> {
    let path = folder.join("rectified-finetuning/flan.csv");
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().unwrap_or_default();
    let mut runs = Vec::new();
    for cells in lines {
        let number = |text: &str| text.parse::<f64>().unwrap_or(f64::NAN);
        for j in 2..16 {
            let row = Row {
                n_params: number(cells[16]),
                d_ft_tokens: number(header[j]),
                p: 0.0,
                ..Row::default()
            };
            let domain = cells[17].to_string();
            runs.push(Run { domain, row, loss_ft: Some(number(cells[j])), ..Run::default() });
        }
    }
    Ok(Table::new(runs).groups())
}

/// A table whose losses no law describes: each model lies off by some percent, and what data do bends.
pub fn random(key: Key) -> Table {
    let mut draws = Draws::new(key.named("random table"));
    let normals = key.named("normals");
    let mut drawn = 0;
    let mut normal = || {
        drawn += 1;
        normals.normal(drawn)
    };
    let sizes = 3 + draws.below(3) as usize;
    let amounts = 4 + draws.below(8) as usize;
    let fractions: &[f64] = match draws.below(3) {
        0 => &[0.0],
        1 => &[0.0, 0.01, 0.05],
        _ => &[0.0, 0.005, 0.01, 0.05],
    };
    let spread = 0.01 + 0.08 * draws.uniform();
    let noise = 0.02 * draws.uniform();
    let (alpha, beta) = (0.25 * draws.uniform(), 0.05 + 0.3 * draws.uniform());
    let knee = draws.uniform();
    let power = draws.uniform();
    let b = 10f64.powf(1.0 + 2.0 * draws.uniform());
    let mut runs = Vec::new();
    for i in 0..sizes {
        let n_params = 1e8 * 3f64.powi(i as i32) * (1.0 + 0.3 * draws.uniform());
        let loss_pt0 = 3.4 * (n_params / 1e8).powf(-0.07);
        let off = spread * normal();
        for j in 0..amounts {
            let d_ft_tokens = 1e5 * 2.5f64.powi(j as i32);
            for &p in fractions {
                let row = Row { n_params, d_ft_tokens, p, loss_pt0, d_tokens: 100.0 * d_ft_tokens };
                let d = d_ft_tokens / 1e5;
                let size = (n_params / 1e8).powf(-alpha);
                let ft = 0.8 + 2.5 * size / (0.5 + knee + d.powf(beta));
                let injected = 1.0 + b * p * d.powf(power);
                let rise = 0.6 * size * d.powf(beta) * injected.powf(-alpha - 0.1);
                let mut noisy = |loss: f64| loss * (off + noise * normal()).exp();
                let (loss_ft, loss) = (noisy(ft), noisy(ft + 1.0));
                let loss_pt = loss_pt0 + noisy(rise) * (1.0 + 3.0 * off).max(0.1);
                let (loss_pt, loss_ft, loss) = (Some(loss_pt), Some(loss_ft), Some(loss));
                runs.push(Run { row, loss_pt, loss_ft, loss, ..Run::default() });
            }
        }
    }
    Table::new(runs)
}

/// The lowest objective from random starts over the whole domain, each descended by Nelder and Mead's
/// simplex, which knows neither the law's gradient nor anything of this crate's solver; the best are
/// started anew where they ended.
pub fn best_of_random_starts(fit: &Fit, starts: usize, key: Key) -> f64 {
    const POLISHED: usize = 40;
    let law = fit.law;
    let points: Vec<Point> = fit.rows.iter().map(|row| (&row.row).into()).collect();
    let mean = |of: fn(&Point) -> f64| {
        let known: Vec<f64> = points.iter().map(of).filter(|x| x.is_finite()).collect();
        known.iter().sum::<f64>() / known.len().max(1) as f64
    };
    let units = Units {
        ln_n: mean(|point| point.ln_n),
        ln_d_ft: mean(|point| point.ln_d_ft),
        ln_p: -4.0,
        ln_d: mean(|point| point.ln_d),
    };
    let measured: Vec<Point> = points.iter().map(|point| units.measure(point)).collect();
    let largest = fit.rows.iter().fold(0.0, |a: f64, row| a.max(row.loss));
    // Coefficients and exponents are squares of the coordinates, strengths exponentials.
    let values = |x: &[f64]| -> Vec<f64> {
        let of = |(x, parameter): (&f64, &Parameter)| match parameter.role {
            Role::Coefficient => largest * x * x,
            Role::Exponent => x * x,
            Role::Strength => x.exp(),
        };
        x.iter().zip(law.parameters()).map(of).collect()
    };
    let cost = |x: &[f64]| {
        let values = values(x);
        // Parameters are numbers in plain units too, in which they are reported.
        if !law.in_units(&values, &units.inverse()).iter().all(|value| value.is_finite()) {
            return f64::INFINITY;
        }
        let rows = measured.iter().zip(&fit.rows);
        let sum: f64 = rows
            .map(|(point, row)| {
                row.weight * fit.minimised.cost(law.predict(point, &values), row.loss)
            })
            .sum();
        if sum.is_nan() { f64::INFINITY } else { sum }
    };
    let mut draws = Draws::new(key.named("random starts"));
    let mut ends: Vec<(f64, Vec<f64>)> = (0..starts)
        .map(|_| {
            let start = law.parameters().iter().map(|parameter| match parameter.role {
                Role::Coefficient => draws.uniform(),
                Role::Exponent => 1.2 * draws.uniform(),
                Role::Strength => 12.0 * draws.uniform() - 6.0,
            });
            nelder_mead(&cost, start.collect(), 0.1, 1e-6)
        })
        .collect();
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    ends.truncate(POLISHED);
    let polish = |(_, x): (f64, Vec<f64>)| {
        let mut best = nelder_mead(&cost, x, 0.02, 1e-11);
        for size in [0.01, 0.003, 0.03, 0.001] {
            let again = nelder_mead(&cost, best.1.clone(), size, 1e-13);
            if again.0 < best.0 {
                best = again;
            }
        }
        best.0
    };
    ends.into_iter().map(polish).fold(f64::INFINITY, f64::min)
}

/// The simplex of Nelder and Mead, until its values agree to a share of themselves.
fn nelder_mead(
    cost: &impl Fn(&[f64]) -> f64,
    start: Vec<f64>,
    size: f64,
    tolerance: f64,
) -> (f64, Vec<f64>) {
    let k = start.len();
    let mut simplex: Vec<(f64, Vec<f64>)> = vec![(cost(&start), start.clone())];
    for j in 0..k {
        let mut corner = start.clone();
        corner[j] += size * (1.0 + corner[j].abs());
        simplex.push((cost(&corner), corner));
    }
    for _ in 0..400 * k {
        simplex.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (best, worst) = (simplex[0].0, simplex[k].0);
        if worst - best <= tolerance * best {
            break;
        }
        let centre: Vec<f64> = (0..k)
            .map(|j| simplex[..k].iter().map(|(_, x)| x[j]).sum::<f64>() / k as f64)
            .collect();
        let at = |t: f64| {
            let along = |(c, w): (&f64, &f64)| c + t * (c - w);
            let x: Vec<f64> = centre.iter().zip(&simplex[k].1).map(along).collect();
            (cost(&x), x)
        };
        let reflected = at(1.0);
        let next = if reflected.0 < best {
            let expanded = at(2.0);
            if expanded.0 < reflected.0 { expanded } else { reflected }
        } else if reflected.0 < simplex[k - 1].0 {
            reflected
        } else {
            let inside = if reflected.0 < worst { at(0.5) } else { at(-0.5) };
            if inside.0 < worst.min(reflected.0) {
                inside
            } else {
                let best = simplex[0].1.clone();
                for (value, x) in &mut simplex[1..] {
                    x.iter_mut().zip(&best).for_each(|(x, b)| *x = 0.5 * (*x + b));
                    *value = cost(x);
                }
                continue;
            }
        };
        simplex[k] = next;
    }
    simplex.sort_by(|a, b| a.0.total_cmp(&b.0));
    simplex.swap_remove(0)
}
