//! Every kernel as machine code for every architecture, against the budget.

use super::budget::{self, Budget, Key, Use};
use super::cubins;
use super::fetch::{self, Fetched};
use crate::process::{self, Stream};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// How the check ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// So many kernels, in so many files for so many architectures, and what is wrong with them.
    Done { kernels: usize, complaints: usize },
    /// There is no compiler, and why.
    Skipped(String),
}

impl Checked {
    pub(crate) fn failed(&self) -> bool {
        matches!(self, Self::Done { complaints, .. } if *complaints > 0)
    }

    pub(crate) fn skipped(&self) -> bool {
        matches!(self, Self::Skipped(_))
    }
}

/// What the compiling program has said.
#[derive(Debug, Default)]
struct Findings {
    compiler: String,
    found: Budget,
    compiled: usize,
    cached: usize,
    complaints: Vec<String>,
    missing: Option<String>,
}

impl Findings {
    /// Takes in one line; false if it is none of the program's.
    fn read(&mut self, line: &str) -> bool {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields[..] {
            ["compiler", version, _] => version.clone_into(&mut self.compiler),
            ["file", _, _, "compiled"] => self.compiled += 1,
            ["file", _, _, _] => self.cached += 1,
            ["kernel", source, arch, entry, ref numbers @ ..] => {
                let numbers: Vec<u32> = numbers.iter().map_while(|number| number.parse().ok()).collect();
                let [registers, stack, stores, loads, shared, _barriers] = numbers[..] else { return false };
                let key = Key { arch: arch.into(), source: source.into(), entry: entry.into() };
                // A launch names its kernel alone.
                if let Some(other) = self.found.keys().find(|key| key.entry == entry && key.source != source) {
                    self.complaints.push(format!("{key}: {} has a kernel of the same name", other.source));
                }
                self.found.insert(key, Use { registers, stack, spills: stores + loads, shared });
            }
            ["warning", name, arch, text] => self.complaints.push(format!("{name} on {arch}: {text}")),
            ["error", name, arch, text] => {
                self.complaints.push(format!("{name} on {arch}: {}", text.replace("\\n", "\n")));
            }
            ["missing", text] => self.missing = Some(text.to_owned()),
            ["note", text] => println!("note: {text}"),
            _ => return false,
        }
        true
    }

    /// Registers, spills and shared memory of each kernel, a column for each architecture.
    fn table(&self) -> String {
        let mut archs: Vec<&str> = self.found.keys().map(|key| key.arch.as_str()).collect();
        archs.dedup();
        archs.sort_by_key(|arch| (arch.len(), *arch));
        let mut rows: BTreeMap<(&str, &str), BTreeMap<&str, Use>> = BTreeMap::new();
        for (key, takes) in &self.found {
            rows.entry((&key.source, &key.entry)).or_default().insert(&key.arch, *takes);
        }
        let width = rows.keys().map(|(source, entry)| source.len() + entry.len() + 1).max().unwrap_or(0);
        let mut text = format!("{:<width$}", "registers, spilled + static shared bytes");
        archs.iter().for_each(|arch| text += &format!("  {arch:>16}"));
        for ((source, entry), takes) in rows {
            text += &format!("\n{:<width$}", format!("{source}.{entry}"));
            for arch in &archs {
                text += &format!("  {:>16}", takes.get(arch).map_or_else(|| "-".to_owned(), short));
            }
        }
        text
    }
}

fn short(takes: &Use) -> String {
    let mut text = takes.registers.to_string();
    if takes.spills > 0 || takes.stack > 0 {
        text += &format!(", {} spilled", takes.spills.max(takes.stack));
    }
    if takes.shared > 0 {
        text += &format!(" + {}", takes.shared);
    }
    text
}

