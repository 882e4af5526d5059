//! Progress of downloads.

use super::log;
use forgetting_laws::hub::{HubError, Progress};
use indicatif::{DecimalBytes, HumanDuration, ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The time between two plain lines of one file.
const LINE_EVERY: Duration = Duration::from_secs(15);

/// A bar on a terminal, plain lines elsewhere, on standard error.
#[derive(Default)]
pub struct Transfers {
    file: Mutex<Option<Transfer>>,
}

struct Transfer {
    what: String,
    bar: Option<ProgressBar>,
    here: u64,
    size: Option<u64>,
    line: Instant,
}

impl Transfers {
    fn with<T>(&self, work: impl FnOnce(&mut Option<Transfer>) -> T) -> T {
        work(&mut self.file.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}

impl Progress for Transfers {
    fn started(&self, what: &str, here: u64, size: Option<u64>) {
        let of = size.map(|size| format!(" of {}", DecimalBytes(size))).unwrap_or_default();
        let terminal = std::io::stderr().is_terminal();
        if !terminal && here > 0 {
            log(&format!("{what}: continues from {}{of}", DecimalBytes(here)));
        } else if !terminal {
            log(&format!("{what}: fetches{of}"));
        }
        let bar = terminal.then(|| {
            let bar = ProgressBar::new(size.unwrap_or(here)).with_position(here);
            let template = "{prefix} {bar:30} {decimal_bytes}/{decimal_total_bytes}  \
                            {decimal_bytes_per_sec}  {eta} left";
            let style = ProgressStyle::with_template(template).expect("it is constant");
            bar.set_style(style.progress_chars("=> "));
            bar.set_prefix(what.to_string());
            bar.reset_eta();
            bar
        });
        let (what, line) = (what.to_string(), Instant::now());
        self.with(|file| *file = Some(Transfer { what, bar, here, size, line }));
    }

    fn advanced(&self, bytes: u64) {
        self.with(|file| {
            let Some(file) = file else { return };
            file.here += bytes;
            match &file.bar {
                Some(bar) => bar.inc(bytes),
                None if file.line.elapsed() >= LINE_EVERY => {
                    file.line = Instant::now();
                    let of = file.size.map(|size| format!(" of {}", DecimalBytes(size)));
                    let (here, of) = (DecimalBytes(file.here), of.unwrap_or_default());
                    log(&format!("{}: {here}{of}", file.what));
                }
                None => {}
            }
        });
    }

    fn waiting(&self, _what: &str, why: &HubError, pause: Duration) {
        let pause = HumanDuration(pause);
        let line = format!("{why}; trying again in {pause}");
        self.with(|file| match file.as_ref().and_then(|file| file.bar.as_ref()) {
            Some(bar) => bar.suspend(|| log(&line)),
            None => log(&line),
        });
    }

    fn finished(&self) {
        self.with(|file| {
            if let Some(bar) = file.take().and_then(|file| file.bar) {
                bar.finish_and_clear();
            }
        });
    }
}
