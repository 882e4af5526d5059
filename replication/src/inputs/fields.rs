//! Options for how records become documents, for the commands that read text.

use super::registry::registry;
use clap::Args;
use forgetting_laws::data::files::{Fields, Instructions};
use forgetting_laws::data::mask::Supervised;
use forgetting_laws::{Error, Result};
use std::path::{Path, PathBuf};

/// The format of records, and which tokens count.
#[derive(Args)]
pub struct Records {
    /// Reads records in a common format (messages, conversations, alpaca) or as those of a data set,
    /// such as openhermes-2.5 (see replication data list): with its text field, filter and instructions.
    #[arg(long, value_name = "NAME")]
    like: Option<String>,
    /// Skips records whose text is null or missing, and reports how many.
    #[arg(long)]
    pub skip_missing: bool,
    /// Which tokens of instructions count in the loss: all or answer; in plain text all count.
    #[arg(long, value_name = "WHAT", default_value = "all", value_parser = loss)]
    pub loss: Supervised,
    /// A file with further data sets.
    #[arg(long, value_name = "FILE")]
    pub registry: Option<PathBuf>,
}

/// Which tokens count, by name.
fn loss(name: &str) -> std::result::Result<Supervised, String> {
    let names = || Supervised::ALL.map(Supervised::name).join(" or ");
    let of_name = Supervised::ALL.into_iter().find(|loss| loss.name() == name);
    of_name.ok_or_else(|| format!("must be {}", names()))
}

impl Records {
    /// Which part of a record is the document: the field `text`, unless the records have the format of
    /// a data set.
    ///
    /// # Errors
    /// If there is no such data set, or only answers count but there are none.
    pub fn fields(&self, text: &str, group: Option<&str>) -> Result<Fields> {
        let fields = fields(self.like.as_deref(), self.registry.as_deref(), text, group)?;
        let fields = counting(fields, self.loss);
        let fields = Fields { skip_missing: self.skip_missing, ..fields };
        if self.loss == Supervised::Answer && !fields.counts_answers() {
            let requirement = "the records are not instructions; --like NAME names their format";
            return Err(Error::setting("--loss", self.loss.name(), requirement));
        }
        Ok(fields)
    }
}

/// The fields of records in a format or in that of a data set, or of records with the text in one
/// field.
///
/// # Errors
/// If there is no such format or data set.
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
                requirement: format!("{requirement}; or a format: {forms}"),
            }
        }
        error => error,
    });
    let fields = dataset?.fields;
    let group = group.map(String::from).or(fields.group);
    Ok(Fields { group, ..fields })
}

/// The fields with the setting of which tokens count in the loss.
pub fn counting(fields: Fields, loss: Supervised) -> Fields {
    match loss {
        Supervised::All => fields,
        Supervised::Answer => Fields { loss, ..fields },
    }
}
