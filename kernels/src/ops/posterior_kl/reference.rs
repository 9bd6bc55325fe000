//! The KL as D3PM writes it: two posteriors and the sum of truth log(truth / model); the gradient by the chain rule.

/// A token: its row of logits, the matrices of its row of the batch (the second transposed), ids and weight.
pub(crate) struct Token<'a> {
    pub(crate) logits: &'a [f64],
    pub(crate) q_bar: &'a [f64],
    pub(crate) q: &'a [f64],
    pub(crate) x_0: usize,
    pub(crate) x_t: usize,
    pub(crate) lambda: f64,
}

impl Token<'_> {
    fn softmax(&self) -> Vec<f64> {
        let top = self.logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let e: Vec<f64> = self.logits.iter().map(|x| (x - top).exp()).collect();
        let total: f64 = e.iter().sum();
        e.iter().map(|e| e / total).collect()
    }

    fn marginal(&self, p: &[f64]) -> Vec<f64> {
        let v = p.len();
        (0..v).map(|k| (0..v).map(|i| p[i] * self.q_bar[i * v + k]).sum()).collect()
    }

    fn posterior(&self, marginal: &[f64]) -> Vec<f64> {
        let v = marginal.len();
        let joint: Vec<f64> = (0..v).map(|k| marginal[k] * self.q[self.x_t * v + k]).collect();
        let total: f64 = joint.iter().sum();
        joint.iter().map(|x| if total > 0.0 { x / total } else { 0.0 }).collect()
    }

    pub(crate) fn divergence(&self) -> f64 {
        let p = self.softmax();
        let mut clean = vec![0.0; p.len()];
        clean[self.x_0] = 1.0;
        let (truth, model) = (self.posterior(&self.marginal(&clean)), self.posterior(&self.marginal(&p)));
        let kl: f64 = truth.iter().zip(&model).filter(|(q, _)| **q > 0.0).map(|(q, m)| q * (q / m).ln()).sum();
        kl - self.lambda * p[self.x_0].ln()
    }

    pub(crate) fn gradient(&self) -> Vec<f64> {
        let (p, v) = (self.softmax(), self.logits.len());
        let mut clean = vec![0.0; v];
        clean[self.x_0] = 1.0;
        let truth = self.posterior(&self.marginal(&clean));
        let m = self.marginal(&p);
        let likelihood = &self.q[self.x_t * v..][..v];
        let total: f64 = m.iter().zip(likelihood).map(|(m, l)| m * l).sum();
        let possible = truth.iter().sum::<f64>() > 0.0;
        let dm = |k: usize| {
            if possible { likelihood[k] / total - if truth[k] > 0.0 { truth[k] / m[k] } else { 0.0 } } else { 0.0 }
        };
        let dp: Vec<f64> = (0..v).map(|i| (0..v).map(|k| self.q_bar[i * v + k] * dm(k)).sum()).collect();
        let mean: f64 = p.iter().zip(&dp).map(|(p, dp)| p * dp).sum();
        (0..v).map(|i| p[i] * (dp[i] - mean) + self.lambda * (p[i] - clean[i])).collect()
    }
}
