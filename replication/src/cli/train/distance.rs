//! `replication distance`: how far domains are from the pretraining data, by several measures from
//! text alone.

use crate::cli::values::named;
use crate::experiment::compute::ComputeOptions;
use crate::experiment::reader::Reader;
use crate::format::Table;
use crate::format::{Csv, cell, significant};
use crate::inputs::files as text;
use crate::inputs::tokenizers::kind;
use crate::inputs::tokenizers::train_tokenizer;
use crate::terminal::{log, print};
use clap::Args;
use forgetting_laws::data::distance::documents::{Measures, Sample, WINDOW, compare};
use forgetting_laws::data::files::Fields;
use forgetting_laws::data::synthetic::Synthetic;
use forgetting_laws::data::tokenizer::Tokenizer;
use forgetting_laws::data::{Source, TokenizerKind};
use forgetting_laws::loss::Measured;
use forgetting_laws::parallel::on_all_cores;
use forgetting_laws::store::{to_json, write_atomic};
use forgetting_laws::{Error, Fraction, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The default vocabulary size of the tokenizer that is trained.
const VOCAB: usize = 4_096;

/// Which texts to compare, and how much of them.
#[derive(Args)]
pub struct Options {
    /// The pretraining data and then the domains: .txt or .jsonl files, plain, .gz or .zst, or
    /// folders of them, optionally with NAME= in front; files with the same name are one domain. Or
    /// the synthetic texts of the presets: synthetic, synthetic:KIND or synthetic:KIND:DISTANCE.
    #[arg(required = true, num_args = 2.., value_name = "[NAME=]FILE")]
    texts: Vec<PathBuf>,
    /// Tokens per text, divided into two halves; the shortest text limits the number for all.
    #[arg(long, default_value_t = 400_000, value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
    tokens: u64,
    /// Field of .jsonl files that holds the text.
    #[arg(long, default_value = "text", value_name = "FIELD")]
    text_field: String,
    /// Field of .jsonl files that names the work; documents of one work stay together.
    #[arg(long, value_name = "FIELD")]
    group: Option<String>,
    /// A tokenizer.json [default: one is trained on the pretraining text].
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Its end-of-text token, by name or number [default: the one that its files name].
    #[arg(long, value_name = "TOKEN", requires = "tokenizer")]
    end_of_text: Option<String>,
    /// Kind of tokenizer to train: bpe or unigram.
    #[arg(long, default_value = "bpe", value_parser = kind)]
    kind: TokenizerKind,
    /// Its vocabulary size.
    #[arg(long, default_value_t = VOCAB)]
    vocab: usize,
    /// Bytes of pretraining text to train it on.
    #[arg(long, default_value_t = 4_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    tokenizer_bytes: u64,
    /// A pretrained model, a folder or hub:OWNER/NAME. Also measures its loss on each domain, minus
    /// its loss on the pretraining data, with its own tokenizer.
    #[arg(long, value_name = "FOLDER")]
    model: Option<PathBuf>,
    #[command(flatten)]
    compute: ComputeOptions,
    /// Seed of synthetic texts.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The folder for distance.csv and distance.json.
    #[arg(long, default_value = "out/distance", value_name = "DIR")]
    out: PathBuf,
}

/// What is written as JSON.
#[derive(Serialize)]
struct Report {
    /// Hex SHA-256 of the tokenizer.json.
    tokenizer: String,
    vocab: usize,
    /// Tokens of each text that were compared.
    tokens: u64,
    pretraining: Text,
    /// SHA-256 of the pretrained model's shape and parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    domains: Vec<Domain>,
}

/// A text and the part of it that was compared.
#[derive(Serialize)]
struct Text {
    name: String,
    /// Hex SHA-256 of the source's content.
    source: String,
    documents: usize,
}

#[derive(Serialize)]
struct Domain {
    #[serde(flatten)]
    text: Text,
    measures: Measures,
    /// The pretrained model's loss on the domain minus that on the pretraining data, in nats per token
    /// of its own tokenizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    model_excess: Option<Measured>,
    /// The B predicted by [`B_BY_TEXT`], in parameters per token.
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_b: Option<f64>,
}

/// Predicts B of a domain from its bigram divergence.
///
/// It is a line fitted to ln B of the ten domains of golden/micro whose B is known, with divergences at
/// this command's default vocabulary size. B is that of the law `forgetting-plus-tokens` with one α for
/// all domains, as fitted by the figure `b_from_text`.
struct BByText {
    alpha: f64,
    /// ln B at a divergence of 0.
    intercept: f64,
    /// The slope of ln B per nat of divergence.
    slope: f64,
    /// The range of the divergences of those domains, in nats. There is no prediction outside it.
    range: (f64, f64),
    /// The factor by which lines through the other domains miss B of a domain: the mean, and the
    /// largest.
    missed: (f64, f64),
}

const B_BY_TEXT: BByText = BByText {
    alpha: 0.356,
    intercept: -8.464,
    slope: 25.377,
    range: (0.405, 0.669),
    missed: (1.7, 7.3),
};

impl BByText {
    fn b(&self, bigram_js: f64) -> Option<f64> {
        let known = self.range.0 <= bigram_js && bigram_js <= self.range.1;
        known.then(|| (self.intercept + self.slope * bigram_js).exp())
    }

    fn table(&self, domains: &[Domain]) -> Table {
        let row = |domain: &Domain| {
            let b = domain.expected_b.map_or("-".into(), |b| significant(b, 2));
            vec![domain.text.name.clone(), b]
        };
        let (mean, worst) = self.missed;
        Table {
            caption: format!(
                "B to expect, by bigram JS: 1% of injection prevents 1 - (1 + 0.01 B D_ft / N)^-{} of the \
                 forgetting. From ten domains, with models of 41K and 108K parameters pretrained on English \
                 prose; a domain that was left out was missed by a factor of {mean} in the mean and {worst} \
                 at worst. -: nearer or farther than all of them.",
                self.alpha
            ),
            columns: ["domain", "B, parameters per token"].map(String::from).to_vec(),
            rows: domains.iter().map(row).collect(),
        }
    }
}

impl Domain {
    /// All measures with their names.
    fn named(&self) -> impl Iterator<Item = (&'static str, Measured)> {
        let model = self.model_excess.map(|excess| ("model_excess", excess));
        self.measures.named().into_iter().chain(model)
    }
}

/// Measures every domain, prints a table and writes it.
///
/// # Errors
/// If a text cannot be read, two have one name, or one is too short.
pub fn run(options: &Options) -> Result<()> {
    let texts = texts(options)?;
    let (_, pretraining) = &texts[0];
    let tokenizer = match &options.tokenizer {
        Some(path) => Tokenizer::open(path, options.end_of_text.as_deref())?,
        None => {
            let documents = pretraining.len().unwrap_or(u64::MAX);
            let (bytes, vocab) = (options.tokenizer_bytes, options.vocab);
            train_tokenizer(&**pretraining, documents, bytes, options.kind, vocab)?.0
        }
    };
    let draw = |i: usize| {
        let (name, source) = &texts[i];
        Sample::draw(&**source, &tokenizer, options.tokens).map_err(|error| of(name, error))
    };
    let samples: Vec<Sample> =
        on_all_cores(texts.len(), draw).into_iter().collect::<Result<_>>()?;
    let available = samples.iter().map(Sample::tokens).min().unwrap_or(0);
    let tokens = available.min(options.tokens);
    let text = |i: usize| Text {
        name: texts[i].0.clone(),
        source: texts[i].1.content_hash(),
        documents: samples[i].documents(tokens).len(),
    };
    let measure = |domain: usize| {
        let i = domain + 1;
        let measures = compare(&samples[0], &samples[i], tokens, tokenizer.vocab_size());
        let measures = measures.map_err(|error| of(&texts[i].0, error))?;
        // Divergences depend on the vocabulary.
        let as_fitted = options.tokenizer.is_none()
            && options.vocab == VOCAB
            && options.kind == TokenizerKind::Bpe;
        let expected_b = B_BY_TEXT.b(measures.bigram_js.value).filter(|_| as_fitted);
        Ok(Domain { text: text(i), measures, model_excess: None, expected_b })
    };
    let mut domains: Vec<Domain> =
        on_all_cores(texts.len() - 1, measure).into_iter().collect::<Result<_>>()?;
    let model = options.model.as_ref().map(|model| Reader::open(model, &options.compute, None));
    let mut model = model.transpose()?;
    if let Some(model) = &mut model {
        let mut losses = |i: usize| model.works(&*texts[i].1, &samples[i].documents(tokens));
        let pretraining = losses(0)?;
        for (i, domain) in domains.iter_mut().enumerate() {
            domain.model_excess = Some(Measured::excess(&pretraining, &losses(i + 1)?));
        }
    }
    let (tokenizer, vocab) = (tokenizer.hash(), tokenizer.vocab_size());
    let model = model.map(|model| model.hash);
    let report = Report { tokenizer, vocab, tokens, pretraining: text(0), model, domains };
    std::fs::create_dir_all(&options.out).map_err(Error::io(&options.out))?;
    write_atomic(&options.out.join("distance.json"), &to_json(&report))?;
    write_atomic(&options.out.join("distance.csv"), report.csv().as_bytes())?;
    if tokens < options.tokens {
        let least = samples.iter().position(|sample| sample.tokens() == available).unwrap_or(0);
        let (name, asked) = (&texts[least].0, options.tokens);
        log(&format!(
            "{name} has {available} tokens in equal halves: as many are taken of each text, in \
             place of {asked}"
        ));
    }
    print(&report.table().markdown())?;
    if report.domains.iter().any(|domain| domain.expected_b.is_some()) {
        print(&format!("\n{}", B_BY_TEXT.table(&report.domains).markdown()))?;
    }
    Ok(())
}

/// Adds the name of the text to an error.
fn of(name: &str, error: Error) -> Error {
    match error {
        Error::Exhausted { what, asked, available, remedy } => {
            Error::Exhausted { what: format!("{name}: {what}"), asked, available, remedy }
        }
        Error::Setting { name: what, value, requirement } => {
            Error::Setting { name: format!("{name}: {what}"), value, requirement }
        }
        error => error,
    }
}

/// The texts with their names, in the order in which they were given.
fn texts(options: &Options) -> Result<Vec<(String, Box<dyn Source>)>> {
    let mut files: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    for given in &options.texts {
        let (name, path) = named(given).unwrap_or_else(|| (name_of(given), given.clone()));
        if !order.contains(&name) {
            order.push(name.clone());
        }
        files.entry(name).or_default().push(path);
    }
    if order.len() < 2 {
        let requirement = "must be at least two texts with different names; NAME=FILE gives a name";
        return Err(Error::setting("texts to compare", order.join(", "), requirement));
    }
    let open = |name: String| -> Result<(String, Box<dyn Source>)> {
        let source: Box<dyn Source> = match &files[&name][..] {
            [path] if is_synthetic(path) => Box::new(synthetic(path, options.seed)?),
            paths => {
                let fields = Fields::plain(&options.text_field, options.group.as_deref());
                Box::new(text::read(paths, &fields)?)
            }
        };
        Ok((name, source))
    };
    order.into_iter().map(open).collect()
}

/// A file's name without its extension; the name of a synthetic text unchanged.
fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    match name.split_once('.') {
        Some((name, _)) if !name.is_empty() && !is_synthetic(path) => name.to_string(),
        _ => name.into_owned(),
    }
}

