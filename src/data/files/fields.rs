//! Which part of a record is the document.

use crate::data::mask::{Passage, Supervised};
use crate::formats::json::Refusal;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::ops::Range;

/// Opens an instruction.
const OPEN: &str = "[INST]";
/// Ends it.
const CLOSE: &str = "[/INST]";

/// Which part of a record (a line of JSON, a row of Parquet) is the document. A nested field is named
/// with dots, such as `meta.pile_set_name`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fields {
    /// The field of the text.
    #[serde(default = "text")]
    pub text: String,
    /// The field that names the work; without it every record is a work.
    #[serde(default)]
    pub group: Option<String>,
    /// Which records are read; without it all are.
    #[serde(default)]
    pub filter: Option<Filter>,
    /// How a record of instructions becomes text; it replaces the field of the text.
    #[serde(default)]
    pub instructions: Option<Instructions>,
    /// Which tokens of instructions count in the loss; in other text all do.
    #[serde(default, skip_serializing_if = "Supervised::is_default")]
    pub loss: Supervised,
    /// Whether a record is skipped and counted if its text, or its list of turns, is null or missing.
    /// Otherwise such a record is an error.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip_missing: bool,
}

fn text() -> String {
    "text".into()
}

/// Records in which a field has one of some values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// The field.
    pub field: String,
    /// The values; numbers and truth values as text.
    pub values: Vec<String>,
}

/// Where the instructions and the answers of a record are. Each exchange becomes a line
/// `[INST] instruction [/INST] answer`.
///
/// If only answers count in the loss, an answer counts from after `[/INST]` to the end of its line, so
/// that a model learns where it ends. An empty answer does not count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Instructions {
    /// Fields of one exchange.
    Exchange {
        /// The fields of the instruction, joined; those after the first may be missing or empty.
        question: Vec<String>,
        /// The field of the answer.
        answer: String,
    },
    /// A list of turns. The content of a turn is a string or a list of parts, each a string or an
    /// object with a field `text`; parts are joined by line ends. A turn whose content is null, missing
    /// or an empty list (such as the call of a tool) is skipped. Parts of another kind, such as images,
    /// are an error.
    Conversation {
        /// The field of the list.
        turns: String,
        /// The field of a turn that names the speaker.
        speaker: String,
        /// The field of a turn with the content.
        words: String,
        /// The speakers whose turns are instructions, such as user and system.
        human: Vec<String>,
        /// The speakers whose turns are answers.
        model: Vec<String>,
    },
}

/// What was found in a record.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    /// A document, and the name of its group.
    Document(Passage<'static>, Option<String>),
    /// Left out by the filter, for this value.
    Other(String),
    /// Left out because it has no text.
    Missing,
}

type Record = Map<String, Value>;

impl Fields {
    /// The text in one field and, optionally, the group in another.
    pub fn plain(text: &str, group: Option<&str>) -> Self {
        let group = group.map(String::from);
        Self {
            text: text.into(),
            group,
            filter: None,
            instructions: None,
            loss: Supervised::All,
            skip_missing: false,
        }
    }

    /// Everything that determines a text apart from the names of the fields, as JSON; `None` if nothing
    /// else does.
    pub(super) fn rest(&self) -> Option<Vec<u8>> {
        let rest = (&self.filter, &self.instructions);
        let json = match (rest, self.counts_answers()) {
            ((None, None), _) => return None,
            (rest, false) => serde_json::to_vec(&rest),
            (rest, true) => serde_json::to_vec(&(rest.0, rest.1, self.loss)),
        };
        Some(json.expect("fields have string keys"))
    }

    /// Whether only answers count in the loss.
    pub fn counts_answers(&self) -> bool {
        self.instructions.is_some() && self.loss == Supervised::Answer
    }

    /// The outermost fields of a record that are needed.
    pub(super) fn outermost(&self) -> Vec<&str> {
        let mut names: Vec<&str> = match &self.instructions {
            None => vec![&self.text],
            Some(Instructions::Exchange { question, answer }) => {
                question.iter().chain([answer]).map(String::as_str).collect()
            }
            Some(Instructions::Conversation { turns, .. }) => vec![turns],
        };
        names.extend(self.group.as_deref());
        names.extend(self.filter.as_ref().map(|filter| filter.field.as_str()));
        names
    }

