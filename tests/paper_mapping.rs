//! The documents are true: what PAPER_MAPPING.md names exists, settings have the values that it
//! states, and its commands ask for figures and presets that there are, as do those of
//! README.md and docs/; docs/library.md shows code that is compiled and run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[path = "../examples/new_domain.rs"]
mod new_domain;
#[path = "../examples/plan.rs"]
mod plan;

/// The columns of every table of statements, in their order.
const COLUMNS: [&str; 7] =
    ["row", "the paper", "sure", "code", "test", "command", "deviation or choice"];
const SURE: [&str; 5] = ["quoted", "reported", "sister", "inference", "unknown"];
const NOT_YET: &str = "not yet";
/// What must have a row.
const ITEMS: [&str; 24] = [
    "Eq. 6",
    "Eq. 7",
    "C1",
    "C2",
    "C3",
    "C4",
    "C5",
    "C6",
    "C7",
    "C8",
    "C9",
    "C10",
    "Figure 1",
    "Figure 2",
    "Figure 3",
    "Figure 4",
    "Figure 5",
    "Figure 6",
    "Figure 14",
    "Figure 17",
    "Table 1",
    "Table 2",
    "Table 3",
    "Table 4",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> Result<String, String> {
    let path = path.as_ref();
    std::fs::read_to_string(root().join(path))
        .map_err(|error| format!("{}: {error}", path.display()))
}

fn mapping() -> String {
    read("PAPER_MAPPING.md").unwrap()
}

/// What stands in backticks.
fn spans(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The cells of a table's line.
fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(str::trim).collect())
}

/// The lines of every table under the header `columns`, without header and rule.
fn rows<'a>(text: &'a str, columns: &[&str]) -> Vec<Vec<&'a str>> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match cells(line) {
            None => inside = false,
            Some(cells) if cells == columns => inside = true,
            Some(cells) if inside && !cells[0].starts_with("---") => found.push(cells),
            Some(_) => {}
        }
    }
    found
}

/// Whether a line declares `name` with one of the keywords.
fn declares(line: &str, keywords: &[&str], name: &str) -> bool {
    let line = line.trim_start();
    let code = !line.starts_with("//");
    let words: Vec<&str> = line
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|w| !w.is_empty())
        .collect();
    code && words.windows(2).any(|pair| keywords.contains(&pair[0]) && pair[1] == name)
}

const CONTAINERS: [&str; 4] = ["struct", "enum", "trait", "mod"];
const DECLARATIONS: [&str; 8] = ["fn", "struct", "enum", "trait", "mod", "const", "static", "type"];

/// The bodies of the types, traits, modules and impls of a name, as rustfmt lays them out.
fn bodies(text: &str, name: &str) -> String {
    let mut found = String::new();
    let mut end: Option<String> = None;
    for line in text.lines() {
        let code = line.trim_start();
        if let Some(closing) = &end {
            if line == closing {
                end = None;
            } else {
                found += line;
                found.push('\n');
            }
        } else if line.ends_with('{') {
            let words: Vec<&str> =
                code.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
            let implements = code.starts_with("impl") && words.contains(&name);
            if implements || declares(line, &CONTAINERS, name) {
                end = Some(format!("{}}}", &line[..line.len() - code.len()]));
            }
        }
    }
    found
}

/// Whether a line is a field or a variant `name` of the type whose body it stands in.
fn is_member(line: &str, name: &str) -> bool {
    let code = line.trim_start();
    let code = code.strip_prefix("pub ").unwrap_or(code);
    code.strip_prefix(name)
        .is_some_and(|rest| [":", ",", "(", " {"].iter().any(|end| rest.starts_with(end)))
}

/// Whether `file::item`, `file::Type::member` or `file.toml::table.key = value` exists.
fn resolve(reference: &str) -> Result<(), String> {
    let (path, item) = match reference.split_once("::") {
        None => (reference, None),
        Some((path, item)) => (path, Some(item)),
    };
    let text = read(path)?;
    let Some(item) = item else { return Ok(()) };
    if path.ends_with(".toml") {
        return resolve_setting(&text, item);
    }
    let (containers, name) = item.rsplit_once("::").unwrap_or(("", item));
    let mut scope = text;
    for container in containers.split("::").filter(|container| !container.is_empty()) {
        scope = bodies(&scope, container);
    }
    let found = scope.lines().any(|line| {
        declares(line, &DECLARATIONS, name) || (!containers.is_empty() && is_member(line, name))
    });
    if found { Ok(()) } else { Err(format!("{path} has no {item}")) }
}

