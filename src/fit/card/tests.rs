use super::*;
use crate::fit::{Bootstrap, HoldOut, Options, fit};
use crate::laws::{Additive, Finetuning, Forgetting};
use crate::rng::Key;

/// A table that warns of nothing: four sizes with two pretrained models each, four amounts of data,
/// three p and two seeds, with tokens per parameter that vary.
fn good() -> Table {
    let mut runs = Vec::new();
    let sizes = [(41e6, 3.31), (109e6, 2.98), (334e6, 2.66), (665e6, 2.49)];
    for (i, (n_params, loss_pt0)) in sizes.into_iter().enumerate() {
        for d_ft_tokens in [3e5, 1e6, 3e6, 1e7] {
            for p in [0.0, 0.01, 0.05] {
                for seed in 0..2 {
                    let d_tokens = n_params * [20.0, 40.0, 80.0, 30.0][i];
                    let row = Row { n_params, d_ft_tokens, p, loss_pt0, d_tokens };
                    let noise = (0.003 * Key::new(1).normal(runs.len() as u64)).exp();
                    let loss = Forgetting.predict(&(&row).into(), &[6.0, 829.0, 0.4, 0.35]);
                    let loss_ft = Finetuning.predict(&(&row).into(), &[60.0, 0.1, 0.12, 1.2]);
                    runs.push(Run {
                        row,
                        seed: format!("{seed}"),
                        parent: format!("{i}-{seed}"),
                        epochs: Some(4.0),
                        interior: Some(true),
                        loss_pt: Some(loss * noise),
                        loss_ft: Some(loss_ft * noise),
                        loss: Some(loss_pt0 * noise),
                        ..Run::default()
                    });
                }
            }
        }
    }
    Table::new(runs)
}

fn fitted(table: &Table, law: &'static dyn Law) -> Fit {
    let options = Options { bootstrap: Bootstrap::NONE, ..Options::default() };
    fit(table, law, &options).unwrap()
}

fn kinds(table: &Table, law: &'static dyn Law) -> Vec<WarningKind> {
    fitted(table, law).warnings.iter().map(|warning| warning.kind).collect()
}

/// The kinds of a table that was changed.
fn changed(change: impl Fn(&mut Table)) -> Vec<WarningKind> {
    let mut table = good();
    change(&mut table);
    kinds(&table, &Forgetting)
}

#[test]
fn a_good_table_warns_of_nothing() {
    assert_eq!(fitted(&good(), &Forgetting).warnings, []);
    assert_eq!(fitted(&good(), &Finetuning).warnings, []);
}

#[test]
fn two_values_are_few() {
    let found = changed(|table| table.runs.retain(|run| run.row.p != 0.05));
    assert_eq!(found, [WarningKind::FewDistinctValues]);
    let found = changed(|table| table.runs.retain(|run| run.row.d_ft_tokens < 2e6));
    assert_eq!(found, [WarningKind::FewDistinctValues]);
}

#[test]
fn sizes_that_keep_their_ratio_cannot_be_told_apart() {
    let mut table = good();
    table.runs.iter_mut().for_each(|run| run.row.d_tokens = 100.0 * run.row.n_params);
    let warnings = fitted(&table, &Forgetting).warnings;
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].kind, WarningKind::SizesTogether);
    assert!(warnings[0].message.contains("100 d_tokens per parameter"), "{}", warnings[0]);
    // Of a law that reads both it is the exponents.
    let of_additive =
        |table: &Table| sizes_together(&Additive, &table.runs.iter().collect::<Vec<_>>());
    assert!(of_additive(&table)[0].message.contains("exponents cannot be told apart"));
    assert_eq!(of_additive(&good()), []);
    // Where D is not known nothing is said of it.
    let found = changed(|table| table.runs.iter_mut().for_each(|run| run.row.d_tokens = f64::NAN));
    assert_eq!(found, []);
}

#[test]
fn a_setting_that_was_run_once_has_one_seed() {
    let found = changed(|table| {
        table.runs.retain(|run| run.seed == "0");
        table.runs.iter_mut().for_each(|run| run.parent = format!("{:?}", run.row));
    });
    assert_eq!(found, [WarningKind::OneSeed]);
}

#[test]
fn rows_of_nine_runs_are_few_and_of_ten_enough() {
    let runs = |count: usize| {
        changed(|table| {
            for (i, run) in table.runs.iter_mut().enumerate() {
                run.run = (i % count).to_string();
            }
        })
    };
    assert_eq!(runs(9), [WarningKind::FewRuns]);
    assert_eq!(runs(1), [WarningKind::FewRuns]);
    assert_eq!(runs(10), []);
}

