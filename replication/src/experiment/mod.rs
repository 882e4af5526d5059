//! The runs of an experiment: the settings, the grid of runs, the data, and the workers that carry out
//! the runs.

#[cfg_attr(
    not(feature = "torch"),
    allow(dead_code, unused_variables, reason = "a part of it serves libtorch")
)]
pub mod compute;
pub mod config;
pub mod data;
pub mod estimate;
pub mod grid;
pub mod interrupts;
pub mod job;
pub mod known;
pub mod memory;
pub mod provenance;
pub mod queue;
pub mod ranks;
pub mod reader;
pub mod worker;
