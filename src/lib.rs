//! Scaling laws for forgetting during finetuning with pretraining data injection.
//!
//! A language model that is finetuned forgets part of what it learned in pretraining, and injecting
//! some pretraining data into the finetuning prevents part of the forgetting. This crate fits the
//! scaling laws of Béthune et al., "Scaling Laws for Forgetting during Finetuning with Pretraining
//! Data Injection" (ICML 2025, arXiv 2502.06042), to measured losses, advises which fraction to
//! inject and which run to make next, and trains such runs. The paper came without code; this is an
//! open implementation.
//!
//! # From a table to a law
//!
#![cfg_attr(feature = "fit", doc = "```")]
#![cfg_attr(not(feature = "fit"), doc = "```ignore")]
//! use forgetting_laws::fit::{Options, fit};
//! use forgetting_laws::laws::{Forgetting, Row};
//! use forgetting_laws::table::{Run, Table};
//!
//! // N, D_ft, p, L_pt before finetuning and L_pt at the bottom of the U-curve, in nats per token.
//! let losses = [
//!     (1e7, 1e5, 0.0, 3.60, 4.122), (1e7, 1e5, 0.01, 3.60, 3.751), (1e7, 1e6, 0.0, 3.60, 4.771),
//!     (1e7, 1e6, 0.01, 3.60, 3.944), (1e8, 1e5, 0.0, 2.90, 3.118), (1e8, 1e5, 0.01, 2.90, 2.960),
//!     (1e8, 1e6, 0.0, 2.90, 3.382), (1e8, 1e6, 0.01, 2.90, 3.041), (1e9, 1e5, 0.0, 2.40, 2.486),
//! ];
//! let runs = losses.map(|(n_params, d_ft_tokens, p, loss_pt0, loss_pt)| Run {
//!     row: Row { n_params, d_ft_tokens, p, loss_pt0, ..Row::default() },
//!     loss_pt: Some(loss_pt),
//!     ..Run::default()
//! });
//! let law = fit(&Table::new(runs.to_vec()), &Forgetting, &Options::default())?;
//! let asked = Row { n_params: 3e8, d_ft_tokens: 1e6, p: 0.005, loss_pt0: 2.63, ..Row::default() };
//! println!("{}: L_pt = {:.3}", law.equation, law.predict(&asked).value);
//! # assert!(law.predict(&asked).value > 2.63 && law.predict(&asked).value < 3.0);
//! # Ok::<(), forgetting_laws::Error>(())
//! ```
//!
//! # The modules
//!
//! The paper, each module readable in one sitting:
//!
//! | module | |
//! |---|---|
//! | [`pretraining`] | the budget of 100 tokens per parameter, and the schedule of the learning rate |
//! | [`finetuning`] | the rate of peak/30, the U-curve and its bottom |
//! | [`injection`] | which sequence, from which source, is at each position of a run |
//! | [`weight_decay`] | AdamW, and the three definitions of weight decay |
//! | [`model`] | shapes, sizes and how parameters are counted |
//! | [`laws`] | Equations 6 and 7, and other forms |
//!
//! From losses to answers:
//!
//! | module | |
//! |---|---|
//! | [`table`] | runs and their losses, read from CSV, JSON and Parquet |
//! | [`mod@fit`] | optima with proofs, intervals, held-out errors, predictions, advice, choice of runs |
//! | [`study`] | which run to make next with your own training code |
//! | [`warning`] | what not to trust about a fit or an answer |
//!
//! Data and training:
//!
//! | module | |
//! |---|---|
//! | [`data`] | sources of text, tokenizers, splits, token stores, distances of domains |
//! | [`hub`] | data sets and models from the Hugging Face Hub |
//! | [`checkpoint`] | models in Hugging Face's format: GPT-2, Llama, Qwen, Pythia and similar |
//! | [`engine`] | the training loop and its two engines |
//! | [`memory`] | what a training run holds in memory, and what fits a device |
//! | [`run`], [`store`] | what determines a run, and runs on disk |
//! | [`loss`], [`rng`] | means of losses, keyed random numbers |
//! | [`formats`], [`numbers`] | readers of file formats, numbers as people write them |
//! | [`words`], [`quiet`], [`parallel`] | numbers as reports write them, work that may panic, work on several threads |
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `fit` | [`mod@fit`] and [`study`]; needs LAPACK |
//! | `tables` | `table::read`: tables of losses from files; with `parquet` also from Parquet |
//! | `text` | text files, tokenizers, token stores |
//! | `hub` | [`hub`], and `text` |
//! | `checkpoint` | [`checkpoint`] |
//! | `train` | [`engine`] with the CPU engine, and `checkpoint` |
//! | `torch` | the libtorch engine: GPUs, bf16, several processes |
//! | `openblas-system` and similar | a LAPACK for `fit`, in packages that depend on this one |
//!
//! The rest of the crate needs no feature, and neither libtorch nor LAPACK.

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
pub mod memory;
pub mod model;
pub mod numbers;
pub mod parallel;
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
