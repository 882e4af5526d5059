//! Models from the command line: `eval` measures one on any text, `sample` lets one write.

use crate::compute::{ComputeOptions, Effort};
use crate::progress::{Transfers, answer, complain};
use crate::records::Records;
use crate::text::read;
use clap::Args;
use forgetting_laws::checkpoint::{self, Checkpoint};
use forgetting_laws::data::Source;
use forgetting_laws::data::mask::{Encoded, Passage};
use forgetting_laws::data::tokenizer::Tokenizer;
use forgetting_laws::engine::{self, Model, Sampling};
use forgetting_laws::hub::{Hub, Kind, Repository};
use forgetting_laws::loss::{Loss, Measured};
use forgetting_laws::model::Precision;
use forgetting_laws::rng::Key;
use forgetting_laws::store::{to_json, write_atomic};
use forgetting_laws::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// A model and a text.
#[derive(Args)]
pub struct EvalOptions {
    /// Folder with config.json, model.safetensors and tokenizer.json: a run's, or GPT-2's kin; or
    /// the Hub's hub:OWNER/NAME.
    pub model: PathBuf,
    /// Text to measure it on: .txt or .jsonl files, plain, .gz or .zst, or folders of them.
    #[arg(long, num_args = 1.., required = true, value_name = "FILE")]
    pub data: Vec<PathBuf>,
    /// Field of .jsonl files that holds the text.
    #[arg(long, default_value = "text", value_name = "FIELD")]
    pub text_field: String,
    #[command(flatten)]
    pub records: Records,
    /// Measures the first so many documents only.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub documents: Option<u64>,
    /// The token that ends a text, by name or number [default: the one that the model's files name].
    #[arg(long, value_name = "TOKEN")]
    pub end_of_text: Option<String>,
    /// Lists the loss of every document too.
    #[arg(long)]
    pub per_document: bool,
    /// Writes the losses to a file, those of every document among them.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    #[command(flatten)]
    pub compute: ComputeOptions,
}

/// A model and how it writes.
#[derive(Args)]
pub struct SampleOptions {
    /// Folder with config.json, model.safetensors and tokenizer.json: a run's, or GPT-2's kin; or
    /// the Hub's hub:OWNER/NAME.
    pub model: PathBuf,
    /// What the text begins with; without, it begins as a document does.
    #[arg(long, default_value = "")]
    pub prompt: String,
    /// The longest text, in tokens.
    #[arg(long, default_value_t = 200)]
    pub tokens: usize,
    /// Logits are divided by it; 0 takes the likeliest token each time.
    #[arg(long, default_value_t = 1.0)]
    pub temperature: f64,
    /// Only so many of the likeliest tokens are drawn from; 0: all.
    #[arg(long, default_value_t = 0)]
    pub top_k: usize,
    /// Of the draws: the same seed gives the same text.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// The token that ends a text, by name or number [default: the one that the model's files name].
    #[arg(long, value_name = "TOKEN")]
    pub end_of_text: Option<String>,
    /// How many texts.
    #[arg(long, default_value_t = 1)]
    pub samples: u64,
    #[command(flatten)]
    pub compute: ComputeOptions,
}

/// A model that can read text.
pub struct Reader {
    model: Box<dyn Model>,
    tokenizer: Tokenizer,
    /// Of its shape and parameters.
    pub hash: String,
}

/// The folder of a model: itself, or that of what the Hub has under `hub:OWNER/NAME`, after
/// `@` at a revision. A name without `hub:` is a repository where no folder has it.
///
/// # Errors
/// If the repository has no such model or cannot be fetched.
pub fn folder_of(named: &Path) -> Result<PathBuf> {
    let text = named.to_str().unwrap_or_default();
    let parts = text.split('/').filter(|part| !part.is_empty() && !part.starts_with('.')).count();
    let name = match text.strip_prefix("hub:") {
        Some(name) => name,
        None if !named.exists() && parts == 2 && text.matches('/').count() == 1 => text,
        None => return Ok(named.to_path_buf()),
    };
    let (id, revision) = name.split_once('@').unwrap_or((name, "main"));
    let hub = Hub::from_env()?;
    let progress = Transfers::default();
    let snapshot = hub.snapshot(&Repository::new(id, Kind::Model, revision)?, &progress)?;
    let parts = snapshot.files.iter().filter(|file| {
        let shard = file.starts_with("model-") && file.ends_with(".safetensors");
        shard || file.as_str() == "model.safetensors.index.json"
    });
    let has = |name: &str| snapshot.files.iter().any(|file| file == name);
    let weights: Vec<&str> = if has(checkpoint::WEIGHTS) {
        vec![checkpoint::WEIGHTS]
    } else {
        parts.map(String::as_str).collect()
    };
    if weights.is_empty()
        && let Some(pickled) = snapshot.files.iter().find(|file| checkpoint::is_pickled(file))
    {
        let own = id.rsplit('/').next().unwrap_or(id);
        let command = checkpoint::conversion(id, own);
        let requirement = format!(
            "has its model as {pickled} alone, which can run code when it is read; convert it and \
             name the folder {own}: {command}"
        );
        return Err(Error::setting("model", named.display(), requirement));
    }
    // GPT-2's older models have a tokenizer in two files.
    let older = !has(checkpoint::TOKENIZER) && has("vocab.json");
    let tokenizer =
        if older { vec!["vocab.json", "merges.txt"] } else { vec![checkpoint::TOKENIZER] };
    let besides = [
        "generation_config.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
    ];
    let besides = besides.into_iter().filter(|name| has(name));
    let mut folder = PathBuf::new();
    // The weights, which take the longest, are the last.
    for name in [checkpoint::CONFIG].into_iter().chain(tokenizer).chain(besides).chain(weights) {
        let fetched = hub.fetch(&snapshot, name, &progress)?;
        folder = fetched.path.parent().unwrap_or(&fetched.path).to_path_buf();
    }
    Ok(folder)
}

