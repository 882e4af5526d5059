//! `fit` and `predict` as their users meet them, on small tables whose laws are known.

#![cfg(unix)]

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;

const SIZES: [(f64, f64); 3] = [(1e6, 4.0), (1e7, 3.0), (1e8, 2.5)];
const DATA: [f64; 3] = [1e5, 1e6, 1e7];
const FRACTIONS: [f64; 3] = [0.0, 0.01, 0.05];

/// A, B, alpha, beta of forgetting, which differ by domain; those of finetuning do not.
const DOMAINS: [(&str, [f64; 4]); 2] =
    [("far, far", [130.0, 1e4, 0.45, 0.3]), ("near", [6.0, 829.0, 0.4, 0.35])];
const FINETUNING: [f64; 4] = [60.0, 0.12, 0.1, 1.4];

fn rise([a, b, alpha, beta]: [f64; 4], n: f64, d: f64, p: f64) -> f64 {
    a * d.powf(beta) / ((1.0 + b * p) * n).powf(alpha)
}

fn target([a, alpha, beta, e]: [f64; 4], n: f64, d: f64) -> f64 {
    a / (n.powf(alpha) * d.powf(beta)) + e
}

/// The planted losses, wrong by a share of `noise` at most.
fn table(noise: f64) -> String {
    let mut text = "domain,n_params,d_ft_tokens,p,loss_pt0,loss_pt,loss_ft\n".to_string();
    let mut i = 0.0;
    let mut ripple = || {
        i += 1.0;
        1.0 + noise * f64::sin(2.4 * i)
    };
    for (domain, law) in DOMAINS {
        for (n, loss_pt0) in SIZES {
            for d in DATA {
                for p in FRACTIONS {
                    let loss_pt = (loss_pt0 + rise(law, n, d, p)) * ripple();
                    let loss_ft = target(FINETUNING, n, d) * ripple();
                    text += &format!("\"{domain}\",{n},{d},{p},{loss_pt0},{loss_pt},{loss_ft}\n");
                }
            }
        }
    }
    text
}

#[test]
fn help_that_nobody_reads_to_the_end_is_no_fault() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut call = Command::new(env!("CARGO_BIN_EXE_replication"));
    let output = call.args(["fit", "--help"]).stdout(writer).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

fn replication(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_replication"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[track_caller]
fn must_succeed(folder: &Path, arguments: &[&str]) -> Output {
    let output = replication(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    output
}

/// Asserts that the command fails with one line that names these, and says nothing else.
#[track_caller]
fn refused(folder: &Path, arguments: &[&str], named: &[&str]) {
    let output = replication(folder, arguments);
    let line = stderr(&output);
    assert!(!output.status.success(), "{arguments:?}");
    assert!(line.starts_with("replication: ") && !line.contains("panicked"), "{line}");
    assert_eq!(line.lines().count(), 1, "{arguments:?}: {line}");
    assert_eq!(stdout(&output), "", "{arguments:?}");
    for part in named {
        assert!(line.contains(part), "{arguments:?} should name {part}: {line}");
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The group of a domain and a law.
#[track_caller]
fn group<'a>(file: &'a Value, domain: &str, law: &str) -> &'a Value {
    let groups = file["groups"].as_array().unwrap();
    groups.iter().find(|g| g["domain"] == domain && g["law"] == law).unwrap()
}

fn value(group: &Value, name: &str) -> f64 {
    group["params"][name]["value"].as_f64().unwrap()
}

/// A table without noise and one with, and the laws of the second in `out/fit/noisy`.
fn fitted() -> &'static (TempDir, Output) {
    static FITTED: OnceLock<(TempDir, Output)> = OnceLock::new();
    FITTED.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("exact.csv"), table(0.0)).unwrap();
        fs::write(folder.path().join("noisy.csv"), table(0.004)).unwrap();
        let output = must_succeed(
            folder.path(),
            &["fit", "noisy.csv", "--bootstrap", "60", "--threads", "1", "--seed", "3"],
        );
        (folder, output)
    })
}

#[test]
fn planted_laws_are_found_and_written_with_all_their_digits() {
    let folder = fitted().0.path();
    let out = folder.join("exact");
    must_succeed(
        folder,
        &[
            "fit",
            "exact.csv",
            "--law",
            "finetuning,forgetting",
            "--bootstrap",
            "0",
            "--out",
            "exact",
        ],
    );
    let file = json(&out.join("law.json"));
    assert_eq!(file["format"], 1);
    assert!(file["program"].as_str().unwrap().starts_with("replication "));
    assert!(file["commit"].is_string());
    assert_eq!(file["input"]["path"], "exact.csv");
    assert_eq!(file["input"]["sha256"].as_str().unwrap().len(), 64);
    let groups = file["groups"].as_array().unwrap();
    let of = |group: &Value| {
        format!("{}/{}", group["domain"].as_str().unwrap(), group["law"].as_str().unwrap())
    };
    // By group, and the laws in the order in which they were asked for.
    let names: Vec<_> = groups.iter().map(of).collect();
    let expected =
        ["far, far/finetuning", "far, far/forgetting", "near/finetuning", "near/forgetting"];
    assert_eq!(names, expected);
    for (domain, law) in DOMAINS {
        let found = group(&file, domain, "forgetting");
        for (name, planted) in ["A", "B", "alpha", "beta"].into_iter().zip(law) {
            assert!((value(found, name) / planted - 1.0).abs() < 1e-6, "{domain} {name}");
            assert!(found["params"][name]["low"].is_null());
        }
        let found = group(&file, domain, "finetuning");
        for (name, planted) in ["A", "alpha", "beta", "E"].into_iter().zip(FINETUNING) {
            assert!((value(found, name) / planted - 1.0).abs() < 1e-6, "{domain} {name}");
        }
        assert_eq!((&found["space"], &found["delta"]), (&"log".into(), &0.001.into()));
        assert_eq!((&found["n_rows"], &found["status"]), (&27.into(), &"converged".into()));
    }
    // The predictions of the file are the planted losses to 12 digits.
    for row in group(&file, "near", "forgetting")["rows"].as_array().unwrap() {
        let number = |name: &str| row["row"][name].as_f64().unwrap();
        let [n, d, p] = ["n_params", "d_ft_tokens", "p"].map(number);
        let planted = number("loss_pt0") + rise(DOMAINS[1].1, n, d, p);
        assert!((row["prediction"].as_f64().unwrap() / planted - 1.0).abs() < 1e-12);
    }
}

