//! `replication eval`: the loss of a model on any text.

use crate::experiment::compute::ComputeOptions;
use crate::experiment::reader::{AT_A_TIME, Reader};
use crate::format::counted;
use crate::inputs::fields::Records;
use crate::inputs::files::read;
use crate::terminal::print;
use clap::Args;
use forgetting_laws::data::Source;
use forgetting_laws::data::mask::Encoded;
use forgetting_laws::engine;
use forgetting_laws::loss::{Loss, Measured};
use forgetting_laws::store::{to_json, write_atomic};
use forgetting_laws::{Error, Result};
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

/// A model and a text.
#[derive(Args)]
pub struct EvalOptions {
    /// Folder with config.json, model.safetensors and tokenizer.json, of a run or of a family in
    /// docs/models.md; or hub:OWNER/NAME.
    pub model: PathBuf,
    /// Text to evaluate on: .txt or .jsonl files, plain, .gz or .zst, or folders of them.
    #[arg(long, num_args = 1.., required = true, value_name = "FILE")]
    pub data: Vec<PathBuf>,
    /// Field of .jsonl files that holds the text.
    #[arg(long, default_value = "text", value_name = "FIELD")]
    pub text_field: String,
    #[command(flatten)]
    pub records: Records,
    /// Evaluates only this many documents, the first ones.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub documents: Option<u64>,
    /// The end-of-text token, by name or number [default: the one that the model's files name].
    #[arg(long, value_name = "TOKEN")]
    pub end_of_text: Option<String>,
    /// Also lists the loss of every document.
    #[arg(long)]
    pub per_document: bool,
    /// Writes the losses to a JSON file, including those of every document.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    #[command(flatten)]
    pub compute: ComputeOptions,
}

/// What `eval` writes.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Evaluation {
    /// Mean cross-entropy over all supervised tokens, in nats.
    loss: f64,
    /// Its standard error; none if there is only one cluster.
    stderr: Option<f64>,
    /// Supervised tokens.
    tokens: u64,
    /// The same loss in bits per byte of these tokens' text, comparable across tokenizers.
    bits_per_byte: f64,
    /// What the standard error treats as independent: documents, or the windows of one.
    clusters: &'static str,
    /// SHA-256 of the model's shape and parameters.
    model: String,
    /// SHA-256 of the tokenizer.
    tokenizer: String,
    /// The end-of-text token. Its name inside a text is treated as ordinary text.
    end_of_text: u32,
    /// SHA-256 of the text.
    data: String,
    /// Input tokens per window.
    context: usize,
    /// The loss of each document, in order.
    documents: Vec<DocumentLoss>,
}

/// The loss of one document.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct DocumentLoss {
    /// Its index, counted from 0.
    document: u64,
    /// Mean cross-entropy in nats; none for a document of one token.
    loss: Option<f64>,
    /// Supervised tokens.
    tokens: u64,
    /// Bytes of these tokens' text.
    bytes: u64,
}

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
        let requirement =
            "must contain a document of at least two tokens, one of which counts in the loss";
        return Err(Error::setting("--data", options.data[0].display(), requirement));
    }
    let bytes: u64 = documents.iter().map(|document| document.bytes).sum();
    let end_of_text = reader.tokenizer.stated_end_of_text().to_string();
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
    print(&format!("{}end of text: {end_of_text}\n", said(&evaluation, options.per_document)))
}

/// The bytes of the predicted tokens of a document that count in the loss, given the bytes of all
/// tokens. The first token is not predicted.
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
        "loss {loss:.4}{error} nats per token, {bits_per_byte:.4} bits per byte\n{} in {}",
        counted(*tokens, "token"),
        counted(documents.len() as u64, "document")
    );
    text
}
