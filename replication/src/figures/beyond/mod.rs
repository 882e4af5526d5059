//! Figures beyond the paper.

pub mod ablations;
pub mod b_from_text;
pub mod counting;
pub mod isoflop;
pub mod path;
pub mod prevented;
