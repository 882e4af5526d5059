//! The committed runs of `nano`: the laws that docs/results.md shows are those of the committed table, its
//! files are those of the datasheet, and some of its runs, made again, give the same numbers.

#![cfg(unix)]

mod common;

use common::must_succeed;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn golden(text: &str) -> PathBuf {
    root().join("golden/nano").join(text)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Three significant digits, as docs/results.md has them; what a fit leaves open above is unlimited.
fn digits(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    if value > 1e15 {
        return "unlimited".into();
    }
    let decimals = 2 - value.abs().log10().floor() as i32;
    if decimals < 0 {
        let unit = 10f64.powi(-decimals);
        return format!("{}", (value / unit).round() * unit);
    }
    format!("{value:.0$}", decimals as usize)
}

/// The rows of docs/results.md that begin with a text, the domain and the law, as
/// `| synthetic | far | forgetting |`.
fn shown() -> BTreeMap<(String, String, String), Vec<String>> {
    let page = fs::read_to_string(root().join("docs/results.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows = rows.map(|row| row.split(" | ").map(String::from).collect::<Vec<_>>());
    let laws = ["forgetting", "finetuning"];
    rows.filter(|row| row.len() > 3 && laws.contains(&row[2].as_str()))
        .map(|mut row| {
            let rest = row.split_off(3);
            let [text, domain, law] = row.try_into().unwrap();
            ((text, domain, law), rest)
        })
        .collect()
}

#[test]
fn the_results_show_the_laws_of_the_committed_tables() {
    let mut shown = shown();
    for text in ["synthetic", "real"] {
        let out = tempfile::tempdir().unwrap();
        let mut fit = Command::new(env!("CARGO_BIN_EXE_replication"));
        fit.arg("fit").arg(golden(text).join("losses.csv"));
        fit.args([
            "--law",
            "forgetting,finetuning",
            "--where",
            "main=true",
            "--where",
            "left_out=",
        ]);
        must_succeed(fit.arg("--out").arg(out.path()));
        let laws = json(&out.path().join("law.json"));
        for law in laws["groups"].as_array().unwrap() {
            let name = |key: &str| law[key].as_str().unwrap().to_string();
            let key = (text.to_string(), name("domain"), name("law"));
            let row =
                shown.remove(&key).unwrap_or_else(|| panic!("docs/results.md has no row {key:?}"));
            let params = &law["params"];
            let param = |name: &str| match params.get(name) {
                None => "–".to_string(),
                Some(param) => {
                    let [value, low, high] =
                        ["value", "low", "high"].map(|key| digits(param[key].as_f64().unwrap()));
                    format!("{value} [{low}, {high}]")
                }
            };
            let percent = |value: &Value| format!("{}%", digits(100.0 * value.as_f64().unwrap()));
            let held_out = &law["held_out"];
            let errors = |errors: &Value| {
                format!("{}, {}", percent(&errors["mre"]), percent(&errors["rise_error"]))
            };
            let nulls = &held_out["null_models"];
            let mut expected: Vec<String> = ["A", "B", "alpha", "beta", "E"].map(param).into();
            expected.push(law["n_runs"].to_string());
            expected.push(percent(&law["mre"]));
            expected.push(errors(held_out));
            expected.push(errors(&nulls["no_change"]));
            expected.push(errors(&nulls["log_linear"]));
            assert_eq!(row, expected, "{key:?} reads | {} |", expected.join(" | "));
        }
    }
    assert!(shown.is_empty(), "no law is behind {shown:?}");
}

#[test]
fn the_committed_files_are_those_of_their_datasheets() {
    for text in ["synthetic", "real"] {
        let sheet = fs::read_to_string(golden(text).join("DATASHEET.md")).unwrap();
        let files = sheet.split("| file | SHA-256 |").nth(1).unwrap();
        let mut checked = 0;
        for line in files.lines().filter(|line| line.contains('.')) {
            let cells: Vec<&str> = line.trim_matches(['|', ' ']).split(" | ").collect();
            let bytes = fs::read(golden(text).join(cells[0])).unwrap();
            assert_eq!(forgetting_laws::store::sha256(&bytes), cells[1], "{text}/{}", cells[0]);
            checked += 1;
        }
        assert!(checked >= 8, "{sheet}");
    }
}

/// The smallest model, and four of its finetunings on the least data: seconds of work. The CPU engine
/// gives the same bits on every machine.
#[test]
fn some_of_the_committed_runs_are_made_again_to_the_bit() {
    let out = tempfile::tempdir().unwrap();
    let mut call = Command::new(env!("CARGO_BIN_EXE_replication"));
    call.args(["run", "--engine", "cpu", "--block", "main", "--out"]).arg(out.path());
    for setting in ["sizes=nano-micro", "domains=near,far", "d_ft_tokens=960", "p=0.0,0.05"] {
        call.args(["--set", &format!("grid.main.{setting}")]);
    }
    must_succeed(&mut call);
    let committed = json(&golden("synthetic").join("results.json"));
    let records: BTreeMap<&str, &Value> = ["pretrained", "finetuned"]
        .iter()
        .flat_map(|kind| committed[kind].as_array().unwrap())
        .map(|run| (run["record"]["id"].as_str().unwrap(), &run["record"]))
        .collect();
    let mut compared = 0;
    for entry in fs::read_dir(out.path().join("runs")).unwrap() {
        let made = json(&entry.unwrap().path().join("record.json"));
        let id = made["id"].as_str().unwrap();
        let record = records.get(id).unwrap_or_else(|| panic!("{id} is new"));
        assert!(**record == made, "{id} differs");
        compared += 1;
    }
    assert_eq!(compared, 1 + 2 * 2);
}
