//! Tiles of bf16 (AMX): what the machine must have and what the kernel must grant before the first of them.

/// Whether this process may use tiles: the processor has them (CPUID 7.0: AMX-TILE, AMX-BF16), the operating system saves
/// them (XCR0), and Linux has granted their state to this process. Asks once.
#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(crate) fn granted() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    static GRANTED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *GRANTED.get_or_init(|| {
        const AMX: u32 = 1 << 22 | 1 << 24;
        const OSXSAVE: u32 = 1 << 27;
        const TILE_STATE: u32 = 1 << 17 | 1 << 18;
        __cpuid(0).eax >= 7
            && __cpuid_count(7, 0).edx & AMX == AMX
            && __cpuid(1).ecx & OSXSAVE != 0
            && xcr_0() & TILE_STATE == TILE_STATE
            && request()
    })
}

/// The low half of the extended control register 0.
#[cfg(all(target_arch = "x86_64", not(miri)))]
fn xcr_0() -> u32 {
    let low: u32;
    // SAFETY: the caller has seen OSXSAVE, so the instruction exists; it reads a register and touches no memory.
    unsafe {
        std::arch::asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") _, options(nomem, nostack));
    }
    low
}

/// Asks Linux for the tile state (arch_prctl ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA).
#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
fn request() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers and changes only what this process may use.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(all(target_arch = "x86_64", not(target_os = "linux"), not(miri)))]
fn request() -> bool {
    false
}
