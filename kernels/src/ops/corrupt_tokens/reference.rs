//! The law of a corrupted token, not its draw: what frequencies must approach.

use crate::op::Limit;

/// q(x_t | x_0) over `vocab` ids; `masked` is the hybrid's share of masks.
pub(crate) fn law(limit: Limit, vocab: usize, x_0: u32, alpha_bar: f64, masked: f64) -> Vec<f64> {
    let mut q = vec![0.0; vocab];
    q[x_0 as usize] = alpha_bar;
    match limit {
        Limit::Mask(mask) => q[mask as usize] += 1.0 - alpha_bar,
        Limit::Hybrid { ids, mask } => {
            let other = (1.0 - alpha_bar - masked) / f64::from(ids);
            (0..vocab).for_each(|j| q[j] += if j == mask as usize { masked } else { other });
        }
        Limit::Uniform(ids) => (0..ids as usize).for_each(|j| q[j] += (1.0 - alpha_bar) / f64::from(ids)),
    }
    q
}
