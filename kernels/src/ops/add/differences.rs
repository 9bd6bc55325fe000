//! The independent truth of every gradient: finite differences of the forward reference.

use galatea_fixtures::derivative;

/// Checks `gradients` (one a tensor of `inputs`, in the same order) of L = sum_i dy_i forward(inputs)_i, element by
/// element.
#[track_caller]
pub(crate) fn check_gradients(
    inputs: &[Vec<f64>],
    dy: &[f64],
    gradients: &[Vec<f64>],
    forward: impl Fn(&[Vec<f64>]) -> Vec<f64>,
) {
    assert_eq!(inputs.len(), gradients.len(), "one gradient an input");
    for (k, gradient) in gradients.iter().enumerate() {
        assert_eq!(gradient.len(), inputs[k].len(), "the gradient of input {k}");
        for (i, gradient) in gradient.iter().enumerate() {
            let along = |x: f64| {
                let mut inputs = inputs.to_vec();
                inputs[k][i] = x;
                let y = forward(&inputs);
                assert_eq!(y.len(), dy.len(), "one dy an output");
                y.iter().zip(dy).map(|(y, dy)| y * dy).sum::<f64>()
            };
            let found = derivative(along, inputs[k][i], 1e-3);
            assert!((found - gradient).abs() < 1e-8 * (1.0 + gradient.abs()), "input {k}, {i}: {found} and {gradient}");
        }
    }
}
