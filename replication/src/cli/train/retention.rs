//! `replication retention`: how much of a text a model has forgotten in finetuning.

use super::session::check_folder;
use crate::experiment::compute::ComputeOptions;
use crate::experiment::reader::{AT_A_TIME, Reader};
use crate::format::{Csv, Table, cell, counted};
use crate::inputs::fields::Records;
use crate::inputs::files::read;
use crate::terminal::print;
use clap::Args;
use forgetting_laws::data::Source;
use forgetting_laws::data::files::Files;
use forgetting_laws::data::mask::Encoded;
use forgetting_laws::engine;
use forgetting_laws::loss::{Loss, Measured};
use forgetting_laws::store::{to_json, write_atomic};
use forgetting_laws::{Error, Result};
use plot::{Axis, Color, Direction, Figure, Glyph, Interval, Mark, Panel, Place, Rule, Stroke};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Two models and a text.
#[derive(Args)]
pub struct RetentionOptions {
    /// The model before finetuning: a folder with config.json, model.safetensors and
    /// tokenizer.json, or hub:OWNER/NAME.
    pub base: PathBuf,
    /// The model after finetuning.
    pub finetuned: PathBuf,
    /// Text like that which should not be forgotten: .txt or .jsonl files, plain, .gz or .zst, or
    /// folders of them.
    #[arg(long, num_args = 1.., required = true, value_name = "FILE")]
    pub data: Vec<PathBuf>,
    /// Field of .jsonl files that holds the text.
    #[arg(long, default_value = "text", value_name = "FIELD")]
    pub text_field: String,
    /// Field of .jsonl files that names the slice of a document.
    #[arg(long, value_name = "FIELD")]
    pub by: Option<String>,
    #[command(flatten)]
    pub records: Records,
    /// Reads only this many documents, the first ones.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub documents: Option<u64>,
    /// Tokens per window [default: as many as both models can read].
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u64).range(1..))]
    pub context: Option<u64>,
    /// The end-of-text token, by name or number [default: the one that the model's files name].
    #[arg(long, value_name = "TOKEN")]
    pub end_of_text: Option<String>,
    /// The folder for retention.json, documents.csv, slices.csv and the figure.
    #[arg(long, default_value = "out/retention", value_name = "DIR")]
    pub out: PathBuf,
    #[command(flatten)]
    pub compute: ComputeOptions,
}

/// The share of documents that are beyond their own interval on one side by chance.
const BY_CHANCE: f64 = 0.025;

/// What is written as JSON. Losses are means over supervised tokens, in nats per token.
#[derive(Serialize)]
struct Retention {
    /// SHA-256 of the shape and parameters of either model, of the tokenizer and of the text.
    base: String,
    finetuned: String,
    tokenizer: String,
    data: String,
    /// Input tokens per window, the same for both models.
    context: usize,
    whole: Change,
    /// One entry per value of the requested field.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    slices: BTreeMap<String, Change>,
    /// One entry per document with a token to predict, in order.
    documents: Vec<Document>,
}

/// How the loss of some documents changed.
#[derive(Serialize)]
struct Change {
    documents: usize,
    tokens: u64,
    loss_base: f64,
    loss_finetuned: f64,
    /// The increase of the loss in nats per token, with its standard error over documents.
    increase: Measured,
    /// The 95% interval; none for one document.
    interval: Option<[f64; 2]>,
    /// The numbers of documents whose own 95% interval is above 0, and below 0.
    rose: usize,
    fell: usize,
}

/// How the loss of one document changed.
#[derive(Clone, Serialize)]
struct Document {
    /// Its index among the documents, from 0.
    document: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    slice: Option<String>,
    tokens: u64,
    loss_base: f64,
    loss_finetuned: f64,
    /// Its standard error, with the differences at tokens treated as independent; none for one
    /// token.
    increase: Measured,
    /// The 95% interval; none for one token.
    interval: Option<[f64; 2]>,
    begins_with: String,
}

