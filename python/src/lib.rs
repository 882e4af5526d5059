//! What Python calls. Structures cross the border as JSON, whose numbers keep all their digits; the
//! package in `forgetting_laws/` gives them their shape.

use forgetting_laws::fit::{self, Advisor, Bootstrap, HoldOut, Limit, Options};
use forgetting_laws::injection::{self, Draw, MixtureSpec, SamplerKind};
use forgetting_laws::laws::{self, Law, Row};
use forgetting_laws::rng::Key;
use forgetting_laws::study::{Losses, Made, Question, Study};
use forgetting_laws::table::{Column, Run, Table};
use forgetting_laws::{Error, Fraction};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::PathBuf;

pyo3::create_exception!(
    _native,
    ForgettingLawsError,
    PyValueError,
    "What the library refuses, in one line that says what, where and what to do."
);

/// The library's sentence as Python's exception.
fn raise(error: Error) -> PyErr {
    match error {
        Error::Io { path, source } => PyOSError::new_err(format!("{}: {source}", path.display())),
        other => ForgettingLawsError::new_err(other.to_string()),
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("our types have string keys")
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> PyResult<T> {
    serde_json::from_str(text).map_err(|error| ForgettingLawsError::new_err(error.to_string()))
}

/// A table from columns of numbers, in which `None` is a missing cell, and columns of labels.
fn table(
    rows: usize,
    numbers: HashMap<String, Vec<Option<f64>>>,
    labels: HashMap<String, Vec<String>>,
) -> PyResult<Table> {
    let mut runs: Vec<Run> =
        (1..=rows as u64).map(|line| Run { line: Some(line), ..Run::default() }).collect();
    for (name, values) in numbers {
        let column = Column::ALL.into_iter().find(|column| column.name() == name);
        for (run, value) in runs.iter_mut().zip(values) {
            match (column, name.as_str()) {
                (Some(column), _) => run.set(column, value),
                (None, "weight") => run.weight = value.unwrap_or(f64::NAN),
                (None, "epochs") => run.epochs = value,
                _ => return Err(unknown("column", &name)),
            }
        }
    }
    for (name, values) in labels {
        for (run, value) in runs.iter_mut().zip(values) {
            match name.as_str() {
                "domain" => run.domain = value,
                "seed" => run.seed = value,
                "run" => run.run = value,
                "parent_id" => run.parent = value,
                _ => return Err(unknown("column", &name)),
            }
        }
    }
    Ok(Table::new(runs))
}

fn unknown(what: &str, name: &str) -> PyErr {
    raise(Error::setting(what, name, "is not known"))
}

fn options(
    resamples: usize,
    level: f64,
    seed: u64,
    hold_out: Option<&str>,
    threads: usize,
) -> PyResult<Options> {
    let hold_out = match hold_out {
        None => None,
        Some("size") => Some(HoldOut::Size),
        Some("data") => Some(HoldOut::Data),
        Some("p") => Some(HoldOut::P),
        Some("largest") => Some(HoldOut::Largest),
        Some(other) => {
            let requirement = "must be size, data, p, largest or None";
            return Err(raise(Error::setting("hold_out", other, requirement)));
        }
    };
    let bootstrap = Bootstrap { resamples, level, seed };
    Ok(Options { bootstrap, hold_out, threads, ..Options::default() })
}

/// A fitted law.
#[pyclass(frozen, module = "forgetting_laws._native")]
struct Fit(fit::Fit);

#[pymethods]
impl Fit {
    /// The fit as it stands in the command's law.json.
    fn to_json(&self) -> String {
        json(&self.0)
    }

    #[staticmethod]
    fn from_json(text: &str) -> PyResult<Self> {
        parse(text).map(Self)
    }

    /// For each warning its message, with its identifier, and what to do.
    fn warnings(&self) -> Vec<(String, String)> {
        let of = |warning: &forgetting_laws::warning::Warning| {
            (warning.to_string(), warning.kind.remedy().to_string())
        };
        self.0.warnings.iter().map(of).collect()
    }

    /// The columns that the law reads.
    fn inputs(&self) -> Vec<&'static str> {
        self.0.law.inputs().iter().map(|input| input.column.name()).collect()
    }

    /// L_pt0 at a size, interpolated between the fitted ones.
    fn loss_pt0_at(&self, n_params: f64) -> Option<f64> {
        self.0.loss_pt0_at(n_params).map(|found| found.loss_pt0)
    }

    /// Predictions for rows of N, D_ft, p, L_pt0 and D, as JSON; NaN where a law does not read one.
    fn predict(&self, py: Python<'_>, rows: Vec<[f64; 5]>) -> PyResult<String> {
        let needed = self.0.law.inputs();
        for row in rows.iter().map(row) {
            for input in needed {
                let value = row.get(input.column);
                let good = match input.column {
                    Column::P => (0.0..=1.0).contains(&value),
                    _ => value.is_finite() && value > 0.0,
                };
                if !good {
                    let requirement = match input.column {
                        Column::P => "must lie between 0 and 1",
                        _ => "must be a number above 0",
                    };
                    return Err(raise(Error::setting(input.column.name(), value, requirement)));
                }
            }
        }
        Ok(py.detach(|| json(&rows.iter().map(|r| self.0.predict(&row(r))).collect::<Vec<_>>())))
    }
}

fn row(&[n_params, d_ft_tokens, p, loss_pt0, d_tokens]: &[f64; 5]) -> Row {
    Row { n_params, d_ft_tokens, p, loss_pt0, d_tokens }
}

/// Fits a law to a table.
#[pyfunction]
#[pyo3(signature = (rows, numbers, labels, law, resamples, level, seed, hold_out, threads))]
#[allow(clippy::too_many_arguments, reason = "each is a keyword of the function in Python")]
fn fit_law(
    py: Python<'_>,
    rows: usize,
    numbers: HashMap<String, Vec<Option<f64>>>,
    labels: HashMap<String, Vec<String>>,
    law: &str,
    resamples: usize,
    level: f64,
    seed: u64,
    hold_out: Option<&str>,
    threads: usize,
) -> PyResult<Fit> {
    let table = table(rows, numbers, labels)?;
    let law = laws::by_name(law).map_err(raise)?;
    let options = options(resamples, level, seed, hold_out, threads)?;
    py.detach(|| fit::fit(&table, law, &options)).map(Fit).map_err(raise)
}

/// Ranks the forms of the law of a loss on held-out runs, as JSON: null where fewer than two can be
/// compared.
#[pyfunction]
fn rank_laws(
    py: Python<'_>,
    rows: usize,
    numbers: HashMap<String, Vec<Option<f64>>>,
    labels: HashMap<String, Vec<String>>,
    laws: Vec<String>,
    resamples: usize,
) -> PyResult<String> {
    let table = table(rows, numbers, labels)?;
    let laws: Vec<&'static dyn Law> =
        laws.iter().map(|law| laws::by_name(law).map_err(raise)).collect::<PyResult<_>>()?;
    let options = options(resamples, 0.9, 0, None, 0)?;
    let ranking = py.detach(|| fit::rank(&table, &laws, &[], &options)).map_err(raise)?;
    Ok(json(&ranking))
}

/// For each law its name, equation, loss, inputs and parameters.
#[pyfunction]
fn law_list()
-> Vec<(&'static str, &'static str, &'static str, Vec<&'static str>, Vec<&'static str>)> {
    let of = |law: &&'static dyn Law| {
        let inputs = law.inputs().iter().map(|input| input.column.name()).collect();
        let parameters = law.parameters().iter().map(|parameter| parameter.name).collect();
        (law.name(), law.equation(), law.output().name(), inputs, parameters)
    };
    laws::LAWS.iter().map(of).collect()
}