impl Reader {
    /// Opens a folder or what the Hub has. `end_of_text` is the token that ends a text, if it is not
    /// the one that the files name.
    ///
    /// # Errors
    /// If the model, its tokenizer or the device is refused.
    pub fn open(named: &Path, compute: &ComputeOptions, end_of_text: Option<&str>) -> Result<Self> {
        let compute = compute.open()?;
        let folder = folder_of(named)?;
        let model = Checkpoint::read(&folder)?;
        Checkpoint::remarks(&folder)?.iter().for_each(|remark| complain(remark));
        let tokenizer = Tokenizer::open(&folder.join(checkpoint::TOKENIZER), end_of_text)?;
        let (tokens, vocab) = (tokenizer.needed_vocab(), model.shape.vocab);
        if tokens > vocab {
            let reason = format!("it needs a vocabulary of {tokens}, and the model's is {vocab}");
            return Err(Error::content(folder.join(checkpoint::TOKENIZER), None, reason));
        }
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as i32);
        let engine = compute.engine(Effort { threads, micro_batch: usize::MAX }, None);
        let hash = model.hash();
        Ok(Self { model: engine.model(&model, Precision::F32)?, tokenizer, hash })
    }

    /// The tokens of texts.
    fn encode(&self, texts: &[Passage<'_>]) -> Result<Vec<Encoded>> {
        texts.iter().map(|text| Encoded::of(&self.tokenizer, text)).collect()
    }

    /// The losses of some documents of a source, those of one work together.
    ///
    /// # Errors
    /// If a document cannot be read.
    pub fn works(&mut self, source: &dyn Source, documents: &[u64]) -> Result<Vec<Loss>> {
        let mut works: BTreeMap<u64, Loss> = BTreeMap::new();
        for some in documents.chunks(AT_A_TIME as usize) {
            let texts = some.iter().map(|&i| source.passage(i)).collect::<Result<Vec<_>>>()?;
            let encoded = self.encode(&texts)?;
            let losses = engine::losses(&mut *self.model, &encoded)?;
            for (&document, windows) in some.iter().zip(losses) {
                let work = works.entry(source.group(document)).or_default();
                *work = std::iter::once(*work).chain(windows).sum();
            }
        }
        Ok(works.into_values().filter(|work| work.tokens > 0).collect())
    }
}

/// What `eval` writes.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Evaluation {
    /// Mean cross-entropy over all predicted tokens that count, in nats.
    loss: f64,
    /// Its standard error; none where there is one cluster only.
    stderr: Option<f64>,
    /// Predicted tokens that count.
    tokens: u64,
    /// The same loss in bits per byte of the text that these tokens stand for, which models of other
    /// tokenizers share.
    bits_per_byte: f64,
    /// What the standard error takes as drawn independently: documents, or the windows of one.
    clusters: &'static str,
    /// SHA-256 of the model's shape and parameters.
    model: String,
    /// SHA-256 of the tokenizer.
    tokenizer: String,
    /// The token that ends a text. It is in none: a text that spells out its name has it in parts.
    end_of_text: u32,
    /// SHA-256 of the text.
    data: String,
    /// Inputs a window.
    context: usize,
    /// Of each document, in order.
    documents: Vec<DocumentLoss>,
}

/// One document's.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct DocumentLoss {
    /// Its place among the documents, from 0.
    document: u64,
    /// Mean cross-entropy in nats; none for a document of one token.
    loss: Option<f64>,
    /// Predicted tokens that count.
    tokens: u64,
    /// Bytes of the text that these tokens stand for.
    bytes: u64,
}

/// Documents that are tokenised at a time.
const AT_A_TIME: u64 = 256;

