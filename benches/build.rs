//! Passes on what libtorch and OpenBLAS need of the linker: link arguments do not propagate.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let arguments = std::env::var("DEP_FORGETTING_LAWS_LINK_ARGS").unwrap_or_default();
    for argument in arguments.split('\t').filter(|argument| !argument.is_empty()) {
        println!("cargo::rustc-link-arg={argument}");
    }
}
