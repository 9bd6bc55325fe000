//! Finite differences.

/// df/dx at `x` by the four-point rule (error of order h^4): the independent truth for every gradient.
pub fn derivative(mut f: impl FnMut(f64) -> f64, x: f64, h: f64) -> f64 {
    (8.0 * (f(x + h) - f(x - h)) - (f(x + 2.0 * h) - f(x - 2.0 * h))) / (12.0 * h)
}

#[cfg(test)]
mod tests {
    #[test]
    fn four_point_rule_is_exact_for_cubics() {
        let f = |x: f64| 2.0 * x.powi(3) - x.powi(2) + 5.0;
        assert!((super::derivative(f, 1.5, 0.1) - (6.0 * 2.25 - 3.0)).abs() < 1e-10);
    }
}
