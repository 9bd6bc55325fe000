//! The methods that record one op each: what a model is written in.

use crate::{Recorder, Var};
use galatea_kernels::{Activation, AttentionMask, Chunk, Dropout, Limit, Link, Norm, Op, Rows};
use galatea_tensor::{DType, Shape};

impl Recorder {
    /// a + b, of one shape.
    #[track_caller]
    pub fn add(&mut self, a: Var, b: Var) -> Var {
        self.one(Op::Add, &[a, b])
    }

    /// x in another element type, f32 or bf16; x itself if it has that type.
    #[track_caller]
    pub fn cast(&mut self, x: Var, to: DType) -> Var {
        if self.nodes[x.0 as usize].dtype == to {
            return x;
        }
        self.one(Op::Cast { to }, &[x])
    }

    /// x [b, l, d] + r, with r [l, d] for every batch element (or fewer rows, which divide l, again and again) or [b, d] for every
    /// position.
    #[track_caller]
    pub fn add_rows(&mut self, x: Var, r: Var, over: Rows) -> Var {
        self.one(Op::AddRows { over, past: false }, &[x, r])
    }

    /// x [b, l, d] + the l rows of r [capacity, d] from number `past` u32 [1] on: learned positions of new tokens alone.
    #[track_caller]
    pub fn add_later_rows(&mut self, x: Var, r: Var, past: Var) -> Var {
        self.one(Op::AddRows { over: Rows::Positions, past: true }, &[x, r, past])
    }

    /// act(u), elementwise.
    #[track_caller]
    pub fn activate(&mut self, u: Var, activation: Activation) -> Var {
        self.one(Op::Activate { activation }, &[u])
    }

    /// silu(a) b, elementwise, for u [.., 2 f] = (a, b); the result is [.., f].
    #[track_caller]
    pub fn swiglu(&mut self, u: Var) -> Var {
        self.one(Op::SwiGlu, &[u])
    }

    /// act(x w^T + b): x [.., i], w [o, i], b [o]; the result is [.., o], or [.., o / 2] for `SwiGlu`. A bf16 recording rounds x and
    /// reads w's copy, or where w is no parameter takes w as it is and x in its type; one with int8 weights reads w as int8 if it is a
    /// matrix.
    #[track_caller]
    pub fn linear(&mut self, x: Var, w: Var, b: Option<Var>, activation: Activation) -> Var {
        if let Some((q, scale)) = self.int8(w) {
            let reads: Vec<Var> = [self.narrow(x), q, scale].into_iter().chain(b).collect();
            return self.one(Op::LinearInt8 { bias: b.is_some(), activation }, &reads);
        }
        let w = self.weight(w);
        let reads: Vec<Var> = [self.cast(x, self.nodes[w.0 as usize].dtype), w].into_iter().chain(b).collect();
        // What nobody reads of it is left out in the end (`Recorder::drop_unread`).
        let keep = activation != Activation::None;
        self.one(Op::Linear { bias: b.is_some(), activation, keep }, &reads)
    }

    /// table[ids]: ids u32 [b, l], table [v, d]; the result is [b, l, d]. A bf16 recording reads the table's copy.
    #[track_caller]
    pub fn embedding(&mut self, ids: Var, table: Var) -> Var {
        let table = self.weight(table);
        self.one(Op::Embedding, &[ids, table])
    }

    /// Layer norm over the last extent, times `gain` and plus `shift` where given.
    #[track_caller]
    pub fn layer_norm(&mut self, x: Var, gain: Option<Var>, shift: Option<Var>, eps: f32) -> Var {
        let reads: Vec<Var> = [x].into_iter().chain(gain).chain(shift).collect();
        self.one(Op::LayerNorm { eps, gain: gain.is_some(), bias: shift.is_some() }, &reads)
    }

    /// RMS norm over the last extent, times `gain` where given.
    #[track_caller]
    pub fn rms_norm(&mut self, x: Var, gain: Option<Var>, eps: f32) -> Var {
        let reads: Vec<Var> = [x].into_iter().chain(gain).collect();
        self.one(Op::RmsNorm { eps, gain: gain.is_some() }, &reads)
    }

