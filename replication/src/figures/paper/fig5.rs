//! Figure 5 (PMLR version): the learning rate of finetuning over model scales and mixtures.
//!
//! The paper's claim: "In the ablations of Figure 5 … this rule of thumb", 1/30 of the
//! pretraining's peak, "is sufficient to ensure both overfitting well within 12K steps and stable
//! training at all model scales and all mixtures p".

mod drawing;

use crate::blocks::MAIN;
use crate::figures::style::{self, Csv, Tally, percent, share, short};
use crate::figures::{Figure, Finding, Page, Table, Verdict};
use crate::format::cell;
use crate::results::{Finetuned, Laws, Results, distinct};
use forgetting_laws::Result;
use forgetting_laws::finetuning::{Bottom, JUMP, LR_RATIO};

/// Figure 5.
pub const FIG5: Figure = Figure {
    id: "fig5",
    paper: "Figure 5 (PMLR)",
    title: "Finetuning at several learning rates: both validation losses",
    blocks: &[BLOCK],
    draw,
};

const BLOCK: &str = "fig5";

/// The bottom is "well within" the budget if it is at most at this share of it. The paper gives no
/// number; this one is ours.
pub const WELL_WITHIN: f64 = 0.8;

fn draw(results: &Results, _: &Laws) -> Result<Page> {
    let runs = runs(results);
    let at_rule: Vec<&Finetuned> =
        runs.iter().filter(|run| run.lr_ratio == LR_RATIO).copied().collect();
    let main = results.block(MAIN).filter(|run| run.lr_ratio == LR_RATIO).collect::<Vec<_>>();
    let mut findings = vec![finding(&at_rule)];
    findings.extend((!main.is_empty()).then(|| on_the_main_grid(&main)));
    let notes =
        if runs.is_empty() { style::notes(results, FIG5.blocks) } else { data(results, &runs) };
    Ok(Page {
        drawing: (!runs.is_empty()).then(|| drawing::figure(results, &runs)),
        csv: vec![(FIG5.id.into(), trajectories(&runs)), ("runs".into(), by_run(&runs))],
        tables: vec![by_ratio(&runs), every(&runs), undone(&at_rule), models(results, &runs)],
        findings,
        notes,
    })
}

/// The runs of the block's first domain, by size, p and learning rate.
fn runs(results: &Results) -> Vec<&Finetuned> {
    let Some(domain) = results.domains_of(BLOCK).first().map(|domain| &domain.name) else {
        return Vec::new();
    };
    let mut runs: Vec<&Finetuned> =
        results.block(BLOCK).filter(|run| run.domain == *domain).collect();
    runs.sort_by(|a, b| {
        let by_p = a.p.total_cmp(&b.p).then(a.lr_ratio.total_cmp(&b.lr_ratio));
        a.n_params().cmp(&b.n_params()).then(by_p)
    });
    runs
}

/// The learning rates as fractions of the pretraining's peak, ascending.
fn ratios(runs: &[&Finetuned]) -> Vec<f64> {
    distinct(runs.iter().map(|run| run.lr_ratio))
}

/// A learning rate ratio as text: `1/30`, or the number if it is not such a fraction.
fn ratio(ratio: f64) -> String {
    let whole = (1.0 / ratio).round();
    if whole > 1.0 && (1.0 / ratio - whole).abs() < 1e-9 * whole {
        return format!("1/{whole}");
    }
    cell(ratio)
}

/// Whether the U-curve was seen: an interior bottom, well within the budget.
fn overfits_within(run: &Finetuned) -> bool {
    let within = |bottom: Bottom| bottom.step as f64 <= WELL_WITHIN * run.steps as f64;
    run.bottom().is_some_and(|bottom| bottom.interior && within(bottom))
}

/// The rule on the figure's own runs.
fn finding(at_rule: &[&Finetuned]) -> Finding {
    let claim = "1/30 of the pretraining's peak learning rate \"is sufficient to ensure both \
                 overfitting well within 12K steps and stable training at all model scales and all \
                 mixtures p\"";
    holds_for_all(claim, "Figure 5 of the PMLR version, quoted", at_rule)
}

/// The rule on the main grid, with all its sizes, domains, D_ft and p.
fn on_the_main_grid(main: &[&Finetuned]) -> Finding {
    let claim = "1/30 of the peak ensures overfitting well within the budget and stable training at \
                 every size, domain, D_ft and p of the main grid";
    let source = "Figure 5 of the PMLR version says \"all model scales and all mixtures p\"; the \
                  domains and D_ft are ours";
    holds_for_all(claim, source, main)
}

