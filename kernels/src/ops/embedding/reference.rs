//! The lookup as it reads.

/// y.
pub(crate) fn forward(d: usize, ids: &[u32], table: &[f64]) -> Vec<f64> {
    ids.iter().flat_map(|&id| table[id as usize * d..][..d].to_vec()).collect()
}

/// dtable.
pub(crate) fn backward(vocab: usize, ids: &[u32], dy: &[f64]) -> Vec<f64> {
    let d = dy.len() / ids.len();
    let mut dtable = vec![0.0; vocab * d];
    for (n, &id) in ids.iter().enumerate() {
        (0..d).for_each(|c| dtable[id as usize * d + c] += dy[n * d + c]);
    }
    dtable
}