fn limit(nats: Option<f64>, share: Option<f64>) -> PyResult<Limit> {
    match (nats, share) {
        (Some(nats), None) => Ok(Limit::Nats(nats)),
        (None, Some(share)) => Ok(Limit::Relative(share)),
        _ => Err(raise(Error::setting(
            "limit",
            "none",
            "give nats or a share of L_pt0, and not both",
        ))),
    }
}

/// The smallest p that keeps to a limit, as JSON.
#[pyfunction]
fn smallest_p(
    py: Python<'_>,
    fits: Vec<PyRef<'_, Fit>>,
    at: [f64; 5],
    nats: Option<f64>,
    share: Option<f64>,
    confidence: f64,
) -> PyResult<String> {
    let fits: Vec<fit::Fit> = fits.iter().map(|fit| fit.0.clone()).collect();
    let limit = limit(nats, share)?;
    let found = py.detach(|| Advisor::new(fits.iter()).smallest_p(&row(&at), limit, confidence));
    found.map(|found| json(&found)).map_err(raise)
}

/// Which sequence stands at which position of a finetuning with injection.
#[pyclass(frozen, module = "forgetting_laws._native")]
struct Mixture {
    mixture: injection::Mixture,
    spec: MixtureSpec,
}

#[pymethods]
impl Mixture {
    #[new]
    #[allow(clippy::too_many_arguments, reason = "each is a keyword of the class in Python")]
    fn new(
        p: f64,
        sampler: &str,
        seed: u64,
        steps: u64,
        batch: u64,
        target_sequences: u64,
        reserved_sequences: u64,
        replay_sequences: Option<u64>,
        sequence_tokens: u64,
    ) -> PyResult<Self> {
        let sampler = match sampler {
            "independent" => SamplerKind::Independent,
            "exact" => SamplerKind::Exact,
            other => {
                let requirement = "must be exact or independent";
                return Err(raise(Error::setting("sampler", other, requirement)));
            }
        };
        let spec = MixtureSpec {
            sampler,
            p: Fraction::new(p).map_err(raise)?,
            steps,
            global_batch: batch,
            target_sequences,
            reserved_sequences,
            replay_sequences,
            sequence_tokens,
        };
        // The key of this project's own finetunings.
        let mixture = spec.build(Key::new(seed).named("finetuning")).map_err(raise)?;
        Ok(Self { mixture, spec })
    }

