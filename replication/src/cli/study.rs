//! `replication study`: chooses the next run for the user's training code, and says what the runs show
//! so far. It trains nothing. The library defines the file of a study ([`forgetting_laws::study`]).

use super::table::TableOptions;
use crate::cli::values::Values;
use crate::terminal::{log, print};
use clap::{Args, Subcommand};
use forgetting_laws::fit::{Bootstrap, Limit, Options};
use forgetting_laws::laws::Row;
use forgetting_laws::numbers::{share, size};
use forgetting_laws::study::{Answer, Losses, Made, Question, State, Study, Verdict};
use forgetting_laws::table::read::{self, Record, Records};
use forgetting_laws::table::{Column, Run};
use forgetting_laws::words::{self, counted, numbers, percent};
use forgetting_laws::{Error, Result};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A study of how much to inject. Sizes may have a suffix: 300K, 109M, 1.27B, 2T.
#[derive(Subcommand)]
pub enum Command {
    /// Begins a study: states the question and the candidate runs.
    New(Box<New>),
    /// Prints the next runs, those that are most informative for their cost, as JSON lines.
    Ask(Ask),
    /// Records the results of runs, and says what all of them show.
    Tell(Box<Tell>),
    /// Says what the runs show so far.
    Status(Status),
}

/// A new study.
#[derive(Args)]
pub struct New {
    /// The file to write.
    file: PathBuf,
    /// Parameters of the model in question.
    #[arg(long, value_name = "N", value_parser = size)]
    n_params: f64,
    /// Unique tokens of the target in question.
    #[arg(long, value_name = "D", value_parser = size)]
    d_ft: f64,
    /// How much may be forgotten: a share of the pretraining loss (5%) or nats per token (0.05).
    #[arg(long, default_value = "5%", value_parser = crate::cli::values::limit)]
    limit: Limit,
    /// The probability with which a new run must stay within the limit.
    #[arg(long, value_name = "SHARE", default_value_t = 0.9)]
    confidence: f64,
    /// Pretraining loss before finetuning of the model in question, in nats per token [default:
    /// derived from the sizes of the runs].
    #[arg(long, value_name = "NATS", value_parser = size)]
    loss_pt0: Option<f64>,
    /// Fractions in question [default: those of the candidates].
    #[arg(long, value_name = "P", value_parser = Values::shares)]
    p: Option<Values>,
    /// Table of the candidate runs (.csv, .tsv, .jsonl, .json or .parquet) with the columns
    /// n_params, d_ft_tokens and p, and optionally cost, model (a name), model_cost and d_tokens (the
    /// pretraining tokens of the model).
    #[arg(long, value_name = "FILE", conflicts_with_all = ["sizes", "amounts", "fractions"])]
    candidates: Option<PathBuf>,
    /// Sizes N of the candidate runs, instead of a table: 10M,30M or LOW:HIGH:COUNT. Every combination
    /// with --amounts and --fractions is a candidate.
    #[arg(long, value_name = "N", value_parser = Values::sizes, requires_all = ["amounts", "fractions"])]
    sizes: Option<Values>,
    /// Amounts D_ft of target data of the candidate runs, with --sizes.
    #[arg(long, value_name = "D", value_parser = Values::sizes, requires = "sizes")]
    amounts: Option<Values>,
    /// Fractions p of injected pretraining data of the candidate runs, with --sizes.
    #[arg(long, value_name = "P", value_parser = Values::shares, requires = "sizes")]
    fractions: Option<Values>,
    /// Passes of a run over the target data, for the default cost of 6*N*D_ft*PASSES FLOPs. Only
    /// ratios of costs matter.
    #[arg(long, value_name = "PASSES", default_value = "10", value_parser = size)]
    passes: f64,
    /// Pretraining tokens of each model, for the default cost of 6*N*D FLOPs [default: the models
    /// exist].
    #[arg(long, value_name = "D", value_parser = size)]
    d_tokens: Option<f64>,
    /// Vocabulary size V of the models. The answer may then use forgetting-bounded-V, the form whose
    /// increase is bounded by the loss of a uniform model.
    #[arg(long, value_name = "V")]
    vocab_size: Option<u32>,
}

/// The next runs.
#[derive(Args)]
pub struct Ask {
    /// The study.
    file: PathBuf,
    /// Number of runs.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
}

