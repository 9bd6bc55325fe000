//! From a kernel's text to machine code, by the compiler that NVIDIA ships as a library (NVRTC).
//!
//! Sources and headers are handed over from memory and include nothing of a toolkit, so the library is all that is needed:
//! no compiler driver, no folder of headers, no GPU.

use crate::cuda::launch::{Arch, Source};
use crate::cuda::sources::HEADERS;
use cudarc::nvrtc::{result, sys};
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;
use std::sync::OnceLock;

/// What the compiler is told beside the architecture: the language, to say what registers and memory a kernel takes, and
/// that a function without a mark (a lambda inside a kernel) is the GPU's. Line numbers cost bytes of the image and no time
/// of a kernel, and let a profiler name the line.
pub const OPTIONS: [&str; 4] =
    ["--std=c++17", "--ptxas-options=-v", "-lineinfo", "--device-as-default-execution-space"];

/// The oldest library that knows `sm_90a`.
const OLDEST: (i32, i32) = (12, 0);

/// Machine code, and what the compiler said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// The image that the driver loads.
    pub image: Vec<u8>,
    /// The compiler's and the assembler's output.
    pub log: String,
}

/// Why a kernel was not compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// There is no library.
    #[error(
        "NVRTC (libnvrtc.so) is not found: `pip install nvidia-cuda-nvrtc` and add the folder nvidia/cu13/lib of \
         where pip put it to LD_LIBRARY_PATH, or let GALATEA_CUBINS name a folder of kernels compiled elsewhere by \
         `cargo xtask kernels build`"
    )]
    Missing,
    /// The library lacks its second half.
    #[error("NVRTC is there without libnvrtc-builtins.so, which belongs beside it on LD_LIBRARY_PATH: {log}")]
    Incomplete {
        /// The compiler's output.
        log: String,
    },
    /// The library is older than the architectures.
    #[error("NVRTC {}.{} is found and {}.{} or newer is needed", found.0, found.1, OLDEST.0, OLDEST.1)]
    TooOld {
        /// Its version.
        found: (i32, i32),
    },
    /// The file is not written for this architecture.
    #[error("{name}.cu is not for {}", arch.name())]
    NotFor {
        /// The file.
        name: &'static str,
        /// The architecture.
        arch: Arch,
    },
    /// The text has an error.
    #[error("{name}.cu does not compile for {}:\n{log}", arch.name())]
    Rejected {
        /// The file.
        name: &'static str,
        /// The architecture.
        arch: Arch,
        /// The compiler's output.
        log: String,
    },
    /// The library failed.
    #[error("NVRTC failed in {call}: {code}")]
    Failed {
        /// The function.
        call: &'static str,
        /// Its answer.
        code: String,
    },
}

/// What makes machine code: the library, or a stand-in under test.
pub trait Compiler {
    /// Its name and version; another one makes other code.
    ///
    /// # Errors
    /// If there is none.
    fn version(&self) -> Result<String, CompileError>;

    /// Compiles a file for an architecture.
    ///
    /// # Errors
    /// If there is no compiler, or it rejects the file.
    fn compile(&self, source: &Source, arch: Arch) -> Result<Compiled, CompileError>;
}

/// The library, looked for when it is first needed. Any number of threads may compile at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nvrtc;

impl Compiler for Nvrtc {
    fn version(&self) -> Result<String, CompileError> {
        loaded().map(|(major, minor)| format!("NVRTC {major}.{minor}"))
    }

    fn compile(&self, source: &Source, arch: Arch) -> Result<Compiled, CompileError> {
        if !source.archs.contains(&arch) {
            return Err(CompileError::NotFor { name: source.name, arch });
        }
        loaded()?;
        let program = Program::new(source)?;
        let options = [&[format!("--gpu-architecture={}", arch.name())][..], &OPTIONS.map(str::to_owned)].concat();
        // SAFETY: the program was created in `new` and lives until the end of this function.
        let done = unsafe { result::compile_program(program.handle, &options) };
        let log = program.log()?;
        match done {
            Ok(()) => Ok(Compiled { image: program.image()?, log }),
            Err(result::NvrtcError(sys::nvrtcResult::NVRTC_ERROR_BUILTIN_OPERATION_FAILURE)) => {
                Err(CompileError::Incomplete { log: log.trim().to_owned() })
            }
            Err(result::NvrtcError(sys::nvrtcResult::NVRTC_ERROR_COMPILATION)) => {
                Err(CompileError::Rejected { name: source.name, arch, log })
            }
            Err(other) => Err(failed("nvrtcCompileProgram", other)),
        }
    }
}

