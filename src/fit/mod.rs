//! Fitting the laws to runs, and saying what a fit can and cannot know.
//!
//! Linear algebra is LAPACK's through [`ndarray_linalg`]. In this workspace an OpenBLAS is linked
//! beside libtorch, which keeps its own BLAS; a package that depends on this one chooses a backend
//! with a feature such as `openblas-system`.

mod identifiability;

pub use identifiability::{DEFAULT_TOLERANCE, Direction, Identifiability, jacobian};
