//! Reverse mode: one rule per op, so an op without a rule does not compile.

use crate::record::{Call, Place, Recorder, Var};
use galatea_kernels::{Activation, Chunk, Op};

impl Recorder {
    /// Appends the reverse of everything recorded since the last backward pass, from `loss` [1]. Gradients land in
    /// `Region::Grad`; a second pass (another micro-batch) adds to them.
    ///
    /// # Panics
    /// If `loss` is not a scalar that depends on a parameter (or an input whose gradient is sought), or the recording reads int8
    /// weights.
    #[track_caller]
    pub fn backward(&mut self, loss: Var) {
        assert_eq!(self.shape(loss).len(), 1, "backward starts from a scalar, not {}", self.shape(loss));
        let one = self.constant(&[1], vec![1.0]);
        self.backward_with(loss, one);
    }

    /// As [`Recorder::backward`], from any tensor `y` and the gradient `dy` of a loss that is computed elsewhere: an input,
    /// say, which the host writes between [`crate::Session::run_until`] and [`crate::Session::run_after`] `y`.
    ///
    /// # Panics
    /// If `dy` is not of y's shape and type, `y` depends on no parameter, or the recording reads int8 weights.
    #[track_caller]
    pub fn backward_with(&mut self, y: Var, dy: Var) {
        let kind = |var: Var| (self.shape(var), self.nodes[var.0 as usize].dtype);
        assert_eq!(kind(dy), kind(y), "a gradient has the shape and type of its tensor");
        assert!(!self.int8, "int8 weights are for inference: record a training step with `Recorder::with_precision`");
        assert!(self.needs_grad(y), "the loss depends on no parameter");
        self.passes.push(self.calls.len());
        let mut grads: Vec<Option<Var>> = vec![None; self.nodes.len()];
        grads[y.0 as usize] = Some(dy);
        for index in (self.reversed..self.calls.len()).rev() {
            let call = self.calls[index].clone();
            let found = |w: &Var| grads.get(w.0 as usize).copied().flatten();
            let dys: Vec<Option<Var>> = call.writes.iter().map(found).collect();
            if dys.iter().all(Option::is_none) {
                continue;
            }
            let dy = dys[0].unwrap_or_else(|| panic!("{}: its first output is not used", call.op.name()));
            let others = dys[1..].iter().filter(|dy| dy.is_some()).count();
            let allowed = usize::from(matches!(call.op, Op::AddNorm { .. }) && dys[1].is_some());
            assert_eq!(others, allowed, "{}: only its first output has a gradient", call.op.name());
            let fresh = self.nodes.len();
            for (x, dx) in vjp(self, &call, dy, dys.get(1).copied().flatten()) {
                if self.needs_grad(x) {
                    self.collect(&mut grads, x, dx, fresh);
                }
            }
        }
        for index in 0..self.sought.len() {
            let var = self.sought[index];
            if let Some(grad) = grads.get(var.0 as usize).copied().flatten() {
                assert!(
                    self.found.insert(var, grad).is_none(),
                    "the gradient of an input is taken in one backward pass"
                );
            }
        }
        self.reversed = self.calls.len();
    }

    /// The gradient of the input `var`, which [`Recorder::seek`] asked for, once a backward pass has reached it.
    pub fn gradient(&self, var: Var) -> Option<Var> {
        self.found.get(&var).copied()
    }

    /// Adds `dx` to the gradient of `x`; `dx` is a tensor of its own if its number is at least `fresh`.
    fn collect(&mut self, grads: &mut [Option<Var>], x: Var, dx: Var, fresh: usize) {
        let (Place::Param(param) | Place::Copy(param)) = self.nodes[x.0 as usize].place else {
            let sum = match grads[x.0 as usize] {
                None => dx,
                Some(before) => self.add(before, dx),
            };
            grads[x.0 as usize] = Some(sum);
            return;
        };
        match self.grads[param] {
            Some(grad) => self.modify(Op::Accumulate, &[dx], vec![grad]),
            None => {
                assert!(dx.0 as usize >= fresh, "a parameter is added to activations by `add`: use `add_rows`");
                self.nodes[dx.0 as usize].place = Place::Grad(param);
                self.grads[param] = Some(dx);
            }
        }
    }
}

