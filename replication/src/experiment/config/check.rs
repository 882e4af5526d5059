//! Checks the settings.

use super::{Block, Config, Predict};
use crate::blocks::MAIN;
use forgetting_laws::{Error, Result, laws};

/// The largest batch.
const MOST_SEQUENCES: u64 = 1_000_000;
/// The most tokens of any part of the data.
const MOST_TOKENS: u64 = 1_000_000_000_000_000;
/// The most tokens per parameter: a thousand times the paper's.
const MOST_TOKENS_PER_PARAM: f64 = 100_000.0;

impl Config {
    /// Checks all settings.
    ///
    /// # Errors
    /// If a setting is out of range. The error names it as `--set` does.
    pub(super) fn validate(&self) -> Result<()> {
        self.check_counts()?;
        let positive = [
            ("pretraining.clip".to_string(), self.pretraining.clip),
            ("finetuning.clip".to_string(), self.finetuning.clip),
            ("pretrained.peak_lr".to_string(), self.pretrained.peak_lr),
        ];
        let rates =
            self.sizes.iter().map(|(name, size)| (format!("sizes.{name}.peak_lr"), size.peak_lr));
        for (name, value) in positive.into_iter().chain(rates) {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::setting(name, value, "must be above 0 and finite"));
            }
        }
        under("pretraining.adamw", self.pretraining.adamw.validate())?;
        under("pretraining.evaluate", self.pretraining.evaluate.validate())?;
        under("finetuning.adamw", self.finetuning.adamw.validate())?;
        under("finetuning.evaluate", self.finetuning.evaluate.validate())?;
        under("finetuning.stop", self.finetuning.stop.validate())?;
        self.check_predict()?;
        // The main one first: the others may have a bad value from it.
        let (main, others): (Vec<_>, Vec<_>) =
            self.grid.iter().partition(|(name, _)| *name == MAIN);
        let blocks = main.into_iter().chain(others);
        blocks.into_iter().try_for_each(|(name, block)| self.check_block(name, block))
    }

    fn check_predict(&self) -> Result<()> {
        let Predict { size, laws, .. } = &self.predict;
        let of_laws = self.grid.iter().filter(|(name, block)| block.laws || *name == MAIN);
        let mut sizes = of_laws.flat_map(|(_, block)| &block.sizes);
        if !size.is_empty() && !sizes.any(|of_grid| of_grid == size) {
            let requirement = "must be a size of the main grid, or empty for the largest";
            return Err(Error::setting("predict.size", size, requirement));
        }
        let refusal = |error| under("predict", Err(error));
        laws.iter().try_for_each(|name| laws::by_name(name).map(drop).or_else(refusal))
    }

    fn check_block(&self, name: &str, block: &Block) -> Result<()> {
        let at = |axis: &str| format!("grid.{name}.{axis}");
        some_and_once(&at("sizes"), &block.sizes)?;
        some_and_once(&at("p"), block.p.iter().map(|p| p.get()))?;
        some_and_once(&at("d_ft_tokens"), &block.d_ft_tokens)?;
        some_and_once(&at("seeds"), &block.seeds)?;
        some_and_once(&at("pretraining_seeds"), &block.pretraining_seeds)?;
        some_and_once(&at("lr_ratios"), block.lr_ratios.iter().map(|ratio| ratio.get()))?;
        some_and_once(&at("samplers"), block.samplers.iter().map(|kind| format!("{kind:?}")))?;
        some_and_once(&at("replay_tokens"), &block.replay_tokens)?;
        some_and_once(&at("decay"), &block.decay)?;
        some_and_once(&at("tokens_per_param"), &block.tokens_per_param)?;
        if !block.domains.is_empty() {
            some_and_once(&at("domains"), &block.domains)?;
        }
        for size in &block.sizes {
            known(&at("sizes"), size, self.sizes.keys())?;
        }
        for domain in &block.domains {
            known(&at("domains"), domain, self.domains.keys())?;
        }
        for tokens in &block.d_ft_tokens {
            self.check_tokens(&at("d_ft_tokens"), *tokens, false)?;
        }
        for &value in &block.tokens_per_param {
            if !(value > 0.0 && value <= MOST_TOKENS_PER_PARAM) {
                let requirement = format!("must be above 0 and at most {MOST_TOKENS_PER_PARAM}");
                return Err(Error::setting(at("tokens_per_param"), value, requirement));
            }
        }
        for tokens in &block.replay_tokens {
            self.check_tokens(&at("replay_tokens"), *tokens, true)?;
        }
        within(&at("steps"), block.steps, 1, 10_000_000)
    }

    fn check_tokens(&self, name: &str, tokens: u64, may_be_none: bool) -> Result<()> {
        let context = self.model.context as u64;
        let none = may_be_none && tokens == 0;
        if none || (context..=MOST_TOKENS).contains(&tokens) {
            return Ok(());
        }
        let or = if may_be_none { "0, or " } else { "" };
        let requirement = format!(
            "must be {or}at least one sequence, {context} tokens, and at most {MOST_TOKENS}"
        );
        Err(Error::setting(name, tokens, requirement))
    }

    /// Checks whole numbers: each is at least what a run needs, and small enough that every product of
    /// them, such as the tokens of a run, fits 64 bits.
    fn check_counts(&self) -> Result<()> {
        let (model, data, finetuning) = (&self.model, &self.data, &self.finetuning);
        let check = within;
        let context = model.context as u64;
        check("model.context", context, 1, 100_000)?;
        check(
            "model.vocab",
            model.vocab as u64,
            data.tokenizer_kind.min_vocab() as u64,
            1_000_000,
        )?;
        check("finetuning.batch", finetuning.batch, 1, MOST_SEQUENCES)?;
        for (name, size) in &self.sizes {
            check(&format!("sizes.{name}.batch"), size.batch, 1, MOST_SEQUENCES)?;
        }
        check("data.tokenizer_bytes", data.tokenizer_bytes, 1, MOST_TOKENS)?;
        check("data.overlap_ngram", data.overlap_ngram as u64, 1, 64)?;
        check("run.workers", self.run.workers as u64, 0, 1_000)?;
        if !(1..=1_000).contains(&self.run.threads) {
            return Err(Error::setting("run.threads", self.run.threads, "must be from 1 to 1000"));
        }
        for (name, tokens, may_be_none) in [
            ("data.validation_tokens", data.validation_tokens, false),
            ("data.pretrain_tokens", data.pretrain_tokens, false),
            ("data.injection_tokens", data.injection_tokens, true),
            ("data.test_tokens", data.test_tokens, true),
        ] {
            self.check_tokens(name, tokens, may_be_none)?;
        }
        let sequences = data.test_tokens / context;
        if data.test_tokens > 0 && sequences < 2 {
            let requirement =
                format!("must be 0 or at least two sequences, {} tokens", 2 * context);
            return Err(Error::setting("data.test_tokens", data.test_tokens, requirement));
        }
        Ok(())
    }
}

