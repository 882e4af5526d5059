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
    let libtorch = std::env::var("DEP_FORGETTING_LAWS_LIBTORCH_VERSION");
    println!("cargo::rustc-env=REPLICATION_LIBTORCH={}", libtorch.as_deref().unwrap_or("unknown"));
}

/// The commit that is built, `-dirty` where tracked files differ from it; `unknown` without git.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_string())
    };
    // A commit changes neither HEAD, which names a branch, nor always the index, but the log.
    let of_git = ["HEAD", "logs/HEAD", "index"];
    let of_git = of_git.iter().filter_map(|name| git(&["rev-parse", "--git-path", name]));
    let source = ["../src", "../crates", "src"].map(String::from);
    for watched in of_git.chain(source).filter(|path| Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={watched}");
    }
    match git(&["rev-parse", "--short=12", "HEAD"]) {
        None => "unknown".into(),
        Some(head) => match git(&["status", "--porcelain", "--untracked-files=no"]).as_deref() {
            Some("") => head,
            _ => format!("{head}-dirty"),
        },
    }
}
