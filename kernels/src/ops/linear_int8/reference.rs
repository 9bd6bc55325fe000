//! The layer as it reads, on integers.

/// (a, scale, sum of a) of a row: the same numbers as the kernel's, one by one.
pub(crate) fn quantised(x: &[f32]) -> (Vec<i8>, f32, i64) {
    let largest = x.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    let scale = largest / 127.0;
    if scale < f32::MIN_POSITIVE {
        return (vec![0; x.len()], 0.0, 0);
    }
    let inverse = 127.0 / largest;
    let a: Vec<i8> = x.iter().map(|x| (x * inverse).round_ties_even() as i8).collect();
    let sum = a.iter().map(|&a| i64::from(a)).sum();
    (a, scale, sum)
}

/// u [n, o] of quantised rows: the sums in i64, then the roundings in the kernel's order.
pub(crate) fn forward(i: usize, x: &[f32], q: &[i8], scales: &[f32], b: Option<&[f32]>) -> Vec<f32> {
    let mut u = Vec::new();
    for x in x.chunks(i) {
        let (a, scale, _) = quantised(x);
        for (o, q) in q.chunks(i).enumerate() {
            let sum: i64 = a.iter().zip(q).map(|(&a, &q)| i64::from(a) * i64::from(q)).sum();
            u.push(sum as f32 * scales[o] * scale + b.map_or(0.0, |b| b[o]));
        }
    }
    u
}
