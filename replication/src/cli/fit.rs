//! `replication fit`: fits laws to a table of losses, and writes a report, files and plots.

use super::table::TableOptions;
use super::values::model_spread;
use crate::report::{card, ranking};
use crate::terminal::{log, print, with_progress};
use clap::ValueEnum;
use drawings::{draw, tables};
use forgetting_laws::fit::checklist::Checklist;
use forgetting_laws::fit::file::{FORMAT, Group, Growth, Input, LawFile};
use forgetting_laws::fit::report;
use forgetting_laws::fit::sweep::sweep;
use forgetting_laws::fit::{
    Bootstrap, Fit, HoldOut, Objective, Options, Penalty, ProveOptions, Ranking, Space, compare,
    fit as fit_law, growth_of_b, is_provable, rank,
};
use forgetting_laws::laws::{self, ForgettingBounded, LAWS, Law};
use forgetting_laws::store::write_atomic;
use forgetting_laws::table::read::read;
use forgetting_laws::table::{Column, Table};
use forgetting_laws::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// What to fit, and how.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Arguments {
    /// Table of losses: .csv, .tsv, .jsonl, .json or .parquet. Columns: n_params, d_ft_tokens,
    /// d_tokens, p, loss_pt0, loss_pt, loss_ft and loss, as far as a law needs them; optionally
    /// domain, seed and others (see --map).
    input: PathBuf,
    /// The law to fit, or several with commas: forgetting, finetuning, additive, or another form of
    /// one of them (forgetting-offset, forgetting-times-tokens, forgetting-plus-tokens,
    /// forgetting-ceiling, forgetting-bounded-V for a vocabulary of V tokens, finetuning-p).
    /// all-forgetting, all-finetuning and all fit every form for which the table has the columns.
    /// Forms for the same loss are ranked by their errors on held-out runs.
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "all")]
    law: Vec<String>,
    #[command(flatten)]
    table: TableOptions,
    /// Vocabulary size: --law all and all-forgetting then include forgetting-bounded-V, in which
    /// the increase is bounded by the loss of a uniform model.
    #[arg(long, value_name = "V", value_parser = clap::value_parser!(u32).range(2..))]
    vocab_size: Option<u32>,
    /// Whether residuals are those of log losses or of raw losses.
    #[arg(long, value_enum, default_value = "log")]
    space: SpaceName,
    /// The penalty on a residual.
    #[arg(long, value_enum, default_value = "huber")]
    penalty: PenaltyName,
    /// Residual at which the Huber penalty changes from squared to linear [default: 0.001].
    #[arg(long, value_name = "X")]
    delta: Option<f64>,
    /// Runs to hold out: each size in turn, each amount of data, each p, or the largest size with
    /// the most data.
    #[arg(long, value_enum, default_value = "size")]
    hold_out: HoldOutName,
    /// Number of bootstrap resamples of the runs, for intervals; 0 for none.
    #[arg(long, value_name = "K", default_value_t = 1000)]
    bootstrap: usize,
    /// Level of the intervals.
    #[arg(long, value_name = "SHARE", default_value_t = 0.9)]
    level: f64,
    /// Leaves the misfit of the law out of the intervals of new runs, which are then valid only if
    /// the law is right.
    #[arg(long)]
    no_misfit: bool,
    /// How much the increase of L_pt varies between pretrained models of one size: 8% or 0.08. A
    /// table with one model per size cannot show it.
    #[arg(long, value_name = "SHARE", value_parser = model_spread)]
    model_spread: Option<f64>,
    /// Seed of the resamples.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads, 0 for one per core; only the time depends on it.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Proves by branch and bound that no other parameters are better by more than 0.1%.
    #[arg(long)]
    prove: bool,
    /// Shows how the parameters depend on the penalty, delta and space.
    #[arg(long)]
    sweep: bool,
    /// TOML file with answers to the checklist that a table cannot give: NAME = "answer".
    #[arg(long, value_name = "FILE")]
    checklist: Option<PathBuf>,
    /// The file of laws, for `predict` and `advise` [default: law.json in the output folder]; -
    /// prints it instead of the report.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes the laws and their ranking as CSV, one row per parameter; - prints it instead of the
    /// report.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// The output folder [default: out/fit/NAME-OF-INPUT].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SpaceName {
    Log,
    Raw,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PenaltyName {
    Huber,
    Squared,
    Absolute,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum HoldOutName {
    Size,
    Data,
    P,
    Largest,
    None,
}

impl Arguments {
    fn options(&self) -> Result<Options> {
        let space = match self.space {
            SpaceName::Log => Space::Log,
            SpaceName::Raw => Space::Raw,
        };
        let penalty = match (self.penalty, self.delta) {
            (PenaltyName::Huber, delta) => Penalty::Huber(delta.unwrap_or(1e-3)),
            (_, Some(delta)) => {
                return Err(Error::setting("--delta", delta, "is only for --penalty huber"));
            }
            (PenaltyName::Squared, None) => Penalty::Squared,
            (PenaltyName::Absolute, None) => Penalty::Absolute,
        };
        let hold_out = match self.hold_out {
            HoldOutName::Size => Some(HoldOut::Size),
            HoldOutName::Data => Some(HoldOut::Data),
            HoldOutName::P => Some(HoldOut::P),
            HoldOutName::Largest => Some(HoldOut::Largest),
            HoldOutName::None => None,
        };
        let Self { level, seed, threads, .. } = *self;
        if !(level > 0.0 && level < 1.0) {
            return Err(Error::setting("--level", level, "must lie between 0 and 1"));
        }
        let objective = Objective { space, penalty };
        objective.check()?;
        Ok(Options {
            objective,
            bootstrap: Bootstrap { resamples: self.bootstrap, level, seed },
            hold_out,
            misfit: !self.no_misfit,
            model_spread: self.model_spread,
            threads,
        })
    }

    /// The requested laws, each once, and whether they were named.
    fn laws(&self) -> Result<(Vec<&'static dyn Law>, bool)> {
        let names: Vec<_> = self.law.iter().map(|name| name.trim()).collect();
        let bounded = self.vocab_size.map(|v| ForgettingBounded::of(v) as &'static dyn Law);
        let of_loss = |loss: Column| laws::forms(loss, self.vocab_size);
        match names.as_slice() {
            ["all"] => return Ok((LAWS.iter().copied().chain(bounded).collect(), false)),
            ["all-forgetting"] => return Ok((of_loss(Column::LossPt), false)),
            ["all-finetuning"] => return Ok((of_loss(Column::LossFt), false)),
            _ => {}
        }
        if let Some(law) = bounded {
            let requirement = format!(
                "needs --law all or all-forgetting; --law {} already is this form",
                law.name()
            );
            return Err(Error::setting("--vocab-size", self.law.join(","), requirement));
        }
        let mut chosen: Vec<&'static dyn Law> = Vec::new();
        for name in names {
            if ["all", "all-forgetting", "all-finetuning"].contains(&name) {
                let requirement = format!("{name} cannot be combined with other laws");
                return Err(Error::setting("--law", self.law.join(","), requirement));
            }
            let law = laws::by_name(name).map_err(|error| match error {
                Error::Setting { value, requirement, .. } => {
                    let requirement =
                        format!("{requirement}, all-forgetting, all-finetuning or all");
                    Error::setting("--law", value, requirement)
                }
                other => other,
            })?;
            if chosen.iter().all(|known| known.name() != law.name()) {
                chosen.push(law);
            }
        }
        Ok((chosen, true))
    }
}

/// Fits, prints, and writes the file of laws and the plots.
///
/// # Errors
/// If the table cannot be read, a named law cannot be fitted to any group, a value in the table is
/// invalid, or a file cannot be written.
pub fn run(arguments: Arguments) -> Result<()> {
    let options = arguments.options()?;
    let (laws, named) = arguments.laws()?;
    let printed = |path: &Option<PathBuf>| path.as_deref() == Some(Path::new("-"));
    let (prints_json, prints_csv) = (printed(&arguments.json), printed(&arguments.csv));
    if prints_json && prints_csv {
        return Err(Error::setting("--csv", "-", "--json already replaces the printed report"));
    }
    let without_proof = laws.iter().filter(|law| arguments.prove && !is_provable(**law));
    let without_proof: Vec<&str> = without_proof.map(|law| law.name()).collect();
    if !without_proof.is_empty() {
        let (names, why) = (without_proof.join(", "), "branch and bound needs convex predictions");
        if named {
            return Err(Error::setting("--prove", names, format!("has no proof: {why}")));
        }
        log(&format!("no proof of {names}: {why}"));
    }
    let pooled = arguments.table.group_by.as_deref() == Some(POOLED);
    let mut reading = arguments.table.reading();
    reading.group_by = reading.group_by.filter(|_| !pooled);
    let loaded = read(&arguments.input, &reading)?;
    let groups = if pooled {
        let mut table = Table { warnings: Vec::new(), ..loaded.table.clone() };
        table.unasked.retain(|column| column != "domain");
        vec![(String::new(), table)]
    } else {
        loaded.table.groups()
    };
    let mapped: Vec<&str> =
        reading.map.iter().filter_map(|text| Some(text.split_once('=')?.0.trim())).collect();
    let compute = || -> Result<_> {
        let fitted = fit_groups(&groups, &laws, named, &mapped, &options)?;
        let comparisons = compare(&fitted);
        let mut rankings = Vec::new();
        let mut growths = Vec::new();
        for (domain, table) in &groups {
            rankings.extend(rank_groups(domain, table, &fitted, &options)?);
            let forgets = |fit: &Fit| fit.domain == *domain && fit.law.output() == Column::LossPt;
            if fitted.iter().any(forgets) {
                let found = growth_of_b(table, &options)?;
                growths.extend(found.map(|growth| Growth { domain: domain.clone(), growth }));
            }
        }
        let mut law_groups = Vec::with_capacity(fitted.len());
        for fit in fitted {
            let table = groups.iter().find(|(domain, _)| *domain == fit.domain);
            let sweep = match table {
                Some((_, table)) if arguments.sweep => sweep(table, fit.law, options.threads)?,
                _ => Vec::new(),
            };
            let proof = if arguments.prove && is_provable(fit.law) {
                Some(fit.prove(&proof_options(options.threads))?)
            } else {
                None
            };
            law_groups.push(Group { fit, proof, sweep });
        }
        Ok((law_groups, comparisons, rankings, growths))
    };
    let (law_groups, comparisons, rankings, growths) = with_progress("fit", compute)?;
    let TableOptions { map, filters, wide, group_by, runs, weight, percent, decimal_comma } =
        arguments.table.clone();
    let fits: Vec<&Fit> = law_groups.iter().map(|group| &group.fit).collect();
    let mut checklist = Checklist::of_fits(&fits);
    checklist.dropped(&fits, &groups, &filters, &loaded.table.warnings);
    if let Some(path) = &arguments.checklist {
        card::state(&mut checklist, path)?;
    }
    let file = LawFile {
        format: FORMAT,
        program: format!("replication {}", env!("CARGO_PKG_VERSION")),
        commit: env!("REPLICATION_COMMIT").into(),
        input: Input {
            path: arguments.input.display().to_string(),
            sha256: loaded.sha256,
            map,
            filters,
            wide,
            group_by,
            runs,
            weight,
            percent,
            decimal_comma,
            hold_out: options.hold_out,
            warnings: loaded.table.warnings,
        },
        groups: law_groups,
        comparisons,
        checklist,
        rankings,
        growths,
    };
    let stem = arguments.input.file_stem().unwrap_or_default();
    let folder = arguments.out.unwrap_or_else(|| Path::new("out").join("fit").join(stem));
    let json = arguments.json.filter(|_| !prints_json);
    let json = json.unwrap_or_else(|| folder.join("law.json"));
    make_folder("--out", &folder)?;
    if let Some(parent) = json.parent().filter(|parent| *parent != Path::new("")) {
        make_folder("--json", parent)?;
    }
    file.write(&json)?;
    let drawn = draw(&file, &folder)?;
    if !file.rankings.is_empty() {
        write_atomic(&folder.join("ranking.csv"), ranking::table(&file.rankings).as_bytes())?;
    }
    let card = folder.join("card.md");
    write_atomic(&card, report::card::markdown(&file).as_bytes())?;
    let csv = tables::laws(&file);
    if let Some(path) = arguments.csv.filter(|_| !prints_csv) {
        write_atomic(&path, csv.as_bytes())?;
    }
    if prints_csv {
        return print(&csv);
    }
    if prints_json {
        return print(&String::from_utf8_lossy(&file.json()));
    }
    let mut text = report::text(&file);
    text += &report::card::text(&file, Some(&card));
    text += &format!("laws: {}\ndrawings: {}\n", json.display(), drawn.join(", "));
    print(&text)
}

fn proof_options(threads: usize) -> ProveOptions {
    let default = ProveOptions::default();
    ProveOptions { threads: if threads == 0 { default.threads } else { threads }, ..default }
}

/// The value of `--group-by` that makes one group of all rows.
const POOLED: &str = "none";

fn make_folder(option: &str, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|error| {
        let requirement = format!("must be a folder to write to ({error})");
        Error::setting(option, folder.display(), requirement)
    })
}

/// Ranks the forms that were fitted to a group, separately for each loss that has several. Says why
/// forms are not ranked.
fn rank_groups(
    domain: &str,
    table: &Table,
    fitted: &[Fit],
    options: &Options,
) -> Result<Vec<Ranking>> {
    let mut rankings = Vec::new();
    let mut unranked = Vec::new();
    for loss in [Column::LossPt, Column::LossFt, Column::Loss] {
        let of_loss = |fit: &&Fit| fit.domain == domain && fit.law.output() == loss;
        let laws: Vec<_> = fitted.iter().filter(of_loss).map(|fit| fit.law).collect();
        let ranking = match options.hold_out {
            Some(_) => rank(table, &laws, fitted, options)?,
            None => None,
        };
        if ranking.is_none() && laws.len() > 1 {
            unranked.push(loss.name());
        }
        rankings.extend(ranking.map(|ranking| Ranking { domain: domain.into(), ..ranking }));
    }
    if !unranked.is_empty() {
        let place = if domain.is_empty() { String::new() } else { format!("{domain}: ") };
        let why = match options.hold_out {
            Some(_) => "the table has too few sizes, amounts of data and p to hold any out",
            None => "a ranking needs held-out runs, and --hold-out none holds out none",
        };
        log(&format!("{place}the forms for {} are not ranked: {why}", unranked.join(" and ")));
    }
    Ok(rankings)
}

/// Fits each law to each group that has its columns, by group and then in the order of the laws. Laws
/// that cannot be fitted are reported on standard error. If none can be fitted, the error is about the
/// law that the columns match best, above all those that were named by --map.
fn fit_groups(
    groups: &[(String, Table)],
    laws: &[&'static dyn Law],
    named: bool,
    mapped: &[&str],
    options: &Options,
) -> Result<Vec<Fit>> {
    let mut fits: Vec<(usize, Fit)> = Vec::new();
    let (mut refusal, mut unread) = (None, Vec::new());
    let mut nearest: Option<(usize, Error)> = None;
    for &law in laws {
        let (mut without, mut too_few) = (Vec::new(), Vec::new());
        let before = fits.len();
        for (i, (domain, table)) in groups.iter().enumerate() {
            match (fit_law(table, law, options), missing(table, law)) {
                (Ok(mut fit), _) => {
                    fit.domain.clone_from(domain);
                    fits.push((i, fit));
                }
                (Err(error), Some(column)) => without.push((domain, column, error)),
                // Too few sizes or rows; what is wrong with a value is an error.
                (Err(error @ Error::Setting { .. }), None) if table.sample(law).is_err() => {
                    too_few.push((domain, error));
                }
                (Err(error), None) => return Err(error),
            }
        }
        match (fits.len() > before, named, too_few.is_empty()) {
            (true, true, _) if !without.is_empty() => log(&format!(
                "the {} law is not fitted to {}: no columns for it",
                law.name(),
                without.iter().map(|(domain, ..)| domain.as_str()).collect::<Vec<_>>().join(", ")
            )),
            (true, ..) => {}
            (false, true, _) => {
                let columns = without.into_iter().map(|(_, _, error)| error);
                let found = too_few.into_iter().map(|(_, error)| error).chain(columns).next();
                return found.map_or(Ok(Vec::new()), Err);
            }
            (false, false, true) => {
                if let Some((_, column, error)) = without.into_iter().next() {
                    unread.push(format!("{} ({column})", law.name()));
                    let away = distance(groups, law, mapped);
                    if nearest.as_ref().is_none_or(|(least, _)| away < *least) {
                        nearest = Some((away, error));
                    }
                }
            }
            (false, false, false) => {}
        }
        for (domain, error) in too_few {
            match domain.as_str() {
                "" => log(&format!("left out: {error}")),
                domain => log(&format!("{domain} is left out: {error}")),
            }
            refusal = Some(error);
        }
    }
    match (fits.is_empty(), refusal.or(nearest.map(|(_, error)| error))) {
        (true, Some(error)) => return Err(error),
        _ if !unread.is_empty() => {
            log(&format!("left out, with no column for: {}", unread.join(", ")));
        }
        _ => {}
    }
    fits.sort_by_key(|(group, _)| *group);
    Ok(fits.into_iter().map(|(_, fit)| fit).collect())
}

/// How badly a table matches a law: the number of missing columns, where a column named by --map that
/// the law does not use counts more than all missing ones.
fn distance(groups: &[(String, Table)], law: &dyn Law, mapped: &[&str]) -> usize {
    let needed =
        || law.inputs().iter().map(|input| input.column).chain(std::iter::once(law.output()));
    let runs = || groups.iter().flat_map(|(_, table)| &table.runs);
    let is_there = |column| runs().any(|run| run.get(column).is_some());
    let lacking = needed().filter(|&column| !is_there(column)).count();
    let of_a_law = |name: &&&str| Column::ALL.iter().any(|column| column.name() == **name);
    let unknown = mapped.iter().filter(of_a_law);
    let unknown = unknown.filter(|name| !needed().any(|column| column.name() == **name)).count();
    unknown * Column::ALL.len() + lacking
}

/// The first column that a law needs and no row with its loss has.
fn missing(table: &Table, law: &dyn Law) -> Option<Column> {
    let rows = || table.runs.iter().filter(|run| run.get(law.output()).is_some());
    let inputs = law.inputs().iter().map(|input| input.column);
    std::iter::once(law.output())
        .chain(inputs)
        .find(|&column| !rows().any(|run| run.get(column).is_some()))
}