/// The results of runs.
#[derive(Args)]
pub struct Tell {
    /// The study.
    file: PathBuf,
    /// The run's number.
    #[arg(long, conflicts_with_all = ["table", "n_params"])]
    run: Option<u64>,
    /// Pretraining loss of the run's model before finetuning, in nats per token. It need be given
    /// only once per model.
    #[arg(long, value_name = "NATS", allow_negative_numbers = true)]
    loss_pt0: Option<f64>,
    /// Pretraining loss at the bottom of the U-curve, in nats per token.
    #[arg(long, value_name = "NATS", allow_negative_numbers = true)]
    loss_pt: Option<f64>,
    /// Loss on the target there, in nats per token.
    #[arg(long, value_name = "NATS", allow_negative_numbers = true)]
    loss_ft: Option<f64>,
    /// Records that the run has no result, with the reason. It is not handed out again.
    #[arg(long, value_name = "WHY", requires = "run", conflicts_with_all = ["loss_pt", "loss_ft"])]
    failed: Option<String>,
    /// Releases the run: it can be handed out again, and its losses, if any, are discarded.
    #[arg(long, requires = "run", conflicts_with_all = ["loss_pt", "loss_ft", "failed"])]
    release: bool,
    /// Model size of a run that was made elsewhere.
    #[arg(long, value_name = "N", value_parser = size, requires_all = ["d_ft", "p"])]
    n_params: Option<f64>,
    /// Its unique tokens of the target.
    #[arg(long, value_name = "D", value_parser = size, requires = "n_params")]
    d_ft: Option<f64>,
    /// Its fraction of injected pretraining data.
    #[arg(long, value_parser = share, requires = "n_params")]
    p: Option<f64>,
    /// Its model, if the study has several of that size; or, with --loss-pt0 alone, a model that
    /// now exists.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["run", "table"])]
    model: Option<String>,
    /// A table of losses, as for `fit`. A row whose run is a number of the study reports that run;
    /// any other row is a run that was made elsewhere. Repeated rows change nothing.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["n_params", "loss_pt0", "loss_pt", "loss_ft"])]
    table: Option<PathBuf>,
    #[command(flatten)]
    reading: TableOptions,
    #[command(flatten)]
    answer: AnswerOptions,
}

/// The state of a study.
#[derive(Args)]
pub struct Status {
    /// The study.
    file: PathBuf,
    #[command(flatten)]
    answer: AnswerOptions,
}