    /// (s, y): s = x + dropout(h) and its layer norm y, in one pass. A post-norm block goes on with y, a pre-norm block with
    /// both.
    #[track_caller]
    pub fn add_layer_norm(
        &mut self,
        x: Var,
        h: Var,
        p: f32,
        gain: Option<Var>,
        shift: Option<Var>,
        eps: f32,
    ) -> (Var, Var) {
        self.add_norm(Norm::Layer, [x, h], p, gain, shift, eps)
    }

    /// (s, y): s = x + dropout(h) and its RMS norm y, in one pass.
    #[track_caller]
    pub fn add_rms_norm(&mut self, x: Var, h: Var, p: f32, gain: Option<Var>, eps: f32) -> (Var, Var) {
        self.add_norm(Norm::Rms, [x, h], p, gain, None, eps)
    }

    #[track_caller]
    fn add_norm(
        &mut self,
        norm: Norm,
        inputs: [Var; 2],
        p: f32,
        gain: Option<Var>,
        shift: Option<Var>,
        eps: f32,
    ) -> (Var, Var) {
        let dropout = (p != 0.0).then(|| Dropout { p, stream: self.stream() });
        let rng = dropout.map(|_| self.rng());
        let op = Op::AddNorm { norm, eps, gain: gain.is_some(), bias: shift.is_some(), dropout };
        let reads: Vec<Var> = inputs.into_iter().chain(gain).chain(shift).chain(rng).collect();
        let out = self.call(op, &reads);
        (out[1], out[0])
    }

    /// RMS norm of every head of the q and k thirds of qkv [b, l, 3 d], times `gain`: no score exceeds gain^2 sqrt(d_head).
    #[track_caller]
    pub fn qk_norm(&mut self, qkv: Var, heads: u32, eps: f32, gain: f32) -> Var {
        self.grouped_qk_norm(qkv, heads, heads, eps, gain)
    }

    /// RMS norm of every head of q and k of qkv [b, l, (heads + 2 kv_heads) d_head], times `gain`.
    #[track_caller]
    pub fn grouped_qk_norm(&mut self, qkv: Var, heads: u32, kv_heads: u32, eps: f32, gain: f32) -> Var {
        self.one(Op::QkNorm { heads, kv_heads, eps, gain, learned: false }, &[qkv])
    }

    /// RMS norm of every head of q and k of qkv [b, l, (heads + 2 kv_heads) d_head], its elements times learned `gains` [2
    /// d_head]: those of q, then of k.
    #[track_caller]
    pub fn learned_qk_norm(&mut self, qkv: Var, (heads, kv_heads): (u32, u32), eps: f32, gains: Var) -> Var {
        self.one(Op::QkNorm { heads, kv_heads, eps, gain: 1.0, learned: true }, &[qkv, gains])
    }

    /// x (1 + scale) + shift with chunks of m [b, chunks d].
    #[track_caller]
    pub fn modulate(&mut self, x: Var, m: Var, shift: Chunk, scale: Chunk) -> Var {
        self.one(Op::Modulate { shift, scale }, &[x, m])
    }

    /// x + gate h with a chunk of m [b, chunks d].
    #[track_caller]
    pub fn gate(&mut self, x: Var, h: Var, m: Var, gate: Chunk) -> Var {
        self.one(Op::Gate { gate }, &[x, h, m])
    }

    /// Rotates q and k of qkv [b, l, 3 d] by position: angle i of position p is p theta^(-2 i / d_head).
    #[track_caller]
    pub fn rotary(&mut self, qkv: Var, heads: u32, theta: f64) -> Var {
        self.grouped_rotary(qkv, heads, heads, theta, None)
    }

    /// The rotation of qkv [b, l, (heads + 2 kv_heads) d_head]; with `past` = (count u32 [1], capacity) its positions are
    /// count .. count + l, below the capacity.
    #[track_caller]
    pub fn grouped_rotary(
        &mut self,
        qkv: Var,
        heads: u32,
        kv_heads: u32,
        theta: f64,
        past: Option<(Var, usize)>,
    ) -> Var {
        let len = past.map_or(self.shape(qkv).dim(1), |(_, capacity)| capacity);
        self.rotate(qkv, (heads, kv_heads), theta, 0..len, past.map(|(count, _)| count))
    }

