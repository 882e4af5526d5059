//! The datasheet: what the tables are, how they were made, their limits, and how to refit the laws.

use crate::blocks::MAIN;
use crate::format::Table;
use crate::format::cell;
use crate::results::{LeftOut, Results, distinct};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The datasheet of results whose files have these names and hashes.
pub fn markdown(results: &Results, files: &[(&str, String)]) -> String {
    let mut text =
        String::from("# Datasheet: losses of finetuning with pretraining data injection\n");
    for (title, body) in [
        ("What", what(results)),
        ("Why", WHY.into()),
        ("How it was made", how(results)),
        ("What it cost", cost(results)),
        ("Which runs count in fits", rule(results)),
        ("How to refit", refit()),
        ("Known limits", limits(results)),
        ("Licence", licence()),
        ("Files", hashes(files)),
    ] {
        let _ = write!(text, "\n## {title}\n\n{}\n", body.trim_end());
    }
    text
}

const WHY: &str = "\
Béthune et al., \"Scaling Laws for Forgetting during Finetuning with Pretraining Data Injection\"
(ICML 2025, arXiv 2502.06042), fit laws of two losses over the model size N, the unique target
tokens D_ft, the fraction p of injected pretraining data and the target domain. Their runs were not
published. These are runs of an independent implementation, so that anyone can check the laws, fit other forms, or compare their own runs.";

