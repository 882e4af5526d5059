//! What a sequential design saves: replays it on a table of losses of a complete grid, choosing
//! among its runs and looking up their losses, and compares the FLOPs it needs with those of other
//! orders for an equally narrow interval. Trains nothing:
//!
//! ```sh
//! cargo run -p forgetting-laws --example design --features fit
//! cargo run -p forgetting-laws --example design --features fit -- planted
//! ```
//!
//! The argument is a table of losses of this project, or `planted`: grids of 64 runs that follow
//! Equation 7 with B = 30, 300 and 3,000 and noise of 1%.
//!
//! The question is the increase of L_pt of the largest model on the most data, at each p of the
//! grid. The width is that of the 90% interval of ln of the law's increase from 200 resamples of
//! runs, averaged over p. A width counts as reached when it is not exceeded afterwards. FLOPs are
//! 6·N·tokens; "with models" includes pretraining, "models given" counts only finetuning.

use forgetting_laws::Result;
use forgetting_laws::fit::design::{Candidate, Design, Knowledge, Steps};
use forgetting_laws::fit::{Bootstrap, Options, fit};
use forgetting_laws::laws::{Forgetting, Law, Row};
use forgetting_laws::rng::Key;
use forgetting_laws::table::{Run, Table};
use std::collections::BTreeMap;

/// Runs of one domain.
#[derive(Default)]
struct Grid {
    runs: Vec<Run>,
    flops: Vec<f64>,
    steps: Vec<u64>,
    /// Steps of one pass over the target data.
    passes: Vec<f64>,
    models: Vec<usize>,
    prices: Vec<f64>,
}

fn main() -> Result<()> {
    let path = std::env::args().nth(1).unwrap_or("golden/nano/real/losses.csv".into());
    let grids = match path.as_str() {
        "planted" => planted(),
        _ => grids(&std::fs::read_to_string(&path).map_err(forgetting_laws::Error::io(&path))?),
    };
    println!("domain,models,order,within,share_of_flops,runs,error,error_of_grid");
    for (domain, grid) in grids {
        let all: Vec<usize> = (0..grid.runs.len()).collect();
        let (full, error_of_grid) = grid.width(&all);
        let chance: Vec<Vec<usize>> = (0..5).map(|seed| shuffled(all.len(), seed)).collect();
        let others: Vec<Vec<(f64, f64)>> =
            std::iter::once(&all).chain(&chance).map(|order| grid.widths(order)).collect();
        for (models, prices) in
            [("with models", grid.prices.clone()), ("models given", vec![0.0; grid.prices.len()])]
        {
            let adaptive = grid.adaptive(&prices)?;
            let widths = grid.widths(&adaptive);
            let d_optimal = grid.d_optimal(&prices)?;
            let widths_of_it = grid.widths(&d_optimal);
            for within in [1.1, 1.25, 1.5] {
                let reached = |order: &[usize], widths: &[(f64, f64)]| {
                    // As few runs as parameters have no residuals, and no width to speak of.
                    let wider = |(width, _): &(f64, f64)| *width > within * full;
                    let count = widths.iter().rposition(wider).map_or(1, |last| last + 2);
                    let count = count.min(widths.len());
                    let share = grid.cost(&order[..count], &prices) / grid.cost(&all, &prices);
                    (share, count, widths[count - 1].1)
                };
                let of_chance = chance.iter().zip(&others[1..]).map(|(o, w)| reached(o, w));
                let mut of_chance: Vec<_> = of_chance.collect();
                of_chance.sort_by(|a, b| a.0.total_cmp(&b.0));
                for (order, (share, count, error)) in [
                    ("design", reached(&adaptive, &widths)),
                    ("D-optimal", reached(&d_optimal, &widths_of_it)),
                    ("grid", reached(&all, &others[0])),
                    ("chance (median of 5)", of_chance[2]),
                ] {
                    println!(
                        "{domain},{models},{order},{within},{share:.3},{count},{error:.3},\
                         {error_of_grid:.3}"
                    );
                }
            }
        }
    }
    Ok(())
}

