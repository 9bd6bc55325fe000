use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::math::sums;
use crate::ops::cross_entropy::weighted_sum;
use crate::real::Real;

/// Elements of one task.
const GRAIN: usize = 16_384;

/// loss `[1]` = sum_n w_n error_n and error `[..]` for prediction, target `[.., d]` and w `[..]`.
pub fn forward<X: Real>(cores: &Cores, prediction: &[X], target: &[X], w: &[f32], loss: &mut [f32], error: &mut [f32]) {
    let d = prediction.len() / w.len();
    cores.pool.rows(error, 1, GRAIN.div_ceil(d), |first, error| {
        let span = first * d..(first + error.len()) * d;
        errors(cores.isa, d, &prediction[span.clone()], &target[span], error);
    });
    loss[0] = weighted_sum(w.iter().copied(), error) as f32;
}

multiversion! {
    fn errors<X: Real>(d: usize, prediction: &[X], target: &[X], error: &mut [f32]) {
        for ((error, p), t) in error.iter_mut().zip(prediction.chunks_exact(d)).zip(target.chunks_exact(d)) {
            [*error] = sums(p, t, t, |p, t, _| [(p - t) * (p - t)]);
        }
    }
}

/// dprediction and dtarget `[.., d]` for dloss `[1]`.
pub fn backward<X: Real>(
    cores: &Cores,
    prediction: &[X],
    target: &[X],
    w: &[f32],
    dloss: &[f32],
    dprediction: &mut [X],
    dtarget: &mut [X],
) {
    let d = prediction.len() / w.len();
    cores.pool.rows2(dprediction, d, dtarget, d, GRAIN.div_ceil(d), |first, dp, dt| {
        let span = first * d..first * d + dp.len();
        gradients(cores.isa, d, dloss[0], &prediction[span.clone()], &target[span], &w[first..], dp, dt);
    });
}

multiversion! {
    fn gradients<X: Real>(
        d: usize,
        dloss: f32,
        prediction: &[X],
        target: &[X],
        w: &[f32],
        dprediction: &mut [X],
        dtarget: &mut [X],
    ) {
        let inputs = prediction.chunks_exact(d).zip(target.chunks_exact(d)).zip(w);
        let outputs = dprediction.chunks_exact_mut(d).zip(dtarget.chunks_exact_mut(d));
        for (((p, t), &w), (dp, dt)) in inputs.zip(outputs) {
            if w == 0.0 {
                dp.fill(X::store(0.0));
                dt.fill(X::store(0.0));
                continue;
            }
            let scale = 2.0 * dloss * w;
            for (((p, t), dp), dt) in p.iter().zip(t).zip(dp).zip(dt) {
                let gradient = scale * (p.load() - t.load());
                *dp = X::store(gradient);
                *dt = X::store(-gradient);
            }
        }
    }
}
