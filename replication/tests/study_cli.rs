//! `study` as its users meet it: around training code of their own, here a planted law.

#![cfg(unix)]

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A, B, alpha and beta of Equation 7.
const LAW: [f64; 4] = [6.0, 829.0, 0.4, 0.35];

fn loss_pt0(n_params: f64) -> f64 {
    2.0 + 20.0 * n_params.powf(-0.15)
}

/// L_pt by the law, but for a ripple of 0.1%.
fn loss_pt(n_params: f64, d_ft_tokens: f64, p: f64) -> f64 {
    let [a, b, alpha, beta] = LAW;
    let rise = a * d_ft_tokens.powf(beta) / ((1.0 + b * p) * n_params).powf(alpha);
    (loss_pt0(n_params) + rise) * (1.0 + 0.001 * (n_params + 7.0 * d_ft_tokens + 1e6 * p).sin())
}

fn replication(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_replication"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn said(folder: &Path, arguments: &[&str]) -> String {
    let output = replication(folder, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Asserts that the command fails with one line that names these, and that the study stays as it was.
#[track_caller]
fn refused(folder: &Path, arguments: &[&str], named: &[&str]) {
    let before = fs::read(folder.join("study.json")).ok();
    let output = replication(folder, arguments);
    let line = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}");
    assert!(line.starts_with("replication: ") && !line.contains("panicked"), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    for part in named {
        assert!(line.contains(part), "{arguments:?} should name {part}: {line}");
    }
    assert_eq!(fs::read(folder.join("study.json")).ok(), before);
}

/// Begins a study of 27 runs of three models that are there.
fn begin(folder: &Path) {
    let told = said(
        folder,
        &[
            "study",
            "new",
            "study.json",
            "--n-params",
            "330M",
            "--d-ft",
            "3M",
            "--limit",
            "10%",
            "--sizes",
            "41M,110M,330M",
            "--amounts",
            "300K,1M,3M",
            "--fractions",
            "0,1%,5%",
        ],
    );
    assert_eq!(told, "study.json: 27 runs to choose from, of 3 models, 3 D_ft and 3 p\n");
}

fn asked(folder: &Path, count: &str) -> Vec<Value> {
    let lines = said(folder, &["study", "ask", "study.json", "--count", count]);
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn number(run: &Value, name: &str) -> f64 {
    run[name].as_f64().unwrap_or_else(|| panic!("{run} has no {name}"))
}

/// What somebody's training code does with a run.
fn train(folder: &Path, run: &Value) -> String {
    let [n, d_ft, p] = ["n_params", "d_ft_tokens", "p"].map(|name| number(run, name));
    let values = [number(run, "run"), loss_pt0(n), loss_pt(n, d_ft, p)].map(|x| x.to_string());
    let [run, before, after] = &values;
    let loss = ["--loss-pt0", before, "--loss-pt", after];
    let tell = ["study", "tell", "study.json", "--bootstrap", "100", "--run", run];
    said(folder, &[&tell[..], &loss].concat())
}

#[test]
fn a_loop_around_training_code_finds_the_planted_answer() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    begin(folder);
    let first = said(folder, &["study", "status", "study.json"]);
    assert!(first.starts_with("The runs do not show which p to use"), "{first}");
    assert!(first.contains("no run has a result yet.\n") && !first.contains("--map"), "{first}");
    assert!(first.contains("0 runs made, 0 under way, 27 left"), "{first}");
    let mut last = String::new();
    for _ in 0..7 {
        for run in asked(folder, "2") {
            assert!(number(&run, "after") < number(&run, "before"), "{run}");
            last = train(folder, &run);
        }
    }
    assert!(last.contains("Inject p = ") && last.contains("14 runs made"), "{last}");
    let by_law = last.lines().find(|line| line.starts_with("By the law alone p = 0.")).unwrap();
    assert!(by_law.contains("% [0.") && by_law.ends_with("%] meets the limit."), "{by_law}");
    let json = said(folder, &["study", "status", "study.json", "--json", "--bootstrap", "100"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    let p = number(&json["answer"], "p");
    // The law itself meets 10% of L_pt0 at p = 0.17%.
    assert!(p > 0.0016 && p < 0.0034, "{p}");
    let by_law = &json["answer"]["smallest_p"]["by_law"];
    assert!(number(by_law, "low") <= number(by_law, "high") && number(by_law, "high") <= p);
    assert_eq!((number(&json, "made"), number(&json, "left")), (14.0, 13.0));
    // The warnings of the law's fit: the models' spread is not known, and an option states it.
    let warned = |options: &[&str]| {
        let call = [&["study", "status", "study.json", "--bootstrap", "100"], options].concat();
        let text = said(folder, &call);
        let ids = ["W02", "W03", "W11"].map(|id| text.matches(&format!("warning: {id}: ")).count());
        assert!(!text.contains("assumes one per size"), "{text}");
        ids
    };
    assert_eq!(warned(&[]), [0, 1, 1]);
    assert_eq!(warned(&["--model-spread", "8%"]), [0, 1, 0]);
    refused(folder, &["study", "status", "study.json", "--model-spread", "8"], &["--model-spread"]);
    // A table says how long the models were pretrained: always on 20 tokens for each parameter.
    let mut table = String::from("run,n_params,d_ft_tokens,p,loss_pt0,loss_pt,d_tokens\n");
    let study: Value =
        serde_json::from_slice(&fs::read(folder.join("study.json")).unwrap()).unwrap();
    for run in study["runs"].as_array().unwrap() {
        let Some(losses) = run["state"].get("done") else { continue };
        let models = study["models"].as_array().unwrap();
        let model = models.iter().find(|model| model["name"] == run["model"]).unwrap();
        let n_params = number(model, "n_params");
        let [loss_pt0, loss_pt] = ["loss_pt0", "loss_pt"].map(|name| number(losses, name));
        table += &format!(
            "{},{n_params},{},{},{loss_pt0},{loss_pt},{}\n",
            run["run"],
            run["d_ft_tokens"],
            run["p"],
            20.0 * n_params
        );
    }
    fs::write(folder.join("told.csv"), table).unwrap();
    let call = ["study", "tell", "study.json", "--table", "told.csv", "--bootstrap", "100"];
    let text = said(folder, &call);
    assert!(text.contains("warning: W02: all runs have about 20 d_tokens per parameter"), "{text}");
    assert!(text.contains("14 runs made"), "{text}");
    assert!(number(&json, "spent") < number(&json, "cost"));
    assert_eq!(json["answer"]["rises"].as_array().unwrap().len(), 3);
}

#[test]
fn tables_tell_runs_of_the_study_and_add_others_and_can_be_told_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    begin(folder);
    let row = |run: &str, n: f64, d_ft: f64, p: f64| {
        format!("{run},{n},{d_ft},{p},{},{}\n", loss_pt0(n), loss_pt(n, d_ft, p))
    };
    let header = "run,n_params,d_ft_tokens,p,loss_pt0,loss_pt\n";
    let mut table = header.to_string() + &row("5", 41e6, 1e6, 0.01);
    table += &row("mine", 110e6, 1e6, 0.02);
    // It stands for a run of the study.
    table += &row("", 330e6, 3e6, 0.0);
    table += "7,41000000,3000000,0,,\n";
    fs::write(folder.join("made.csv"), &table).unwrap();
    let tell = ["study", "tell", "study.json", "--table", "made.csv", "--bootstrap", "20"];
    let output = replication(folder, &tell);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "1 row has no loss and is left out\n");
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("3 runs made, 0 under way, 25 left, 0 failed"), "{told}");
    let before = fs::read(folder.join("study.json")).unwrap();
    // With a further row.
    assert_eq!(said(folder, &tell), told);
    assert_eq!(fs::read(folder.join("study.json")).unwrap(), before);
    fs::write(folder.join("made.csv"), table + &row("2", 41e6, 3e5, 0.01)).unwrap();
    assert!(said(folder, &tell).contains("4 runs made, 0 under way, 24 left"));

    fs::write(folder.join("bad.csv"), header.to_string() + &row("5", 110e6, 1e6, 0.01)).unwrap();
    let mut bad = tell;
    bad[4] = "bad.csv";
    refused(folder, &bad, &["bad.csv, line 2", "n_params = 110000000", "run 5 of the study"]);
    fs::write(
        folder.join("bad.csv"),
        header.to_string() + &row("1", 41e6, 3e5, 0.0) + "5,,,,3,4\n",
    )
    .unwrap();
    refused(folder, &bad, &["line 3", "run = 5", "was told other losses"]);
    let domains =
        "domain,n_params,d_ft_tokens,p,loss_pt0,loss_pt\na,1e6,1e5,0,3,4\nb,1e6,1e5,0,3,4\n";
    fs::write(folder.join("bad.csv"), domains).unwrap();
    refused(folder, &bad, &["several domains", "--where 'domain=a'"]);
}

#[test]
fn processes_side_by_side_get_different_runs() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    begin(folder);
    let ask = || -> Vec<u64> {
        let mut runs = Vec::new();
        loop {
            match asked(folder, "3").as_slice() {
                [] => return runs,
                some => runs.extend(some.iter().map(|run| run["run"].as_u64().unwrap())),
            }
        }
    };
    let workers: Vec<Vec<u64>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..3).map(|_| scope.spawn(ask)).collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    let all = workers.concat();
    assert_eq!((all.len(), all.iter().collect::<BTreeSet<_>>().len()), (27, 27), "{workers:?}");
}

