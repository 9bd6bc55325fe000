//! The instructions of one file of kernels, and how many there are of those that decide its speed.

use super::cubins;
use super::fetch::Toolchain;
use crate::{Outcome, process};
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;

/// What is counted, and how a line of it begins. Local loads and stores are spilled registers.
const COUNTED: [(&str, &[&str]); 12] = [
    ("HGMMA", &["HGMMA"]),
    ("HMMA", &["HMMA"]),
    ("FFMA", &["FFMA"]),
    ("MUFU", &["MUFU"]),
    ("UTMALDG", &["UTMALDG"]),
    ("LDGSTS", &["LDGSTS"]),
    ("LDSM", &["LDSM"]),
    ("LDG.128", &["LDG.", ".128"]),
    ("LDG", &["LDG."]),
    ("STG.128", &["STG.", ".128"]),
    ("BAR", &["BAR."]),
    ("LDL+STL", &["LDL", "STL"]),
];

/// Disassembles `name` for every architecture that it is written for.
pub(super) fn run(root: &Path, toolchain: &Toolchain, name: &str) -> Result<Outcome> {
    let folder = toolchain.cubins();
    let out = folder.to_string_lossy().into_owned();
    let mut archs = Vec::new();
    let success = process::watch(cubins(root, toolchain, &["--out", &out, name]), |stream, line| {
        if let ["file", _, arch, _] = line.split('\t').collect::<Vec<_>>()[..] {
            archs.push(arch.to_owned());
        } else if stream == process::Stream::Err || line.starts_with("error\t") {
            process::pass_on(process::Stream::Err, &line.replace("\\n", "\n"));
        }
    })?;
    if !success {
        return Ok(Outcome::Failed);
    }
    anyhow::ensure!(!archs.is_empty(), "there is no file of kernels `{name}`");
    for arch in archs {
        let cubin = folder.join(format!("{name}.{arch}.cubin"));
        let mut command = Command::new(toolchain.nvdisasm());
        command.arg("-c").arg(&cubin);
        let text = process::output(command)?;
        let listing = cubin.with_extension("sass");
        std::fs::write(&listing, &text).with_context(|| format!("could not write {}", listing.display()))?;
        println!("{arch}: {}", listing.display());
        for (entry, counts) in count(&text) {
            let shown = COUNTED.iter().zip(counts).filter(|(_, count)| *count > 0);
            let shown: Vec<String> = shown.map(|((name, _), count)| format!("{count} {name}")).collect();
            println!("  {entry}: {}", shown.join(", "));
        }
    }
    Ok(Outcome::Passed)
}

/// Of every kernel of a listing, how many instructions of each kind it has.
fn count(listing: &str) -> Vec<(String, [usize; COUNTED.len()])> {
    let mut kernels: Vec<(String, [usize; COUNTED.len()])> = Vec::new();
    for line in listing.lines() {
        if let Some(entry) = line.strip_prefix(".text.").and_then(|line| line.strip_suffix(':')) {
            kernels.push((entry.to_owned(), [0; COUNTED.len()]));
        } else if let (Some(instruction), Some((_, counts))) = (instruction(line), kernels.last_mut()) {
            for ((name, marks), count) in COUNTED.iter().zip(counts) {
                let hit = match *name {
                    "LDL+STL" => marks.iter().any(|mark| instruction.starts_with(mark)),
                    _ => instruction.starts_with(marks[0]) && marks[1..].iter().all(|mark| instruction.contains(mark)),
                };
                *count += usize::from(hit);
            }
        }
    }
    kernels
}

/// The name of the instruction in `/*00a0*/  @!P0 LDG.E.128 R4, [R2] ;`, without its predicate.
fn instruction(line: &str) -> Option<&str> {
    let (_, code) = line.trim().strip_prefix("/*")?.split_once("*/")?;
    code.split_whitespace().find(|word| !word.starts_with('@') && *word != "{")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "\
\t.section\t.text.norm_f32,\"ax\",@progbits
.text.norm_f32:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/              @!P0 LDG.E.128.CONSTANT R4, desc[UR4][R2.64] ;
        /*0020*/                   LDG.E R8, desc[UR4][R2.64] ;
        /*0030*/                   STL [R1], R8 ;
        /*0040*/                   HGMMA.64x256x16.F32.BF16 R24, gdesc[UR8], R24 ;
.text.other:
        /*0000*/                   LDL R8, [R1] ;
";

    #[test]
    fn instructions_are_counted_for_each_kernel() {
        let kernels = count(LISTING);
        let [(norm, counts), (other, others)] = &kernels[..] else { panic!("{kernels:?}") };
        assert_eq!((norm.as_str(), other.as_str()), ("norm_f32", "other"));
        let of = |counts: &[usize], name| {
            let i = COUNTED.iter().position(|(counted, _)| *counted == name).expect("a counted name");
            counts[i]
        };
        assert_eq!(["HGMMA", "LDG", "LDG.128", "LDL+STL", "HMMA"].map(|name| of(counts, name)), [1, 2, 1, 1, 0]);
        assert_eq!(of(others, "LDL+STL"), 1);
    }
}
