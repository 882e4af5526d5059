//! The report of `advise`.

use super::Advice;
use crate::format::entry;
use forgetting_laws::fit::advise::{
    Answers, Estimate, Larger, Model, Needed, NewRuns, OnTarget, Searched, SmallestP,
};
use forgetting_laws::fit::{LossPt0From, Measured};
use forgetting_laws::warning::Warning;
use forgetting_laws::words::{fraction, number, numbers, percent, power, size, told};
use std::fmt::Write as _;

/// The report.
pub fn text(advice: &Advice) -> String {
    let mut out = Report { text: String::new(), said: Vec::new() };
    out.heading(advice);
    let advice = &advice.answers;
    if let Some(found) = &advice.smallest_p {
        out.smallest_p(found, advice);
    }
    if let Some(found) = &advice.on_target {
        out.on_target(found);
    }
    if let (Some(n), Some(d_ft)) = (&advice.n_for_target, &advice.d_ft_for_target) {
        out.title(&format!("L_ft = {} on the target", number(n.loss_ft)));
        let reached = |share: f64| match share {
            1.0 => String::new(),
            share => format!("; {} of the resampled laws reach it", percent(share)),
        };
        let at = format!("N at D_ft = {}", size(advice.asked.d_ft_tokens));
        out.line(&at, &format!("{}{}", needed(n), reached(n.reachable)));
        let at = format!("D_ft at N = {}", size(advice.asked.n_params));
        out.line(&at, &format!("{}{}", needed(d_ft), reached(d_ft.reachable)));
        out.line("no size goes below", &format!("{} nats", numbers(&n.floor)));
        out.warnings(n.warnings.iter().chain(&d_ft.warnings));
    }
    if let Some(found) = &advice.worth_collecting {
        out.title("More target data");
        out.line("doubling it lowers L_ft", &format!("by {} nats", numbers(&found.doubling)));
        let (worth, enough) = (number(found.worth), sizes(&found.enough, &found.searched));
        let text = if found.enough.value.is_finite() {
            format!(
                "up to {enough} tokens; beyond that, doubling lowers L_ft by less than {worth} nats"
            )
        } else {
            format!("{enough} tokens; up to there doubling lowers L_ft by {worth} nats or more")
        };
        out.line("worth collecting", &text);
        out.warnings(&found.warnings);
    }
    if let Some(found) = &advice.larger_model {
        out.larger(found, advice.asked.p);
    }
    if let Some(found) = &advice.best_new_runs {
        out.new_runs(found, advice.asked.p);
    }
    if !advice.unanswered.is_empty() {
        out.title("Not answered");
        for unanswered in &advice.unanswered {
            let _ = writeln!(out.text, "  {}: {}", unanswered.question, unanswered.why);
        }
    }
    out.text
}

struct Report {
    text: String,
    /// The warnings that have been written; each is written only once.
    said: Vec<Warning>,
}

impl Report {
    fn heading(&mut self, advice: &Advice) {
        let Answers { asked: row, loss_pt0_from, .. } = &advice.answers;
        if !advice.domain.is_empty() {
            let _ = write!(self.text, "{}: ", advice.domain);
        }
        let _ = write!(self.text, "N = {}, D_ft = {}", size(row.n_params), size(row.d_ft_tokens));
        if row.loss_pt0.is_finite() {
            let from = match loss_pt0_from {
                Some(LossPt0From::Given) | None => "",
                Some(LossPt0From::Fitted) => " (that of the runs of this size)",
                Some(LossPt0From::Interpolated) => " (interpolated between the runs' sizes)",
                Some(LossPt0From::Extrapolated) => " (extrapolated from the runs' sizes)",
            };
            let _ = write!(self.text, ", L_pt0 = {}{from}", number(row.loss_pt0));
        }
        for chosen in &advice.laws {
            let _ = write!(self.text, "\nlaw {}: {}", chosen.law, chosen.why);
        }
        let level = percent(advice.level);
        let _ = writeln!(
            self.text,
            "\nBrackets are {level} intervals: of the law, or of a new run where stated."
        );
    }