#[test]
fn the_file_holds_intervals_errors_and_null_models() {
    let folder = fitted().0.path().join("out/fit/noisy");
    let file = json(&folder.join("law.json"));
    let laws: Vec<_> = file["groups"].as_array().unwrap().iter().map(|g| &g["law"]).collect();
    let all = [
        "forgetting",
        "finetuning",
        "forgetting-offset",
        "finetuning-p",
        "forgetting-times-tokens",
        "forgetting-plus-tokens",
        "forgetting-ceiling",
    ];
    assert_eq!(laws, [all, all].concat());
    let group = group(&file, "near", "forgetting");
    for name in ["A", "B", "alpha", "beta"] {
        let [low, value, high] = ["low", "value", "high"].map(|end| &group["params"][name][end]);
        let [low, value, high] = [low, value, high].map(|end| end.as_f64().unwrap());
        assert!(0.0 < low && low < value && value < high, "{name}");
    }
    assert_eq!(group["bootstrap"]["draws"].as_array().unwrap().len(), 60);
    assert_eq!(group["bootstrap"]["seed"], 3);
    let mre = group["mre"].as_f64().unwrap();
    assert!(mre > 1e-3 && mre < 4e-3, "{mre}");
    assert!(group["mre_held_out"].as_f64().unwrap() > mre);
    assert_eq!(group["null_models"]["no_change"]["rise_error"], 1.0);
    assert!(group["null_models"]["log_linear"]["mre"].as_f64().unwrap() > mre);
    assert_eq!(group["held_out"]["folds"], 3);
    assert_eq!(group["held_out"]["supported"], true);
    assert!(group.get("sweep").is_none());
    let pairs = file["comparisons"].as_array().unwrap().iter();
    let pairs: Vec<_> = pairs.map(|c| (&c["domain"], &c["law"], &c["other"])).collect();
    let pair = |domain: &'static str, law: &'static str, other: &'static str| {
        [domain, law, other].map(Value::from)
    };
    let forms = all.iter().filter(|law| law.starts_with("forgetting"));
    let forms: Vec<&'static str> = forms.copied().collect();
    let mut expected = Vec::new();
    for domain in ["far, far", "near"] {
        for (i, first) in forms.iter().enumerate() {
            expected.extend(forms[i + 1..].iter().map(|second| pair(domain, first, second)));
        }
        expected.push(pair(domain, "finetuning", "finetuning-p"));
    }
    let in_any_order = |mut pairs: Vec<[Value; 3]>| {
        pairs.sort_by_key(|pair| format!("{pair:?}"));
        pairs
    };
    let pairs = pairs.into_iter().map(|(a, b, c)| [a.clone(), b.clone(), c.clone()]).collect();
    assert_eq!(in_any_order(pairs), in_any_order(expected));

    // The forms of each loss are ranked, the planted one first or level with the first.
    let rankings = file["rankings"].as_array().unwrap();
    let names = |key: &str| rankings.iter().map(|r| r[key].as_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(names("domain"), ["far, far", "far, far", "near", "near"]);
    assert_eq!(names("loss"), ["loss_pt", "loss_ft", "loss_pt", "loss_ft"]);
    for ranking in rankings {
        let planted = if ranking["loss"] == "loss_pt" { "forgetting" } else { "finetuning" };
        let form = |name: &str| {
            let forms = ranking["forms"].as_array().unwrap().iter();
            forms.clone().find(|form| form["form"] == name).unwrap().clone()
        };
        assert_eq!(form(planted)["tied"], true, "{ranking}");
        assert_eq!(form(planted)["supported"], true, "{ranking}");
        if planted == "forgetting" {
            assert_eq!(form("forgetting-times-tokens")["tied"], false, "{ranking}");
        }
    }
    let growths = file["growths"].as_array().unwrap();
    assert!(growths.iter().all(|growth| growth["grows"] == false), "{growths:?}");
    let table = fs::read_to_string(folder.join("ranking.csv")).unwrap();
    let row = "near,loss_pt,27,forgetting,4,";
    assert!(table.contains(row), "{table}");
    // 5 forms and two baselines on 4 axes and their mean, 2 forms and two baselines without p, which
    // Equation 6 does not read.
    assert_eq!(table.lines().count(), 1 + 2 * (7 * 5 + 4 * 4));
}

