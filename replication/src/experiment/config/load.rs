//! Loads settings: a preset in TOML, overridden by `--set key=value`.

use super::{Config, PRESETS};
use crate::blocks::MAIN;
use forgetting_laws::{Error, Result};
use toml::{Table, Value};

impl Config {
    /// A preset, overridden by settings of the form `key=value`, where the key's tables are joined by
    /// dots.
    ///
    /// # Errors
    /// If the preset or a key does not exist, or a value is invalid.
    pub fn load(preset: &str, overrides: &[String]) -> Result<Self> {
        let (_, texts) = PRESETS.iter().find(|(name, _)| *name == preset).ok_or_else(|| {
            let names: Vec<_> = PRESETS.iter().map(|(name, _)| *name).collect();
            Error::setting("preset", preset, format!("must be one of {}", names.join(", ")))
        })?;
        let mut table = Table::new();
        for text in *texts {
            lay_over(&mut table, text.parse().expect("the presets are tested"));
        }
        let given = overrides.iter().filter_map(|setting| setting.split_once('='));
        own_what_is_set(&mut table, given.map(|(key, _)| key.trim()));
        for setting in overrides {
            let (key, value) = setting.split_once('=').ok_or_else(|| {
                Error::setting("--set", setting, "must be key=value, such as seed=7")
            })?;
            let (key, value) = (key.trim(), value.trim());
            set(&mut table, key, value)?;
            // One by one, so that a refusal names its setting.
            Self::from_table(&table).map_err(|why| Error::setting(key, value, why))?;
        }
        let config = Self::from_table(&table).expect("the presets are tested");
        config.validate()?;
        Ok(config)
    }

    fn from_table(table: &Table) -> std::result::Result<Self, String> {
        // The lines after the first say where in the table, which the caller says better.
        let first = |error: toml::de::Error| error.to_string().lines().next().map(String::from);
        let whole = Value::Table(with_what_blocks_leave_out(table));
        whole.try_into().map_err(|error| first(error).unwrap_or_default())
    }
}

/// Overrides a table with another, table by table; the domains are only those of the second.
fn lay_over(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(value)) if key != "domains" => {
                lay_over(inner, value)
            }
            (_, value) => drop(below.insert(key, value)),
        }
    }
}

/// Gives a block its own value for a key that it inherits from the main block.
fn own_what_is_set<'a>(table: &mut Table, keys: impl Iterator<Item = &'a str>) {
    for key in keys {
        let Some((block, axis)) = key.strip_prefix("grid.").and_then(|k| k.split_once('.')) else {
            continue;
        };
        let Some(grid) = table.get_mut("grid").and_then(Value::as_table_mut) else { continue };
        let of_main = grid.get(MAIN).and_then(|main| main.get(axis)).cloned();
        if let (Some(value), Some(Value::Table(block))) = (of_main, grid.get_mut(block)) {
            block.entry(axis).or_insert(value);
        }
    }
}

/// The table with all inherited values written out in every block.
fn with_what_blocks_leave_out(table: &Table) -> Table {
    let mut table = table.clone();
    let Some(grid) = table.get_mut("grid").and_then(Value::as_table_mut) else { return table };
    let Some(Value::Table(main)) = grid.get(MAIN).cloned() else { return table };
    for (_, block) in grid.iter_mut() {
        let Value::Table(block) = block else { continue };
        for (axis, value) in &main {
            block.entry(axis).or_insert_with(|| value.clone());
        }
    }
    table
}

/// Sets a key of a table to a value written as in TOML; quotes around strings may be omitted.
fn set(table: &mut Table, key: &str, text: &str) -> Result<()> {
    let all_keys = keys_of(table, "");
    if !all_keys.iter().any(|known| known == key) {
        return Err(unknown(table, &all_keys, key, text));
    }
    let mut parts = key.split('.');
    let first = parts.next().and_then(|first| table.get_mut(first));
    let slot = parts.try_fold(first.expect("a key that is known"), |slot, part| slot.get_mut(part));
    let slot = slot.expect("a key that is known");
    let value = match (toml_value(text), &*slot) {
        (Some(Value::Integer(number)), Value::Float(_)) => Value::Float(number as f64),
        (Some(Value::Float(number)), Value::Integer(_)) if number.fract() == 0.0 => {
            Value::Integer(number as i64)
        }
        (Some(single), Value::Array(_)) if !single.is_array() => Value::Array(vec![single]),
        (Some(value), _) => value,
        // Elements without brackets, strings without quotes.
        (None, Value::Array(_)) => {
            let element = |part| toml_value(part).unwrap_or_else(|| Value::String(part.into()));
            Value::Array(text.split(',').map(str::trim).map(element).collect())
        }
        (None, _) => Value::String(text.into()),
    };
    if std::mem::discriminant(&value) != std::mem::discriminant(slot) {
        let expected = slot.type_str();
        return Err(Error::setting(
            key,
            text,
            format!("must be of type {expected}, such as {slot}"),
        ));
    }
    *slot = value;
    Ok(())
}

/// Why a key cannot be set, with the keys that may be meant: those below it or with the same ending, or
/// else the nearest. If the value fits none of them, the error says that too.
fn unknown(table: &Table, all_keys: &[String], key: &str, text: &str) -> Error {
    const NAMED: usize = 6;
    let ends_alike = |known: &&String| {
        known.starts_with(&format!("{key}.")) || known.ends_with(&format!(".{key}"))
    };
    let alike: Vec<&String> = all_keys.iter().filter(ends_alike).collect();
    let nearest = || all_keys.iter().min_by_key(|known| strsim::damerau_levenshtein(known, key));
    let names = alike.iter().take(NAMED).map(|known| known.as_str()).collect::<Vec<_>>().join(", ");
    let hint = match (alike.as_slice(), nearest()) {
        ([], None) => String::new(),
        ([], Some(nearest)) => format!("; the nearest is {nearest}"),
        ([only], _) => format!("; there is {only}"),
        (many, _) if many.len() > NAMED => {
            format!("; there are {names} and {} more", many.len() - NAMED)
        }
        _ => format!("; there are {names}"),
    };
    let refused = alike.iter().map(|known| {
        let mut trial = table.clone();
        set(&mut trial, known, text).map_err(|error| error.to_string())?;
        Config::from_table(&trial).map_err(|why| format!("{known} = {text}: {why}"))
    });
    let refused: Option<Vec<String>> = refused.map(Result::err).collect();
    let value = refused.and_then(|refused| Some(format!(" ({})", refused.first()?)));
    let value = value.unwrap_or_default();
    Error::setting("--set", key, format!("no such setting{hint}{value}"))
}

/// A value written as in TOML; `None` if it is not TOML.
fn toml_value(text: &str) -> Option<Value> {
    format!("value = {text}").parse::<Table>().ok()?.remove("value")
}

/// The keys of all settings below a table, with dots.
fn keys_of(table: &Table, prefix: &str) -> Vec<String> {
    let below = table.iter().flat_map(|(name, value)| match value {
        Value::Table(inner) => keys_of(inner, &format!("{prefix}{name}.")),
        _ => vec![format!("{prefix}{name}")],
    });
    below.collect()
}
