//! Weights to int8 and back, on the host.

/// The largest magnitude of a quantised number: symmetric, so that -128 is not used.
const LARGEST: f64 = 127.0;

/// q [o, i] and scales [o] of w [o, i]: scale_o = max_i |w_oi| / 127, q = round(w / scale), halves away from zero.
///
/// ```
/// # use galatea_kernels::ops::linear_int8::quantise_weights;
/// let (mut q, mut scales) = ([0; 4], [0.0; 2]);
/// quantise_weights(2, &[0.5, -1.27, 0.0, 0.0], &mut q, &mut scales);
/// assert_eq!((q, scales), ([50, -127, 0, 0], [0.01, 0.0]));
/// ```
///
/// # Panics
/// If the lengths do not fit.
pub fn quantise_weights(i: usize, w: &[f32], q: &mut [i8], scales: &mut [f32]) {
    assert_eq!((w.len(), scales.len() * i), (q.len(), q.len()), "rows of {i} weights");
    for ((w, q), scale) in w.chunks_exact(i).zip(q.chunks_exact_mut(i)).zip(scales) {
        let finite = w.iter().all(|w| w.is_finite());
        let largest = w.iter().fold(0.0f32, |largest, w| largest.max(w.abs()));
        *scale = if finite { (f64::from(largest) / LARGEST) as f32 } else { f32::NAN };
        if *scale < f32::MIN_POSITIVE {
            *scale = 0.0;
        }
        let inverse = if *scale > 0.0 { 1.0 / f64::from(*scale) } else { 0.0 };
        // A conversion from NaN is zero; the scale carries it.
        q.iter_mut().zip(w).for_each(|(q, &w)| *q = (f64::from(w) * inverse).round() as i8);
    }
}

/// w [o, i] = scale_o q.
///
/// # Panics
/// If the lengths do not fit.
pub fn dequantise_weights(i: usize, q: &[i8], scales: &[f32], w: &mut [f32]) {
    assert_eq!((w.len(), scales.len() * i), (q.len(), q.len()), "rows of {i} weights");
    for ((w, q), scale) in w.chunks_exact_mut(i).zip(q.chunks_exact(i)).zip(scales) {
        w.iter_mut().zip(q).for_each(|(w, &q)| *w = scale * f32::from(q));
    }
}

/// How far quantised weights are from what they were.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RelativeError {
    /// The largest difference, as a part of the largest weight.
    pub max: f64,
    /// The root of the mean square of the differences, as a part of that of the weights.
    pub rms: f64,
}

/// The error of scale_o q for w [o, i]; zero for weights that are all zero.
///
/// # Panics
/// If the lengths do not fit.
pub fn relative_error(i: usize, w: &[f32], q: &[i8], scales: &[f32]) -> RelativeError {
    assert_eq!((w.len(), scales.len() * i), (q.len(), q.len()), "rows of {i} weights");
    let (mut largest, mut squares, mut largest_difference, mut square_differences) = (0.0f64, 0.0, 0.0f64, 0.0);
    for ((w, q), &scale) in w.chunks_exact(i).zip(q.chunks_exact(i)).zip(scales) {
        for (&w, &q) in w.iter().zip(q) {
            let (w, difference) = (f64::from(w), f64::from(w) - f64::from(scale) * f64::from(q));
            (largest, largest_difference) = (largest.max(w.abs()), largest_difference.max(difference.abs()));
            (squares, square_differences) = (squares + w * w, square_differences + difference * difference);
        }
    }
    if largest == 0.0 {
        return RelativeError::default();
    }
    RelativeError { max: largest_difference / largest, rms: (square_differences / squares).sqrt() }
}