/// The headers that a text includes, and those that they include, in the order of [`HEADERS`].
pub fn headers(text: &str) -> Vec<(&'static str, &'static str)> {
    let mut wanted = vec![false; HEADERS.len()];
    let mut texts = vec![text];
    while let Some(text) = texts.pop() {
        for (i, (name, header)) in HEADERS.iter().enumerate() {
            if !wanted[i] && included(text).any(|included| included == *name) {
                wanted[i] = true;
                texts.push(header);
            }
        }
    }
    HEADERS.iter().zip(wanted).filter(|(_, wanted)| *wanted).map(|(header, _)| *header).collect()
}

/// The names in the lines `#include "name"`.
fn included(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix('#'));
    lines.filter_map(|line| line.trim().strip_prefix("include")?.trim().strip_prefix('"')?.split('"').next())
}

/// The version of the library, which stays loaded.
fn loaded() -> Result<(i32, i32), CompileError> {
    static VERSION: OnceLock<Result<(i32, i32), CompileError>> = OnceLock::new();
    let look = || {
        // SAFETY: loading NVIDIA's library runs its initialisers and no code of ours.
        if !unsafe { sys::is_culib_present() } {
            return Err(CompileError::Missing);
        }
        let (mut major, mut minor): (c_int, c_int) = (0, 0);
        // SAFETY: both are places for one number.
        let done = unsafe { sys::nvrtcVersion(&mut major, &mut minor) }.result();
        done.map_err(|error| failed("nvrtcVersion", error))?;
        if (major, minor) < OLDEST { Err(CompileError::TooOld { found: (major, minor) }) } else { Ok((major, minor)) }
    };
    VERSION.get_or_init(look).clone()
}

fn failed(call: &'static str, error: result::NvrtcError) -> CompileError {
    CompileError::Failed { call, code: format!("{:?}", error.0) }
}

/// A program of the library, with the texts that it may point into.
struct Program {
    handle: sys::nvrtcProgram,
    #[expect(dead_code, reason = "the library may read them until the program is destroyed")]
    texts: Vec<CString>,
}

impl Program {
    fn new(source: &Source) -> Result<Self, CompileError> {
        let c = |text: &str| CString::new(text).expect("a text of ours has no zero byte");
        let headers = headers(source.text);
        let count = headers.len();
        let names = headers.iter().map(|(name, _)| c(name));
        let texts = headers.iter().map(|(_, text)| c(text));
        let own = [c(source.text), c(&format!("{}.cu", source.name))];
        let texts: Vec<CString> = names.chain(texts).chain(own).collect();
        let pointers: Vec<*const c_char> = texts.iter().map(|text| text.as_ptr()).collect();
        let (names, rest) = pointers.split_at(count);
        let (headers, own) = rest.split_at(count);
        let mut handle = ptr::null_mut();
        // SAFETY: both lists have `count` strings, and every string ends with zero and lives as long as the program.
        let done = unsafe {
            let (headers, names) = (headers.as_ptr(), names.as_ptr());
            sys::nvrtcCreateProgram(&mut handle, own[0], own[1], count as c_int, headers, names).result()
        };
        done.map_err(|error| failed("nvrtcCreateProgram", error))?;
        Ok(Self { handle, texts })
    }

    fn log(&self) -> Result<String, CompileError> {
        // SAFETY: the program is alive.
        let log = unsafe { result::get_program_log(self.handle) }.map_err(|e| failed("nvrtcGetProgramLog", e))?;
        let bytes: Vec<u8> = log.into_iter().map(|c| c as u8).collect();
        Ok(CStr::from_bytes_until_nul(&bytes).unwrap_or_default().to_string_lossy().into_owned())
    }