    /// The rotation of qkv [b, 2 l, (heads + 2 kv_heads) d_head], a canvas that stands twice: both halves have the positions
    /// 0 .. l.
    ///
    /// # Panics
    /// If the number of positions is odd.
    #[track_caller]
    pub fn rotary_twice(&mut self, qkv: Var, heads: u32, kv_heads: u32, theta: f64) -> Var {
        let len = self.shape(qkv).dim(1);
        assert!(len.is_multiple_of(2), "a canvas that stands twice has an even number of positions, not {len}");
        self.rotate(qkv, (heads, kv_heads), theta, (0..len / 2).chain(0..len / 2), None)
    }

    #[track_caller]
    fn rotate(
        &mut self,
        qkv: Var,
        (heads, kv_heads): (u32, u32),
        theta: f64,
        positions: impl Iterator<Item = usize>,
        past: Option<Var>,
    ) -> Var {
        let d_head = self.shape(qkv).cols() / (heads as usize + 2 * kv_heads as usize);
        let half = d_head / 2;
        let angle = |p: usize, i: usize| p as f64 * theta.powf(-(i as f64) / half as f64);
        let row = |p| (0..half).map(move |i| angle(p, i).cos()).chain((0..half).map(move |i| angle(p, i).sin()));
        let values: Vec<f32> = positions.flat_map(row).map(|x| x as f32).collect();
        let len = values.len() / d_head;
        let known = self.constants.iter().find(|(_, known)| *known == values).map(|(var, _)| *var);
        let table = known.unwrap_or_else(|| self.constant(&[len, d_head], values));
        let reads: Vec<Var> = [qkv, table].into_iter().chain(past).collect();
        self.one(Op::Rotary { heads, kv_heads, inverse: false, past: past.is_some() }, &reads)
    }

    /// Attention over qkv [b, l, 3 d] with `visible` u32 [b, l] keys; the result is [b, l, d].
    #[track_caller]
    pub fn attention(&mut self, qkv: Var, heads: u32, mask: AttentionMask, visible: Option<Var>) -> Var {
        self.grouped_attention(qkv, heads, heads, mask, visible)
    }

    /// Attention whose `kv_heads` keys and values are each shared by heads / kv_heads queries: qkv is [b, l, (heads + 2
    /// kv_heads) d_head], q heads first, then k, then v; the result is [b, l, heads d_head].
    #[track_caller]
    pub fn grouped_attention(
        &mut self,
        qkv: Var,
        heads: u32,
        kv_heads: u32,
        mask: AttentionMask,
        visible: Option<Var>,
    ) -> Var {
        self.attention_dropout(qkv, (heads, kv_heads), mask, visible, 0.0)
    }

    /// [`Recorder::grouped_attention`] by `(heads, kv_heads)` with a fraction p of its weights zero and the rest scaled by 1 /
    /// (1 - p), after their softmax. p is rounded to a whole number of 65536ths.
    #[track_caller]
    pub fn attention_dropout(
        &mut self,
        qkv: Var,
        (heads, kv_heads): (u32, u32),
        mask: AttentionMask,
        visible: Option<Var>,
        p: f32,
    ) -> Var {
        let dropout = (p != 0.0).then(|| Dropout { p, stream: self.stream() });
        let rng = dropout.map(|_| self.rng());
        let reads: Vec<Var> = [qkv].into_iter().chain(visible).chain(rng).collect();
        self.one(Op::Attention { heads, kv_heads, mask, padding: visible.is_some(), dropout }, &reads)
    }

    /// Attention of new positions by a cache: qkv [b, n, (heads + 2 kv_heads) d_head], `past` u32 [1] positions cached so far,
    /// `cache` = (keys, values), inputs [b, capacity, kv_heads d_head] that it extends; the result is [b, n, heads d_head].
    ///
    /// # Panics
    /// If a cache has another shape or type.
    #[track_caller]
    pub fn attention_cached(
        &mut self,
        qkv: Var,
        heads: u32,
        kv_heads: u32,
        mask: AttentionMask,
        past: Var,
        cache: (Var, Var),
    ) -> Var {
        let capacity = self.shape(cache.0).dim(1) as u32;
        self.extend(Op::AttentionCached { heads, kv_heads, capacity, mask }, &[qkv, past], &[cache.0, cache.1])[0]
    }

