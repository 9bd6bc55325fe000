use crate::cpu::Cores;

/// y `[b, dim]` = `[cos(scale t f), sin(scale t f)]` for t `[b]`.
pub fn forward(cores: &Cores, dim: u32, max_period: f32, scale: f32, t: &[f32], y: &mut [f32]) {
    let dim = dim as usize;
    let half = dim / 2;
    let log_ratio = -f64::from(max_period).ln() / half as f64;
    cores.pool.rows(y, dim, 1, |b, y| {
        let time = f64::from(scale) * f64::from(t[b]);
        let (cos, sin) = y.split_at_mut(half);
        for (i, (cos, sin)) in cos.iter_mut().zip(sin).enumerate() {
            let angle = time * (log_ratio * i as f64).exp();
            (*sin, *cos) = (angle.sin() as f32, angle.cos() as f32);
        }
    });
}
