//! Safe Rust over the part of libtorch's c10d that data-parallel training needs: the TCPStore where
//! processes meet, and process groups of Gloo (CPU) and NCCL (CUDA) with all-reduce, broadcast,
//! barrier and abort.
//!
//! ```no_run
//! use std::time::Duration;
//! use torch_ext::{Backend, Group, Place};
//!
//! // As torchrun or srun started this process.
//! let place = Place::from_env()?.expect("started with RANK and WORLD_SIZE");
//! let store = place.meet(Duration::from_secs(60))?;
//! let group = Group::open(&store, &place, "gradients", Backend::Gloo, Duration::from_secs(600))?;
//! let mut flat = tch::Tensor::ones([1 << 20], tch::kind::FLOAT_CPU);
//! group.all_reduce_sum(&mut flat)?;
//! # Ok::<(), torch_ext::Error>(())
//! ```

#![allow(unsafe_code, reason = "this crate is the safe side of calls of C++")]

mod ffi;
mod group;
mod place;
mod store;

pub use group::{Backend, Group, has_nccl};
pub use place::Place;
pub use store::Store;

use std::ffi::{CStr, CString, c_char};
use std::time::Duration;

/// What went wrong between the ranks.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An environment variable with an invalid value.
    #[error("{name}={value} {requirement}")]
    Variable {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What the variable must be.
        requirement: String,
    },
    /// Not every rank arrived, or the ranks do not fit together.
    #[error("{0}")]
    Meeting(String),
    /// c10d refused, or another rank was lost.
    #[error("{what}: {said}")]
    C10d {
        /// What was tried.
        what: String,
        /// What c10d said.
        said: String,
    },
}

/// The result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// The vector instructions that libtorch's CPU kernels were chosen for, by its own name for them: `DEFAULT`,
/// `AVX2` or `AVX512` on x86-64.
pub fn cpu_capability() -> String {
    // SAFETY: gives away a string.
    taken(unsafe { ffi::torch_ext_cpu_capability() }).unwrap_or_default()
}

/// Keeps libtorch's notes about repeated connection attempts off standard error; this crate's
/// errors say what failed.
pub fn quiet() {
    // SAFETY: sets one number.
    unsafe { ffi::torch_ext_quiet() }
}

/// The text behind a pointer that C++ gave away.
fn taken(text: *mut c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not null, it is a string that ends with a zero and is given to us to free.
    unsafe {
        let owned = CStr::from_ptr(text).to_string_lossy().into_owned();
        ffi::torch_ext_free(text.cast());
        Some(owned)
    }
}

/// An error if C++ returned one.
fn check(what: impl FnOnce() -> String, returned: *mut c_char) -> Result<()> {
    match taken(returned) {
        None => Ok(()),
        Some(said) => Err(Error::C10d { what: what(), said: in_a_line(&said) }),
    }
}

/// A text of libtorch's as one line, without the trace that may follow. NCCL says on its second and
/// third what happened.
fn in_a_line(said: &str) -> String {
    let is_trace = |line: &&str| {
        ["Exception raised from", "frame #"].iter().any(|start| line.starts_with(start))
    };
    let lines = said.lines().map(str::trim).take_while(|line| !is_trace(line));
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A text without inner zeros for C++.
fn c_text(text: &str) -> CString {
    let bytes = text.bytes().filter(|&byte| byte != 0).collect::<Vec<u8>>();
    CString::new(bytes).expect("zeros are left out")
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn libtorch_names_its_vector_instructions() {
        let name = cpu_capability();
        assert!(["DEFAULT", "AVX2", "AVX512"].contains(&&*name), "{name}");
    }

    #[test]
    fn what_libtorch_says_is_a_line_without_its_trace() {
        let said = "NCCL error in: /a.cpp:93, invalid usage\nncclInvalidUsage: this.\nLast error:\n\
                    Duplicate GPU detected : rank 1 and rank 0\n";
        assert_eq!(
            in_a_line(said),
            "NCCL error in: /a.cpp:93, invalid usage ncclInvalidUsage: this. Last error: \
             Duplicate GPU detected : rank 1 and rank 0"
        );
        let said = "it failed\nException raised from run at /a.cpp:1\nframe #0: b\n";
        assert_eq!(in_a_line(said), "it failed");
    }
}
