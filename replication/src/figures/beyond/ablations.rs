//! Beyond the paper: the effects of another seed, sampler, replay pool or weight decay, of much more
//! injection, and of instructions; and the gain on the target, expressed as a factor of target data.

mod equivalent;
mod seeds;

use crate::blocks::{MAIN, MODELS, SEEDS};
use crate::figures::style::{self, Csv, Scale, Tally, percent};
use crate::figures::{Figure, Finding, Page, Table};
use crate::format::cell;
use crate::results::{Finetuned, Laws, Results, distinct};
use forgetting_laws::Result;
use plot::{self, Axis, Band, Color, Glyph, Key, Legend, Mark, Numbers, Panel, Place, Rule};
use seeds::{DEVIATIONS, Deviations};

/// The blocks that are compared with the main grid, by name.
const EXACT: &str = "exact";
const REPLAY: &str = "replay";
const DECAY: &str = "decay";
const HIGH: &str = "high-p";
/// The block with a domain of its own, and its own runs at p = 0.
const INSTRUCTIONS: &str = "instructions";

/// "Nothing changes": the required share of pairs within two standard deviations. Normal differences
/// are within them in 95% of pairs, but there are few pairs.
const MOST_PAIRS: f64 = 0.9;

/// The fewest pairs for a verdict; fewer may be due to chance.
const MORE_THAN_CHANCE: f64 = 0.75;

/// The ablations.
pub const ABLATIONS: Figure = Figure {
    id: "ablations",
    paper: "beyond the paper",
    title: "Ablations: each run beside its counterpart",
    blocks: &[MAIN, SEEDS, MODELS, EXACT, REPLAY, DECAY, HIGH, INSTRUCTIONS],
    draw,
};

fn draw(results: &Results, laws: &Laws) -> Result<Page> {
    let contrasts = contrasts(results);
    let deviations = Deviations::of(results, SEEDS);
    let of_models = Deviations::of(results, MODELS);
    let gains = equivalent::gains(results, laws);
    let mut notes = style::notes(results, ABLATIONS.blocks);
    if deviations.is_none() {
        notes.push("No run has a second seed, so there are no error bars.".into());
    }
    notes.push(
        "Equivalent data is the factor by which D_ft would have to grow for p = 0 to reach the L_ft \
         that injection gave, by E and β of the finetuning law."
            .into(),
    );
    Ok(Page {
        drawing: drawing(&ABLATIONS, results, &contrasts, deviations.as_ref()),
        csv: vec![
            (ABLATIONS.id.into(), table_of(&contrasts)),
            ("seeds".into(), Deviations::table_of(results, SEEDS)),
            ("models".into(), Deviations::table_of(results, MODELS)),
            ("equivalent_data".into(), equivalent::table_of(&gains)),
        ],
        findings: vec![
            unchanged(&contrasts, deviations.as_ref()),
            pool(&contrasts),
            equivalent::finding(&gains),
        ],
        tables: [
            Some(summary(&contrasts)),
            deviations.map(|d| d.table("seeds of the finetuning")),
            of_models.map(|d| d.table("pretrained models with different seeds")),
            Some(equivalent::by_p(&gains)),
        ]
        .into_iter()
        .flatten()
        .collect(),
        notes,
    })
}

/// A run and its counterpart, which differs in one setting; neither is left out of fits.
struct Contrast<'a> {
    /// The setting that differs.
    name: String,
    block: &'static str,
    run: &'a Finetuned,
    base: &'a Finetuned,
}

/// The relative change of L_ft at the bottom.
fn of_target(contrast: &Contrast<'_>) -> f64 {
    loss_ft(contrast.run) / loss_ft(contrast.base) - 1.0
}

/// The relative change of the increase of L_pt at the bottom; `None` if nothing was forgotten.
fn of_rise(contrast: &Contrast<'_>) -> f64 {
    match rise(contrast.base) {
        base if base > 0.0 => rise(contrast.run) / base - 1.0,
        _ => f64::NAN,
    }
}

