//! The names of blocks that several layers use. A preset may have others.

/// The grid of the paper's two laws. Other blocks inherit what they leave out from it.
pub const MAIN: &str = "main";

/// The block that repeats some runs of the main grid with other seeds.
pub const SEEDS: &str = "seeds";

/// The block that repeats some runs of the main grid from other pretrained models of the same size.
pub const MODELS: &str = "models";

/// The block of many domains at the same N, D_ft and p.
pub const DOMAINS: &str = "domains";
