//! Tiles of bf16 and of int8 (AMX): what the machine must have and what the kernel must grant before the first of them.

/// Whether this process may use tiles: the processor has them (CPUID 7.0: AMX-TILE, AMX-BF16, AMX-INT8), the operating system
/// saves them (XCR0), and Linux has granted their state to this process. Asks once.
#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(crate) fn granted() -> bool {
    static GRANTED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *GRANTED.get_or_init(|| (there() && request()) || emulated())
}

/// Whether the processor has tiles that the operating system saves.
#[cfg(all(target_arch = "x86_64", not(miri)))]
fn there() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    const AMX: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    const OSXSAVE: u32 = 1 << 27;
    const TILE_STATE: u32 = 1 << 17 | 1 << 18;
    __cpuid(0).eax >= 7
        && __cpuid_count(7, 0).edx & AMX == AMX
        && __cpuid(1).ecx & OSXSAVE != 0
        && xcr_0() & TILE_STATE == TILE_STATE
}

/// Tests bring tiles along where the processor has none.
#[cfg(all(test, target_arch = "x86_64", target_os = "linux", not(miri)))]
fn emulated() -> bool {
    super::emulator::install();
    true
}

#[cfg(all(target_arch = "x86_64", not(all(test, target_os = "linux")), not(miri)))]
fn emulated() -> bool {
    false
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

/// Rows and columns of the tile of C: two by two tiles of 16 x 16.
pub(super) const SIDE: usize = 32;
/// Words of a packed step: two tiles of 16 x 16.
pub(super) const STEP: usize = 512;

/// What a word of a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Product {
    /// Two bf16, whose products are summed in f32.
    Pairs,
    /// Four int8, A's signed and B's lifted, whose products are summed in i32, here in the bits of f32.
    Quads,
}

/// The tile unit that a kernel runs on: the processor's, or the same arithmetic in loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// `ldtilecfg`, `tileloadd`, `tdpbf16ps`, `tdpbsud`.
    Hardware,
    /// What those instructions are documented to do; lets every machine test the packing and the blocking around them.
    #[cfg(test)]
    Software,
}

/// Palette 1: eight tiles of sixteen rows of 64 bytes.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
static CONFIGURATION: Configuration = {
    let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
    let mut tile = 0;
    while tile < 8 {
        row_bytes[tile] = 64;
        rows[tile] = 16;
        tile += 1;
    }
    Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows }
};

impl Unit {
    /// Runs `work` with this thread's tiles configured, and lets go of them afterwards.
    pub(super) fn with(self, work: impl FnOnce()) {
        match self {
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Unit::Hardware => {
                // SAFETY: `Isa::Amx`, which alone leads here, exists only where `granted` said yes; the configuration is 64
                // bytes of palette 1.
                unsafe {
                    std::arch::asm!("ldtilecfg [{}]", in(reg) &raw const CONFIGURATION, options(nostack, readonly));
                }
                work();
                // SAFETY: as above.
                unsafe { std::arch::asm!("tilerelease", options(nostack, nomem)) };
            }
            #[cfg(any(not(target_arch = "x86_64"), miri))]
            Unit::Hardware => work(),
            #[cfg(test)]
            Unit::Software => work(),
        }
    }

    /// acc [32, 32] = (or, if `add`, +=) `steps` steps of A times packed steps of B (`Order::DepthTiles`). Called inside
    /// [`Unit::with`].
    ///
    /// # Safety
    /// Each row of A holds 16 words for every step.
    pub(super) unsafe fn micro(
        self,
        product: Product,
        steps: usize,
        a: Rows,
        b: &[u32],
        acc: &mut [f32; SIDE * SIDE],
        add: bool,
    ) {
        assert!(b.len() >= steps * STEP && steps > 0);
        match self {
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            // SAFETY: A holds its words (caller), B its steps (asserted), and tiles are configured (`with`).
            Unit::Hardware => unsafe { hardware(product, steps, a, b.as_ptr(), acc.as_mut_ptr(), add) },
            #[cfg(any(not(target_arch = "x86_64"), miri))]
            Unit::Hardware => unreachable!("`Isa::Amx` exists on x86-64 alone"),
            #[cfg(test)]
            // SAFETY: A holds its words (caller).
            Unit::Software => unsafe { software(product, steps, a, b, acc, add) },
        }
    }
}