    /// The document in a record.
    ///
    /// # Errors
    /// In one line, if a field is missing or is not what it should be.
    pub(super) fn find(&self, record: Value) -> Result<Found, Refusal> {
        let Value::Object(record) = record else {
            return Err(format!("a JSON object is expected, but this is {}", kind(&record)).into());
        };
        if let Some(Filter { field, values }) = &self.filter {
            let value = name(field, need(&record, field)?, "a string or a number can be filtered")?;
            if !values.contains(&value) {
                return Ok(Found::Other(value));
            }
        }
        let needed: &[&str] = match &self.instructions {
            None => &[&self.text],
            Some(Instructions::Exchange { question, answer }) => {
                &[question.first().map_or(answer.as_str(), String::as_str), answer]
            }
            Some(Instructions::Conversation { turns, .. }) => &[turns],
        };
        for field in needed {
            match look_up(&record, field) {
                None | Some(Value::Null) if self.skip_missing => return Ok(Found::Missing),
                Some(Value::Null) => {
                    let what = "is null; --skip-missing leaves such records out";
                    return Err(format!("the field {field:?} {what}").into());
                }
                _ => {}
            }
        }
        let group = match &self.group {
            None => None,
            Some(field) => {
                let value = need(&record, field)?;
                Some(name(field, value, "a string or a number names a group")?)
            }
        };
        let text = match &self.instructions {
            None => {
                let text = look_up(&record, &self.text);
                let text = text.ok_or_else(|| missing_or_of_a_form(&record, &self.text))?;
                Passage::plain(string(&self.text, text)?.to_string())
            }
            Some(instructions) => {
                let (text, answers) = instructions.render(&record)?;
                let counted = self.counts_answers().then(|| answers.into());
                Passage { text: text.into(), counted }
            }
        };
        Ok(Found::Document(text, group))
    }
}

impl Instructions {
    /// The names of [`form`](Self::form)s.
    pub const FORMS: [&str; 3] = ["messages", "conversations", "alpaca"];

    /// A common format of instruction data: `messages` with `role` and `content`, the usual format of
    /// chats; `conversations` with `from` and `value` (ShareGPT); or `alpaca` with `instruction`,
    /// `input` and `output`. `None` for another name.
    pub fn form(name: &str) -> Option<Self> {
        let all = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        let conversation = |turns: &str, speaker: &str, words: &str, human, model| {
            let (turns, speaker, words) = (turns.into(), speaker.into(), words.into());
            Self::Conversation { turns, speaker, words, human: all(human), model: all(model) }
        };
        Some(match name {
            "messages" => conversation(
                "messages",
                "role",
                "content",
                &["system", "developer", "user", "tool", "function"],
                &["assistant"],
            ),
            "conversations" => conversation(
                "conversations",
                "from",
                "value",
                &["system", "human", "user", "tool", "function_response", "observation"],
                &["gpt", "assistant", "chatgpt", "model", "function_call"],
            ),
            "alpaca" => {
                Self::Exchange { question: all(&["instruction", "input"]), answer: "output".into() }
            }
            _ => return None,
        })
    }

