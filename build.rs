//! Hands the linker what libtorch and OpenBLAS need, and fetches them where they are missing.
//!
//! The arguments apply to this package's own tests and examples; as metadata (`links`) they reach
//! the build scripts of the packages that depend on it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

/// The features that let ndarray-linalg link its LAPACK itself.
const BACKENDS: [&str; 6] = [
    "INTEL_MKL_STATIC",
    "INTEL_MKL_SYSTEM",
    "NETLIB_STATIC",
    "NETLIB_SYSTEM",
    "OPENBLAS_STATIC",
    "OPENBLAS_SYSTEM",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if enabled("DOC_ONLY") {
        return;
    }
    let mut arguments = Vec::new();
    if enabled("TORCH") {
        torch(&mut arguments);
    }
    if enabled("FIT") && !BACKENDS.into_iter().any(enabled) {
        openblas(&mut arguments);
    }
    for argument in &arguments {
        println!("cargo::rustc-link-arg={argument}");
    }
    println!("cargo::metadata=link_args={}", arguments.join("\t"));
}

fn enabled(feature: &str) -> bool {
    env::var_os(format!("CARGO_FEATURE_{feature}")).is_some()
}

/// The folder of this package.
fn root() -> PathBuf {
    PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"))
}

/// Lets programs find the libtorch that torch-sys was compiled against.
fn torch(arguments: &mut Vec<String>) {
    let Some(library) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else { return };
    if let Some(folder) = library.parent() {
        // Fetched before torch-sys was compiled; perhaps deleted since.
        provision("libtorch", folder);
        // The file that every distribution of libtorch carries.
        if let Ok(version) = std::fs::read_to_string(folder.join("build-version")) {
            println!("cargo::metadata=libtorch_version={}", version.trim());
            println!("cargo::rustc-env=FORGETTING_LAWS_LIBTORCH={}", version.trim());
        }
    }
    arguments.push(format!("-Wl,-rpath,{}", library.display()));
}

/// The OpenBLAS of this package, as in `.cargo/config.toml`.
const OPENBLAS: &str = ".libtorch/openblas-0.3.27";

/// Links the OpenBLAS of the folder that `.cargo/config.toml` names. Without that file, as in a
/// package that depends on this one, a feature or the final program brings the LAPACK.
fn openblas(arguments: &mut Vec<String>) {
    println!("cargo::rerun-if-env-changed=FORGETTING_LAWS_OPENBLAS");
    let named = env::var_os("FORGETTING_LAWS_OPENBLAS").filter(|folder| !folder.is_empty());
    let fetched = || enabled("OPENBLAS_FETCHED").then(|| root().join(OPENBLAS));
    let Some(folder) = named.map(PathBuf::from).or_else(fetched) else { return };
    provision("openblas", &folder);
    let library = folder.join("lib");
    // A link argument stands after libtorch, which then keeps its own BLAS: tests/blas.rs.
    arguments.push(format!("-L{}", library.display()));
    arguments.push("-lopenblas".into());
    arguments.push(format!("-Wl,-rpath,{}", library.display()));
    if env::var_os("CARGO_CFG_TARGET_OS").is_some_and(|os| os == "linux") {
        // Where OpenBLAS looks for its Fortran runtime: an RPATH is inherited, a RUNPATH is not.
        arguments.push("-Wl,--disable-new-dtags".into());
    }
}

/// Fetches a component that has its place in this workspace's `.libtorch` and is not there.
fn provision(component: &str, folder: &Path) {
    let root = root();
    if folder.parent() != Some(&root.join(".libtorch")) {
        return;
    }
    // So that this script runs again once the folder is deleted.
    println!("cargo::rerun-if-changed={}", folder.join("build-version").display());
    let script = root.join("tools/libtorch/provision.py");
    match Command::new("python3").arg(script).arg(component).status() {
        Ok(status) if status.success() => {}
        Ok(_) => exit(1),
        Err(error) => {
            eprintln!("{component} is fetched by python3, which could not be started: {error}");
            exit(1);
        }
    }
}
