//! The benchmarks of `forgetting-laws`, run with `cargo bench -p benches`. This library is empty:
//! each benchmark is a file beside it.
