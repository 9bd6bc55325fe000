//! Miri over the crate whose unsafe code it can interpret.

use crate::{Outcome, process, test};
use anyhow::Result;
use std::path::Path;
use std::process::Stdio;

/// Isolation is off because proptest reads the clock; few cases, because Miri is some hundred times slower.
const LINE: &str = "MIRIFLAGS=-Zmiri-disable-isolation PROPTEST_CASES=4 cargo +nightly miri test -p galatea-tensor";

/// Runs galatea-tensor's tests under Miri, or says that they are skipped, and prints the totals on the last line.
pub(crate) fn run(root: &Path) -> Result<Outcome> {
    let totals = if is_installed(root) {
        println!("$ {LINE}");
        test::measure(root, LINE)?
    } else {
        println!("skipped: no nightly toolchain with Miri (rustup +nightly component add miri rust-src)");
        test::Totals { skipped: 1, ..test::Totals::default() }
    };
    println!("{totals}");
    Ok(if totals.failed == 0 { Outcome::Passed } else { Outcome::Failed })
}

fn is_installed(root: &Path) -> bool {
    let mut probe = process::shell(root, "cargo +nightly miri --version");
    probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}
