//! The seed's model and its two works, a training step and masked sampling.
//!
//! 79 M parameters: PyTorch's `nn.TransformerEncoder` (post-norm, ReLU, biases, no positions) between an embedding table
//! and a head that the seed's loss never trains.

use crate::{Launch, launches};
use galatea_autograd::{AdamW, DType, Hyper, Init, Optimizer, Part, Plan, Recorder, Session, Update, Var};
use galatea_kernels::{Cost, Cpu, Device, Isa};
use galatea_models::weights::{Origin, Weights, export, load};
use galatea_models::{Encoder, Nonlinearity, Norm, NormPlace, Positions, TimeInput};
use galatea_random::Philox;
use std::path::Path;

/// Tokens, the mask among them.
pub const VOCAB: usize = 30_000;

/// The last id shows that a position is not decided.
pub const MASK: u32 = VOCAB as u32 - 1;

/// Positions of a text.
pub const LEN: usize = 128;

/// Width of a hidden state.
pub(crate) const WIDTH: usize = 768;
pub(crate) const SEED: u64 = 2026;

/// The one place where a type of arithmetic becomes a recorder.
///
/// # Errors
/// If programs are not recorded in that type.
pub(crate) fn recorder(dtype: DType) -> Result<Recorder, String> {
    match dtype {
        DType::F32 | DType::Bf16 => Ok(Recorder::with_precision(dtype)),
        // Int8 weights, everything else in bf16.
        DType::I8 => Ok(Recorder::with_int8_weights(DType::Bf16)),
        DType::F16 | DType::U32 => {
            Err(format!("the arithmetic of a program is f32, bf16 or int8, found dtype {}", dtype.name()))
        }
    }
}

/// What activations, caches and the head are in where a program is in `dtype`.
pub(crate) fn beside_weights(dtype: DType) -> DType {
    if dtype == DType::I8 { DType::Bf16 } else { dtype }
}

/// The recorder of a training step, which int8 weights have no gradient for.
///
/// # Errors
/// If programs are not trained in that type.
fn trainer(dtype: DType) -> Result<Recorder, String> {
    if dtype == DType::I8 { Err("training is in f32 or bf16, found int8".to_owned()) } else { recorder(dtype) }
}

pub(crate) fn encoder() -> Encoder {
    Encoder {
        d_model: WIDTH,
        layers: 6,
        heads: 8,
        d_ff: 2048,
        norm_place: NormPlace::Post,
        norm: Norm::Layer,
        activation: Nonlinearity::Relu,
        bias: true,
        positions: Positions::None,
        time: TimeInput::None,
        qk_norm: false,
        qk_gain: 1.0,
        dropout: 0.1,
        d_embed: 0,
    }
}

pub(crate) fn table(rec: &mut Recorder) -> Var {
    rec.table("embed.weight", &[VOCAB, WIDTH], Init::Normal { std: 1.0 })
}

pub(crate) fn head(rec: &mut Recorder) -> (Var, Var) {
    let bound = 1.0 / (WIDTH as f32).sqrt();
    let weight = rec.table("lm_head.weight", &[VOCAB, WIDTH], Init::Uniform { bound });
    (weight, rec.param("lm_head.bias", &[VOCAB], Init::Zeros))
}

/// The CPU with so many threads.
pub fn cpu(threads: usize) -> Device {
    Device::Cpu(Cpu::with(threads, Isa::detect()))
}

/// A session with the parameters in a file, or drawn.
pub(crate) fn session(plan: Plan, device: Device, weights: Option<&Path>) -> Result<Session<Device>, String> {
    let mut session = Session::new(device, plan).map_err(|e| e.to_string())?;
    if let Some(path) = weights {
        let set = load(&mut session, Part::Value, path, "", Origin::Own).map_err(|e| e.to_string())?;
        set.map_err(|e| e.to_string())?;
    } else {
        session.init(SEED).map_err(|e| e.to_string())?;
    }
    Ok(session)
}

