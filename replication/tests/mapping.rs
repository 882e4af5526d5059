//! The commands of the documents are commands: each runs. Those that train run with `--dry-run`,
//! those that fit with few resamples and one domain.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

const RUN: &str = "cargo run -p replication -- ";

/// PAPER_MAPPING.md, README.md and the pages of docs/, below the root.
fn documents() -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("PAPER_MAPPING.md"), PathBuf::from("README.md")];
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        found.push(PathBuf::from("docs").join(entry.unwrap().file_name()));
    }
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The words of a command, as a shell takes them apart.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in command.chars().chain([' ']) {
        match quote {
            Some(end) if c == end => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            None if c.is_whitespace() => {
                words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
            }
            _ => word.push(c),
        }
    }
    words
}

/// The arguments of every command that PAPER_MAPPING.md (in backticks), README.md or a page of docs/
/// (a line of a code block, or in backticks) runs with this binary. `replication/tests/study_cli.rs`
/// runs those on studies, one after another.
fn commands() -> Vec<Vec<String>> {
    let mut found = BTreeSet::new();
    for name in documents() {
        let text = std::fs::read_to_string(root().join(name)).unwrap();
        for (at, _) in text.match_indices(RUN) {
            let rest = &text[at + RUN.len()..];
            let mut arguments = words(rest.split(['`', '\n', '#']).next().unwrap());
            arguments.retain(|word| word != "--dry-run");
            found.insert(arguments);
        }
    }
    found.retain(|arguments| arguments[0] != "study");
    found.into_iter().collect()
}

/// What the documents for clusters and benchmarks call, and what needs libtorch or files that a
/// document only names, cannot be run here; it is read, to the last option.
#[test]
#[cfg(feature = "train")]
fn other_documents_call_what_there_is() {
    let others = ["replication/node", "benches/peer", "tools/no-gpu"];
    let others = others.map(|folder| Path::new(folder).join("README.md"));
    let mut found = BTreeSet::new();
    for name in others.into_iter().chain(documents()) {
        let text = std::fs::read_to_string(root().join(name)).unwrap().replace("\\\n", " ");
        for (at, called) in text.match_indices("replication ") {
            // Some documents indent their code; in the others it stands between backticks.
            if text.contains("```") && text[..at].matches('`').count().is_multiple_of(2) {
                continue;
            }
            let rest = text[at + called.len()..].split(['`', '\n', '#']).next().unwrap();
            let rest = rest.trim_start_matches("--features torch ").trim_start_matches("-- ");
            let mut words = words(rest);
            // What a shell fills in.
            words.retain(|word| !word.contains(['…', '$']));
            if words.first().is_some_and(|word| word.chars().all(char::is_alphanumeric)) {
                found.insert(words);
            }
        }
    }
    assert!(found.len() >= 8, "{found:?}");
    for words in found {
        let mut call = Command::new(env!("CARGO_BIN_EXE_replication"));
        let output = call.args(&words).arg("--help").output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {errors}", words.join(" "));
    }
}

/// A conversation in the form of OpenHermes 2.5.
#[cfg(feature = "train")]
const CHAT: &str = r#"{"conversations": [{"from": "human", "value": "Who sailed?"}, {"from": "gpt", "value": "She did."}]}"#;

/// Whether a command works on losses that there are, and trains nothing.
fn is_about_losses(arguments: &[String]) -> bool {
    ["fit", "predict", "advise", "compare"].contains(&arguments[0].as_str())
}

/// Whether a command works on a model that there is.
fn is_about_models(arguments: &[String]) -> bool {
    ["eval", "retention", "sample"].contains(&arguments[0].as_str())
}

/// Whether a command looks at text alone.
#[cfg(feature = "train")]
fn is_about_texts(arguments: &[String]) -> bool {
    ["distance", "tokenizer"].contains(&arguments[0].as_str())
}

/// Runs a command in a folder: it succeeds and says something.
fn must_answer(arguments: &[String], folder: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_replication"));
    let output = command.args(arguments).current_dir(folder).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", arguments.join(" "));
    assert!(!output.stdout.is_empty(), "{}", arguments.join(" "));
}