#[test]
fn the_terminal_says_it_in_a_table() {
    let output = &fitted().1;
    let text = stdout(output);
    // The law that the table has no columns for is named, and why.
    assert_eq!(stderr(output), "left out, with no column for: additive (loss)\n");
    for part in [
        "far, far, forgetting: 27 runs",
        "Eq. 7: L_pt = L_pt0 + A * D_ft^beta / ((1 + B*p) * N)^alpha",
        "status     converged; ",
        "Huber with delta = 0.001 on log losses",
        "90% interval, 60 resamples of runs",
        "held out, each size, 3 times",
        "no change",
        "log-linear",
        "bootstrapped MRE ",
        "supported: on held-out sizes",
        "near, forms of loss_pt ranked by the error of the increase on held-out runs (27 runs)",
        "* forgetting ",
        "  no-change ",
        "  law        finetuning: ",
        "near, check of Eq. 7: B scales as D_ft^",
        "laws: out/fit/noisy/law.json",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}

#[test]
fn drawings_stand_beside_their_tables() {
    let folder = fitted().0.path().join("out/fit/noisy");
    for name in ["predicted", "residuals", "curves"] {
        let read = |extension: &str| fs::read(folder.join(format!("{name}.{extension}"))).unwrap();
        assert!(read("png").starts_with(b"\x89PNG"));
        let svg = String::from_utf8(read("svg")).unwrap();
        assert!(svg.starts_with('<') && svg.contains("noisy.csv with sha256 "));
        let table = String::from_utf8(read("csv")).unwrap();
        let header = "domain,law,n_params,d_ft_tokens,d_tokens,p,loss_pt0,";
        assert!(table.starts_with(header), "{table}");
        // 7 laws of 27 runs in each of 2 groups, of which 6 know p.
        let rows = table.lines().count() - 1;
        match name {
            "curves" => assert_eq!(rows, 2 * 7 * 27 + 2 * (6 * 9 + 3) * 33),
            _ => assert_eq!(rows, 2 * 7 * 27),
        }
        assert!(table.lines().nth(1).unwrap().starts_with("\"far, far\",forgetting,1000000,"));
    }
}

#[test]
fn threads_change_no_byte() {
    let folder = fitted().0.path();
    must_succeed(
        folder,
        &[
            "fit",
            "noisy.csv",
            "--bootstrap",
            "60",
            "--threads",
            "2",
            "--seed",
            "3",
            "--out",
            "threads",
            "--json",
            "threads/other/name.json",
        ],
    );
    let (one, two) = (folder.join("out/fit/noisy"), folder.join("threads"));
    for name in ["predicted", "residuals", "curves"] {
        for extension in ["csv", "svg", "png"] {
            let read = |folder: &Path| fs::read(folder.join(format!("{name}.{extension}")));
            assert!(read(&one).unwrap() == read(&two).unwrap(), "{name}.{extension}");
        }
    }
    let laws = fs::read(two.join("other/name.json")).unwrap();
    assert!(laws == fs::read(one.join("law.json")).unwrap());
    assert!(!two.join("law.json").exists());
}

#[test]
fn options_reach_the_fit_and_the_file() {
    let folder = fitted().0.path();
    let output = must_succeed(
        folder,
        &[
            "fit",
            "noisy.csv",
            "--law",
            "forgetting",
            "--where",
            "domain=near",
            "--map",
            "loss_pt=loss_pt",
            "--group-by",
            "none",
            "--space",
            "raw",
            "--delta",
            "0.01",
            "--hold-out",
            "largest",
            "--bootstrap",
            "20",
            "--level",
            "0.5",
            "--sweep",
            "--out",
            "options",
        ],
    );
    let file = json(&folder.join("options/law.json"));
    assert_eq!(file["input"]["where"], Value::from(vec!["domain=near"]));
    assert_eq!(file["input"]["map"], Value::from(vec!["loss_pt=loss_pt"]));
    assert_eq!(file["input"]["group_by"], "none");
    let group = group(&file, "", "forgetting");
    assert_eq!((&group["space"], &group["delta"]), (&"raw".into(), &0.01.into()));
    assert_eq!(group["penalty"], "huber");
    assert_eq!(group["n_rows"], 27);
    assert_eq!(
        (&group["held_out"]["by"], &group["held_out"]["folds"]),
        (&"largest".into(), &1.into())
    );
    assert_eq!(group["bootstrap"]["level"], 0.5);
    let sweep = group["sweep"].as_array().unwrap();
    assert_eq!(sweep.len(), 12);
    let same = sweep.iter().find(|v| v["space"] == "raw" && v["delta"] == 0.01).unwrap();
    assert!((value(same, "alpha") / value(group, "alpha") - 1.0).abs() < 1e-9);
    assert!(sweep.iter().any(|v| v["penalty"] == "absolute" && v["delta"].is_null()));
    let text = stdout(&output);
    assert!(text.starts_with("forgetting: 27 runs\n"), "{text}");
    assert!(text.contains("50% interval, 20 resamples"), "{text}");
    assert!(text.contains("held out, largest size and data, once"), "{text}");
    assert!(text.contains("  Huber 0.0001, log"), "{text}");
}

/// One group lacks sizes and another the columns; the third is fitted.
#[test]
fn groups_that_a_law_cannot_have_are_named_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = "name,n_params,d_ft_tokens,loss_ft\n".to_string();
    for (name, sizes) in [("good", &[1e6, 1e7, 1e8][..]), ("small", &[1e6][..])] {
        for n in sizes {
            for d in DATA {
                text += &format!("{name},{n},{d},{}\n", target(FINETUNING, *n, d));
            }
        }
    }
    text += "none,1e6,1e5,\n";
    fs::write(folder.path().join("a.csv"), text).unwrap();
    let arguments =
        ["fit", "a.csv", "--group-by", "name", "--law", "finetuning", "--bootstrap", "0"];
    let output = must_succeed(folder.path(), &arguments);
    let lines: Vec<_> = stderr(&output).lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[0], "the finetuning law is not fitted to none: no columns for it");
    let few =
        "small is left out: distinct values of n_params = 1: the finetuning law needs at least";
    assert!(lines[1].starts_with(few), "{lines:?}");
    let file = json(&folder.path().join("out/fit/a/law.json"));
    assert_eq!(file["groups"].as_array().unwrap().len(), 1);
    assert_eq!(file["groups"][0]["domain"], "good");
    // Where no group can have it, nothing is written.
    let mut none = arguments.to_vec();
    none.extend(["--where", "name=small", "--out", "none"]);
    refused(folder.path(), &none, &["distinct values of n_params = 1"]);
    assert!(!folder.path().join("none").exists());
}