/// The seed's training step: embed, add noise of a random level, predict it, reverse, AdamW.
pub struct Training {
    session: Session<Device>,
    level: Var,
    loss: Var,
    batch: usize,
    step: u32,
}

impl Training {
    /// A step on `batch` rows of `len` tokens.
    ///
    /// # Errors
    /// If the type is not computed in, or there is not enough memory.
    pub fn new(batch: usize, len: usize, dtype: DType, device: Device) -> Result<Self, String> {
        let mut rec = trainer(dtype)?;
        head(&mut rec);
        let (plan, loss) = Self::record(rec, batch, len);
        let input = |name: &str| plan.input(name).expect("recorded above");
        let (ids, level, hyper) = (input("ids"), input("level"), input("hyper"));
        let mut session = session(plan, device, None)?;
        let mut rng = Philox::new(SEED, 1, 0, 0);
        let tokens: Vec<u32> = (0..batch * len).map(|_| rng.below(MASK as usize) as u32).collect();
        session.write(ids, &tokens).expect("an upload in memory");
        let mut rates = [0.0f32; Hyper::LEN];
        rates[Hyper::LR] = 1e-4;
        rates[Hyper::MAX_NORM] = f32::INFINITY;
        (rates[Hyper::CORRECTION_1], rates[Hyper::CORRECTION_2]) = (1.0, 1.0);
        session.write(hyper, &rates).expect("an upload in memory");
        Ok(Self { session, level, loss, batch, step: 0 })
    }

    fn record(mut rec: Recorder, batch: usize, len: usize) -> (Plan, Var) {
        let ids = rec.input("ids", &[batch, len], DType::U32);
        let level = rec.input("level", &[batch, 2], DType::F32);
        let table = table(&mut rec);
        let x = rec.embedding(ids, table);
        let (noisy, noise) = rec.corrupt_gaussian(x, level);
        let noise_hat = encoder().body(&mut rec, noisy, None, None);
        let elements = (batch * len * WIDTH) as f32;
        let weight = rec.constant(&[batch, len], vec![1.0 / elements; batch * len]);
        let (loss, _) = rec.squared_error(noise_hat, noise, weight);
        rec.backward(loss);
        let adamw = AdamW { beta_1: 0.9, beta_2: 0.999, eps: 1e-8, weight_decay: 0.01 };
        let norm = rec.update(Update { optimizer: Optimizer::AdamW(adamw), ema: false, norm: false });
        (rec.finish(&[loss, norm]), loss)
    }

    /// The launches of the work alone: without the head, which gets no gradient and so has nothing to update.
    ///
    /// # Errors
    /// If the type is not computed in.
    pub fn launches(batch: usize, len: usize, dtype: DType) -> Result<Vec<Launch>, String> {
        let (plan, _) = Self::record(trainer(dtype)?, batch, len);
        Ok(launches(plan.program()))
    }

    /// One step with a new random key.
    ///
    /// # Panics
    /// If the loss is not finite: what is timed would not be training.
    pub fn run(&mut self) {
        self.step += 1;
        let mut rng = Philox::new(SEED, 2, self.step, 0);
        let betas = (0..self.batch).map(|_| 0.01 + 0.98 * rng.uniform());
        let level: Vec<f32> = betas.flat_map(|beta| [(1.0 - beta).sqrt() as f32, beta.sqrt() as f32]).collect();
        self.session.write(self.level, &level).expect("an upload in memory");
        self.session.set_rng(SEED, self.step).expect("an upload in memory");
        self.session.run().expect("a program in memory");
        let loss = self.session.read::<f32>(self.loss).expect("a download in memory")[0];
        assert!(loss.is_finite(), "the loss of step {} is {loss}, expected a finite number", self.step);
    }
}

/// Masked sampling: every position begins as the mask, and every step decides its share, the most confident first.
pub struct Sampling {
    session: Session<Device>,
    canvas: Var,
    masked: Var,
    drawn: Var,
    log_p: Var,
    batch: usize,
    len: usize,
    steps: usize,
    key: u32,
}

