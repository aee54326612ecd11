//! The one place where panics are caught: around redb.
//!
//! redb checks most of what it reads, yet some damaged files make it run into an assertion instead of an error,
//! even while a database is closed. A file is input, and input must not end the program; so every call that may
//! touch a page goes through [`guarded`], which makes an error of the panic. Whatever was being used when it
//! panicked is unusable afterwards: drop it, through `guarded` again, because that may panic as well.

use std::{
    any::Any,
    cell::Cell,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

thread_local! {
    /// Whether a panic on this thread will be reported as an error and need not be printed.
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; a panic in it comes back as its message, and is not printed.
pub fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // A panic of anything else is a bug of ours, and printed.
            if !IS_CAUGHT.get() {
                usual(info);
            }
        }));
    });
    let was_caught = IS_CAUGHT.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    IS_CAUGHT.set(was_caught);
    outcome.map_err(|payload| message(payload.as_ref()))
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    // The first line: an assertion's values say nothing to a user.
    text.and_then(|text| text.lines().next()).unwrap_or("no reason given").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_and_a_value_stays_one() {
        assert_eq!(guarded(|| 3), Ok(3));
        assert_eq!(
            guarded(|| panic!("page {} is not there", 5)),
            Err::<(), _>("page 5 is not there".to_owned())
        );
        assert!(!IS_CAUGHT.get());
    }
}