    fn title(&mut self, title: &str) {
        let _ = writeln!(self.text, "\n{title}");
    }

    fn line(&mut self, name: &str, value: &str) {
        let _ = writeln!(self.text, "  {name:<23} {value}");
    }

    fn warnings<'a>(&mut self, warnings: impl IntoIterator<Item = &'a Warning>) {
        for warning in warnings {
            if !self.said.contains(warning) {
                entry(&mut self.text, "warning", &warning.with_remedy());
                self.said.push(warning.clone());
            }
        }
    }

    fn smallest_p(&mut self, found: &SmallestP, advice: &Answers) {
        let confidence = percent(found.confidence);
        let share = percent(found.limit / advice.asked.loss_pt0);
        self.title(&format!(
            "Injection that keeps the increase of L_pt within {} nats ({share}) with {confidence} \
             confidence",
            number(found.limit)
        ));
        let share = percent(found.share);
        match found.p {
            Some(0.0) => {
                self.line("p", &format!("0: none is needed; {share} of simulated runs keep to it"))
            }
            Some(p) => {
                self.line("p", &format!("{}; {share} of simulated runs keep to it", fraction(p)))
            }
            None => self.line("p", &format!("none; at p = 1 {share} of simulated runs keep to it")),
        }
        let Estimate { value, low, high } = found.by_law;
        let of = |p: f64| if p.is_finite() { fraction(p) } else { "none".into() };
        let by_law = if low.is_finite() {
            format!("{} [{}, {}]", of(value), of(low), of(high))
        } else {
            of(value)
        };
        self.line("by the law alone", &by_law);
        let before = advice.asked.loss_pt0;
        let rise = |rise: &Estimate, seen: Option<Measured>| {
            told(rise, &seen.map(|seen| Measured { loss: seen.loss - before, ..seen }))
        };
        self.line("increase of a new run", &rise(&found.rise, found.measured));
        self.line("without injection", &rise(&found.rise_without, found.measured_without));
        self.warnings(&found.warnings);
    }

    fn on_target(&mut self, found: &OnTarget) {
        self.title(&format!("The target at p = {}", fraction(found.p)));
        self.line("L_ft of a new run", &told(&found.loss_ft, &found.measured));
        match (&found.change, &found.equivalent_data) {
            (Some(change), Some(data)) => {
                self.line("effect of injection", &format!("{} nats", numbers(change)));
                self.line(
                    "as large as that of",
                    &format!("{} times the target data", times(data, found.searched_data)),
                );
            }
            _ => self.line(
                "effect of injection",
                "not known: Eq. 6 has no p; fit finetuning-p too (--law all)",
            ),
        }
        self.warnings(&found.warnings);
    }

    fn larger(&mut self, found: &Larger, p: f64) {
        self.title(&format!(
            "A larger model at equal FLOPs ({} of pretraining), finetuned with p = {}",
            power(found.flops),
            fraction(p)
        ));
        let model =
            |model: &Model| format!("N = {}, D = {}", size(model.n_params), size(model.d_tokens));
        let row = |name: &str, a: &str, b: &str, c: &str| {
            format!("  {name:<15} {a:<25} {b:<25} {c}").trim_end().to_string() + "\n"
        };
        let (a, b) = (&found.smaller, &found.larger);
        self.text += &row("", &model(a), &model(b), "difference");
        let all = |estimate: &Option<Estimate>| estimate.as_ref().map(numbers).unwrap_or_default();
        let less = found.forgets_less;
        let more = Estimate { value: -less.value, low: -less.high, high: -less.low };
        if a.loss_pt0.is_some() {
            self.text += &row("L_pt0", &all(&a.loss_pt0), &all(&b.loss_pt0), "");
        }
        self.text += &row("forgets", &numbers(&a.rise), &numbers(&b.rise), &numbers(&more));
        if let Some(loss_pt) = &found.loss_pt {
            self.text += &row("L_pt", &all(&a.loss_pt), &all(&b.loss_pt), &numbers(loss_pt));
        }
        if let Some(loss_ft) = &found.loss_ft {
            self.text += &row("L_ft", &all(&a.loss_ft), &all(&b.loss_ft), &numbers(loss_ft));
        }
        match found.better {
            Some(better) => {
                let share = percent(better);
                let _ = writeln!(
                    self.text,
                    "  the larger model ends with the lower L_pt by {share} of the resampled laws"
                );
            }
            None => {
                let _ = writeln!(
                    self.text,
                    "  the larger model is worth it if its L_pt0 is higher by less than {} nats",
                    numbers(&less)
                );
            }
        }
        for assumed in &found.assumed {
            let _ = writeln!(self.text, "  assumed: {assumed}");
        }
        self.warnings(&found.warnings);
    }

    fn new_runs(&mut self, found: &NewRuns, p: f64) {
        let p = fraction(p);
        self.title(&format!("New runs that would say most about the increase of L_pt at p = {p}"));
        let (known, noise) = (number(found.deviation), number(found.noise));
        let _ = writeln!(
            self.text,
            "  standard deviation now {known} nats; that of the noise of a run {noise} nats"
        );
        for (i, run) in found.runs.iter().enumerate() {
            let at = format!(
                "N = {}, D_ft = {}, p = {}",
                size(run.n_params),
                size(run.d_ft_tokens),
                fraction(run.p)
            );
            let (alone, together) = (percent(run.alone), percent(run.together));
            let with = match i {
                0 => format!("removes {alone} of its variance"),
                _ => format!("removes {alone}, or {together} together with those above"),
            };
            let _ = writeln!(self.text, "  {at:<38} {with}");
        }
        self.warnings(&found.warnings);
    }
}