#[test]
fn what_cannot_be_fitted_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let good = table(0.0);
    fs::write(folder.join("good.csv"), &good).unwrap();
    fs::write(folder.join("small.csv"), "n_params,loss\n1,2\n").unwrap();
    let mut lines: Vec<_> = good.lines().collect();
    let nan = lines[3].rsplit_once(',').unwrap().0.to_string() + ",nan";
    lines[3] = &nan;
    fs::write(folder.join("nan.csv"), lines.join("\n")).unwrap();
    fs::write(folder.join("file"), "").unwrap();
    fs::write(folder.join("chart.csv"), "Step,a lr=1 - loss\n1,3\n2,2\n").unwrap();
    let cases: &[(&[&str], &[&str])] = &[
        // The refusal is about the law that the mapped columns are of.
        (
            &["chart.csv", "--map", "loss=a lr=1 - loss", "--map", "d_tokens=Step"],
            &["the additive law needs n_params, and no row has it"],
        ),
        (&["chart.csv", "--map", "loss_ft=a lr=1 - loss"], &["the finetuning law needs n_params"]),
        (&["missing.csv"], &["missing.csv", "No such file"]),
        (&["file"], &["file", ".csv", ".parquet"]),
        (
            &["small.csv", "--law", "forgetting"],
            &["needs loss_pt", "the columns are n_params, loss"],
        ),
        (
            &["good.csv", "--where", "p=0", "--law", "forgetting"],
            &["distinct values of p = 1", "its B"],
        ),
        (
            &["nan.csv", "--law", "finetuning"],
            &["nan.csv: line 4: loss_ft must be a number above 0"],
        ),
        (&["nan.csv"], &["nan.csv: line 4: loss_ft must be a number above 0"]),
        (
            &["good.csv", "--law", "gravity"],
            &["--law = gravity", "all-forgetting, all-finetuning or all"],
        ),
        (&["good.csv", "--law", "all,forgetting"], &["all cannot be combined"]),
        (&["good.csv", "--map", "n_params"], &["--map = n_params"]),
        (&["good.csv", "--map", "p=fraction"], &["fraction", "loss_pt0"]),
        (&["good.csv", "--group-by", "family"], &["family", "the columns are domain"]),
        (&["good.csv", "--where", "p>2"], &["no row of 54 has p>2"]),
        (&["good.csv", "--space", "cube"], &["'cube'", "--space", "[possible values: log, raw]"]),
        (&["good.csv", "--hold-out", "some"], &["size, data, p, largest, none"]),
        (&["good.csv", "--delta", "0"], &["delta = 0", "above 0"]),
        (&["good.csv", "--delta", "1", "--penalty", "squared"], &["--delta", "huber"]),
        (&["good.csv", "--level", "1"], &["--level = 1", "between 0 and 1"]),
        (
            &["good.csv", "--law", "finetuning", "--bootstrap", "0", "--out", "file"],
            &["--out = file"],
        ),
        (&[], &["<INPUT>", "--help"]),
    ];
    for (arguments, named) in cases {
        let arguments: Vec<_> = ["fit"].iter().chain(arguments.iter()).copied().collect();
        refused(folder, &arguments, named);
    }
    assert!(!folder.join("out").exists());
}

#[test]
fn predictions_of_one_run_are_told() {
    let folder = fitted().0.path();
    let predict = |arguments: &[&str]| {
        let all = [&["predict", "out/fit/noisy/law.json"], arguments].concat();
        stdout(&must_succeed(folder, &all)).to_string()
    };
    // Of a size between the fitted ones, for every law that these numbers suffice for.
    let text = predict(&["--n-params", "3e7", "--d-ft", "1e6", "--domain", "near"]);
    assert!(text.starts_with("near, finetuning: Eq. 6"), "{text}");
    assert!(text.contains("90%       ["), "{text}");
    assert!(!text.contains("forgetting:") && !text.contains("warning"), "{text}");
    assert!(text.contains("for the loss of a new run if the law is right"), "{text}");
    let text = predict(&[
        "--n-params",
        "3e7",
        "--d-ft",
        "1e6",
        "--p",
        "0.01",
        "--domain",
        "near",
        "--law",
        "forgetting",
    ]);
    let word = |name: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap()
    };
    let loss_pt0 = 3.0 * (2.5f64 / 3.0).powf(3f64.log10());
    let planted = loss_pt0 + rise(DOMAINS[1].1, 3e7, 1e6, 0.01);
    // Noise of 0.4% in 27 runs.
    assert!((word("loss_pt ") / planted - 1.0).abs() < 0.004, "{text}");
    assert!(text.contains("(interpolated)") && text.contains("for the law itself"), "{text}");
    // Beyond them it warns.
    let text =
        predict(&["--n-params", "1e9", "--d-ft", "1e6", "--p", "0.2", "--law", "forgetting"]);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "W09: n_params = 1e9 is outside the range 1e6 to 1e8 of the forgetting law's runs",
        "by a factor of 10",
        "W09: p = 0.2 is outside the range 0 to 0.05",
        "W18: loss_pt0 is extrapolated",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let given = ["--n-params", "1e9", "--d-ft", "1e6", "--p", "0.01", "--loss-pt0", "2.2"];
    assert!(!predict(&given).contains("polated from"));
}