/// How to compute and print the answer.
#[derive(Args)]
struct AnswerOptions {
    /// Number of bootstrap resamples, for intervals.
    #[arg(long, value_name = "K", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    bootstrap: u32,
    /// How much the increase of L_pt varies between pretrained models of one size: 8% or 0.08. Runs of
    /// one model per size cannot show it.
    #[arg(long, value_name = "SHARE", value_parser = crate::cli::values::model_spread)]
    model_spread: Option<f64>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Carries out a command on a study.
///
/// # Errors
/// If the file is not a study, or an option, a number or a table is refused; the study then stays
/// unchanged.
pub fn run(command: Command) -> Result<()> {
    match command {
        Command::New(new) => begin(&new),
        Command::Ask(Ask { file, count }) => {
            let asked = Study::change(&file, |study| study.ask(count as usize))?;
            if asked.is_empty() {
                log("every run of the study has been handed out");
            }
            let line = |run| serde_json::to_string(run).expect("our types have string keys") + "\n";
            print(&asked.iter().map(line).collect::<String>())
        }
        Command::Tell(tell) => {
            let study = Study::change(&tell.file, |study| {
                take(study, &tell)?;
                Ok(study.clone())
            })?;
            say(&study, &tell.answer)
        }
        Command::Status(Status { file, answer }) => say(&Study::read(&file)?, &answer),
    }
}

fn begin(new: &New) -> Result<()> {
    let candidates = match (&new.candidates, &new.sizes, &new.amounts, &new.fractions) {
        (Some(path), ..) => from_table(path)?,
        (None, Some(sizes), Some(amounts), Some(fractions)) => {
            let mut candidates = Vec::new();
            for n_params in sizes.of(Column::NParams) {
                for d_ft_tokens in amounts.of(Column::DFtTokens) {
                    let of_p = |p| Candidate { n_params, d_ft_tokens, p, ..Candidate::default() };
                    candidates.extend(fractions.of(Column::P).into_iter().map(of_p));
                }
            }
            candidates
        }
        _ => {
            let requirement = "give a table of runs, or --sizes, --amounts and --fractions";
            return Err(Error::missing("--candidates", requirement));
        }
    };
    let mut p = match &new.p {
        Some(p) => p.of(Column::P),
        None => candidates.iter().map(|run| run.p).collect(),
    };
    p.sort_by(f64::total_cmp);
    p.dedup();
    let mut study = Study::new(Question {
        n_params: new.n_params,
        d_ft_tokens: new.d_ft,
        limit: new.limit,
        confidence: new.confidence,
        p,
        loss_pt0: new.loss_pt0,
        vocab_size: new.vocab_size,
    })?;
    for run in &candidates {
        let name = run.model.clone().unwrap_or_else(|| words::size(run.n_params));
        let of_name = |study: &Study| study.models().iter().find(|m| m.name == name).cloned();
        let model_cost = || new.d_tokens.map_or(0.0, |d| 6.0 * run.n_params * d);
        match of_name(&study) {
            None => {
                let cost = run.model_cost.unwrap_or_else(model_cost);
                study.add_model(&name, run.n_params, cost)?;
            }
            Some(model) if model.n_params != run.n_params => {
                let requirement = format!(
                    "names models of {} and of {} parameters; give each model a name of its own",
                    model.n_params, run.n_params
                );
                return Err(Error::setting("model", name, requirement));
            }
            Some(model) if run.model_cost.is_some_and(|cost| cost != model.cost) => {
                let requirement = "must have the same model_cost in every row";
                return Err(Error::setting("model", name, requirement));
            }
            Some(_) => {}
        }
        let d_tokens = run.d_tokens.or(new.d_tokens);
        d_tokens.map_or(Ok(()), |d_tokens| study.set_d_tokens(&name, d_tokens))?;
        let cost = run.cost.unwrap_or(6.0 * run.n_params * run.d_ft_tokens * new.passes);
        study.add_candidate(&name, run.d_ft_tokens, run.p, cost)?;
    }
    study.create(&new.file)?;
    let count = |of: fn(&Candidate) -> f64| {
        candidates.iter().map(|run| of(run).to_bits()).collect::<BTreeSet<_>>().len()
    };
    print(&format!(
        "{}: {} to choose from, of {} model{}, {} D_ft and {} p\n",
        new.file.display(),
        counted(candidates.len()),
        study.models().len(),
        if study.models().len() == 1 { "" } else { "s" },
        count(|run| run.d_ft_tokens),
        count(|run| run.p),
    ))
}

/// A candidate run in the user's table.
#[derive(Default)]
struct Candidate {
    n_params: f64,
    d_ft_tokens: f64,
    p: f64,
    cost: Option<f64>,
    model: Option<String>,
    model_cost: Option<f64>,
    d_tokens: Option<f64>,
}

/// The runs of a table.
fn from_table(path: &Path) -> Result<Vec<Candidate>> {
    let records = read::records(path)?;
    let column = |name: &str| records.columns.iter().position(|column| column == name);
    let needed = |name: &str| {
        column(name).ok_or_else(|| {
            let found = records.columns.join(", ");
            Error::content(
                path,
                None,
                format!("there is no column {name}; the columns are {found}"),
            )
        })
    };
    let [n_params, d_ft_tokens, p] = [needed("n_params")?, needed("d_ft_tokens")?, needed("p")?];
    let [cost, model, model_cost, d_tokens] =
        ["cost", "model", "model_cost", "d_tokens"].map(column);
    let cells = Cells { path, records: &records };
    let candidate = |row: &Record| -> Result<Candidate> {
        let optional = |column: Option<usize>| column.map(|c| cells.number(row, c)).transpose();
        let required =
            |column: usize| cells.number(row, column)?.ok_or_else(|| cells.empty(row, column));
        let label = |column: usize| row.cells[column].text().trim().to_string();
        Ok(Candidate {
            n_params: required(n_params)?,
            d_ft_tokens: required(d_ft_tokens)?,
            p: cells.share(row, p)?,
            cost: optional(cost)?.flatten(),
            model: model.map(label).filter(|name| !name.is_empty()),
            model_cost: optional(model_cost)?.flatten(),
            d_tokens: optional(d_tokens)?.flatten(),
        })
    };
    records.rows.iter().map(candidate).collect()
}

/// Cells of a table that are numbers.
struct Cells<'a> {
    path: &'a Path,
    records: &'a Records,
}

