//! How records become documents, as the commands that read text are told.

use super::registry::registry;
use clap::Args;
use forgetting_laws::data::files::{Fields, Instructions};
use forgetting_laws::data::mask::Loss;
use forgetting_laws::{Error, Result};
use std::path::{Path, PathBuf};

/// The form of records, and what of them counts.
#[derive(Args)]
pub struct Records {
    /// Reads records as those of a form (messages, conversations, alpaca) or of a data set, as
    /// openhermes-2.5 (replication data list): its text, its filter, its instructions.
    #[arg(long, value_name = "NAME")]
    like: Option<String>,
    /// Leaves records out whose text is null or missing, and says how many.
    #[arg(long)]
    pub skip_missing: bool,
    /// What of instructions counts in the loss: all or answer; plain text counts everywhere.
    #[arg(long, value_name = "WHAT", default_value = "all", value_parser = loss)]
    pub loss: Loss,
    /// A file with further data sets.
    #[arg(long, value_name = "FILE")]
    pub registry: Option<PathBuf>,
}

/// What counts, by its name.
fn loss(name: &str) -> std::result::Result<Loss, String> {
    let names = || Loss::ALL.map(Loss::name).join(" or ");
    let of_name = Loss::ALL.into_iter().find(|loss| loss.name() == name);
    of_name.ok_or_else(|| format!("must be {}", names()))
}

impl Records {
    /// What of a record is the document, for files with the text in `text` unless they are like
    /// those of a data set.
    ///
    /// # Errors
    /// If there is no such data set, or answers are to count where there are none.
    pub fn fields(&self, text: &str, group: Option<&str>) -> Result<Fields> {
        let fields = fields(self.like.as_deref(), self.registry.as_deref(), text, group)?;
        let fields = counting(fields, self.loss);
        let fields = Fields { skip_missing: self.skip_missing, ..fields };
        if self.loss == Loss::Answer && !fields.counts_answers() {
            let requirement = "the records are not instructions; --like NAME names their format";
            return Err(Error::setting("--loss", self.loss.name(), requirement));
        }
        Ok(fields)
    }
}

/// The fields of the records of a form or a data set, or of records with the text in one field.
///
/// # Errors
/// If there is no such form or data set.
pub fn fields(
    like: Option<&str>,
    table: Option<&Path>,
    text: &str,
    group: Option<&str>,
) -> Result<Fields> {
    let Some(like) = like else { return Ok(Fields::plain(text, group)) };
    if let Some(instructions) = Instructions::form(like) {
        return Ok(Fields { instructions: Some(instructions), ..Fields::plain(text, group) });
    }
    let dataset = registry(table)?.find(like).map_err(|error| match error {
        Error::Setting { name, value, requirement } => {
            let forms = Instructions::FORMS.join(", ");
            Error::Setting {
                name,
                value,
                requirement: format!("{requirement}; or a form: {forms}"),
            }
        }
        error => error,
    });
    let fields = dataset?.fields;
    let group = group.map(String::from).or(fields.group);
    Ok(Fields { group, ..fields })
}

/// The same where a setting may ask for answers alone.
pub fn counting(fields: Fields, loss: Loss) -> Fields {
    match loss {
        Loss::All => fields,
        Loss::Answer => Fields { loss, ..fields },
    }
}