/// The 95% interval around a mean over so many parts, if there is one.
fn interval(mean: Measured, parts: u64) -> Option<[f64; 2]> {
    let margin = mean.margin(parts);
    margin.is_finite().then_some([mean.value - margin, mean.value + margin])
}

impl Document {
    /// −1, 0 or 1: whether the loss fell or rose by more than the 95% interval.
    fn sign(&self) -> i32 {
        match self.interval {
            Some([low, _]) if low > 0.0 => 1,
            Some([_, high]) if high < 0.0 => -1,
            _ => 0,
        }
    }

    /// By how much the loss rose at least.
    fn least(&self) -> f64 {
        self.interval.map_or(f64::NEG_INFINITY, |[low, _]| low)
    }

    fn loss(&self, mean: f64) -> Loss {
        Loss { nats: mean * self.tokens as f64, tokens: self.tokens }
    }
}

impl Change {
    fn of<'a>(documents: impl Iterator<Item = &'a Document>) -> Self {
        let documents: Vec<&Document> = documents.collect();
        let of = |loss: fn(&Document) -> f64| -> Vec<Loss> {
            documents.iter().map(|document| document.loss(loss(document))).collect()
        };
        let whole = |losses: Vec<Loss>| losses.into_iter().sum::<Loss>();
        let count = |sign| documents.iter().filter(|document| document.sign() == sign).count();
        let increase = Measured::mean(&of(|document| document.increase.value));
        Self {
            documents: documents.len(),
            tokens: documents.iter().map(|document| document.tokens).sum(),
            loss_base: whole(of(|document| document.loss_base)).mean(),
            loss_finetuned: whole(of(|document| document.loss_finetuned)).mean(),
            increase,
            interval: interval(increase, documents.len() as u64),
            rose: count(1),
            fell: count(-1),
        }
    }
}

/// `retention`: how much the loss on a text increased from one model to another, in which documents,
/// and whether beyond noise.
///
/// # Errors
/// If a model or a file is refused, the models have different tokenizers, or there is nothing to
/// predict.
pub fn retention(options: &RetentionOptions) -> Result<()> {
    let fields = options.records.fields(&options.text_field, options.by.as_deref())?;
    let files = read(&options.data, &fields)?;
    let count = files.len().unwrap_or(0);
    let count = options.documents.map_or(count, |most| most.min(count));
    if let Some(field) = &options.by
        && let Some(plain) = (0..count).find(|&i| files.work(i).is_none())
    {
        let requirement = format!(
            "names a field of records, and document {plain} is of plain text, without fields"
        );
        return Err(Error::setting("--by", field, requirement));
    }
    let open = |model: &Path| Reader::open(model, &options.compute, options.end_of_text.as_deref());
    let mut base = open(&options.base)?;
    let (base_context, tokenizer) = (base.model.shape().context, base.tokenizer.hash());
    // The second is known to fit before the first has read, and does not lie in memory beside it.
    let shape = {
        let finetuned = open(&options.finetuned)?;
        if finetuned.tokenizer.hash() != tokenizer {
            let requirement = format!(
                "must have the tokenizer of {}: losses per token of different tokenizers cannot be \
                 compared",
                options.base.display()
            );
            return Err(Error::setting(
                "the finetuned model",
                options.finetuned.display(),
                requirement,
            ));
        }
        *finetuned.model.shape()
    };
    let most = base_context.min(shape.context);
    let context = options.context.map_or(most, |context| most.min(context as usize));
    // Not found out after hours.
    check_folder(&options.out)?;
    std::fs::create_dir_all(&options.out).map_err(Error::io(&options.out))?;
    let (base_hash, before) = (base.hash.clone(), losses(&mut base, &files, count, context)?);
    drop(base);
    let mut finetuned = open(&options.finetuned)?;
    let after = losses(&mut finetuned, &files, count, context)?;
    let mut documents = Vec::new();
    for (i, (before, after)) in (0..count).zip(before.iter().zip(&after)) {
        if !before.is_empty() {
            documents.push(document(&files, i, before, after)?);
        }
    }
    if documents.is_empty() {
        let requirement =
            "must contain a document of at least two tokens, one of which counts in the loss";
        return Err(Error::setting("--data", options.data[0].display(), requirement));
    }
    let mut slices: BTreeMap<String, Vec<&Document>> = BTreeMap::new();
    for document in &documents {
        let Some(slice) = document.slice.clone() else { continue };
        slices.entry(slice).or_default().push(document);
    }
    let change = |(name, of): (String, Vec<&Document>)| (name, Change::of(of.into_iter()));
    let found = Retention {
        base: base_hash,
        finetuned: finetuned.hash,
        tokenizer,
        data: files.content_hash(),
        context,
        whole: Change::of(documents.iter()),
        slices: slices.into_iter().map(change).collect(),
        documents,
    };
    found.write(&options.out)?;
    print(&found.said(&options.out))
}

