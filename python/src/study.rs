//! Ask and tell.

use super::fits::{in_sentences, limit};
use super::{json, raise, watched};
use forgetting_laws::fit::{Bootstrap, Options};
use forgetting_laws::study::{Losses, Made, Question, Study};
use pyo3::prelude::*;
use std::path::PathBuf;

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
    vocab_size: Option<u32>,
    models: Vec<Model>,
    candidates: Vec<Candidate>,
) -> PyResult<()> {
    let limit = limit(nats, share)?;
    let question = Question { n_params, d_ft_tokens, limit, confidence, p, loss_pt0, vocab_size };
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

/// Changes the study of a file without the interpreter's lock; Ctrl-C stops it.
fn change<T: Send>(
    py: Python<'_>,
    path: PathBuf,
    change: impl FnOnce(&mut Study) -> forgetting_laws::Result<T> + Send,
) -> PyResult<T> {
    watched(py, None, || Study::change(&path, change))
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

/// What the runs say, as JSON: the answer, its standard deviation by the design, and the p of the law alone.
#[pyfunction]
fn study_answer(
    py: Python<'_>,
    path: PathBuf,
    resamples: usize,
    model_spread: Option<f64>,
) -> PyResult<String> {
    let bootstrap = Bootstrap { resamples, ..Bootstrap::default() };
    let options = Options { bootstrap, model_spread, ..Options::default() };
    let answered = watched(py, None, || {
        options.bootstrap.check()?;
        let study = Study::read(&path)?;
        let answer = study.answer(&options);
        let by_law = answer.by_law();
        Ok((answer, study.deviation()?, by_law))
    });
    let mut answered = serde_json::json!(answered?);
    in_sentences(&mut answered);
    Ok(json(&answered))
}

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
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