const SYNTHETIC: &str = "synthetic";

fn is_synthetic(path: &Path) -> bool {
    let name = path.to_str().and_then(|name| name.strip_prefix(SYNTHETIC));
    name.is_some_and(|rest| rest.is_empty() || rest.starts_with(':')) && !path.exists()
}

/// `synthetic`, the pretraining source; `synthetic:KIND:DISTANCE`, a target.
fn synthetic(path: &Path, seed: u64) -> Result<Synthetic> {
    let text = path.to_string_lossy();
    let mut parts = text.split(':').skip(1);
    let Some(kind) = parts.next() else { return Ok(Synthetic::pretraining(seed)) };
    let distance = parts.next().unwrap_or("1");
    let number = distance.parse().map_err(|_| {
        Error::setting("distance of a synthetic text", distance, "must be a number from 0 to 1")
    })?;
    Ok(Synthetic::target(kind.parse()?, Fraction::new(number)?, seed))
}

impl Report {
    fn csv(&self) -> String {
        let columns = ["domain", "documents", "tokens"].map(String::from).into_iter();
        let measures = self.domains.first().into_iter().flat_map(Domain::named);
        let measures = measures.flat_map(|(name, _)| [name.to_string(), format!("{name}_se")]);
        let columns: Vec<String> = columns.chain(measures).collect();
        let mut csv = Csv::new(columns.iter().map(String::as_str));
        for domain in &self.domains {
            let text = &domain.text;
            let counts = [text.name.clone(), text.documents.to_string(), self.tokens.to_string()];
            let numbers = domain.named().flat_map(|(_, m)| [m.value, m.error]);
            csv.row(counts.into_iter().chain(numbers.map(cell)));
        }
        csv.text()
    }