/// The losses of each document's predicted tokens that count in the loss, in nats.
fn losses(reader: &mut Reader, files: &Files, count: u64, context: usize) -> Result<Vec<Vec<f64>>> {
    let mut all = Vec::new();
    for first in (0..count).step_by(AT_A_TIME as usize) {
        let range = first..(first + AT_A_TIME).min(count);
        let texts = range.map(|i| files.passage(i)).collect::<Result<Vec<_>>>()?;
        let encoded: Vec<Encoded> = reader.encode(&texts)?;
        all.extend(engine::token_losses(&mut *reader.model, &encoded, context)?);
    }
    Ok(all)
}

fn document(files: &Files, i: u64, before: &[f64], after: &[f64]) -> Result<Document> {
    let text = files.document(i)?;
    let words: Vec<&str> = text.split_whitespace().take(12).collect();
    let difference = |(after, before): (&f64, &f64)| Loss { nats: after - before, tokens: 1 };
    let differences: Vec<Loss> = after.iter().zip(before).map(difference).collect();
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let increase = Measured::mean(&differences);
    Ok(Document {
        document: i,
        slice: files.work(i).map(String::from),
        tokens: before.len() as u64,
        loss_base: mean(before),
        loss_finetuned: mean(after),
        increase,
        interval: interval(increase, differences.len() as u64),
        begins_with: words.join(" ").chars().take(48).collect(),
    })
}

/// `+0.123 ± 0.045`, with half of the interval; only the value if there is none.
fn with_interval(Measured { value, .. }: Measured, interval: Option<[f64; 2]>) -> String {
    match interval {
        Some([low, high]) => format!("{value:+.4} ± {:.4}", 0.5 * (high - low)),
        None => format!("{value:+.4}"),
    }
}

/// The ends of an interval as cells.
fn ends(interval: Option<[f64; 2]>) -> [String; 2] {
    interval.unwrap_or([f64::NAN; 2]).map(cell)
}

/// A name without line breaks and the like.
fn in_one_line(name: &str) -> String {
    name.replace(char::is_control, " ")
}

/// A name that fits beside a figure.
fn shortened(name: &str) -> String {
    const MOST: usize = 40;
    match name.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", name[..end].trim_end()),
        None => name.to_string(),
    }
}

/// The axis of increases.
const NATS: &str = "Increase of the loss (nats per token)";

/// How many slices the figure shows; slices.csv has all.
const MOST_SLICES: usize = 40;

impl Retention {
    /// The documents that were forgotten most, the worst first: those whose loss surely rose most, so
    /// that short ones are not there by chance.
    fn worst(&self) -> Vec<&Document> {
        const MOST: usize = 10;
        let mut worst: Vec<&Document> = self.documents.iter().collect();
        let key = |document: &Document| (document.least(), document.increase.value);
        worst.sort_by(|a, b| {
            let ((a, a_mean), (b, b_mean)) = (key(a), key(b));
            b.total_cmp(&a).then(b_mean.total_cmp(&a_mean))
        });
        worst.truncate(MOST);
        worst
    }