impl Sampling {
    /// `batch` texts of `len` tokens in `steps` steps, with the parameters in the file `weights` or with drawn ones.
    ///
    /// # Errors
    /// If the type is not computed in, the file does not hold this model, or there is not enough memory.
    pub fn new(
        [batch, len, steps]: [usize; 3],
        dtype: DType,
        device: Device,
        weights: Option<&Path>,
    ) -> Result<Self, String> {
        if steps == 0 || steps > len {
            return Err(format!("steps are 1 to len = {len}, so that each decides a position; found {steps}"));
        }
        let mut rec = recorder(dtype)?;
        let (canvas, masked, drawn, log_p) = Self::record(&mut rec, batch, len);
        let session = session(rec.finish(&[drawn, log_p]), device, weights)?;
        Ok(Self { session, canvas, masked, drawn, log_p, batch, len, steps, key: 0 })
    }

    /// One denoising step: ids, flags of the masked rows, drawn ids and their log-probabilities.
    fn record(rec: &mut Recorder, batch: usize, len: usize) -> (Var, Var, Var, Var) {
        let canvas = rec.input("canvas", &[batch, len], DType::U32);
        let masked = rec.input("masked", &[batch, len], DType::U32);
        let h = Self::backbone(rec, canvas);
        let (weight, bias) = head(rec);
        let (drawn, log_p, _) = rec.linear_sample(h, (weight, Some(bias)), masked, 1.0, Some(MASK));
        (canvas, masked, drawn, log_p)
    }

    fn backbone(rec: &mut Recorder, canvas: Var) -> Var {
        let table = table(rec);
        let x = rec.embedding(canvas, table);
        Encoder { dropout: 0.0, ..encoder() }.body(rec, x, None, None)
    }

    /// The launches that the work needs, all steps in order: [`Sampling::step_launches`] of each.
    ///
    /// # Errors
    /// If the type is not computed in.
    pub fn launches([batch, len, steps]: [usize; 3], dtype: DType) -> Result<Vec<Launch>, String> {
        let backbone = Self::backbone_launches([batch, len], dtype)?;
        let masked = |step| len - decided(len, step, steps);
        Ok((0..steps).flat_map(|step| Self::step_launches(&backbone, batch * masked(step), dtype)).collect())
    }

    /// The launches of the backbone on `batch` texts of `len` tokens: the same in every step.
    ///
    /// # Errors
    /// If the type is not computed in.
    pub fn backbone_launches([batch, len]: [usize; 2], dtype: DType) -> Result<Vec<Launch>, String> {
        let mut rec = recorder(dtype)?;
        let canvas = rec.input("canvas", &[batch, len], DType::U32);
        let h = Self::backbone(&mut rec, canvas);
        Ok(launches(rec.finish(&[h]).program()))
    }

    /// What a step needs: the backbone, and the head on the rows that are still masked, whose logits nobody has to store.
    pub fn step_launches(backbone: &[Launch], masked_rows: usize, dtype: DType) -> Vec<Launch> {
        let (rows, v, d) = (masked_rows as u64, VOCAB as u64, WIDTH as u64);
        let dtype = beside_weights(dtype);
        let bytes = dtype.size() as u64 * (v * d + rows * d);
        let head = Launch { cost: Cost { flops: 2 * rows * v * d, bytes }, footprint: bytes, dtype };
        backbone.iter().copied().chain([head]).collect()
    }

    /// Writes the texts from nothing.
    pub fn run(&mut self) -> Vec<u32> {
        self.run_in(self.steps)
    }

    /// [`Sampling::run`] in another number of steps: what a step computes is the same.
    ///
    /// # Panics
    /// If a step would decide no position.
    pub fn run_in(&mut self, steps: usize) -> Vec<u32> {
        assert!((1..=self.len).contains(&steps), "{steps} steps for {} tokens", self.len);
        let mut ids = vec![MASK; self.batch * self.len];
        for step in 0..steps {
            let count = decided(self.len, step + 1, steps) - decided(self.len, step, steps);
            self.step(&mut ids, count);
        }
        ids
    }