#[test]
#[cfg(feature = "train")]
fn every_command_on_texts_runs() {
    let mut commands = commands();
    commands.retain(|arguments| is_about_texts(arguments));
    assert!(commands.len() >= 2, "only {} commands were found", commands.len());
    let folder = tempfile::tempdir().unwrap();
    for (name, word) in [("pretrain", "sea"), ("french", "mer"), ("law", "lex"), ("drama", "ha")] {
        let text = |i: u32| (0..40).map(|j| format!("{word}{} ", (i * i + j) % 7)).collect();
        let line = |i| -> String {
            let text: String = text(i);
            format!("{{\"text\": \"{text}no. {i}\", \"source\": {i}}}\n")
        };
        let lines: String = (0..60).map(line).collect();
        std::fs::write(folder.path().join(format!("{name}.jsonl")), lines).unwrap();
    }
    commands.iter().for_each(|arguments| must_answer(arguments, folder.path()));
}

#[test]
#[cfg(all(feature = "train", unix))]
fn every_command_on_models_runs() {
    let mut commands = commands();
    commands.retain(|arguments| is_about_models(arguments));
    assert!(commands.len() >= 2, "only {} commands were found", commands.len());
    let folder = folder_with_models();
    std::fs::write(folder.path().join("notes.txt"), "Once upon a time.").unwrap();
    std::fs::write(folder.path().join("chats.jsonl"), CHAT).unwrap();
    commands.iter().for_each(|arguments| must_answer(arguments, folder.path()));
}

/// Whether a command on data makes or verifies a token store.
#[cfg(feature = "train")]
fn is_about_stores(arguments: &[String]) -> bool {
    arguments[1] == "prepare" || arguments.iter().any(|word| word.starts_with("out/"))
}

#[test]
#[cfg(feature = "train")]
fn every_command_on_stores_runs() {
    let mut commands = commands();
    commands.retain(|arguments| arguments[0] == "data" && is_about_stores(arguments));
    // First it is made.
    commands.sort_by_key(|arguments| arguments[1] != "prepare");
    assert!(commands.len() >= 2, "only {} commands were found", commands.len());
    let folder = tempfile::tempdir().unwrap();
    let line = r#"{"text": "Once upon a time.", "source": "a book"}"#;
    std::fs::write(folder.path().join("texts.jsonl"), line).unwrap();
    commands.iter().for_each(|arguments| must_answer(arguments, folder.path()));
}

/// A folder from which the models of the documents are found.
#[cfg(all(feature = "train", unix))]
fn folder_with_models() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(root().join("golden"), folder.path().join("golden")).unwrap();
    folder
}

#[test]
#[cfg(all(feature = "train", unix))]
fn every_command_runs_dry() {
    let mut commands = commands();
    // Those on data sets and models of the Hub have tests of their own, with a server.
    let tested = |arguments: &[String]| {
        is_about_losses(arguments)
            || is_about_models(arguments)
            || is_about_texts(arguments)
            || arguments[0] == "data"
            || arguments.contains(&"datadecide".to_string())
    };
    commands.retain(|arguments| !tested(arguments));
    assert!(commands.len() > 20, "only {} commands were found", commands.len());
    let folder = folder_with_models();
    // The texts that the documents name.
    let targets = ["target.jsonl", "french.jsonl", "law.jsonl", "drama.jsonl"];
    // They are counted before anything is planned.
    let document = |i: u32| {
        let text = format!("{i} seas and skies. ").repeat(200);
        format!("{{\"text\": \"{text}\", \"source\": \"book {i}\"}}\n")
    };
    let texts: String = (0..100).map(document).collect();
    std::fs::create_dir(folder.path().join("texts")).unwrap();
    for name in ["texts/a.jsonl"].into_iter().chain(targets) {
        std::fs::write(folder.path().join(name), &texts).unwrap();
    }
    let chat = |i: u32| {
        let answer = format!("{i} seas and skies. ").repeat(200);
        CHAT.replace("She did.", &answer) + "\n"
    };
    let chats: String = (0..100).map(chat).collect();
    std::fs::write(folder.path().join("chats.jsonl"), chats).unwrap();
    let scripts = tempfile::tempdir().unwrap();
    let next = AtomicUsize::new(0);
    let run = || {
        while let Some(arguments) = commands.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut arguments = arguments.clone();
            // A text that is long enough to prepare would take long.
            let own = arguments[0] == "domain";
            if let Some(at) = arguments.iter().position(|word| word == "--pretrain") {
                arguments.drain(at..at + 2);
            }
            let mut command = Command::new(env!("CARGO_BIN_EXE_replication"));
            command.args(&arguments).current_dir(folder.path());
            // These train nothing anyway.
            let plans = ["plan", "status", "slurm"].contains(&arguments[0].as_str());
            if plans {
                command.arg("--out").arg(scripts.path())
            } else {
                command.arg("--dry-run")
            };
            let output = command.output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {errors}", arguments.join(" "));
            let text = String::from_utf8_lossy(&output.stdout);
            let expected = if plans || own { " runs" } else { "FLOPs left" };
            assert!(text.contains(expected), "{}: {text}", arguments.join(" "));
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(run);
        run();
    });
    assert!(!folder.path().join("out").exists(), "a dry run writes nothing");
}

