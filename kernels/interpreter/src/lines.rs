//! From an address in this program to a line of a kernel.

use std::process::Command;

/// The text with every address `<hex>` replaced by its line, as `addr2line` of binutils (which the compiler needs, too)
/// finds it; unchanged where that does not run.
pub(crate) fn resolved(text: String) -> String {
    let Some(program) = std::env::current_exe().ok().filter(|_| text.contains('<')) else { return text };
    let mut parts = text.split('<');
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (address, rest) = part.split_once('>').unwrap_or((part, ""));
        let found = u64::from_str_radix(address, 16).ok().and_then(|address| {
            let mut command = Command::new("addr2line");
            let output = command.arg("-i").arg("-e").arg(&program).arg(format!("{address:#x}")).output().ok()?;
            line(&String::from_utf8_lossy(&output.stdout))
        });
        result += &found.unwrap_or_else(|| format!("address {address}"));
        result += rest;
    }
    result
}

/// Of a chain of inlined calls, innermost first, the first place in a kernel's own file, or in any.
fn line(chain: &str) -> Option<String> {
    let places = || chain.lines().map(|place| place.split(" (").next().unwrap_or(place).trim());
    let known =
        || places().filter(|place| !place.starts_with("??") && !place.ends_with(":?") && !place.ends_with(":0"));
    let own = known().find(|place| place.rsplit_once(':').is_some_and(|(file, _)| file.ends_with(".cu")));
    own.or_else(|| known().next()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernels_own_line_is_preferred_to_a_headers() {
        let chain = "kernels/include/base.cuh:9 (discriminator 2)\nkernels/src/a.cu:31\nsrc/lib.rs:4\n";
        assert_eq!(line(chain).as_deref(), Some("kernels/src/a.cu:31"));
        assert_eq!(line("??:0\nkernels/include/base.cuh:9\n").as_deref(), Some("kernels/include/base.cuh:9"));
        assert_eq!(line("??:?\n"), None);
    }

    #[test]
    fn text_without_addresses_stays() {
        assert_eq!(resolved("at a.cu:3".to_owned()), "at a.cu:3");
    }
}
