//! Tiles for tests on processors that have none: a handler of the signal that their instructions raise there decodes each, does
//! what it is documented to do to tiles of the thread that met it, and lets the thread go on behind it.
//!
//! So the kernels' own code runs, every instruction and every address of it, as it does on a processor with tiles. Decoding and
//! arithmetic are written after the manual alone, apart from what they test.

mod decode;
mod tiles;

use decode::{Address, Base, Instruction};
use std::cell::UnsafeCell;
use std::sync::Once;
use tiles::{Fault, Tiles};

thread_local! {
    /// Made with the thread and never dropped: a handler may neither allocate nor register anything.
    static TILES: UnsafeCell<Tiles> = const { UnsafeCell::new(Tiles::new()) };
}

/// From here on this process has tiles.
///
/// The vectors beside them are the processor's own: it must have [`Isa::Avx512Bf16`](crate::isa::Isa).
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_illegal_instruction;
        // SAFETY: all zeros are an empty mask and no flags; the handler is of the kind that SA_SIGINFO announces, and calls nothing
        // that a signal may not interrupt.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as *const () as libc::sighandler_t;
            action.sa_flags = libc::SA_SIGINFO;
            assert_eq!(
                libc::sigaction(libc::SIGILL, &raw const action, std::ptr::null_mut()),
                0,
                "a handler of SIGILL"
            );
        }
    });
}

/// Does the instruction that the thread stopped at, or lets the process die of it.
extern "C" fn on_illegal_instruction(signal: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the third argument of such a handler is the interrupted thread's context, which nothing else uses meanwhile.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let at = registers[libc::REG_RIP as usize] as *const u8;
    // SAFETY: the processor has fetched the instruction, and `decode` asks for no byte beyond it: every prefix of something else is
    // told from these by bytes that it has.
    let decoded = decode::decode(|i| unsafe { at.add(i).read() });
    let done = decoded.map(|(instruction, len)| {
        registers[libc::REG_RIP as usize] += len as i64;
        // SAFETY: the thread has left its tiles alone since its last instruction on them, and meets one at a time.
        TILES.with(|tiles| unsafe { execute(instruction, registers, &mut *tiles.get()) })
    });
    if done != Some(Ok(())) {
        let says = done.and_then(Result::err).map_or("an illegal instruction\n", Fault::says);
        // SAFETY: both calls are allowed in a handler. Raised again on return, the signal ends the process.
        unsafe {
            libc::write(libc::STDERR_FILENO, says.as_ptr().cast(), says.len());
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
    }
}

/// # Safety
/// The memory at the instruction's address is what a processor with tiles would find there.
unsafe fn execute(instruction: Instruction, registers: &[i64], tiles: &mut Tiles) -> Result<(), Fault> {
    match instruction {
        Instruction::Configure(address) => {
            let (first, index) = places(address, registers);
            // SAFETY: 64 bytes are there (caller); they need not be aligned.
            tiles.configure(unsafe { &*first.wrapping_offset(index).cast::<[u8; 64]>() })
        }
        Instruction::Release => {
            tiles.release();
            Ok(())
        }
        Instruction::Zero(tile) => tiles.zero(tile),
        Instruction::Load(tile, address) => {
            let (first, stride) = places(address, registers);
            // SAFETY: passed on.
            unsafe { tiles.load(tile, first, stride) }
        }
        Instruction::Store(tile, address) => {
            let (first, stride) = places(address, registers);
            // SAFETY: passed on.
            unsafe { tiles.store(tile, first, stride) }
        }
        // The level that `install` asks for.
        Instruction::Multiply { product, c, a, b } => tiles.multiply(crate::isa::Isa::Avx512Bf16, product, c, a, b),
    }
}

/// base + displacement, and the scaled index.
fn places(address: Address, registers: &[i64]) -> (*mut u8, isize) {
    /// Where the context has the registers, in the order of their numbers.
    const ORDER: [libc::c_int; 16] = [
        libc::REG_RAX,
        libc::REG_RCX,
        libc::REG_RDX,
        libc::REG_RBX,
        libc::REG_RSP,
        libc::REG_RBP,
        libc::REG_RSI,
        libc::REG_RDI,
        libc::REG_R8,
        libc::REG_R9,
        libc::REG_R10,
        libc::REG_R11,
        libc::REG_R12,
        libc::REG_R13,
        libc::REG_R14,
        libc::REG_R15,
    ];
    let value = |register: u8| registers[ORDER[usize::from(register)] as usize];
    let base = match address.base {
        Base::Nothing => 0,
        Base::Register(register) => value(register),
        Base::NextInstruction => registers[libc::REG_RIP as usize],
    };
    let index = address.index.map_or(0, |(register, shift)| value(register) << shift);
    ((base + i64::from(address.displacement)) as *mut u8, index as isize)
}

#[cfg(test)]
mod tests;
