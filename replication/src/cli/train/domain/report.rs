//! The report on a domain: one page in HTML and in Markdown, the answer as JSON, the runs and the
//! order in which they were chosen as CSV.

use super::super::session::Session;
use super::campaign::{Campaign, End};
use super::{DomainOptions, plan};
use crate::blocks::MAIN;

use crate::figures::style::{self, Scale};
use crate::figures::{Table, style::percent as of_p};
use crate::format::{Csv, cell};
use crate::report::html;
use crate::results::{Finetuned, Results};
use forgetting_laws::Result;
use forgetting_laws::fit::Options;
use forgetting_laws::laws::Row;
use forgetting_laws::store::{to_json, write_atomic};
use forgetting_laws::study::{Answer, Verdict};
use forgetting_laws::words::{error, number, numbers, percent, size};
use plot::{self, Axis, Band, Color, Line, Mark, Numbers, Panel, Place, Rule, Stroke};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;

/// The content of `answer.json`.
#[derive(Serialize)]
struct Whole<'a> {
    domain: &'a str,
    preset: &'a str,
    answer: &'a Answer,
    /// The criterion of the design with all runs: the mean standard deviation of the predicted ln of
    /// the increase.
    deviation: f64,
    ended: End,
    seconds: f64,
    program: &'a str,
    runs_hash: String,
}

/// Writes the report and returns the text for standard output.
///
/// # Errors
/// If a record cannot be read or a file cannot be written.
pub fn write(
    session: &Session,
    campaign: &Campaign,
    ended: &End,
    options: &DomainOptions,
    folder: &Path,
) -> Result<String> {
    let results = campaign.results()?;
    let table = results.table(MAIN);
    let how = Options { model_spread: options.model_spread, ..Options::default() };
    let mut answer = Answer::of(&table, campaign.question.clone(), &how);
    if answer.verdict == Verdict::NotShown {
        answer.lead.push("A larger --budget continues from here.".into());
    }
    let deviation = campaign.deviation()?;
    answer.lead.push(campaign_in_words(campaign, ended, deviation));
    if session.config.data.pretrain.is_empty() {
        let said =
            "No pretraining text was given (--pretrain): what is forgotten is synthetic text.";
        answer.lead.push(said.into());
    }
    let whole = Whole {
        domain: &options.name,
        preset: &session.options.preset,
        answer: &answer,
        deviation,
        ended: *ended,
        seconds: campaign.spent(),
        program: &results.program,
        runs_hash: results.hash().to_string(),
    };
    let drawing = drawing(&options.name, &answer, &results);
    let tables = [rises(&answer, &results), runs(&results), chosen(campaign)];
    let title = format!("How much to inject for {}", options.name);
    write_atomic(&folder.join("answer.json"), &to_json(&whole))?;
    write_atomic(&folder.join("runs.csv"), csv_of_runs(&results).as_bytes())?;
    write_atomic(&folder.join("chosen.csv"), csv_of_choices(campaign).as_bytes())?;
    drawings::write(&drawing, &folder.join("answer"))?;
    let notes = notes(&answer, &results);
    let markdown = markdown(&title, &answer, &tables, &notes);
    write_atomic(&folder.join("report.md"), markdown.as_bytes())?;
    let page = page(&title, &answer, &drawing, &tables, &notes);
    let path = folder.join("report.html");
    write_atomic(&path, page.as_bytes())?;
    let mut said: String = answer.lead.iter().map(|line| format!("{line}\n")).collect();
    said.extend(
        answer.warnings.iter().map(|warning| format!("warning: {}\n", warning.with_remedy())),
    );
    let _ = writeln!(said, "report: {}", path.display());
    Ok(said)
}

fn campaign_in_words(campaign: &Campaign, ended: &End, deviation: f64) -> String {
    let first = campaign.journal.rounds.first().map_or(f64::NAN, |round| round.before);
    let why = match ended {
        End::AllMade => "Every run of the plan was made",
        End::BudgetSpent => {
            "No other run fits into the budget; a larger --budget continues from here"
        }
    };
    let from = if first.is_finite() {
        format!("; before the first run it was {}", percent(first))
    } else {
        String::new()
    };
    format!(
        "The increase asked about is known with a standard deviation of {}, by the estimate of the \
         design{from}. Training took {}. {why}.",
        error(deviation),
        plan::duration(campaign.spent()),
    )
}

