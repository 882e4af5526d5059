//! Observes a computation from another thread, and stops it.

use crate::{Error, Result};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Shows the progress of a computation of this module, and stops it.
///
/// A fit, a ranking or an answer consists of many small parts: descents from starts, fits without
/// held-out runs, fits of resamples. A watched computation counts them and checks before each part
/// whether to stop.
///
/// # Examples
/// ```
/// use forgetting_laws::{Error, fit::Watch};
///
/// let watch = Watch::default();
/// assert_eq!(watch.run(|| Ok(7))?, 7);
/// watch.stop();
/// assert!(matches!(watch.run(|| Ok(7)), Err(Error::Interrupted)));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Watch(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    stopped: AtomicBool,
    done: AtomicUsize,
    begun: AtomicUsize,
}

thread_local! {
    static WATCHED: RefCell<Option<Watch>> = const { RefCell::new(None) };
}

/// The payload that unwinds a stopped computation. It is not a panic, and nothing is reported.
struct Stopped;

impl Watch {
    /// Runs a computation in this thread, and in those that it starts, until it is done or stopped.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if it was stopped, and those of the computation.
    pub fn run<T>(&self, compute: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.0.stopped.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        let outer = WATCHED.replace(Some(self.clone()));
        // What is half done is dropped while the stack unwinds, and nobody sees it.
        let computed = catch_unwind(AssertUnwindSafe(compute));
        WATCHED.set(outer);
        computed.unwrap_or_else(|thrown| {
            if thrown.is::<Stopped>() { Err(Error::Interrupted) } else { resume_unwind(thrown) }
        })
    }

    /// Stops the computation before its next part.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::Relaxed);
    }

    /// The number of parts done and their total, which grows as parts are found.
    pub fn progress(&self) -> (usize, usize) {
        (self.0.done.load(Ordering::Relaxed), self.0.begun.load(Ordering::Relaxed))
    }

    /// That of the computation in this thread, which is about to make so many parts.
    pub(super) fn begin(parts: usize) -> Option<Self> {
        let watch = WATCHED.with_borrow(Clone::clone)?;
        watch.0.begun.fetch_add(parts, Ordering::Relaxed);
        Some(watch)
    }

    /// Ends the computation in this thread here if it was stopped: for loops that are no parts.
    pub(super) fn look() {
        if WATCHED.with_borrow(|watch| {
            watch.as_ref().is_some_and(|watch| watch.0.stopped.load(Ordering::Relaxed))
        }) {
            resume_unwind(Box::new(Stopped));
        }
    }

    /// Makes a part; what it consists of is not counted.
    pub(super) fn part<T>(watch: Option<&Self>, make: impl FnOnce() -> T) -> T {
        let Some(watch) = watch else { return make() };
        if watch.0.stopped.load(Ordering::Relaxed) {
            resume_unwind(Box::new(Stopped));
        }
        let outer = WATCHED.take();
        let made = make();
        WATCHED.set(outer);
        watch.0.done.fetch_add(1, Ordering::Relaxed);
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::in_order;

    #[test]
    fn parts_are_counted_once_whatever_computes_them() {
        for threads in [1, 3] {
            let watch = Watch::default();
            let nested = |i: usize| in_order(4, 1, |j| i + j).len();
            let made = watch.run(|| Ok(in_order(10, threads, nested))).unwrap();
            assert_eq!((made, watch.progress()), (vec![4; 10], (10, 10)));
        }
        assert_eq!(in_order(3, 2, |i| i), [0, 1, 2]);
    }

    #[test]
    fn a_stopped_computation_makes_no_further_part() {
        for threads in [1, 2] {
            let watch = Watch::default();
            let part = |i: usize| {
                watch.stop();
                i
            };
            let stopped = watch.run(|| Ok(in_order(1000, threads, part)));
            assert!(matches!(stopped, Err(Error::Interrupted)));
            // Each thread may have been in one.
            assert!(watch.progress().0 <= threads);
        }
    }

    #[test]
    fn a_stopped_loop_ends_where_it_looks() {
        Watch::look();
        let (watch, mut turns) = (Watch::default(), 0);
        let stopped = watch.run(|| {
            while turns < 1000 {
                Watch::look();
                turns += 1;
                if turns == 3 {
                    watch.stop();
                }
            }
            Ok(())
        });
        assert!(matches!(stopped, Err(Error::Interrupted)) && turns == 3);
    }

    #[test]
    fn other_panics_go_on() {
        let caught = catch_unwind(|| {
            let _ = Watch::default().run(|| -> Result<()> { resume_unwind(Box::new(7)) });
        });
        assert_eq!(caught.unwrap_err().downcast_ref(), Some(&7));
        // The thread is watched by nobody then.
        assert!(Watch::begin(1).is_none());
    }
}