    /// [cos, sin] features [b, dim] of times t [b].
    #[track_caller]
    pub fn time_features(&mut self, t: Var, dim: u32, max_period: f32, scale: f32) -> Var {
        self.one(Op::TimeFeatures { dim, max_period, scale }, &[t])
    }

    /// x_t u32 [b, l]: every token of x_0 kept with probability alpha_bar, else replaced by the limit; `level` [b, g] holds
    /// alpha_bar for g groups of positions (for the hybrid limit [b, g, 2], with the share of masks).
    #[track_caller]
    pub fn corrupt_tokens(&mut self, x_0: Var, level: Var, limit: Limit) -> Var {
        let (rng, stream) = (self.rng(), self.stream());
        self.one(Op::CorruptTokens { limit, stream }, &[x_0, level, rng])
    }

    /// (x_t, noise): x_t = signal x_0 + sigma noise with level [b, 2] = (signal, sigma).
    #[track_caller]
    pub fn corrupt_gaussian(&mut self, x_0: Var, level: Var) -> (Var, Var) {
        let (rng, stream) = (self.rng(), self.stream());
        let out = self.call(Op::CorruptGaussian { stream }, &[x_0, level, rng]);
        // The noise is drawn: no parameter moves it.
        self.nodes[out[1].0 as usize].needs_grad = false;
        (out[0], out[1])
    }

    /// x with a fraction p of its elements zero and the rest scaled by 1 / (1 - p); x itself for p = 0.
    #[track_caller]
    pub fn dropout(&mut self, x: Var, p: f32) -> Var {
        if p == 0.0 {
            return x;
        }
        let (rng, stream) = (self.rng(), self.stream());
        self.one(Op::Dropout { p, stream }, &[x, rng])
    }

    /// [b, l]: weight [b, g, 3] of g groups of positions where x_t is the mask, x_0, or another token.
    #[track_caller]
    pub fn token_weight(&mut self, x_0: Var, x_t: Var, weight: Var, mask: Option<u32>) -> Var {
        self.one(Op::TokenWeight { mask }, &[x_0, x_t, weight])
    }

    /// (sum of w nll [1], nll [..]) of softmax(logits [.., v]) at `target` u32 [..].
    #[track_caller]
    pub fn cross_entropy(&mut self, logits: Var, target: Var, w: Var, forbid: Option<u32>) -> (Var, Var) {
        let logits = self.cast(logits, DType::F32);
        let out = self.call(Op::CrossEntropy { forbid }, &[logits, target, w]);
        (out[0], out[1])
    }

    /// [`Recorder::cross_entropy`] of x w^T + b whose logits are never in memory, over the rows whose weight is not zero (the
    /// nll of the others is 0): x [.., d], w [v, d], b [v].
    #[track_caller]
    pub fn linear_cross_entropy(
        &mut self,
        x: Var,
        (w, b): (Var, Option<Var>),
        target: Var,
        weight: Var,
        forbid: Option<u32>,
    ) -> (Var, Var) {
        let (x, w) = (self.narrow(x), self.weight(w));
        let reads: Vec<Var> = [x, w].into_iter().chain(b).chain([target, weight]).collect();
        let out = self.call(Op::LinearCrossEntropy { bias: b.is_some(), forbid }, &reads);
        (out[0], out[1])
    }

    /// [`Recorder::sample_tokens`] from x w^T + b whose logits are never in memory, for the rows whose flag `live` u32 [..] is
    /// not zero; 0 for the others.
    #[track_caller]
    pub fn linear_sample(
        &mut self,
        x: Var,
        (w, b): (Var, Option<Var>),
        live: Var,
        temperature: f32,
        forbid: Option<u32>,
    ) -> (Var, Var, Var) {
        let (x, w) = (self.narrow(x), self.weight(w));
        let (rng, stream) = (self.rng(), self.stream());
        let reads: Vec<Var> = [x, w].into_iter().chain(b).chain([live, rng]).collect();
        let out = self.call(Op::LinearSample { bias: b.is_some(), stream, temperature, forbid }, &reads);
        (out[0], out[1], out[2])
    }

