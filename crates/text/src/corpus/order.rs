//! Which row a training step reads, from its number alone.

use galatea_random::block;

use crate::Error;

/// The stream of [`galatea_random`] that orders rows.
const STREAM: u32 = 0x4f52_4452;
/// Enough for the pairs of neighbours to be indistinguishable from independent draws (tested below).
const ROUNDS: u32 = 8;

/// A shuffled order of rows for every epoch, computed where it is asked for: no buffer, no state, nothing to save.
///
/// Position i of epoch e reads row pi_e(i), where pi_e is a permutation keyed by (seed, e): a Feistel network over
/// \[0, a) x \[0, b) with a b >= rows, whose outputs beyond the rows are encrypted again until they fall inside.
/// A run that resumes needs its step number only.
///
/// ```
/// use galatea_text::Order;
/// let order = Order::new(7, 10)?;
/// let mut epoch: Vec<usize> = (0..10).map(|position| order.row(0, position)).collect();
/// assert_eq!(order.batch(1, 4).collect::<Vec<_>>(), epoch[4..8]);
/// epoch.sort();
/// assert_eq!(epoch, (0..10).collect::<Vec<_>>());
/// # Ok::<(), galatea_text::Error>(())
/// ```
///
/// # Source
/// Black and Rogaway (2002), "Ciphers with arbitrary finite domains", sections 4 (cycle walking) and 5 (generalized
/// Feistel), with Philox as the round function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    seed: u64,
    rows: u64,
    a: u64,
    b: u64,
}

impl Order {
    /// The order of `rows` rows under `seed`.
    ///
    /// # Errors
    /// [`Error::Setting`] where `rows` is 0.
    pub fn new(seed: u64, rows: usize) -> Result<Self, Error> {
        if rows == 0 {
            return Err(Error::Setting { name: "the number of rows", expected: "at least 1", found: 0.0 });
        }
        let rows = rows as u64;
        let root = rows.isqrt();
        let a = root + u64::from(root * root < rows);
        Ok(Self { seed, rows, a, b: rows.div_ceil(a) })
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows as usize
    }

    /// The row at `position` of `epoch`. Positions from [`Order::rows`] on run into the next epochs.
    pub fn row(&self, epoch: u64, position: u64) -> usize {
        let (epoch, mut x) = (epoch.wrapping_add(position / self.rows), position % self.rows);
        loop {
            x = self.permute(epoch, x);
            // The walk stays on the cycle that it started on, and that start is a row: it comes back to one.
            if x < self.rows {
                return x as usize;
            }
        }
    }

    /// The epoch that training step `step` of `batch` rows starts in.
    pub fn epoch(&self, step: u64, batch: usize) -> u64 {
        (u128::from(step) * batch as u128 / u128::from(self.rows)) as u64
    }

    /// The `batch` rows of training step `step`: steps follow each other without a gap, across epochs too.
    pub fn batch(&self, step: u64, batch: usize) -> impl ExactSizeIterator<Item = usize> + use<> {
        let (order, epoch) = (*self, self.epoch(step, batch));
        let start = (u128::from(step) * batch as u128 % u128::from(self.rows)) as u64;
        (0..batch).map(move |index| order.row(epoch, start + index as u64))
    }

    /// One permutation of \[0, a b): each round adds to one half a number that the other half determines.
    fn permute(&self, epoch: u64, x: u64) -> u64 {
        let (mut left, mut right) = (x / self.b, x % self.b);
        for round in 0..ROUNDS {
            if round % 2 == 0 {
                left = (left + self.draw(epoch, round, right, self.a)) % self.a;
            } else {
                right = (right + self.draw(epoch, round, left, self.b)) % self.b;
            }
        }
        left * self.b + right
    }

    /// A number below `n` from (seed, epoch, round, half). Halves are below 2^32: they are roots of a 64-bit number.
    fn draw(&self, epoch: u64, round: u32, half: u64, n: u64) -> u64 {
        // The round and the upper half of the epoch share a word: 2^28 times 2^32 epochs are not reached.
        let words = block(self.seed, STREAM, epoch as u32, ((epoch >> 32) as u32) << 4 | round, half as u32);
        ((u128::from(u64::from(words[0]) << 32 | u64::from(words[1])) * u128::from(n)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn an_epoch_is_a_permutation(seed: u64, epoch: u64, rows in 1..600usize) {
            let order = Order::new(seed, rows)?;
            let mut seen = vec![false; rows];
            for position in 0..rows as u64 {
                let row = order.row(epoch, position);
                prop_assert!(!std::mem::replace(&mut seen[row], true), "row {} twice", row);
            }
        }

        #[test]
        fn a_step_is_known_without_the_steps_before_it(seed: u64, rows in 1..40usize, batch in 1..50usize, step in 0..20u64) {
            let order = Order::new(seed, rows)?;
            let stream: Vec<usize> = (0..).flat_map(|epoch| (0..rows as u64).map(move |position| (epoch, position)))
                .map(|(epoch, position)| order.row(epoch, position))
                .skip(step as usize * batch).take(batch).collect();
            prop_assert_eq!(order.batch(step, batch).collect::<Vec<_>>(), stream);
            prop_assert_eq!(order.epoch(step, batch), (step as usize * batch / rows) as u64);
        }

        #[test]
        fn large_orders_stay_in_range(seed: u64, rows in 1usize << 32..1 << 60, position: u64) {
            prop_assert!(Order::new(seed, rows)?.row(3, position) < rows);
        }
    }

    #[test]
    fn epochs_and_seeds_differ_and_a_seed_reproduces() {
        let epoch = |seed, epoch| {
            let order = Order::new(seed, 100).expect("rows");
            (0..100).map(|position| order.row(epoch, position)).collect::<Vec<_>>()
        };
        assert_eq!(epoch(1, 0), epoch(1, 0));
        for other in [epoch(2, 0), epoch(1, 1), epoch(1 << 40, 0), epoch(1, 1 << 32), epoch(1, 1 << 33)] {
            let same = epoch(1, 0).iter().zip(&other).filter(|(a, b)| a == b).count();
            // Two random permutations agree in one place on average (Poisson): ten is beyond one in 10^7.
            assert!(same < 10, "{same} of 100 rows at the same place");
        }
    }

    /// Over many epochs every ordered pair of rows is equally often the first two.
    #[test]
    fn pairs_of_neighbours_are_uniform() {
        for (rows, limit) in [(2, 10.9), (3, 20.6), (5, 43.9), (7, 74.8), (12, 185.0)] {
            let order = Order::new(11, rows).expect("rows");
            let cells = rows * (rows - 1);
            let epochs = 500 * cells as u64;
            let mut counts = vec![0u32; rows * rows];
            for epoch in 0..epochs {
                counts[order.row(epoch, 0) * rows + order.row(epoch, 1)] += 1;
            }
            let off_diagonal = counts.iter().enumerate().filter(|(at, _)| at / rows != at % rows);
            let chi_square: f64 = off_diagonal.map(|(_, &c)| (f64::from(c) - 500.0).powi(2) / 500.0).sum();
            assert!(chi_square < limit, "{rows} rows, {} degrees of freedom, 0.1 %: {chi_square}", cells - 1);
        }
    }

    #[test]
    fn no_rows_have_no_order() {
        assert!(matches!(Order::new(1, 0), Err(Error::Setting { .. })));
    }
}