#[test]
fn candidates_come_from_a_table_with_their_costs() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut table = "model,n_params,d_ft_tokens,p,cost,model_cost\n".to_string();
    for (name, n, cost) in [("a", "1M", 900), ("b", "4M", 5000)] {
        for d_ft in ["10K", "100K"] {
            for p in ["0", "2%"] {
                table += &format!("{name},{n},{d_ft},{p},7,{cost}\n");
            }
        }
    }
    fs::write(folder.join("runs.csv"), &table).unwrap();
    let new = ["study", "new", "study.json", "--n-params", "4M", "--d-ft", "100K"];
    let from = ["--candidates", "runs.csv"];
    let told = said(folder, &[&new[..], &from].concat());
    assert!(told.contains("8 runs to choose from, of 2 models, 2 D_ft and 2 p"), "{told}");
    let first = &asked(folder, "1")[0];
    assert!(first["makes_model"] == true, "{first}");
    let price = if first["model"] == "a" { 900.0 } else { 5000.0 };
    assert_eq!(number(first, "cost"), price + 7.0);
    // A model that is there need not be paid for.
    let other = if first["model"] == "a" { "b" } else { "a" };
    said(folder, &["study", "tell", "study.json", "--model", other, "--loss-pt0", "3.5"]);
    assert!(asked(folder, "7").iter().all(|run| run["makes_model"] == false));

    fs::remove_file(folder.join("study.json")).unwrap();
    for (from, to, named) in [
        ("d_ft_tokens", "tokens", &["no column d_ft_tokens", "model, n_params"][..]),
        ("10K", "ten", &["bad.csv, line 2", "d_ft_tokens is \"ten\""]),
        ("2%", "200%", &["p = 2"]),
        ("a,1M", "b,1M", &["model = b", "1000000 and of 4000000"]),
        ("7,900", "7,901", &["model = a", "the same model_cost"]),
        (",7,", ",-7,", &["cost = -7"]),
    ] {
        fs::write(folder.join("bad.csv"), table.replacen(from, to, 1)).unwrap();
        refused(folder, &[&new[..], &["--candidates", "bad.csv"]].concat(), named);
    }
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    refused(folder, &["study", "ask", "study.json"], &["study.json", "No such file"]);
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
    let new = ["study", "new", "study.json", "--n-params", "330M", "--d-ft", "3M"];
    refused(folder, &new, &["--candidates", "--sizes, --amounts and --fractions"]);
    refused(folder, &[&new[..], &["--sizes", "1M"]].concat(), &["--amounts"]);
    begin(folder);
    let grid = ["--sizes", "1M", "--amounts", "1M", "--fractions", "0"];
    refused(folder, &[&new[..], &grid].concat(), &["study.json: is there already"]);
    let tell = ["study", "tell", "study.json"];
    let with = |more: &[&'static str]| [&tell[..], more].concat();
    refused(folder, &with(&[]), &["--run is missing", "--table"]);
    refused(folder, &with(&["--run", "28", "--loss-ft", "3"]), &["run = 28", "1 to 27"]);
    refused(folder, &with(&["--run", "1"]), &["a loss is missing"]);
    refused(folder, &with(&["--run", "1", "--loss-pt", "3"]), &["loss_pt0 is missing"]);
    refused(folder, &with(&["--run", "1", "--loss-ft", "nan"]), &["loss_ft = NaN", "diverged"]);
    refused(folder, &with(&["--run", "1", "--loss-ft", "-1"]), &["loss_ft = -1"]);
    refused(folder, &with(&["--table", "none.csv"]), &["none.csv"]);
    refused(folder, &with(&["--model", "x", "--loss-pt0", "3"]), &["model = x", "41M, 110M, 330M"]);
    refused(folder, &with(&["--n-params", "1M", "--loss-ft", "3"]), &["--d-ft"]);
    let told = said(folder, &with(&["--run", "1", "--loss-ft", "3.5"]));
    assert!(told.contains("1 run made, 0 under way, 26 left"), "{told}");
    let finished = with(&["--run", "1", "--failed", "out of memory"]);
    refused(folder, &finished, &["run = 1: it was told its losses; release it first"]);
    let many = with(&["--run", "1", "--loss-ft", "3.5", "--bootstrap", "4000000000"]);
    refused(folder, &many, &["bootstrap = 4000000000: must be at most 10000000"]);
    refused(folder, &with(&["--run", "1", "--loss-ft", "3.6"]), &["was told other losses"]);
    said(folder, &with(&["--run", "1", "--release"]));
    let failed = said(folder, &with(&["--run", "1", "--failed", "out of memory"]));
    assert!(failed.contains("0 runs made, 0 under way, 26 left, 1 failed"), "{failed}");
    fs::write(folder.join("study.json"), "{}").unwrap();
    refused(folder, &["study", "status", "study.json"], &["study.json", "is not a study"]);
}

/// The commands of docs/study.md run as they stand there, one after another.
#[test]
fn the_guide_is_true() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let guide = fs::read_to_string(root.join("docs/study.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("examples")).unwrap();
    fs::copy(root.join("examples/losses.csv"), folder.join("examples/losses.csv")).unwrap();
    let mut count = 0;
    for line in guide.lines() {
        let Some(command) = line.strip_prefix("cargo run -p replication -- ") else { continue };
        let words = command.split('#').next().unwrap().split_whitespace();
        let words: Vec<&str> = words.map(|word| word.trim_matches('\'')).collect();
        let out = said(folder, &words);
        // What the guide shows below a command is what it prints.
        let shown = guide.split(command).nth(1).unwrap().split("```").nth(2).unwrap_or_default();
        for line in shown.strip_prefix("text\n").unwrap_or_default().lines() {
            assert!(out.contains(line), "{command} does not print {line:?} but\n{out}");
        }
        count += 1;
    }
    assert!(count >= 4, "{count}");
}
