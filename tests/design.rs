//! Sequential designs on planted laws: do they find the answer with less than a full grid?

#![cfg(feature = "fit")]

use forgetting_laws::fit::design::{Candidate, Design};
use forgetting_laws::laws::{Forgetting, LAWS, Law, Row};
use forgetting_laws::rng::Key;
use forgetting_laws::table::{Column, Run, Table};

/// A grid of runs with planted losses.
struct World {
    candidates: Vec<Candidate>,
    runs: Vec<Run>,
    shared: Vec<f64>,
}

impl World {
    /// Four sizes, four D_ft, four p; a law, noise of the loss, and pretraining that costs as in the
    /// paper or nothing. Costs are FLOPs: 6·N·tokens, a finetuning of 60 passes.
    fn new(seed: u64, values: [f64; 4], noise: f64, paid: bool) -> Self {
        let key = Key::new(seed);
        let sizes = [(1.4e4, 4.6), (4.1e4, 4.1), (1.1e5, 3.7), (3.3e5, 3.4)];
        let (mut candidates, mut runs) = (Vec::new(), Vec::new());
        for (needs, (n_params, loss_pt0)) in sizes.into_iter().enumerate() {
            for d_ft_tokens in [960.0, 3072.0, 9600.0, 30720.0] {
                for p in [0.0, 0.005, 0.01, 0.05] {
                    let row = Row { n_params, d_ft_tokens, p, loss_pt0, ..Row::default() };
                    let draw = noise * key.normal(runs.len() as u64);
                    let loss = Forgetting.predict(&(&row).into(), &values) * draw.exp();
                    runs.push(Run { row, loss_pt: Some(loss), ..Run::default() });
                    let cost = 6.0 * n_params * 60.0 * d_ft_tokens;
                    candidates.push(Candidate { row, cost, needs: Some(needs) });
                }
            }
        }
        let price = |(n, _): (f64, f64)| if paid { 0.0 } else { 6.0 * n * 40.0 * n };
        Self { candidates, runs, shared: sizes.map(price).to_vec() }
    }

    fn design(&self) -> Design {
        let asked = |run: &&Run| run.row.n_params > 3e5 && run.row.d_ft_tokens > 3e4;
        let asked = self.runs.iter().filter(asked).map(|run| run.row).collect();
        Design::new(&Forgetting, asked, self.runs.iter().map(|run| run.row)).unwrap()
    }

    fn table(&self, made: &[usize]) -> Table {
        Table::new(made.iter().map(|&i| self.runs[i].clone()).collect())
    }

    /// The order in which runs are made, two at a time.
    fn adaptive(&self, design: &Design, most: usize) -> Vec<usize> {
        let (mut made, mut shared) = (Vec::new(), self.shared.clone());
        while made.len() < most {
            let left: Vec<usize> = (0..self.runs.len()).filter(|i| !made.contains(i)).collect();
            let candidates: Vec<Candidate> = left.iter().map(|&i| self.candidates[i]).collect();
            for choice in
                design.knowing(&self.table(&made)).choose(&candidates, &shared, 2).unwrap()
            {
                let i = left[choice.index];
                made.push(i);
                shared[self.candidates[i].needs.unwrap()] = 0.0;
            }
        }
        made
    }

    fn cost(&self, made: &[usize]) -> f64 {
        let mut shared = self.shared.clone();
        let of = |&i: &usize| {
            let Candidate { cost, needs, .. } = self.candidates[i];
            cost + std::mem::take(&mut shared[needs.unwrap()])
        };
        made.iter().map(of).sum()
    }

    /// The share of the full grid's cost after which an order's deviation is at most `deviation`.
    fn share(&self, design: &Design, order: &[usize], deviation: f64) -> f64 {
        let all: Vec<usize> = (0..self.runs.len()).collect();
        let enough =
            |count: &usize| design.knowing(&self.table(&order[..*count])).deviation() <= deviation;
        let found = (5..=order.len()).find(enough);
        found.map_or(1.0, |count| self.cost(&order[..count]) / self.cost(&all))
    }
}

