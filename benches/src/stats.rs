//! The middle of some times and how far they scatter around it.

/// A series of times in one number each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// Half of the times are below it.
    pub(crate) median: f64,
    /// The quietest of them.
    pub(crate) min: f64,
    /// The median distance from the median: one disturbed time in many does not move it.
    pub(crate) mad: f64,
}

impl Spread {
    /// Of at least one time.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn of(times: &[f64]) -> Self {
        assert!(!times.is_empty(), "a spread of no times");
        let middle = median(times.to_vec());
        let mad = median(times.iter().map(|time| (time - middle).abs()).collect());
        Self { median: middle, min: times.iter().copied().fold(f64::INFINITY, f64::min), mad }
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    let half = times.len() / 2;
    if times.len() % 2 == 1 { times[half] } else { (times[half - 1] + times[half]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_disturbed_time_moves_neither_the_median_nor_the_scatter_far() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0, 4.0, 900.0]), Spread { median: 3.0, min: 1.0, mad: 1.0 });
        assert_eq!(Spread::of(&[2.0, 4.0]), Spread { median: 3.0, min: 2.0, mad: 1.0 });
        assert_eq!(Spread::of(&[7.0]), Spread { median: 7.0, min: 7.0, mad: 0.0 });
    }
}