/// 32 rows of A: where the first and the seventeenth begin, words from row to row, words from step to step.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) upper: *const u32,
    pub(super) lower: *const u32,
    pub(super) stride: usize,
    pub(super) step: usize,
}

impl Rows {
    /// Steps packed as `Order::SpanTiles`.
    pub(super) fn packed(words: &[u32]) -> Self {
        Self { upper: words.as_ptr(), lower: words[STEP / 2..].as_ptr(), stride: 16, step: STEP }
    }
}

/// The steps of [`hardware`] by the instruction that multiplies: four accumulators in tmm0 to tmm3, A in tmm4 and tmm5, B in tmm6
/// and tmm7, so that each loaded tile is used twice.
#[cfg(all(target_arch = "x86_64", not(miri)))]
macro_rules! steps {
    ($multiply:literal, $steps:ident, $a:ident, $b:ident) => {
        std::arch::asm!(
            "2:",
            "tileloadd tmm6, [{b} + {s}*1]",
            "tileloadd tmm4, [{a} + {sa}*1]",
            concat!($multiply, " tmm0, tmm4, tmm6"),
            "tileloadd tmm7, [{b} + {s}*1 + 1024]",
            concat!($multiply, " tmm1, tmm4, tmm7"),
            "tileloadd tmm5, [{l} + {sa}*1]",
            concat!($multiply, " tmm2, tmm5, tmm6"),
            "add {a}, {da}",
            "add {l}, {da}",
            "add {b}, 2048",
            concat!($multiply, " tmm3, tmm5, tmm7"),
            "dec {n}",
            "jnz 2b",
            a = inout(reg) $a.upper => _, l = inout(reg) $a.lower => _, b = inout(reg) $b => _,
            n = inout(reg) $steps => _, s = in(reg) 64usize, sa = in(reg) 4 * $a.stride, da = in(reg) 4 * $a.step,
            options(nostack, readonly)
        )
    };
}

/// # Safety
/// Tiles are configured, the rows of `a` and `b` hold `steps` steps, `acc` holds 32 x 32.
#[cfg(all(target_arch = "x86_64", not(miri)))]
unsafe fn hardware(product: Product, steps: usize, a: Rows, b: *const u32, acc: *mut f32, add: bool) {
    // Rows of `acc` are 128 bytes; its lower tiles begin 16 rows below.
    let below = acc.wrapping_add(16 * SIDE);
    // SAFETY: in bounds (caller); the tile registers are this thread's own between `ldtilecfg` and `tilerelease`, and no
    // other code uses them.
    unsafe {
        if add {
            std::arch::asm!(
                "tileloadd tmm0, [{c} + {s}*1]",
                "tileloadd tmm1, [{c} + {s}*1 + 64]",
                "tileloadd tmm2, [{d} + {s}*1]",
                "tileloadd tmm3, [{d} + {s}*1 + 64]",
                c = in(reg) acc, d = in(reg) below, s = in(reg) 4 * SIDE, options(nostack, readonly)
            );
        } else {
            std::arch::asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                options(nostack, nomem)
            );
        }
        match product {
            Product::Pairs => steps!("tdpbf16ps", steps, a, b),
            Product::Quads => steps!("tdpbsud", steps, a, b),
        }
        std::arch::asm!(
            "tilestored [{c} + {s}*1], tmm0",
            "tilestored [{c} + {s}*1 + 64], tmm1",
            "tilestored [{d} + {s}*1], tmm2",
            "tilestored [{d} + {s}*1 + 64], tmm3",
            c = in(reg) acc, d = in(reg) below, s = in(reg) 4 * SIDE, options(nostack)
        );
    }
}

/// Products of tiles in a [`chain`].
#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(crate) const CHAIN: usize = 4 * 2000;