    fn write(&self, out: &Path) -> Result<()> {
        write_atomic(&out.join("retention.json"), &to_json(self))?;
        write_atomic(&out.join("documents.csv"), self.csv_of_documents().as_bytes())?;
        if !self.slices.is_empty() {
            write_atomic(&out.join("slices.csv"), self.csv_of_slices().as_bytes())?;
        }
        drawings::write(&self.figure(), &out.join("retention")).map(drop)
    }

    fn csv_of_documents(&self) -> String {
        let mut csv = Csv::new([
            "document",
            "slice",
            "tokens",
            "loss_base",
            "loss_finetuned",
            "increase",
            "increase_se",
            "increase_low",
            "increase_high",
            "begins_with",
        ]);
        for document in &self.documents {
            let name = [document.document.to_string(), document.slice.clone().unwrap_or_default()];
            let Measured { value, error } = document.increase;
            let losses = [document.loss_base, document.loss_finetuned, value, error].map(cell);
            let tokens = [document.tokens.to_string()];
            let words = [document.begins_with.clone()];
            let losses = losses.into_iter().chain(ends(document.interval));
            csv.row(name.into_iter().chain(tokens).chain(losses).chain(words));
        }
        csv.text()
    }

    fn csv_of_slices(&self) -> String {
        let mut csv = Csv::new([
            "slice",
            "documents",
            "tokens",
            "loss_base",
            "loss_finetuned",
            "increase",
            "increase_se",
            "increase_low",
            "increase_high",
            "rose",
            "fell",
        ]);
        for (name, change) in &self.slices {
            let counts = [name.clone(), change.documents.to_string(), change.tokens.to_string()];
            let Measured { value, error } = change.increase;
            let losses = [change.loss_base, change.loss_finetuned, value, error].map(cell);
            let beyond = [change.rose, change.fell].map(|count| count.to_string());
            let losses = losses.into_iter().chain(ends(change.interval));
            csv.row(counts.into_iter().chain(losses).chain(beyond));
        }
        csv.text()
    }

    /// Each document's increase with its interval, the largest last; below, each slice's, the largest on
    /// top.
    fn figure(&self) -> Figure {
        let mut panels = vec![vec![self.panel_of_documents()]];
        let mut aspect = 0.5;
        if !self.slices.is_empty() {
            const HEIGHT_OF_A_SLICE: f64 = 0.035;
            panels.push(vec![self.panel_of_slices()]);
            aspect =
                f64::max(aspect, HEIGHT_OF_A_SLICE * self.slices.len().min(MOST_SLICES) as f64);
        }
        Figure { aspect, ..Figure::new("What was forgotten", panels) }
    }

    fn panel_of_documents(&self) -> Panel {
        // Rims of marks that lie over one another would hide them.
        const MOST_RIMS: usize = 200;
        let mut documents: Vec<&Document> = self.documents.iter().collect();
        documents.sort_by(|a, b| a.increase.value.total_cmp(&b.increase.value));
        let mut panel =
            Panel::new(Axis::linear("Documents, by their increase"), Axis::linear(NATS));
        panel.title = "Documents".into();
        panel.rules.push(Rule::new(Place::Horizontal(0.0), ""));
        for (i, document) in documents.iter().enumerate() {
            let color = match document.sign() {
                1 => Color::categorical(1),
                -1 => Color::categorical(0),
                _ => Color::GREY,
            };
            let at = i as f64 + 1.0;
            let (stroke, direction) = (Stroke::new(color, 0.6), Direction::Vertical);
            let interval = |[low, high]: [f64; 2]| Interval { at, low, high, direction, stroke };
            panel.intervals.extend(document.interval.map(interval));
            let dot = Glyph::dot(color);
            let dot = if documents.len() <= MOST_RIMS { dot } else { dot.without_rim() };
            panel.marks.push(Mark::new((at, document.increase.value), dot));
        }
        panel
    }