fn loss_ft(run: &Finetuned) -> f64 {
    run.bottom().map_or(f64::NAN, |bottom| bottom.loss_ft)
}

fn rise(run: &Finetuned) -> f64 {
    run.rise().unwrap_or(f64::NAN)
}

fn counts(run: &&Finetuned) -> bool {
    run.left_out().is_none()
}

fn contrasts(results: &Results) -> Vec<Contrast<'_>> {
    let blocks = [
        (SEEDS, "another seed"),
        (EXACT, "exact sampler"),
        (REPLAY, "replay pool"),
        (DECAY, "no weight decay"),
        (HIGH, ""),
        (INSTRUCTIONS, "instructions"),
    ];
    let mut contrasts = Vec::new();
    for (block, name) in blocks {
        let mut of_block = Vec::new();
        for run in results.block(block).filter(counts) {
            let (among, p) = match block {
                HIGH => (MAIN, 0.0),
                INSTRUCTIONS => (INSTRUCTIONS, 0.0),
                _ => (MAIN, run.p),
            };
            let base = style::like(results, among, run, p).filter(counts);
            // A run may be asked for by both blocks.
            let Some(base) = base.filter(|base| base.record.id != run.record.id) else { continue };
            let name = match block {
                HIGH | INSTRUCTIONS => format!("{name} p = {}", percent(run.p)),
                _ => name.to_string(),
            };
            let name = name.trim_start().to_string();
            of_block.push(Contrast { name, block, run, base });
        }
        of_block.sort_by(|a, b| a.run.p.total_cmp(&b.run.p));
        // Of one name in a block the order stays that of the results.
        if !matches!(block, HIGH | INSTRUCTIONS) {
            of_block.sort_by(|a, b| a.run.domain.cmp(&b.run.domain));
        }
        contrasts.extend(of_block);
    }
    contrasts
}

/// The distinct names, in their order.
fn names(contrasts: &[Contrast<'_>]) -> Vec<String> {
    let mut names: Vec<String> = contrasts.iter().map(|contrast| contrast.name.clone()).collect();
    names.dedup();
    names
}

fn of_name<'a>(
    contrasts: &'a [Contrast<'a>],
    name: &'a str,
) -> impl Iterator<Item = &'a Contrast<'a>> + Clone {
    contrasts.iter().filter(move |contrast| contrast.name == name)
}

