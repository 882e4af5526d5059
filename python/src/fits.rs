//! Fits, predictions and advice.

use super::table::{PyTable, bytes, floats};
use super::{json, named, of_python, raise, refuse, watched};
use forgetting_laws::Error;
use forgetting_laws::fit::advise::{Question, Questions, Unanswered};
use forgetting_laws::fit::checklist::Checklist;
use forgetting_laws::fit::file::{self, FORMAT, Group, Growth, Input, LawFile};
use forgetting_laws::fit::sweep::sweep as sweep_of;
use forgetting_laws::fit::{
    self, Advisor, Bootstrap, HoldOut, Limit, LossPt0From, Objective, Options, Penalty,
    ProveOptions, Space, growth_of_b, is_provable, report,
};
use forgetting_laws::laws::{self, Law, Row};
use forgetting_laws::table::{Column, Table};
use forgetting_laws::warning::Warning;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use std::collections::HashMap;
use std::path::Path;
use std::sync::OnceLock;

/// The options of a fit, as Python has them.
#[derive(FromPyObject)]
struct Settings {
    bootstrap: usize,
    level: f64,
    seed: u64,
    hold_out: Option<String>,
    space: String,
    penalty: String,
    delta: Option<f64>,
    misfit: bool,
    model_spread: Option<f64>,
    threads: usize,
}

impl Settings {
    fn options(&self) -> PyResult<Options> {
        let by =
            |name: &String| named::<HoldOut>("hold_out", name, "size, data, p, largest or None");
        let hold_out = self.hold_out.as_ref().map(by).transpose()?;
        let space: Space = named("space", &self.space, "log or raw")?;
        let penalty = match (&*self.penalty, self.delta) {
            ("huber", delta) => Penalty::Huber(delta.unwrap_or(1e-3)),
            ("squared" | "absolute", Some(delta)) => {
                return Err(refuse("delta", delta, "is only for the penalty huber"));
            }
            ("squared", None) => Penalty::Squared,
            ("absolute", None) => Penalty::Absolute,
            (name, _) => return Err(refuse("penalty", name, "must be huber, squared or absolute")),
        };
        let Self { bootstrap, level, seed, misfit, model_spread, threads, .. } = *self;
        let bootstrap = Bootstrap { resamples: bootstrap, level, seed };
        let objective = Objective { space, penalty };
        Ok(Options { objective, bootstrap, hold_out, misfit, model_spread, threads })
    }
}

/// A fitted law: a file of laws with one.
#[pyclass(frozen, module = "forgetting_laws._native")]
pub struct Fit {
    file: LawFile,
    /// The table that it was fitted to, of which more can be said when it is asked.
    fitted: Option<(Table, Options)>,
    /// The file with all that `replication fit` says of the table.
    whole: OnceLock<LawFile>,
}

impl Fit {
    fn fit(&self) -> &fit::Fit {
        &self.file.groups[0].fit
    }

    fn whole(&self, py: Python<'_>) -> PyResult<&LawFile> {
        if let Some(whole) = self.whole.get() {
            return Ok(whole);
        }
        let mut whole = self.file.clone();
        if let Some((table, options)) = &self.fitted
            && self.fit().law.output() == Column::LossPt
        {
            let growth = watched(py, None, || growth_of_b(table, options))?;
            let domain = self.fit().domain.clone();
            whole.growths.extend(growth.map(|growth| Growth { domain, growth }));
        }
        Ok(self.whole.get_or_init(|| whole))
    }
}

/// A drawing's name, SVG, PNG, and its numbers as CSV.
type Drawing<'py> = (&'static str, String, Bound<'py, PyBytes>, String);

/// What Python asks a fit for most: status, MRE, MRE on held-out runs, rows and runs.
type Summary = (String, f64, Option<f64>, usize, usize);

#[pymethods]
impl Fit {
    /// The command's law.json with this law alone.
    fn to_json(&self, py: Python<'_>) -> PyResult<String> {
        Ok(String::from_utf8_lossy(&self.whole(py)?.json()).into_owned())
    }