    fn panel_of_slices(&self) -> Panel {
        let mut slices: Vec<(&String, &Change)> = self.slices.iter().collect();
        slices.sort_by(|(_, a), (_, b)| a.increase.value.total_cmp(&b.increase.value));
        let shown = slices.split_off(slices.len().saturating_sub(MOST_SLICES));
        let names = shown.iter().map(|(name, _)| shortened(&in_one_line(name)));
        let mut panel = Panel::new(Axis::linear(NATS), Axis::categories("", names));
        panel.title = match slices.len() {
            0 => "Slices".into(),
            left => format!("The {} of {} slices that rose most", shown.len(), shown.len() + left),
        };
        panel.rules.push(Rule::new(Place::Vertical(0.0), ""));
        for (i, (_, change)) in shown.into_iter().enumerate() {
            let at = i as f64;
            let (stroke, direction) = (Stroke::new(Color::BLACK, 0.6), Direction::Horizontal);
            let interval = |[low, high]: [f64; 2]| Interval { at, low, high, direction, stroke };
            panel.intervals.extend(change.interval.map(interval));
            panel.marks.push(Mark::new((change.increase.value, at), Glyph::dot(Color::BLACK)));
        }
        panel
    }

    fn said(&self, out: &Path) -> String {
        let Change { documents, loss_base, loss_finetuned, increase, interval, rose, fell, .. } =
            &self.whole;
        let mut text = format!(
            "loss {loss_base:.4} before, {loss_finetuned:.4} after: {} nats per token{}\n\
             of {}, {}, {rose} rose and {fell} fell beyond noise; {:.1} of each would by chance\n",
            with_interval(*increase, *interval),
            if interval.is_some() { " (95%, over documents)" } else { "" },
            counted(*documents as u64, "document"),
            counted(self.whole.tokens, "token"),
            BY_CHANCE * *documents as f64
        );
        if !self.slices.is_empty() {
            let row = |(name, change): (&String, &Change)| {
                vec![
                    in_one_line(name),
                    change.documents.to_string(),
                    change.tokens.to_string(),
                    format!("{:.4}", change.loss_base),
                    format!("{:.4}", change.loss_finetuned),
                    with_interval(change.increase, change.interval),
                    change.rose.to_string(),
                    change.fell.to_string(),
                ]
            };
            let columns =
                ["slice", "documents", "tokens", "before", "after", "increase", "rose", "fell"];
            let table = Table {
                caption: String::new(),
                columns: columns.map(String::from).into(),
                rows: self.slices.iter().map(row).collect(),
            };
            text += &format!("\n{}", table.markdown());
        }
        let row = |document: &&Document| {
            vec![
                document.document.to_string(),
                document.tokens.to_string(),
                format!("{:.4}", document.loss_base),
                format!("{:.4}", document.loss_finetuned),
                with_interval(document.increase, document.interval),
                document.begins_with.clone(),
            ]
        };
        let table = Table {
            caption: "The documents whose loss rose most, by the lower ends of their intervals:"
                .into(),
            columns: ["document", "tokens", "before", "after", "increase", "begins with"]
                .map(String::from)
                .into(),
            rows: self.worst().iter().map(row).collect(),
        };
        text + &format!("\n{}\nfolder: {}\n", table.markdown(), out.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A document whose loss rose by this on each of some tokens.
    fn document(i: u64, slice: Option<&str>, increases: &[f64]) -> Document {
        let losses: Vec<Loss> = increases.iter().map(|&nats| Loss { nats, tokens: 1 }).collect();
        let increase = Measured::mean(&losses);
        Document {
            document: i,
            slice: slice.map(String::from),
            tokens: increases.len() as u64,
            loss_base: 1.0,
            loss_finetuned: 1.0 + increase.value,
            increase,
            interval: interval(increase, increases.len() as u64),
            begins_with: "once".into(),
        }
    }

    fn retention(documents: Vec<Document>) -> Retention {
        let mut slices: BTreeMap<String, Vec<&Document>> = BTreeMap::new();
        for document in &documents {
            if let Some(slice) = &document.slice {
                slices.entry(slice.clone()).or_default().push(document);
            }
        }
        let change = |(name, of): (String, Vec<&Document>)| (name, Change::of(of.into_iter()));
        let slices = slices.into_iter().map(change).collect();
        let whole = Change::of(documents.iter());
        let [base, finetuned, tokenizer, data] = ["a", "b", "c", "d"].map(String::from);
        Retention { base, finetuned, tokenizer, data, context: 8, whole, slices, documents }
    }

    /// Means of 1, 2 and 6 have a mean of 3 and a standard error of √(7/3); t is 4.303 for 2 degrees.
    #[test]
    fn few_documents_have_wider_intervals() {
        let found = retention(
            (0..3).zip([1.0, 2.0, 6.0]).map(|(i, x)| document(i, None, &[x; 4])).collect(),
        );
        let [low, high] = found.whole.interval.unwrap();
        let margin = 4.302_652_73 * (7.0f64 / 3.0).sqrt();
        assert!((low - 3.0 + margin).abs() < 1e-6 && (high - 3.0 - margin).abs() < 1e-6);
        assert!(found.said(Path::new("out")).contains("+3.0000 ± 6.5724 nats"));
        // Two tokens that rose by 1 and 2: 1.5 ± 0.5 would be beyond 1.96 standard errors of 0.
        assert_eq!(document(0, None, &[1.0, 2.0]).sign(), 0);
        assert_eq!(document(0, None, &[1.0, 2.0, 1.0, 2.0, 1.0, 2.0]).sign(), 1);
        assert_eq!(document(0, None, &[-1.0, -1.1, -1.0, -1.1]).sign(), -1);
    }

    #[test]
    fn the_worst_are_those_that_surely_rose() {
        let found = retention(vec![
            document(0, None, &[9.0]),
            document(1, None, &[6.0, 0.0, 5.0, 1.0]),
            document(2, None, &[2.0, 2.1, 2.0, 2.1]),
            document(3, None, &[1.0, 1.1, 1.0, 1.1]),
        ]);
        let order: Vec<u64> = found.worst().iter().map(|document| document.document).collect();
        assert_eq!(order, [2, 3, 1, 0]);
    }

    #[test]
    fn one_document_and_slices_of_any_name_are_printed() {
        let one = retention(vec![document(0, Some("two\nlines | and a bar"), &[1.0, 2.0])]);
        let said = one.said(Path::new("out"));
        assert!(said.contains("of 1 document, 2 tokens, 0 rose"), "{said}");
        assert!(!said.contains("95%") && said.contains("+1.5000 nats per token\n"), "{said}");
        assert!(said.contains("| two lines \\| and a bar | 1 | 2 |"), "{said}");
        assert!(one.figure().svg().contains(">two lines | and a bar<"));
        assert_eq!(one.csv_of_slices().lines().count(), 3, "one cell has two lines, in quotes");
    }

    #[test]
    fn the_figure_names_the_slices_that_rose_most() {
        let long = "a name of a slice that nobody would want to read to its end";
        let name = |i: u64| if i == 60 { long.to_string() } else { format!("slice {i}") };
        let of = |i: u64| document(i, Some(&name(i)), &[i as f64]);
        let svg = retention((0..61).map(of).collect()).figure().svg();
        assert!(svg.contains("The 40 of 61 slices that rose most"));
        assert!(svg.contains(">a name of a slice that nobody would want…<"));
        assert!(svg.contains(">slice 21<") && !svg.contains(">slice 20<"));
    }

    #[test]
    fn many_marks_have_no_rims() {
        let rims = |count: u64| {
            let documents = (0..count).map(|i| document(i, None, &[1.0, 2.0])).collect();
            retention(documents).figure().svg().matches("stroke=\"#ffffff\"").count()
        };
        assert_eq!(rims(201), rims(1) - 1);
        assert!(rims(200) > rims(1), "{}", rims(200));
    }
}
