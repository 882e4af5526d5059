//! Compiles the C++ file against the libtorch that torch-sys was compiled against.
//!
//! Gloo is inside every libtorch for Linux, and NCCL inside those with CUDA. Neither needs headers beyond
//! libtorch's own.

use std::env;
use std::path::PathBuf;

fn main() {
    for path in ["build.rs", "src/c10d.cpp", "src/c10d.h", "gloo-declarations"] {
        println!("cargo::rerun-if-changed={path}");
    }
    // Without libtorch there is nothing to compile against: as documentation is built.
    let Some(library) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else { return };
    let include = library.parent().unwrap_or(&library).join("include");
    cc::Build::new()
        .cpp(true)
        .pic(true)
        .warnings(false)
        // A few calls of a library; as high as torch-sys, whose C++ it stands beside.
        .opt_level(1)
        .debug(false)
        .std("c++17")
        .define("USE_C10D_GLOO", None)
        .define("GLOG_USE_GLOG_EXPORT", None)
        .include("gloo-declarations")
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .file("src/c10d.cpp")
        .compile("torch_ext");
    println!("cargo::rustc-link-search=native={}", library.display());
    for library in ["torch_cpu", "c10"] {
        println!("cargo::rustc-link-lib=dylib={library}");
    }
    // For this package's own tests.
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", library.display());
}
