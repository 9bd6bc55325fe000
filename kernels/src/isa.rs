//! Instruction sets, chosen at run time.
//!
//! A kernel body is ordinary Rust compiled once per level by `multiversion!`: the compiler vectorises the same loops
//! for AVX-512, AVX2 or the baseline, and the level travels as a value.

use std::sync::OnceLock;

/// What the running machine can do, from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// The compilation target's baseline.
    Portable,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// 512-bit vectors.
    Avx512,
}

impl Isa {
    /// The best level of this machine, or the lower one that `GALATEA_ISA` (`portable`, `avx2`, `avx512`) asks for.
    pub fn detect() -> Isa {
        static LEVEL: OnceLock<Isa> = OnceLock::new();
        *LEVEL.get_or_init(|| {
            let best = Isa::best();
            match std::env::var("GALATEA_ISA").as_deref() {
                Ok("portable") => Isa::Portable,
                Ok("avx2") => best.min(Isa::Avx2),
                _ => best,
            }
        })
    }

    #[cfg(all(target_arch = "x86_64", not(miri)))]
    fn best() -> Isa {
        if ["avx512f", "avx512bw", "avx512dq", "avx512vl"].iter().all(|f| has(f)) && has("fma") {
            Isa::Avx512
        } else if has("avx2") && has("fma") {
            Isa::Avx2
        } else {
            Isa::Portable
        }
    }

    #[cfg(any(not(target_arch = "x86_64"), miri))]
    fn best() -> Isa {
        Isa::Portable
    }

    /// The levels this machine can run, for tests that force each.
    pub fn available() -> impl Iterator<Item = Isa> {
        [Isa::Portable, Isa::Avx2, Isa::Avx512].into_iter().filter(|&isa| isa <= Isa::best())
    }

    /// The name printed by benches and `inspect`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
fn has(feature: &str) -> bool {
    match feature {
        "avx512f" => is_x86_feature_detected!("avx512f"),
        "avx512bw" => is_x86_feature_detected!("avx512bw"),
        "avx512dq" => is_x86_feature_detected!("avx512dq"),
        "avx512vl" => is_x86_feature_detected!("avx512vl"),
        "avx2" => is_x86_feature_detected!("avx2"),
        "fma" => is_x86_feature_detected!("fma"),
        _ => false,
    }
}

/// Defines `fn name(isa: Isa, args..) -> ret` whose body is compiled for every level. Helpers it calls must be
/// `#[inline(always)]` to be compiled with it; closures inside are. `return` leaves the body, not the dispatcher.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name(isa: $crate::isa::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx512($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
            match isa {
                // SAFETY: an `Isa` above `Portable` exists only where `Isa::best` found its features on this machine.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Isa::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Isa::Avx2 => unsafe { avx2($($arg),*) },
                $crate::isa::Isa::Portable => body($($arg),*),
                #[cfg(not(target_arch = "x86_64"))]
                $crate::isa::Isa::Avx2 | $crate::isa::Isa::Avx512 => body($($arg),*),
            }
        }
    };
}
pub(crate) use multiversion;