    /// The text, and the bytes of the answers in it.
    fn render(&self, record: &Record) -> Result<(String, Vec<Range<usize>>), Refusal> {
        let (mut text, mut answers) = (String::new(), Vec::new());
        let mut exchange = |question: &str, answer: &str| {
            text.push_str(&format!("{OPEN} {} {CLOSE}", question.trim()));
            let (start, answer) = (text.len(), answer.trim());
            text.push_str(&format!(" {answer}\n"));
            if !answer.is_empty() {
                answers.push(start..text.len());
            }
        };
        match self {
            Self::Exchange { question, answer } => {
                let mut asked = String::new();
                for (i, field) in question.iter().enumerate() {
                    let part = match look_up(record, field) {
                        None | Some(Value::Null) if i > 0 => continue,
                        None => return Err(missing(record, field)),
                        Some(value) => string(field, value)?.trim(),
                    };
                    if !asked.is_empty() && !part.is_empty() {
                        asked.push('\n');
                    }
                    asked.push_str(part);
                }
                exchange(&asked, string(answer, need(record, answer)?)?);
            }
            Self::Conversation { turns, speaker, words, human, model } => {
                let list = look_up(record, turns);
                let list = list.ok_or_else(|| missing_or_of_a_form(record, turns))?;
                let list = match list {
                    Value::Array(list) => list,
                    other => {
                        let what = format!("the field {turns:?} is {}, not a list", kind(other));
                        return Err(what.into());
                    }
                };
                let mut asked = String::new();
                for turn in list {
                    let Value::Object(turn) = turn else {
                        return Err(format!("a turn in {turns:?} is {}", kind(turn)).into());
                    };
                    let who = need(turn, speaker).map_err(|why| {
                        format!(
                            "in a turn in {turns:?}: {}; an entry of a --registry can name others",
                            why.reason
                        )
                    })?;
                    let who = string(speaker, who)?;
                    let Some(what) = said(words, look_up(turn, words))? else { continue };
                    let what = what.trim();
                    if human.iter().any(|name| name == who) {
                        if !asked.is_empty() {
                            asked.push('\n');
                        }
                        asked.push_str(what);
                    } else if !model.iter().any(|name| name == who) {
                        let known = human.iter().chain(model).cloned().collect::<Vec<_>>();
                        let known = known.join(", ");
                        let advice = knows(turns, who);
                        return Err(format!(
                            "{who:?} speaks in {turns:?}; known are {known}{advice}"
                        )
                        .into());
                    } else if !asked.is_empty() {
                        // An answer to nothing is left out.
                        exchange(&asked, what);
                        asked.clear();
                    }
                }
            }
        }
        Ok((text, answers))
    }
}

/// The value at a path. A key that itself contains the dots takes precedence.
fn look_up<'a>(record: &'a Record, path: &str) -> Option<&'a Value> {
    record.get(path).or_else(|| {
        path.match_indices('.').find_map(|(dot, _)| match record.get(&path[..dot]) {
            Some(Value::Object(inner)) => look_up(inner, &path[dot + 1..]),
            _ => None,
        })
    })
}

fn need<'a>(record: &'a Record, path: &str) -> Result<&'a Value, Refusal> {
    look_up(record, path).ok_or_else(|| missing(record, path))
}

fn missing(record: &Record, path: &str) -> Refusal {
    let reason = no_field(path, record.keys().map(String::as_str));
    Refusal { reason, may_hold_records: true }
}

/// The same, with advice if the record has a common [form](Instructions::form).
fn missing_or_of_a_form(record: &Record, path: &str) -> Refusal {
    let (Refusal { reason, .. }, advice) = (missing(record, path), form_of(record));
    Refusal { reason: reason + advice, may_hold_records: advice.is_empty() }
}

/// Refuses the value of a field.
fn refuse(field: &str, value: &Value, requirement: &str) -> Refusal {
    let reason = format!("the field {field:?} is {}; {requirement}", kind(value));
    Refusal { reason, may_hold_records: value.is_object() }
}

/// Says that a field is not among some.
pub(super) fn no_field<'a>(path: &str, names: impl Iterator<Item = &'a str>) -> String {
    let found: Vec<String> = names.take(8).map(|key| format!("{key:?}")).collect();
    let found = if found.is_empty() { "none".into() } else { found.join(", ") };
    format!("no field {path:?}; the fields found are: {found}")
}

/// The advice for a record without text that has a common [form](Instructions::form).
fn form_of(record: &Record) -> &'static str {
    let has = |name: &str| record.contains_key(name);
    match () {
        () if has("messages") => "; --like messages reads such records",
        () if has("conversations") => "; --like conversations reads such records",
        () if has("instruction") && has("output") => "; --like alpaca reads such records",
        () => "",
    }
}

