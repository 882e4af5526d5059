//! `replication predict`: predicts the losses of further runs with fitted laws.

use crate::cli::values::{MOST, Values};
use crate::format::{Csv, cell, entry, fit_name, number, percent};
use crate::terminal::{log, print};
use forgetting_laws::fit::file::{self, LawFile};
use forgetting_laws::fit::{Fit, LossPt0From, Measured, Prediction};
use forgetting_laws::laws::Row;
use forgetting_laws::numbers;
use forgetting_laws::table::Column;
use forgetting_laws::warning::Warning;
use forgetting_laws::{Error, Result};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::PathBuf;

/// The runs to predict. Each number may be a list (10M,30M) or a range (LOW:HIGH:COUNT, evenly
/// spaced in the logarithm, or in p itself); the result is then a table. Sizes may have a suffix:
/// 300K, 109M, 1.27B, 2T.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Arguments {
    /// The file of laws that `fit` wrote.
    laws: PathBuf,
    /// Model size N in parameters.
    #[arg(long, value_name = "N", value_parser = Values::sizes)]
    n_params: Option<Values>,
    /// Unique tokens of the target, D_ft.
    #[arg(long, value_name = "TOKENS", value_parser = Values::sizes)]
    d_ft: Option<Values>,
    /// Pretraining tokens, D.
    #[arg(long, value_name = "TOKENS", value_parser = Values::sizes)]
    d_tokens: Option<Values>,
    /// Fraction of injected pretraining data, 0 to 1; 1% is 0.01.
    #[arg(long, value_name = "P", value_parser = Values::shares)]
    p: Option<Values>,
    /// Pretraining loss before finetuning, in nats per token [default: interpolated between the
    /// fitted sizes].
    #[arg(long, value_name = "NATS", value_parser = Values::sizes)]
    loss_pt0: Option<Values>,
    /// Number of passes over the target data; warns if it differs greatly from that of the runs.
    #[arg(long, value_name = "PASSES", value_parser = numbers::size)]
    epochs: Option<f64>,
    /// Only this law [default: for each loss the form that held-out runs support, as ranked by
    /// `fit`, or every law if there is no ranking].
    #[arg(long, value_name = "NAME")]
    law: Option<String>,
    /// Only this group [default: every group].
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,
    /// Prints CSV, also for one run.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Prints JSON: a list of predictions with their warnings.
    #[arg(long)]
    json: bool,
}

/// The option that gives a column.
fn option(column: Column) -> &'static str {
    match column {
        Column::NParams => "--n-params",
        Column::DFtTokens => "--d-ft",
        Column::DTokens => "--d-tokens",
        Column::P => "--p",
        _ => "--loss-pt0",
    }
}

impl Arguments {
    fn given(&self, column: Column) -> Option<&Values> {
        match column {
            Column::NParams => self.n_params.as_ref(),
            Column::DFtTokens => self.d_ft.as_ref(),
            Column::DTokens => self.d_tokens.as_ref(),
            Column::P => self.p.as_ref(),
            _ => self.loss_pt0.as_ref(),
        }
    }

    /// The inputs of a law; NaN for those that it does not use, and for an L_pt⁰ to be interpolated.
    fn values(&self, fit: &Fit, column: Column) -> Vec<f64> {
        let read = fit.law.reads(column);
        match self.given(column) {
            Some(values) if read => values.of(column),
            _ => vec![f64::NAN],
        }
    }

    /// The first number that a law needs and that was not given.
    fn missing(&self, fit: &Fit) -> Option<Column> {
        let columns = fit.law.inputs().iter().map(|input| input.column);
        let mut needed = columns.filter(|&column| column != Column::LossPt0);
        needed.find(|&column| self.given(column).is_none())
    }