    fn image(&self) -> Result<Vec<u8>, CompileError> {
        let mut bytes = 0;
        // SAFETY: the program is alive, `bytes` is a place for one number.
        unsafe { sys::nvrtcGetCUBINSize(self.handle, &mut bytes) }
            .result()
            .map_err(|e| failed("nvrtcGetCUBINSize", e))?;
        let mut image = vec![0u8; bytes];
        // SAFETY: the image has the size that the library asked for.
        let done = unsafe { sys::nvrtcGetCUBIN(self.handle, image.as_mut_ptr().cast()) }.result();
        done.map_err(|error| failed("nvrtcGetCUBIN", error))?;
        Ok(image)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: created in `new`, destroyed once. A failure would leave memory of the library behind and nothing else.
        let _ = unsafe { result::destroy_program(self.handle) };
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Image, Log};
    use super::*;
    use crate::cuda::SOURCES;

    /// Compiles, where there is a compiler.
    fn compiled(text: &'static str, archs: &'static [Arch], arch: Arch) -> Option<Result<Compiled, CompileError>> {
        let result = Nvrtc.compile(&Source { name: "test", text, archs }, arch);
        if result == Err(CompileError::Missing) {
            galatea_fixtures::skipped("no NVRTC: `cargo xtask kernels fetch` prints where it puts one");
            return None;
        }
        Some(result)
    }

    #[test]
    fn a_kernel_becomes_machine_code_and_a_report() {
        let text = "#include \"base.cuh\"\nextern \"C\" __global__ void __launch_bounds__(96)\n\
                    twice(float* x, u32 n) { if (threadIdx.x < n) x[threadIdx.x] *= 2.f; }";
        for arch in Arch::ALL {
            let Some(result) = compiled(text, &Arch::ALL, arch) else { return };
            let Compiled { image, log } = result.unwrap_or_else(|error| panic!("{error}"));
            let (image, log) = (Image::parse(&image).expect("an image"), Log::parse(&log));
            assert!(image.runs_on(arch));
            let ([kernel], [report]) = (&image.kernels[..], &log.reports[..]) else { panic!("{image:?}, {log:?}") };
            assert_eq!((kernel.entry.as_str(), report.entry.as_str()), ("twice", "twice"));
            assert_eq!((&kernel.params[..], kernel.threads), (&[8, 4][..], Some(96)));
            assert_eq!((kernel.registers, kernel.shared), (report.registers, report.shared));
            assert!((1..=32).contains(&report.registers) && report.spill_stores == 0, "{report:?}");
            assert_eq!(log.warnings, Vec::<String>::new());
        }
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        let Some(result) =
            compiled("extern \"C\" __global__ void k() {\n  int x = nowhere;\n}", &Arch::ALL, Arch::Sm80)
        else {
            return;
        };
        let Err(CompileError::Rejected { name: "test", arch: Arch::Sm80, log }) = result else { panic!("{result:?}") };
        assert!(log.contains("test.cu(2)") && log.contains("nowhere"), "{log}");
    }

    #[test]
    fn a_file_is_not_compiled_for_what_it_is_not_written_for() {
        let result = Nvrtc.compile(&Source { name: "test", text: "", archs: &[Arch::Sm90a] }, Arch::Sm80);
        assert_eq!(result, Err(CompileError::NotFor { name: "test", arch: Arch::Sm80 }));
    }

    #[test]
    fn headers_of_headers_are_handed_over_and_others_are_not() {
        assert_eq!(headers("// #include nothing"), []);
        let names = |text: &str| headers(text).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names("  # include \"philox.cuh\""), ["base.cuh", "philox.cuh"]);
    }

    #[test]
    fn every_include_of_a_kernel_is_embedded() {
        let known: Vec<&str> = HEADERS.iter().map(|(name, _)| *name).collect();
        let texts = SOURCES.iter().map(|source| source.text).chain(HEADERS.iter().map(|(_, text)| *text));
        for name in texts.flat_map(included) {
            // What ends otherwise is the interpreter's, which the compiler does not see.
            assert!(known.contains(&name) || name.ends_with(".hpp"), "{name} is not in HEADERS");
        }
    }
}
