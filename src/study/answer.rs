//! What the runs say: how much to inject, and how sure that is.

use super::Question;
use crate::Result;
use crate::fit::advise::{Estimate, OnTarget, SmallestP};
use crate::fit::{self, Advisor, Fit, HoldOut, Measured, Options, Status};
use crate::laws::{
    Finetuning, FinetuningP, Forgetting, ForgettingBounded, ForgettingOffset, ForgettingPlusTokens,
    ForgettingTimesTokens, Law, Row,
};
use crate::table::{Run, Table};
use crate::warning::Warning;
use crate::words::{counted, error, fraction, number, numbers, percent, size, told};
use serde::Serialize;

/// The kind of answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Inject a fraction p.
    Inject,
    /// No injection is needed.
    NoneNeeded,
    /// No p keeps the increase within the limit.
    NoP,
    /// The runs do not show whether any p is enough: none is with the requested confidence, but not all
    /// laws that fit the runs exclude it.
    Unsure,
    /// The runs do not show which p to use.
    NotShown,
}

/// The answer to a question.
#[derive(Debug, Serialize)]
pub struct Answer {
    /// The kind of answer.
    pub verdict: Verdict,
    /// The p to use, if there is one.
    pub p: Option<f64>,
    /// The sentences at the beginning of a report: the answer, the forgetting without injection, more
    /// data, a larger model, how sure this is.
    pub lead: Vec<String>,
    /// The question.
    pub question: Question,
    /// The largest increase that the limit allows, in nats per token; NaN (in JSON null) if L_pt⁰ is
    /// not known.
    pub limit: f64,
    /// The increase at the question for each p of the plan, with the interval of a new run.
    pub rises: Vec<(f64, Estimate)>,
    /// How the smallest p was found.
    pub smallest_p: Option<SmallestP>,
    /// The target at that p.
    pub on_target: Option<OnTarget>,
    /// What to know before relying on the answer.
    pub warnings: Vec<Warning>,
    /// The law of forgetting, if it can be used.
    #[serde(skip)]
    pub forgetting: Option<Fit>,
    /// L_pt⁰ at the question.
    pub loss_pt0: f64,
}

impl Answer {
    /// The p at which the law alone meets the limit, with its interval, as a sentence.
    pub fn by_law(&self) -> Option<String> {
        let Estimate { value, low, high } = self.smallest_p.as_ref()?.by_law;
        let p = |p: f64| if p.is_finite() { fraction(p) } else { "none".to_string() };
        let (value, low, high) = (p(value), p(low), p(high));
        Some(format!("By the law alone p = {value} [{low}, {high}] meets the limit."))
    }