/// The increases predicted for the question, next to those of the nearest runs.
fn rises(answer: &Answer, results: &Results) -> Table {
    let nearest = nearest(answer, results);
    let columns = ["p", "increase of a new run, by the law", "measured", "L_ft measured"];
    let row = |p: f64| {
        let law = answer.rises.iter().find(|(of, _)| *of == p);
        let run = nearest.iter().find(|run| run.p == p);
        let bottom = run.and_then(|run| run.bottom());
        vec![
            of_p(p),
            law.map(|(_, rise)| numbers(rise)).unwrap_or_default(),
            run.and_then(|run| run.rise()).map(number).unwrap_or_default(),
            bottom.map(|bottom| number(bottom.loss_ft)).unwrap_or_default(),
        ]
    };
    let at = match nearest.first() {
        Some(run) => format!(
            "; measured at N = {} and D_ft = {}",
            size(run.n_params() as f64),
            size(run.unique_tokens() as f64)
        ),
        None => String::new(),
    };
    Table {
        caption: format!(
            "Increase of the pretraining loss in nats, at N = {} and D_ft = {}{at}",
            size(answer.question.n_params),
            size(answer.question.d_ft_tokens)
        ),
        columns: columns.map(String::from).to_vec(),
        rows: answer.question.p.iter().map(|&p| row(p)).collect(),
    }
}

/// The runs of the size and the D_ft nearest to the question, by p.
fn nearest<'a>(answer: &Answer, results: &'a Results) -> Vec<&'a Finetuned> {
    let counted = || results.block(MAIN).filter(|run| run.left_out().is_none());
    let far = |a: f64, b: f64| (a / b).ln().abs();
    let distance = |run: &&Finetuned| {
        (
            far(run.n_params() as f64, answer.question.n_params),
            far(run.unique_tokens() as f64, answer.question.d_ft_tokens),
        )
    };
    let order = |a: &&Finetuned, b: &&Finetuned| {
        let (a, b) = (distance(a), distance(b));
        a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
    };
    let Some(one) = counted().min_by(order) else { return Vec::new() };
    let mut runs: Vec<&Finetuned> = counted().filter(|run| style::alike(run, one)).collect();
    runs.sort_by(|a, b| a.p.total_cmp(&b.p));
    runs
}

fn runs(results: &Results) -> Table {
    let columns = ["size", "N", "D_ft", "p", "L_pt0", "L_pt", "rise", "L_ft", "left out"];
    let row = |run: &Finetuned| {
        let bottom = run.bottom();
        vec![
            run.size.clone(),
            run.n_params().to_string(),
            run.unique_tokens().to_string(),
            of_p(run.p),
            number(run.loss_pt0()),
            bottom.map(|bottom| number(bottom.loss_pt)).unwrap_or_default(),
            run.rise().map(number).unwrap_or_default(),
            bottom.map(|bottom| number(bottom.loss_ft)).unwrap_or_default(),
            run.left_out().map(|why| why.name().to_string()).unwrap_or_default(),
        ]
    };
    Table {
        caption: "The runs; losses at the bottom of the U-curve in nats per token".into(),
        columns: columns.map(String::from).to_vec(),
        rows: results.block(MAIN).map(row).collect(),
    }
}

fn chosen(campaign: &Campaign) -> Table {
    let columns = ["round", "run", "deviation before", "expected after", "expected time"];
    let mut rows = Vec::new();
    for (i, round) in campaign.journal.rounds.iter().enumerate() {
        for (j, run) in round.runs.iter().enumerate() {
            rows.push(vec![
                (i + 1).to_string(),
                run.label.clone(),
                if j == 0 { number(round.before) } else { String::new() },
                number(run.after),
                plan::duration(run.seconds),
            ]);
        }
    }
    Table {
        caption:
            "The order in which runs were chosen: each shrinks the deviation of ln of the increase \
                  that is asked about most for its time"
                .into(),
        columns: columns.map(String::from).to_vec(),
        rows,
    }
}