#[test]
fn columns_that_nobody_asked_for_are_named() {
    let mut table = good();
    table.unasked = vec!["run".into(), "weight".into()];
    let warnings = fitted(&table, &Forgetting).warnings;
    assert_eq!(warnings[0].kind, WarningKind::ColumnUsedUnasked);
    assert_eq!(
        warnings[0].message,
        "the columns run and weight were used as the run and the weight of each row, only because of \
         their names"
    );
    table.unasked = vec!["parent_id".into()];
    assert_eq!(
        fitted(&table, &Forgetting).warnings[0].message,
        "the column parent_id was used as the pretrained model of each row, only because of its name"
    );
}

#[test]
fn percentages_look_like_percentages() {
    let with = |values: [f64; 3]| {
        changed(|table| {
            for run in &mut table.runs {
                let at = [0.0, 0.01, 0.05].iter().position(|p| *p == run.row.p).unwrap();
                run.row.p = values[at];
            }
        })
    };
    let warned = |found: &[WarningKind]| found.contains(&WarningKind::PercentagesAsFractions);
    assert!(warned(&with([0.0, 0.1, 1.0])));
    assert!(warned(&with([0.0, 0.1, 0.5])));
    assert!(!warned(&with([0.0, 0.25, 0.75])));
    assert!(!warned(&with([0.001, 0.01, 0.1])));
}

#[test]
fn losses_equal_to_rounding_support_nothing() {
    let warned = |difference: f64| {
        let found = changed(|table| {
            for (i, run) in table.runs.iter_mut().enumerate() {
                let sign = [1.0, -1.0, 0.5][i % 3];
                run.loss_pt = Some(run.row.loss_pt0 * (1.0 + sign * difference));
            }
        });
        found.contains(&WarningKind::EqualLosses)
    };
    assert!(warned(1e-12));
    assert!(!warned(1e-6));
}

#[test]
fn bottoms_that_are_not_interior_are_counted() {
    let mut table = good();
    table.runs[3].interior = Some(false);
    table.runs[4].interior = None;
    let warnings = fitted(&table, &Forgetting).warnings;
    assert_eq!(
        warnings,
        [WarningKind::BottomNotInterior.warn("1 of 95 runs have no interior bottom")]
    );
}

#[test]
fn one_model_a_size_hides_the_spread_of_models() {
    let one = |table: &mut Table| {
        table.runs.iter_mut().for_each(|run| run.parent = run.row.n_params.to_string());
    };
    assert_eq!(changed(one), [WarningKind::OnePretrainedModel]);
    let unknown = |table: &mut Table| table.runs.iter_mut().for_each(|run| run.parent.clear());
    assert_eq!(changed(unknown), [WarningKind::OnePretrainedModel]);
    // Each row of a law of pretraining is a model.
    let mut table = good();
    unknown(&mut table);
    let rows: Vec<&Run> = table.runs.iter().collect();
    assert_eq!(one_pretrained_model(&Additive, &rows), None);
    assert!(one_pretrained_model(&Forgetting, &rows).is_some());
}

#[test]
fn what_a_fit_itself_warns_of() {
    let mut table = good();
    table.runs.retain(|run| run.row.n_params < 2e8);
    let held_out = Options { bootstrap: Bootstrap::NONE, ..Options::default() };
    let kinds = |options: &Options, table: &Table| -> Vec<WarningKind> {
        let fitted = fit(table, &Forgetting, options).unwrap();
        fitted.warnings.iter().map(|warning| warning.kind).collect()
    };
    let found = kinds(&held_out, &table);
    assert!(found.contains(&WarningKind::NotHeldOut), "{found:?}");
    let by_data = Options { hold_out: Some(HoldOut::Data), ..held_out };
    assert!(!kinds(&by_data, &table).contains(&WarningKind::NotHeldOut));
    // Losses of nothing but noise.
    let mut noise = good();
    for (i, run) in noise.runs.iter_mut().enumerate() {
        run.loss_pt = Some(run.row.loss_pt0 * (1.0 + 0.1 * Key::new(2).normal(i as u64).abs()));
    }
    let fitted = fitted(&noise, &Forgetting);
    assert_eq!(fitted.is_supported(), Some(false));
    assert!(fitted.doubts().iter().any(|doubt| doubt.kind == WarningKind::NotSupported));
    assert!(fitted.warnings.iter().any(|warning| warning.kind == WarningKind::NotSupported));
}

