//! Independent pieces of work on several threads. Their number changes nothing but the time.

use crate::Result;
use std::any::Any;
use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The results of `work` for 0 to `count` − 1, in this order, on all cores.
///
/// # Panics
/// If `work` does.
pub fn on_all_cores<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    in_order(count, cores(), work)
}

/// The results of `work` for 0 to `count` − 1, in this order, on so many threads, of which this is one.
///
/// # Panics
/// If `work` does.
pub fn in_order<T: Send>(count: usize, threads: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    if threads.min(count) <= 1 {
        return (0..count).map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let share = || {
        let mut done = Vec::new();
        while let i = next.fetch_add(1, Ordering::Relaxed)
            && i < count
        {
            done.push((i, work(i)));
        }
        done
    };
    let mut done: Vec<(usize, T)> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(count)).map(|_| scope.spawn(share)).collect();
        let mut done = share();
        for other in others {
            done.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|&(i, _)| i);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Work that is done on several threads, whose results are taken in order, with a bound on the
/// results that wait to be taken.
#[derive(Debug, Clone, Copy)]
pub struct Flow {
    /// Threads that work.
    pub threads: usize,
    /// No work is begun while the waiting results have this weight or more. So their weight never
    /// exceeds this plus that of one result per thread.
    pub waiting: usize,
}

impl Flow {
    /// A flow on all cores.
    pub fn new(waiting: usize) -> Self {
        Self { threads: cores(), waiting }
    }

    /// Runs `work` on each number of `range` and passes the results to `take`, in this order and on
    /// the calling thread, until `take` breaks.
    ///
    /// # Errors
    /// The first error of `work` or `take` in this order. Work on later numbers may have begun.
    ///
    /// # Panics
    /// If one of the two does.
    pub fn run<T: Send>(
        self,
        range: Range<u64>,
        work: impl Fn(u64) -> Result<T> + Sync,
        weight: impl Fn(&T) -> usize + Sync,
        mut take: impl FnMut(T) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let bound = self.waiting.max(1);
        let line = Mutex::new(Line {
            next: range.start,
            wanted: range.start,
            weight: 0,
            done: BTreeMap::new(),
            ended: false,
        });
        let (room, ready) = (Condvar::new(), Condvar::new());
        let lock = || line.lock().unwrap_or_else(PoisonError::into_inner);
        let share = || {
            loop {
                let mut now = lock();
                while now.weight >= bound && !now.ended {
                    now = room.wait(now).unwrap_or_else(PoisonError::into_inner);
                }
                let i = now.next;
                if now.ended || i >= range.end {
                    return;
                }
                now.next += 1;
                drop(now);
                // A panic is handed to whoever takes the result, who would otherwise wait for it
                // forever.
                let result = catch_unwind(AssertUnwindSafe(|| {
                    let result = work(i);
                    let weight = result.as_ref().map_or(0, &weight);
                    (result, weight)
                }));
                let mut now = lock();
                now.weight += result.as_ref().map_or(0, |&(_, weight)| weight);
                now.done.insert(i, result);
                if i == now.wanted {
                    ready.notify_one();
                }
            }
        };
        let end = || {
            lock().ended = true;
            room.notify_all();
        };
        std::thread::scope(|scope| {
            (0..self.threads.max(1)).for_each(|_| drop(scope.spawn(share)));
            // However this ends, no thread may keep waiting for room.
            let _end = OnDrop(end);
            for i in range.clone() {
                let mut now = lock();
                now.wanted = i;
                let result = loop {
                    match now.done.remove(&i) {
                        Some(result) => break result,
                        None => now = ready.wait(now).unwrap_or_else(PoisonError::into_inner),
                    }
                };
                let was_full = now.weight >= bound;
                now.weight -= result.as_ref().map_or(0, |&(_, weight)| weight);
                let notify = was_full && now.weight < bound;
                drop(now);
                if notify {
                    room.notify_all();
                }
                let (result, _) = result.unwrap_or_else(|panic| resume_unwind(panic));
                if take(result?)?.is_break() {
                    break;
                }
            }
            Ok(())
        })
    }
}

/// The result of a thread's work, and its weight.
type Done<T> = std::result::Result<(Result<T>, usize), Box<dyn Any + Send>>;

/// Results that wait for their turn.
struct Line<T> {
    /// The number that is begun next.
    next: u64,
    /// The number whose result is taken next.
    wanted: u64,
    weight: usize,
    done: BTreeMap<u64, Done<T>>,
    ended: bool,
}

struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        self.0();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use proptest::prelude::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn results_stand_in_order_whatever_the_number_of_threads() {
        for (count, threads) in [(0, 0), (0, 3), (1, 4), (5, 1), (100, 3), (7, 20)] {
            let expected: Vec<usize> = (0..count).map(|i| i * i).collect();
            assert_eq!(in_order(count, threads, |i| i * i), expected, "{count} {threads}");
        }
        // Without a message on the standard error.
        let refuse = |i: usize| if i == 3 { resume_unwind(Box::new("a panic")) } else { i };
        for threads in [1, 2] {
            assert!(catch_unwind(|| in_order(5, threads, refuse)).is_err());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// All results come once and in order, and no more than the bound waits.
        #[test]
        fn results_come_in_order_and_few_wait(
            weights in prop::collection::vec(0usize..50, 0..200),
            threads in 1usize..6,
            waiting in 0usize..100,
            first in 0u64..1000,
        ) {
            let flow = Flow { threads, waiting };
            // Of results that are in work or done, and not yet taken; one is being taken.
            let held = AtomicUsize::new(0);
            let most = waiting.max(1) + 50 * (threads + 1);
            let work = |i: u64| {
                let weight = weights[(i - first) as usize];
                let now = held.fetch_add(weight, Ordering::SeqCst) + weight;
                assert!(now <= most, "{now} of {most}");
                Ok((i, weight))
            };
            let mut taken = Vec::new();
            let range = first..first + weights.len() as u64;
            flow.run(range.clone(), work, |&(_, weight)| weight, |(i, weight)| {
                taken.push(i);
                held.fetch_sub(weight, Ordering::SeqCst);
                Ok(ControlFlow::Continue(()))
            })
            .unwrap();
            prop_assert!(taken.into_iter().eq(range));
        }

        /// Whoever stops first in order decides how it ends.
        #[test]
        fn the_first_end_counts(
            ends in prop::collection::vec(prop_oneof![9 => Just(0), 1 => 1..5], 0..60),
            threads in 1usize..6,
            waiting in 0usize..20,
        ) {
            let refused = |i: u64| Error::setting("number", i, "was refused");
            let run = || {
                let mut taken = 0;
                let work = |i: u64| match ends[i as usize] {
                    1 => Err(refused(i)),
                    // Without a message on the standard error.
                    2 => resume_unwind(Box::new("a panic")),
                    _ => Ok(i),
                };
                let take = |i: u64| match ends[i as usize] {
                    3 => Err(refused(i)),
                    4 => Ok(ControlFlow::Break(())),
                    _ => {
                        taken += 1;
                        Ok(ControlFlow::Continue(()))
                    }
                };
                let ended = Flow { threads, waiting }.run(0..ends.len() as u64, work, |_| 1, take);
                (taken, ended.map_err(|error| error.to_string()))
            };
            let first = ends.iter().position(|&end| end != 0);
            let result = catch_unwind(AssertUnwindSafe(run)).ok();
            match first.map(|first| (first, ends[first])) {
                None => prop_assert_eq!(result, Some((ends.len(), Ok(())))),
                Some((_, 2)) => prop_assert_eq!(result, None),
                Some((first, 4)) => prop_assert_eq!(result, Some((first, Ok(())))),
                Some((first, _)) => {
                    let error = refused(first as u64).to_string();
                    prop_assert_eq!(result, Some((first, Err(error))));
                }
            }
        }
    }

    /// A result that nobody waits for is dropped.
    #[test]
    fn an_endless_stream_ends_when_it_is_told_to() {
        let far = AtomicBool::new(false);
        let work = |i: u64| {
            far.fetch_or(i > 1000, Ordering::Relaxed);
            Ok(i)
        };
        let mut sum = 0;
        let take = |i: u64| {
            sum += i;
            Ok(if i < 9 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        };
        Flow::new(4).run(0..u64::MAX, work, |_| 1, take).unwrap();
        assert_eq!(sum, 45);
        assert!(!far.into_inner());
    }
}
