//! `replication advise`: turns the laws of a file into decisions.

mod report;

use crate::cli::values::limit;
use crate::terminal::print;
use forgetting_laws::fit::advise::{Answers, Question, Questions, Unanswered};
use forgetting_laws::fit::file;
use forgetting_laws::fit::{Advisor, Fit, Limit};
use forgetting_laws::laws::Row;
use forgetting_laws::numbers::{share, size};
use forgetting_laws::{Error, Result};
use serde::Serialize;
use std::path::PathBuf;

/// The question. Sizes may have a suffix: 300K, 109M, 1.27B, 2T.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Options {
    /// The file of laws that `fit` wrote.
    laws: PathBuf,
    /// The domain, if the file has several.
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,
    /// The law to use [default: for each loss the form that held-out runs support, as ranked by
    /// `fit`].
    #[arg(long, value_name = "NAME")]
    law: Option<String>,
    /// Parameters of the model.
    #[arg(long, value_name = "N", value_parser = size)]
    n_params: f64,
    /// Unique tokens of the target data.
    #[arg(long, value_name = "D", value_parser = size)]
    d_ft: f64,
    /// Pretraining loss before finetuning, in nats per token [default: interpolated between the
    /// sizes of the runs].
    #[arg(long, value_name = "L", value_parser = size)]
    loss_pt0: Option<f64>,
    /// Number of passes over the target data; warns if it differs greatly from that of the runs.
    #[arg(long, value_name = "PASSES", value_parser = size)]
    epochs: Option<f64>,
    /// How much may be forgotten: a share of the pretraining loss (1%) or nats per token (0.05).
    #[arg(long, default_value = "1%", value_parser = limit)]
    limit: Limit,
    /// The probability with which a new run must stay within the limit.
    #[arg(long, value_name = "SHARE", default_value_t = 0.9)]
    confidence: f64,
    /// The fraction to inject, for the other answers [default: the smallest that stays within the
    /// limit].
    #[arg(long, value_parser = share)]
    p: Option<f64>,
    /// The desired loss on the target, in nats per token.
    #[arg(long, value_name = "L_FT", value_parser = size)]
    target_loss: Option<f64>,
    /// The smallest gain for which doubling the target data is worthwhile, in nats per token.
    #[arg(long, value_name = "NATS", default_value = "0.01", value_parser = size)]
    worth: f64,
    /// Pretraining tokens, for a comparison with a larger model at equal FLOPs.
    #[arg(long, value_name = "D", value_parser = size)]
    d_tokens: Option<f64>,
    /// Size of that larger model, as a multiple of N.
    #[arg(long, value_name = "RATIO", default_value = "2", value_parser = size)]
    larger: f64,
    /// Number of runs to propose.
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    new_runs: usize,
    /// Prints JSON; an unattainable size is null.
    #[arg(long)]
    json: bool,
}

/// Every answer that the laws of a domain can give.
#[derive(Debug, Serialize)]
struct Advice {
    domain: String,
    /// Which form of each law is used if there are several, and why.
    laws: Vec<Chosen>,
    /// The level of the intervals.
    level: f64,
    #[serde(flatten)]
    answers: Answers,
}

/// The form that is used, among several.
#[derive(Debug, Serialize)]
struct Chosen {
    law: String,
    why: String,
}

/// Reads the laws, answers and prints.
///
/// # Errors
/// If the file or a number in the question is refused. A question that the laws cannot answer is
/// not an error: the answer says what is missing.
pub fn run(options: Options) -> Result<()> {
    let file = file::read(&options.laws)?;
    let mut fits: Vec<&Fit> = file.fits().collect();
    if let Some(name) = options.law.as_deref()
        && fits.iter().all(|fit| fit.law.name() != name)
    {
        let mut names: Vec<_> = fits.iter().map(|fit| fit.law.name()).collect();
        names.sort_unstable();
        names.dedup();
        let requirement = format!("the file has {}", names.join(", "));
        return Err(Error::setting("--law", name, requirement));
    }
    // The first law that can answer a question is asked.
    let is_named = |fit: &Fit| options.law.as_deref() == Some(fit.law.name());
    let preferred = |fit: &Fit| file.preferred(&fit.domain, fit.law);
    let is_preferred = |fit: &Fit| preferred(fit).is_some_and(|p| p.form == fit.law.name());
    fits.sort_by_key(|fit| (!is_named(fit), !is_preferred(fit)));
    let mut advice = advise(&fits, &options)?;
    for fit in fits.iter().filter(|fit| fit.domain == advice.domain && is_preferred(fit)) {
        let named = |other: &&Fit| {
            is_named(other) && other.domain == fit.domain && other.law.output() == fit.law.output()
        };
        let why = match fits.iter().copied().find(named) {
            Some(_) => continue,
            None => preferred(fit).map(|preferred| preferred.why),
        };
        let law = fit.law.name().to_string();
        advice.laws.extend(why.map(|why| Chosen { law, why }));
    }
    print(&if options.json {
        serde_json::to_string_pretty(&advice).expect("our types have string keys") + "\n"
    } else {
        report::text(&advice)
    })
}

