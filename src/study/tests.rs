use super::*;
use crate::fit::Bootstrap;
use crate::laws::{Forgetting, Law};

const P: [f64; 3] = [0.0, 0.01, 0.05];
const AMOUNTS: [f64; 3] = [3e5, 1e6, 3e6];

fn question() -> Question {
    Question {
        n_params: 3.3e8,
        d_ft_tokens: 3e6,
        limit: Limit::Relative(0.1),
        confidence: 0.9,
        p: P.to_vec(),
        loss_pt0: None,
        vocab_size: None,
    }
}

/// Three models, which cost `price` times their finetunings, and 27 runs.
fn study(price: f64) -> Study {
    let mut study = Study::new(question()).unwrap();
    for (name, n_params) in [("small", 4.1e7), ("middle", 1.1e8), ("large", 3.3e8)] {
        study.add_model(name, n_params, price * n_params).unwrap();
        for d_ft_tokens in AMOUNTS {
            for p in P {
                study.add_candidate(name, d_ft_tokens, p, n_params * d_ft_tokens / 1e6).unwrap();
            }
        }
    }
    study
}

/// Equation 7, but for a ripple.
fn losses(n_params: f64, d_ft_tokens: f64, p: f64) -> Losses {
    let loss_pt0 = 2.0 + 20.0 * n_params.powf(-0.15);
    let row = Row { n_params, d_ft_tokens, p, loss_pt0, ..Row::default() };
    let law = Forgetting.predict(&(&row).into(), &[6.0, 829.0, 0.4, 0.35]);
    let ripple = 1.0 + 0.001 * (n_params + d_ft_tokens * 7.0 + p * 1e6).sin();
    Losses { loss_pt0: Some(loss_pt0), loss_pt: Some(law * ripple), loss_ft: None }
}

fn run_for(study: &mut Study, runs: usize) {
    for _ in 0..runs {
        for asked in study.ask(1).unwrap() {
            let losses = losses(asked.n_params, asked.d_ft_tokens, asked.p);
            study.tell(asked.run, losses).unwrap();
        }
    }
}

fn options() -> Options {
    let bootstrap = Bootstrap { resamples: 100, ..Bootstrap::default() };
    Options { bootstrap, ..Options::default() }
}

/// The law has a rise of 10% of L_pt⁰ = 3.06 at p = 0.17%.
#[test]
fn half_of_the_runs_answer_as_the_planted_law() {
    let mut study = study(0.0);
    run_for(&mut study, 13);
    let answer = study.answer(&options());
    let row = Row { n_params: 3.3e8, d_ft_tokens: 3e6, loss_pt0: 1.0, ..Row::default() };
    let loss_pt0 = losses(3.3e8, 3e6, 0.0).loss_pt0.unwrap();
    let rise = |p| Forgetting.predict(&(&Row { p, ..row }).into(), &[6.0, 829.0, 0.4, 0.35]) - 1.0;
    let least = (0..1000).map(|i| f64::from(i) * 1e-4).find(|&p| rise(p) <= 0.1 * loss_pt0);
    let (least, p) = (least.unwrap(), answer.p.unwrap());
    assert!(p >= 0.9 * least && p < 2.0 * least, "{p} for {least}: {:?}", answer.lead);
}

#[test]
fn the_same_study_asks_the_same_and_never_twice() {
    let (mut one, mut other) = (study(3.0), study(3.0));
    let mut seen = Vec::new();
    for _ in 0..14 {
        let asked = one.ask(2).unwrap();
        assert_eq!(asked, other.ask(2).unwrap());
        seen.extend(asked.iter().map(|asked| asked.run));
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=27).collect::<Vec<u64>>());
    assert!(one.ask(1).unwrap().is_empty());
}

/// Two workers get what one gets who asks for two at once.
#[test]
fn what_is_under_way_counts_as_made() {
    let mut together = study(3.0);
    run_for(&mut together, 10);
    let mut apart = together.clone();
    let at_once = together.ask(2).unwrap();
    let one_by_one = [apart.ask(1).unwrap(), apart.ask(1).unwrap()].concat();
    let runs = |asked: &[Asked]| asked.iter().map(|asked| asked.run).collect::<Vec<u64>>();
    assert_eq!(runs(&at_once), runs(&one_by_one));
    assert!((at_once[1].before - one_by_one[1].before).abs() < 1e-12);
    assert!(together.deviation().unwrap() < at_once[0].before);
}

