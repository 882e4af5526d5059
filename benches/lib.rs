//! The benchmarks of `forgetting-laws`, run with `cargo bench -p benches`: each is a file beside this
//! library, which has what they share.

use forgetting_laws::model::Precision;

/// An option of this call.
pub fn option(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

/// An option of this call, or what stands for it.
pub fn argument(name: &str, default: &str) -> String {
    option(name).unwrap_or_else(|| default.into())
}

/// What `--precision` asks for.
///
/// # Panics
/// If it is neither f32 nor bf16.
pub fn precision(default: &str) -> Precision {
    match argument("--precision", default).as_str() {
        "f32" => Precision::F32,
        "bf16" => Precision::Bf16,
        _ => panic!("--precision takes f32 or bf16"),
    }
}
