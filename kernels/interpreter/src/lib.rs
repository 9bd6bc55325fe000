//! Runs galatea's CUDA kernels on the CPU, for tests.
//!
//! The very files that a GPU compiler is given are compiled as C++ (see the build script) against headers that say what a
//! CUDA intrinsic does. A thread of a kernel is a fiber; who runs next, and when an asynchronous copy lands, is drawn from
//! `schedule`. So an order that hardware shows once in a month is a seed here, and a mistake comes with block, thread and line.

mod failure;
mod lines;

pub use failure::{Failure, Kind};
use std::ffi::{CStr, c_char, c_void};

/// What the C++ side tells. Laid out as `Report` in cpp/block.hpp.
#[repr(C)]
struct Report {
    fault: u32,
    in_block: u32,
    in_thread: u32,
    block: [u32; 3],
    thread: [u32; 3],
    text: [c_char; 1000],
}

// SAFETY: cpp/launch.cpp, which the build script compiles and links, defines these functions with these parameters.
unsafe extern "C" {
    fn galatea_interpreter_entries() -> usize;
    fn galatea_interpreter_shipped() -> usize;
    fn galatea_interpreter_entry(index: usize) -> *const c_char;
    fn galatea_interpreter_launch(
        index: usize,
        grid: *const u32,
        block: *const u32,
        shared: u32,
        args: *mut *mut c_void,
        sizes: *const usize,
        count: usize,
        schedule: u64,
        extents: *const RawExtent,
        extent_count: usize,
        report: *mut Report,
    );
}

/// The kernels of galatea, by name.
pub fn entries() -> impl Iterator<Item = &'static str> {
    // SAFETY: the function only returns a constant.
    let count = unsafe { galatea_interpreter_shipped() };
    (0..count).map(name)
}

fn name(index: usize) -> &'static str {
    // SAFETY: `index` is below the number of entries (both callers count them), each of which has a constant name.
    let name = unsafe { CStr::from_ptr(galatea_interpreter_entry(index)) };
    name.to_str().expect("an identifier is ASCII")
}

/// Memory that a kernel may touch.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// The first byte.
    pub start: *const u8,
    /// How many.
    pub bytes: usize,
    /// Whether it may be written.
    pub writable: bool,
}

/// The same for the C++ side: laid out as `Extent` in cpp/memory.hpp.
#[repr(C)]
struct RawExtent {
    start: *const u8,
    bytes: usize,
    writable: u32,
}

/// Runs a kernel to its end on the CPU.
///
/// Schedule 0 runs threads in the order of their numbers and does asynchronous work at once. Any other draws the order of
/// blocks and of threads, and the moment at which every copy lands and every matrix product is done.
///
/// # Errors
/// Whatever the driver would refuse, and every mistake that the interpreter notices: see [`Kind`].
///
/// # Safety
/// `args[i]` points at `sizes[i]` bytes, and pointers among the arguments are valid for what the kernel does with them.
pub unsafe fn launch(
    entry: &str,
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    args: &mut [*mut c_void],
    sizes: &[usize],
    schedule: u64,
) -> Result<(), Failure> {
    // SAFETY: the caller's promise is the same.
    unsafe { launch_within(entry, grid, block, shared, args, sizes, schedule, &[]) }
}

/// The same for a kernel that keeps to `memory`: an access beyond it is a failure, and so is one that nothing orders with
/// another's, of the same block or of another, unless none of the two is a write. No extents are no limits.
///
/// Blocks are taken to be ordered from the first atomic operation of the later one on.
///
/// # Errors
/// As [`launch`].
///
/// # Safety
/// As [`launch`]; every extent is valid for as long as the kernel runs, also where it is touched by mistake.
#[allow(clippy::too_many_arguments)]
pub unsafe fn launch_within(
    entry: &str,
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    args: &mut [*mut c_void],
    sizes: &[usize],
    schedule: u64,
    memory: &[Extent],
) -> Result<(), Failure> {
    let raw = |e: &Extent| RawExtent { start: e.start, bytes: e.bytes, writable: e.writable.into() };
    let memory: Vec<RawExtent> = memory.iter().map(raw).collect();
    let failed = |kind, text: String| Failure { entry: entry.to_owned(), kind, block: None, thread: None, text };
    // SAFETY: the function only returns a constant.
    let count = unsafe { galatea_interpreter_entries() };
    let index = (0..count).find(|&index| name(index) == entry);
    let index = index.ok_or_else(|| failed(Kind::UnknownEntry, "there is no kernel of this name".to_owned()))?;
    if args.len() != sizes.len() {
        return Err(failed(Kind::Arguments, format!("{} arguments and {} sizes", args.len(), sizes.len())));
    }
    let mut report = Report { fault: 0, in_block: 0, in_thread: 0, block: [0; 3], thread: [0; 3], text: [0; 1000] };
    // SAFETY: the arrays are as long as told; the caller answers for what the arguments point at.
    unsafe {
        galatea_interpreter_launch(
            index,
            grid.as_ptr(),
            block.as_ptr(),
            shared,
            args.as_mut_ptr(),
            sizes.as_ptr(),
            args.len(),
            schedule,
            memory.as_ptr(),
            memory.len(),
            &raw mut report,
        );
    }
    let kind = match report.fault {
        0 => return Ok(()),
        1 => Kind::UnknownEntry,
        2 => Kind::Arguments,
        3 => Kind::Launch,
        4 => Kind::Deadlock,
        5 => Kind::Divergence,
        6 => Kind::Barrier,
        7 => Kind::Misaligned,
        8 => Kind::OutOfBounds,
        _ => Kind::Race,
    };
    // SAFETY: the C++ side writes with vsnprintf, which ends the text within its array.
    let text = unsafe { CStr::from_ptr(report.text.as_ptr()) }.to_string_lossy().into_owned();
    Err(Failure {
        entry: entry.to_owned(),
        kind,
        block: (report.in_block != 0).then_some(report.block),
        thread: (report.in_thread != 0).then_some(report.thread),
        text: lines::resolved(text),
    })
}