/// Whether all of the runs at 1/30 overfit in time and are stable.
fn holds_for_all(claim: &str, source: &str, at_rule: &[&Finetuned]) -> Finding {
    let overfit = Tally::count(at_rule.iter().map(|run| overfits_within(run)));
    let stable = Tally::count(at_rule.iter().map(|run| run.stable()));
    let both = Tally::count(at_rule.iter().map(|run| overfits_within(run) && run.stable()));
    let latest = at_rule.iter().filter_map(|run| run.bottom()).map(|bottom| bottom.step).max();
    let steps = at_rule.iter().map(|run| run.steps).max();
    let verdict = both.verdict(1.0);
    Finding {
        claim: claim.into(),
        source: source.into(),
        ours: match (verdict, steps) {
            (Verdict::NotTestable, _) | (_, None) => {
                "No run has a learning rate of 1/30 of the peak.".into()
            }
            (_, Some(steps)) => format!(
                "At 1/30 of the peak, {overfit} runs overfit within {} of the budget of {steps} \
                 steps, and {stable} are stable. The latest bottom is at step {}.",
                percent(WELL_WITHIN),
                latest.map_or("-".into(), |step| step.to_string())
            ),
        },
        rule: format!(
            "every run overfits in time and is stable. A run overfits in time if its lowest \
             validation loss on the target is at an interior evaluation within the first {} of the \
             budget. It is stable if all losses are finite and neither the validation loss on the \
             target nor the training loss increases by more than {JUMP} nat between two evaluations.",
            percent(WELL_WITHIN)
        ),
        verdict,
    }
}

fn by_ratio(runs: &[&Finetuned]) -> Table {
    let row = |lr_ratio: f64| {
        let of: Vec<&&Finetuned> = runs.iter().filter(|run| run.lr_ratio == lr_ratio).collect();
        let bottoms: Vec<Bottom> = of.iter().filter_map(|run| run.bottom()).collect();
        let steps = bottoms.iter().map(|bottom| bottom.step);
        let range = match (steps.clone().min(), steps.max()) {
            (Some(low), Some(high)) => format!("{low} to {high}"),
            _ => "none".into(),
        };
        let mean = bottoms.iter().map(|b| b.loss_ft).sum::<f64>() / bottoms.len() as f64;
        let mean = if bottoms.is_empty() { "-".into() } else { format!("{mean:.3}") };
        vec![
            ratio(lr_ratio),
            of.len().to_string(),
            of.iter().filter(|run| overfits_within(run)).count().to_string(),
            of.iter().filter(|run| run.stable()).count().to_string(),
            range,
            mean,
        ]
    };
    table(
        "Runs by learning rate. The range of bottoms includes those that are not interior. Losses are \
         in nats per token.",
        &["lr / peak", "runs", "overfit in time", "stable", "bottom at step", "mean L_ft there"],
        ratios(runs).into_iter().map(row).collect(),
    )
}

fn every(runs: &[&Finetuned]) -> Table {
    let yes = |value: bool| if value { "yes" } else { "no" }.to_string();
    let row = |run: &&Finetuned| {
        let realised = run.record.realised.fraction();
        let realised = realised.map_or(String::new(), |f| format!("{:.2}%", 100.0 * f));
        let head = vec![run.size.clone(), percent(run.p), realised, ratio(run.lr_ratio)];
        let of_bottom = match run.bottom() {
            Some(b) => [
                b.step.to_string(),
                yes(b.interior),
                yes(run.stable()),
                format!("{:.4}", b.loss_ft),
                format!("{:.4}", b.loss_pt),
                format!("{:+.4}", b.loss_pt - run.loss_pt0()),
            ],
            None => ["none", "no", "no", "", "", ""].map(String::from),
        };
        head.into_iter().chain(of_bottom).collect()
    };
    table(
        "Every run at the bottom of its U-curve. Losses are in nats per token.",
        &[
            "size",
            "p",
            "realised p",
            "lr / peak",
            "bottom at step",
            "interior",
            "stable",
            "L_ft",
            "L_pt",
            "increase of L_pt",
        ],
        runs.iter().map(row).collect(),
    )
}