/// The fits for the domain in question. Laws of pretraining do not depend on the domain and serve
/// all of them.
fn of_domain<'a>(fits: &[&'a Fit], asked: Option<&str>) -> Result<(String, Vec<&'a Fit>)> {
    let shared = |fit: &&&Fit| fit.law.name() == "additive";
    let mut domains: Vec<&str> =
        fits.iter().filter(|fit| !shared(fit)).map(|fit| fit.domain.as_str()).collect();
    if domains.is_empty() {
        domains = fits.iter().map(|fit| fit.domain.as_str()).collect();
    }
    domains.sort_unstable();
    domains.dedup();
    let requirement = || format!("must be one of {}", domains.join(", "));
    let domain = match (asked, domains.as_slice()) {
        (Some(asked), known) if known.contains(&asked) => asked,
        (Some(asked), [""]) => {
            return Err(Error::setting("--domain", asked, "the file's laws have no domains"));
        }
        (Some(asked), _) => return Err(Error::setting("--domain", asked, requirement())),
        (None, &[only]) => only,
        (None, _) => return Err(Error::missing("--domain", requirement())),
    };
    let mut chosen: Vec<_> = fits.iter().copied().filter(|fit| fit.domain == domain).collect();
    chosen.extend(fits.iter().filter(|fit| shared(fit) && fit.domain != domain).copied());
    Ok((domain.to_string(), chosen))
}

fn advise(fits: &[&Fit], options: &Options) -> Result<Advice> {
    if !(options.confidence > 0.0 && options.confidence < 1.0) {
        let requirement = "must lie between 0 and 1";
        return Err(Error::setting("--confidence", options.confidence, requirement));
    }
    let (domain, fits) = of_domain(fits, options.domain.as_deref())?;
    let Some(level) = fits.iter().find_map(|fit| Some(fit.bootstrap.as_ref()?.level)) else {
        let requirement = "advice needs intervals; fit again with --bootstrap 1000";
        return Err(Error::setting("resamples in the file", 0, requirement));
    };
    let row = Row {
        n_params: options.n_params,
        d_ft_tokens: options.d_ft,
        p: 0.0,
        loss_pt0: options.loss_pt0.unwrap_or(f64::NAN),
        d_tokens: options.d_tokens.unwrap_or(f64::NAN),
    };
    let mut answers = Advisor::new(fits).answers(&Questions {
        row,
        limit: options.limit,
        confidence: options.confidence,
        p: options.p,
        epochs: options.epochs,
        target_loss: options.target_loss,
        worth: options.worth,
        larger: options.larger,
        new_runs: Some(options.new_runs),
    });
    let mut missing = |question, option, requirement| {
        let why = Error::missing(option, requirement);
        answers.unanswered.push(Unanswered { question, why });
    };
    if options.target_loss.is_none() {
        let requirement = "give the loss on the target to reach";
        missing(Question::TargetLoss, "--target-loss", requirement);
    }
    if options.d_tokens.is_none() {
        let requirement = "give the tokens of the model's pretraining";
        missing(Question::LargerModel, "--d-tokens", requirement);
    }
    answers.unanswered.sort_by_key(|unanswered| unanswered.question);
    Ok(Advice { domain, laws: Vec::new(), level, answers })
}

#[cfg(test)]
mod tests;