/// The value of a setting in a preset, as it is written there.
/// A setting of a preset. What a block of the grid leaves out is that of the block "main".
fn setting<'a>(toml: &'a str, key: &str) -> Option<&'a str> {
    let own = setting_of_its_own(toml, key);
    own.or_else(|| {
        let (_, axis) = key.strip_prefix("grid.")?.split_once('.')?;
        setting_of_its_own(toml, &format!("grid.main.{axis}"))
    })
}

fn setting_of_its_own<'a>(toml: &'a str, key: &str) -> Option<&'a str> {
    let (table, key) = key.rsplit_once('.').unwrap_or(("", key));
    let mut here = "";
    toml.lines().find_map(|line| {
        let line = line.split(" #").next().unwrap_or_default().trim();
        if let Some(name) = line.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            here = name;
        }
        let (name, value) = line.split_once('=')?;
        (here == table && name.trim() == key).then(|| value.trim())
    })
}

fn resolve_setting(toml: &str, item: &str) -> Result<(), String> {
    let (key, stated) = match item.split_once(" = ") {
        None => (item, None),
        Some((key, value)) => (key, Some(value)),
    };
    let value = setting(toml, key).ok_or_else(|| format!("no setting {key}"))?;
    match stated {
        Some(stated) if stated != value => Err(format!("{key} is {value}, not {stated}")),
        _ => Ok(()),
    }
}

/// Whether `file::name` is a test.
fn resolve_test(reference: &str) -> Result<(), String> {
    resolve(reference)?;
    let (path, item) = reference.split_once("::").ok_or("a test is a file and a name")?;
    let name = item.rsplit("::").next().unwrap_or(item);
    let text = read(path)?;
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let at = lines.iter().position(|line| declares(line, &["fn"], name));
    let above = lines[..at.unwrap_or(0)].iter().rev();
    let mut attributes = above.take_while(|line| line.starts_with("#[") || line.starts_with("///"));
    if attributes.any(|&line| line == "#[test]") {
        Ok(())
    } else {
        Err(format!("{reference} is no test"))
    }
}

/// The figures that the command knows.
fn figures() -> Vec<String> {
    let commands = read("replication/src/cli/train/command.rs").unwrap();
    let variants = bodies(&commands, "Command");
    let names = variants.lines().filter_map(|line| line.trim().split_once('('));
    let names = names.map(|(name, _)| name.to_lowercase());
    let others = ["all", "domain", "plan", "run", "status", "slurm", "export", "report"];
    let on_the_grid = names.filter(|name| others.contains(&name.as_str()));
    on_the_grid.chain(figures_of_the_list()).collect()
}

/// What stands in a file of a figure as its name.
fn figures_of_the_list() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("replication/src/figures");
    let mut names = Vec::new();
    let files = ["paper", "beyond"].map(|of| std::fs::read_dir(folder.join(of)).unwrap());
    for entry in files.into_iter().flatten() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let ids = text.split(": Figure = Figure {\n    id: ").skip(1);
        names.extend(ids.filter_map(|rest| rest.split('"').nth(1)).map(String::from));
    }
    names
}

/// Whether a command asks for what there is.
fn resolve_command(command: &str) -> Result<(), String> {
    // A build with libtorch has the same figures.
    let built = command.replace(" --features torch --", " --");
    let words: Vec<&str> = built.split_whitespace().collect();
    let after = |name: &str| words.iter().position(|&word| word == name).map(|i| &words[i + 1..]);
    let value = |name: &str| after(name).and_then(|rest| rest.first().copied());
    for (flag, folder) in [("--example", "examples"), ("--test", "tests"), ("--bench", "benches")] {
        if let Some(name) = value(flag) {
            return read(format!("{folder}/{name}.rs")).map(drop);
        }
    }
    match words[..] {
        ["cargo", "test" | "bench" | "doc" | "update" | "install" | "deny", ..] => Ok(()),
        ["cargo", "fuzz"] => Ok(()),
        ["cargo", "fuzz", "run", "-s", "none", target, ..] => {
            read(format!("fuzz/fuzz_targets/{target}.rs")).map(drop)
        }
        ["cargo", alias @ "quick"] => {
            let aliases = read(".cargo/config.toml")?;
            aliases.contains(&format!("\n{alias} = [")).then_some(()).ok_or("no alias".into())
        }
        // replication/tests/mapping.rs runs these.
        [
            "cargo",
            "run",
            "-p",
            "replication",
            "--",
            name @ ("fit" | "predict" | "advise" | "compare" | "study" | "draw"),
            ..,
        ] => read(format!("replication/src/cli/{name}.rs")).map(drop),
        [
            "cargo",
            "run",
            "-p",
            "replication",
            "--",
            name @ ("distance" | "tokenizer" | "eval" | "retention" | "sample"),
            ..,
        ] => read(format!("replication/src/cli/train/{name}.rs")).map(drop),
        ["cargo", "run", "-p", "replication", "--", "data", name, ..] => {
            let commands = read("replication/src/cli/train/data.rs")?;
            let variant = format!("    {}{}(", name[..1].to_uppercase(), &name[1..]);
            commands.contains(&variant).then_some(()).ok_or(format!("there is no data {name}"))
        }
        ["cargo", "run", "-p", "replication", "--", figure, ref options @ ..] => {
            if !figures().contains(&figure.to_string()) {
                return Err(format!("there is no figure {figure}"));
            }
            let preset = value("--preset").unwrap_or("nano");
            let toml = read(format!("replication/src/experiment/presets/{preset}.toml"))?;
            let set = options.windows(2).filter(|pair| pair[0] == "--set");
            for key in set.filter_map(|pair| pair[1].split('=').next()) {
                // The values of [sizes] and [domains] are tables on one line.
                let line = ["sizes.", "domains."].iter().any(|table| key.starts_with(table));
                let line = line.then(|| key.rsplit_once('.')).flatten();
                let key = line.map_or(key.to_string(), |(line, _)| line.to_string());
                setting(&toml, &key).ok_or_else(|| format!("{preset} has no setting {key}"))?;
            }
            Ok(())
        }
        _ => Err(format!("unknown command: {command}")),
    }
}

