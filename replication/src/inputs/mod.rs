//! The inputs of runs: text, tokenizers and pretrained models, with cached facts about their files.

pub mod fields;
pub mod files;
pub mod fingerprint;
pub mod pretrained;
pub mod registry;
pub mod sources;
pub mod tokenizers;
