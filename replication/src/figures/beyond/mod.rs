//! Figures beyond the paper.

pub mod ablations;
pub mod counting;
pub mod isoflop;
pub mod path;
pub mod prevented;