fn csv_of_runs(results: &Results) -> String {
    let columns = ["loss_pt0", "loss_pt", "loss_ft", "bottom_step", "steps", "left_out", "run_id"];
    let mut csv = style::csv_of_runs(&columns);
    for run in results.block(MAIN) {
        let bottom = run.bottom();
        let loss = |of: Option<f64>| of.map_or(String::new(), cell);
        csv.row(style::identity(run).into_iter().chain([
            cell(run.loss_pt0()),
            loss(bottom.map(|bottom| bottom.loss_pt)),
            loss(bottom.map(|bottom| bottom.loss_ft)),
            bottom.map_or(String::new(), |bottom| bottom.step.to_string()),
            run.record.steps.to_string(),
            run.left_out().map_or(String::new(), |why| why.name().to_string()),
            run.record.id.to_string(),
        ]));
    }
    csv.text()
}

fn csv_of_choices(campaign: &Campaign) -> String {
    let mut csv =
        Csv::new(["round", "known_runs", "run_id", "run", "before", "after", "expected_seconds"]);
    for (i, round) in campaign.journal.rounds.iter().enumerate() {
        for run in &round.runs {
            csv.row([
                (i + 1).to_string(),
                round.known.to_string(),
                run.id.to_string(),
                run.label.clone(),
                cell(round.before),
                cell(run.after),
                cell(run.seconds),
            ]);
        }
    }
    csv.text()
}

fn notes(answer: &Answer, results: &Results) -> Vec<String> {
    let mut notes: Vec<String> = answer
        .warnings
        .iter()
        .map(|warning| format!("Warning: {}", warning.with_remedy()))
        .collect();
    if let Some(domain) = results.domains.first() {
        let distances: Vec<String> = domain
            .distances
            .iter()
            .map(|(name, value)| format!("{name} {}", number(*value)))
            .collect();
        notes.push(format!(
            "The text: {}. Distance from the pretraining text: {}.",
            domain.source,
            style::list(&distances)
        ));
    }
    notes.push(format!("Pretraining text: {}.", results.pretraining.source));
    notes.push(
        "Models of these sizes, pretrained here, stand for those of the preset; a model of another \
         kind or size is an extrapolation."
            .into(),
    );
    notes.push(format!(
        "{}. {}. Hash of all records: {}.",
        results.program,
        results.machines.join("; "),
        results.hash()
    ));
    notes
}

fn markdown(title: &str, answer: &Answer, tables: &[Table], notes: &[String]) -> String {
    let mut text = format!("# {title}\n\n");
    for (i, sentence) in answer.lead.iter().enumerate() {
        let _ = match i {
            0 => writeln!(text, "**{sentence}**\n"),
            _ => writeln!(text, "- {sentence}"),
        };
    }
    text += "\n![Increase of the pretraining loss against p and against D_ft](answer.svg)\n\n";
    text.extend(tables.iter().map(|table| table.markdown() + "\n"));
    text.extend(notes.iter().map(|note| format!("- {note}\n")));
    text
}

fn page(
    title: &str,
    answer: &Answer,
    drawing: &plot::Figure,
    tables: &[Table],
    notes: &[String],
) -> String {
    let mut body = format!(
        "<figure tabindex=\"0\" aria-label=\"Increase of the pretraining loss\">\n{}</figure>\n",
        drawing.svg()
    );
    body.extend(tables.iter().enumerate().map(|(i, t)| html::table(t, &format!("table-{i}"))));
    body += "<ul class=\"notes\">\n";
    body.extend(notes.iter().map(|note| format!("<li>{}</li>\n", html::escape(note))));
    body += "</ul>\n";
    html::document("forgetting-laws, a domain of one's own", title, &answer.lead, &body)
}