    /// The requested fits.
    fn chosen<'a>(&self, file: &'a LawFile) -> Result<Vec<&'a Fit>> {
        let domains = file.domains();
        if let Some(domain) = self.domain.as_deref().filter(|name| !domains.contains(name)) {
            let requirement = match domains.as_slice() {
                [""] => "the file has one group without a name; leave the option out".into(),
                _ => format!("must be one of {}", domains.join(", ")),
            };
            return Err(Error::setting("--domain", domain, requirement));
        }
        let of_domain =
            |fit: &&Fit| self.domain.as_ref().is_none_or(|domain| *domain == fit.domain);
        let of_domain: Vec<&Fit> = file.fits().filter(of_domain).collect();
        let of_law = |fit: &&Fit| self.law.as_ref().is_none_or(|law| law == fit.law.name());
        let fits: Vec<&Fit> = of_domain.iter().copied().filter(of_law).collect();
        if let (Some(law), true) = (&self.law, fits.is_empty()) {
            let mut names: Vec<_> = of_domain.iter().map(|fit| fit.law.name()).collect();
            names.sort_unstable();
            names.dedup();
            let requirement = format!("the file has {}", names.join(", "));
            return Err(Error::setting("--law", law, requirement));
        }
        let sufficient: Vec<&Fit> =
            fits.iter().copied().filter(|fit| self.missing(fit).is_none()).collect();
        match (sufficient.is_empty(), fits.first()) {
            (true, Some(fit)) => {
                let missing = self.missing(fit).unwrap_or(Column::NParams);
                let requirement = format!("the {} law needs it", fit.law.name());
                Err(Error::missing(option(missing), requirement))
            }
            _ if self.law.is_some() => Ok(sufficient),
            // Of several forms of one law the one to rely on, where the numbers suffice for it.
            _ => {
                let relied_on = |fit: &Fit| match file.preferred(&fit.domain, fit.law) {
                    Some(preferred) => {
                        let is_it = |other: &&Fit| {
                            other.domain == fit.domain && other.law.name() == preferred.form
                        };
                        preferred.form == fit.law.name() || !sufficient.iter().any(is_it)
                    }
                    None => true,
                };
                Ok(sufficient.iter().copied().filter(|fit| relied_on(fit)).collect())
            }
        }
    }

    /// Every run to predict, in the order of the options.
    fn runs(&self, fit: &Fit) -> Result<Vec<Row>> {
        let values = |column| self.values(fit, column);
        let (sizes, data) = (values(Column::NParams), values(Column::DFtTokens));
        let (tokens, fractions) = (values(Column::DTokens), values(Column::P));
        let losses = values(Column::LossPt0);
        let counts = [&sizes, &data, &tokens, &fractions, &losses].map(Vec::len);
        let count = counts.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
        if count.is_none_or(|count| count > MOST) {
            let requirement = format!("must be at most {MOST}");
            let given = counts.map(|n| n.to_string()).join(" x ");
            return Err(Error::setting("number of runs", given, requirement));
        }
        let mut rows = Vec::new();
        for &n_params in &sizes {
            for &d_ft_tokens in &data {
                for &d_tokens in &tokens {
                    for &p in &fractions {
                        for &loss_pt0 in &losses {
                            rows.push(Row { n_params, d_ft_tokens, p, loss_pt0, d_tokens });
                        }
                    }
                }
            }
        }
        Ok(rows)
    }
}

/// Prints the predictions: in words for one run, as CSV for several.
///
/// # Errors
/// If the file was not written by `fit`, has no such law or group, or a number is missing or
/// invalid.
pub fn run(arguments: Arguments) -> Result<()> {
    let file = file::read(&arguments.laws)?;
    let fits = arguments.chosen(&file)?;
    let columns = [Column::NParams, Column::DFtTokens, Column::DTokens, Column::P, Column::LossPt0];
    let single = columns.iter().all(|&c| arguments.given(c).is_none_or(Values::is_one));
    let mut asked = Vec::new();
    for fit in fits {
        let preferred = file
            .preferred(&fit.domain, fit.law)
            .filter(|preferred| arguments.law.is_none() && preferred.form == fit.law.name());
        let why = preferred.map(|preferred| preferred.why);
        for row in arguments.runs(fit)? {
            asked.push(Asked { why: why.clone(), ..Asked::new(fit, row, arguments.epochs)? });
        }
    }
    if arguments.json {
        let predictions: Vec<_> = asked.iter().map(Asked::json).collect();
        let text = serde_json::to_string_pretty(&predictions).expect("our types have string keys");
        return print(&(text + "\n"));
    }
    if single && !arguments.csv {
        let mut text = String::new();
        asked.iter().for_each(|asked| asked.tell(&mut text));
        return print(&text);
    }
    for fit in asked.chunk_by(|a, b| std::ptr::eq(a.fit, b.fit)).map(|of_fit| &of_fit[0]) {
        if let Some(why) = &fit.why {
            log(&format!("{}: {why}", fit_name(fit.fit)));
        }
    }
    let mut table = Csv::new(COLUMNS);
    asked.iter().for_each(|asked| table.row(asked.cells()));
    if asked.iter().any(|asked| asked.estimated().is_some()) {
        log("loss_pt0 is interpolated between the fitted sizes; --loss-pt0 gives a measured one");
    }
    print(&table.text())
}

/// The columns of the table. The interval of a new run comes first, then that of a new run if the
/// law is right, and that of the law itself.
const COLUMNS: [&str; 18] = [
    "domain",
    "law",
    "n_params",
    "d_ft_tokens",
    "d_tokens",
    "p",
    "loss_pt0",
    "loss",
    "low",
    "high",
    "law_low",
    "law_high",
    "outside",
    "if_right_low",
    "if_right_high",
    "measured",
    "measured_runs",
    "warnings",
];

/// A run and its prediction.
struct Asked<'a> {
    fit: &'a Fit,
    row: Row,
    /// Why this law is used, if none was named.
    why: Option<String>,
    /// Where its L_pt⁰ is from.
    loss_pt0_from: LossPt0From,
    /// The prediction.
    prediction: Prediction,
    warnings: Vec<Warning>,
}

/// A prediction as it is written to JSON.
#[derive(Serialize)]
struct Json<'a> {
    domain: &'a str,
    law: &'static str,
    output: String,
    asked: Row,
    /// Whether L_pt⁰ is interpolated between the fitted sizes or extrapolated from them.
    loss_pt0_from: Option<&'static str>,
    /// Why this law is used, if none was named.
    why: Option<&'a str>,
    /// The level of the intervals.
    level: Option<f64>,
    #[serde(flatten)]
    prediction: &'a Prediction,
    warnings: &'a [Warning],
}

