//! Table 1: the setup of the grid.

use crate::blocks::MAIN;
use crate::figures::style::{self, Csv, amounts, percent, short};
use crate::figures::{Figure, Page, Table};
use crate::format::cell;
use crate::format::number;
use crate::results::{Finetuned, Laws, Pretrained, Results, distinct};
use forgetting_laws::Result;

/// Table 1. All that is known of the paper's is that it shows the setup.
pub const TABLE1: Figure = Figure {
    id: "table1",
    paper: "Table 1 (arXiv v2)",
    title: "Models and data",
    blocks: &[MAIN],
    draw,
};

fn draw(results: &Results, _: &Laws) -> Result<Page> {
    let mut notes = style::notes(results, &[MAIN]);
    notes.push(
        "The paper's learning rates, batch sizes and numbers of heads are unknown. The preset \
         `paper` takes them from sister papers (PAPER_MAPPING.md)."
            .into(),
    );
    Ok(Page {
        csv: vec![("table1".into(), pretrainings(results))],
        tables: vec![models(results), settings(results)],
        notes,
        ..Page::default()
    })
}

/// One row per pretraining run of any block.
fn pretrainings(results: &Results) -> String {
    let mut csv = Csv::new([
        "size",
        "blocks",
        "n_layers",
        "d_model",
        "n_heads",
        "vocab",
        "context",
        "n_params",
        "n_params_non_embedding",
        "n_params_trained",
        "d_tokens",
        "tokens_per_param",
        "steps",
        "batch",
        "peak_lr",
        "weight_decay",
        "seed",
        "gpus",
        "flops",
        "outcome",
        "loss_pt0",
        "run_id",
    ]);
    let mut runs: Vec<&Pretrained> = results.pretrained.iter().collect();
    runs.sort_by_key(|run| run.rank);
    for run in runs {
        let (shape, count) = (run.shape, run.record.n_params);
        csv.row([
            run.size.clone(),
            run.blocks.join(" "),
            shape.n_layers.to_string(),
            shape.d_model.to_string(),
            shape.n_heads.to_string(),
            shape.vocab.to_string(),
            shape.context.to_string(),
            count.paper().to_string(),
            count.non_embedding.to_string(),
            count.trained().to_string(),
            run.d_tokens().to_string(),
            cell(tokens_per_param(run)),
            run.record.steps.to_string(),
            run.batch.to_string(),
            cell(run.peak_lr),
            cell(run.weight_decay),
            run.seed.to_string(),
            run.gpus.to_string(),
            cell(flops(run)),
            run.record.outcome.name().into(),
            cell(run.loss()),
            run.record.id.to_string(),
        ]);
    }
    csv.text()
}

/// D over N.
pub fn tokens_per_param(run: &Pretrained) -> f64 {
    run.d_tokens() as f64 / run.record.n_params.paper() as f64
}

/// Floating-point operations of the whole pretraining.
fn flops(run: &Pretrained) -> f64 {
    run.shape.train_flops_per_token() * run.d_tokens() as f64
}

/// The models from which finetuning runs of the main grid start, the smallest first.
pub fn starts(results: &Results) -> Vec<&Pretrained> {
    let in_main = |run: &&Pretrained| run.in_block(MAIN);
    let mut runs: Vec<&Pretrained> = results.pretrained.iter().filter(in_main).collect();
    runs.sort_by_key(|run| run.rank);
    runs
}

fn models(results: &Results) -> Table {
    let row = |run: &Pretrained| {
        let (shape, count) = (run.shape, run.record.n_params);
        vec![
            run.size.clone(),
            format!("{} × {}, {}", shape.n_layers, shape.d_model, shape.n_heads),
            short(count.paper() as f64),
            short(count.non_embedding as f64),
            short(run.d_tokens() as f64),
            run.record.steps.to_string(),
            format!("{} × {}", run.batch, shape.context),
            number(run.peak_lr),
            run.gpus.to_string(),
            format!("{:.1e}", flops(run)),
            format!("{:.3}", run.loss()),
        ]
    };
    let columns = [
        "size",
        "layers × width, heads",
        "N",
        "N without embeddings",
        "tokens D",
        "steps",
        "batch, sequences × tokens",
        "peak learning rate",
        "GPUs",
        "FLOPs",
        "L_pt⁰ (nats)",
    ];
    Table {
        caption:
            "Pretraining. The paper's sizes are Tiny 41M, Small 109M, Medium 334M, Large 665M \
                  and XL 1.27B, trained on 1, 1, 4, 8 and 8 GPUs with 100 tokens per parameter."
                .into(),
        columns: columns.map(String::from).to_vec(),
        rows: starts(results).into_iter().map(row).collect(),
    }
}

