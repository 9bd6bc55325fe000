//! The weight of a class as its definition reads.

pub(crate) fn forward(mask: Option<u32>, x_0: &[u32], x_t: &[u32], b: usize, weight: &[f64]) -> Vec<f64> {
    let (len, width) = (x_0.len() / b, weight.len() / b);
    let mut w = Vec::new();
    for row in 0..b {
        for position in 0..len {
            let n = row * len + position;
            // The group that this position lies in.
            let group = (0..width / 3).find(|g| position < (g + 1) * len / (width / 3)).expect("groups cover the row");
            let class = match x_t[n] {
                x if Some(x) == mask => 0,
                x if x == x_0[n] => 1,
                _ => 2,
            };
            w.push(weight[row * width + 3 * group + class]);
        }
    }
    w
}
