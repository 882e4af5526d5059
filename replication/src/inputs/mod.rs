//! What runs start from: text, tokenizers and pretrained models, and what is known of their files
//! without reading them again.

pub mod fields;
pub mod files;
pub mod fingerprint;
pub mod pretrained;
pub mod registry;
pub mod sources;
pub mod tokenizers;
