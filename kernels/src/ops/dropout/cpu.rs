use crate::cpu::Cores;
use crate::isa::{Isa, multiversion};
use crate::philox::{Key, WORDS};
use crate::real::Real;

/// Elements of one task.
const GRAIN: usize = 8192;

/// y = x keep / (1 - p) for x with rows of `d`; on dy it is the backward pass.
pub fn forward<X: Real>(cores: &Cores, p: f32, stream: u32, d: usize, x: &[X], rng: &[u32], y: &mut [X]) {
    let mask = Mask::new(p, stream, rng);
    cores.pool.rows(y, d, GRAIN.div_ceil(d), |first, y| {
        mask.rows(cores.isa, first, d, &x[first * d..][..y.len()], y);
    });
}

/// The least word that keeps its element where zero has probability `p`, and what it is scaled by.
pub(crate) fn law(p: f32) -> (u32, f32) {
    // A word's uniform number is (word / 2^9 + 1/2) / 2^23: it reaches p from this integer on, exactly.
    let least = (f64::from(p) * 8_388_608.0 - 0.5).ceil().max(0.0) as u32;
    (least << 9, 1.0 / (1.0 - p))
}

/// The mask of one run: a function of the row and the element.
#[derive(Clone, Copy)]
pub(crate) struct Mask {
    key: Key,
    /// The least word that keeps its element.
    least: u32,
    scale: f32,
}

impl Mask {
    /// Zero with probability `p`.
    pub(crate) fn new(p: f32, stream: u32, rng: &[u32]) -> Self {
        let (least, scale) = law(p);
        Self { key: Key::new(rng, stream), least, scale }
    }

    /// The least word that keeps its element.
    #[cfg(test)]
    pub(crate) fn least(self) -> u32 {
        self.least
    }

    /// y = x keep / (1 - p) for rows of `d` from `first` on.
    pub(crate) fn rows<X: Real>(self, isa: Isa, first: usize, d: usize, x: &[X], y: &mut [X]) {
        drop_rows(isa, self, first, d, x, y);
    }

    /// y = f(x keep / (1 - p), z) for the elements of `row`.
    #[inline(always)]
    pub(crate) fn map<X: Real>(self, row: usize, x: &[X], z: &[X], y: &mut [X], f: impl Fn(f32, f32) -> f32) {
        let Self { key, least, scale } = self;
        let each = |word: u32, x: &X, z: &X| f(if word >= least { x.load() * scale } else { 0.0 }, z.load());
        let ((xs, x), (zs, z), (ys, y)) = (x.as_chunks::<WORDS>(), z.as_chunks::<WORDS>(), y.as_chunks_mut::<WORDS>());
        let words = |i: usize| key.words(row as u32, (i * WORDS / 4) as u32);
        for (i, ((x, z), y)) in xs.iter().zip(zs).zip(ys).enumerate() {
            let words = words(i);
            for j in 0..WORDS {
                y[j] = X::store(each(words[j], &x[j], &z[j]));
            }
        }
        if !x.is_empty() {
            for (((y, word), x), z) in y.iter_mut().zip(words(xs.len())).zip(x).zip(z) {
                *y = X::store(each(word, x, z));
            }
        }
    }
}

multiversion! {
    fn drop_rows<X: Real>(mask: Mask, first: usize, d: usize, x: &[X], y: &mut [X]) {
        for (row, (x, y)) in (first..).zip(x.chunks_exact(d).zip(y.chunks_exact_mut(d))) {
            mask.map(row, x, x, y, |x, _| x);
        }
    }
}