/// The size that a loss needs. There is none where the loss lies below what any size reaches.
fn needed(found: &Needed) -> String {
    if found.size.low.is_infinite() && found.loss_ft < found.floor.low {
        return "none".into();
    }
    sizes(&found.size, &found.searched)
}

/// A size and its interval. Those at an end of what was looked at stand for all beyond it.
fn sizes(estimate: &Estimate, searched: &Searched) -> String {
    bounded(estimate, searched, size)
}

/// How many times the target data.
fn times(estimate: &Estimate, searched: Option<Searched>) -> String {
    match searched.filter(|_| estimate.high.is_infinite()) {
        Some(searched) => bounded(estimate, &Searched { least: 0.0, ..searched }, number),
        None => numbers(estimate),
    }
}

fn bounded(estimate: &Estimate, searched: &Searched, text: fn(f64) -> String) -> String {
    let Estimate { value, low, high } = *estimate;
    let one = |x: f64| {
        if x.is_infinite() {
            format!("more than {}", text(searched.most))
        } else if x <= searched.least {
            format!("at most {}", text(searched.least))
        } else {
            text(x)
        }
    };
    if low == high && one(low) != text(low) {
        one(low)
    } else {
        format!("{} [{}, {}]", one(value), one(low), one(high))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_far_from_the_runs_are_said_as_more_and_less() {
        let searched = Searched { least: 300.0, most: 3e10 };
        let text = |value, low, high| sizes(&Estimate { value, low, high }, &searched);
        let none = f64::INFINITY;
        assert_eq!(text(1e6, 5e5, 2e6), "1M [500K, 2M]");
        assert_eq!(text(2e9, 1e9, none), "2B [1B, more than 30B]");
        assert_eq!(text(none, none, none), "more than 30B");
        assert_eq!(text(300.0, 300.0, 400.0), "at most 300 [at most 300, 400]");
        assert_eq!(text(300.0, 300.0, 300.0), "at most 300");
        let data = |high| {
            let searched = Some(Searched { least: 1.0, most: 500.0 });
            times(&Estimate { value: 1.0, low: 1.0, high }, searched)
        };
        assert_eq!(data(2.0), "1.00 [1.00, 2.00]");
        assert_eq!(data(none), "1.00 [1.00, more than 500]");
    }
}