    /// (sum of w d [1], d [b, l]), d the divergence of logits [b, l, v] from x_0 by `terms` [b, g, 3, 12]; w is [b, l].
    #[track_caller]
    pub fn divergence(
        &mut self,
        logits: Var,
        (x_0, x_t): (Var, Var),
        terms: Var,
        w: Var,
        link: Link,
        forbid: Option<u32>,
    ) -> (Var, Var) {
        let logits = self.cast(logits, DType::F32);
        let out = self.call(Op::Divergence { link, forbid }, &[logits, x_0, x_t, terms, w]);
        (out[0], out[1])
    }

    /// (sum of w d [1], d [b, l]), d the KL of a step's posteriors plus `lambda` cross-entropies: logits [b, l, v], x_0, x_t and w
    /// [b, l], `chain` [b, 2, v, v] as [`Op::PosteriorKl`] has it.
    #[track_caller]
    pub fn posterior_kl(&mut self, logits: Var, (x_0, x_t): (Var, Var), chain: Var, w: Var, lambda: f32) -> (Var, Var) {
        let logits = self.cast(logits, DType::F32);
        let out = self.call(Op::PosteriorKl { lambda }, &[logits, x_0, x_t, chain, w]);
        (out[0], out[1])
    }

    /// -|x - w_v| for every row of w [v, d]: x [.., d], the result [.., v], in f32.
    #[track_caller]
    pub fn distances(&mut self, x: Var, w: Var) -> Var {
        let x = self.cast(x, DType::F32);
        self.one(Op::Distances, &[x, w])
    }

    /// softmax(x) over the last extent, in f32.
    #[track_caller]
    pub fn softmax(&mut self, x: Var) -> Var {
        let x = self.cast(x, DType::F32);
        self.one(Op::Softmax, &[x])
    }

    /// p E: the mean of the rows of `table` [v, d] under p [.., v]; the result is [.., d].
    #[track_caller]
    pub fn mix(&mut self, p: Var, table: Var) -> Var {
        self.one(Op::LinearDx, &[p, table])
    }

    /// x / (|x| + eps) over the last extent, in f32.
    #[track_caller]
    pub fn unit_rows(&mut self, x: Var, eps: f32) -> Var {
        self.one(Op::UnitRows { eps }, &[x])
    }

    /// x [b, l, d] times the number of its text at the chunk of m [b, chunks].
    #[track_caller]
    pub fn scale_rows(&mut self, x: Var, m: Var, chunk: Chunk) -> Var {
        self.one(Op::ScaleRows { chunk }, &[x, m])
    }

    /// x [b, l, d] times a constant; x itself for 1.
    #[track_caller]
    pub fn scale(&mut self, x: Var, factor: f32) -> Var {
        if factor == 1.0 {
            return x;
        }
        let batch = self.shape(x).dim(0);
        let known = |(_, known): &&(Var, Vec<f32>)| known.len() == batch && known.iter().all(|&k| k == factor);
        let found = self.constants.iter().find(known).map(|(var, _)| *var);
        let m = found.filter(|&m| self.shape(m) == Shape::new(&[batch, 1]));
        let m = m.unwrap_or_else(|| self.constant(&[batch, 1], vec![factor; batch]));
        self.scale_rows(x, m, Chunk { index: 0, of: 1 })
    }

    /// The sum over texts and wishes of weight log p [1] under softmax(logits), logits [b, l, v]; `wishes` u32 [k, 3] as
    /// [`crate::Wish`] has them, `weight` [k].
    #[track_caller]
    pub fn wishes(&mut self, logits: Var, wishes: Var, weight: Var) -> Var {
        let logits = self.cast(logits, DType::F32);
        self.one(Op::Wishes, &[logits, wishes, weight])
    }

    /// (sum of w error [1], error [..]), error = |prediction - target|^2 over the last extent.
    #[track_caller]
    pub fn squared_error(&mut self, prediction: Var, target: Var, w: Var) -> (Var, Var) {
        let out = self.call(Op::SquaredError, &[prediction, target, w]);
        (out[0], out[1])
    }

    /// (ids u32 [..], log-probability [..], entropy [..]) drawn from logits [.., v].
    #[track_caller]
    pub fn sample_tokens(&mut self, logits: Var, temperature: f32, forbid: Option<u32>) -> (Var, Var, Var) {
        let logits = self.cast(logits, DType::F32);
        let (rng, stream) = (self.rng(), self.stream());
        let out = self.call(Op::SampleTokens { stream, temperature, forbid }, &[logits, rng]);
        (out[0], out[1], out[2])
    }
}