    /// The sequences at positions start to stop, in native 64-bit integers: i for the i-th of the target,
    /// and target_sequences + j for the j-th of the pretraining data.
    fn indices<'py>(&self, py: Python<'py>, start: u64, stop: u64) -> Bound<'py, PyBytes> {
        let end = self.spec.steps * self.spec.global_batch;
        let bytes: Vec<u8> = py.detach(|| {
            let draw = |position| match self.mixture.draw(position) {
                Some(Draw::Target(i)) => i as i64,
                Some(Draw::Pretrain(j)) => (self.spec.target_sequences + j) as i64,
                None => unreachable!("positions end with the last step"),
            };
            (start.min(end)..stop.min(end))
                .flat_map(|position| draw(position).to_ne_bytes())
                .collect()
        });
        PyBytes::new(py, &bytes)
    }

    /// Sequences of the target and of the pretraining data in the first steps.
    fn counts(&self, steps: u64) -> (u64, u64) {
        let counts = self.mixture.counts(steps);
        (counts.target, counts.pretrain)
    }

    /// The epoch of the target that a step starts in.
    fn target_epoch(&self, step: u64) -> u64 {
        self.mixture.target_epoch(step)
    }
}

/// The part of a batch that a rank takes.
#[pyfunction]
fn share(batch: u64, rank: u64, ranks: u64) -> (u64, u64) {
    let part = injection::share(batch, rank, ranks);
    (part.start, part.end)
}

fn losses(loss_pt0: Option<f64>, loss_pt: Option<f64>, loss_ft: Option<f64>) -> Losses {
    Losses { loss_pt0, loss_pt, loss_ft }
}

/// A model to begin a study with: its name, N and cost.
type Model = (String, f64, f64);
/// A run that could be made: the name of its model, D_ft, p and cost.
type Candidate = (String, f64, f64, f64);

/// Writes a new study.
#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "each is a keyword of the function in Python")]
fn study_new(
    path: PathBuf,
    n_params: f64,
    d_ft_tokens: f64,
    nats: Option<f64>,
    share: Option<f64>,
    confidence: f64,
    p: Vec<f64>,
    loss_pt0: Option<f64>,
    models: Vec<Model>,
    candidates: Vec<Candidate>,
) -> PyResult<()> {
    let limit = limit(nats, share)?;
    let question = Question { n_params, d_ft_tokens, limit, confidence, p, loss_pt0 };
    let begin = || {
        let mut study = Study::new(question)?;
        for (name, n_params, cost) in &models {
            study.add_model(name, *n_params, *cost)?;
        }
        for (model, d_ft_tokens, p, cost) in &candidates {
            study.add_candidate(model, *d_ft_tokens, *p, *cost)?;
        }
        study.create(&path)
    };
    begin().map_err(raise)
}

