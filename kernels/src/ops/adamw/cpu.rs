use crate::cpu::Cores;
use crate::gemm::{Sink, prefetch};
use crate::isa::{Isa, multiversion};
use crate::op::{AdamW, Hyper};
use crate::ops::global_norm::clip;
use crate::pieces::Pieces;
use crate::pool::ByRow;
use crate::real::Real;
use galatea_tensor::bf16;

/// Elements of one task.
const GRAIN: usize = 16_384;

/// One step on param, m and v for the gradient g; then the moving average and the bf16 copy of the new param, in the same
/// pass over memory.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn step(
    cores: &Cores,
    adamw: AdamW,
    g: &[f32],
    norm: &[f32],
    hyper: &[f32],
    param: &mut [f32],
    m: &mut [f32],
    v: &mut [f32],
    ema: Option<&mut [f32]>,
    copy: Option<&mut [bf16]>,
) {
    let clip = clip(hyper[Hyper::MAX_NORM], norm[0]);
    let moments = (ByRow::new(m, 1), ByRow::new(v, 1));
    let outputs = (ByRow::new(param, 1), moments, ema.map(|x| ByRow::new(x, 1)), copy.map(|x| ByRow::new(x, 1)));
    cores.pool.cut(g.len(), GRAIN, outputs, |first, (param, (m, v), ema, copy)| {
        let g = &g[first..first + param.len()];
        piece(cores.isa, adamw, clip, hyper, g, param, m, v, ema, copy);
    });
}

/// What a step moves, all of one length: in place, but for the copy.
pub struct State<'a> {
    /// Parameters.
    pub param: &'a mut [f32],
    /// First moments.
    pub m: &'a mut [f32],
    /// Second moments.
    pub v: &'a mut [f32],
    /// The moving average.
    pub ema: Option<&'a mut [f32]>,
    /// The bf16 copy.
    pub copy: Option<&'a mut [bf16]>,
}

/// A state that tasks move disjoint pieces of, as tiles of its gradient are finished.
pub(crate) struct Tiles<'a> {
    adamw: AdamW,
    hyper: &'a [f32],
    param: Pieces<'a, f32>,
    m: Pieces<'a, f32>,
    v: Pieces<'a, f32>,
    ema: Option<Pieces<'a, f32>>,
    copy: Option<Pieces<'a, bf16>>,
    /// Columns of the gradient.
    cols: usize,
}

impl<'a> Tiles<'a> {
    pub(crate) fn new(adamw: AdamW, hyper: &'a [f32], cols: usize, state: State<'a>) -> Self {
        let State { param, m, v, ema, copy } = state;
        let [param, m, v] = [param, m, v].map(Pieces::new);
        Self { adamw, hyper, param, m, v, ema: ema.map(Pieces::new), copy: copy.map(Pieces::new), cols }
    }
}

impl Sink for Tiles<'_> {
    fn tile(&self, isa: Isa, (i, j): (usize, usize), rows: usize, cols: usize, tile: &mut [f32], width: usize) {
        for (r, g) in tile.chunks_exact(width).enumerate().take(rows) {
            let from = (i + r) * self.cols + j;
            let to = from + cols;
            // SAFETY: the piece lies in the tile that the calling task owns alone (`Sink`), in each of the five.
            let (param, m, v, ema, copy) = unsafe {
                (
                    self.param.piece(from, to),
                    self.m.piece(from, to),
                    self.v.piece(from, to),
                    self.ema.as_ref().map(|x| x.piece(from, to)),
                    self.copy.as_ref().map(|x| x.piece(from, to)),
                )
            };
            // The tile below is the next one: what it moves is far from cache.
            let below = from + rows * self.cols;
            for x in [&self.param, &self.m, &self.v] {
                (0..cols).step_by(16).for_each(|c| prefetch(x.address(below + c).cast()));
            }
            piece(isa, self.adamw, 1.0, self.hyper, &g[..cols], param, m, v, ema, copy);
        }
    }
}

