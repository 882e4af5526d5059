//! Puts the OpenBLAS that the workspace fetches beside the module, where the wheel takes it, and has the
//! linker look for it there alone.

use std::path::PathBuf;
use std::{env, fs, io};

/// Beside the module, in the folder of the package.
const LIBRARIES: &str = "libs";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    let arguments = env::var("DEP_FORGETTING_LAWS_LINK_ARGS").unwrap_or_default();
    let arguments: Vec<&str> = arguments.split('\t').filter(|word| !word.is_empty()).collect();
    for argument in arguments.iter().filter(|argument| !argument.starts_with("-Wl,-rpath,")) {
        println!("cargo::rustc-link-arg={argument}");
    }
    println!("cargo::rustc-link-arg=-Wl,-rpath,$ORIGIN/{LIBRARIES}");
    let package = package()?.join(LIBRARIES);
    fs::create_dir_all(&package)?;
    for folder in arguments.iter().filter_map(|argument| argument.strip_prefix("-L")) {
        for entry in fs::read_dir(folder)? {
            let library = entry?.path();
            let Some(name) = library.file_name() else { continue };
            // The linker's own file names the library and is none.
            if name != "libopenblas.so" {
                // A new file in its place: a process may have the old one loaded.
                let copy = package.join(format!("{}.new", name.display()));
                fs::copy(&library, &copy)?;
                fs::rename(copy, package.join(name))?;
            }
        }
    }
    Ok(())
}

/// The folder of the Python package: beside the manifest, and in a source distribution, whose root has the
/// `pyproject.toml`, one above it.
fn package() -> io::Result<PathBuf> {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let folders = [here.join("forgetting_laws"), here.join("../forgetting_laws")];
    let is_it = |folder: &PathBuf| folder.join("__init__.py").is_file();
    folders.into_iter().find(is_it).ok_or_else(|| {
        let reason = format!("the Python package forgetting_laws is not beside {}", here.display());
        io::Error::new(io::ErrorKind::NotFound, reason)
    })
}
