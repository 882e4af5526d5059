//! What the figure says of the paper's claim, in words and numbers.

use super::{Drawn, Results, WELL_WITHIN, percent};
use forgetting_laws::finetuning::{self, Bottom, LR_RATIO};
use std::fmt::Write as _;

/// `summary.md`: the claim, the verdict, and the numbers behind it.
pub fn text(results: &Results<'_>) -> String {
    let Results { steps, drawn, .. } = results;
    let at_rule: Vec<&Drawn<'_>> =
        drawn.iter().filter(|d| d.cell.ratio.get() == LR_RATIO).collect();
    let overfit = at_rule.iter().filter(|d| d.overfits_within(results.steps)).count();
    let stable = at_rule.iter().filter(|d| d.stable).count();
    let n = at_rule.len();
    let verdict = if n == 0 {
        "**Not tested**: the ratio 1/30 is not among these runs.".to_string()
    } else if overfit == n && stable == n {
        let latest = at_rule.iter().filter_map(|d| d.bottom).map(|b| b.step).max();
        format!(
            "**Supported** by these runs: at 1/30 all {n} runs are stable and overfit, the \
                 latest bottom at step {} of {}.",
            latest.unwrap_or_default(),
            steps
        )
    } else {
        format!(
            "**Not supported** by these runs: at 1/30, {overfit} of {n} runs have an interior \
                 bottom within {:.0}% of {} steps, and {stable} of {n} are stable.",
            100.0 * WELL_WITHIN,
            steps
        )
    };
    let mut text = format!(
        "# Figure 5: the learning rate of finetuning\n\n\
             The paper's claim: 1/30 of the pretraining's peak learning rate \"is sufficient to \
             ensure both overfitting well within 12K steps and stable training at all model scales \
             and all mixtures p\".\n\n{verdict}\n\n\
             A run *overfits within the budget* if the lowest validation loss on the target lies \
             at an interior evaluation, at no more than {:.0}% of the {} steps. It is *stable* if \
             every loss is finite and neither the target's validation loss nor the training loss \
             jumps by more than {} nat between two evaluations. Both definitions are ours.\n\n",
        100.0 * WELL_WITHIN,
        steps,
        finetuning::JUMP,
    );
    by_ratio(results, &mut text);
    by_run(drawn, &mut text);
    forgetting(&at_rule, &mut text);
    pretraining(results, &mut text);
    data_and_machine(results, &mut text);
    text
}

fn by_ratio(results: &Results<'_>, text: &mut String) {
    text.push_str(
        "| lr / peak | runs | overfit within the budget | stable | bottom at step (first to \
             last run) | mean loss_ft at the bottom |\n|---|---|---|---|---|---|\n",
    );
    for ratio in results.ratios() {
        let of: Vec<&Drawn<'_>> = results.drawn.iter().filter(|d| d.cell.ratio == ratio).collect();
        let bottoms: Vec<Bottom> = of.iter().filter_map(|d| d.bottom).collect();
        let steps = bottoms.iter().map(|b| b.step);
        let range = match (steps.clone().min(), steps.max()) {
            (Some(low), Some(high)) => format!("{low} to {high}"),
            _ => "none".into(),
        };
        let mean = bottoms.iter().map(|b| b.loss_ft).sum::<f64>() / bottoms.len() as f64;
        let _ = writeln!(
            text,
            "| {ratio} | {} | {} | {} | {range} | {mean:.3} |",
            of.len(),
            of.iter().filter(|d| d.overfits_within(results.steps)).count(),
            of.iter().filter(|d| d.stable).count(),
        );
    }
    text.push('\n');
}

