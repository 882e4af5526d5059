//! Models that read text, for `eval`, `sample` and `distance`.

use super::compute::{ComputeOptions, Effort};
use crate::inputs::pretrained::folder_of;
use crate::terminal::log;
use forgetting_laws::checkpoint::{self, Checkpoint};
use forgetting_laws::data::Source;
use forgetting_laws::data::mask::{Encoded, Passage};
use forgetting_laws::data::tokenizer::Tokenizer;
use forgetting_laws::engine::{self, Model};
use forgetting_laws::loss::Loss;
use forgetting_laws::memory::Passes;
use forgetting_laws::model::Precision;
use forgetting_laws::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// A model that can read text.
pub struct Reader {
    /// The model on its engine.
    pub model: Box<dyn Model>,
    /// The tokenizer in its folder.
    pub tokenizer: Tokenizer,
    /// The hash of its shape and parameters.
    pub hash: String,
}

impl Reader {
    /// Opens a model in a folder or on the Hub. `end_of_text` is the token that ends a text, if it is
    /// not the one that the files name.
    ///
    /// # Errors
    /// If the model or its tokenizer cannot be read, or the device cannot be used.
    pub fn open(named: &Path, compute: &ComputeOptions, end_of_text: Option<&str>) -> Result<Self> {
        let compute = compute.open()?;
        let folder = folder_of(named)?;
        let model = Checkpoint::read(&folder)?;
        Checkpoint::remarks(&folder)?.iter().for_each(|remark| log(remark));
        check_finite(&model, &folder)?;
        let tokenizer = Tokenizer::open(&folder.join(checkpoint::TOKENIZER), end_of_text)?;
        let (tokens, vocab) = (tokenizer.needed_vocab(), model.shape.vocab);
        if tokens > vocab {
            let reason = format!("it needs a vocabulary of {tokens}, and the model's is {vocab}");
            return Err(Error::content(folder.join(checkpoint::TOKENIZER), None, reason));
        }
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as i32);
        // Nothing is trained.
        let passes = Passes { micro_batch: 1, recompute: false };
        let engine = compute.engine(Effort { threads, passes }, None);
        let hash = model.hash();
        Ok(Self { model: engine.model(&model, Precision::F32)?, tokenizer, hash })
    }

    /// The tokens of texts.
    ///
    /// # Errors
    /// If a text cannot be encoded.
    pub fn encode(&self, texts: &[Passage<'_>]) -> Result<Vec<Encoded>> {
        texts.iter().map(|text| Encoded::of(&self.tokenizer, text)).collect()
    }

    /// The losses of documents of a source, grouped by work.
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

/// Refuses a model with a parameter that is not finite: it knows no losses, and cannot be sampled from.
fn check_finite(model: &Checkpoint, folder: &Path) -> Result<()> {
    let layout = model.shape.layout();
    let bad = |value: &&f32| !value.is_finite();
    let found = layout
        .tensors()
        .iter()
        .find_map(|tensor| Some((tensor, *model.theta[tensor.range()].iter().find(bad)?)));
    let Some((tensor, value)) = found else { return Ok(()) };
    let reason = format!(
        "has a parameter that is {value} (in {}); a model needs finite parameters, so it cannot be \
         used",
        tensor.name
    );
    Err(Error::content(folder, None, reason))
}

/// Documents that are tokenised at a time.
pub const AT_A_TIME: u64 = 256;