impl Cells<'_> {
    fn number(&self, row: &Record, column: usize) -> Result<Option<f64>> {
        let cell = &row.cells[column];
        match cell.text().trim() {
            "" => Ok(None),
            text => match cell.number().or_else(|| size(text).ok()) {
                Some(value) => Ok(Some(value)),
                None => Err(self.fault(
                    row,
                    column,
                    &format!("is {}, which is not a number", cell.shown()),
                )),
            },
        }
    }

    fn share(&self, row: &Record, column: usize) -> Result<f64> {
        let cell = &row.cells[column];
        match cell.share(false) {
            Some(value) => Ok(value),
            None if cell.text().trim().is_empty() => Err(self.empty(row, column)),
            None => {
                Err(self.fault(row, column, &format!("is {}, which is not a share", cell.shown())))
            }
        }
    }

    fn empty(&self, row: &Record, column: usize) -> Error {
        self.fault(row, column, "is empty")
    }

    fn fault(&self, row: &Record, column: usize, what: &str) -> Error {
        let why = format!("{} {what}", self.records.columns[column]);
        self.records.fault(self.path, row, &why)
    }
}

/// Records what `tell` says.
fn take(study: &mut Study, tell: &Tell) -> Result<()> {
    let losses = Losses { loss_pt0: tell.loss_pt0, loss_pt: tell.loss_pt, loss_ft: tell.loss_ft };
    if let (Some(model), Some(loss_pt0), None) = (&tell.model, tell.loss_pt0, tell.n_params) {
        return study.tell_model(model, loss_pt0);
    }
    match (tell.run, &tell.table, tell.n_params) {
        (Some(run), ..) if tell.release => study.release(run),
        (Some(run), ..) => match &tell.failed {
            Some(why) => study.fail(run, why),
            None => study.tell(run, losses),
        },
        (None, Some(path), _) => take_table(study, path, &tell.reading),
        (None, None, Some(n_params)) => {
            let (d_ft_tokens, p) = (tell.d_ft.unwrap_or(f64::NAN), tell.p.unwrap_or(f64::NAN));
            let model = tell.model.clone();
            study.add(&Made { model, n_params, d_ft_tokens, p, losses }).map(drop)
        }
        (None, None, None) => {
            let requirement = "give --run, --table, or --n-params, --d-ft and --p of a run that was made elsewhere";
            Err(Error::missing("--run", requirement))
        }
    }
}

/// Takes every row of a table that has a loss.
fn take_table(study: &mut Study, path: &Path, options: &TableOptions) -> Result<()> {
    let table = read::read(path, &options.reading())?.table;
    let domains: BTreeSet<&str> = table.runs.iter().map(|run| &*run.domain).collect();
    if domains.len() > 1 {
        let names: Vec<&str> = domains.into_iter().collect();
        let reason = format!(
            "has several domains, but a study has one: --where 'domain={}' keeps one of {}",
            names[0],
            names.join(", ")
        );
        return Err(Error::content(path, None, reason));
    }
    let has_loss = |run: &&Run| run.loss_pt.is_some() || run.loss_ft.is_some();
    let (told, without): (Vec<&Run>, Vec<&Run>) = table.runs.iter().partition(has_loss);
    for run in told {
        let at = |error: Error| Error::content(path, run.line, error.to_string());
        take_row(study, run).map_err(at)?;
        take_d_tokens(study, run).map_err(at)?;
    }
    match without.len() {
        0 => {}
        1 => log("1 row has no loss and is left out"),
        many => log(&format!("{many} rows have no loss and are left out")),
    }
    table.warnings.iter().for_each(|warning| log(&warning.to_string()));
    Ok(())
}