/// [`CHAIN`] products of tiles from registers alone, to measure their rate. The tiles hold different numbers: constant ones
/// are multiplied faster than real ones.
///
/// # Panics
/// If the machine has no tiles.
#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(crate) fn chain(product: Product) {
    assert!(granted(), "tiles are multiplied where `Isa::Amx` exists");
    macro_rules! chain {
        ($multiply:literal, $words:ident) => {
            std::arch::asm!(
                "tileloadd tmm4, [{w} + {s}*1]",
                "tileloadd tmm5, [{w} + {s}*1]",
                "tileloadd tmm6, [{w} + {s}*1]",
                "tileloadd tmm7, [{w} + {s}*1]",
                "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                "2:",
                concat!($multiply, " tmm0, tmm4, tmm6"),
                concat!($multiply, " tmm1, tmm4, tmm7"),
                concat!($multiply, " tmm2, tmm5, tmm6"),
                concat!($multiply, " tmm3, tmm5, tmm7"),
                "dec {n}",
                "jnz 2b",
                w = in(reg) $words.as_ptr(), s = in(reg) 64usize, n = inout(reg) CHAIN / 4 => _,
                options(nostack, readonly)
            )
        };
    }
    // bf16 between one and two, all mantissas.
    let words: [u32; 256] = std::array::from_fn(|i| 0x3f80_3f80 | (i as u32 * 37 % 128) << 16 | (i as u32 * 91 % 128));
    Unit::Hardware.with(|| {
        // SAFETY: tiles are configured (`with`) and granted (asserted); `words` is one tile, and the registers are this
        // thread's own.
        unsafe {
            match product {
                Product::Pairs => chain!("tdpbf16ps", words),
                Product::Quads => chain!("tdpbsud", words),
            }
        }
    });
}

/// [`hardware`] in loops, summing as `tdpbf16ps` does: the products of lower halves and those of upper ones apart, a step's sum of
/// both to C. (The instruction has no subnormal numbers besides.)
///
/// # Safety
/// The rows of `a` hold `steps` steps.
#[cfg(test)]
unsafe fn software(product: Product, steps: usize, a: Rows, b: &[u32], acc: &mut [f32; SIDE * SIDE], add: bool) {
    if !add {
        acc.fill(0.0);
    }
    let halves = |word: u32| (f32::from_bits(word << 16), f32::from_bits(word & 0xffff_0000));
    let quad = |a: u32, b: u32| -> i32 {
        a.to_le_bytes().into_iter().zip(b.to_le_bytes()).map(|(a, b)| i32::from(a as i8) * i32::from(b)).sum()
    };
    for (step, b) in b.chunks_exact(STEP).enumerate().take(steps) {
        for (i, j) in (0..SIDE).flat_map(|i| (0..SIDE).map(move |j| (i, j))) {
            let first = if i < 16 { a.upper } else { a.lower };
            // SAFETY: row i holds 16 words for this step (caller).
            let a = |pair: usize| unsafe { first.add(i % 16 * a.stride + step * a.step + pair).read_unaligned() };
            let words = (0..16).map(|pair| (a(pair), b[j / 16 * 256 + pair * 16 + j % 16]));
            let sum = &mut acc[i * SIDE + j];
            *sum = match product {
                Product::Pairs => {
                    let (mut lower, mut upper) = (0.0, 0.0);
                    for ((a_lower, a_upper), (b_lower, b_upper)) in words.map(|(a, b)| (halves(a), halves(b))) {
                        lower += a_lower * b_lower;
                        upper += a_upper * b_upper;
                    }
                    *sum + (lower + upper)
                }
                Product::Quads => {
                    let quads = words.map(|(a, b)| quad(a, b)).sum::<i32>();
                    f32::from_bits((sum.to_bits() as i32).wrapping_add(quads) as u32)
                }
            };
        }
    }
}

#[cfg(all(test, target_arch = "x86_64", target_os = "linux", not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_granted_where_linux_supports_the_state() {
        const ARCH_GET_XCOMP_SUPP: libc::c_long = 0x1021;
        let mut supported = 0u64;
        // SAFETY: the call writes one number to where it is told.
        let asked = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_GET_XCOMP_SUPP, &raw mut supported) };
        assert_eq!(request(), asked == 0 && supported & 1 << 18 != 0);
    }
}
