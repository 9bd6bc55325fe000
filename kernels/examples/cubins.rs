//! Compiles every file of kernels for every architecture and says what each kernel takes, one line a fact, its fields
//! separated by tabs. `cargo xtask kernels` reads it.
//!
//! ```text
//! cubins [--out DIR] [--threads N] [NAME]...
//!
//! file     name  arch  compiled | cached
//! kernel   name  arch  entry  registers  stack  spill stores  spill loads  shared  barriers
//! warning  name  arch  what the compiler said
//! error    name  arch  why there is no machine code; lines are separated by \n
//! note     what cost time
//! missing  why there is no compiler
//! ```
#![expect(clippy::print_stdout, reason = "its lines are what it is for")]

use galatea_kernels::cuda::{Arch, Compiler, Cubins, HEADERS, Image, Log, Nvrtc, Origin, SOURCES, Source};
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let (mut out, mut threads, mut names) = (None, 2, Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--out" => out = arguments.next().map(PathBuf::from),
            "--threads" => threads = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(threads),
            _ => names.push(argument),
        }
    }
    match Nvrtc.version() {
        Ok(version) => println!("compiler\t{version}\t{} files, {} headers", SOURCES.len(), HEADERS.len()),
        Err(error) => {
            println!("missing\t{error}");
            return ExitCode::FAILURE;
        }
    }
    let chosen = SOURCES.iter().filter(|source| names.is_empty() || names.iter().any(|name| name == source.name));
    let wanted: Vec<(&Source, Arch)> =
        chosen.flat_map(|source| source.archs.iter().map(move |arch| (*source, *arch))).collect();
    let cubins = Cubins::from_env();
    let mut status = ExitCode::SUCCESS;
    for ((source, arch), result) in wanted.iter().zip(cubins.get_all(&wanted, threads)) {
        let (name, arch_name) = (source.name, arch.name());
        let mut error = |text: String| {
            println!("error\t{name}\t{arch_name}\t{}", text.trim().replace('\t', "    ").replace('\n', "\\n"));
            status = ExitCode::FAILURE;
        };
        let cubin = match result {
            Ok(cubin) => cubin,
            Err(reason) => {
                error(reason.to_string());
                continue;
            }
        };
        cubin.notes.iter().for_each(|note| println!("note\t{note}"));
        println!("file\t{name}\t{arch_name}\t{}", if cubin.origin == Origin::Compiled { "compiled" } else { "cached" });
        let log = Log::parse(&cubin.log);
        for r in &log.reports {
            let (spills, rest) = ([r.spill_stores, r.spill_loads], [r.shared, r.barriers]);
            print!("kernel\t{name}\t{arch_name}\t{}\t{}\t{}", r.entry, r.registers, r.stack);
            println!("\t{}\t{}\t{}\t{}", spills[0], spills[1], rest[0], rest[1]);
        }
        log.warnings.iter().for_each(|warning| println!("warning\t{name}\t{arch_name}\t{warning}"));
        match Image::parse(&cubin.image) {
            Ok(image) if !image.runs_on(*arch) => error(format!("the image is for sm_{}", image.processor)),
            Ok(image) if image.kernels.len() != log.reports.len() => {
                error(format!("the image has {} kernels and the log {}", image.kernels.len(), log.reports.len()));
            }
            Ok(_) => {}
            Err(reason) => error(reason.to_string()),
        }
        if let Some(Err(reason)) = out.as_ref().map(|folder| cubins.build(source, *arch, folder)) {
            error(reason.to_string());
        }
    }
    status
}
