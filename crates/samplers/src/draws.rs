//! Random numbers by key: what a sampler draws is a function of (seed, stream, step, row), never of what was drawn before.
//!
//! The row is (sample · len + position), where the sample is counted from the option `first_sample`. So a text depends
//! neither on the other rows of its batch nor on threads, and eight samples in one batch equal eight batches of one.
//!
//! **Bring your own random numbers.** Every sampler has a `with_draws` beside its `new`, which takes any [`Draws`]: a
//! hardware generator, a quasi-random sequence, numbers recorded from another implementation. A sampler says which
//! number it wants (a [`stream`], a place [`At`], how many), and an implementation needs to supply uniforms only.
//!
//! ```
//! use galatea_samplers::{At, Draws};
//! /// The fractional parts of multiples of the golden ratio, in the order in which they are asked for.
//! struct Golden(u32);
//! impl Draws for Golden {
//!     fn uniforms(&mut self, _: u32, _: At, out: &mut [f64]) {
//!         for u in out {
//!             self.0 += 1;
//!             *u = (f64::from(self.0) * 0.618_033_988_749_895).fract();
//!         }
//!     }
//! }
//! assert!(Golden(0).below(0, At { step: 0, row: 0 }, 10) < 10);
//! ```

use crate::Error;
use crate::error::parameter;
use galatea_random::Philox;

/// The streams of the generator that samplers read, for whoever repeats a sampler on another device or replays numbers.
pub mod stream {
    /// A token: two uniforms per position and step, the route and the token; or one per id of the vocabulary, as the
    /// [`Idiom`](crate::Idiom) asks.
    pub const TOKENS: u32 = 16;
    /// The canvas at t = 1: one integer below the vocabulary's size, or d normals, per position.
    pub const START: u32 = 17;
    /// The noise of a Gaussian step: d normals per position.
    pub const NOISE: u32 = 18;
    /// The noise on given embeddings: d normals per position.
    pub const KNOWN: u32 = 19;
    /// A random order: one uniform per position, or one integer per row.
    pub const ORDER: u32 = 20;
    /// Whether a position jumps: one uniform per position.
    pub const JUMP: u32 = 21;
    /// Where a jumping position goes: a token.
    pub const TARGET: u32 = 22;
    /// The positions that a corrector draws again: one uniform per position.
    pub const CHOICE: u32 = 23;
    /// The tokens that a corrector draws.
    pub const CORRECTION: u32 = 24;
    /// The time of the next event: one uniform per row.
    pub const TIME: u32 = 25;
    /// The noise that takes embeddings back to where a step began: d normals per position.
    pub const RESAMPLING: u32 = 26;
    /// What a rejected token is replaced by: one integer per position.
    pub const RENOISING: u32 = 27;
}

/// Where a draw belongs: a step of the sampler and a row of the flattened canvas \[batch · len\] (the first of a sample,
/// for the draws that all of it has in common).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct At {
    /// The step, counted from 0.
    pub step: u32,
    /// sample · len + position.
    pub row: u32,
}

/// The source of a sampler's random numbers.
///
/// Only [`uniforms`](Self::uniforms) has to be written; the others are made of them.
pub trait Draws: Send {
    /// Fills `out` with independent uniforms of (0, 1).
    fn uniforms(&mut self, stream: u32, at: At, out: &mut [f64]);

    /// Fills `out` with independent exponentials of rate 1.
    fn exponentials(&mut self, stream: u32, at: At, out: &mut [f64]) {
        self.uniforms(stream, at, out);
        out.iter_mut().for_each(|u| *u = -u.ln());
    }

    /// An integer below `n`.
    fn below(&mut self, stream: u32, at: At, n: usize) -> usize {
        let mut u = [0.0];
        self.uniforms(stream, at, &mut u);
        ((u[0] * n as f64) as usize).min(n.saturating_sub(1))
    }

    /// Fills `out` with standard normals, none beyond `bound` where there is one.
    fn normals(&mut self, stream: u32, at: At, bound: Option<f64>, out: &mut [f64]) {
        let mut pair = [0.0; 2];
        for z in out {
            loop {
                self.uniforms(stream, at, &mut pair);
                *z = (-2.0 * pair[0].ln()).sqrt() * (std::f64::consts::TAU * pair[1]).cos();
                if bound.is_none_or(|bound| z.abs() <= bound) {
                    break;
                }
            }
        }
    }
}

impl<D: Draws + ?Sized> Draws for Box<D> {
    fn uniforms(&mut self, stream: u32, at: At, out: &mut [f64]) {
        (**self).uniforms(stream, at, out);
    }
    fn exponentials(&mut self, stream: u32, at: At, out: &mut [f64]) {
        (**self).exponentials(stream, at, out);
    }
    fn below(&mut self, stream: u32, at: At, n: usize) -> usize {
        (**self).below(stream, at, n)
    }
    fn normals(&mut self, stream: u32, at: At, bound: Option<f64>, out: &mut [f64]) {
        (**self).normals(stream, at, bound, out);
    }
}

/// The draws of a seed: Philox keyed by (seed, stream, step, row).
#[derive(Clone, Debug)]
pub struct Keyed {
    seed: u64,
    first_row: u32,
}

impl Keyed {
    /// The draws of `seed` for a canvas of (batch, len) whose first row is sample number `first_sample`.
    ///
    /// # Errors
    /// [`Error::Parameter`] if (first_sample + batch) len exceeds 2^32, the number of rows under one seed.
    pub fn new(seed: u64, first_sample: u32, (batch, len): (usize, usize)) -> Result<Self, Error> {
        let rows = (u64::from(first_sample) + batch as u64).saturating_mul(len as u64);
        let expected = "such that (first_sample + batch) len is at most 2^32; take another seed";
        parameter("first_sample", expected, f64::from(first_sample), rows <= 1 << 32)?;
        Ok(Self { seed, first_row: (u64::from(first_sample) * len as u64) as u32 })
    }

    fn philox(&self, stream: u32, at: At) -> Philox {
        Philox::new(self.seed, stream, at.step, self.first_row.wrapping_add(at.row))
    }
}

impl Draws for Keyed {
    fn uniforms(&mut self, stream: u32, at: At, out: &mut [f64]) {
        let mut philox = self.philox(stream, at);
        out.iter_mut().for_each(|u| *u = philox.uniform());
    }

    fn below(&mut self, stream: u32, at: At, n: usize) -> usize {
        self.philox(stream, at).below(n)
    }

    fn normals(&mut self, stream: u32, at: At, bound: Option<f64>, out: &mut [f64]) {
        let mut philox = self.philox(stream, at);
        for z in out {
            *z = philox.normal();
            while bound.is_some_and(|bound| z.abs() > bound) {
                *z = philox.normal();
            }
        }
    }
}