fn by_run(drawn: &[Drawn<'_>], text: &mut String) {
    text.push_str(
        "## Every run\n\n| size | p asked | p realised | lr / peak | bottom at step | interior | \
         stable | loss_ft | loss_pt | rise of loss_pt |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for d in drawn {
        let realised = d.record.realised.fraction();
        let realised = realised.map_or("".into(), |f| format!("{:.2}%", 100.0 * f));
        let head =
            format!("| {} | {} | {realised} | {} |", d.size.name, percent(d.cell.p), d.cell.ratio);
        let _ = match &d.bottom {
            Some(b) => writeln!(
                text,
                "{head} {} | {} | {} | {:.4} | {:.4} | {:+.4} |",
                b.step,
                yes(b.interior),
                yes(d.stable),
                b.loss_ft,
                b.loss_pt,
                b.loss_pt - d.loss_pt0()
            ),
            None => writeln!(text, "{head} none | no | no | | | |"),
        };
    }
    text.push('\n');
}

/// What the same runs say of forgetting.
fn forgetting(at_rule: &[&Drawn<'_>], text: &mut String) {
    let mut lines = String::new();
    for d in at_rule {
        let same =
            |other: &&&Drawn<'_>| other.size.name == d.size.name && other.cell.p.get() == 0.0;
        let Some(without) = at_rule.iter().find(same).and_then(|other| other.bottom) else {
            continue;
        };
        let Some(b) = d.bottom.filter(|_| d.cell.p.get() > 0.0) else { continue };
        let (rise0, rise) = (without.loss_pt - d.loss_pt0(), b.loss_pt - d.loss_pt0());
        let _ = writeln!(
            lines,
            "- {}, p = {}: loss_pt rises by {rise:.3} nats at the bottom, by {rise0:.3} without \
             injection: {:.0}% of the forgetting is undone; loss_ft changes by {:+.4}.",
            d.size.name,
            percent(d.cell.p),
            100.0 * (1.0 - rise / rise0),
            b.loss_ft - without.loss_ft
        );
    }
    if !lines.is_empty() {
        let _ = writeln!(text, "## What injection does at 1/30\n\n{lines}");
    }
}

/// The models that were finetuned.
fn pretraining(results: &Results<'_>, text: &mut String) {
    text.push_str(
        "## Pretraining\n\n| size | N | without embeddings | steps | tokens per parameter | times \
         that the text was used | loss_pt |\n|---|---|---|---|---|---|---|\n",
    );
    for (size, record) in &results.sizes {
        let n = record.n_params;
        let r = &record.realised;
        let loss = record.evaluations.last().map_or(f64::NAN, |evaluation| evaluation.loss_pt);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {:.1} | {:.2} | {loss:.4} |",
            size.name,
            n.paper(),
            n.non_embedding,
            record.steps,
            r.tokens as f64 / n.paper() as f64,
            r.epochs,
        );
    }
    text.push('\n');
}

fn data_and_machine(results: &Results<'_>, text: &mut String) {
    let Results { facts, machine, .. } = results;
    let (of_pt, d_ft) = (&facts.pretraining, results.d_ft_tokens());
    let Some(of_ft) = &facts.target else { return };
    let _ = write!(
        text,
        "## Data and machine\n\n\
         - Pretraining: {}; {} tokens, {} reserved for injection, {} for validation.\n\
         - Target: {}; D_ft = {d_ft} tokens, {} for validation.\n\
         - Losses of models of counts trained on the pretraining set, in nats per token: unigram \
         {:.3} (pretraining) and {:.3} (target), trigram {:.3} and {:.3}.\n\
         - Tokenizer {} with {} tokens. Data {} and {}.\n\
         - Runs made by: {machine}\n",
        of_pt.source,
        of_pt.counts.training.tokens,
        of_pt.counts.injection.tokens,
        of_pt.counts.validation.tokens,
        of_ft.source,
        of_ft.counts.validation.tokens,
        of_pt.unigram,
        of_ft.unigram,
        of_pt.trigram,
        of_ft.trigram,
        &facts.tokenizer[..16],
        facts.vocab,
        of_pt.spec.id(),
        of_ft.spec.id(),
    );
}

fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}
