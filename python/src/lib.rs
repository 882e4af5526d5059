//! What Python calls. Tables and predictions cross the border as bytes of 64-bit floats, structures as
//! JSON, whose numbers keep all their digits; the package in `forgetting_laws/` gives them their shape.

mod fits;
mod mixture;
mod study;
mod table;
mod training;

use forgetting_laws::Error;
use forgetting_laws::fit::Watch;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

pyo3::create_exception!(
    _native,
    ForgettingLawsError,
    PyValueError,
    "What the library refuses, in one line that says what, where and what to do."
);

/// The library's sentence as Python's exception.
fn raise(error: Error) -> PyErr {
    match error {
        Error::Io { path, source } => os_error(&path, &source),
        other => ForgettingLawsError::new_err(of_python(&other.to_string())),
    }
}

/// A subclass of OSError such as FileNotFoundError, with the file in its message and as its `filename`.
fn os_error(path: &Path, source: &io::Error) -> PyErr {
    let Some(code) = source.raw_os_error() else {
        return PyOSError::new_err(format!("{}: {source}", path.display()));
    };
    let words = source.to_string();
    let reason = words.strip_suffix(&format!(" (os error {code})")).unwrap_or(&words);
    // Of these arguments Python makes the subclass.
    PyOSError::new_err((code, reason.to_owned(), path.as_os_str().to_owned()))
}

/// A sentence of the library with the names that Python has for the command's options.
fn of_python(sentence: &str) -> String {
    const NAMES: [(&str, &str); 14] = [
        ("(--map ", "(columns "),
        ("give the spread with --model-spread", "give the spread as model_spread"),
        (
            "with --group-by, --runs, --weight or --map",
            "with domain, or with columns, as {\"run\": \"run\"}",
        ),
        ("name another one with --runs", "name another one as columns={\"run\": ...}"),
        (", as `fit --percent` does", ""),
        ("; `fit --percent` takes it for a percentage", "; divide a percentage by 100"),
        (" (--where interior=true)", ""),
        ("along another axis with --hold-out", "along another axis with hold_out"),
        ("Compare other forms (--law all)", "Compare other forms with fl.compare"),
        ("; fit it too (--law all)", "; fit it too"),
        ("use another --penalty or --delta", "use another penalty or delta"),
        ("fit again with --bootstrap 1000", "fit again with bootstrap=1000"),
        ("give it with --loss-pt0", "give it as loss_pt0"),
        ("--loss-pt0", "loss_pt0"),
    ];
    let renamed = |text: String, (option, name): (&str, &str)| text.replace(option, name);
    NAMES.into_iter().fold(sentence.to_owned(), renamed)
}

fn refuse(name: &str, value: impl ToString, requirement: &str) -> PyErr {
    raise(Error::setting(name, value, requirement))
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("our types have string keys")
}

/// A value of one of the library's enumerations by its name.
fn named<'a, T: Deserialize<'a>>(what: &str, name: &'a str, names: &str) -> PyResult<T> {
    let name_of = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(name);
    T::deserialize(name_of).map_err(|_| refuse(what, name, &format!("must be {names}")))
}

/// How often a long call looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);

/// Computes without the interpreter's lock, tells `progress` how far it is, and stops at Ctrl-C or where
/// `progress` raises.
fn watched<T: Send>(
    py: Python<'_>,
    progress: Option<Py<PyAny>>,
    compute: impl FnOnce() -> forgetting_laws::Result<T> + Send,
) -> PyResult<T> {
    let watch = Watch::default();
    let look = |py: Python<'_>| {
        py.check_signals()?;
        progress.as_ref().map_or(Ok(()), |told| told.call1(py, watch.progress()).map(|_| ()))
    };
    py.detach(|| {
        thread::scope(|scope| {
            // The sender goes with the worker, whose end is so noticed at once.
            let (working, ended) = mpsc::channel::<()>();
            let worker = scope.spawn(|| {
                let _working = working;
                watch.run(compute)
            });
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(LOOK) {
                if let Err(stop) = Python::attach(look) {
                    watch.stop();
                    let _ = worker.join();
                    return Err(stop);
                }
            }
            match worker.join() {
                Ok(computed) => computed.map_err(raise),
                Err(_) => Err(ForgettingLawsError::new_err(
                    "an error in this library; standard error has its details",
                )),
            }
        })
    })
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
    table::add(module)?;
    fits::add(module)?;
    mixture::add(module)?;
    study::add(module)?;
    training::add(module)
}