/// `eval`: the loss of a model on any text. No special token is added.
///
/// # Errors
/// If the model or a file is refused, or there is nothing to predict.
pub fn eval(options: &EvalOptions) -> Result<()> {
    let mut reader =
        Reader::open(&options.model, &options.compute, options.end_of_text.as_deref())?;
    let fields = options.records.fields(&options.text_field, None)?;
    let files = read(&options.data, &fields)?;
    let count = files.len().unwrap_or(0);
    let count = options.documents.map_or(count, |most| most.min(count));
    let (mut documents, mut clusters, mut windows) = (Vec::new(), Vec::new(), Vec::new());
    for first in (0..count).step_by(AT_A_TIME as usize) {
        let range = first..(first + AT_A_TIME).min(count);
        let texts = range.clone().map(|i| files.passage(i)).collect::<Result<Vec<_>>>()?;
        let encoded = reader.encode(&texts)?;
        let losses = engine::losses(&mut *reader.model, &encoded)?;
        for (((document, text), encoded), of_windows) in range.zip(&texts).zip(&encoded).zip(losses)
        {
            let whole: Loss = of_windows.iter().copied().sum();
            documents.push(DocumentLoss {
                document,
                loss: (whole.tokens > 0).then(|| whole.mean()),
                tokens: whole.tokens,
                bytes: predicted_bytes(encoded, &reader.tokenizer.token_bytes(&text.text)?),
            });
            if whole.tokens > 0 {
                clusters.push(whole);
                windows = of_windows;
            }
        }
    }
    let (clusters, of) = match clusters.len() {
        1 => (windows, "windows"),
        _ => (clusters, "documents"),
    };
    let whole: Loss = clusters.iter().copied().sum();
    let Loss { nats, tokens } = whole;
    if tokens == 0 {
        let requirement = "must hold a document of two tokens or more, one of which counts";
        return Err(Error::setting("--data", options.data[0].display(), requirement));
    }
    let bytes: u64 = documents.iter().map(|document| document.bytes).sum();
    let evaluation = Evaluation {
        loss: whole.mean(),
        stderr: (clusters.len() > 1).then(|| Measured::mean(&clusters).error),
        tokens,
        bits_per_byte: nats / std::f64::consts::LN_2 / bytes as f64,
        clusters: of,
        model: reader.hash,
        tokenizer: reader.tokenizer.hash(),
        end_of_text: reader.tokenizer.end_of_text(),
        data: files.content_hash(),
        context: reader.model.shape().context,
        documents,
    };
    if let Some(path) = &options.json {
        write_atomic(path, &to_json(&evaluation))?;
    }
    answer(&said(&evaluation, options.per_document))
}

/// The bytes that the predicted tokens of a document stand for which count, of those of all tokens:
/// the first is read only.
fn predicted_bytes(encoded: &Encoded, bytes: &[usize]) -> u64 {
    let counts = |i: &usize| encoded.counted.as_ref().is_none_or(|counted| counted[*i]);
    (1..bytes.len()).filter(counts).map(|i| bytes[i] as u64).sum()
}

fn said(evaluation: &Evaluation, per_document: bool) -> String {
    let Evaluation { loss, stderr, tokens, bits_per_byte, clusters, documents, .. } = evaluation;
    let mut text = String::new();
    if per_document {
        let _ = writeln!(text, "{:>8} {:>8}  loss", "document", "tokens");
        for DocumentLoss { document, loss, tokens, .. } in documents {
            let loss = loss.map_or("-".to_string(), |loss| format!("{loss:.4}"));
            let _ = writeln!(text, "{document:>8} {tokens:>8}  {loss}");
        }
    }
    let error = match stderr {
        Some(error) => format!(" ± {error:.4} (standard error over {clusters})"),
        None => String::new(),
    };
    let _ = writeln!(
        text,
        "loss {loss:.4}{error} nats per token, {bits_per_byte:.4} bits per byte\n{tokens} tokens in \
         {} documents",
        documents.len()
    );
    text
}

/// `sample`: text that a model writes.
///
/// # Errors
/// If the model or a setting is refused.
pub fn sample(options: &SampleOptions) -> Result<()> {
    let mut reader =
        Reader::open(&options.model, &options.compute, options.end_of_text.as_deref())?;
    let end_of_text = reader.tokenizer.end_of_text();
    let prompt = reader.tokenizer.encode(&options.prompt)?;
    let start = if prompt.is_empty() { vec![end_of_text] } else { prompt.clone() };
    let sampling = Sampling {
        temperature: options.temperature,
        top_k: options.top_k,
        vocab: reader.tokenizer.vocab_size(),
    };
    for i in 0..options.samples {
        let key = Key::new(options.seed).named("sample").child(i);
        let (model, tokens) = (&mut *reader.model, options.tokens);
        let text = engine::generate(model, &start, tokens, sampling, Some(end_of_text), key)?;
        let text = reader.tokenizer.decode(&[prompt.as_slice(), &text].concat())?;
        let between = if i + 1 < options.samples { "\n---" } else { "" };
        answer(&format!("{text}{between}\n"))?;
    }
    Ok(())
}
