//! Passes on what libtorch and OpenBLAS need of the linker (link arguments do not propagate), and
//! tells the program which commit and which libtorch it is.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let arguments = std::env::var("DEP_FORGETTING_LAWS_LINK_ARGS").unwrap_or_default();
    for argument in arguments.split('\t').filter(|argument| !argument.is_empty()) {
        println!("cargo::rustc-link-arg={argument}");
    }
    println!("cargo::rustc-env=REPLICATION_COMMIT={}", commit());
    println!("cargo::rustc-env=REPLICATION_LIBTORCH={}", libtorch_version());
}

/// The commit that is built, `-dirty` where tracked files differ from it; `unknown` without git.
fn commit() -> String {
    for watched in ["../.git/HEAD", "../.git/index", "../src", "src"] {
        if Path::new(watched).exists() {
            println!("cargo::rerun-if-changed={watched}");
        }
    }
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_string())
    };
    match git(&["rev-parse", "--short=12", "HEAD"]) {
        None => "unknown".into(),
        Some(head) => match git(&["status", "--porcelain", "--untracked-files=no"]).as_deref() {
            Some("") => head,
            _ => format!("{head}-dirty"),
        },
    }
}

/// Of the libtorch that is linked, by the file that every distribution of it carries.
fn libtorch_version() -> String {
    let library = std::env::var_os("DEP_TCH_LIBTORCH_LIB").unwrap_or_default();
    let version = Path::new(&library).parent().map(|root| root.join("build-version"));
    let text = version.and_then(|path| std::fs::read_to_string(path).ok());
    text.map_or_else(|| "2.11".into(), |text| text.trim().to_string())
}
