//! The squared error and its gradient as loops.

/// (loss, error).
pub(crate) fn forward(prediction: &[f64], target: &[f64], w: &[f64]) -> (f64, Vec<f64>) {
    let d = prediction.len() / w.len();
    let error: Vec<f64> =
        (0..w.len()).map(|n| (0..d).map(|i| (prediction[n * d + i] - target[n * d + i]).powi(2)).sum()).collect();
    ((0..w.len()).map(|n| w[n] * error[n]).sum(), error)
}

/// (dprediction, dtarget).
pub(crate) fn backward(prediction: &[f64], target: &[f64], w: &[f64], dloss: f64) -> (Vec<f64>, Vec<f64>) {
    let d = prediction.len() / w.len();
    let gradient: Vec<f64> =
        (0..prediction.len()).map(|i| 2.0 * dloss * w[i / d] * (prediction[i] - target[i])).collect();
    (gradient.clone(), gradient.iter().map(|g| -g).collect())
}