#[test]
fn a_model_is_paid_for_once() {
    let mut study = study(3.0);
    let mut spent = 0.0;
    let mut made = Vec::new();
    while let Some(asked) = study.ask(1).unwrap().pop() {
        assert_eq!(asked.makes_model, !made.contains(&asked.model), "{asked:?}");
        made.push(asked.model.clone());
        spent += asked.cost;
        assert!((study.spent() / spent - 1.0).abs() < 1e-12);
        study.tell(asked.run, losses(asked.n_params, asked.d_ft_tokens, asked.p)).unwrap();
    }
    assert!((spent / study.cost() - 1.0).abs() < 1e-12);
}

#[test]
fn failures_are_not_asked_again_and_released_runs_are() {
    let mut study = study(0.0);
    let first = study.ask(1).unwrap().remove(0);
    study.fail(first.run, "out of memory").unwrap();
    let second = study.ask(1).unwrap().remove(0);
    assert_ne!(first.run, second.run);
    study.release(second.run).unwrap();
    assert_eq!(study.ask(1).unwrap()[0].run, second.run);
    let left = study.ask(100).unwrap();
    assert_eq!(left.len(), 25);
    assert!(left.iter().all(|asked| asked.run != first.run));
}

#[test]
fn a_finished_run_does_not_fail() {
    let mut study = study(0.0);
    let told = losses(4.1e7, 3e5, 0.0);
    study.tell(1, told).unwrap();
    let refused = study.fail(1, "out of memory").unwrap_err().to_string();
    assert!(refused.contains("run = 1: it was told its losses; release it first"), "{refused}");
    assert_eq!(study.runs()[0].state, State::Done(told));
    study.release(1).unwrap();
    study.fail(1, "out of memory").unwrap();
}

#[test]
fn before_the_first_result_the_answer_says_so() {
    let mut study = study(0.0);
    let said = ["The runs do not show which p to use: no run has a result yet."];
    assert_eq!(study.answer(&options()).lead, said);
    study.tell(1, Losses { loss_ft: Some(3.0), ..Losses::default() }).unwrap();
    let lead = study.answer(&options()).lead;
    assert_eq!(lead[0], "The runs do not show which p to use: no run has a loss_pt yet.");
    assert!(lead.last().unwrap().starts_with("How sure: 1 run of one size"), "{lead:?}");
    assert!(study.answer(&options()).by_law().is_none());
}

#[test]
fn the_answer_has_the_interval_of_p() {
    let mut study = study(0.0);
    run_for(&mut study, 13);
    let said = study.answer(&options()).by_law().unwrap();
    assert!(said.starts_with("By the law alone p = 0.") && said.contains("% [0."), "{said}");
}

#[test]
fn a_run_is_told_once_and_the_same_again() {
    let mut study = study(0.0);
    let told = losses(4.1e7, 3e5, 0.0);
    study.tell(1, told).unwrap();
    study.tell(1, told).unwrap();
    let other = Losses { loss_pt: Some(9.0), ..told };
    assert!(study.tell(1, other).unwrap_err().to_string().contains("run = 1: it was told other"));
    study.release(1).unwrap();
    study.tell(1, other).unwrap();
    // The model's loss is known by now.
    study.tell(2, Losses { loss_pt0: None, ..told }).unwrap();
    assert_eq!(study.table().runs[1].row.loss_pt0, told.loss_pt0.unwrap());
}

#[test]
fn runs_made_elsewhere_stand_for_candidates_or_beside_them() {
    let mut study = study(5.0);
    let made = |n_params: f64, p: f64| Made {
        model: None,
        n_params,
        d_ft_tokens: 1e6,
        p,
        losses: losses(n_params, 1e6, p),
    };
    assert_eq!(study.add(&made(1.1e8, 0.01)).unwrap(), 14);
    assert_eq!(study.add(&made(1.1e8, 0.01)).unwrap(), 14);
    assert_eq!(study.add(&made(1.1e8, 0.02)).unwrap(), 28);
    assert_eq!(study.add(&made(2e9, 0.01)).unwrap(), 29);
    assert_eq!(
        study.models()[3],
        Model {
            name: "2B".into(),
            n_params: 2e9,
            cost: 0.0,
            loss_pt0: losses(2e9, 1e6, 0.01).loss_pt0,
            d_tokens: None,
        }
    );
    // A replicate.
    let mut again = made(1.1e8, 0.01);
    again.losses.loss_pt = Some(3.5);
    assert_eq!(study.add(&again).unwrap(), 30);
    assert_eq!(study.table().runs.len(), 4);
    let wrong = Made { model: Some("small".into()), ..made(1.1e8, 0.01) };
    assert!(study.add(&wrong).unwrap_err().to_string().contains("has 41000000 parameters"));
    // What is refused leaves nothing behind.
    let before = study.clone();
    let nothing = Made { losses: Losses::default(), ..made(5e9, 0.0) };
    assert!(study.add(&nothing).is_err());
    assert!(study.add(&Made { p: 2.0, ..made(5e9, 0.0) }).is_err());
    assert_eq!(study, before);
}

