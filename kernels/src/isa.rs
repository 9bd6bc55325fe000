//! Instruction sets, chosen at run time.
//!
//! A kernel body is ordinary Rust compiled once per level by `multiversion!`: the compiler vectorises the same loops
//! for AVX-512, AVX2 or the baseline, and the level travels as a value. The two levels above AVX-512 differ in the matrix
//! product alone.

use std::sync::OnceLock;

/// What the running machine can do, from least to most.
///
/// A value is the promise that the machine has the level: other crates get one from [`Isa::detect`] or [`Isa::available`] and
/// cannot name a variant to make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// The compilation target's baseline.
    #[non_exhaustive]
    Portable,
    /// 256-bit vectors with fused multiply-add.
    #[non_exhaustive]
    Avx2,
    /// 512-bit vectors.
    #[non_exhaustive]
    Avx512,
    /// 512-bit vectors that multiply pairs of bf16.
    #[non_exhaustive]
    Avx512Bf16,
    /// Tiles of bf16 and of int8 beside them.
    #[non_exhaustive]
    Amx,
}

impl Isa {
    /// Every level, from least to most.
    const ALL: [Isa; 5] = [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Avx512Bf16, Isa::Amx];

    /// The [`Isa::name`] of every level, whether the machine has it or not.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Isa::ALL.into_iter().map(Isa::name)
    }

    /// The best level of this machine, or the lower one that `GALATEA_ISA` (a [`Isa::name`]) asks for.
    pub fn detect() -> Isa {
        static LEVEL: OnceLock<Isa> = OnceLock::new();
        *LEVEL.get_or_init(|| {
            let asked = std::env::var("GALATEA_ISA").ok();
            let named = asked.and_then(|asked| Isa::ALL.into_iter().find(|isa| isa.name() == asked));
            named.map_or(Isa::best(), |isa| isa.min(Isa::best()))
        })
    }

    #[cfg(all(target_arch = "x86_64", not(miri)))]
    fn best() -> Isa {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| {
            if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")) {
                return Isa::Portable;
            }
            let wide = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            if !wide {
                return Isa::Avx2;
            }
            if !is_x86_feature_detected!("avx512bf16") {
                return Isa::Avx512;
            }
            if crate::gemm::tiles::granted() { Isa::Amx } else { Isa::Avx512Bf16 }
        })
    }

    #[cfg(any(not(target_arch = "x86_64"), miri))]
    fn best() -> Isa {
        Isa::Portable
    }

    /// The levels this machine can run, for tests that force each.
    pub fn available() -> impl Iterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|&isa| isa <= Isa::best())
    }

    /// Whether vectors have an instruction for products of int8 at this level (AVX-512 VNNI, which no level stands for: it came
    /// before bf16 on some machines and with it on others).
    pub fn multiplies_bytes(self) -> bool {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        return self >= Isa::Avx512 && is_x86_feature_detected!("avx512vnni");
        #[cfg(any(not(target_arch = "x86_64"), miri))]
        return false;
    }

    /// The name printed by benches and `inspect`, and read from `GALATEA_ISA`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Avx512Bf16 => "avx512bf16",
            Isa::Amx => "amx",
        }
    }
}

/// Defines `fn name(isa: Isa, args..) -> ret` whose body is compiled for every level. Helpers it calls must be
/// `#[inline(always)]` to be compiled with it; closures inside are. `return` leaves the body, not the dispatcher.
macro_rules! multiversion {
    (
        $(#[$meta:meta])*
        $vis:vis fn $name:ident $(<$($g:ident: $bound:ident),+>)? ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block
    ) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name $(<$($g: $bound),+>)? (isa: $crate::isa::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body $(<$($g: $bound),+>)? ($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx512 $(<$($g: $bound),+>)? ($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2 $(<$($g: $bound),+>)? ($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
            match isa {
                // SAFETY: an `Isa` above `Portable` exists only where `Isa::best` found its features on this machine.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Isa::Avx512 | $crate::isa::Isa::Avx512Bf16 | $crate::isa::Isa::Amx => unsafe {
                    avx512($($arg),*)
                },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Isa::Avx2 => unsafe { avx2($($arg),*) },
                $crate::isa::Isa::Portable => body($($arg),*),
                #[cfg(not(target_arch = "x86_64"))]
                $crate::isa::Isa::Avx2
                | $crate::isa::Isa::Avx512
                | $crate::isa::Isa::Avx512Bf16
                | $crate::isa::Isa::Amx => body($($arg),*),
            }
        }
    };
}
pub(crate) use multiversion;
