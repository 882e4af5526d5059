//! `data prepare` and `data verify`: tokenises text files into a token store, and verifies a store.

use crate::inputs::fields::Records;
use crate::inputs::files::read;
use crate::inputs::sources::file_names;
use crate::inputs::tokenizers::train_tokenizer;
use crate::terminal::print;
use clap::Args;
use forgetting_laws::data::tokenizer::Tokenizer;
use forgetting_laws::data::tokens::{Origin, Recipe, StoreManifest, Tokens};
use forgetting_laws::data::{Source, TokenizerKind};
use forgetting_laws::{Error, Result};
use indicatif::{ProgressBar, ProgressDrawTarget};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// What to tokenise.
#[derive(Args)]
pub struct Options {
    /// Text: files, folders or patterns such as 'texts/*.jsonl', or - for standard input.
    #[arg(long, num_args = 1.., value_name = "FILE", required = true)]
    data: Vec<PathBuf>,
    /// A tokenizer.json, or its folder.
    #[arg(long, value_name = "FILE", required_unless_present = "vocab")]
    tokenizer: Option<PathBuf>,
    /// Its end-of-text token, by name or number [default: the one that its files name].
    #[arg(long, value_name = "TOKEN", conflicts_with = "vocab")]
    end_of_text: Option<String>,
    /// Trains a tokenizer with this vocabulary size on the text instead.
    #[arg(long, value_name = "N", conflicts_with = "tokenizer")]
    vocab: Option<usize>,
    /// Kind of tokenizer to train: bpe or unigram.
    #[arg(long, value_name = "KIND", default_value = "bpe", value_parser = crate::inputs::tokenizers::kind)]
    tokenizer_kind: TokenizerKind,
    /// Bytes of text to train it on.
    #[arg(long, value_name = "N", default_value_t = 2_000_000)]
    tokenizer_bytes: u64,
    /// The field of .jsonl files that holds the text.
    #[arg(long, value_name = "FIELD", default_value = "text")]
    text_field: String,
    /// The field of .jsonl files that names the work; a split never divides a work.
    #[arg(long, value_name = "FIELD")]
    group: Option<String>,
    #[command(flatten)]
    records: Records,
    /// The folder of the store; an interrupted call continues where it stopped.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

/// The name of the tokenizer's file next to the shards.
const TOKENIZER: &str = "tokenizer.json";

/// Makes a store.
///
/// # Errors
/// If a file or a setting is refused, or an existing shard is damaged.
pub fn run(options: &Options) -> Result<()> {
    let out = options.out.as_path();
    let fields = options.records.fields(&options.text_field, options.group.as_deref())?;
    let source = read(&options.data, &fields)?;
    let tokenizer = match (&options.tokenizer, options.vocab) {
        (Some(path), _) => Tokenizer::open(path, options.end_of_text.as_deref())?,
        (None, Some(vocab)) => {
            let (bytes, kind) = (options.tokenizer_bytes, options.tokenizer_kind);
            train_tokenizer(&source, source.len().unwrap_or(u64::MAX), bytes, kind, vocab)?.0
        }
        (None, None) => unreachable!("one of the two is required"),
    };
    let hash = tokenizer.hash();
    let recipe = Recipe {
        source: &source,
        encoder: &tokenizer,
        tokenizer: &hash,
        vocab: tokenizer.vocab_size(),
        shard_documents: Recipe::SHARD,
    };
    let name = file_names(&options.data);
    let origin = Origin { name, revision: None, files: source.files().to_vec() };
    let documents = source.len().unwrap_or(0);
    let bar = ProgressBar::with_draw_target(
        Some(documents),
        if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        },
    );
    let tokens = Tokens::prepare(out, &recipe, &origin, &|documents| bar.inc(documents))?;
    bar.finish_and_clear();
    tokenizer.save(out.join(TOKENIZER))?;
    let counted = StoreManifest::read(out)?.and_then(|manifest| manifest.counted);
    print(&format!(
        "{} documents, {} tokens{}; store: {}\nend of text: {}\n",
        tokens.documents(),
        tokens.tokens(),
        counting(counted),
        out.display(),
        tokenizer.stated_end_of_text()
    ))
}

/// How many tokens are supervised, if not all are.
fn counting(counted: Option<u64>) -> String {
    counted.map_or(String::new(), |counted| format!(", {counted} of them count in the loss"))
}

/// Reads every byte of a store and reports damage.
///
/// # Errors
/// If the store is damaged or does not exist.
pub fn verify(folder: &Path) -> Result<()> {
    let mut damages = Tokens::verify(folder)?;
    let manifest = StoreManifest::read(folder)?.expect("it was verified");
    let path = folder.join(TOKENIZER);
    if path.exists() {
        // Whichever token ended its texts stands in the manifest.
        match Tokenizer::open(&path, Some(&manifest.end_of_text.to_string())) {
            Ok(tokenizer) if tokenizer.hash() == manifest.tokenizer => {}
            Ok(_) => damages.push(Error::Damaged {
                path,
                reason: "it is not the tokenizer that the store was made with".into(),
            }),
            Err(error) => damages.push(error),
        }
    }
    if damages.is_empty() {
        return print(&format!(
            "{} shards, {} documents, {} tokens{}: all unchanged\n",
            manifest.shards.len(),
            manifest.documents,
            manifest.tokens,
            counting(manifest.counted)
        ));
    }
    let named: Vec<String> = damages.iter().map(Error::to_string).collect();
    let reason = format!("{}; remove these and prepare again", named.join("; "));
    Err(Error::Content { path: folder.to_path_buf(), line: None, reason })
}