#[test]
fn what_the_optimum_itself_warns_of() {
    let of = |change: fn(&mut Run)| {
        let mut table = good();
        table.runs.iter_mut().for_each(change);
        kinds(&table, &Finetuning)
    };
    let (unknown, lost) = (WarningKind::NotIdentified, WarningKind::NotConverged);
    let good = of(|_| {});
    assert!(!good.contains(&unknown) && !good.contains(&lost), "{good:?}");
    // Where D_ft is in proportion to N, nothing tells their exponents apart.
    let ratio = of(|run| {
        run.row.d_ft_tokens = 0.01 * run.row.n_params;
        run.loss_ft = Some(Finetuning.predict(&(&run.row).into(), &[60.0, 0.1, 0.12, 1.2]));
    });
    assert!(ratio.contains(&unknown) && !ratio.contains(&lost), "{ratio:?}");
    // Losses whose squares are below the smallest float.
    let tiny = of(|run| run.loss_ft = run.loss_ft.map(|loss| 1e-200 * loss));
    assert!(tiny.contains(&lost) && !tiny.contains(&unknown), "{tiny:?}");
}

#[test]
fn questions_outside_the_runs_say_how_far_and_where() {
    let fitted = fitted(&good(), &Forgetting);
    let row = Row { n_params: 109e6, d_ft_tokens: 1e6, p: 0.01, loss_pt0: 2.98, ..Row::default() };
    assert_eq!(fitted.extrapolations(&row), []);
    let far = Row { n_params: 66.5e9, p: 0.5, ..row };
    let found = fitted.extrapolations(&far);
    let columns: Vec<_> = found.iter().map(|outside| outside.column.as_str()).collect();
    assert_eq!(columns, ["n_params", "p"]);
    assert!((found[0].decades - 2.0).abs() < 1e-9 && (found[1].decades - 1.0).abs() < 1e-9);
    let warning = found[0].warning("forgetting");
    assert_eq!(warning.kind, WarningKind::Extrapolation);
    assert_eq!(
        warning.message,
        "n_params = 6.65e10 is outside the range 4.1e7 to 6.65e8 of the forgetting law's runs, by \
         a factor of 100"
    );
}

#[test]
fn data_that_is_repeated_far_more_or_less_often() {
    let fitted = fitted(&good(), &Forgetting);
    for (epochs, warned) in [(4.0, false), (12.0, false), (13.0, true), (1.4, false), (1.3, true)] {
        assert_eq!(fitted.repetition(epochs).is_some(), warned, "{epochs}");
    }
    let mut unknown = fitted;
    unknown.rows.iter_mut().for_each(|row| row.epochs = None);
    assert_eq!(unknown.repetition(1e6), None);
}

#[test]
fn identifiers_are_stable_and_told_from_each_other() {
    for (i, kind) in WarningKind::ALL.into_iter().enumerate() {
        assert_eq!(kind.id(), format!("W{i:02}"));
        assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{}\"", kind.id()));
        assert!(kind.meaning().ends_with('.') && kind.remedy().ends_with('.'));
    }
}

/// The documentation lists every identifier with its meaning and remedy.
#[test]
fn the_documentation_is_that_of_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/report-card.md");
    let text = std::fs::read_to_string(path).unwrap();
    for kind in WarningKind::ALL {
        let row = format!("| {} | {} | {} |", kind.id(), kind.meaning(), kind.remedy());
        assert!(text.lines().any(|line| line == row), "{path} lacks\n{row}");
    }
    for item in crate::fit::checklist::ITEMS {
        let row = format!("| `{}` | {} | {} |", item.id, item.about, item.question);
        assert!(text.lines().any(|line| line == row), "{path} lacks\n{row}");
    }
}

#[test]
fn warnings_are_read_back_also_as_earlier_versions_wrote_them() {
    let warning = WarningKind::OneSeed.warn("each of the 9 settings was run once");
    let json = serde_json::to_string(&warning).unwrap();
    assert!(json.contains("\"id\":\"W03\"") && json.contains("\"remedy\":"), "{json}");
    assert_eq!(serde_json::from_str::<Warning>(&json).unwrap(), warning);
    let old: Warning = serde_json::from_str("\"nothing was held out\"").unwrap();
    assert_eq!(old, WarningKind::Other.warn("nothing was held out"));
    assert_eq!(old.to_string(), "nothing was held out");
    assert_eq!(warning.to_string(), "W03: each of the 9 settings was run once");
}

#[test]
fn numbers_in_warnings_are_brief() {
    for (value, text) in
        [(0.0, "0"), (0.05, "0.05"), (0.02792, "0.0279"), (3e9, "3e9"), (4.1234e7, "4.12e7")]
    {
        assert_eq!(brief(value), text);
    }
    assert_eq!(brief(f64::NAN), "NaN");
    assert_eq!(brief(f64::INFINITY), "inf");
}
