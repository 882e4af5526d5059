//! Scaling laws for forgetting during finetuning with pretraining data injection.
//!
//! An open implementation of Béthune et al., "Scaling Laws for Forgetting during Finetuning with
//! Pretraining Data Injection" (ICML 2025, arXiv 2502.06042). The modules follow the paper's
//! sections; everything that is plain arithmetic builds without libtorch.

#[cfg(feature = "checkpoint")]
pub mod checkpoint;
pub mod data;
#[cfg(feature = "train")]
pub mod engine;
mod error;
pub mod finetuning;
#[cfg(feature = "fit")]
pub mod fit;
pub mod formats;
#[cfg(feature = "hub")]
pub mod hub;
pub mod injection;
pub mod laws;
pub mod loss;
pub mod model;
pub mod pretraining;
pub mod quiet;
pub mod rng;
pub mod run;
pub mod store;
#[cfg(feature = "fit")]
pub mod study;
pub mod table;
mod units;
pub mod warning;
pub mod weight_decay;
#[cfg(feature = "fit")]
pub mod words;

pub use error::{Error, Result};
pub use units::{Fraction, ParamCount};