/// The settings next to the paper's.
fn settings(results: &Results) -> Table {
    let runs = || results.block(MAIN);
    let pretrained = || starts(results).into_iter();
    let numbers = |of: fn(&Finetuned) -> f64| list(distinct(runs().map(of)), number);
    let domains = results.domains_of(MAIN);
    let domain = |name: &str, source: &str| {
        if name == source { name.to_string() } else { format!("{name} ({source})") }
    };
    let per_param = distinct(pretrained().map(|run| tokens_per_param(run).round()));
    let one_over = |ratio: f64| format!("peak/{}", number(1.0 / ratio));
    let vocab = results.pretraining.vocab;
    let rows = [
        ("pretraining data", "RedPajama V2", results.pretraining.source.clone()),
        ("vocabulary", "SentencePiece; 32,000 in sister papers", vocab.to_string()),
        ("tokens per parameter", "100", list(per_param, number)),
        ("weight decay", "0.1", list(distinct(pretrained().map(|run| run.weight_decay)), number)),
        (
            "target domains",
            "12 of The Pile, and Open Hermes",
            domains.iter().map(|d| domain(&d.name, &d.source)).collect::<Vec<_>>().join(", "),
        ),
        (
            "D_ft in tokens",
            "300K to 30M",
            list(amounts(runs()).into_iter().map(|amount| amount as f64), short),
        ),
        ("p", "0%, 0.1%, 0.5%, 1%, 5%", list(style::main_fractions(results), percent)),
        ("seeds", "one, judging by the number of runs", numbers(|run| run.seed as f64)),
        ("finetuning steps", "12,000", numbers(|run| run.steps as f64)),
        (
            "finetuning learning rate",
            "peak/30",
            list(distinct(runs().map(|r| r.lr_ratio)), one_over),
        ),
        ("finetuning batch, in sequences", "unknown", numbers(|run| run.batch as f64)),
        ("finetuning runs", "about 1,500", runs().count().to_string()),
    ];
    Table {
        caption: "Settings of finetuning in the main grid.".into(),
        columns: ["setting", "the paper", "here"].map(String::from).to_vec(),
        rows: rows.map(|(name, paper, here)| vec![name.into(), paper.into(), here]).to_vec(),
    }
}

fn list(values: impl IntoIterator<Item = f64>, name: impl Fn(f64) -> String) -> String {
    values.into_iter().map(name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::golden::{self, PLANTED};

    #[test]
    fn the_planted_setup_is_pinned() {
        let page = golden::page(&TABLE1);
        let models = &page.tables[0];
        assert_eq!(models.rows.len(), 4, "the models without weight decay are not the main grid's");
        let row = &models.rows[3];
        assert_eq!(row[..4], ["nano-medium", "6 × 64, 4", "329K", "296K"]);
        assert_eq!((row[8].as_str(), row[10].as_str()), ("1", "1.807"));
        assert!(page.tables.iter().all(|t| t.rows.iter().all(|r| r.len() == t.columns.len())));
        let here = |setting: &str| {
            let row = page.tables[1].rows.iter().find(|row| row[0] == setting).unwrap();
            row[2].clone()
        };
        assert_eq!(here("p"), "0%, 0.5%, 1%, 5%");
        assert_eq!(here("D_ft in tokens"), "1.28K, 5.12K, 12.8K, 41K");
        assert_eq!(here("finetuning learning rate"), "peak/30");
        assert_eq!(here("tokens per parameter"), "40");
        assert_eq!(here("finetuning runs"), "192");
        // A header, and four sizes with and without weight decay.
        assert_eq!(page.csv[0].1.lines().count(), 9);
    }

    #[test]
    fn an_empty_grid_has_an_empty_setup() {
        let mut results = PLANTED.0.clone();
        results.pretrained.clear();
        results.finetuned.clear();
        let page = draw(&results, &PLANTED.1).unwrap();
        assert!(page.tables[0].rows.is_empty());
        assert!(page.notes[0].contains("block main has no runs"));
    }
}