#[test]
fn predictions_over_ranges_are_a_table() {
    let folder = fitted().0.path();
    let output = must_succeed(
        folder,
        &[
            "predict",
            "out/fit/noisy/law.json",
            "--n-params",
            "1e6:1e8:4",
            "--d-ft",
            "1e5,2e7",
            "--p",
            "0:0.05:2",
            "--law",
            "forgetting",
        ],
    );
    let note =
        "loss_pt0 is interpolated between the fitted sizes; --loss-pt0 gives a measured one\n";
    assert_eq!(stderr(&output), note);
    let mut lines = stdout(&output).lines();
    assert_eq!(
        lines.next().unwrap(),
        "domain,law,n_params,d_ft_tokens,d_tokens,p,loss_pt0,loss,low,high,law_low,law_high,outside,\
         if_right_low,if_right_high,measured,measured_runs,warnings"
    );
    let rows: Vec<Vec<String>> = lines
        .map(|line| line.replace("\"far, far\"", "far").split(',').map(String::from).collect())
        .collect();
    assert_eq!(rows.len(), 2 * 4 * 2 * 2);
    let number = |row: &[String], i: usize| row[i].parse::<f64>().unwrap();
    let mut widths = [0.0, 0.0];
    for row in &rows {
        assert_eq!((row.len(), row[1].as_str(), row[4].as_str()), (18, "forgetting", ""));
        let law = DOMAINS[usize::from(row[0] == "near")].1;
        let [n, d, p, loss_pt0] = [2, 3, 5, 6].map(|i| number(row, i));
        let planted = loss_pt0 + rise(law, n, d, p);
        // As far as 20M tokens the law was not fitted.
        assert!((number(row, 7) / planted - 1.0).abs() < 0.02, "{row:?}");
        let [loss, low, high, law_low, law_high] = [7, 8, 9, 10, 11].map(|i| number(row, i));
        assert!(low < loss && loss < high && law_low <= loss && loss <= law_high, "{row:?}");
        widths = [widths[0] + (law_high / law_low).ln(), widths[1] + (high / low).ln()];
        assert_eq!(row[12], if d > 1e7 { "d_ft_tokens" } else { "" });
    }
    // A new run has its own noise beside that of the law.
    assert!(widths[0] < widths[1], "{widths:?}");
    // Equal sizes have their very own L_pt⁰, and the ends of a range are what was given.
    assert_eq!((rows[0][2].as_str(), rows[0][6].as_str()), ("1000000", "4"));
    assert_eq!((rows[15][2].as_str(), rows[15][6].as_str()), ("100000000", "2.5"));
    let again = must_succeed(
        folder,
        &["predict", "out/fit/noisy/law.json", "--n-params", "1e6,1e7", "--d-ft", "1e6"],
    );
    assert_eq!(stdout(&again).lines().count(), 1 + 2 * 2);
    // Which of the forms that the numbers suffice for is asked, and why.
    assert!(stderr(&again).contains("near, finetuning: "), "{}", stderr(&again));
}

#[test]
fn questions_and_files_that_are_none_are_refused() {
    let folder = fitted().0.path();
    let laws = "out/fit/noisy/law.json";
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    let good = fs::read_to_string(folder.join(laws)).unwrap();
    write("cut.json", &good[..good.len() / 2]);
    write("other.json", "{\"text\": 1}");
    write("page.json", "<!DOCTYPE html>\n<html>");
    write("later.json", &good.replacen("\"format\": 1", "\"format\": 2", 1));
    write("law.json", &good.replacen("\"law\": \"forgetting\"", "\"law\": \"gravity\"", 1));
    write("rows.json", &good.replacen("\"n_rows\": 27", "\"n_rows\": 28", 1));
    write("resamples.json", &good.replacen("\"resamples\": 60", "\"resamples\": 61", 1));
    write("negative.json", &good.replacen("\"B\": {\"value\":", "\"B\": {\"value\":-", 1));
    let size: &[&str] = &["--n-params", "1e7", "--d-ft", "1e6"];
    let cases: &[(&str, &[&str], &[&str])] = &[
        (laws, &[], &["--n-params is missing", "the forgetting law needs it"]),
        (
            laws,
            &["--law", "additive"],
            &["--law = additive", "finetuning, finetuning-p, forgetting"],
        ),
        (laws, &["--domain", "new"], &["--domain = new", "far, far, near"]),
        (laws, &["--n-params", "1e6:1e5:3"], &["LOW must be below HIGH"]),
        (
            laws,
            &[size, &["--p", "2"]].concat(),
            &["--p <P>", "\"2\" must lie between 0 and 1, as 0.01 or 1%"],
        ),
        (laws, &["--n-params", "1:2:100000", "--d-ft", "1:2:100000"], &["number of runs"]),
        ("missing.json", size, &["missing.json", "No such file"]),
        ("noisy.csv", size, &["noisy.csv, line 1: is not JSON", "`replication fit`"]),
        ("cut.json", size, &["cut.json, line ", "is not JSON"]),
        ("page.json", size, &["page.json: it is an HTML or XML page", "download the file itself"]),
        ("other.json", size, &["other.json: holds no fitted laws", "`replication fit`"]),
        ("later.json", size, &["has format 2", "reads format 1"]),
        ("law.json", size, &["law.json", "gravity", "must be one of"]),
        ("rows.json", size, &["rows.json: is damaged", "27 rows"]),
        ("resamples.json", size, &["resamples.json: is damaged", "not complete"]),
        ("negative.json", size, &["negative.json: is damaged: B"]),
    ];
    for (file, arguments, named) in cases {
        let arguments = [&["predict", file], *arguments].concat();
        refused(folder, &arguments, named);
    }
}