/// An error that names a setting as `--set` does, given its table.
fn under(table: &str, result: Result<()>) -> Result<()> {
    result.map_err(|error| match error {
        Error::Setting { name, value, requirement } => {
            Error::Setting { name: format!("{table}.{name}"), value, requirement }
        }
        error => error,
    })
}

/// Refuses a count outside its range.
fn within(name: &str, value: u64, least: u64, most: u64) -> Result<()> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(Error::setting(name, value, format!("must be from {least} to {most}")))
    }
}

/// Refuses a name that is not in a list.
fn known<'a>(at: &str, name: &str, names: impl Iterator<Item = &'a String>) -> Result<()> {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.contains(&name) {
        Ok(())
    } else {
        Err(Error::setting(at, name, format!("this preset has {}", names.join(", "))))
    }
}

/// Refuses a list that is empty or has a value twice.
fn some_and_once<T: PartialEq + ToString>(
    name: &str,
    values: impl IntoIterator<Item = T>,
) -> Result<()> {
    let values: Vec<T> = values.into_iter().collect();
    if values.is_empty() {
        return Err(Error::setting(name, "[]", "must have at least one value"));
    }
    match values.iter().enumerate().find(|(i, value)| values[..*i].contains(value)) {
        Some((_, twice)) => Err(Error::setting(name, twice.to_string(), "must appear only once")),
        None => Ok(()),
    }
}