fn what(results: &Results) -> String {
    let steps: usize = results.finetuned.iter().map(|run| run.record.evaluations.len()).sum();
    let main: Vec<_> = results.block(MAIN).collect();
    let mut text = format!(
        "The results of {} finetuning runs of the preset {} and of the {} pretraining runs that they \
         start from. `losses` has the losses on the target and on the pretraining data at the bottom \
         of the U-curve, `trajectories` has every evaluation of the runs ({steps} of finetuning), and \
         `pretrained` has the models. `dictionary.md` explains every column.\n",
        results.finetuned.len(),
        results.preset,
        results.pretrained.len(),
    );
    let list = |numbers: Vec<f64>| numbers.into_iter().map(cell).collect::<Vec<_>>().join(", ");
    if !main.is_empty() {
        let _ = writeln!(
            text,
            "\nThe grid of the laws (`main`) has {} runs: N = {} parameters; D_ft = {} tokens; p = \
             {}; domains {}.",
            main.len(),
            list(distinct(main.iter().map(|run| run.n_params() as f64))),
            list(distinct(main.iter().map(|run| run.unique_tokens() as f64))),
            list(distinct(main.iter().map(|run| run.p))),
            results
                .domains_of(MAIN)
                .iter()
                .map(|domain| domain.name.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        );
    }
    text
}

fn how(results: &Results) -> String {
    let pretraining = &results.pretraining;
    let mut text = format!(
        "- Results by: {}\n- Exported by: replication {} commit {}\n- Preset: {}\n- Hash of all \
         records: {}\n- Pretraining data: {}, identity {}, {} distinct tokens\n",
        results.program,
        env!("CARGO_PKG_VERSION"),
        env!("REPLICATION_COMMIT"),
        results.preset,
        results.hash(),
        pretraining.source,
        pretraining.data,
        pretraining.vocab,
    );
    text.extend(results.machines.iter().map(|machine| format!("- Runs made by: {machine}\n")));
    let domain = |domain: &crate::results::Domain| {
        let distances = domain.distances.iter().map(|(name, x)| format!("{name} {x:.4}"));
        vec![
            domain.name.clone(),
            domain.source.clone(),
            domain.data.to_string(),
            cell(domain.unigram_ft),
            distances.collect::<Vec<_>>().join(", "),
        ]
    };
    let domains = Table {
        caption:
            "The target domains. An identity is the hash of everything that determines the data."
                .into(),
        columns: ["domain", "source", "identity", "unigram loss (nats)", "distances"]
            .map(String::from)
            .to_vec(),
        rows: results.domains.iter().map(domain).collect(),
    };
    let _ = write!(text, "\n{}", domains.markdown());
    let measured = results.domains.iter().filter_map(|d| Some((&d.name, d.overlap?.words())));
    let lines: String = measured.map(|(name, words)| format!("- {name}: {words}\n")).collect();
    if !lines.is_empty() {
        let _ = write!(
            text,
            "\nA model predicts text that it has seen in training from memory, so its loss there says \
             little. The overlap of the validation sets with the training texts is counted in \
             n-grams of tokens that do not cross the end of a document:\n\n{lines}"
        );
    }
    text
}

/// Core-seconds of the runs of each size, and tokens per second. Evaluations count in the seconds but
/// not in the tokens.
fn cost(results: &Results) -> String {
    let pretrained = results.pretrained.iter();
    let pretrained = pretrained
        .map(|run| (run.rank, run.size.as_str(), false, run.core_seconds, run.d_tokens()));
    let finetuned = results.finetuned.iter().filter_map(|run| {
        let parent = results.parent(run)?;
        let tokens = run.record.realised.tokens;
        Some((parent.rank, run.size.as_str(), true, run.core_seconds, tokens))
    });
    /// The number of runs, their core-seconds and their tokens.
    type Cost = (usize, f64, u64);
    let mut of_size: BTreeMap<(usize, &str), [Cost; 2]> = BTreeMap::new();
    let mut unknown = 0;
    for (rank, size, tuned, seconds, tokens) in pretrained.chain(finetuned) {
        let Some(seconds) = seconds else {
            unknown += 1;
            continue;
        };
        let of = &mut of_size.entry((rank, size)).or_default()[usize::from(tuned)];
        *of = (of.0 + 1, of.1 + seconds, of.2 + tokens);
    }
    if of_size.is_empty() {
        return "The run times are not known.".into();
    }
    let all: f64 = of_size.values().flatten().map(|(_, seconds, _)| seconds).sum();
    let mut text = format!("{all:.0} core-seconds, evaluations included");
    if unknown > 0 {
        let _ = write!(text, "; those of {unknown} further runs are not known");
    }
    text += ".\n\n| size | pretrainings | core-seconds | tokens/s | finetunings | core-seconds | tokens/s |\n\
             |---|---|---|---|---|---|---|\n";
    for ((_, size), runs) in of_size {
        let cells = runs.map(|(n, seconds, tokens)| {
            let rate =
                if n == 0 { String::new() } else { format!("{:.0}", tokens as f64 / seconds) };
            format!("{n} | {seconds:.0} | {rate}")
        });
        let _ = writeln!(text, "| {size} | {} | {} |", cells[0], cells[1]);
    }
    text
}

fn rule(results: &Results) -> String {
    let count =
        |why: Option<LeftOut>| results.finetuned.iter().filter(|run| run.left_out() == why).count();
    let why = [
        (LeftOut::Diverged, "a loss was no longer finite"),
        (LeftOut::Unstable, "a loss jumped"),
        (LeftOut::BottomAtStart, "the lowest loss on the target is the first evaluation"),
        (LeftOut::BottomAtEnd, "the lowest loss on the target is the last evaluation"),
    ];
    let all = results.finetuned.len();
    let mut text = format!(
        "A run counts if its bottom is interior, no loss diverged and none jumped. The paper finds a \
         U-curve in every configuration and states no rule, so this one is ours. The column \
         `left_out` has the reason why a run does not count, and is empty for the {} runs that do. \
         Runs that do not count are in the tables too.\n\n",
        count(None)
    );
    for (why, words) in why {
        let _ = writeln!(text, "- `{}`, {} of {all}: {words}", why.name(), count(Some(why)));
    }
    let _ = writeln!(
        text,
        "- runs that are not in the tables because they failed or are not finished: {}",
        results.missing
    );
    text
}

/// The commands in the datasheet that fit the laws to the tables.
pub const COMMANDS: [&str; 3] = [
    "replication fit losses.csv --law forgetting,finetuning --where main=true --where left_out=",
    "replication fit losses.parquet --law forgetting,finetuning --where main=true --where left_out=",
    "replication fit losses.csv --law forgetting,finetuning --where main=true --where left_out= \
     --map n_params=n_params_non_embedding",
];

fn refit() -> String {
    format!(
        "Run these commands in this folder, with the program `replication` of the forgetting-laws \
         repository. The first two fit the laws of the figures, and the third counts N without the \
         embeddings.\n\n\
         ```sh\n{}\n```\n\nOther blocks of the grid change one thing at a time: the sampler, the \
         replay pool, the seed, p, weight decay or the learning rate. Compare a run of theirs with \
         its counterpart in `main`, which has the same size, domain, d_ft_tokens, p and seed.\n",
        COMMANDS.join("\n")
    )
}

fn limits(results: &Results) -> String {
    let main: Vec<_> = results.block(MAIN).collect();
    let ratios = main.iter().map(|run| run.d_tokens as f64 / run.n_params() as f64);
    let ratios = distinct(ratios);
    let seeds = distinct(main.iter().map(|run| run.seed as f64)).len();
    let mut text = String::from(
        "- The bottom is the lowest of the evaluated losses, and its loss is measured on the \
         validation set by which it was chosen. The loss is therefore a little too low, and the step \
         is known only up to the distance between evaluations.\n\
         - A loss is a mean over a finite validation set. All runs of a domain share it, so their \
         errors are not independent.\n\
         - A size has one pretrained model for each seed and weight decay, so the laws' intervals \
         do not include the variance of pretraining.\n",
    );
    if !main.is_empty() {
        let _ = writeln!(
            text,
            "- The grid of the laws has {seeds} seed{} of finetuning per setting. The block `seeds`, \
             if there is one, shows the variance over seeds on a part of it.",
            if seeds == 1 { "" } else { "s" }
        );
    }
    if let (Some(low), Some(high)) = (ratios.first(), ratios.last()) {
        let (low, high) = (format!("{low:.1}"), format!("{high:.1}"));
        let span = if low == high { low } else { format!("{low} to {high}") };
        let _ = writeln!(
            text,
            "- Pretraining took {span} tokens per parameter, and 100 in the paper. The sizes are those \
             of the preset {}. What a law says outside the ranges of the runs is an extrapolation.",
            results.preset
        );
    }
    text
}

fn licence() -> String {
    format!(
        "{}, like the program. Text that came from files has its own licences; these tables contain \
         no text.\n",
        env!("CARGO_PKG_LICENSE")
    )
}

fn hashes(files: &[(&str, String)]) -> String {
    let rows = files.iter().map(|(name, hash)| vec![(*name).to_string(), hash.clone()]);
    let table = Table {
        caption: String::new(),
        columns: ["file", "SHA-256"].map(String::from).to_vec(),
        rows: rows.collect(),
    };
    table.markdown()
}
