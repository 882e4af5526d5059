use super::*;
use clap::Parser;
use forgetting_laws::fit::{Bootstrap, LossPt0From, fit};
use forgetting_laws::laws::{Additive, Finetuning, FinetuningP, Forgetting, Law};
use forgetting_laws::rng::Key;
use forgetting_laws::table::{Run, Table};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

fn options(line: &str) -> Options {
    let words = format!("advise law.json --n-params 200M --d-ft 5M {line}");
    Line::try_parse_from(words.split_whitespace()).unwrap().options
}

/// A law planted with noise of 0.3% at three sizes, and fitted.
fn planted(domain: &str, law: &'static dyn Law, values: &[f64], resamples: usize) -> Fit {
    let mut runs = Vec::new();
    for (n_params, loss_pt0) in [(41e6, 3.3), (109e6, 3.0), (334e6, 2.7)] {
        for (d_ft_tokens, ratio) in [(3e5, 20.0), (3e6, 80.0), (3e7, 320.0)] {
            for p in [0.0, 0.001, 0.01, 0.05] {
                let d_tokens = ratio * n_params;
                let row = Row { n_params, d_ft_tokens, p, loss_pt0, d_tokens };
                let noise = (0.003 * Key::new(1).normal(runs.len() as u64)).exp();
                let mut run = Run { row, ..Run::default() };
                run.set(law.output(), Some(law.predict(&(&row).into(), values) * noise));
                runs.push(run);
            }
        }
    }
    let bootstrap = Bootstrap { resamples, ..Bootstrap::default() };
    let options = forgetting_laws::fit::Options { bootstrap, ..Default::default() };
    let mut fit = fit(&Table::new(runs), law, &options).unwrap();
    fit.domain = domain.to_string();
    fit
}

fn forgetting(domain: &str) -> Fit {
    planted(domain, &Forgetting, &[6.0, 829.0, 0.4, 0.35], 100)
}

#[test]
fn every_question_is_answered_where_every_law_is_there() {
    let fits = [
        forgetting("wikipedia"),
        planted("wikipedia", &Finetuning, &[60.0, 0.1, 0.12, 1.2], 100),
        planted("wikipedia", &FinetuningP, &[60.0, 30.0, 0.1, 0.12, 1.2], 100),
        planted("", &Additive, &[406.4, 410.7, 0.34, 0.28, 1.69], 100),
    ];
    let fits: Vec<&Fit> = fits.iter().collect();
    let asked = options("--limit 5% --target-loss 2.5 --d-tokens 20B");
    let advice = advise(&fits, &asked).unwrap();
    assert_eq!(advice.answers.unanswered.len(), 0);
    assert_eq!(advice.answers.loss_pt0_from, Some(LossPt0From::Interpolated));
    assert!((2.7..3.0).contains(&advice.answers.asked.loss_pt0));
    assert_eq!(Some(advice.answers.asked.p), advice.answers.smallest_p.as_ref().unwrap().p);
    assert_eq!(advice.answers.best_new_runs.as_ref().unwrap().runs.len(), 3);
    assert!(advice.answers.larger_model.as_ref().unwrap().loss_pt.is_some());
    let report = report::text(&advice);
    for part in [
        "wikipedia: N = 200M, D_ft = 5M, L_pt0 = 2.8",
        "with 90% confidence",
        "times the target data",
        "L_ft = 2.50 on the target",
        "doubling it lowers L_ft",
        "N = 400M, D = 10B",
        "the larger model ends with the lower L_pt by",
        "New runs that would say most",
    ] {
        assert!(report.contains(part), "{part}:\n{report}");
    }
    assert!(!report.contains("Not answered") && !report.contains("NaN"), "{report}");
    let json = serde_json::to_value(&advice).unwrap();
    assert_eq!(json["asked"]["p"].as_f64(), Some(advice.answers.asked.p));
    assert_eq!(json["level"], 0.9);

    // How often the question repeats its data, where the runs say how often they did.
    let repeated = |epochs: f64, asked: &str| {
        let mut fits: Vec<Fit> = fits.iter().map(|fit| (*fit).clone()).collect();
        fits.iter_mut().flat_map(|fit| &mut fit.rows).for_each(|row| row.epochs = Some(epochs));
        let fits: Vec<&Fit> = fits.iter().collect();
        let report = report::text(&advise(&fits, &options(asked)).unwrap());
        report.matches("W10: passes over the target data: ").count()
    };
    assert_eq!(repeated(10.0, "--epochs 50"), 2);
    assert_eq!(repeated(10.0, "--epochs 20"), 0);
    assert_eq!(repeated(10.0, ""), 0);

    let at = advise(&fits, &options("--p 0.05 --loss-pt0 2.9")).unwrap().answers;
    assert_eq!((at.asked.p, at.asked.loss_pt0), (0.05, 2.9));
    assert_eq!(at.loss_pt0_from, Some(LossPt0From::Given));

    let line = "advise law.json --n-params 109M --d-ft 5M";
    let asked = Line::try_parse_from(line.split_whitespace()).unwrap().options;
    let advice = advise(&fits, &asked).unwrap();
    assert_eq!(advice.answers.loss_pt0_from, Some(LossPt0From::Fitted));
    let report = report::text(&advice);
    assert!(report.contains("L_pt0 = 3.00 (that of the runs of this size)"), "{report}");
}