/// The advice for a speaker that a common [form](Instructions::form) knows.
fn knows(field: &str, who: &str) -> String {
    let known = |name: &&str| match Instructions::form(name) {
        Some(Instructions::Conversation { turns, human, model, .. }) => {
            turns == field && human.iter().chain(&model).any(|known| known == who)
        }
        _ => false,
    };
    let form = Instructions::FORMS.into_iter().find(known);
    form.map(|name| format!("; --like {name} knows {who:?}")).unwrap_or_default()
}

/// The content of a turn; `None` if it has none.
fn said<'a>(field: &str, value: Option<&'a Value>) -> Result<Option<Cow<'a, str>>, Refusal> {
    let parts = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(parts)) => parts,
        Some(value) => return string(field, value).map(|text| Some(text.into())),
    };
    let mut texts = Vec::new();
    for part in parts {
        match part {
            Value::Null => {}
            Value::String(text) => texts.push(text.as_str()),
            Value::Object(part) => match (part.get("text"), part.get("type")) {
                (Some(Value::String(text)), _) => texts.push(text),
                (Some(Value::Null), _) => {}
                (_, Some(Value::String(kind))) => {
                    let what = format!("{field:?} has a part of type {kind:?}; only text is read");
                    return Err(what.into());
                }
                _ => return Err(format!("{field:?} has a part without text").into()),
            },
            other => return Err(format!("{field:?} has a part that is {}", kind(other)).into()),
        }
    }
    Ok((!texts.is_empty()).then(|| texts.join("\n").into()))
}

fn string<'a>(field: &str, value: &'a Value) -> Result<&'a str, Refusal> {
    value.as_str().ok_or_else(|| refuse(field, value, "text is a string"))
}

