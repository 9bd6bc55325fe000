//! Miri over the crates that have unsafe code, as far as it can interpret them.

use crate::{Outcome, process, test};
use anyhow::Result;
use std::path::Path;
use std::process::Stdio;

/// Isolation is off because proptest reads the clock; few cases, because Miri is some hundred times slower.
const TENSOR: &str = "MIRIFLAGS=-Zmiri-disable-isolation PROPTEST_CASES=4 cargo +nightly miri test -p galatea-tensor";

/// The portable level, which is all that `Isa` offers under Miri.
const KERNELS: &str =
    "MIRIFLAGS=-Zmiri-disable-isolation PROPTEST_CASES=4 cargo +nightly miri test -p galatea-kernels --lib --";

/// Tests of the kernels by the beginning of their names: the pool, the pieces that it hands out, and an op that goes through a program.
const TESTS: [&str; 3] = ["pool::", "pieces::", "ops::embedding::tests::ids"];

/// Runs the tests under Miri, or says that they are skipped, and prints the totals on the last line.
pub(crate) fn run(root: &Path) -> Result<Outcome> {
    let lines = [TENSOR.to_owned(), format!("{KERNELS} {}", TESTS.join(" "))];
    let mut totals = test::Totals::default();
    if is_installed(root) {
        for line in lines {
            println!("$ {line}");
            let test::Totals { passed, failed, skipped } = test::measure(root, &line)?;
            totals.passed += passed;
            totals.failed += failed;
            totals.skipped += skipped;
        }
    } else {
        println!("skipped: no nightly toolchain with Miri (rustup +nightly component add miri rust-src)");
        totals.skipped = lines.len();
    }
    println!("{totals}");
    Ok(if totals.failed == 0 { Outcome::Passed } else { Outcome::Failed })
}

fn is_installed(root: &Path) -> bool {
    let mut probe = process::shell(root, "cargo +nightly miri --version");
    probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}