#[test]
fn what_is_missing_is_said() {
    let fit = forgetting("");
    let advice = advise(&[&fit], &options("--limit 0.15")).unwrap();
    assert!(advice.answers.smallest_p.is_some() && advice.answers.best_new_runs.is_some());
    let report = report::text(&advice);
    assert!(report.starts_with("N = 200M"));
    for part in [
        "the target: fitted laws = forgetting: the question needs finetuning or finetuning-p",
        "sizes for a target loss: --target-loss is missing: give the loss",
        "a larger model at equal FLOPs: --d-tokens is missing: give the tokens",
    ] {
        assert!(report.contains(part), "{part}:\n{report}");
    }
    // Without the law of pretraining, what its losses may differ by.
    let advice = advise(&[&fit], &options("--d-tokens 20B")).unwrap();
    assert!(report::text(&advice).contains("worth it if its L_pt0 is higher by less than"));

    let plain = planted("", &Forgetting, &[6.0, 829.0, 0.4, 0.35], 0);
    let refused = advise(&[&plain], &options("")).unwrap_err().to_string();
    assert!(refused.contains("fit again with --bootstrap 1000"), "{refused}");
}

#[test]
fn domains_are_asked_for() {
    let (a, b) = (forgetting("arxiv"), forgetting("github"));
    let additive = planted("", &Additive, &[406.4, 410.7, 0.34, 0.28, 1.69], 20);
    let fits = [&additive, &b, &a];
    let (domain, chosen) = of_domain(&fits, Some("github")).unwrap();
    assert_eq!((domain.as_str(), chosen.len()), ("github", 2));
    let refused = |asked| of_domain(&fits, asked).unwrap_err().to_string();
    assert_eq!(refused(None), "--domain is missing: must be one of arxiv, github");
    assert_eq!(refused(Some("law")), "--domain = law: must be one of arxiv, github");
    assert_eq!(of_domain(&[&a], None).unwrap().0, "arxiv");
    let alone = forgetting("");
    let refused = of_domain(&[&alone], Some("law")).unwrap_err().to_string();
    assert_eq!(refused, "--domain = law: the file's laws have no domains");
}

#[test]
fn numbers_on_the_command_line() {
    assert_eq!(limit("1%"), Ok(Limit::Relative(0.01)));
    assert_eq!(limit("0.05"), Ok(Limit::Nats(0.05)));
    for text in ["", "%", "0", "0%", "-1%", "nan", "many"] {
        assert!(limit(text).unwrap_err().contains("1%"), "{text}");
    }
    let refused = |line| advise(&[], &options(line)).unwrap_err().to_string();
    assert_eq!(refused("--confidence 1"), "--confidence = 1: must lie between 0 and 1");
    assert_eq!(options("--p 1%").p, Some(0.01));
}
