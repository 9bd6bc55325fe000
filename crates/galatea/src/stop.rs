//! Ctrl-C: the first one asks politely, the second one does not.

use crate::ui::out;
use std::sync::atomic::{AtomicUsize, Ordering};

static ASKED: AtomicUsize = AtomicUsize::new(0);
/// What a shell reports of a process that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// Turns the first Ctrl-C (or hang-up, or termination) into a question that [`asked`] answers.
pub(crate) fn listen() {
    let handler = || {
        if ASKED.fetch_add(1, Ordering::SeqCst) > 0 {
            std::process::exit(INTERRUPTED);
        }
        out::note("\nstopping after this step, then saving; Ctrl-C again ends at once");
    };
    // Without a handler Ctrl-C ends the program at once, and the last checkpoint is still whole.
    if ctrlc::set_handler(handler).is_err() {
        out::note("Ctrl-C cannot be caught here: it will end the run without saving");
    }
}

/// Whether somebody asked to stop.
pub(crate) fn asked() -> bool {
    ASKED.load(Ordering::SeqCst) > 0
}
