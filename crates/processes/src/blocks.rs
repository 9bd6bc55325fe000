//! Noise block by block: a time for each block of a text, and a share of masks that stays within bounds.

use crate::Error;
use crate::error::same_shape;
use galatea_random::{block, unit_f64};
use ndarray::ArrayRef2;

/// The smallest and the largest share of noise that a block is trained on: t ~ U\[low, high\].
///
/// # Source
/// Arriola et al. (2025), "Block diffusion" (BD3-LM), the clipped schedules found by a search over the variance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    low: f64,
    high: f64,
}

impl Bounds {
    /// The bounds 0 <= `low` <= `high` <= 1.
    ///
    /// # Errors
    /// [`Error::Parameter`] for any other pair.
    pub fn new(low: f64, high: f64) -> Result<Self, Error> {
        let error = |parameter, expected, found| Err(Error::Parameter { parameter, expected, found });
        if !(0.0..=1.0).contains(&low) {
            return error("the lower bound", "in [0, 1]", low);
        }
        if !(high >= low && high <= 1.0) {
            return error("the upper bound", "at least the lower one and at most 1", high);
        }
        Ok(Self { low, high })
    }

    /// All intervals whose ends are multiples of 1 / `divisions` and that cover at least half of \[0, 1\]: the candidates of a
    /// [`search`].
    ///
    /// # Panics
    /// If `divisions` is 0.
    ///
    /// # Source
    /// Arriola et al. (2025), BD3-LM, the grid of its search (widths of 0.5 and more).
    pub fn grid(divisions: usize) -> Vec<Self> {
        assert!(divisions > 0, "a grid has at least one interval");
        let at = |k: usize| k as f64 / divisions as f64;
        let starts = 0..=divisions - divisions.div_ceil(2);
        let wide = |low: usize| (low + divisions.div_ceil(2)..=divisions).map(move |high| (low, high));
        starts.flat_map(wide).map(|(low, high)| Self { low: at(low), high: at(high) }).collect()
    }

    /// The smallest share.
    pub fn low(&self) -> f64 {
        self.low
    }

    /// The largest share.
    pub fn high(&self) -> f64 {
        self.high
    }

    /// Moves a time of \[0, 1\] into the bounds: low + (high - low) u.
    pub fn place(&self, u: f64) -> f64 {
        self.low + (self.high - self.low) * u
    }

    /// Whether `masks` of `size` tokens are a share within the bounds.
    pub fn hold(&self, masks: usize, size: usize) -> bool {
        let share = masks as f64 / size as f64;
        (self.low..=self.high).contains(&share)
    }
}

/// The bounds under which the losses of a network vary least, and their variance: the gradient follows the loss, so that what
/// trains with little noise is what costs about the same whatever is drawn.
///
/// `losses(bounds)` are losses of rows at times drawn within the bounds; the same rows and the same random numbers for all of
/// them let the comparison see the bounds alone. Of equals the first wins; `None` where no candidate has a finite variance.
///
/// # Errors
/// The first error of `losses`.
///
/// # Source
/// Arriola et al. (2025), BD3-LM, section 5.2: min over (low, high) of the variance of the loss.
pub fn search<E>(
    candidates: impl IntoIterator<Item = Bounds>,
    mut losses: impl FnMut(Bounds) -> Result<Vec<f64>, E>,
) -> Result<Option<(Bounds, f64)>, E> {
    let mut best: Option<(Bounds, f64)> = None;
    for bounds in candidates {
        let losses = losses(bounds)?;
        let n = losses.len() as f64;
        let mean = losses.iter().sum::<f64>() / n;
        let variance = losses.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / (n - 1.0);
        if variance.is_finite() && best.is_none_or(|(_, least)| variance < least) {
            best = Some((bounds, variance));
        }
    }
    Ok(best)
}

/// Masks every token with the probability `t` of its block; a block whose share of masks is outside the bounds is drawn again.
///
/// `uniform(attempt, row, position)` gives the numbers in (0, 1) to compare with t. [`keyed`] makes them from a key, so that a draw
/// depends neither on the batch's size nor on other blocks.
///
/// # Shapes
/// `x_0` and `x_t` \[batch, len\]; `t` \[batch, blocks\], blocks dividing len.
///
/// # Errors
/// [`Error::Shape`] if the shapes do not fit, [`Error::Parameter`] for a time outside the bounds (a block might never come
/// within them) or bounds between two neighbouring numbers of masks.
pub fn mask_within(
    bounds: Bounds,
    mask: u32,
    x_0: &ArrayRef2<u32>,
    t: &ArrayRef2<f64>,
    mut uniform: impl FnMut(usize, usize, usize) -> f64,
    x_t: &mut ArrayRef2<u32>,
) -> Result<(), Error> {
    let (len, blocks) = (x_0.ncols(), t.ncols());
    same_shape("x_t", x_0.shape(), x_t.shape())?;
    if blocks == 0 || !len.is_multiple_of(blocks) {
        let (expected, found) = (vec![x_0.nrows(), 1], t.shape().to_vec());
        return Err(Error::Shape { array: "t (its blocks must divide the row)", expected, found });
    }
    same_shape("t", &[x_0.nrows(), blocks], t.shape())?;
    let size = len / blocks;
    if !(0..=size).any(|masks| bounds.hold(masks, size)) {
        let expected = "far enough from the lower bound for some number of a block's tokens to lie between";
        return Err(Error::Parameter { parameter: "the upper bound", expected, found: bounds.high });
    }
    for ((row, b), &t) in t.indexed_iter() {
        if !(t >= bounds.low && t <= bounds.high) {
            return Err(Error::Parameter { parameter: "a block's time", expected: "within the bounds", found: t });
        }
        let mut attempt = 0;
        loop {
            let mut masks = 0;
            for position in b * size..(b + 1) * size {
                let masked = uniform(attempt, row, position) <= t;
                x_t[[row, position]] = if masked { mask } else { x_0[[row, position]] };
                masks += usize::from(masked);
            }
            if bounds.hold(masks, size) {
                break;
            }
            attempt += 1;
        }
    }
    Ok(())
}

/// The numbers of [`mask_within`] under a key: attempt a at position l of row b reads block a len + l of the counter (`seed`,
/// `stream`, `step`, b).
pub fn keyed(seed: u64, stream: u32, step: u32, len: usize) -> impl FnMut(usize, usize, usize) -> f64 {
    move |attempt, row, position| {
        let words = block(seed, stream, step, row as u32, (attempt * len + position) as u32);
        unit_f64([words[0], words[1]])
    }
}
