//! The names of the grid's blocks that several layers ask for. A preset may have others.

/// The grid of the paper's two laws, and the block that others take from what they leave out.
pub const MAIN: &str = "main";

/// The block of other seeds of some runs of the main grid.
pub const SEEDS: &str = "seeds";

/// The block of some runs of the main grid from other pretrained models of their sizes.
pub const MODELS: &str = "models";

/// The block of many domains at the same N, D_ft and p.
pub const DOMAINS: &str = "domains";