fn name(field: &str, value: &Value, requirement: &str) -> Result<String, Refusal> {
    match value {
        Value::String(name) => Ok(name.clone()),
        Value::Number(name) => Ok(name.to_string()),
        other => Err(refuse(field, other, requirement)),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(text: &str) -> Result<Found, Refusal> {
        Ok(Found::Document(Passage::plain(text.to_string()), None))
    }

    /// Why a record has no document.
    fn refused(fields: &Fields, record: Value) -> String {
        fields.find(record).unwrap_err().reason
    }

    #[test]
    fn fields_lie_within_others() {
        let mut fields = Fields::plain("a.text", Some("meta.id"));
        fields.filter = Some(Filter { field: "meta.set".into(), values: vec!["Github".into()] });
        let record = |set: &str| json!({"a": {"text": "x"}, "meta": {"set": set, "id": 7}});
        let found = Found::Document(Passage::plain("x"), Some("7".into()));
        assert_eq!(fields.find(record("Github")), Ok(found));
        assert_eq!(fields.find(record("ArXiv")), Ok(Found::Other("ArXiv".into())));
        let none = refused(&fields, json!({"a": {"text": "x"}, "meta": "Github"}));
        assert_eq!(none, "no field \"meta.set\"; the fields found are: \"a\", \"meta\"");
        // A key with dots is one, too.
        let dotted = Fields::plain("a.b.c", None);
        assert_eq!(dotted.find(json!({"a.b": {"c": "x"}})), document("x"));
        assert_eq!(dotted.find(json!({"a.b.c": "x", "a": 1})), document("x"));
        assert_eq!(fields.outermost(), ["a.text", "meta.id", "meta.set"]);
    }

    fn with(instructions: Instructions) -> Fields {
        Fields { instructions: Some(instructions), ..Fields::plain("text", None) }
    }

    #[test]
    fn exchanges_are_lines() {
        let fields = with(Instructions::Exchange {
            question: vec!["instruction".into(), "input".into()],
            answer: "output".into(),
        });
        let found = fields.find(json!({"instruction": " Add. ", "input": "1 2", "output": "3\n"}));
        assert_eq!(found, document("[INST] Add.\n1 2 [/INST] 3\n"));
        for input in [json!(""), json!(null)] {
            let record = json!({"instruction": "Add.", "input": input, "output": "3"});
            assert_eq!(fields.find(record), document("[INST] Add. [/INST] 3\n"));
        }
        let found = refused(&fields, json!({"input": "1 2", "output": "3"}));
        assert!(found.contains("no field \"instruction\""));
        assert!(refused(&fields, json!({"instruction": "Add."})).contains("\"output\""));
    }

    /// What counts of the texts, in parts.
    fn answers(fields: &Fields, record: Value) -> Option<Vec<String>> {
        let Found::Document(passage, _) = fields.find(record).unwrap() else { panic!() };
        let text = |range: &Range<usize>| passage.text[range.clone()].to_string();
        passage.counted.as_ref().map(|counted| counted.iter().map(text).collect())
    }

    #[test]
    fn answers_count_with_the_end_of_their_lines() {
        let fields = Fields {
            loss: Supervised::Answer,
            ..with(Instructions::Conversation {
                turns: "turns".into(),
                speaker: "who".into(),
                words: "what".into(),
                human: vec!["human".into()],
                model: vec!["gpt".into()],
            })
        };
        let record = |turns: &[(&str, &str)]| {
            let turns = turns.iter().map(|(who, what)| json!({"who": who, "what": what}));
            json!({ "turns": turns.collect::<Vec<_>>() })
        };
        let two = [("human", "Hi"), ("gpt", " Ho\nHo "), ("human", "1+1?"), ("gpt", "2")];
        assert_eq!(answers(&fields, record(&two)), Some(vec![" Ho\nHo\n".into(), " 2\n".into()]));
        // The markers in words are words: what counts does not hang on them.
        let sly = [("human", "Say [/INST] x"), ("gpt", "[INST] y [/INST] z")];
        assert_eq!(answers(&fields, record(&sly)), Some(vec![" [INST] y [/INST] z\n".into()]));
        let silent = [("human", "Hi"), ("gpt", " \n"), ("human", "So?"), ("gpt", "Yes.")];
        assert_eq!(answers(&fields, record(&silent)), Some(vec![" Yes.\n".into()]));
        assert_eq!(answers(&fields, record(&silent[..2])), Some(Vec::new()));
        // All counts: the same text without a mask.
        let all = Fields { loss: Supervised::All, ..fields.clone() };
        assert_eq!(answers(&all, record(&two)), None);
        let text = |fields: &Fields| match fields.find(record(&two)).unwrap() {
            Found::Document(passage, _) => passage.text,
            other => panic!("{other:?}"),
        };
        assert_eq!(text(&all), text(&fields));
        // Text in a field counts everywhere.
        let plain = Fields { loss: Supervised::Answer, ..Fields::plain("text", None) };
        assert_eq!(answers(&plain, json!({"text": "[INST] a [/INST] b"})), None);
        assert_eq!(plain.rest(), None);
        assert_ne!(fields.rest(), all.rest());
    }

    #[test]
    fn conversations_are_exchanges() {
        let fields = with(Instructions::Conversation {
            turns: "conversations".into(),
            speaker: "from".into(),
            words: "value".into(),
            human: vec!["system".into(), "human".into()],
            model: vec!["gpt".into()],
        });
        let turns = |turns: &[(&str, &str)]| {
            let turns = turns.iter().map(|(from, value)| json!({"from": from, "value": value}));
            fields.find(json!({"conversations": turns.collect::<Vec<_>>()}))
        };
        let both = [("system", "Be brief."), ("human", "Hi"), ("gpt", "Hello"), ("human", "1+1?")];
        let first = "[INST] Be brief.\nHi [/INST] Hello\n";
        assert_eq!(turns(&both), document(first));
        let more = [&both[..], &[("gpt", "2")]].concat();
        assert_eq!(turns(&more), document(&format!("{first}[INST] 1+1? [/INST] 2\n")));
        assert_eq!(turns(&[("gpt", "Hello")]), document(""));
        let error = turns(&[("narrator", "x")]).unwrap_err().reason;
        let expected = "\"narrator\" speaks in \"conversations\"; known are system, human, gpt";
        assert_eq!(error, expected);
        let error = turns(&[("chatgpt", "x")]).unwrap_err().reason;
        assert!(error.ends_with("gpt; --like conversations knows \"chatgpt\""), "{error}");
        let error = refused(&fields, json!({"messages": []}));
        assert!(error.ends_with("\"messages\"; --like messages reads such records"), "{error}");
        let error = refused(&fields, json!({"conversations": "x"}));
        assert_eq!(error, "the field \"conversations\" is a string, not a list");
        assert!(refused(&fields, json!({"conversations": [1]})).contains("a number"));
        let error = refused(&fields, json!({"conversations": [{"role": "user"}]}));
        let expected = "in a turn in \"conversations\": no field \"from\"; the fields found are: \"role\"; \
                        an entry of a --registry can name others";
        assert_eq!(error, expected);
    }

    #[test]
    fn chats_of_published_forms_become_lines() {
        let form = |name| with(Instructions::form(name).unwrap());
        let messages = json!({"messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Name"}, "a river."]},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "c1"}]},
            {"role": "tool", "tool_call_id": "c1", "content": "Elbe"},
            {"role": "assistant", "content": "The Elbe."},
            {"role": "user", "content": []},
            {"role": "user"},
        ]});
        let text = "[INST] Be brief.\nName\na river.\nElbe [/INST] The Elbe.\n";
        assert_eq!(form("messages").find(messages), document(text));
        let sharegpt = |who: &str| json!({"conversations": [{"from": "user", "value": "1+1?"}, {"from": who, "value": "2"}]});
        for who in ["gpt", "chatgpt", "assistant"] {
            let found = form("conversations").find(sharegpt(who));
            assert_eq!(found, document("[INST] 1+1? [/INST] 2\n"));
        }
        let error = refused(&form("conversations"), sharegpt("narrator"));
        assert!(error.starts_with("\"narrator\" speaks in \"conversations\""), "{error}");
        let alpaca = json!({"instruction": "Add 1.", "output": "2"});
        assert_eq!(form("alpaca").find(alpaca.clone()), document("[INST] Add 1. [/INST] 2\n"));
        let said = |content: Value| {
            let turns = [json!({"role": "user", "content": content})];
            refused(&form("messages"), json!({ "messages": turns }))
        };
        let image = json!([{"type": "image_url", "image_url": "a.png"}]);
        assert!(said(image).contains("a part of type \"image_url\""));
        assert!(said(json!([7])).contains("a part that is a number"));
        assert!(said(json!({"text": "a"})).contains("is an object"));
        assert!(Instructions::FORMS.iter().all(|name| Instructions::form(name).is_some()));
        assert_eq!(Instructions::form("text"), None);
        // Who asks for a text field is told of the form.
        let plain = |record: Value| refused(&Fields::plain("text", None), record);
        assert!(plain(json!({"messages": null})).ends_with("--like messages reads such records"));
        assert!(plain(alpaca).ends_with("--like alpaca reads such records"));
    }

    /// What [`records`](crate::formats::json::records) looks into: an object that lacks the field, or has
    /// an object in its place, but has no form that is known.
    #[test]
    fn an_object_without_the_text_may_hold_the_records() {
        let plain = Fields::plain("text", None);
        for (record, may_hold_records) in [
            (json!({"data": []}), true),
            (json!({"text": {"0": "a"}}), true),
            (json!({"text": ["a"]}), false),
            (json!({"messages": []}), false),
            (json!("text"), false),
        ] {
            let refusal = plain.find(record.clone()).unwrap_err();
            assert_eq!(refusal.may_hold_records, may_hold_records, "{record}");
        }
    }

    #[test]
    fn records_that_lack_what_is_asked_for_can_be_skipped() {
        let skip = |fields: Fields| Fields { skip_missing: true, ..fields };
        for record in [json!({"text": null}), json!({"id": 1})] {
            assert_eq!(skip(Fields::plain("text", None)).find(record.clone()), Ok(Found::Missing));
            assert!(Fields::plain("text", None).find(record).is_err());
        }
        let turns = skip(with(Instructions::form("messages").unwrap()));
        assert_eq!(turns.find(json!({"messages": null})), Ok(Found::Missing));
        let exchange = skip(with(Instructions::form("alpaca").unwrap()));
        let silent = json!({"instruction": "Add.", "output": null});
        assert_eq!(exchange.find(silent), Ok(Found::Missing));
        // Text of another kind is refused all the same.
        assert!(skip(Fields::plain("text", None)).find(json!({"text": 7})).is_err());
    }
}