/// Compiles every kernel and compares; `bless` makes what was found the budget.
pub(crate) fn check(root: &Path, bless: bool) -> Result<Checked> {
    let toolchain = match fetch::fetch(&process::target(root)?)? {
        Fetched::Ready(toolchain) => toolchain,
        Fetched::Impossible(reason) => {
            println!("skipped: no NVRTC: {reason}");
            return Ok(Checked::Skipped(reason));
        }
    };
    let start = Instant::now();
    let mut findings = Findings::default();
    let success = process::watch(cubins(root, &toolchain, &[]), |stream, line| {
        if stream == Stream::Err || !findings.read(line) {
            process::pass_on(stream, line);
        }
    })?;
    if let Some(reason) = findings.missing {
        anyhow::bail!("{reason}");
    }
    anyhow::ensure!(success || !findings.complaints.is_empty(), "the kernels could not be compiled");
    let path = root.join("kernels/budget.toml");
    if bless && findings.complaints.is_empty() {
        let text = budget::text(&findings.found, &findings.compiler);
        std::fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))?;
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    let (over, less) = budget::compare(&budget::parse(&text)?, &findings.found);
    let Findings { compiled, cached, .. } = findings;
    println!("{}", findings.table());
    findings.complaints.extend(over);
    findings.complaints.iter().for_each(|complaint| eprintln!("error: {complaint}"));
    let (kernels, complaints) = (findings.found.len(), findings.complaints.len());
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "kernels: {kernels} of {compiled} + {cached} images (compiled + cached), {complaints} complaints, {seconds:.1} s"
    );
    if complaints > 0 && !bless {
        println!("where more is meant: cargo xtask kernels check --bless, and say why in the commit");
    } else if less > 0 {
        println!("{less} take less than they may: cargo xtask kernels check --bless");
    }
    Ok(Checked::Done { kernels, complaints })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "\
compiler\tNVRTC 13.0\t2 files, 3 headers
file\tnorm\tsm_80\tcompiled
kernel\tnorm\tsm_80\tnorm_f32\t32\t0\t0\t0\t1024\t1
file\tnorm\tsm_90a\tcached
kernel\tnorm\tsm_90a\tnorm_f32\t40\t16\t8\t12\t0\t1
warning\tnorm\tsm_90a\tnorm.cu(3): warning: unused
error\thead\tsm_80\thead.cu(1): error: a\\nb
";

    fn findings() -> Findings {
        let mut findings = Findings::default();
        for line in LINES.lines() {
            assert!(findings.read(line), "{line}");
        }
        findings
    }

    #[test]
    fn every_line_of_the_program_is_taken_in() {
        let findings = findings();
        assert_eq!((findings.compiled, findings.cached, findings.found.len()), (1, 1, 2));
        let expected = Use { registers: 40, stack: 16, spills: 20, shared: 0 };
        assert_eq!(findings.found.values().last(), Some(&expected));
        let expected = ["norm on sm_90a: norm.cu(3): warning: unused", "head on sm_80: head.cu(1): error: a\nb"];
        assert_eq!(findings.complaints, expected);
        assert!(!Findings::default().read("kernel\tnorm\tsm_80\tnorm_f32\tmany"));
        assert!(!Findings::default().read("hello"));
    }

    #[test]
    fn the_table_has_a_row_a_kernel_and_a_column_an_architecture() {
        let table = findings().table();
        let [head, row] = table.lines().collect::<Vec<_>>()[..] else { panic!("{table}") };
        assert!(head.trim_end().ends_with("sm_90a"), "{head}");
        assert!(
            row.starts_with("norm.norm_f32") && row.contains("32 + 1024") && row.contains("40, 20 spilled"),
            "{row}"
        );
    }

    #[test]
    fn two_kernels_of_one_name_are_a_complaint() {
        let mut findings = findings();
        assert!(findings.read("kernel\tother\tsm_90a\tnorm_f32\t8\t0\t0\t0\t0\t0"));
        let complaint = findings.complaints.last().expect("a complaint");
        assert_eq!(complaint, "other.norm_f32 on sm_90a: norm has a kernel of the same name");
    }

    #[test]
    fn only_complaints_fail() {
        assert!(Checked::Done { kernels: 3, complaints: 1 }.failed());
        assert!(!Checked::Done { kernels: 3, complaints: 0 }.failed());
        assert!(!Checked::Skipped(String::new()).failed());
    }
}
