//! The commands of the documents are commands: each runs with `--dry-run`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

const RUN: &str = "cargo run -p replication -- ";

/// The arguments of every command that PAPER_MAPPING.md (in backticks) or README.md (a line of a
/// code block, or in backticks) runs with this binary.
fn commands() -> Vec<Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = BTreeSet::new();
    for name in ["PAPER_MAPPING.md", "README.md"] {
        let text = std::fs::read_to_string(root.join(name)).unwrap();
        for (at, _) in text.match_indices(RUN) {
            let rest = &text[at + RUN.len()..];
            let arguments = rest.split(['`', '\n', '#']).next().unwrap();
            let arguments = arguments.split_whitespace().filter(|&word| word != "--dry-run");
            found.insert(arguments.map(str::to_string).collect::<Vec<_>>());
        }
    }
    found.into_iter().collect()
}

#[test]
fn every_command_runs_dry() {
    let commands = commands();
    assert!(commands.len() > 20, "only {} commands were found", commands.len());
    let folder = tempfile::tempdir().unwrap();
    // The texts that README.md names.
    for name in ["pretrain.jsonl", "target.jsonl"] {
        let lines = r#"{"text": "Once upon a time.", "source": "a book"}"#;
        std::fs::write(folder.path().join(name), lines).unwrap();
    }
    let next = AtomicUsize::new(0);
    let run = || {
        while let Some(arguments) = commands.get(next.fetch_add(1, Ordering::Relaxed)) {
            let output = Command::new(env!("CARGO_BIN_EXE_replication"))
                .args(arguments)
                .arg("--dry-run")
                .current_dir(folder.path())
                .output()
                .unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {errors}", arguments.join(" "));
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(text.contains("FLOPs left"), "{}: {text}", arguments.join(" "));
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(run);
        run();
    });
    assert!(!folder.path().join("out").exists(), "a dry run writes nothing");
}