/// The gradients of a call's inputs, given the gradient `dy` of its first output and that of its second, if it has one.
fn vjp(rec: &mut Recorder, call: &Call, dy: Var, second: Option<Var>) -> Vec<(Var, Var)> {
    let (r, w) = (&call.reads, &call.writes);
    // exhaustive: no wildcard arm
    match call.op {
        Op::Add => vec![(r[0], dy), (r[1], dy)],
        Op::Cast { .. } => {
            let to = rec.nodes[r[0].0 as usize].dtype;
            vec![(r[0], rec.one(Op::Cast { to }, &[dy]))]
        }
        Op::AddRows { over, past } => {
            let mut out = vec![(r[0], dy)];
            if rec.needs_grad(r[1]) {
                assert!(!past, "positions that begin at a count are for decoding and have no gradient");
                let rows = rec.shape(r[1]).dim(0) as u32;
                out.push((r[1], rec.one(Op::AddRowsGrad { over, rows }, &[dy])));
            }
            out
        }
        Op::Activate { activation } => vec![(r[0], rec.one(Op::ActivateGrad { activation }, &[r[0], dy]))],
        Op::SwiGlu => vec![(r[0], rec.one(Op::SwiGluGrad, &[r[0], dy]))],
        Op::Linear { bias, activation, .. } => {
            let du = match activation {
                Activation::None => dy,
                Activation::Relu | Activation::Silu | Activation::Gelu | Activation::GeluErf | Activation::Tanh => {
                    rec.one(Op::ActivateGrad { activation }, &[w[1], dy])
                }
                Activation::SwiGlu => rec.one(Op::SwiGluGrad, &[w[1], dy]),
            };
            let mut out = Vec::new();
            // Before the weights' gradient, which may move them at once.
            if rec.needs_grad(r[0]) {
                out.push((r[0], rec.one(Op::LinearDx, &[du, r[1]])));
            }
            if rec.needs_grad(r[1]) || (bias && rec.needs_grad(r[2])) {
                let grads = rec.call(Op::LinearDw { bias }, &[du, r[0]]);
                out.extend(r[1..].iter().copied().zip(grads));
            }
            out
        }
        Op::Embedding => {
            let vocab = rec.shape(r[1]).dim(0) as u32;
            vec![(r[1], rec.one(Op::EmbeddingGrad { vocab }, &[r[0], dy]))]
        }
        Op::LayerNorm { gain, bias, .. } => {
            let reads: Vec<Var> = [r[0], w[1], dy].into_iter().chain(gain.then(|| r[1])).collect();
            let grads = rec.call(Op::LayerNormGrad { gain, bias }, &reads);
            r.iter().copied().zip(grads).collect()
        }
        Op::RmsNorm { gain, .. } => {
            let reads: Vec<Var> = [r[0], w[1], dy].into_iter().chain(gain.then(|| r[1])).collect();
            let grads = rec.call(Op::RmsNormGrad { gain }, &reads);
            r.iter().copied().zip(grads).collect()
        }
        Op::AddNorm { norm, gain, bias, dropout, .. } => {
            let tables = &r[2..2 + usize::from(gain) + usize::from(bias)];
            let rng = dropout.map(|_| r[2 + tables.len()]);
            let reads = [w[1], w[2], dy].into_iter().chain(second).chain(gain.then(|| r[2])).chain(rng);
            let op = Op::AddNormGrad { norm, gain, bias, dropout, sum: second.is_some() };
            let grads = rec.call(op, &reads.collect::<Vec<_>>());
            let own = usize::from(dropout.is_some());
            let inputs = [(r[0], grads[0]), (r[1], grads[own])];
            inputs.into_iter().chain(tables.iter().copied().zip(grads[1 + own..].iter().copied())).collect()
        }
        Op::QkNorm { heads, kv_heads, gain, learned, .. } => {
            let reads: Vec<Var> = [r[0], w[1], dy].into_iter().chain(r[1..].iter().copied()).collect();
            let grads = rec.call(Op::QkNormGrad { heads, kv_heads, gain, learned }, &reads);
            r.iter().copied().zip(grads).collect()
        }
        Op::Modulate { shift, scale } => {
            let grads = rec.call(Op::ModulateGrad { shift, scale }, &[r[0], r[1], dy]);
            r.iter().copied().zip(grads).collect()
        }
        Op::Gate { gate } => {
            let grads = rec.call(Op::GateGrad { gate }, &[r[1], r[2], dy]);
            [(r[0], dy)].into_iter().chain(r[1..].iter().copied().zip(grads)).collect()
        }
        Op::Rotary { heads, kv_heads, inverse, past } => {
            let reads: Vec<Var> = [dy].into_iter().chain(r[1..].iter().copied()).collect();
            vec![(r[0], rec.one(Op::Rotary { heads, kv_heads, inverse: !inverse, past }, &reads))]
        }
        Op::Attention { heads, kv_heads, mask, padding, dropout } => {
            let (visible, rng) = (padding.then(|| r[1]), dropout.map(|_| r[1 + usize::from(padding)]));
            let reads: Vec<Var> = [r[0]].into_iter().chain(visible).chain([w[0], w[1], dy]).chain(rng).collect();
            vec![(r[0], rec.one(Op::AttentionGrad { heads, kv_heads, mask, padding, dropout }, &reads))]
        }
        Op::CorruptGaussian { .. } => {
            let mut out = vec![(r[0], rec.one(Op::CorruptGaussianGrad, &[r[1], dy]))];
            if rec.needs_grad(r[1]) {
                // x_t = signal x_0 + sigma noise: two factors of a text, each with what it multiplied.
                let of = |index| Op::ScaleRowsGrad { chunk: Chunk { index, of: 2 } };
                out.push((r[1], rec.one(of(0), &[r[0], r[1], dy])));
                out.push((r[1], rec.one(of(1), &[w[1], r[1], dy])));
            }
            out
        }
        Op::LinearDx => {
            let back = Op::Linear { bias: false, activation: Activation::None, keep: false };
            let mut out = Vec::new();
            if rec.needs_grad(r[0]) {
                out.push((r[0], rec.one(back, &[dy, r[1]])));
            }
            if rec.needs_grad(r[1]) {
                out.push((r[1], rec.one(Op::LinearDw { bias: false }, &[r[0], dy])));
            }
            out
        }
        Op::Distances => {
            let grads = rec.call(Op::DistancesGrad, &[r[0], r[1], w[0], dy]);
            r.iter().copied().zip(grads).collect()
        }
        Op::Softmax => vec![(r[0], rec.one(Op::SoftmaxGrad, &[w[0], dy]))],
        Op::UnitRows { eps } => vec![(r[0], rec.one(Op::UnitRowsGrad { eps }, &[r[0], dy]))],
        Op::ScaleRows { chunk } => {
            let mut out = Vec::new();
            if rec.needs_grad(r[0]) {
                out.push((r[0], rec.one(Op::ScaleRows { chunk }, &[dy, r[1]])));
            }
            if rec.needs_grad(r[1]) {
                out.push((r[1], rec.one(Op::ScaleRowsGrad { chunk }, &[r[0], r[1], dy])));
            }
            out
        }
        Op::Wishes => vec![(r[0], rec.one(Op::WishesGrad, &[r[0], r[1], r[2], w[1], dy]))],
        Op::Dropout { p, stream } => vec![(r[0], rec.one(Op::Dropout { p, stream }, &[dy, r[1]]))],
        Op::CrossEntropy { forbid } => {
            vec![(r[0], rec.one(Op::CrossEntropyGrad { forbid }, &[r[0], r[1], r[2], w[1], dy]))]
        }
        Op::LinearCrossEntropy { bias, forbid } => {
            let p = 2 + usize::from(bias);
            let reads: Vec<Var> = r[..p].iter().copied().chain([r[p], r[p + 1], w[2], dy]).collect();
            let grads = rec.call(Op::LinearCrossEntropyGrad { bias, forbid }, &reads);
            r[..p].iter().copied().zip(grads).collect()
        }
        Op::Divergence { link, forbid } => {
            let reads = [r[0], r[1], r[2], r[3], r[4], w[2], dy];
            vec![(r[0], rec.one(Op::DivergenceGrad { link, forbid }, &reads))]
        }
        Op::PosteriorKl { lambda } => {
            let reads = [w[2], w[3], r[1], r[2], r[3], r[4], dy];
            vec![(r[0], rec.call(Op::PosteriorKlGrad { lambda }, &reads)[0])]
        }
        Op::SquaredError => {
            let grads = rec.call(Op::SquaredErrorGrad, &[r[0], r[1], r[2], dy]);
            r.iter().copied().zip(grads).collect()
        }
        Op::TimeFeatures { .. }
        | Op::CorruptTokens { .. }
        | Op::TokenWeight { .. }
        | Op::SampleTokens { .. }
        | Op::LinearSample { .. } => {
            panic!("{} reads nothing that a parameter moves", call.op.name())
        }
        Op::LinearInt8 { .. } => panic!("int8 weights have no gradient"),
        Op::AttentionCached { .. } => panic!("attention_cached is for decoding and has no gradient"),
        Op::Accumulate
        | Op::AddRowsGrad { .. }
        | Op::ActivateGrad { .. }
        | Op::SwiGluGrad
        | Op::LinearPacked { .. }
        | Op::LinearDwAdamW { .. }
        | Op::EmbeddingAdamW { .. }
        | Op::LinearDw { .. }
        | Op::EmbeddingGrad { .. }
        | Op::LayerNormGrad { .. }
        | Op::RmsNormGrad { .. }
        | Op::AddNormGrad { .. }
        | Op::QkNormGrad { .. }
        | Op::ModulateGrad { .. }
        | Op::GateGrad { .. }
        | Op::AttentionGrad { .. }
        | Op::CorruptGaussianGrad
        | Op::CrossEntropyGrad { .. }
        | Op::LinearCrossEntropyGrad { .. }
        | Op::DivergenceGrad { .. }
        | Op::PosteriorKlGrad { .. }
        | Op::SquaredErrorGrad
        | Op::DistancesGrad
        | Op::SoftmaxGrad
        | Op::UnitRowsGrad { .. }
        | Op::ScaleRowsGrad { .. }
        | Op::WishesGrad
        | Op::GlobalNorm
        | Op::AdamW { .. }
        | Op::Muon(_)
        | Op::Ema => panic!("{}: second derivatives are not recorded", call.op.name()),
    }
}