impl Grid {
    /// The order of the design, two runs at a time.
    fn adaptive(&self, prices: &[f64]) -> Result<Vec<usize>> {
        self.in_rounds(prices, |known, candidates, prices| {
            known
                .choose(candidates, prices, 2)
                .expect("nothing stops it")
                .iter()
                .map(|choice| choice.index)
                .collect()
        })
    }

    /// The order of the runs that say most of the law for their cost, whatever is asked, two at a time.
    fn d_optimal(&self, prices: &[f64]) -> Result<Vec<usize>> {
        self.in_rounds(prices, |known, candidates, prices| {
            let (mut known, mut prices) = (known.clone(), prices.to_vec());
            let mut chosen: Vec<usize> = Vec::new();
            while chosen.len() < 2.min(candidates.len()) {
                let model = |i: usize| candidates[i].needs.expect("every run has a model");
                let says = |i: usize| {
                    known.information(&candidates[i].row) / (candidates[i].cost + prices[model(i)])
                };
                let left = (0..candidates.len()).filter(|i| !chosen.contains(i));
                let best = left.reduce(|a, b| if says(b) > says(a) { b } else { a });
                let Some(best) = best else { break };
                prices[model(best)] = 0.0;
                known.learn(&candidates[best].row);
                chosen.push(best);
            }
            chosen
        })
    }

    /// The order in which `next` chooses among the runs that are left, by what is known of the others.
    fn in_rounds(
        &self,
        prices: &[f64],
        next: impl Fn(&Knowledge, &[Candidate], &[f64]) -> Vec<usize>,
    ) -> Result<Vec<usize>> {
        let design = Design::new(&Forgetting, self.asked(), self.runs.iter().map(|run| run.row))?;
        let (mut order, mut prices) = (Vec::new(), prices.to_vec());
        let n = |i: usize| self.runs[i].row.n_params;
        let mut steps = Steps::new(1e5);
        while order.len() < self.runs.len() {
            let left: Vec<usize> = (0..self.runs.len()).filter(|i| !order.contains(i)).collect();
            // As a user does, the design knows what is expected of a run and not what it took.
            let candidate = |&i: &usize| Candidate {
                row: self.runs[i].row,
                cost: steps.expected(n(i), self.passes[i]) * (self.flops[i] / self.steps[i] as f64),
                needs: Some(self.models[i]),
            };
            let candidates: Vec<Candidate> = left.iter().map(candidate).collect();
            for index in next(&design.knowing(&self.table(&order)), &candidates, &prices) {
                let i = left[index];
                order.push(i);
                prices[self.models[i]] = 0.0;
                steps.learn(n(i), self.passes[i], self.steps[i]);
            }
        }
        Ok(order)
    }

    /// The rows that are asked about: all p of the largest model on the most data.
    fn asked(&self) -> Vec<Row> {
        self.corner().map(|run| run.row).collect()
    }

    fn corner(&self) -> impl Iterator<Item = &Run> {
        let most = |of: fn(&Row) -> f64| self.runs.iter().map(|r| of(&r.row)).fold(0.0, f64::max);
        let (n, d) = (most(|row| row.n_params), most(|row| row.d_ft_tokens));
        self.runs.iter().filter(move |run| run.row.n_params == n && run.row.d_ft_tokens == d)
    }

    fn table(&self, order: &[usize]) -> Table {
        Table::new(order.iter().map(|&i| self.runs[i].clone()).collect())
    }

    fn widths(&self, order: &[usize]) -> Vec<(f64, f64)> {
        (1..=order.len()).map(|count| self.width(&order[..count])).collect()
    }

    /// The width of the interval, and how far the law is from the runs that were made there: the mean
    /// distance in ln of the increase.
    fn width(&self, order: &[usize]) -> (f64, f64) {
        let bootstrap = Bootstrap { resamples: 200, ..Bootstrap::default() };
        let options = Options { bootstrap, hold_out: None, ..Options::default() };
        let Ok(fitted) = fit(&self.table(order), &Forgetting, &options) else {
            return (f64::INFINITY, f64::NAN);
        };
        let ln_rise = |row: &Row, values: &[f64]| {
            (Forgetting.predict(&row.into(), values) - row.loss_pt0).ln()
        };
        let draws = fitted.bootstrap.as_ref().expect("resamples were asked for");
        let (mut width, mut error, mut count) = (0.0, 0.0, 0.0);
        for run in self.corner() {
            let interval = draws.interval_of(|values| ln_rise(&run.row, values));
            let seen = (run.loss_pt.unwrap_or(f64::NAN) - run.row.loss_pt0).ln();
            width += interval.high - interval.low;
            error += (ln_rise(&run.row, &fitted.values()) - seen).abs();
            count += 1.0;
        }
        (if width.is_nan() { f64::INFINITY } else { width / count }, error / count)
    }

