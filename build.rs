//! Hands the linker what libtorch and OpenBLAS need, and fetches them where they are missing.
//!
//! The arguments apply to this package's own tests and examples; as metadata (`links`) they reach
//! the build scripts of the packages that depend on it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let mut arguments = Vec::new();
    if enabled("DOC_ONLY") {
        return;
    }
    if enabled("TRAIN") {
        torch(&mut arguments);
    }
    if enabled("FIT") {
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

fn torch(arguments: &mut Vec<String>) {
    let Some(library) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else { return };
    if let Some(folder) = library.parent() {
        provision("libtorch", folder);
    }
    arguments.push(format!("-Wl,-rpath,{}", library.display()));
}

/// Links the OpenBLAS in the folder that `.cargo/config.toml` names. Elsewhere (this package as a
/// dependency of another) a feature of ndarray-linalg or the final program brings the LAPACK.
fn openblas(arguments: &mut Vec<String>) {
    println!("cargo::rerun-if-env-changed=FORGETTING_LAWS_OPENBLAS");
    let Some(folder) = env::var_os("FORGETTING_LAWS_OPENBLAS").map(PathBuf::from) else { return };
    provision("openblas", &folder);
    let library = folder.join("lib");
    // As a link argument it comes after libtorch, so that libtorch keeps its own BLAS. Its own
    // dependencies are found through an RPATH and not through a RUNPATH.
    arguments.push(format!("-L{}", library.display()));
    arguments.push("-lopenblas".into());
    arguments.push("-Wl,--disable-new-dtags".into());
    arguments.push(format!("-Wl,-rpath,{}", library.display()));
}

/// Fetches a component that lies in this package's own `.libtorch` and is missing there.
fn provision(component: &str, folder: &Path) {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    if folder.parent() != Some(&root.join(".libtorch")) {
        return;
    }
    // Once the folder is deleted this script runs again.
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