fn shuffled(count: usize, seed: u64) -> Vec<usize> {
    let (mut order, key): (Vec<usize>, _) = ((0..count).collect(), Key::new(seed).named("order"));
    (1..count).rev().for_each(|i| order.swap(i, key.below(i as u64, i as u64 + 1) as usize));
    order
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

const LAW: [f64; 4] = [1.1, 300.0, 0.22, 0.31];

/// The FLOPs until the deviation is within a quarter of that of the full grid, with models that are
/// there and models that are to be paid for.
#[test]
fn a_design_needs_less_than_the_grid_and_than_chance() {
    for paid in [true, false] {
        let (mut adaptive, mut chance, mut grid) = (Vec::new(), Vec::new(), Vec::new());
        for seed in 0..3 {
            let world = World::new(seed, LAW, 0.01, paid);
            let design = world.design();
            let all: Vec<usize> = (0..world.runs.len()).collect();
            let wanted = 1.25 * design.knowing(&world.table(&all)).deviation();
            adaptive.push(world.share(&design, &world.adaptive(&design, 64), wanted));
            grid.push(world.share(&design, &all, wanted));
            chance.push(world.share(&design, &shuffled(64, seed), wanted));
        }
        let [adaptive, chance, grid] = [adaptive, chance, grid].map(median);
        println!("paid {paid}: adaptive {adaptive:.3} chance {chance:.3} grid {grid:.3}");
        assert!(adaptive < grid && adaptive <= chance);
    }
}

/// After a third of the cost of the finetunings the law at the question is near the planted one.
#[test]
fn the_deviation_is_about_what_the_answer_is_wrong_by() {
    use forgetting_laws::fit::{Bootstrap, Options, fit};
    let options = Options { bootstrap: Bootstrap::NONE, hold_out: None, ..Options::default() };
    let mut inside = 0;
    const WORLDS: u64 = 12;
    for seed in 0..WORLDS {
        let world = World::new(100 + seed, LAW, 0.01, true);
        let design = world.design();
        let made = world.adaptive(&design, 16);
        let known = design.knowing(&world.table(&made));
        let fitted = fit(&world.table(&made), &Forgetting, &options).unwrap();
        let row = world.runs[60].row;
        let ln_rise =
            |values: &[f64]| (Forgetting.predict(&(&row).into(), values) - row.loss_pt0).ln();
        let error = (ln_rise(&fitted.values()) - ln_rise(&LAW)).abs();
        inside += u32::from(error <= 2.0 * known.deviation_at(&row));
    }
    println!("{inside} of {WORLDS}");
    assert!(inside >= 10, "{inside}");
}

#[test]
fn the_same_runs_give_the_same_choice_and_each_choice_helps() {
    let world = World::new(7, LAW, 0.02, false);
    let design = world.design();
    let made = world.adaptive(&design, 12);
    assert_eq!(made, world.adaptive(&design, 12));
    let known = design.knowing(&world.table(&made));
    let choices = known.choose(&world.candidates, &world.shared, 70).unwrap();
    assert_eq!(choices.len(), 64);
    for pair in choices.windows(2) {
        assert!(pair[1].before == pair[0].after && pair[1].after <= pair[1].before);
    }
    let mut indices: Vec<usize> = choices.iter().map(|choice| choice.index).collect();
    indices.sort_unstable();
    assert_eq!(indices, (0..64).collect::<Vec<_>>());
    // What is paid for once is not paid for again.
    let total: f64 = choices.iter().map(|choice| choice.cost).sum();
    let all: Vec<usize> = (0..64).collect();
    assert!((total / world.cost(&all) - 1.0).abs() < 1e-12);
}

/// Of two runs that say the same the cheaper one is taken, and of two at the same price the one that
/// says more.
#[test]
fn cost_and_information_both_count() {
    let row = |n_params, p| Row { n_params, d_ft_tokens: 1e4, p, loss_pt0: 3.0, ..Row::default() };
    let candidate = |row, cost, needs| Candidate { row, cost, needs };
    let rows = [row(1e5, 0.0), row(1e6, 0.0), row(1e6, 0.05)];
    let design = Design::new(&Forgetting, vec![rows[1]], rows).unwrap();
    let known = design.knowing(&Table::new(Vec::new()));
    let first = |candidates: &[Candidate], shared: &[f64]| {
        known.choose(candidates, shared, 1).unwrap()[0].index
    };
    let same = [candidate(rows[1], 2.0, None), candidate(rows[1], 1.0, None)];
    assert_eq!(first(&same, &[]), 1);
    let other = [candidate(rows[2], 1.0, None), candidate(rows[1], 1.0, None)];
    assert_eq!(first(&other, &[]), 1);
    // A price that many runs share is judged with all of them.
    let shared = [candidate(rows[1], 1.0, Some(0)), candidate(rows[1], 2.0, None)];
    assert_eq!(first(&shared, &[5.0]), 1);
    assert_eq!(first(&shared, &[0.5]), 0);
}

/// Every form of forgetting is a law that runs can be designed for: each run that is chosen makes the
/// answer more certain.
#[test]
fn every_form_of_forgetting_has_designs() {
    let world = World::new(3, [2.0, 300.0, 0.3, 0.3], 0.01, true);
    let rows: Vec<Row> = world.runs.iter().map(|run| run.row).collect();
    let asked: Vec<Row> = rows.iter().rev().take(4).copied().collect();
    let forms = LAWS.iter().filter(|law| law.output() == Column::LossPt);
    for law in forms {
        let design = Design::new(*law, asked.clone(), rows.iter().copied()).unwrap();
        let made: Vec<usize> = (0..world.runs.len()).step_by(3).collect();
        let known = design.knowing(&world.table(&made));
        assert!(known.is_fitted(), "{}", law.name());
        let choices = known.choose(&world.candidates, &[0.0; 4], 3).unwrap();
        assert_eq!(choices.len(), 3, "{}", law.name());
        for choice in choices {
            assert!(
                0.0 < choice.after && choice.after < choice.before,
                "{}: {choice:?}",
                law.name()
            );
        }
    }
}

#[test]
fn questions_without_numbers_are_refused() {
    let row = Row { n_params: 1e6, d_ft_tokens: 1e4, p: 0.0, loss_pt0: 3.0, ..Row::default() };
    let refused = |asked: Vec<Row>, reach: Vec<Row>| {
        Design::new(&Forgetting, asked, reach).err().unwrap().to_string()
    };
    assert!(refused(vec![], vec![row]).contains("must be at least one"));
    assert!(refused(vec![row], vec![Row { n_params: 0.0, ..row }]).contains("n_params"));
    assert!(refused(vec![Row { p: 1.5, ..row }], vec![]).contains("p = 1.5"));
}

/// docs/domain.md shows the shares of the committed replays.
#[test]
fn the_guide_shows_the_replays() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = std::fs::read_to_string(root.join("docs/domain.md")).unwrap();
    for (file, grids) in
        [("real", ["french", "law", "drama"]), ("planted", ["B = 30", "B = 300", "B = 3000"])]
    {
        let csv = std::fs::read_to_string(root.join(format!("golden/design/{file}.csv"))).unwrap();
        let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
        let share = |grid: &str, models: &str, order: &str, within: &str| {
            let keys = [grid, models, order, within];
            let row = rows.iter().find(|row| row[..4] == keys);
            let row = row.unwrap_or_else(|| panic!("{keys:?}"));
            format!("{:.0}%", 100.0 * row[4].parse::<f64>().unwrap())
        };
        for (what, models) in
            [("of finetuning", "models given"), ("with pretraining", "with models")]
        {
            for (label, order) in [
                (format!("{what}: the design"), "design"),
                ("… in a D-optimal order".into(), "D-optimal"),
                ("… in the grid's order".into(), "grid"),
                ("… in random orders (median of 5)".into(), "chance (median of 5)"),
            ] {
                let cells = grids.map(|grid| {
                    ["1.25", "1.5"].map(|within| share(grid, models, order, within)).join(", ")
                });
                let line = format!("| {label} | {} |", cells.join(" | "));
                assert!(guide.contains(&line), "{line}");
            }
        }
    }
}
