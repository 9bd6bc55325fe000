//! What the optimizer is told at each step.

use crate::config::{Decay, OptimizerConfig, OptimizerKind};
use galatea_autograd::{AdamW, Hyper, Muon, Optimizer, Update};

impl OptimizerConfig {
    /// The rule, as the program holds it.
    pub fn update(&self) -> Update {
        let adamw = AdamW {
            beta_1: self.beta_1 as f32,
            beta_2: self.beta_2 as f32,
            eps: 1e-8,
            weight_decay: self.weight_decay as f32,
        };
        let optimizer = match self.kind {
            OptimizerKind::AdamW => Optimizer::AdamW(adamw),
            OptimizerKind::Muon => Optimizer::Muon {
                matrices: Muon {
                    momentum: self.momentum as f32,
                    iterations: 5,
                    weight_decay: self.weight_decay as f32,
                },
                rest: AdamW { weight_decay: 0.0, ..adamw },
            },
        };
        Update { optimizer, ema: true, norm: true }
    }

    /// The factor on the learning rates at `step` (from 1) when a fraction `progress` of the run is done: a linear warm-up
    /// times the decay.
    pub fn factor(&self, step: u32, progress: f64) -> f64 {
        let warm = if self.warmup == 0 { 1.0 } else { (f64::from(step) / f64::from(self.warmup)).min(1.0) };
        let left = 1.0 - progress.clamp(0.0, 1.0);
        warm * match self.decay {
            Decay::Constant => 1.0,
            Decay::Linear => left,
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * (1.0 - left)).cos()),
        }
    }

    /// The vector `hyper` of step `step` (from 1).
    pub fn hyper(&self, step: u32, progress: f64) -> [f32; Hyper::LEN] {
        let factor = self.factor(step, progress);
        let correction = |beta: f64| 1.0 / (1.0 - beta.powf(f64::from(step)));
        let n = f64::from(step);
        let mut hyper = [0.0; Hyper::LEN];
        hyper[Hyper::LR] = (self.lr * factor) as f32;
        hyper[Hyper::MUON_LR] = (self.muon_lr * factor) as f32;
        hyper[Hyper::MAX_NORM] = if self.clip == 0.0 { f32::INFINITY } else { self.clip as f32 };
        hyper[Hyper::CORRECTION_1] = correction(self.beta_1) as f32;
        hyper[Hyper::CORRECTION_2] = correction(self.beta_2) as f32;
        hyper[Hyper::EMA_DECAY] = self.ema.min((1.0 + n) / (10.0 + n)) as f32;
        hyper
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_then_falls_to_zero() {
        let o = OptimizerConfig { warmup: 10, ..OptimizerConfig::default() };
        assert!((o.factor(5, 0.0) - 0.5).abs() < 1e-12);
        assert!((o.factor(10, 0.0) - 1.0).abs() < 1e-12);
        assert!((o.factor(100, 0.5) - 0.5).abs() < 1e-12);
        assert!(o.factor(100, 1.0).abs() < 1e-12);
        for decay in [Decay::Cosine, Decay::Linear] {
            let o = OptimizerConfig { decay, ..o.clone() };
            let falls =
                (10..100).all(|s| o.factor(s + 1, f64::from(s + 1) / 100.0) < o.factor(s, f64::from(s) / 100.0));
            assert!(falls, "{decay:?}");
        }
    }

    #[test]
    fn bias_corrections_undo_the_zero_start() {
        let h = OptimizerConfig::default().hyper(1, 0.0);
        assert!((h[Hyper::CORRECTION_1] - 10.0).abs() < 1e-4);
        assert!((h[Hyper::CORRECTION_2] - 50.0).abs() < 1e-3);
    }
}