/// Copies the files that the documents' commands on losses read. Of results one domain is enough here:
/// `golden_nano` fits the laws of every domain.
fn copy_losses(folder: &Path) {
    for file in ["examples/losses.csv", "golden/nano/synthetic", "golden/nano/real"] {
        let (from, to) = (root().join(file), folder.join(file));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        if from.is_file() {
            std::fs::copy(from, to).unwrap();
            continue;
        }
        std::fs::create_dir(&to).unwrap();
        std::fs::copy(from.join("losses.csv"), to.join("losses.csv")).unwrap();
        let text = std::fs::read_to_string(from.join("results.json")).unwrap();
        let mut results: serde_json::Value = serde_json::from_str(&text).unwrap();
        let domain = results["domains"][0].clone();
        results["domains"] = serde_json::json!([domain]);
        results["finetuned"].as_array_mut().unwrap().retain(|run| run["domain"] == domain);
        std::fs::write(to.join("results.json"), results.to_string()).unwrap();
    }
}

/// The laws that `predict` and `advise` read are those that a `fit` of the documents wrote.
#[test]
fn every_command_on_losses_runs() {
    let folder = tempfile::tempdir().unwrap();
    copy_losses(folder.path());
    let mut commands: Vec<_> =
        commands().into_iter().filter(|arguments| is_about_losses(arguments)).collect();
    commands.sort_by_key(|arguments| arguments[0] != "fit");
    assert!(commands.len() >= 5, "{commands:?}");
    // A last fit of every law, which the others read.
    let all = ["fit", "examples/losses.csv", "--law", "all"].map(str::to_string).to_vec();
    let fits = commands.iter().filter(|arguments| arguments[0] == "fit").count();
    commands.insert(fits, all);
    for (i, mut arguments) in commands.into_iter().enumerate() {
        if arguments[0] == "fit" {
            if let Some(at) = arguments.iter().position(|word| word == "--bootstrap") {
                arguments.drain(at..at + 2);
            }
            arguments.extend(["--bootstrap", "20"].map(str::to_string));
        }
        // The others are of one domain.
        if i < fits {
            arguments.extend(["--where", "domain=planted-near"].map(str::to_string));
        }
        must_answer(&arguments, folder.path());
    }
}

/// What README.md and docs/fit.md show below a fit and an advice is what these print, for the domain
/// that they show.
#[test]
fn the_documents_show_what_fits_and_advice_print() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("examples")).unwrap();
    let table = "examples/losses.csv";
    std::fs::copy(root().join(table), folder.path().join(table)).unwrap();
    let run = |command: &str| {
        let mut arguments = words(command);
        if arguments[0] == "fit" {
            // Of the two domains one is shown.
            arguments.extend(["--where", "domain!=planted-far"].map(str::to_string));
        }
        let mut call = Command::new(env!("CARGO_BIN_EXE_replication"));
        let output = call.args(arguments).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{command}");
        String::from_utf8(output.stdout).unwrap()
    };
    let read = |name: &str| std::fs::read_to_string(root().join(name)).unwrap();
    let (readme, guide) = (read("README.md"), read("docs/fit.md"));
    let mut checked = 0;
    for (text, start) in [(&readme, "fit "), (&guide, "fit "), (&guide, "advise ")] {
        let at = text.find(&format!("{RUN}{start}")).unwrap() + RUN.len();
        let printed = run(text[at..].lines().next().unwrap());
        let blocks = text[at..].split("```text\n").skip(1);
        let mut blocks = blocks.map(|block| block.split("```").next().unwrap());
        let shown = blocks.find(|block| {
            let is_advice = block.lines().next().unwrap().contains("L_pt0 =");
            block.starts_with("planted-near") && is_advice == (start == "advise ")
        });
        for line in shown.unwrap().lines().filter(|line| *line != "…") {
            assert!(
                printed.lines().any(|other| other == line),
                "{start}prints no {line:?}\n{printed}"
            );
            checked += 1;
        }
    }
    assert!(checked > 50, "{checked}");
}