/// What `--csv` writes is what the file of the laws holds, a row a parameter; `-` prints it in place of
/// the report.
#[test]
fn laws_are_given_as_a_table() {
    let folder = fitted().0.path();
    let call = |csv: &str| {
        let arguments = ["fit", "noisy.csv", "--law", "forgetting,finetuning", "--bootstrap", "20"];
        let output =
            must_succeed(folder, &[&arguments[..], &["--out", "csv", "--csv", csv]].concat());
        stdout(&output).to_string()
    };
    let printed = call("-");
    assert!(call("csv/laws.csv").contains("report card"));
    assert_eq!(fs::read_to_string(folder.join("csv/laws.csv")).unwrap(), printed);
    let file = json(&folder.join("csv/law.json"));
    let mut lines = printed.lines();
    assert!(lines.next().unwrap().starts_with("domain,law,parameter,value,low,high,"));
    let mut count = 0;
    for line in lines {
        let line = line.replace("\"far, far\"", "far");
        let cells: Vec<&str> = line.split(',').collect();
        let domain = if cells[0] == "far" { DOMAINS[0].0 } else { cells[0] };
        let param = &group(&file, domain, cells[1])["params"][cells[2]];
        for (cell, key) in cells[3..6].iter().zip(["value", "low", "high"]) {
            assert_eq!(cell.parse::<f64>().unwrap(), param[key].as_f64().unwrap(), "{line}");
        }
        count += 1;
    }
    assert_eq!(count, 2 * (4 + 4));
    let both = ["fit", "noisy.csv", "--csv", "-", "--json", "-"];
    refused(folder, &both, &["--csv = -", "--json already replaces"]);
}

/// The table of laws has the ranking: the errors on every axis, and the baselines beside. Without runs
/// held out there is none, which is said in a line.
#[test]
fn the_table_of_laws_has_the_ranking() {
    let folder = fitted().0.path();
    let laws = "forgetting,forgetting-plus-tokens,finetuning";
    let call =
        ["fit", "noisy.csv", "--law", laws, "--bootstrap", "20", "--out", "ranked", "--csv", "-"];
    let output = must_succeed(folder, &call);
    assert_eq!(stderr(&output), "");
    let printed = stdout(&output).replace("\"far, far\"", "far");
    let rows: Vec<Vec<&str>> = printed.lines().map(|line| line.split(',').collect()).collect();
    let column = |name: &str| rows[0].iter().position(|cell| *cell == name).unwrap();
    let ranking = fs::read_to_string(folder.join("ranked/ranking.csv")).unwrap();
    let ranking = ranking.replace("\"far, far\"", "far");
    let ranked: Vec<Vec<&str>> = ranking.lines().map(|line| line.split(',').collect()).collect();
    let mut compared = 0;
    for row in &rows[1..] {
        assert_eq!(row.len(), rows[0].len(), "{row:?}");
        let of = |axis: &str| {
            ranked
                .iter()
                .find(|r| r[0] == row[0] && r[1] == "loss_pt" && r[3] == row[1] && r[8] == axis)
        };
        if row[1] == "finetuning" {
            assert!(row[column("rank")..].iter().all(|cell| cell.is_empty()), "{row:?}");
            continue;
        }
        assert_eq!(row[column("loss")], "loss_pt");
        assert_eq!(row[column("rank")], of("mean").unwrap()[5], "{row:?}");
        for axis in ["size", "data", "p", "largest"] {
            let error = row[column(&format!("error_by_{axis}"))];
            assert_eq!(error, of(axis).map_or("", |row| row[10]), "{row:?} {axis}");
            compared += usize::from(!error.is_empty());
        }
        let mean = of("mean").unwrap();
        let names = ["error_mean", "behind_best", "behind_best_low", "behind_best_high"];
        assert_eq!(names.map(|name| row[column(name)]), [mean[10], mean[11], mean[12], mean[13]]);
        assert_eq!(
            row[column("parameter")].is_empty(),
            ["no-change", "log-linear"].contains(&row[1])
        );
    }
    // Of two domains two laws of four parameters and two baselines, on four axes.
    assert_eq!(compared, 2 * (2 * 4 + 2) * 4);

    let without = [&call[..], &["--hold-out", "none"]].concat();
    let output = must_succeed(folder, &without);
    let lines: Vec<&str> = stderr(&output).lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    for (line, domain) in lines.iter().zip(["far, far", "near"]) {
        let expected = format!("{domain}: the forms for loss_pt are not ranked: ");
        assert!(line.starts_with(&expected) && line.contains("--hold-out none"), "{line}");
    }
    assert!(json(&folder.join("ranked/law.json"))["rankings"].as_array().unwrap().is_empty());
}