/// Changes the study of a file without the interpreter's lock.
fn change<T: Send>(
    py: Python<'_>,
    path: PathBuf,
    change: impl FnOnce(&mut Study) -> forgetting_laws::Result<T> + Send,
) -> PyResult<T> {
    py.detach(|| Study::change(&path, change)).map_err(raise)
}

/// Hands out runs, as JSON.
#[pyfunction]
fn study_ask(py: Python<'_>, path: PathBuf, count: usize) -> PyResult<String> {
    change(py, path, |study| study.ask(count)).map(|asked| json(&asked))
}

/// Takes the losses of a run.
#[pyfunction]
fn study_tell(
    py: Python<'_>,
    path: PathBuf,
    run: u64,
    loss_pt0: Option<f64>,
    loss_pt: Option<f64>,
    loss_ft: Option<f64>,
) -> PyResult<()> {
    change(py, path, |study| study.tell(run, losses(loss_pt0, loss_pt, loss_ft)))
}

/// Takes a run that was made elsewhere, and returns its number.
#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "each is a keyword of the function in Python")]
fn study_add(
    py: Python<'_>,
    path: PathBuf,
    model: Option<String>,
    n_params: f64,
    d_ft_tokens: f64,
    p: f64,
    loss_pt0: Option<f64>,
    loss_pt: Option<f64>,
    loss_ft: Option<f64>,
) -> PyResult<u64> {
    let losses = losses(loss_pt0, loss_pt, loss_ft);
    change(py, path, |study| study.add(&Made { model, n_params, d_ft_tokens, p, losses }))
}

/// Takes note of a run without a result.
#[pyfunction]
fn study_fail(py: Python<'_>, path: PathBuf, run: u64, why: &str) -> PyResult<()> {
    change(py, path, |study| study.fail(run, why))
}

/// Takes a run back.
#[pyfunction]
fn study_release(py: Python<'_>, path: PathBuf, run: u64) -> PyResult<()> {
    change(py, path, |study| study.release(run))
}

/// The whole study, as JSON.
#[pyfunction]
fn study_read(path: PathBuf) -> PyResult<String> {
    Study::read(&path).map(|study| json(&study)).map_err(raise)
}

/// What the runs say, as JSON: the answer, and the standard deviation of the answer by the design.
#[pyfunction]
fn study_answer(py: Python<'_>, path: PathBuf, resamples: usize) -> PyResult<String> {
    let options = options(resamples, 0.9, 0, Some("size"), 0)?;
    let answered = py.detach(|| {
        let study = Study::read(&path)?;
        Ok((study.answer(&options), study.deviation()?))
    });
    answered.map(|answered| json(&answered)).map_err(raise)
}

unsafe extern "C" {
    /// OpenBLAS's own, of the library that the wheel brings along.
    fn openblas_set_num_threads(threads: std::ffi::c_int);
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    // The fits' matrices are small, and several threads of a fit ask for them at once. Not by the
    // variable OPENBLAS_NUM_THREADS, which NumPy's own OpenBLAS would read too.
    // SAFETY: it takes any number, before any other call of this library.
    unsafe { openblas_set_num_threads(1) };
    module.add("ForgettingLawsError", module.py().get_type::<ForgettingLawsError>())?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<Fit>()?;
    module.add_class::<Mixture>()?;
    module.add_function(wrap_pyfunction!(fit_law, module)?)?;
    module.add_function(wrap_pyfunction!(rank_laws, module)?)?;
    module.add_function(wrap_pyfunction!(law_list, module)?)?;
    module.add_function(wrap_pyfunction!(smallest_p, module)?)?;
    module.add_function(wrap_pyfunction!(share, module)?)?;
    module.add_function(wrap_pyfunction!(study_new, module)?)?;
    module.add_function(wrap_pyfunction!(study_ask, module)?)?;
    module.add_function(wrap_pyfunction!(study_tell, module)?)?;
    module.add_function(wrap_pyfunction!(study_add, module)?)?;
    module.add_function(wrap_pyfunction!(study_fail, module)?)?;
    module.add_function(wrap_pyfunction!(study_release, module)?)?;
    module.add_function(wrap_pyfunction!(study_read, module)?)?;
    module.add_function(wrap_pyfunction!(study_answer, module)?)?;
    Ok(())
}
