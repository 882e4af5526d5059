//! What commands say to each other.

use crate::blocks::MAIN;
use crate::results::export;
use crate::results::planted::planted;
use clap::Parser as _;
use forgetting_laws::fit::file::{self, LawFile};
use forgetting_laws::fit::{Bootstrap, Fit, Options, fit};
use forgetting_laws::laws::{Finetuning, Forgetting, Law};
use forgetting_laws::table::Table;
use forgetting_laws::warning::WarningKind;

/// Runs the datasheet's own commands, and compares their laws with those of the figures.
#[test]
fn the_datasheets_commands_find_the_laws_of_the_figures() {
    let folder = tempfile::tempdir().unwrap();
    export::write(&planted(), folder.path()).unwrap();
    let datasheet = std::fs::read_to_string(folder.path().join("DATASHEET.md")).unwrap();
    let block = datasheet.split("```sh\n").nth(1).unwrap().split("\n```").next().unwrap();
    let laws: Vec<LawFile> = block.lines().map(|command| refit(command, &folder)).collect();
    let options = Options { bootstrap: Bootstrap::NONE, hold_out: None, ..Options::default() };
    let json = |fit: &Fit| serde_json::to_value(fit).unwrap();
    let fitted = |table: &Table, law: &'static dyn Law| fit(table, law, &options).unwrap();
    for (domain, table) in planted().table(MAIN).groups() {
        for law in [&Forgetting as &dyn Law, &Finetuning] {
            let mut expected = fitted(&table, law);
            expected.domain.clone_from(&domain);
            let of = |file: &LawFile| {
                let mine = |fit: &&Fit| fit.domain == domain && fit.law.name() == law.name();
                let mut found = file.fits().find(mine).unwrap().clone();
                // A file's columns are found by their names; the figures have no file.
                found.warnings.retain(|warning| warning.kind != WarningKind::ColumnUsedUnasked);
                json(&found)
            };
            assert_eq!(of(&laws[0]), json(&expected));
            assert_eq!(of(&laws[1]), json(&expected));
            assert_ne!(of(&laws[2]), json(&expected));
        }
    }
}

/// The laws that a command of the datasheet writes; resamples, which take their time, are left out.
fn refit(command: &str, folder: &tempfile::TempDir) -> LawFile {
    let out = folder.path().join("fit");
    let mut words: Vec<String> = command.split(' ').map(String::from).collect();
    assert_eq!(words[1], "fit");
    words[2] = folder.path().join(&words[2]).display().to_string();
    let rest = ["--bootstrap", "0", "--hold-out", "none", "--out"].map(String::from);
    words.extend(rest.into_iter().chain([out.display().to_string()]));
    let cli = crate::Cli::try_parse_from(words).unwrap();
    let crate::Command::Fit(arguments) = cli.command else { panic!("{command}") };
    super::fit::run(*arguments).unwrap();
    file::read(&out.join("law.json")).unwrap()
}
