//! Philox blocks side by side: what a kernel draws for a run of a row's elements.

use galatea_random::{MULTIPLIER, WEYL};

/// Blocks drawn together; each is four words.
pub(crate) const BLOCKS: usize = 16;

/// Words of one call of [`Key::words`].
pub(crate) const WORDS: usize = 4 * BLOCKS;

/// What the draws of a row are a function of, beside the element's position.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    seed: [u32; 2],
    step: u32,
    stream: u32,
}

impl Key {
    /// The key of a stream under an op's `rng` (seed low, seed high, step, 0).
    pub(crate) fn new(rng: &[u32], stream: u32) -> Self {
        Self { seed: [rng[0], rng[1]], step: rng[2], stream }
    }

    /// The words of blocks `first..first + 16` of `row`: word i of the result belongs to element `4 first + i` of the row.
    #[inline(always)]
    pub(crate) fn words(self, row: u32, first: u32) -> [u32; WORDS] {
        let [a, b, c, d] = self.blocks(&[row; BLOCKS], &std::array::from_fn(|i| first.wrapping_add(i as u32)));
        let mut words = [0; WORDS];
        for (i, words) in words.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            *words = [a[i], b[i], c[i], d[i]];
        }
        words
    }

    /// Blocks side by side: the first words of all of them, the second, the third and the fourth.
    ///
    /// A word stands in the low half of a 64-bit lane; the multiplication reads that half alone, and the upper half of its
    /// product is the other word, so that no lane is packed or widened within the ten rounds.
    #[inline(always)]
    pub(crate) fn blocks(self, rows: &[u32; BLOCKS], indices: &[u32; BLOCKS]) -> [[u32; BLOCKS]; 4] {
        let low = |x: u64| x & 0xffff_ffff;
        let (mut a, mut b) = (indices.map(u64::from), rows.map(u64::from));
        let mut c = [u64::from(self.step); BLOCKS];
        let mut d = [u64::from(self.stream); BLOCKS];
        let mut key = self.seed;
        for _ in 0..10 {
            for i in 0..BLOCKS {
                let (p, q) = (u64::from(MULTIPLIER[0]) * low(a[i]), u64::from(MULTIPLIER[1]) * low(c[i]));
                a[i] = (q >> 32) ^ b[i] ^ u64::from(key[0]);
                c[i] = (p >> 32) ^ d[i] ^ u64::from(key[1]);
                (b[i], d[i]) = (q, p);
            }
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        let mut words = [[0; BLOCKS]; 4];
        for (words, found) in words.iter_mut().zip([a, b, c, d]) {
            for i in 0..BLOCKS {
                words[i] = found[i] as u32;
            }
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_blocks() {
        for (seed, stream, step, row, first) in
            [(0u64, 0, 0, 0, 0), (u64::MAX, 9, u32::MAX, 3, 77), (5 << 33, 1, 2, 8, 16)]
        {
            let key = Key::new(&[seed as u32, (seed >> 32) as u32, step, 0], stream);
            for (i, words) in key.words(row, first).as_chunks::<4>().0.iter().enumerate() {
                assert_eq!(*words, galatea_random::block(seed, stream, step, row, first + i as u32));
            }
        }
    }
}