    /// One step on a canvas whose texts have `masked` masks each, of which it decides one.
    ///
    /// # Panics
    /// If `masked` is 0 or more than a text has positions.
    pub fn run_one(&mut self, masked: usize) {
        assert!((1..=self.len).contains(&masked), "{masked} masks in a text of {}", self.len);
        let id = |i: usize| if i % self.len < masked { MASK } else { i as u32 * 7919 % MASK };
        let mut ids: Vec<u32> = (0..self.batch * self.len).map(id).collect();
        self.step(&mut ids, 1);
    }

    /// Decides `count` more positions of every text on the canvas `ids`.
    fn step(&mut self, ids: &mut [u32], count: usize) {
        self.key += 1;
        self.session.write(self.canvas, ids).expect("an upload in memory");
        let masked: Vec<u32> = ids.iter().map(|&id| u32::from(id == MASK)).collect();
        self.session.write(self.masked, &masked).expect("an upload in memory");
        self.session.set_rng(SEED, self.key).expect("an upload in memory");
        self.session.run().expect("a program in memory");
        let drawn = self.session.read::<u32>(self.drawn).expect("a download in memory");
        let log_p = self.session.read::<f32>(self.log_p).expect("a download in memory");
        for row in 0..self.batch {
            let (from, to) = (row * self.len, (row + 1) * self.len);
            let mut masked: Vec<usize> = (from..to).filter(|&i| ids[i] == MASK).collect();
            masked.sort_by(|&a, &b| log_p[b].total_cmp(&log_p[a]));
            masked[..count].iter().for_each(|&i| ids[i] = drawn[i]);
        }
    }

    /// The first token of a text: one step, as `start` times it.
    pub fn first(&mut self) -> (usize, u32) {
        let mut ids = vec![MASK; self.batch * self.len];
        self.step(&mut ids, decided(self.len, 1, self.steps));
        let place = ids.iter().position(|&id| id != MASK).expect("a step decides a position");
        (place, ids[place])
    }

    /// Writes the parameters.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn save(&self, path: &Path) -> Result<(), String> {
        let tensors = export(&self.session, Part::Value).map_err(|e| e.to_string())?;
        Weights { tensors, ..Weights::default() }.write(path).map_err(|e| e.to_string())
    }
}

/// Positions that are decided after `step` of `steps` steps.
pub fn decided(len: usize, step: usize, steps: usize) -> usize {
    len * step / steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_decides_its_share_and_the_last_one_the_rest() {
        for (len, steps) in [(128, 32), (128, 50), (7, 7), (9, 2), (5, 1)] {
            assert_eq!((decided(len, 0, steps), decided(len, steps, steps)), (0, len));
            assert!((0..steps).all(|step| decided(len, step, steps) < decided(len, step + 1, steps)));
        }
    }

    #[test]
    fn the_training_step_counts_what_the_seed_computes() {
        // Three products of every layer's four matrices with two rows of 128 tokens: 51 GFLOP.
        let matrices = 6 * (4 * WIDTH * WIDTH + 2 * WIDTH * 2048) as u64;
        let products = 3 * 2 * matrices * 256;
        let flops: u64 = Training::launches(2, LEN, DType::F32).expect("f32").iter().map(|l| l.cost.flops).sum();
        assert!(flops > products && flops < products * 110 / 100, "{flops}, the products alone are {products}");
    }

    #[test]
    fn sampling_counts_the_head_on_masked_rows_only() {
        let flops = |steps| -> u64 {
            let launches = Sampling::launches([1, LEN, steps], DType::F32).expect("f32");
            launches.iter().map(|l| l.cost.flops).sum()
        };
        let head = |rows: usize| 2 * (rows * VOCAB * WIDTH) as u64;
        let backbone = flops(1) - head(LEN);
        assert_eq!(flops(2), 2 * backbone + head(LEN) + head(LEN / 2));
    }
}
