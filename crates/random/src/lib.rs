//! Counter-based random numbers: a draw is a function of its key, never of what was drawn before it.
//!
//! [`philox4x32_10`] maps a 64-bit key and a 128-bit counter to four words. A [`Philox`] fixes the key to
//! (seed, stream, step, row), so that every row of a batch owns its draws: the same bits come out for any number of
//! threads, any batch order, on the CPU and on a GPU.
//!
//! ```
//! use galatea_random::Philox;
//! let mut row = Philox::new(42, 1, 0, 7);
//! let (u, z) = (row.uniform(), row.normal());
//! assert_eq!((u, z), { let mut again = Philox::new(42, 1, 0, 7); (again.uniform(), again.normal()) });
//! ```
//!
//! # Source
//! Salmon, Moraes, Dror, Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3", section 3.3 (constants).
#![forbid(unsafe_code)]

use rand_core::RngCore;

/// The multipliers of a round, for kernels that run many blocks side by side.
pub const MULTIPLIER: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
/// What the key grows by after a round.
pub const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Ten rounds of Philox on one 128-bit counter under one 64-bit key.
#[inline]
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (mut c, mut k) = (counter, key);
    for _ in 0..10 {
        let low = u64::from(MULTIPLIER[0]) * u64::from(c[0]);
        let high = u64::from(MULTIPLIER[1]) * u64::from(c[2]);
        c = [(high >> 32) as u32 ^ c[1] ^ k[0], high as u32, (low >> 32) as u32 ^ c[3] ^ k[1], low as u32];
        k = [k[0].wrapping_add(WEYL[0]), k[1].wrapping_add(WEYL[1])];
    }
    c
}

/// The block of four words at (`seed`, `stream`, `step`, `row`, `block`): what a kernel calls per element group.
#[inline]
pub fn block(seed: u64, stream: u32, step: u32, row: u32, block: u32) -> [u32; 4] {
    philox4x32_10([block, row, step, stream], [seed as u32, (seed >> 32) as u32])
}

/// A word as a number in the open interval (0, 1), exact in `f32`: (top 23 bits + 1/2) / 2^23.
#[inline]
pub fn unit_f32(word: u32) -> f32 {
    ((word >> 9) as f32 + 0.5) * (1.0 / 8_388_608.0)
}

/// Two words as a number in the open interval (0, 1), exact in `f64`: (top 52 bits + 1/2) / 2^52.
#[inline]
pub fn unit_f64(words: [u32; 2]) -> f64 {
    let bits = (u64::from(words[0]) << 32 | u64::from(words[1])) >> 12;
    (bits as f64 + 0.5) * (1.0 / 4_503_599_627_370_496.0)
}

/// Two independent standard normals from two words (Box-Muller), in `f32`.
#[inline]
pub fn normal_pair_f32(words: [u32; 2]) -> [f32; 2] {
    let radius = (-2.0 * unit_f32(words[0]).ln()).sqrt();
    let (sin, cos) = (std::f32::consts::TAU * unit_f32(words[1])).sin_cos();
    [radius * cos, radius * sin]
}

/// The generator of one row: an [`RngCore`] whose whole state is its key and a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Philox {
    seed: u64,
    stream: u32,
    step: u32,
    row: u32,
    block: u32,
    words: [u32; 4],
    used: u8,
}

impl Philox {
    /// The draws of `row` at `step` of `stream` under `seed`. Streams separate purposes (time, noise, tokens).
    pub fn new(seed: u64, stream: u32, step: u32, row: u32) -> Self {
        Self { seed, stream, step, row, block: 0, words: [0; 4], used: 4 }
    }

    /// A uniform number in the open interval (0, 1).
    pub fn uniform(&mut self) -> f64 {
        let words = [self.next_u32(), self.next_u32()];
        unit_f64(words)
    }

    /// A standard normal number (Box-Muller; the second of the pair is dropped, so that draws never depend on parity).
    pub fn normal(&mut self) -> f64 {
        let (u, v) = (self.uniform(), self.uniform());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    /// A uniform integer below `n` by multiplication with 64 random bits (bias below n / 2^64).
    ///
    /// # Panics
    /// If `n` is zero: there is nothing to draw from.
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0, "Philox::below: cannot draw from zero outcomes");
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }
}

impl RngCore for Philox {
    fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.words = block(self.seed, self.stream, self.step, self.row, self.block);
            self.block = self.block.wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.words[usize::from(self.used) - 1]
    }

    fn next_u64(&mut self) -> u64 {
        u64::from(self.next_u32()) << 32 | u64::from(self.next_u32())
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(4) {
            chunk.copy_from_slice(&self.next_u32().to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers distributed with Random123 (`kat_vectors`, philox4x32 10).
    #[test]
    fn known_answers() {
        assert_eq!(philox4x32_10([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32_10([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox4x32_10([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn rows_streams_steps_and_seeds_differ() {
        let draw = |seed, stream, step, row| Philox::new(seed, stream, step, row).next_u64();
        let base = draw(1, 2, 3, 4);
        for other in [draw(2, 2, 3, 4), draw(1, 3, 3, 4), draw(1, 2, 4, 4), draw(1, 2, 3, 5), draw(1 << 40, 2, 3, 4)] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn unit_never_reaches_its_ends() {
        for word in [0, u32::MAX] {
            assert!(unit_f32(word) > 0.0 && unit_f32(word) < 1.0);
            assert!(unit_f64([word; 2]) > 0.0 && unit_f64([word; 2]) < 1.0);
        }
    }

    #[test]
    fn moments_of_uniform_and_normal() {
        let n = 100_000;
        let mut rng = Philox::new(7, 0, 0, 0);
        let (mut mean, mut square, mut fourth, mut uniform) = (0.0, 0.0, 0.0, 0.0);
        for _ in 0..n {
            let z = rng.normal();
            mean += z / n as f64;
            square += z * z / n as f64;
            fourth += z.powi(4) / n as f64;
            uniform += rng.uniform() / n as f64;
        }
        // Four standard errors of each mean.
        assert!(mean.abs() < 0.013, "{mean}");
        assert!((square - 1.0).abs() < 0.018, "{square}");
        assert!((fourth - 3.0).abs() < 0.13, "{fourth}");
        assert!((uniform - 0.5).abs() < 0.004, "{uniform}");
    }

    #[test]
    fn ndarray_rand_takes_it() {
        use ndarray_rand::RandomExt;
        use ndarray_rand::rand_distr::StandardNormal;
        let draw = || ndarray::Array2::<f32>::random_using((3, 5), StandardNormal, &mut Philox::new(1, 2, 3, 4));
        let x = draw();
        assert_eq!(x, draw());
        assert!(x.iter().all(|x| x.is_finite()) && x.iter().any(|x| *x < 0.0) && x.iter().any(|x| *x > 0.0));
    }

    #[test]
    fn below_is_uniform() {
        let mut rng = Philox::new(3, 0, 0, 0);
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[rng.below(7)] += 1;
        }
        let chi_square: f64 = counts.iter().map(|&c| (f64::from(c) - 1e4).powi(2) / 1e4).sum();
        assert!(chi_square < 22.5, "six degrees of freedom, 0.1 %: {chi_square}");
    }
}