/// The effect of the learning rate on forgetting, from the same runs.
fn undone(at_rule: &[&Finetuned]) -> Table {
    let row = |run: &&Finetuned| {
        let same = |other: &&&Finetuned| {
            style::alike(other, run) && other.seed == run.seed && other.p == 0.0
        };
        let none = at_rule.iter().find(same)?;
        let (without, with) = (none.bottom()?, run.bottom().filter(|_| run.p > 0.0)?);
        let (rise0, rise) = (none.rise()?, run.rise()?);
        Some(vec![
            run.size.clone(),
            percent(run.p),
            format!("{rise0:.3}"),
            format!("{rise:.3}"),
            share(1.0 - rise / rise0),
            format!("{:+.4}", with.loss_ft - without.loss_ft),
        ])
    };
    table(
        "The effect of injection at 1/30 of the peak: the increase of L_pt at the bottom without and \
         with injection, the share of it that injection prevents, and the change of L_ft. Losses are \
         in nats per token.",
        &["size", "p", "increase without", "increase with", "prevented", "change of L_ft"],
        at_rule.iter().filter_map(row).collect(),
    )
}

/// The models that were finetuned.
fn models(results: &Results, runs: &[&Finetuned]) -> Table {
    let asked =
        |model: &&crate::results::Pretrained| runs.iter().any(|run| run.parent == model.record.id);
    let row = |model: &crate::results::Pretrained| {
        let (n, r) = (model.record.n_params, &model.record.realised);
        vec![
            model.size.clone(),
            n.paper().to_string(),
            n.non_embedding.to_string(),
            model.record.steps.to_string(),
            format!("{:.1}", r.tokens as f64 / n.paper() as f64),
            format!("{:.2}", r.epochs),
            format!("{:.4}", model.loss()),
        ]
    };
    table(
        "The pretrained models. L_pt is in nats per token.",
        &[
            "size",
            "N",
            "without embeddings",
            "steps",
            "tokens per parameter",
            "passes over the text",
            "L_pt",
        ],
        results.pretrained.iter().filter(asked).map(row).collect(),
    )
}

fn table(caption: &str, columns: &[&str], rows: Vec<Vec<String>>) -> Table {
    let columns = columns.iter().map(|column| column.to_string()).collect();
    Table { caption: caption.into(), columns, rows }
}

/// Notes on the data of the runs.
fn data(results: &Results, runs: &[&Finetuned]) -> Vec<String> {
    let Some(run) = runs.first() else { return Vec::new() };
    let Some(domain) = results.domain(&run.domain) else { return Vec::new() };
    let from = &results.pretraining;
    vec![
        format!(
            "The pretraining text is {}. It has {} tokens for training, {} for injection and {} for \
             validation.",
            from.source,
            from.counts.training.tokens,
            from.counts.injection.tokens,
            from.counts.validation.tokens
        ),
        format!(
            "The target text is {}. D_ft is {} tokens, and {} more are for validation.",
            domain.source,
            short(run.unique_tokens() as f64),
            domain.counts.validation.tokens
        ),
        format!(
            "A unigram model of the pretraining text has a loss of {:.3} nats per token on the \
             pretraining data and {:.3} on the target; a trigram model has {:.3} and {:.3}.",
            from.unigram_pt, domain.unigram_ft, from.trigram_pt, domain.trigram_ft
        ),
        format!(
            "The tokenizer has the hash {} and {} tokens. The pretraining data have the hash {} and \
             the target data {}.",
            &from.tokenizer[..from.tokenizer.len().min(16)],
            from.vocab,
            from.data,
            domain.data
        ),
    ]
}

/// Every plotted number.
fn trajectories(runs: &[&Finetuned]) -> String {
    let mut csv = Csv::new(IDENTITY.into_iter().chain(["step", "loss_ft_val", "loss_pt_val"]));
    for run in runs {
        for e in &run.record.evaluations {
            csv.row(identity(run).into_iter().chain([
                e.step.to_string(),
                cell(e.loss_ft),
                cell(e.loss_pt),
            ]));
        }
    }
    csv.text()
}

