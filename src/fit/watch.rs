//! Observes a computation from another thread, and stops it.

use crate::{Error, Result};
use std::cell::RefCell;
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
    /// Whether a part was left out since.
    cut: AtomicBool,
    done: AtomicUsize,
    begun: AtomicUsize,
}

thread_local! {
    static WATCHED: RefCell<Option<Watch>> = const { RefCell::new(None) };
}

/// What this thread computes is observed by another watch, or by none, until this is dropped.
struct Watching {
    outer: Option<Watch>,
}

impl Watching {
    fn by(watch: Option<Watch>) -> Self {
        Self { outer: WATCHED.replace(watch) }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        WATCHED.set(self.outer.take());
    }
}

impl Watch {
    /// Runs a computation in this thread, and in those that it starts, until it is done or stopped.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if it was stopped, and those of the computation.
    pub fn run<T>(&self, compute: impl FnOnce() -> Result<T>) -> Result<T> {
        self.look_here()?;
        let watching = Watching::by(Some(self.clone()));
        let computed = compute();
        drop(watching);
        // A caller that takes a failed part for a missing result has not computed what was asked.
        if self.0.cut.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { computed }
    }

    /// Stops the computation before its next part.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::Relaxed);
    }

    /// The number of parts done and their total, which grows as parts are found.
    pub fn progress(&self) -> (usize, usize) {
        (self.0.done.load(Ordering::Relaxed), self.0.begun.load(Ordering::Relaxed))
    }

    /// The watch of the computation in this thread, which is about to make so many parts.
    pub(super) fn begin(parts: usize) -> Option<Self> {
        let watch = WATCHED.with_borrow(Clone::clone)?;
        watch.0.begun.fetch_add(parts, Ordering::Relaxed);
        Some(watch)
    }

    /// For loops that are no parts.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if the computation in this thread was stopped.
    pub(super) fn look() -> Result<()> {
        WATCHED.with_borrow(|watch| watch.as_ref().map_or(Ok(()), Self::look_here))
    }

    fn look_here(&self) -> Result<()> {
        if self.0.stopped.load(Ordering::Relaxed) {
            self.0.cut.store(true, Ordering::Relaxed);
            return Err(Error::Interrupted);
        }
        Ok(())
    }

    /// Makes a part; what it consists of is not counted.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if the computation was stopped before.
    pub(super) fn part<T>(&self, make: impl FnOnce() -> T) -> Result<T> {
        self.look_here()?;
        let watching = Watching::by(None);
        let made = make();
        drop(watching);
        self.0.done.fetch_add(1, Ordering::Relaxed);
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::in_order;
    use std::panic::{catch_unwind, resume_unwind};

    #[test]
    fn parts_are_counted_once_whatever_computes_them() {
        for threads in [1, 3] {
            let watch = Watch::default();
            let nested = |i: usize| in_order(4, 1, |j| i + j).map_or(0, |made| made.len());
            let made = watch.run(|| in_order(10, threads, nested)).unwrap();
            assert_eq!((made, watch.progress()), (vec![4; 10], (10, 10)));
        }
        assert_eq!(in_order(3, 2, |i| i).unwrap(), [0, 1, 2]);
    }

    #[test]
    fn a_stopped_computation_makes_no_further_part() {
        for threads in [1, 2] {
            let watch = Watch::default();
            let part = |i: usize| {
                watch.stop();
                i
            };
            let stopped = watch.run(|| in_order(1000, threads, part));
            assert!(matches!(stopped, Err(Error::Interrupted)));
            // Each thread may have been in one.
            assert!(watch.progress().0 <= threads);
            // Also where the error is taken for a missing result.
            let watch = Watch::default();
            let stopped = watch.run(|| Ok(in_order(1000, threads, |_| watch.stop()).ok()));
            assert!(matches!(stopped, Err(Error::Interrupted)));
        }
    }

    #[test]
    fn a_stopped_loop_ends_where_it_looks() {
        Watch::look().unwrap();
        let (watch, mut turns) = (Watch::default(), 0);
        let stopped = watch.run(|| {
            while turns < 1000 {
                Watch::look()?;
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
    fn panics_go_on() {
        let caught = catch_unwind(|| {
            let _ = Watch::default().run(|| -> Result<()> { resume_unwind(Box::new(7)) });
        });
        assert_eq!(caught.unwrap_err().downcast_ref(), Some(&7));
        // The thread is watched by nobody then.
        assert!(Watch::begin(1).is_none());
    }
}