/// The increase against p at the largest D_ft of each size, and against D_ft without injection.
fn drawing(name: &str, answer: &Answer, results: &Results) -> plot::Figure {
    let counted: Vec<&Finetuned> =
        results.block(MAIN).filter(|run| run.left_out().is_none()).collect();
    let sizes = Scale::sizes(counted.iter().map(|run| run.n_params() as f64));
    let least = answer.question.p.iter().copied().filter(|&p| p > 0.0).fold(1.0, f64::min);
    let mut by_p = Panel::new(
        Axis { numbers: Numbers::Percent, ..Axis::symlog("p", least) },
        Axis::linear("L_{pt} - L_{pt}^{0} (nats)"),
    );
    let law = answer.forgetting.as_ref();
    let row = |p: f64| Row {
        n_params: answer.question.n_params,
        d_ft_tokens: answer.question.d_ft_tokens,
        p,
        loss_pt0: answer.loss_pt0,
        ..Row::default()
    };
    if let Some(law) = law {
        let most = answer.question.p.iter().copied().fold(0.0, f64::max);
        let most = most.max(answer.p.unwrap_or(0.0)).min(1.0);
        let grid: Vec<f64> = (0..=60)
            .map(|i| f64::from(i) / 60.0)
            .map(|t| least * ((1.0 + most / least).powf(t) - 1.0))
            .collect();
        let predicted = grid.iter().map(|&p| (p, law.predict(&row(p))));
        let predicted: Vec<_> = predicted.collect();
        let rise = |loss: f64| loss - answer.loss_pt0;
        let band = |low: fn(&forgetting_laws::fit::Prediction) -> Option<f64>,
                    high: fn(&forgetting_laws::fit::Prediction) -> Option<f64>,
                    opacity| Band {
            points: predicted
                .iter()
                .filter_map(|(p, at)| Some((*p, rise(low(at)?), rise(high(at)?))))
                .collect(),
            color: Color::categorical(1),
            opacity,
        };
        by_p.bands.push(band(|at| at.low, |at| at.high, 0.15));
        by_p.bands.push(band(|at| at.law_low, |at| at.law_high, 0.3));
        let curve = predicted.iter().map(|(p, at)| (*p, rise(at.value))).collect();
        by_p.lines.push(Line::new(curve, Stroke::new(Color::categorical(1), 1.4)));
    }
    if answer.limit.is_finite() {
        by_p.rules.push(Rule::new(Place::Horizontal(answer.limit), "allowed"));
    }
    if let Some(p) = answer.p.filter(|&p| p > 0.0) {
        by_p.rules.push(Rule::new(Place::Vertical(p), "p to use"));
    }
    for &n in sizes.values() {
        let of_size = || counted.iter().filter(|run| run.n_params() as f64 == n);
        let most = of_size().map(|run| run.unique_tokens()).max();
        for run in of_size().filter(|run| Some(run.unique_tokens()) == most) {
            let rise = run.rise().unwrap_or(f64::NAN);
            by_p.marks.push(Mark::new((run.p, rise), sizes.glyph(n)));
        }
    }
    let mut by_data =
        Panel::new(Axis::log("D_{ft} (tokens)"), Axis::linear("L_{pt} - L_{pt}^{0} (nats)"));
    for &n in sizes.values() {
        if let Some(law) = law {
            let from = counted.iter().map(|run| run.unique_tokens() as f64);
            let low = from.clone().fold(answer.question.d_ft_tokens, f64::min);
            let high = from.fold(answer.question.d_ft_tokens, f64::max);
            let curve = (0..=40).map(|i| {
                let d_ft_tokens = low * (high / low).powf(f64::from(i) / 40.0);
                let row = Row { n_params: n, d_ft_tokens, p: 0.0, loss_pt0: 1.0, ..row(0.0) };
                (d_ft_tokens, law.predict(&row).value - 1.0)
            });
            by_data.lines.push(Line::new(curve.collect(), sizes.stroke(n)));
        }
        for run in counted.iter().filter(|run| run.n_params() as f64 == n && run.p == 0.0) {
            let at = (run.unique_tokens() as f64, run.rise().unwrap_or(f64::NAN));
            by_data.marks.push(Mark::new(at, sizes.glyph(n)));
        }
    }
    let mut figure =
        plot::Figure::new(format!("What {name} makes a model forget"), vec![vec![by_p, by_data]]);
    figure.columns = vec![
        format!(
            "with injection, N = {}, D_{{ft}} = {}",
            size(answer.question.n_params),
            size(answer.question.d_ft_tokens)
        ),
        "without injection".into(),
    ];
    figure.legend = vec![sizes.both()];
    figure.footnote =
        "Left: the law at the question with 90% intervals of the law and of a new run, \
                       and runs of each size on its largest D_{ft}. Right: law and runs."
            .into();
    figure.description =
        "The increase of the pretraining loss against the injected fraction and against \
                          the amount of target data."
            .into();
    figure.provenance = style::provenance(results);
    figure
}
