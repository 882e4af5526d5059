//! Compiles the C++ file against the libtorch that torch-sys was compiled against.
//!
//! Gloo is inside every libtorch for Linux, and needs nothing more. NCCL needs a libtorch
//! with CUDA, and the headers of CUDA and NCCL: it is compiled where all three are found. Beside PyTorch
//! from pip they come with it, but for those of the packages nvidia-cuda-crt and nvidia-cuda-cccl.

use std::env;
use std::path::{Path, PathBuf};

fn main() {
    for path in ["build.rs", "src/c10d.cpp", "src/c10d.h", "gloo-declarations"] {
        println!("cargo::rerun-if-changed={path}");
    }
    for name in ["CUDA_HOME", "NCCL_HOME"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    // Without libtorch there is nothing to compile against: as documentation is built.
    let Some(library) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else { return };
    let root = library.parent().unwrap_or(&library).to_path_buf();
    let include = root.join("include");
    let mut build = cc::Build::new();
    build
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
        .file("src/c10d.cpp");
    if let Some(nccl) = Nccl::find(&library) {
        build.define("USE_C10D_NCCL", None).include(&nccl.cuda).include(&nccl.nccl);
        build.include(nccl.cuda.join("cccl"));
        println!("cargo::rustc-cfg=nccl");
        for library in ["torch_cuda", "c10_cuda"] {
            println!("cargo::rustc-link-lib=dylib={library}");
        }
    }
    println!("cargo::rustc-check-cfg=cfg(nccl)");
    println!("cargo::rustc-link-search=native={}", library.display());
    build.compile("torch_ext");
    for library in ["torch_cpu", "c10"] {
        println!("cargo::rustc-link-lib=dylib={library}");
    }
    // For this package's own tests.
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", library.display());
}

/// Folders of headers.
struct Nccl {
    cuda: PathBuf,
    nccl: PathBuf,
}

impl Nccl {
    /// Beside libtorch as pip lays out PyTorch's packages, where the variables say, or where systems
    /// have them.
    fn find(library: &Path) -> Option<Self> {
        if !library.join("libtorch_cuda.so").exists() {
            return None;
        }
        let packages = library.ancestors().nth(2).map(|folder| folder.join("nvidia"));
        let named = |name: &str| env::var_os(name).map(|home| PathBuf::from(home).join("include"));
        let system = ["/usr/local/cuda/include", "/usr/include"].map(PathBuf::from);
        let find = |headers: &[&[&str]], own: &str, variable: &str| {
            let own = packages.as_ref().map(|packages| packages.join(own).join("include"));
            let places = named(variable).into_iter().chain(own).chain(system.clone());
            // Of each header one of the places that versions have it at.
            let has = |place: &Path, at: &[&str]| at.iter().any(|at| place.join(at).exists());
            places.into_iter().find(|place| headers.iter().all(|at| has(place, at)))
        };
        let nccl = find(&[&["nccl.h"]], "nccl", "NCCL_HOME")?;
        let cuda: [&[&str]; 3] =
            [&["cuda_runtime_api.h"], &["crt/host_config.h"], &["nv/target", "cccl/nv/target"]];
        let cuda = find(&cuda, "cu13", "CUDA_HOME")?;
        Some(Self { cuda, nccl })
    }
}