    fn cost(&self, order: &[usize], prices: &[f64]) -> f64 {
        let mut prices = prices.to_vec();
        order.iter().map(|&i| self.flops[i] + std::mem::take(&mut prices[self.models[i]])).sum()
    }
}

fn shuffled(count: usize, seed: u64) -> Vec<usize> {
    let (mut order, key): (Vec<usize>, _) = ((0..count).collect(), Key::new(seed).named("order"));
    (1..count).rev().for_each(|i| order.swap(i, key.below(i as u64, i as u64 + 1) as usize));
    order
}

/// Grids of planted laws: finetunings of 60 passes, pretrainings of 40 tokens a parameter.
fn planted() -> BTreeMap<String, Grid> {
    let sizes = [(1.4e4, 4.6), (4.1e4, 4.1), (1.1e5, 3.7), (3.3e5, 3.4)];
    let grid = |(seed, b): (u64, f64)| {
        let key = Key::new(seed);
        let mut grid = Grid::default();
        for (model, (n_params, loss_pt0)) in sizes.into_iter().enumerate() {
            grid.prices.push(6.0 * n_params * 40.0 * n_params);
            for d_ft_tokens in [960.0, 3072.0, 9600.0, 30720.0] {
                for p in [0.0, 0.005, 0.01, 0.05] {
                    let row = Row { n_params, d_ft_tokens, p, loss_pt0, ..Row::default() };
                    let noise = (0.01 * key.normal(grid.runs.len() as u64)).exp();
                    let law = Forgetting.predict(&(&row).into(), &[1.1, b, 0.22, 0.31]);
                    grid.runs.push(Run { row, loss_pt: Some(law * noise), ..Run::default() });
                    grid.models.push(model);
                    grid.flops.push(6.0 * n_params * 60.0 * d_ft_tokens);
                    // Steps of eight sequences of 64 tokens.
                    let pass = d_ft_tokens / 512.0;
                    grid.passes.push(pass);
                    grid.steps.push((60.0 * pass).round() as u64);
                }
            }
        }
        (format!("B = {b}"), grid)
    };
    [(0, 300.0), (1, 3000.0), (2, 30.0)].map(grid).into()
}

/// The runs of each domain's main grid that count in fits.
fn grids(text: &str) -> BTreeMap<String, Grid> {
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let mut grids: BTreeMap<String, Grid> = BTreeMap::new();
    let mut models: BTreeMap<String, usize> = BTreeMap::new();
    for line in lines {
        let cells: BTreeMap<&str, &str> = header.iter().copied().zip(line.split(',')).collect();
        if cells["main"] != "true" || !cells["left_out"].is_empty() {
            continue;
        }
        let number = |name: &str| cells[name].parse::<f64>().unwrap_or(f64::NAN);
        let [n_params, d_ft_tokens, d_tokens] = ["n_params", "d_ft_tokens", "d_tokens"].map(number);
        let row =
            Row { n_params, d_ft_tokens, p: number("p"), loss_pt0: number("loss_pt0"), d_tokens };
        let grid = grids.entry(cells["domain"].to_string()).or_default();
        let count = models.len();
        let model = *models.entry(cells["parent_id"].to_string()).or_insert(count);
        grid.prices.resize(grid.prices.len().max(model + 1), 0.0);
        grid.prices[model] = 6.0 * n_params * d_tokens;
        grid.models.push(model);
        grid.runs.push(Run { row, loss_pt: Some(number("loss_pt")), ..Run::default() });
        grid.flops.push(6.0 * n_params * number("tokens"));
        grid.steps.push(number("steps") as u64);
        // Sequences of 64 tokens.
        grid.passes.push(d_ft_tokens / 64.0 / number("batch"));
    }
    grids
}