    /// One of the laws of a law.json.
    #[staticmethod]
    fn from_json(text: &str, law: Option<&str>, domain: Option<&str>) -> PyResult<Self> {
        let mut file = file::parse(Path::new("the text"), text.as_bytes()).map_err(raise)?;
        let is_asked = |group: &Group| {
            law.is_none_or(|law| group.fit.law.name() == law)
                && domain.is_none_or(|domain| group.fit.domain == domain)
        };
        let all: Vec<String> =
            file.groups.iter().map(|group| report::format::fit_name(&group.fit)).collect();
        file.groups.retain(is_asked);
        if file.groups.len() != 1 {
            let requirement = format!(
                "{} laws of the file are meant; choose one by law and domain: {}",
                file.groups.len(),
                all.join("; ")
            );
            let asked = [domain, law].into_iter().flatten().collect::<Vec<_>>().join(", ");
            let asked = if asked.is_empty() { "none".into() } else { asked };
            return Err(refuse("law", asked, &requirement));
        }
        let domain = file.groups[0].fit.domain.clone();
        file.rankings.retain(|ranking| ranking.domain == domain);
        file.comparisons.retain(|comparison| comparison.domain == domain);
        let of_law = file.groups[0].fit.law.output() == Column::LossPt;
        file.growths.retain(|growth| of_law && growth.domain == domain);
        Ok(Self { file, fitted: None, whole: OnceLock::new() })
    }

    /// What the command prints.
    fn report(&self, py: Python<'_>) -> PyResult<String> {
        let whole = self.whole(py)?;
        Ok(report::text(whole) + &report::card::text(whole, None))
    }

    /// What the command draws: for each drawing its name, SVG, PNG, and its numbers as CSV.
    fn drawings<'py>(&self, py: Python<'py>) -> PyResult<Vec<Drawing<'py>>> {
        let drawn = py.detach(|| {
            let draw = |drawing: drawings::Drawing| {
                let png = drawing.figure.png(plot::DPI)?;
                Ok((drawing.name, drawing.figure.svg(), png, drawing.table))
            };
            drawings::drawings(&self.file).into_iter().map(draw).collect::<Result<Vec<_>, _>>()
        });
        let drawn =
            drawn.map_err(|error: plot::Error| refuse("drawing", "none", &error.to_string()))?;
        let of = |(name, svg, png, table): (_, _, Vec<u8>, _)| {
            (name, svg, PyBytes::new(py, &png), table)
        };
        Ok(drawn.into_iter().map(of).collect())
    }

    fn name(&self) -> (&'static str, &str, &str) {
        let fit = self.fit();
        (fit.law.name(), &fit.equation, &fit.domain)
    }

    fn summary(&self) -> Summary {
        let fit = self.fit();
        let status = report::format::status(fit.status).to_string();
        (status, fit.mre, fit.mre_held_out, fit.n_rows, fit.n_runs)
    }

    /// For each parameter its name, value and interval.
    fn params(&self) -> Vec<(&str, f64, Option<(f64, f64)>)> {
        let of = |param: &'_ fit::Param| param.low.zip(param.high);
        let params = &self.fit().params.0;
        params.iter().map(|param| (&*param.name, param.value, of(param))).collect()
    }

    /// What to know of the table and of the fit, and what to do about it.
    fn warnings(&self) -> Vec<String> {
        self.file.input.warnings.iter().chain(&self.fit().warnings).map(told).collect()
    }

    /// The ranking that the law was chosen from, if it was.
    fn ranking(&self) -> Option<Ranked> {
        let fit = self.fit();
        self.file.ranking(&fit.domain, fit.law).map(ranked)
    }

    /// The columns that the law reads.
    fn inputs(&self) -> Vec<&'static str> {
        self.fit().law.inputs().iter().map(|input| input.column.name()).collect()
    }

    /// Predictions for rows of N, D_ft, p, L_pt0 and D, of which a law reads some.
    fn predict<'py>(
        &self,
        py: Python<'py>,
        rows: PyBackedBytes,
        epochs: Option<f64>,
    ) -> PyResult<Predicted<'py>> {
        let fit = self.fit();
        let numbers: Vec<f64> = floats(&rows).collect();
        let rows: Vec<Row> = numbers.as_chunks().0.iter().map(row).collect();
        let mut asked = Vec::with_capacity(rows.len());
        for row in rows {
            let (row, from) = baseline(fit, row)?;
            for input in fit.law.inputs() {
                let value = row.get(input.column);
                let (good, requirement) = match input.column {
                    Column::P => ((0.0..=1.0).contains(&value), "must lie between 0 and 1"),
                    _ => (value.is_finite() && value > 0.0, "must be a number above 0"),
                };
                if !good {
                    return Err(refuse(input.column.name(), value, requirement));
                }
            }
            asked.push((row, from));
        }
        let end = |end: Option<f64>| end.unwrap_or(f64::NAN);
        let of = |(row, from): &(Row, Option<LossPt0From>)| {
            let found = fit.predict(row);
            let extrapolated = *from == Some(LossPt0From::Extrapolated);
            let warnings = fit.cautions(row, &found, extrapolated, epochs);
            let ends = [found.low, found.high, found.law_low, found.law_high].map(end);
            ([found.value, ends[0], ends[1], ends[2], ends[3], row.loss_pt0], warnings)
        };
        let predicted = watched(py, None, || Ok(asked.iter().map(of).collect::<Vec<_>>()))?;
        let mut known: Vec<Vec<String>> = Vec::new();
        let mut places: HashMap<Vec<Warning>, usize> = HashMap::new();
        let mut which = Vec::with_capacity(predicted.len());
        let mut numbers = Vec::with_capacity(predicted.len());
        for (of_row, warnings) in predicted {
            numbers.push(of_row);
            which.push(*places.entry(warnings).or_insert_with_key(|warnings| {
                known.push(warnings.iter().map(told).collect());
                known.len() - 1
            }) as f64);
        }
        let sources = asked.iter().map(|(_, from)| from.map(LossPt0From::name)).collect();
        let numbers = bytes(py, numbers.into_iter().flatten());
        Ok((numbers, known, bytes(py, which.into_iter()), sources))
    }
}

