//! Progress of runs: bars on a terminal, plain lines elsewhere.

use super::log;
use forgetting_laws::engine::Observer;
use forgetting_laws::finetuning::Evaluation;
use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The time between two plain lines of one run.
const LINE_EVERY: Duration = Duration::from_secs(15);

/// The display of all runs, on standard error.
pub struct Display {
    bars: MultiProgress,
    total: ProgressBar,
    on_terminal: bool,
}

impl Display {
    /// A display of `work` units of work (training FLOPs) in total.
    pub fn new(work: f64) -> Self {
        let on_terminal = std::io::stderr().is_terminal();
        let target =
            if on_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bars = MultiProgress::with_draw_target(target);
        let total = bars.add(ProgressBar::new((work / UNIT) as u64));
        total.set_style(style(
            "{prefix:24} {bar:30} {percent:>3}%  {elapsed} elapsed, at most {eta} left",
        ));
        total.set_prefix("all runs");
        Self { bars, total, on_terminal }
    }

    /// A display that shows nothing.
    pub fn silent() -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        let total = bars.add(ProgressBar::new(0));
        Self { bars, total, on_terminal: true }
    }

    /// Prints a permanent line.
    pub fn line(&self, text: &str) {
        if self.on_terminal {
            let _ = self.bars.println(text);
        } else {
            log(text);
        }
    }

    /// Counts work as done, because a run has ended or existed already.
    pub fn work_done(&self, work: f64) {
        self.total.inc((work / UNIT) as u64);
    }

    /// The bar of one run of `work` units. Its progress is included in the bar of all runs until the
    /// run ends.
    pub fn run(&self, label: &str, work: f64) -> RunDisplay<'_> {
        let bar = self.bars.insert_before(&self.total, ProgressBar::new(1));
        bar.set_style(style("{prefix:24} {bar:30} {pos:>6}/{len} steps  {msg}"));
        bar.set_prefix(label.to_string());
        let now = Instant::now();
        let timing = Mutex::new(Timing { since: now, tokens: 0, line: now, shown: 0 });
        RunDisplay { display: self, label: label.to_string(), work, bar, timing }
    }

    /// Removes the bars.
    pub fn finish(&self) {
        self.total.finish_and_clear();
    }
}

/// FLOPs per unit of the bar, which needs whole numbers.
const UNIT: f64 = 1e6;

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates are constant")
        .progress_chars("=> ")
}

/// The display of one run.
pub struct RunDisplay<'a> {
    display: &'a Display,
    label: String,
    work: f64,
    bar: ProgressBar,
    timing: Mutex<Timing>,
}

struct Timing {
    since: Instant,
    tokens: u64,
    line: Instant,
    /// Units of this run in the bar of all.
    shown: u64,
}

impl Observer for RunDisplay<'_> {
    fn started(&self, step: u64, total_steps: u64) {
        self.bar.set_length(total_steps);
        self.bar.set_position(step);
        if step > 0 {
            self.note(&format!("continues from step {step} of {total_steps}"));
        }
    }

    fn stepped(&self, step: u64, tokens: u64) {
        let mut timing = self.timing.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        timing.tokens += tokens;
        let rate = timing.tokens as f64 / timing.since.elapsed().as_secs_f64().max(1e-9);
        self.bar.set_position(step);
        if timing.line.elapsed() < LINE_EVERY && !self.display.on_terminal {
            return;
        }
        let total = self.bar.length().unwrap_or(step).max(1);
        let done = (self.work / UNIT * step as f64 / total as f64) as u64;
        self.display.total.inc(done.saturating_sub(timing.shown));
        timing.shown = timing.shown.max(done);
        let left = Duration::from_secs_f64((total - step.min(total)) as f64 * tokens as f64 / rate);
        let speed = format!("{rate:.0} tokens/s, at most {} left", HumanDuration(left));
        if self.display.on_terminal {
            self.bar.set_message(speed);
        } else {
            timing.line = Instant::now();
            log(&format!("{}: step {step} of {total}, {speed}", self.label));
        }
    }

    fn evaluated(&self, _evaluation: &Evaluation) {}

    fn note(&self, text: &str) {
        self.display.line(&format!("{}: {text}", self.label));
    }
}

impl Drop for RunDisplay<'_> {
    fn drop(&mut self) {
        let shown = self.timing.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner()).shown;
        self.display.total.dec(shown);
        self.bar.finish_and_clear();
    }
}
