//! What the environment says of the machine: `GALATEA_ISA` and `GALATEA_THREADS`.

use crate::failure::Usage;
use galatea_kernels::Isa;

/// Checks both before a command begins: a misspelt level would otherwise pass for the best one.
///
/// # Errors
/// If a variable is set to something that is no level, none of this machine's, or no number of threads.
pub(crate) fn check() -> Result<(), Usage> {
    if let Some(asked) = std::env::var_os("GALATEA_ISA") {
        level(&asked.to_string_lossy())?;
    }
    if let Some(asked) = std::env::var_os("GALATEA_THREADS") {
        threads(&asked.to_string_lossy())?;
    }
    Ok(())
}

fn level(asked: &str) -> Result<Isa, Usage> {
    let here: Vec<&str> = Isa::available().map(Isa::name).collect();
    Isa::available().find(|isa| isa.name() == asked).ok_or_else(|| {
        let known = Isa::names().any(|name| name == asked);
        let what = if known { "this machine has not got it" } else { "there is no such instruction level" };
        Usage::new(format!("GALATEA_ISA={asked}: {what}"), format!("unset it, or use one of {}", here.join(", ")))
    })
}

fn threads(asked: &str) -> Result<usize, Usage> {
    asked.parse().ok().filter(|&threads| threads > 0).ok_or_else(|| {
        let found = format!("GALATEA_THREADS={asked}: expected a number of threads of at least 1");
        Usage::new(found, "unset it for all threads")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_one_that_the_machine_has() {
        assert_eq!(level("portable").map(Isa::name).ok(), Some("portable"));
        for wrong in ["", "avx", "AVX2", "sse9"] {
            let error = level(wrong).expect_err(wrong).to_string();
            assert!(error.contains("no such instruction level") && error.contains("portable"), "{error}");
        }
        for name in Isa::names() {
            assert_eq!(level(name).is_ok(), Isa::available().any(|here| here.name() == name));
        }
    }

    #[test]
    fn threads_are_a_number_above_zero() {
        assert_eq!(threads("3").ok(), Some(3));
        for wrong in ["0", "-1", "two", ""] {
            assert!(threads(wrong).expect_err(wrong).to_string().contains("at least 1"));
        }
    }
}