/// For each row six numbers: the value, the interval of a new run and that of the law, NaN where there is
/// none, and L_pt0; the different warnings; which of them each row has; and where its L_pt0 is from.
type Predicted<'py> =
    (Bound<'py, PyBytes>, Vec<Vec<String>>, Bound<'py, PyBytes>, Vec<Option<&'static str>>);

/// A row with the L_pt⁰ that a law reads, between the fitted sizes where none is given, and where it is
/// from; `None` if the law reads none.
fn baseline(fit: &fit::Fit, mut row: Row) -> PyResult<(Row, Option<LossPt0From>)> {
    if !fit.law.reads(Column::LossPt0) {
        return Ok((row, None));
    }
    if !row.loss_pt0.is_nan() {
        return Ok((row, Some(LossPt0From::Given)));
    }
    if !(row.n_params.is_finite() && row.n_params > 0.0) {
        return Err(refuse("n_params", row.n_params, "must be a number above 0"));
    }
    let Some(found) = fit.loss_pt0_at(row.n_params) else {
        return Err(refuse("loss_pt0", "none", "must be given: no fitted row has one"));
    };
    row.loss_pt0 = found.loss_pt0;
    Ok((row, Some(found.from)))
}

fn row(&[n_params, d_ft_tokens, p, loss_pt0, d_tokens]: &[f64; 5]) -> Row {
    Row { n_params, d_ft_tokens, p, loss_pt0, d_tokens }
}

/// Refuses the size of a vocabulary that no form would use.
fn unused(vocab_size: Option<u32>, groups: &str) -> PyResult<()> {
    match vocab_size {
        None => Ok(()),
        Some(v) => Err(refuse("vocab_size", v, &format!("is only for {groups}"))),
    }
}

/// Fits a law to a table, or the form that held-out runs prefer.
#[pyfunction]
#[pyo3(signature = (given, law, vocab_size, settings, prove, sweep, progress))]
#[allow(clippy::too_many_arguments, reason = "Python's keywords")]
fn fit_law(
    py: Python<'_>,
    given: PyTable,
    law: &str,
    vocab_size: Option<u32>,
    settings: Settings,
    prove: bool,
    sweep: bool,
    progress: Option<Py<PyAny>>,
) -> PyResult<Fit> {
    let forms = match law {
        "best-forgetting" => laws::forms(Column::LossPt, vocab_size),
        "best-finetuning" => laws::forms(Column::LossFt, None),
        name => vec![laws::by_name(name).map_err(raise)?],
    };
    if law != "best-forgetting" {
        unused(vocab_size, "law = best-forgetting")?;
    }
    let options = settings.options()?;
    let (table, warnings, mut fit, proof, sweep, mut ranking) = watched(py, progress, || {
        let mut table = given.table()?;
        // Those of the whole table stand beside it in the file, and not with the law.
        let warnings = std::mem::take(&mut table.warnings);
        let ranking =
            if forms.len() > 1 { fit::rank(&table, &forms, &[], &options)? } else { None };
        let law = match ranking.as_ref().and_then(fit::Ranking::preferred) {
            Some(preferred) => laws::by_name(&preferred.form)?,
            None => forms[0],
        };
        if prove && !is_provable(law) {
            let why = "has no proof: branch and bound needs convex predictions";
            return Err(Error::setting("prove", law.name(), why));
        }
        let fit = fit::fit(&table, law, &options)?;
        let sweep = if sweep { sweep_of(&table, law, options.threads)? } else { Vec::new() };
        let mut of_proof = ProveOptions::default();
        if options.threads > 0 {
            of_proof.threads = options.threads;
        }
        let proof = prove.then(|| fit.prove(&of_proof)).transpose()?;
        Ok((table, warnings, fit, proof, sweep, ranking))
    })?;
    let domain = table.runs.first().map_or("", |run| &run.domain);
    if table.runs.iter().all(|run| run.domain == domain) {
        fit.domain = domain.into();
    }
    if let Some(ranking) = &mut ranking {
        ranking.domain.clone_from(&fit.domain);
    }
    let mut checklist = Checklist::of_fits(&[&fit]);
    let tables = [(fit.domain.clone(), table)];
    checklist.dropped(&[&fit], &tables, &[], &warnings);
    let [(_, table)] = tables;
    let file = LawFile {
        format: FORMAT,
        program: format!("forgetting-laws for Python {}", env!("CARGO_PKG_VERSION")),
        commit: String::new(),
        input: Input {
            path: given.source,
            sha256: given.sha256,
            map: given.map,
            filters: Vec::new(),
            wide: None,
            group_by: None,
            runs: None,
            weight: None,
            percent: false,
            decimal_comma: false,
            hold_out: options.hold_out,
            warnings,
        },
        groups: vec![Group { fit, proof, sweep }],
        comparisons: Vec::new(),
        checklist,
        rankings: ranking.into_iter().collect(),
        growths: Vec::new(),
    };
    Ok(Fit { file, fitted: Some((table, options)), whole: OnceLock::new() })
}

/// A ranking as JSON and in words, and the form to rely on with the reason.
type Ranked = (String, String, Option<(String, String)>);

fn ranked(ranking: &fit::Ranking) -> Ranked {
    let preferred = ranking.preferred().map(|preferred| (preferred.form, preferred.why));
    (json(ranking), report::ranking::text(ranking), preferred)
}

/// Ranks the forms of the law of a loss on held-out runs; `None` where fewer than two can be compared.
#[pyfunction]
#[pyo3(signature = (given, laws, vocab_size, settings, progress))]
fn rank_laws(
    py: Python<'_>,
    given: PyTable,
    laws: Vec<String>,
    vocab_size: Option<u32>,
    settings: Settings,
    progress: Option<Py<PyAny>>,
) -> PyResult<Option<Ranked>> {
    let names: Vec<&str> = laws.iter().map(String::as_str).collect();
    let laws = match names[..] {
        ["all-forgetting"] => laws::forms(Column::LossPt, vocab_size),
        ["all-finetuning"] => laws::forms(Column::LossFt, None),
        _ => names
            .iter()
            .map(|law| laws::by_name(law).map_err(raise))
            .collect::<PyResult<Vec<&'static dyn Law>>>()?,
    };
    if names != ["all-forgetting"] {
        unused(vocab_size, "laws = all-forgetting")?;
    }
    let options = settings.options()?;
    let ranking = watched(py, progress, || fit::rank(&given.table()?, &laws, &[], &options))?;
    Ok(ranking.as_ref().map(ranked))
}

/// A law as Python lists it: its name, equation, loss, inputs and parameters.
type Listed = (&'static str, &'static str, &'static str, Vec<&'static str>, Vec<&'static str>);

/// Every law that can be fitted.
#[pyfunction]
fn law_list() -> Vec<Listed> {
    let of = |law: &&'static dyn Law| {
        let inputs = law.inputs().iter().map(|input| input.column.name()).collect();
        let parameters = law.parameters().iter().map(|parameter| parameter.name).collect();
        (law.name(), law.equation(), law.output().name(), inputs, parameters)
    };
    laws::LAWS.iter().map(of).collect()
}

/// A limit of forgetting, in nats per token or as a share of L_pt0.
pub fn limit(nats: Option<f64>, share: Option<f64>) -> PyResult<Limit> {
    match (nats, share) {
        (Some(nats), None) => Ok(Limit::Nats(nats)),
        (None, Some(share)) => Ok(Limit::Relative(share)),
        (Some(nats), Some(share)) => {
            let requirement =
                format!("limit_nats = {nats} is given too; give one of them, and not both");
            Err(refuse("limit", share, &requirement))
        }
        (None, None) => Err(refuse("limit", "none", "give it, or limit_nats")),
    }
}

/// What is asked of the laws beside the smallest p.
#[derive(FromPyObject)]
struct Further {
    p: Option<f64>,
    epochs: Option<f64>,
    target_loss: Option<f64>,
    worth: f64,
    larger: f64,
    new_runs: usize,
}

/// The smallest p that keeps to a limit, and the other answers of the command, as JSON.
#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "each is a keyword of the function in Python")]
fn advise(
    py: Python<'_>,
    fits: Vec<PyRef<'_, Fit>>,
    at: [f64; 5],
    nats: Option<f64>,
    share: Option<f64>,
    confidence: f64,
    further: Further,
) -> PyResult<String> {
    let fits: Vec<fit::Fit> = fits.iter().map(|fit| fit.fit().clone()).collect();
    let questions = Questions {
        row: row(&at),
        limit: limit(nats, share)?,
        confidence,
        p: further.p,
        epochs: further.epochs,
        target_loss: further.target_loss,
        worth: further.worth,
        larger: further.larger,
        new_runs: Some(further.new_runs).filter(|count| *count > 0),
    };
    let mut answers = watched(py, None, || Ok(Advisor::new(&fits).answers(&questions)))?;
    let unanswered = std::mem::take(&mut answers.unanswered);
    let mut advice = serde_json::to_value(&answers).expect("our types have string keys");
    let map = advice.as_object_mut().expect("answers have names");
    let mut why_not = serde_json::Map::new();
    for Unanswered { question, why } in unanswered {
        let name = match question {
            // Without it there is no advice.
            Question::SmallestP => return Err(raise(why)),
            Question::OnTarget => "on_target",
            Question::TargetLoss => "target_loss",
            Question::WorthCollecting => "worth_collecting",
            Question::LargerModel => "larger_model",
            Question::BestNewRuns => "best_new_runs",
        };
        why_not.insert(name.into(), of_python(&why.to_string()).into());
    }
    map.insert("unanswered".into(), why_not.into());
    // The run that was asked about, and what holds for its smallest p, stand beside the other answers.
    if let Some(asked) = map.remove("asked") {
        map.insert("asked_p".into(), asked["p"].clone());
        map.insert("loss_pt0".into(), asked["loss_pt0"].clone());
    }
    if let Some(serde_json::Value::Object(smallest_p)) = map.remove("smallest_p") {
        map.extend(smallest_p);
    }
    in_sentences(&mut advice);
    Ok(json(&advice))
}

/// Makes sentences of the warnings in an answer.
pub fn in_sentences(value: &mut serde_json::Value) {
    if let serde_json::Value::Array(values) = value {
        values.iter_mut().for_each(in_sentences);
    }
    let serde_json::Value::Object(map) = value else { return };
    for (name, value) in map {
        match serde_json::from_value::<Vec<Warning>>(value.clone()) {
            Ok(warnings) if name == "warnings" => {
                *value = warnings.iter().map(told).collect::<Vec<_>>().into();
            }
            _ => in_sentences(value),
        }
    }
}

/// A warning with its remedy.
fn told(warning: &Warning) -> String {
    of_python(&warning.with_remedy())
}

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Fit>()?;
    module.add_function(wrap_pyfunction!(fit_law, module)?)?;
    module.add_function(wrap_pyfunction!(rank_laws, module)?)?;
    module.add_function(wrap_pyfunction!(law_list, module)?)?;
    module.add_function(wrap_pyfunction!(advise, module)?)
}
