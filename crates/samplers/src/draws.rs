//! Random numbers by key: what a sampler draws is a function of (seed, stream, step, row), never of what was drawn before.
//!
//! The row is (sample · len + position), where the sample is counted from the option `first_sample`. So a text depends
//! neither on the other rows of its batch nor on threads, and eight samples in one batch equal eight batches of one.

use crate::ancestral::Reverse;
use crate::error::parameter;
use crate::{Error, filter};
use galatea_random::Philox;

/// The streams of the generator that samplers read, for whoever repeats a sampler on another device.
pub mod stream {
    /// Two uniforms per position and step: the route or the priority, then the token.
    pub const TOKENS: u32 = 16;
    /// The canvas at t = 1: one integer below the vocabulary's size, or d normals, per position.
    pub const START: u32 = 17;
    /// The noise of a Gaussian step: d normals per position.
    pub const NOISE: u32 = 18;
    /// The noise on given embeddings: d normals per position.
    pub const KNOWN: u32 = 19;
}

/// Where a draw belongs: a step of the sampler and a row of the flattened canvas \[batch · len\].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) step: u32,
    pub(crate) row: u32,
}

/// The source of a sampler's random numbers. There is one in use; the tests have others, which replay recorded numbers.
pub(crate) trait Draws: Send {
    /// Two uniforms in (0, 1).
    fn uniforms(&mut self, at: At) -> [f64; 2];

    /// The first token of a position under uniform noise.
    fn start_token(&mut self, row: u32, vocab: usize) -> u32;

    /// Standard normals of `stream`, none beyond `bound` where there is one.
    fn normals(&mut self, stream: u32, at: At, bound: Option<f64>, out: &mut [f64]);

    /// The priority of a position in a random order.
    fn priority(&mut self, at: At) -> f64 {
        self.uniforms(at)[0]
    }

    /// A token from p \[vocab\].
    fn token(&mut self, at: At, p: &[f64]) -> usize {
        filter::draw(p, self.uniforms(at)[1])
    }

    /// The token after a reverse step; `None` if its logits cannot be read.
    fn reverse(&mut self, at: At, reverse: &mut Reverse<'_>) -> Option<u32> {
        reverse.draw(self.uniforms(at))
    }
}

/// The draws of a seed.
pub(crate) struct Keyed {
    seed: u64,
    first_row: u32,
}

impl Keyed {
    pub(crate) fn new(seed: u64, first_sample: u32, (batch, len): (usize, usize)) -> Result<Self, Error> {
        let rows = (u64::from(first_sample) + batch as u64).saturating_mul(len as u64);
        let expected = "such that (first_sample + batch) len is at most 2^32; take another seed";
        parameter("first_sample", expected, f64::from(first_sample), rows <= 1 << 32)?;
        Ok(Self { seed, first_row: (u64::from(first_sample) * len as u64) as u32 })
    }

    fn philox(&self, stream: u32, at: At) -> Philox {
        Philox::new(self.seed, stream, at.step, self.first_row + at.row)
    }
}

impl Draws for Keyed {
    fn uniforms(&mut self, at: At) -> [f64; 2] {
        let mut philox = self.philox(stream::TOKENS, at);
        [philox.uniform(), philox.uniform()]
    }

    fn start_token(&mut self, row: u32, vocab: usize) -> u32 {
        self.philox(stream::START, At { step: 0, row }).below(vocab) as u32
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