/// Answers of a file stand in the card and in the file of the laws, and bad ones are refused with their
/// place.
#[test]
fn a_checklist_is_completed_by_a_file() {
    let folder = fitted().0.path();
    let call =
        ["fit", "noisy.csv", "--law", "finetuning", "--bootstrap", "0", "--out", "checklist"];
    let with = |name: &'static str, text: &str| {
        fs::write(folder.join(name), text).unwrap();
        [&call[..], &["--checklist", name]].concat()
    };
    let card = || fs::read_to_string(folder.join("checklist/card.md")).unwrap();
    let number = |output: &Output| -> usize {
        let text = stdout(output);
        let line = text.lines().find(|line| line.starts_with("  checklist")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let without = number(&must_succeed(folder, &call));
    assert!(card().contains("| fitting | Which data points are left out? | none | the fit |"));
    let some = [&call[..], &["--where", "p>0"]].concat();
    must_succeed(folder, &some);
    assert!(card().contains("| rows that do not satisfy p>0 | the fit |"), "{}", card());
    assert!(card().contains("with embeddings or without? | not stated |"), "{}", card());
    let arguments = with("answers.toml", "count_n = \"with the embeddings\"\n");
    assert_eq!(number(&must_succeed(folder, &arguments)), without + 1);
    assert!(card().contains("| with the embeddings | the author |"), "{}", card());
    assert!(
        json(&folder.join("checklist/law.json"))["checklist"]
            .to_string()
            .contains("with the embeddings")
    );
    for (name, text, named) in [
        ("a.toml", "count_n = \"a\"\ncount_d =\n", ["a.toml, line 2", "is not TOML"]),
        ("b.toml", "count_n = 3\n", ["b.toml", "count_n must be a text in quotes"]),
        ("c.toml", "colour = \"red\"\n", ["c.toml", "colour"]),
    ] {
        refused(folder, &with(name, text), &named);
    }
}

/// Predictions as JSON are those of the table, with every warning and what to do about it.
#[test]
fn predictions_are_given_as_json() {
    let folder = fitted().0.path();
    let question = ["predict", "out/fit/noisy/law.json", "--n-params", "3e7,1e9", "--d-ft", "1e6"];
    let question = [&question[..], &["--p", "0.01", "--law", "forgetting"]].concat();
    let with = |form: &'static str| [&question[..], &[form]].concat();
    let output = must_succeed(folder, &with("--json"));
    let answers: Value = serde_json::from_str(stdout(&output)).unwrap();
    let answers = answers.as_array().unwrap();
    let table = must_succeed(folder, &with("--csv"));
    let rows: Vec<&str> = stdout(&table).lines().skip(1).collect();
    assert_eq!((answers.len(), rows.len()), (4, 4));
    for (answer, row) in answers.iter().zip(rows) {
        let row = row.replace("\"far, far\"", "far");
        let cells: Vec<&str> = row.split(',').collect();
        assert_eq!((&answer["law"], &answer["output"]), (&"forgetting".into(), &"loss_pt".into()));
        for (key, cell) in ["value", "low", "high", "law_low", "law_high"].iter().zip(&cells[7..]) {
            assert_eq!(answer[*key].as_f64().unwrap(), cell.parse::<f64>().unwrap(), "{row}");
        }
        assert_eq!(answer["asked"]["n_params"].as_f64().unwrap(), cells[2].parse::<f64>().unwrap());
        assert_eq!(answer["level"], 0.9);
        let warnings = answer["warnings"].as_array().unwrap();
        let ids: Vec<_> = warnings.iter().map(|warning| warning["id"].as_str().unwrap()).collect();
        assert_eq!(ids.join(" "), cells[17]);
        assert!(warnings.iter().all(|warning| warning["remedy"].as_str().unwrap().ends_with('.')));
        // Beyond the largest model, L_pt⁰ is extrapolated too.
        let beyond = cells[2] == "1000000000";
        assert_eq!(ids.contains(&"W09") && ids.contains(&"W18"), beyond, "{row}");
        let from = if beyond { "extrapolated" } else { "interpolated" };
        assert_eq!(answer["loss_pt0_from"], from);
    }
}

/// The spread between pretrained models widens what is said of a new one, and is no longer missed.
#[test]
fn a_spread_between_models_is_supplied() {
    let folder = fitted().0.path();
    let fit = |spread: &[&str]| {
        let call = ["fit", "noisy.csv", "--law", "forgetting,finetuning", "--bootstrap", "60"];
        must_succeed(folder, &[&call[..], &["--out", "spread"], spread].concat());
        let file = json(&folder.join("spread/law.json"));
        let near = group(&file, "near", "forgetting").clone();
        let question = ["predict", "spread/law.json", "--domain", "near", "--law", "forgetting"];
        let run = ["--n-params", "1e7", "--d-ft", "1e6", "--p", "0", "--json"];
        let output = must_succeed(folder, &[&question[..], &run[..]].concat());
        let answer: Value = serde_json::from_str(stdout(&output)).unwrap();
        let of = |key: &str| answer[0][key].as_f64().unwrap();
        let ids = |law: &str| -> Vec<String> {
            let warnings = group(&file, "near", law)["warnings"].as_array().unwrap().clone();
            warnings.iter().map(|warning| warning["id"].as_str().unwrap().to_string()).collect()
        };
        let widths = [of("high") - of("low"), of("law_high") - of("law_low")];
        (near, widths, ids("forgetting"), ids("finetuning"))
    };
    let (without, narrow, forgetting, _) = fit(&[]);
    assert!(without["model_spread"].is_null() && forgetting.contains(&"W11".to_string()));
    let (with, wide, forgetting, finetuning) = fit(&["--model-spread", "20%"]);
    assert_eq!(with["model_spread"], 0.2);
    assert!(wide[0] > 2.0 * narrow[0] && wide[1] > 2.0 * narrow[1], "{narrow:?} {wide:?}");
    // It is one of what is forgotten, and says nothing of the target.
    assert!(!forgetting.contains(&"W11".to_string()) && finetuning.contains(&"W11".to_string()));
    // 8 is 800%.
    let named = ["--model-spread", "must be a share from 0 to 1, such as 8% or 0.08"];
    refused(folder, &["fit", "noisy.csv", "--model-spread", "8"], &named);
}

/// With the size of the vocabulary the bounded form is ranked among the others, is asked by its name,
/// and is proved; the form with a fitted ceiling is not.
#[test]
fn a_bounded_increase_needs_a_vocabulary() {
    let folder = fitted().0.path();
    let call =
        ["fit", "noisy.csv", "--where", "domain=near", "--bootstrap", "20", "--out", "bounded"];
    let with = |more: &[&'static str]| [&call[..], more].concat();
    let all = ["--law", "all-forgetting", "--vocab-size", "32000", "--prove"];
    let output = must_succeed(folder, &with(&all));
    assert!(
        stderr(&output).contains("no proof of forgetting-ceiling: branch and bound"),
        "{}",
        stderr(&output)
    );
    let file = json(&folder.join("bounded/law.json"));
    let forms = file["rankings"][0]["forms"].as_array().unwrap();
    assert!(forms.iter().any(|form| form["form"] == "forgetting-bounded-32000"));
    assert!(group(&file, "near", "forgetting-ceiling")["proof"].is_null());
    assert_eq!(group(&file, "near", "forgetting-bounded-32000")["proof"]["complete"], true);
    assert_eq!(group(&file, "near", "forgetting")["proof"]["complete"], true);
    let size = ["predict", "bounded/law.json", "--n-params", "3e7", "--d-ft", "1e6", "--p", "0.01"];
    let size = [&size[..], &["--law", "forgetting-bounded-32000"]].concat();
    assert!(stdout(&must_succeed(folder, &size)).contains("R = ln 32000 - L_pt0"));
    for (more, named) in [
        (&["--law", "forgetting-ceiling", "--prove"][..], "--prove = forgetting-ceiling"),
        (
            &["--law", "forgetting", "--vocab-size", "32000"],
            "--law forgetting-bounded-32000 already is this",
        ),
        (&["--law", "forgetting-bounded"], "forgetting-bounded-V with the size V"),
        (&["--vocab-size", "1"], "--vocab-size"),
    ] {
        refused(folder, &with(more), &[named]);
    }
}

/// A warning is said once, with the fits that it is about as briefly as may be.
#[test]
fn the_report_card_says_each_warning_once() {
    let (folder, output) = fitted();
    let text = stdout(output);
    let card = text.split("report card\n").nth(1).unwrap();
    let ids: Vec<&str> = card.lines().filter_map(|line| line.strip_prefix("  W")).collect();
    let ids: Vec<&str> = ids.iter().map(|line| &line[..2]).collect();
    let mut once = ids.clone();
    once.dedup();
    assert!(!ids.is_empty() && ids == once, "{card}");
    let words = card.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains("W05 all fits: the column domain was used as the domain of each row"),
        "{card}"
    );
    // Equation 6 has runs of several p at each of its settings.
    assert!(
        words.contains("W03 all fits except those of finetuning: each of the 27 settings"),
        "{card}"
    );
    let markdown = fs::read_to_string(folder.path().join("out/fit/noisy/card.md")).unwrap();
    assert!(markdown.contains("| W03 | all fits except those of finetuning | each of the 27"));
}

/// A reader that ends early is no error.
#[test]
fn a_closed_pipe_is_no_failure() {
    let folder = fitted().0.path();
    let mut child = Command::new(env!("CARGO_BIN_EXE_replication"))
        .args(["predict", "out/fit/noisy/law.json", "--n-params", "1e6:1e8:500"])
        .args(["--d-ft", "1e5:1e7:20", "--law", "finetuning"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
}

/// W14 where D_ft is in proportion to N, so that the exponents cannot be told apart; W15 where losses are
/// so small that their penalty underflows. The same table without either has neither.
#[test]
fn fits_that_are_not_to_be_trusted_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, scale: f64, one_ratio: bool| {
        let mut text = "n_params,d_ft_tokens,loss_ft\n".to_string();
        for n in [1e6, 1e7, 1e8, 1e9] {
            for d in if one_ratio { vec![0.01 * n] } else { vec![1e4, 1e5, 1e6] } {
                let ripple = 1.0 + 0.01 * f64::sin(2.4 * f64::ln(n * d));
                let loss = scale * target(FINETUNING, n, d) * ripple;
                text += &format!("{n},{d},{loss}\n");
            }
        }
        fs::write(folder.path().join(name), text).unwrap();
    };
    write("good.csv", 1.0, false);
    write("ratio.csv", 1.0, true);
    write("tiny.csv", 1e-200, false);
    for (name, status, expected) in [
        ("good.csv", "converged", None),
        ("ratio.csv", "not_identified", Some("W14")),
        ("tiny.csv", "not_converged", Some("W15")),
    ] {
        let arguments = ["fit", name, "--law", "finetuning", "--bootstrap", "0", "--out", "out"];
        let output = must_succeed(folder.path(), &arguments);
        let file = json(&folder.path().join("out/law.json"));
        let group = group(&file, "", "finetuning");
        assert_eq!(group["status"], status, "{name}");
        for id in ["W14", "W15"] {
            let is_said = |text: &str| text.contains(id);
            let warned =
                group["warnings"].as_array().unwrap().iter().any(|warning| warning["id"] == id);
            let card = fs::read_to_string(folder.path().join("out/card.md")).unwrap();
            let said = (warned, is_said(stdout(&output)), is_said(&card));
            let expected = expected == Some(id);
            assert_eq!(said, (expected, expected, expected), "{name} {id}");
        }
    }
}