impl<'a> Asked<'a> {
    fn new(fit: &'a Fit, mut row: Row, epochs: Option<f64>) -> Result<Self> {
        let needed = fit.law.reads(Column::LossPt0);
        let mut loss_pt0_from = LossPt0From::Given;
        if needed && row.loss_pt0.is_nan() {
            let found = fit.loss_pt0_at(row.n_params).ok_or_else(|| {
                Error::missing("--loss-pt0", "no fitted row has one, so it must be given")
            })?;
            (row.loss_pt0, loss_pt0_from) = (found.loss_pt0, found.from);
        }
        let prediction = fit.predict(&row);
        let extrapolated = loss_pt0_from == LossPt0From::Extrapolated;
        let warnings = fit.cautions(&row, &prediction, extrapolated, epochs);
        Ok(Self { fit, row, why: None, loss_pt0_from, prediction, warnings })
    }

    /// Appends the prediction to a text for people.
    fn tell(&self, text: &mut String) {
        let Self { fit, row, prediction, why, .. } = self;
        let number = number;
        let _ = writeln!(text, "{}: {}", fit_name(fit), fit.equation);
        if let Some(why) = why {
            let _ = writeln!(text, "  chosen    {why}");
        }
        let inputs = fit.law.inputs().iter().map(|input| {
            let value = number(row.get(input.column));
            match (input.column, self.estimated()) {
                (Column::LossPt0, Some(how)) => format!("loss_pt0 = {value} ({how})"),
                (column, _) => format!("{column} = {value}"),
            }
        });
        let _ = writeln!(text, "  at        {}", inputs.collect::<Vec<_>>().join(", "));
        let output = fit.law.output();
        let said = match prediction.measured {
            Some(Measured { loss, runs }) => {
                let plural = if runs == 1 { "" } else { "s" };
                let measured = format!("measured in {runs} run{plural}");
                let _ = writeln!(text, "  {output:<9} {} nats per token, {measured}", number(loss));
                "by the law"
            }
            None => output.name(),
        };
        let _ = writeln!(text, "  {said:<9} {} nats per token", number(prediction.value));
        if let Some(resampled) = &fit.bootstrap {
            let level = percent(resampled.level);
            let mut interval = |low: Option<f64>, high: Option<f64>, what: &str| {
                if let (Some(low), Some(high)) = (low, high) {
                    let (low, high) = (number(low), number(high));
                    let _ = writeln!(text, "  {level:<9} [{low}, {high}] {what}");
                }
            };
            let Prediction { low, high, if_right_low, if_right_high, .. } = *prediction;
            interval(low, high, "for the loss of a new run");
            if (if_right_low, if_right_high) != (low, high) {
                let what = "for the loss of a new run if the law is right";
                interval(if_right_low, if_right_high, what);
            }
            interval(prediction.law_low, prediction.law_high, "for the law itself");
        } else {
            let _ = writeln!(text, "  interval  none: the law was fitted without resamples");
        }
        for warning in &self.warnings {
            entry(text, "warning", &warning.with_remedy());
        }
    }

    /// How L_pt⁰ is estimated; `None` if it is measured.
    fn estimated(&self) -> Option<&'static str> {
        let from = self.loss_pt0_from;
        let measured = matches!(from, LossPt0From::Given | LossPt0From::Fitted);
        (!measured).then(|| from.name())
    }

    /// A row of the table.
    fn cells(&self) -> Vec<String> {
        let Self { fit, row, prediction, .. } = self;
        let end = |end: Option<f64>| cell(end.unwrap_or(f64::NAN));
        let mut outside = prediction.outside.clone();
        if self.loss_pt0_from == LossPt0From::Extrapolated {
            outside.push(Column::LossPt0.name().into());
        }
        let ids: Vec<_> = self.warnings.iter().map(|warning| warning.kind.id()).collect();
        let measured = prediction.measured;
        vec![
            fit.domain.clone(),
            fit.law.name().into(),
            cell(row.n_params),
            cell(row.d_ft_tokens),
            cell(row.d_tokens),
            cell(row.p),
            cell(row.loss_pt0),
            cell(prediction.value),
            end(prediction.low),
            end(prediction.high),
            end(prediction.law_low),
            end(prediction.law_high),
            outside.join(" "),
            end(prediction.if_right_low),
            end(prediction.if_right_high),
            end(measured.map(|measured| measured.loss)),
            measured.map(|measured| measured.runs.to_string()).unwrap_or_default(),
            ids.join(" "),
        ]
    }

    fn json(&self) -> Json<'_> {
        Json {
            domain: &self.fit.domain,
            law: self.fit.law.name(),
            output: self.fit.law.output().to_string(),
            asked: self.row,
            loss_pt0_from: self.estimated(),
            why: self.why.as_deref(),
            level: self.fit.bootstrap.as_ref().map(|resampled| resampled.level),
            prediction: &self.prediction,
            warnings: &self.warnings,
        }
    }
}