/// One row per run.
fn by_run(runs: &[&Finetuned]) -> String {
    let mut csv = Csv::new(IDENTITY.into_iter().chain([
        "bottom_step",
        "interior",
        "loss_ft",
        "loss_pt",
        "loss_pt0",
        "stable",
        "outcome",
        "steps",
        "lr",
        "n_params_non_embedding",
        "sequences",
        "injected_sequences",
        "tokens",
        "injected_tokens",
        "target_epochs",
        "run_id",
    ]));
    for run in runs {
        let bottom = match run.bottom() {
            Some(b) => {
                [b.step.to_string(), b.interior.to_string(), cell(b.loss_ft), cell(b.loss_pt)]
            }
            None => ["", "false", "", ""].map(String::from),
        };
        let r = &run.record.realised;
        csv.row(identity(run).into_iter().chain(bottom).chain([
            cell(run.loss_pt0()),
            run.stable().to_string(),
            run.record.outcome.name().to_string(),
            run.record.steps.to_string(),
            cell(run.lr),
            run.count().non_embedding.to_string(),
            r.sequences.to_string(),
            r.injected_sequences.to_string(),
            r.tokens.to_string(),
            r.injected_tokens.to_string(),
            cell(r.epochs),
            run.record.id.to_string(),
        ]));
    }
    csv.text()
}

/// The columns that identify the run of a row.
const IDENTITY: [&str; 6] = ["size", "n_params", "d_ft_tokens", "p", "lr_ratio", "seed"];

fn identity(run: &Finetuned) -> Vec<String> {
    vec![
        run.size.clone(),
        run.n_params().to_string(),
        run.unique_tokens().to_string(),
        cell(run.p),
        cell(run.lr_ratio),
        run.seed.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::golden::{self, PLANTED};

    #[test]
    fn the_planted_grid_gives_the_pinned_tables_and_all_panels() {
        let page = golden::page(&FIG5);
        let drawing = page.drawing.unwrap();
        // Two sizes with two losses each, three fractions, three rates a panel.
        assert_eq!(drawing.panels.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 3, 3]);
        assert!(drawing.panels.iter().flatten().all(|p| p.lines.len() == 3 && p.marks.len() == 3));
        assert_eq!(page.findings[0].verdict, Verdict::Supported);
        let rows: Vec<usize> = page.tables.iter().map(|table| table.rows.len()).collect();
        assert_eq!(rows, [3, 18, 4, 2]);
        assert_eq!(page.tables[0].rows[1][0], "1/30");
        // B of the far domain is 600: 1% acts as 7 N.
        let undone = &page.tables[2].rows[0];
        assert_eq!((undone[1].as_str(), undone[4].ends_with('%')), ("1%", true));
    }

    /// The rule holds for every run or not at all, and other ratios do not count.
    #[test]
    fn one_run_that_does_not_overfit_in_time_is_enough() {
        let finding = |results: &Results| draw(results, &PLANTED.1).unwrap().findings.remove(0);
        let change = |change: &dyn Fn(&mut Finetuned), lr_ratio: f64| {
            let mut results = PLANTED.0.clone();
            let asked = |run: &&mut Finetuned| run.in_block(BLOCK) && run.lr_ratio == lr_ratio;
            change(results.finetuned.iter_mut().find(asked).unwrap());
            finding(&results).verdict
        };
        let late = |run: &mut Finetuned| {
            run.steps = run.bottom().unwrap().step + 1;
        };
        assert_eq!(change(&late, LR_RATIO), Verdict::NotSupported);
        assert_eq!(change(&late, 1.0 / 3.0), Verdict::Supported);
        let jumps = |run: &mut Finetuned| {
            run.record.evaluations.last_mut().unwrap().loss_ft += JUMP + 1.0;
        };
        assert_eq!(change(&jumps, LR_RATIO), Verdict::NotSupported);
        let mut results = PLANTED.0.clone();
        results.finetuned.retain(|run| run.lr_ratio != LR_RATIO);
        assert_eq!(finding(&results).verdict, Verdict::NotTestable);
        results.finetuned.clear();
        let page = draw(&results, &PLANTED.1).unwrap();
        assert!(page.drawing.is_none());
        assert!(page.notes[0].contains("block fig5"), "{:?}", page.notes);
    }

    #[test]
    fn ratios_are_written_as_fractions_where_they_are_some() {
        for (value, name) in [(1.0 / 30.0, "1/30"), (1.0 / 3.0, "1/3"), (0.03, "0.03"), (1.0, "1")]
        {
            assert_eq!(ratio(value), name);
        }
        assert_eq!(ratio(2.5), "2.5");
    }
}