fn take_row(study: &mut Study, run: &Run) -> Result<()> {
    let losses =
        Losses { loss_pt0: run.get(Column::LossPt0), loss_pt: run.loss_pt, loss_ft: run.loss_ft };
    let number = run.run.trim().parse::<u64>().ok();
    let known = number.and_then(|number| study.runs().iter().find(|known| known.run == number));
    let Some(known) = known else {
        let made = Made {
            model: None,
            n_params: run.row.n_params,
            d_ft_tokens: run.row.d_ft_tokens,
            p: run.row.p,
            losses,
        };
        return study.add(&made).map(drop);
    };
    let model = study.models().iter().find(|model| model.name == known.model);
    let of_study = [
        (Column::NParams, model.map_or(f64::NAN, |model| model.n_params)),
        (Column::DFtTokens, known.d_ft_tokens),
        (Column::P, known.p),
    ];
    for (column, value) in of_study {
        if let Some(given) = run.get(column).filter(|given| *given != value) {
            let requirement = format!(
                "run {} of the study has {value}; --runs takes another column for the run's number",
                known.run
            );
            return Err(Error::setting(column.name(), given, requirement));
        }
    }
    study.tell(known.run, losses)
}

/// Takes the pretraining tokens that a row has for the only model of its size.
fn take_d_tokens(study: &mut Study, run: &Run) -> Result<()> {
    let Row { n_params, d_tokens, .. } = run.row;
    let mut of_size = study.models().iter().filter(|model| model.n_params == n_params);
    match (of_size.next().map(|model| model.name.clone()), of_size.next()) {
        (Some(name), None) if !d_tokens.is_nan() => study.set_d_tokens(&name, d_tokens),
        _ => Ok(()),
    }
}

/// The answer and the state of a study.
#[derive(Serialize)]
struct Said<'a> {
    answer: &'a Answer,
    /// The mean standard deviation of the predicted ln of the increase in question.
    deviation: f64,
    /// Runs that were made.
    made: usize,
    /// Runs that were handed out.
    under_way: usize,
    /// Runs that can be handed out.
    left: usize,
    /// Runs without a result.
    failed: usize,
    /// The cost of the runs made and under way, including their models.
    spent: f64,
    /// The cost of all runs.
    cost: f64,
}

fn say(study: &Study, options: &AnswerOptions) -> Result<()> {
    let resamples = options.bootstrap as usize;
    let bootstrap = Bootstrap { resamples, ..Bootstrap::default() };
    bootstrap.check()?;
    let model_spread = options.model_spread;
    let found = study.answer(&Options { bootstrap, model_spread, ..Options::default() });
    let count = |is: fn(&State) -> bool| study.runs().iter().filter(|run| is(&run.state)).count();
    let said = Said {
        answer: &found,
        deviation: study.deviation()?,
        made: count(|state| matches!(state, State::Done(_))),
        under_way: count(|state| *state == State::Asked),
        left: count(|state| *state == State::Open),
        failed: count(|state| matches!(state, State::Failed(_))),
        spent: study.spent(),
        cost: study.cost(),
    };
    print(&if options.json {
        serde_json::to_string_pretty(&said).expect("our types have string keys") + "\n"
    } else {
        text(&said)
    })
}

fn text(said: &Said) -> String {
    let mut text = String::new();
    let found = said.answer;
    for line in &found.lead {
        let _ = writeln!(text, "{line}");
    }
    if found.verdict == Verdict::NotShown && said.left > 0 {
        let _ = writeln!(text, "Further runs may show it: replication study ask.");
    }
    if let Some(sentence) = found.by_law() {
        let _ = writeln!(text, "{sentence}");
    }
    for (p, rise) in &found.rises {
        let p = format!("p = {}", words::fraction(*p));
        let _ = writeln!(text, "  {p:<10} increase of a new run {} nats", numbers(rise));
    }
    for warning in &found.warnings {
        let _ = writeln!(text, "warning: {}", warning.with_remedy());
    }
    let _ = writeln!(
        text,
        "{} made, {} under way, {} left, {} failed; {} of what all of them cost is spent",
        counted(said.made),
        said.under_way,
        said.left,
        said.failed,
        percent(said.spent / said.cost.max(f64::MIN_POSITIVE)),
    );
    let _ = writeln!(
        text,
        "the increase asked about is known with a standard deviation of {}, by the estimate of the design",
        words::error(said.deviation),
    );
    text
}