#[test]
fn what_is_no_number_is_refused() {
    assert!(Study::new(Question { p: vec![], ..question() }).is_err());
    assert!(Study::new(Question { p: vec![1.5], ..question() }).is_err());
    assert!(Study::new(Question { confidence: 1.0, ..question() }).is_err());
    assert!(Study::new(Question { n_params: f64::NAN, ..question() }).is_err());
    assert!(Study::new(Question { vocab_size: Some(1), ..question() }).is_err());
    let empty = Study::new(question()).unwrap();
    assert!(empty.clone().ask(1).unwrap_err().to_string().contains("add runs"));
    assert!(empty.clone().add_candidate("x", 1e6, 0.0, 1.0).is_err());
    let mut study = study(0.0);
    let loss = |loss_pt| Losses { loss_pt: Some(loss_pt), loss_pt0: Some(3.0), loss_ft: None };
    assert!(study.tell(0, loss(3.0)).unwrap_err().to_string().contains("1 to 27"));
    assert!(study.tell(28, loss(3.0)).is_err());
    for bad in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
        assert!(study.tell(1, loss(bad)).unwrap_err().to_string().contains("diverged"));
    }
    let lacking = Losses { loss_pt: Some(3.0), ..Losses::default() };
    assert!(study.tell(1, lacking).unwrap_err().to_string().starts_with("loss_pt0 is missing"));
    assert!(study.tell(1, Losses::default()).is_err());
    assert!(study.add_model("small", 1e6, 0.0).is_err());
    assert!(study.add_model("new", 1e6, -1.0).is_err());
    assert_eq!(study.answer(&options()).verdict, Verdict::NotShown);
}

#[test]
fn a_file_is_the_study_and_has_a_line_for_each_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.json");
    let mut expected = study(3.0);
    expected.create(&path).unwrap();
    assert!(expected.create(&path).unwrap_err().to_string().contains("is there already"));
    let asked = Study::change(&path, |study| study.ask(3)).unwrap();
    assert_eq!(asked, expected.ask(3).unwrap());
    let told = losses(asked[0].n_params, asked[0].d_ft_tokens, asked[0].p);
    Study::change(&path, |study| study.tell(asked[0].run, told)).unwrap();
    Study::change(&path, |study| study.fail(asked[1].run, "a \"reason\"")).unwrap();
    expected.tell(asked[0].run, told).unwrap();
    expected.fail(asked[1].run, "a \"reason\"").unwrap();
    assert_eq!(Study::read(&path).unwrap(), expected);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().filter(|line| line.contains("\"state\"")).count(), 27, "{text}");
    // What fails changes nothing.
    let refused = Study::change(&path, |study| {
        study.release(1)?;
        study.tell(99, told)
    });
    assert!(refused.is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn files_that_somebody_changed_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.json");
    assert!(Study::change(&path, |_| Ok(())).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "no lock is left");
    study(3.0).create(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    for (from, to, named) in [
        ("\"format\": 1", "\"format\": 7", "format 7"),
        ("\"run\":2,", "\"run\":1,", "this is number 2"),
        ("\"run\":3,\"model\":\"small\"", "\"run\":3,\"model\":\"tiny\"", "model = tiny"),
        ("\"p\":0.01", "\"p\":-1", "p = -1"),
        ("\"state\":\"open\"", "\"state\":\"opened\"", "line "),
        ("\"state\":\"open\"", "\"state\":{\"done\":{\"loss_pt\":3.0}}", "loss_pt0"),
        ("\"cost\":", "\"price\":", "line "),
        ("{", "", "line "),
    ] {
        assert!(text.contains(from), "{from}\n{text}");
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let why = Study::read(&path).unwrap_err().to_string();
        assert!(why.contains("study.json") && why.contains(named), "{from}: {why}");
        assert_eq!(why.lines().count(), 1, "{why}");
    }
}

/// Threads of one process have locks of their own.
#[test]
fn workers_side_by_side_get_different_runs_and_lose_no_result() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.json");
    study(3.0).create(&path).unwrap();
    let work = || {
        while let Some(asked) = Study::change(&path, |study| study.ask(1)).unwrap().pop() {
            let losses = losses(asked.n_params, asked.d_ft_tokens, asked.p);
            Study::change(&path, |study| {
                assert_eq!(study.runs()[asked.run as usize - 1].state, State::Asked);
                study.tell(asked.run, losses)
            })
            .unwrap();
        }
    };
    std::thread::scope(|scope| {
        (0..4).for_each(|_| drop(scope.spawn(work)));
    });
    let ended = Study::read(&path).unwrap();
    assert!(ended.runs().iter().all(|run| matches!(run.state, State::Done(_))));
}