    /// The answer from the runs of a table.
    pub fn of(table: &Table, question: Question, options: &Options) -> Self {
        let one_model = distinct(table.runs.iter().map(|run| run.row.n_params)).len() == 1;
        let hold_out = if one_model { HoldOut::Data } else { HoldOut::Size };
        let options = Options { hold_out: Some(hold_out), ..options.clone() };
        let fitted = |law: &'static dyn Law| fit::fit(table, law, &options);
        let (form, reason) = form_of_forgetting(table, question.vocab_size, &options);
        let mut laws_of_target: [&'static dyn Law; 2] = [&Finetuning, &FinetuningP];
        let (of_target, reason_of_target) = best_form(table, &laws_of_target, &options);
        // The advisor answers with the first law that can.
        laws_of_target.sort_by_key(|law| law.name() != of_target.name());
        let laws = [form, laws_of_target[0], laws_of_target[1]].map(fitted);
        let advisor = Advisor::new(laws.iter().filter_map(|law| law.as_ref().ok()));
        let loss_pt0 = question
            .loss_pt0
            .unwrap_or_else(|| loss_pt0(table, laws[0].as_ref().ok(), question.n_params));
        let row = Row {
            n_params: question.n_params,
            d_ft_tokens: question.d_ft_tokens,
            p: 0.0,
            loss_pt0,
            ..Row::default()
        };
        let limit = question.limit.nats(loss_pt0).unwrap_or(f64::NAN);
        let mut answer = Self {
            verdict: Verdict::NotShown,
            p: None,
            lead: Vec::new(),
            limit,
            rises: Vec::new(),
            smallest_p: None,
            on_target: None,
            warnings: Vec::new(),
            forgetting: None,
            loss_pt0,
            question,
        };
        if table.runs.is_empty() {
            answer
                .lead
                .push("The runs do not show which p to use: no run has a result yet.".into());
            return answer;
        }
        let largest = largest_rise(table);
        let flat = largest.as_ref().is_some_and(|(rise, _)| *rise <= limit);
        let inside = answer.is_inside(table);
        let has_loss = table.runs.iter().any(|run| run.loss_pt.is_some());
        let why = match &laws[0] {
            Err(_) if !has_loss => Some("no run has a loss_pt yet".to_string()),
            Err(why) => Some(format!("there is no law of forgetting ({why})")),
            Ok(fit) => match fit.status {
                Status::NotIdentified => {
                    Some("the runs do not determine the law of forgetting".to_string())
                }
                Status::NotConverged => Some("the fit of the law did not converge".to_string()),
                Status::Converged | Status::AtBound => None,
            },
        };
        match (why, largest) {
            (_, Some((rise, run))) if flat && inside => answer.none_needed(rise, &run, table),
            (Some(why), largest) => answer.not_shown(&why, largest),
            (None, _) => answer.advised(&advisor, row),
        }
        if answer.verdict != Verdict::NotShown {
            answer.more_data(&advisor, row);
            if !one_model {
                answer.larger_model(&advisor, row);
            }
        }
        let fit_of_target = laws[1..].iter().find_map(|law| law.as_ref().ok());
        answer.report_card(laws[0].as_ref().ok(), fit_of_target);
        answer.how_sure(table, laws[0].as_ref().ok());
        if answer.verdict != Verdict::NotShown {
            answer.lead.extend(
                reason.map(|why| format!("The law of forgetting: {}; {why}.", form.name())),
            );
            let of_target = reason_of_target
                .filter(|_| answer.on_target.is_some())
                .map(|why| format!("The law of the target loss: {}; {why}.", of_target.name()));
            answer.lead.extend(of_target);
        }
        // A law that says nothing is not drawn.
        if answer.verdict != Verdict::NotShown {
            answer.forgetting = laws.into_iter().next().and_then(Result::ok);
        }
        answer
    }

    /// Whether there are runs of models as small and on as much data as in the question.
    fn is_inside(&self, table: &Table) -> bool {
        table.runs.iter().any(|run| {
            run.row.p == 0.0
                && run.row.n_params <= self.question.n_params
                && run.row.d_ft_tokens >= self.question.d_ft_tokens
        })
    }

    fn asked(&self) -> String {
        let Question { n_params, d_ft_tokens, .. } = self.question;
        format!("N = {} and D_ft = {}", size(n_params), size(d_ft_tokens))
    }

    fn allowed(&self) -> String {
        let share = percent(self.limit / self.loss_pt0);
        format!("{} nats ({share} of L_pt0 = {})", number(self.limit), number(self.loss_pt0))
    }

    fn none_needed(&mut self, rise: f64, run: &Run, table: &Table) {
        self.verdict = Verdict::NoneNeeded;
        self.p = Some(0.0);
        self.lead.push(format!(
            "Inject nothing, p = 0: none of {} forgot more than {}.",
            counted(table.runs.len()),
            self.allowed(),
        ));
        self.lead.push(format!(
            "The largest increase of L_pt is {} nats, for N = {} on D_ft = {} with p = {}.",
            number(rise),
            size(run.row.n_params),
            size(run.row.d_ft_tokens),
            fraction(run.row.p),
        ));
    }

    fn not_shown(&mut self, why: &str, largest: Option<(f64, Run)>) {
        self.lead.push(format!("The runs do not show which p to use: {why}."));
        self.lead.push(match largest {
            Some((rise, run)) => format!(
                "The largest measured increase of L_pt is {} nats, for N = {} on D_ft = {} with p = \
                 {}.",
                number(rise),
                size(run.row.n_params),
                size(run.row.d_ft_tokens),
                fraction(run.row.p)
            ),
            None => "No run has passed the bottom of its U-curve.".into(),
        });
    }

    fn advised(&mut self, advisor: &Advisor, row: Row) {
        let found = match advisor.smallest_p(&row, self.question.limit, self.question.confidence) {
            Ok(found) => found,
            Err(why) => return self.not_shown(&why.to_string(), None),
        };
        let (asked, allowed) = (self.asked(), self.allowed());
        let confidence = percent(self.question.confidence);
        let most = self.question.p.iter().copied().fold(0.0, f64::max);
        match found.p {
            Some(0.0) => {
                self.verdict = Verdict::NoneNeeded;
                self.lead.push(format!(
                    "Inject nothing, p = 0: for {asked} the increase of L_pt stays within {allowed} \
                     with {confidence} confidence."
                ));
            }
            Some(p) => {
                self.verdict = Verdict::Inject;
                let beyond = if p > most {
                    format!(" That is more than any run injected ({}).", fraction(most))
                } else {
                    String::new()
                };
                self.lead.push(format!(
                    "Inject p = {}: for {asked} it keeps the increase of L_pt within {allowed} with \
                     {confidence} confidence.{beyond}",
                    fraction(p)
                ));
            }
            None if found.by_law.low.is_infinite() => {
                self.verdict = Verdict::NoP;
                self.lead.push(format!(
                    "No p keeps the increase of L_pt for {asked} within {allowed} with {confidence} \
                     confidence. The runs inject up to {}; for larger p the law is extrapolated.",
                    fraction(most)
                ));
            }
            None => {
                self.verdict = Verdict::Unsure;
                let p = |p: f64| if p.is_finite() { fraction(p) } else { "none".to_string() };
                let Estimate { value, low, high } = found.by_law;
                self.lead.push(format!(
                    "The runs do not show whether any p keeps the increase of L_pt for {asked} within \
                     {allowed}. None does with {confidence} confidence ({} of simulated runs at p = \
                     100%), but by the law alone p = {} [{}, {}] does.",
                    percent(found.share),
                    p(value),
                    p(low),
                    p(high)
                ));
            }
        }
        self.p = found.p;
        let with = match found.p {
            Some(p) if p > 0.0 => {
                let seen = rise_of(&found.measured, row.loss_pt0);
                format!("; at p = {} by {}", fraction(p), told(&found.rise, &seen))
            }
            _ => String::new(),
        };
        self.lead.push(format!(
            "Without injection the pretraining loss rises by {}{with}.",
            told(&found.rise_without, &rise_of(&found.measured_without, row.loss_pt0))
        ));
        for &p in &self.question.p {
            self.rises.extend(advisor.rise(&Row { p, ..row }).ok().map(|rise| (p, rise)));
        }
        // The answer itself says that no p keeps to the limit.
        let said = found.why_none();
        let others = found.warnings.iter().filter(|&warning| Some(warning) != said.as_ref());
        self.warnings.extend(others.cloned());
        let p = found.p.unwrap_or(found.by_law.value.min(most));
        if let Ok(target) = advisor.on_target(&Row { p, ..row }) {
            let change = match &target.change {
                Some(change) if p > 0.0 => {
                    format!("; injection changes it by {} nats", numbers(change))
                }
                _ => String::new(),
            };
            self.lead.push(format!(
                "With p = {} the target loss L_ft is {}{change}.",
                fraction(p),
                told(&target.loss_ft, &target.measured)
            ));
            self.warnings.extend(target.warnings.iter().cloned());
            self.on_target = Some(target);
        }
        self.smallest_p = Some(found);
    }

    fn more_data(&mut self, advisor: &Advisor, row: Row) {
        let twice = Row { d_ft_tokens: 2.0 * row.d_ft_tokens, ..row };
        let mut words = Vec::new();
        if let Ok(found) = advisor.worth_collecting(&row, 0.01) {
            words.push(format!("L_ft is lower by {} nats", numbers(&found.doubling)));
        }
        if let Ok(rise) = advisor.rise(&twice) {
            words.push(format!("L_pt rises by {} nats without injection", numbers(&rise)));
        }
        if !words.is_empty() {
            self.lead.push(format!("With twice the data {}.", words.join(", and ")));
        }
    }

    fn larger_model(&mut self, advisor: &Advisor, row: Row) {
        let twice = Row { n_params: 2.0 * row.n_params, ..row };
        let mut words = Vec::new();
        if let Ok(rise) = advisor.rise(&twice) {
            words.push(format!("L_pt rises by {} nats without injection", numbers(&rise)));
        }
        if let Ok(target) = advisor.on_target(&twice) {
            words.push(format!("L_ft is {} nats", numbers(&target.loss_ft)));
        }
        if !words.is_empty() {
            self.lead.push(format!("With a model twice as large {}.", words.join(", and ")));
        }
    }

    /// Adds the warnings of both laws' fits: all those of a kind that no warning has yet.
    fn report_card(&mut self, forgetting: Option<&Fit>, of_target: Option<&Fit>) {
        let named = |fit: &Fit| format!(" (the {} law)", fit.law.name());
        let forgetting = forgetting.map(|fit| (fit, String::new()));
        for (fit, law) in forgetting.into_iter().chain(of_target.map(|fit| (fit, named(fit)))) {
            let said: Vec<_> = self.warnings.iter().map(|warning| warning.kind).collect();
            let new = fit.warnings.iter().filter(|warning| !said.contains(&warning.kind));
            let named = |warning: &Warning| Warning {
                message: format!("{}{law}", warning.message),
                ..*warning
            };
            self.warnings.extend(new.map(named));
        }
    }

    fn how_sure(&mut self, table: &Table, law: Option<&Fit>) {
        let count = |values: Vec<f64>| values.len();
        let runs = || table.runs.iter().map(|run| &run.row);
        let sizes = count(distinct(runs().map(|row| row.n_params)));
        let mut text = format!(
            "How sure: {} of {}, {} D_ft and {} p",
            counted(table.runs.len()),
            if sizes == 1 { "one size".to_string() } else { format!("{sizes} sizes") },
            count(distinct(runs().map(|row| row.d_ft_tokens))),
            count(distinct(runs().map(|row| row.p))),
        );
        if let Some(law) = law {
            let level = law.bootstrap.as_ref().map_or(0.9, |resampled| resampled.level);
            text += &format!(
                ". Brackets are {} intervals of a new run. The law's error of the increase on these \
                 runs is {}",
                percent(level),
                error(law.rise_error)
            );
            let one_model = sizes == 1;
            let what = if one_model { "amounts of data" } else { "sizes" };
            text += &match law.is_supported() {
                Some(true) => {
                    format!("; the law is supported: on held-out {what} it beats the baselines")
                }
                Some(false) => format!(
                    "; the law is not supported: on held-out {what} it does not beat the baselines"
                ),
                None => format!("; there are too few {what} to hold one out and test the law"),
            };
            if one_model {
                text += ". All runs are of one model, and the answer is only about that model";
            }
        }
        self.lead.push(text + ".");
        let mut seen = std::collections::BTreeSet::new();
        self.warnings.retain(|warning| seen.insert(warning.clone()));
    }
}

/// The measured increase of runs.
fn rise_of(measured: &Option<Measured>, loss_pt0: f64) -> Option<Measured> {
    measured.map(|seen| Measured { loss: seen.loss - loss_pt0, ..seen })
}

/// The distinct values of some numbers, ascending.
fn distinct(numbers: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut numbers: Vec<f64> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    numbers.dedup();
    numbers
}

/// The form of forgetting that held-out runs support, and why; Equation 7 if they are too few. A
/// ceiling that is fitted too would need more runs than a study has.
fn form_of_forgetting(
    table: &Table,
    vocab_size: Option<u32>,
    options: &Options,
) -> (&'static dyn Law, Option<String>) {
    let mut forms: Vec<&'static dyn Law> =
        vec![&Forgetting, &ForgettingOffset, &ForgettingTimesTokens, &ForgettingPlusTokens];
    forms.extend(vocab_size.map(|v| ForgettingBounded::of(v) as &'static dyn Law));
    best_form(table, &forms, options)
}

/// The preferred form of a ranking, and why; the first form if the runs are too few to rank them.
fn best_form(
    table: &Table,
    forms: &[&'static dyn Law],
    options: &Options,
) -> (&'static dyn Law, Option<String>) {
    let ranking = fit::rank(table, forms, &[], options).ok().flatten();
    let preferred = ranking.and_then(|ranking| ranking.preferred());
    let found = preferred.and_then(|preferred| {
        let form = forms.iter().find(|law| law.name() == preferred.form)?;
        Some((*form, Some(preferred.why)))
    });
    found.unwrap_or((forms[0], None))
}

/// The largest increase among the runs, with its run.
fn largest_rise(table: &Table) -> Option<(f64, Run)> {
    let rises = table.runs.iter().filter_map(|run| Some((run.loss_pt? - run.row.loss_pt0, run)));
    let largest = rises.max_by(|a, b| a.0.total_cmp(&b.0))?;
    Some((largest.0, largest.1.clone()))
}

/// L_pt⁰ at a size: that of the law's runs, or of the runs of the nearest size.
fn loss_pt0(table: &Table, law: Option<&Fit>, n_params: f64) -> f64 {
    if let Some(found) = law.and_then(|law| law.loss_pt0_at(n_params)) {
        return found.loss_pt0;
    }
    let distance = |run: &&Run| (run.row.n_params / n_params).ln().abs();
    let nearest = table.runs.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
    nearest.map_or(f64::NAN, |run| run.row.loss_pt0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::{Bootstrap, Limit};

    /// A full grid of runs that follow Eqs. 6 and 7 but for a ripple; the rises are scaled.
    fn table(scale: f64) -> Table {
        let mut runs = Vec::new();
        for (n_params, loss_pt0) in [(1e5, 4.2), (4e5, 3.8), (1.6e6, 3.5)] {
            for d_ft_tokens in [1e3, 1e4, 1e5] {
                for p in [0.0, 0.01, 0.05] {
                    let row = Row { n_params, d_ft_tokens, p, loss_pt0, ..Row::default() };
                    let ripple = 1.0 + 0.002 * (runs.len() as f64 * 2.4).sin();
                    let law = Forgetting.predict(&(&row).into(), &[3.0, 300.0, 0.3, 0.25]);
                    let loss_pt = loss_pt0 + scale * (law - loss_pt0);
                    let loss_ft = Finetuning.predict(&(&row).into(), &[30.0, 0.1, 0.1, 1.0]);
                    runs.push(Run {
                        row,
                        loss_pt: Some(loss_pt * ripple),
                        loss_ft: Some(loss_ft * ripple),
                        ..Run::default()
                    });
                }
            }
        }
        Table::new(runs)
    }

    fn question(n_params: f64, limit: f64) -> Question {
        Question {
            n_params,
            d_ft_tokens: 1e5,
            limit: Limit::Nats(limit),
            confidence: 0.9,
            p: vec![0.0, 0.01, 0.05],
            loss_pt0: None,
            vocab_size: None,
        }
    }

    fn answer(table: &Table, n_params: f64, limit: f64) -> Answer {
        let bootstrap = Bootstrap { resamples: 100, ..Bootstrap::default() };
        let options = Options { bootstrap, ..Options::default() };
        Answer::of(table, question(n_params, limit), &options)
    }

    /// The report card of the fits: here one seed, one pretrained model of each size, and 40 tokens of
    /// pretraining for each parameter.
    #[test]
    fn the_warnings_of_the_fits_are_said() {
        let said = |table: &Table, model_spread: Option<f64>| {
            let question = question(1.6e6, 0.35);
            let bootstrap = Bootstrap { resamples: 100, ..Bootstrap::default() };
            let options = Options { bootstrap, model_spread, ..Options::default() };
            let warnings = Answer::of(table, question, &options).warnings;
            move |id: &str| warnings.iter().filter(|warning| warning.kind.id() == id).count()
        };
        let mut runs = table(1.0).runs;
        for run in &mut runs {
            run.row.d_tokens = 40.0 * run.row.n_params;
            run.parent = run.row.n_params.to_string();
        }
        let found = said(&Table::new(runs.clone()), None);
        assert_eq!(["W02", "W03", "W11"].map(found), [1, 1, 1]);
        // The spread that the option states is that of the increase; L_ft's is not known.
        let stated = said(&Table::new(runs.clone()), Some(0.08));
        assert_eq!(stated("W11"), 1);
        // A second model of a size, other tokens per parameter, and a replicate say it themselves.
        let mut again = runs[26].clone();
        (again.parent, again.seed) = ("second".into(), "1".into());
        again.loss_pt = again.loss_pt.map(|loss| 1.003 * loss);
        runs[0..9].iter_mut().for_each(|run| run.row.d_tokens *= 2.0);
        runs.push(again);
        let found = said(&Table::new(runs), None);
        assert_eq!(["W02", "W03", "W11"].map(found), [0, 0, 0]);
    }

    /// Without a law of forgetting the warnings are those of one law of the target, which they name.
    #[test]
    fn without_a_law_of_forgetting_one_law_of_the_target_warns() {
        let mut runs = table(1.0).runs;
        // Too few p for the law that reads p.
        runs.retain(|run| run.row.p < 0.05);
        runs.iter_mut().for_each(|run| run.loss_pt = None);
        let found = answer(&Table::new(runs), 1.6e6, 0.35);
        assert_eq!(found.verdict, Verdict::NotShown);
        assert!(!found.warnings.is_empty());
        for warning in &found.warnings {
            assert!(warning.message.ends_with(" (the finetuning law)"), "{warning}");
        }
    }

    #[test]
    fn planted_runs_give_the_p_of_their_law() {
        let found = answer(&table(1.0), 1.6e6, 0.35);
        assert_eq!(found.verdict, Verdict::Inject);
        // The law: 3 · 1e5^0.25 / ((1 + 300 p) · 1.6e6)^0.3 = 0.73 at p = 0, 0.35 at 0.0385.
        let p = found.p.unwrap();
        assert!((0.03..0.06).contains(&p), "{p}");
        assert!(found.lead[0].starts_with("Inject p = "), "{:?}", found.lead);
        assert!(found.lead[1].contains("Without injection"), "{:?}", found.lead);
        for words in ["twice the data", "twice as large", "How sure: 27 runs of 3 sizes"] {
            assert!(found.lead.iter().any(|line| line.contains(words)), "{words}");
        }
        assert_eq!(found.rises.len(), 3);
        let far = answer(&table(1.0), 1e8, 0.35);
        assert!(
            far.warnings.iter().any(|warning| warning.message.contains("is outside the range"))
        );
    }

    /// Runs whose increase ends at the loss of a uniform model choose that form where V is known.
    #[test]
    fn the_vocabulary_brings_its_own_form() {
        let bounded = ForgettingBounded::of(512);
        let mut runs = table(1.0).runs;
        for (i, run) in runs.iter_mut().enumerate() {
            let loss = bounded.predict(&(&run.row).into(), &[20.0, 30.0, 0.4, 0.4]);
            run.loss_pt = Some(loss * (1.0 + 0.002 * (i as f64 * 2.4).sin()));
        }
        let table = Table::new(runs);
        let options = Options {
            bootstrap: Bootstrap { resamples: 100, ..Bootstrap::default() },
            hold_out: Some(HoldOut::Size),
            ..Options::default()
        };
        let (form, why) = form_of_forgetting(&table, Some(512), &options);
        assert_eq!(form.name(), "forgetting-bounded-512", "{why:?}");
        assert_ne!(form_of_forgetting(&table, None, &options).0.name(), form.name());
        // A uniform model of 20 tokens loses 3.0, less than these models do.
        assert_ne!(
            form_of_forgetting(&table, Some(20), &options).0.name(),
            "forgetting-bounded-20"
        );
    }

    #[test]
    fn where_nothing_is_forgotten_nothing_need_be_injected() {
        let found = answer(&table(0.01), 1.6e6, 0.35);
        assert_eq!((found.verdict, found.p), (Verdict::NoneNeeded, Some(0.0)));
        assert!(found.lead[0].contains("none of 27 runs"), "{:?}", found.lead);
    }

    /// The p of the law, from one model's runs; nothing is said of another's.
    #[test]
    fn one_model_is_enough_for_advice_on_it() {
        let mut one = table(1.0);
        one.runs.retain(|run| run.row.n_params == 1.6e6);
        for i in 0..one.runs.len() {
            let mut run = one.runs[i].clone();
            run.row.p = [0.002, 0.1, 0.3][i % 3];
            let law = Forgetting.predict(&(&run.row).into(), &[3.0, 300.0, 0.3, 0.25]);
            run.loss_pt = Some(law * (1.0 + 0.0003 * (i as f64 * 2.4).sin()));
            one.runs.push(run);
        }
        let found = answer(&one, 1.6e6, 0.35);
        assert_eq!(found.verdict, Verdict::Inject, "{:?}", found.lead);
        let p = found.p.unwrap();
        assert!((0.03..0.07).contains(&p), "{p}");
        let lead = found.lead.join(" ");
        assert!(
            lead.contains("held-out amounts of data") && lead.contains("runs are of one model")
        );
        assert!(!lead.contains("twice as large"), "{lead}");
    }

    #[test]
    fn that_no_p_is_enough_is_said_where_the_law_says_so() {
        // The law: 0.02 even where everything is injected.
        let found = answer(&table(1.0), 1.6e6, 0.01);
        assert_eq!((found.verdict, found.p), (Verdict::NoP, None));
        assert!(found.lead[0].starts_with("No p keeps"), "{:?}", found.lead);
        // At p = 0.7 the law is within 0.15, but the runs miss it by more than what is left.
        let mut noisy = table(1.0);
        for (i, run) in noisy.runs.iter_mut().enumerate() {
            let rise = run.loss_pt.unwrap() - run.row.loss_pt0;
            run.loss_pt = Some(run.row.loss_pt0 + rise * (0.6 * (i as f64 * 2.4).sin()).exp());
        }
        let found = answer(&noisy, 1.6e6, 0.15);
        assert_eq!((found.verdict, found.p), (Verdict::Unsure, None), "{:?}", found.lead);
        assert!(found.lead[0].contains("do not show") && found.lead[0].contains("at p = "));
        assert!(found.lead.iter().any(|line| line.contains("Without injection")));
    }

    #[test]
    fn an_answer_that_does_not_show_is_said_not_to() {
        let mut few = table(1.0);
        few.runs.retain(|run| run.row.p == 0.0);
        let found = answer(&few, 1.6e6, 0.35);
        assert_eq!((found.verdict, found.p), (Verdict::NotShown, None));
        assert!(found.lead[0].contains("which p to use: there is no law"), "{:?}", found.lead);
        assert!(found.lead[1].contains("largest measured increase"), "{:?}", found.lead);
        let none = answer(&Table::new(Vec::new()), 1.6e6, 0.35);
        assert_eq!(none.verdict, Verdict::NotShown);
        // Nothing about columns: no file was read.
        assert!(none.lead[0].contains("which p to use: no run has a result yet"));
        assert!(!none.lead.join(" ").contains("column"), "{:?}", none.lead);
    }
}
