//! The command line, one file per command. No other layer imports from here.

pub mod advise;
pub mod compare;
pub mod draw;
pub mod fit;
pub mod predict;
pub mod study;
pub mod table;
#[cfg(test)]
mod tests;
#[cfg(feature = "train")]
pub mod train;
#[cfg(not(feature = "train"))]
#[path = "train_left_out.rs"]
pub mod train;
pub mod values;
