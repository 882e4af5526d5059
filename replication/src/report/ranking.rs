//! Forms of a law ranked by their errors on held-out runs, as CSV.

use crate::format::{Csv, cell};
use forgetting_laws::fit::{Errors, Ranking};

/// All rankings as CSV, with one row per form or baseline and axis. Equal rankings give equal bytes.
pub fn table(rankings: &[Ranking]) -> String {
    let mut table = Csv::new([
        "domain",
        "loss",
        "runs",
        "form",
        "parameters",
        "rank",
        "not_told_apart_from_best",
        "supported",
        "held_out",
        "mre",
        "increase_error",
        "behind",
        "behind_low",
        "behind_high",
    ]);
    for ranking in rankings {
        let forms = ranking.forms.iter().enumerate().map(|(i, form)| (form, (i + 1).to_string()));
        let baselines = ranking.baselines.iter().map(|form| (form, String::new()));
        let best = ranking.forms.first().map_or(f64::NAN, |form| form.mean.rise_error);
        for (form, place) in forms.chain(baselines) {
            let mut row = |held_out: &str, errors: &Errors, behind: [f64; 3]| {
                let start = [
                    ranking.domain.clone(),
                    ranking.loss.clone(),
                    ranking.n_runs.to_string(),
                    form.form.clone(),
                    form.parameters.to_string(),
                    place.clone(),
                    form.tied.to_string(),
                    form.supported.to_string(),
                    held_out.to_string(),
                    cell(errors.mre),
                    cell(errors.rise_error),
                ];
                table.row(start.into_iter().chain(behind.map(cell)));
            };
            for (by, errors) in ranking.axes.iter().zip(&form.errors) {
                row(by.name(), errors, [f64::NAN; 3]);
            }
            let behind = form.mean.rise_error - best;
            row("mean", &form.mean, [behind, form.behind.low, form.behind.high]);
        }
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::golden::difference;
    use crate::format::error_percent;
    use forgetting_laws::fit::{Options, Ranked, growth_of_b, rank};
    use forgetting_laws::laws::{self, Law};
    use forgetting_laws::table::read::{Reading, read};
    use forgetting_laws::table::{Column, Table};
    use std::fs;
    use std::path::Path;

    const HEAD: &str = "# Which form of the laws

`synthetic.csv` and `real.csv` rank the forms for each loss by their errors on held-out runs of the grids in
[golden/nano](../nano/README.md). [docs/laws.md](../../docs/laws.md) describes the forms and the ranking. The
tables below show the error of the increase on held-out runs, averaged over N, D_ft and p. The best form, and the
forms that cannot be told apart from it, are bold; log-linear is a baseline and not ranked. The first table, for
L_pt, also has γ: if B in Equation 7 is replaced by B·D_ft^γ, this is the fitted exponent with its 90% interval.
This command writes the folder again:

```sh
UPDATE_GOLDEN=1 cargo test -p replication the_committed_rankings
```
";

    /// The forms of a loss, for the vocabulary of the preset nano.
    fn forms(loss: Column) -> Vec<&'static dyn Law> {
        laws::forms(loss, Some(512))
    }

    /// The rows of the main grid that count.
    fn losses_of(root: &Path, text: &str) -> Table {
        let filters = vec!["main=true".into(), "left_out=".into()];
        let reading = Reading { filters, ..Reading::default() };
        let path = root.join("golden/nano").join(text).join("losses.csv");
        read(&path, &reading).unwrap().table
    }

    /// A row of the table of golden/ranking/README.md.
    fn row(text: &str, ranking: &Ranking, growth: &str) -> String {
        let mut forms: Vec<&Ranked> = ranking.forms.iter().collect();
        let order = [Column::LossPt, Column::LossFt].map(self::forms).concat();
        let place = |form: &&Ranked| order.iter().position(|law| law.name() == form.form);
        forms.sort_by_key(place);
        let error = |form: &&Ranked| {
            if form.tied {
                format!("**{}**", error_percent(form.mean.rise_error))
            } else {
                error_percent(form.mean.rise_error)
            }
        };
        let mut cells = vec![text.to_string(), ranking.domain.clone()];
        cells.extend(forms.iter().map(error));
        cells.push(error_percent(ranking.baselines[1].mean.rise_error));
        cells.extend((!growth.is_empty()).then(|| growth.to_string()));
        format!("| {} |\n", cells.join(" | "))
    }

    /// A row of README's table: Equation 7, the two forms that mostly beat it, and a baseline.
    fn row_of_readme(ranking: &Ranking) -> String {
        let error = |name: &str| {
            let form = ranking.forms.iter().find(|form| form.form == name).unwrap();
            let error = error_percent(form.mean.rise_error);
            if form.tied { format!("**{error}**") } else { error }
        };
        let forms = ["forgetting", "forgetting-plus-tokens", "forgetting-bounded-512"].map(error);
        let log_linear = error_percent(ranking.baselines[1].mean.rise_error);
        format!("| {} | {log_linear} |", forms.join(" | "))
    }

    /// golden/ranking holds the rankings of the committed losses, and docs/results.md and docs/laws.md
    /// the growth of B; with the variable UPDATE_GOLDEN the former is written anew.
    #[test]
    fn the_committed_rankings_are_those_of_the_committed_losses() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let options = Options::default();
        let mut files = Vec::new();
        let mut growths = Vec::new();
        let mut in_readme = Vec::new();
        let mut tables = [Column::LossPt, Column::LossFt].map(|loss| {
            let forms = forms(loss).into_iter().map(|law| law.name());
            let growth = (loss == Column::LossPt).then_some("γ");
            let columns: Vec<_> = ["text", "domain"]
                .into_iter()
                .chain(forms)
                .chain(["log-linear"])
                .chain(growth)
                .collect();
            format!("\n| {} |\n|{}\n", columns.join(" | "), "---|".repeat(columns.len()))
        });
        for text in ["synthetic", "real"] {
            let mut rankings = Vec::new();
            for (domain, group) in losses_of(&root, text).groups() {
                let growth = growth_of_b(&group, &options).unwrap();
                let interval = growth.map(|growth| {
                    let (low, high) = (growth.interval.low, growth.interval.high);
                    format!("{:.2} [{low:.2}, {high:.2}]", growth.gamma)
                });
                growths.extend(interval.clone());
                let interval = interval.unwrap_or_else(|| "–".into());
                for (table, loss) in tables.iter_mut().zip([Column::LossPt, Column::LossFt]) {
                    let Some(ranking) = rank(&group, &forms(loss), &[], &options).unwrap() else {
                        continue;
                    };
                    let ranking = Ranking { domain: domain.clone(), ..ranking };
                    let growth = if loss == Column::LossPt { interval.as_str() } else { "" };
                    *table += &row(text, &ranking, growth);
                    in_readme.extend((loss == Column::LossPt).then(|| row_of_readme(&ranking)));
                    rankings.push(ranking);
                }
            }
            files.push((format!("{text}.csv"), table(&rankings)));
        }
        files.push(("README.md".into(), format!("{HEAD}{}", tables.concat())));
        let folder = root.join("golden/ranking");
        for (name, made) in files {
            let path = folder.join(name);
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                fs::create_dir_all(&folder).unwrap();
                fs::write(&path, &made).unwrap();
            }
            let pinned = fs::read_to_string(&path).unwrap();
            if let Some(difference) = difference(&pinned, &made) {
                panic!("{}: {difference}; if that is meant, set UPDATE_GOLDEN=1", path.display());
            }
        }
        let readme = fs::read_to_string(root.join("README.md")).unwrap();
        for row in in_readme {
            assert!(readme.contains(&row), "README.md lacks the errors of a domain: {row}");
        }
        for document in ["docs/results.md", "docs/laws.md"] {
            let text = fs::read_to_string(root.join(document)).unwrap();
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            for growth in &growths {
                assert!(words.contains(growth), "{document} lacks the growth of B: {growth}");
            }
        }
    }
}
