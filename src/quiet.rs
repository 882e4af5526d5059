//! Work that may panic, without a message on standard error.

use std::cell::Cell;
use std::panic::{self, UnwindSafe};
use std::sync::Once;

/// The result of the work, or `None` if it panics; nothing is printed then. This is for readers of
/// formats that panic on damaged files: the parquet crate does so for one in five hundred, if one
/// to three bytes are changed at random.
pub fn quietly<T>(work: impl FnOnce() -> T + UnwindSafe) -> Option<T> {
    thread_local! {
        static QUIET: Cell<bool> = const { Cell::new(false) };
    }
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                report(panic);
            }
        }));
    });
    QUIET.set(true);
    let done = panic::catch_unwind(work);
    QUIET.set(false);
    done.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_none_and_the_next_work_is_done() {
        assert_eq!(quietly(|| 7), Some(7));
        assert_eq!(quietly(|| -> u8 { panic!("damaged") }), None);
        assert_eq!(quietly(|| 8), Some(8));
    }
}