/// A step on a piece of the state by its gradient.
#[expect(clippy::too_many_arguments, reason = "the rule, the gradient and the state")]
pub(crate) fn piece(
    isa: Isa,
    adamw: AdamW,
    clip: f32,
    hyper: &[f32],
    g: &[f32],
    param: &mut [f32],
    m: &mut [f32],
    v: &mut [f32],
    ema: Option<&mut [f32]>,
    copy: Option<&mut [bf16]>,
) {
    match (ema, copy) {
        (None, None) => plain(isa, adamw, clip, hyper, g, param, m, v),
        (Some(ema), None) => averaged(isa, adamw, clip, hyper, g, param, m, v, ema),
        (None, Some(copy)) => copied(isa, adamw, clip, hyper, g, param, m, v, copy),
        (Some(ema), Some(copy)) => averaged_and_copied(isa, adamw, clip, hyper, g, param, m, v, ema, copy),
    }
}

/// The rule for one element of param, m and v.
#[inline(always)]
fn rule(adamw: AdamW, clip: f32, hyper: &[f32]) -> impl Fn(&mut f32, &mut f32, &mut f32, f32) {
    let AdamW { beta_1, beta_2, eps, weight_decay } = adamw;
    let (lr, correct_1, correct_2) = (hyper[Hyper::LR], hyper[Hyper::CORRECTION_1], hyper[Hyper::CORRECTION_2]);
    move |param, m, v, g| {
        let g = g * clip;
        *m = beta_1 * *m + (1.0 - beta_1) * g;
        *v = beta_2 * *v + (1.0 - beta_2) * (g * g);
        let direction = *m * correct_1 / ((*v * correct_2).sqrt() + eps);
        *param -= lr * (weight_decay * *param + direction);
    }
}

// One loop a combination: all streams of memory run at once.
multiversion! {
    fn plain(adamw: AdamW, clip: f32, hyper: &[f32], g: &[f32], param: &mut [f32], m: &mut [f32], v: &mut [f32]) {
        let rule = rule(adamw, clip, hyper);
        for (((param, m), v), g) in param.iter_mut().zip(m).zip(v).zip(g) {
            rule(param, m, v, *g);
        }
    }
}

multiversion! {
    fn averaged(
        adamw: AdamW,
        clip: f32,
        hyper: &[f32],
        g: &[f32],
        param: &mut [f32],
        m: &mut [f32],
        v: &mut [f32],
        ema: &mut [f32],
    ) {
        let (rule, rest) = (rule(adamw, clip, hyper), 1.0 - hyper[Hyper::EMA_DECAY]);
        for ((((param, m), v), g), ema) in param.iter_mut().zip(m).zip(v).zip(g).zip(ema) {
            rule(param, m, v, *g);
            *ema += rest * (*param - *ema);
        }
    }
}

multiversion! {
    fn copied(
        adamw: AdamW,
        clip: f32,
        hyper: &[f32],
        g: &[f32],
        param: &mut [f32],
        m: &mut [f32],
        v: &mut [f32],
        copy: &mut [bf16],
    ) {
        let rule = rule(adamw, clip, hyper);
        for ((((param, m), v), g), copy) in param.iter_mut().zip(m).zip(v).zip(g).zip(copy) {
            rule(param, m, v, *g);
            *copy = bf16::store(*param);
        }
    }
}

multiversion! {
    fn averaged_and_copied(
        adamw: AdamW,
        clip: f32,
        hyper: &[f32],
        g: &[f32],
        param: &mut [f32],
        m: &mut [f32],
        v: &mut [f32],
        ema: &mut [f32],
        copy: &mut [bf16],
    ) {
        let (rule, rest) = (rule(adamw, clip, hyper), 1.0 - hyper[Hyper::EMA_DECAY]);
        for (((((param, m), v), g), ema), copy) in param.iter_mut().zip(m).zip(v).zip(g).zip(ema).zip(copy) {
            rule(param, m, v, *g);
            *ema += rest * (*param - *ema);
            *copy = bf16::store(*param);
        }
    }
}