    fn table(&self) -> Table {
        let with_error =
            |(_, Measured { value, error }): (_, Measured)| format!("{value:.3} ± {error:.3}");
        let row = |domain: &Domain| {
            let name = std::iter::once(domain.text.name.clone());
            name.chain(domain.named().map(with_error)).collect()
        };
        let columns = ["domain", "unigram JS", "bigram JS", "trigram JS", "trigram gap"];
        let columns = columns.into_iter().chain(["trigram excess", "classifier error"]);
        let columns = columns.chain(self.model.as_ref().map(|_| "model excess"));
        Table {
            caption: format!(
                "Distance from {}: {} tokens of each, vocabulary {}; nats, and shares of windows \
                 of {} tokens; ± one standard error.",
                self.pretraining.name, self.tokens, self.vocab, WINDOW
            ),
            columns: columns.map(String::from).collect(),
            rows: self.domains.iter().map(row).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::beyond::b_from_text::theil_sen;

    #[test]
    fn names_of_texts() {
        for (path, name) in [
            ("a/french.jsonl.zst", "french"),
            ("folder", "folder"),
            ("synthetic:prose:0.25", "synthetic:prose:0.25"),
            ("synthetic.txt", "synthetic"),
            ("..", ".."),
        ] {
            assert_eq!(name_of(Path::new(path)), name);
        }
        assert!(is_synthetic(Path::new("synthetic")) && is_synthetic(Path::new("synthetic:code")));
        assert!(!is_synthetic(Path::new("synthetics")));
        assert!(synthetic(Path::new("synthetic:poems"), 0).is_err());
        assert!(synthetic(Path::new("synthetic:prose:2"), 0).is_err());
        let far = synthetic(Path::new("synthetic:prose"), 0).unwrap();
        let one = synthetic(Path::new("synthetic:prose:1"), 0).unwrap();
        assert_eq!(far.content_hash(), one.content_hash());
    }

    /// What golden/micro says of its domains, and what this command says of their texts.
    #[test]
    fn the_line_is_that_of_the_committed_runs() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/micro/b_from_text");
        let read = |name: &str| {
            let text = std::fs::read_to_string(golden.join(name)).unwrap();
            let rows = text.lines().map(|line| line.split(',').map(String::from).collect());
            let mut rows: Vec<Vec<String>> = rows.collect();
            let columns = rows.remove(0);
            let of = move |row: &[String], column: &str| {
                row[columns.iter().position(|known| known == column).unwrap()].clone()
            };
            (rows, of)
        };
        let (texts, of_text) = read("distance.csv");
        let (strengths, of_strength) = read("b_from_text.csv");
        let number = |text: String| text.parse::<f64>().unwrap();
        let mut points = Vec::new();
        for row in &strengths {
            let known = of_strength(row, "known") == "true";
            if !known || of_strength(row, "law") != "forgetting-plus-tokens" {
                continue;
            }
            let domain = of_strength(row, "domain");
            let text = texts.iter().find(|text| of_text(text, "domain") == domain).unwrap();
            let divergence = number(of_text(text, "bigram_js"));
            points.push((divergence, number(of_strength(row, "b")).ln()));
            assert!((number(of_strength(row, "alpha")) - B_BY_TEXT.alpha).abs() < 5e-4);
        }
        assert_eq!(points.len(), 10);
        let (intercept, slope) = theil_sen(&points).unwrap();
        assert!((intercept - B_BY_TEXT.intercept).abs() < 5e-3, "{intercept}");
        assert!((slope - B_BY_TEXT.slope).abs() < 5e-3, "{slope}");
        let ends =
            [f64::min, f64::max].map(|end| points.iter().map(|(x, _)| *x).reduce(end).unwrap());
        assert!(
            (ends[0] - B_BY_TEXT.range.0).abs() < 5e-4
                && (ends[1] - B_BY_TEXT.range.1).abs() < 5e-4,
            "{ends:?}"
        );
        let missed: Vec<f64> = (0..points.len())
            .map(|i| {
                let mut others = points.clone();
                let (x, ln_b) = others.remove(i);
                let (intercept, slope) = theil_sen(&others).unwrap();
                (intercept + slope * x - ln_b).abs()
            })
            .collect();
        let mean = (missed.iter().sum::<f64>() / missed.len() as f64).exp();
        let worst = missed.iter().copied().fold(0.0, f64::max).exp();
        assert!((mean - B_BY_TEXT.missed.0).abs() < 0.05, "{mean}");
        assert!((worst - B_BY_TEXT.missed.1).abs() < 0.05, "{worst}");
        assert_eq!(B_BY_TEXT.b(0.2), None);
        assert!(B_BY_TEXT.b(0.6).unwrap() > 4.0 * B_BY_TEXT.b(0.5).unwrap());
    }
}