fn table_of(contrasts: &[Contrast<'_>]) -> String {
    let columns = ["loss_ft", "rise", "base_run_id", "base_loss_ft", "base_rise"];
    let columns = style::IDENTITY.iter().copied().chain(columns);
    let mut csv = Csv::new(std::iter::once("contrast").chain(columns));
    for Contrast { name, run, base, .. } in contrasts {
        let numbers = |run| [loss_ft(run), rise(run)].map(cell);
        let row = std::iter::once(name.clone()).chain(style::identity(run)).chain(numbers(run));
        csv.row(row.chain([base.record.id.to_string()]).chain(numbers(base)));
    }
    csv.text()
}

fn summary(contrasts: &[Contrast<'_>]) -> Table {
    let words = |share: Option<f64>| share.map_or("-".into(), style::share);
    let row = |name: &String| {
        let all = of_name(contrasts, name);
        let lower = |of: fn(&Contrast<'_>) -> f64| {
            Tally::count(all.clone().map(of).filter(|x| !x.is_nan()).map(|x| x < 0.0)).to_string()
        };
        let middle = |of: fn(&Contrast<'_>) -> f64| {
            words(style::median(all.clone().map(of).filter(|x| !x.is_nan())))
        };
        vec![name.clone(), middle(of_target), lower(of_target), middle(of_rise), lower(of_rise)]
    };
    let columns = [
        "what differs",
        "median change of L_ft",
        "L_ft is lower in",
        "median change of the increase of L_pt",
        "the increase is lower in",
    ];
    Table {
        caption:
            "Changes at the bottom from the counterpart, the run of the main grid with the same \
                  size, domain, D_ft and p. For large p and for instructions the counterpart is at \
                  p = 0."
                .into(),
        columns: columns.map(String::from).to_vec(),
        rows: names(contrasts).iter().map(row).collect(),
    }
}

fn drawing(
    figure: &Figure,
    results: &Results,
    contrasts: &[Contrast<'_>],
    deviations: Option<&Deviations>,
) -> Option<plot::Figure> {
    let names = names(contrasts);
    if names.is_empty() {
        return None;
    }
    let sizes = Scale::sizes(contrasts.iter().map(|contrast| contrast.run.n_params() as f64));
    let panel = |label: &str, of: fn(&Contrast<'_>) -> f64, bound: Option<f64>| {
        let y = Axis { numbers: Numbers::Percent, ..Axis::linear(label) };
        let mut panel = Panel::new(Axis::categories("", names.clone()), y);
        panel.rules.push(Rule::new(Place::Horizontal(0.0), ""));
        let ends = [-0.6, names.len() as f64 - 0.4];
        panel.bands.extend(bound.map(|bound| Band {
            points: ends.map(|x| (x, -bound, bound)).to_vec(),
            color: Color::GREY,
            opacity: 0.2,
        }));
        for (i, name) in names.iter().enumerate() {
            for contrast in of_name(contrasts, name) {
                let n = contrast.run.n_params() as f64;
                // Sizes stand beside each other.
                let rank = sizes.values().partition_point(|size| *size < n) as f64;
                let middle = (sizes.values().len() as f64 - 1.0) / 2.0;
                let x = i as f64 + 0.6 * (rank - middle) / sizes.values().len() as f64;
                let glyph = Glyph { radius: 1.8, ..sizes.glyph(n) };
                panel.marks.push(Mark::new((x, of(contrast)), glyph));
            }
        }
        panel
    };
    let bounds = deviations.map(Deviations::bounds);
    let target = panel("change of L_{ft}", of_target, bounds.map(|bounds| bounds[0]));
    let rise = panel("change of the increase", of_rise, bounds.map(|bounds| bounds[1]));
    let mut drawing = plot::Figure::new(figure.title, vec![vec![target], vec![rise]]);
    drawing.share_x = plot::Share::Figure;
    drawing.aspect = 0.32;
    drawing.legend = vec![sizes.marks()];
    if bounds.is_some() {
        let key = Key { fill: Some((Color::GREY, 0.2)), ..Key::default() };
        let name = "within two standard deviations of the seeds".to_string();
        drawing.legend.push(Legend { title: String::new(), entries: vec![(key, name)] });
    }
    drawing.description =
        "The change of the loss on the target and of the increase of the pretraining \
                           loss at the bottom of the U, of each run against its counterpart, by \
                           what differs; a colour for each model size, a band for what another \
                           seed changes."
            .into();
    drawing.footnote =
        "Above: the change of the loss on the target at the bottom of the U from the \
                        counterpart in the main grid. Below: the change of the increase of L_{pt}. \
                        Counterparts of large p and of instructions are at p = 0."
            .into();
    drawing.provenance = style::provenance(results);
    Some(drawing)
}

fn unchanged(contrasts: &[Contrast<'_>], deviations: Option<&Deviations>) -> Finding {
    let exact = || contrasts.iter().filter(|contrast| contrast.block == EXACT);
    let [tally_ft, tally_pt] = match deviations.map(Deviations::bounds) {
        None => [Tally::default(); 2],
        Some([target, rise]) => {
            let within = |of: fn(&Contrast<'_>) -> f64, bound: f64| {
                Tally::count(exact().map(of).filter(|x| !x.is_nan()).map(|x| x.abs() <= bound))
            };
            [within(of_target, target), within(of_rise, rise)]
        }
    };
    Finding {
        claim: "It makes no difference whether each injected sequence is drawn independently or \
                their number is exact"
            .into(),
        source: "beyond the paper, whose sampler is unknown".into(),
        ours: match tally_ft.of + tally_pt.of {
            0 => {
                "There is no pair of runs with both samplers, or no run with a second seed.".into()
            }
            _ => format!(
                "With the exact sampler, L_ft is within {DEVIATIONS} standard deviations over seeds \
                 of the counterpart in {tally_ft} pairs, and the increase of L_pt in {tally_pt}."
            ),
        },
        rule: format!(
            "L_ft and the increase of L_pt are each within {DEVIATIONS} standard deviations over seeds \
             of the counterpart in at least {} of the pairs.",
            percent(MOST_PAIRS)
        ),
        verdict: style::all([tally_ft.verdict(MOST_PAIRS), tally_pt.verdict(MOST_PAIRS)]),
    }
}

fn pool(contrasts: &[Contrast<'_>]) -> Finding {
    let replay = || contrasts.iter().filter(|contrast| contrast.block == REPLAY);
    let changes = || replay().map(of_rise).filter(|change| !change.is_nan());
    let tally = Tally::count(changes().map(|change| change > 0.0));
    let middle = style::median(changes()).map_or("-".into(), style::share);
    let pools = distinct(replay().filter_map(|c| c.run.replay_tokens).map(|tokens| tokens as f64));
    let pools: Vec<_> = pools.iter().map(|tokens| style::short(*tokens)).collect();
    Finding {
        claim: "Injected data is fresh, and repeating a small pool can itself overfit".into(),
        source: "reported".into(),
        ours: match tally.of {
            0 => "There is no pair of runs with a pool and with fresh data.".into(),
            _ => format!(
                "With replay pools of {} tokens, the increase of L_pt is larger than with fresh data \
                 in {tally} pairs. It changes by a median of {middle}.",
                style::list(&pools)
            ),
        },
        rule: format!(
            "the increase of L_pt is larger with a replay pool in at least {} of the pairs.",
            percent(MORE_THAN_CHANCE)
        ),
        verdict: tally.verdict(MORE_THAN_CHANCE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Verdict;
    use crate::figures::golden::{self, PLANTED};

    #[test]
    fn the_planted_grid_gives_the_pinned_tables_and_both_panels() {
        let page = golden::page(&ABLATIONS);
        let drawing = page.drawing.unwrap();
        assert_eq!(drawing.panels.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
        // Of 12 sizes and domains: 4 seeds, exact, replay, and two large p.
        assert_eq!(drawing.panels[0][0].marks.len(), 12 * 8);
        let names: Vec<_> = page.tables[0].rows.iter().map(|row| row[0].as_str()).collect();
        let expected = ["another seed", "exact sampler", "replay pool", "p = 20%", "p = 50%"];
        assert_eq!(names, expected);
        for block in [DECAY, INSTRUCTIONS] {
            assert!(
                page.notes.iter().any(|note| note.contains(&format!("block {block} has no runs")))
            );
        }
        // The planted exact sampler and the pool change nothing.
        assert_eq!(page.findings[0].verdict, Verdict::Supported);
        assert_eq!(page.findings[1].verdict, Verdict::NotSupported);
        assert!(page.findings[1].ours.contains("0 of 12"), "{}", page.findings[1].ours);
    }

    #[test]
    fn verdicts_turn_with_the_runs() {
        let mut results = PLANTED.0.clone();
        for run in &mut results.finetuned {
            let loss_pt0 = run.loss_pt0();
            let apart = run.in_block(EXACT) || run.in_block(REPLAY);
            let factor = if run.in_block(HIGH) { 0.9 } else { 1.0 };
            for e in &mut run.record.evaluations {
                e.loss_pt += if apart { e.loss_pt - loss_pt0 } else { 0.0 };
                e.loss_ft *= factor;
            }
        }
        let verdicts = |results: &Results| {
            let page = draw(results, &PLANTED.1).unwrap();
            page.findings.iter().map(|finding| finding.verdict).collect::<Vec<_>>()
        };
        use Verdict::{NotSupported, NotTestable, Supported};
        assert_eq!(verdicts(&results), [NotSupported, Supported, Supported]);
        results.finetuned.retain(|run| run.in_block(MAIN));
        assert_eq!(verdicts(&results), [NotTestable; 3]);
        assert!(draw(&results, &PLANTED.1).unwrap().drawing.is_none());
    }
}