/// Whether a span is meant to be looked up.
fn is_reference(span: &str) -> bool {
    let folders =
        ["src/", "tests/", "replication/", "golden/", "benches/", "examples/", "tools/", "crates/"];
    folders.iter().any(|folder| span.starts_with(folder))
}

#[test]
fn everything_named_exists() {
    let text = mapping();
    let (mut references, mut wrong) = (0, Vec::new());
    for span in spans(&text) {
        let result = match span {
            span if span.starts_with("cargo ") => resolve_command(span),
            span if is_reference(span) => resolve(span),
            _ => continue,
        };
        references += 1;
        wrong.extend(result.err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(references > 150, "only {references} references were found");
}

#[test]
fn every_row_is_whole() {
    let text = mapping();
    let rows = rows(&text, &COLUMNS);
    let mut ids = BTreeSet::new();
    let mut wrong = Vec::new();
    for cells in &rows {
        let [id, paper, sure, code, test, command, deviation] = cells[..] else {
            panic!("{} cells instead of {}: {cells:?}", cells.len(), COLUMNS.len());
        };
        let mut check = |holds: bool, what: &str| {
            if !holds {
                wrong.push(format!("{id}: {what}"));
            }
        };
        check(ids.insert(id.to_string()), "stands twice");
        check(!paper.is_empty() && !deviation.is_empty(), "has an empty cell");
        check(sure.split(", ").all(|word| SURE.contains(&word)), "how sure is it?");
        let missing = [code, test, command].map(|cell| cell == NOT_YET);
        check(missing == [missing[0]; 3], "is there code, test and command, or none of them?");
        if missing[0] {
            continue;
        }
        for (cell, what) in [(code, "code"), (test, "test")] {
            let rest: String = cell.split('`').step_by(2).collect();
            check(rest.chars().all(|c| ", ".contains(c)), &format!("{what} is no list"));
            check(!spans(cell).is_empty(), &format!("names no {what}"));
            check(spans(cell).into_iter().all(is_reference), &format!("{what} is no reference"));
        }
        for result in spans(test).into_iter().map(resolve_test) {
            check(result.is_ok(), &result.err().unwrap_or_default());
        }
        let command = match spans(command)[..] {
            [] => command == "—",
            [one] => one.starts_with("cargo "),
            _ => false,
        };
        check(command, "is it one command?");
    }
    for item in ITEMS {
        if !ids.contains(item) {
            wrong.push(format!("{item} has no row"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(rows.len() > 70, "only {} rows were found", rows.len());
}

/// A cell that refers to a note has one under its table, which begins with the row's name; what a
/// note says tests a statement is a test.
#[test]
fn every_note_belongs_to_a_row() {
    let text = mapping();
    let mut referred = Vec::new();
    for cells in rows(&text, &COLUMNS) {
        let number = cells[6].rsplit_once(" (note ").map(|(_, rest)| rest.trim_end_matches(')'));
        referred.extend(number.map(|number| format!("{number}. **{}.** ", cells[0])));
    }
    let is_note = |line: &&str| {
        line.split_once(". **").is_some_and(|(number, _)| number.parse::<u32>().is_ok())
    };
    let notes: Vec<&str> = text.lines().filter(is_note).collect();
    assert_eq!(notes.len(), referred.len());
    assert!(notes.len() >= 20, "only {} notes were found", notes.len());
    for (note, begins) in notes.iter().zip(referred) {
        assert!(note.starts_with(&begins), "in place of {begins:?} there is {note}");
        for test in note.split("Also tested by ").skip(1).flat_map(spans) {
            assert_eq!(resolve_test(test), Ok(()), "{begins}");
        }
    }
}

/// Rows of the table of what nano changes name a setting with its value.
#[test]
fn what_nano_changes_is_stated_with_values() {
    let text = mapping();
    let rows = rows(&text, &["row", "the paper", "nano", "why"]);
    assert!(rows.len() > 5);
    for cells in rows {
        let [reference] = spans(cells[2])[..] else { panic!("{cells:?}") };
        assert!(reference.contains("nano.toml::") && reference.contains(" = "), "{reference}");
    }
}

#[test]
fn what_does_not_exist_is_noticed() {
    let missing = [
        "src/nowhere.rs",
        "src/finetuning.rs::Nothing",
        "src/finetuning.rs::UCurve::top",
        "src/finetuning.rs::EvalPlan::bottom",
        "src/injection.rs::SamplerKind::Best",
        "src/finetuning.rs::tests::the_top",
        "replication/src/experiment/presets/nano.toml::steps",
        "replication/src/experiment/presets/nano.toml::finetuning.sizes",
        "replication/src/experiment/presets/paper.toml::model.context = 1025",
    ];
    for reference in missing {
        assert!(resolve(reference).is_err(), "{reference}");
    }
    let there = [
        "src/finetuning.rs",
        "src/finetuning.rs::UCurve::bottom",
        "src/injection.rs::SamplerKind::Exact",
        "src/model.rs::Shape::bias",
        "src/data/mod.rs::Source::group",
        "replication/src/experiment/presets/nano.toml::seed",
        "replication/src/experiment/presets/paper.toml::model.context = 1024",
    ];
    for reference in there {
        assert_eq!(resolve(reference), Ok(()));
    }
    for reference in ["src/finetuning.rs::tests::at", "src/finetuning.rs::UCurve", "src/rng.rs"] {
        assert!(resolve_test(reference).is_err(), "{reference}");
    }
    let commands = [
        "cargo run -p replication -- fig99",
        "cargo run -p replication -- fig5 --preset huge",
        "cargo run -p replication -- fig5 --set finetuning.step=7",
        "cargo run --example nothing",
        "cargo bench --bench nothing",
        "cargo frobnicate",
    ];
    for command in commands {
        assert!(resolve_command(command).is_err(), "{command}");
    }
    assert!(figures().contains(&"fig5".into()));
}

/// The parts of a text between lines that start with an opening fence and a closing one.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<Vec<&'a str>> {
    let open = format!("```{language}");
    let mut found: Vec<Vec<&str>> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if inside && line == "```" {
            inside = false;
        } else if inside {
            found.last_mut().unwrap().push(line.trim());
        } else if line == open {
            inside = true;
            found.push(Vec::new());
        }
    }
    found
}

/// docs/library.md shows parts of the examples, which are compiled, and which the tests below run.
#[test]
fn the_guide_to_the_library_shows_the_examples() {
    let guide = read("docs/library.md").unwrap();
    let examples = ["plan", "new_domain"].map(|name| {
        let text = read(format!("examples/{name}.rs")).unwrap();
        text.lines().map(|line| line.trim().to_string()).collect::<Vec<_>>()
    });
    let shown = blocks(&guide, "rust");
    assert_eq!(shown.len(), 2);
    for block in shown {
        let found = examples.iter().any(|lines| lines.windows(block.len()).any(|w| w == block));
        assert!(found, "no example has\n{}", block.join("\n"));
    }
}

/// The commands of README.md, CONTRIBUTING.md and the pages of docs/ ask for what there is.
#[test]
fn the_commands_of_the_documents_lead_somewhere() {
    let mut documents = vec![PathBuf::from("README.md"), PathBuf::from("CONTRIBUTING.md")];
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        documents.push(PathBuf::from("docs").join(entry.unwrap().file_name()));
    }
    let (mut count, mut wrong) = (0, Vec::new());
    for document in documents {
        let text = read(&document).unwrap();
        let lines = blocks(&text, "sh").concat();
        let commands =
            lines.into_iter().chain(spans(&text)).filter(|line| line.starts_with("cargo "));
        for command in commands.map(|line| line.split('#').next().unwrap()) {
            count += 1;
            let result = resolve_command(command);
            wrong.extend(result.err().map(|why| format!("{}: {why}", document.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 60, "only {count} commands were found");
}

#[test]
fn the_examples_run() {
    plan::main().unwrap();
    new_domain::main().unwrap();
}
