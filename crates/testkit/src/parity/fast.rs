//! Fast-dLLM's decoding with LLaDA's network: blocks, thresholds, and caches that are taken as they were.

use super::end_to_end::{Call, Watched};
use super::llama::llada_model;
use super::network::{OUTPUTS, load};
use super::table::Recorded;
use super::{Case, Fault, Report};
use galatea_autograd::{DType, Part, Recorder, Session};
use galatea_kernels::Cpu;
use galatea_kernels::cpu::CpuError;
use galatea_models::{Frozen, FrozenDenoiser, Model, NetDenoiser, weights};
use galatea_processes::{Categorical, Denoiser, Limit};
use galatea_samplers::{Blocks, Filter, Fixed, Idiom, Sampler, Selection, Unmasking, UnmaskingOptions, stream};
use ndarray::Ix2;
use std::sync::{Arc, Mutex, PoisonError};

/// A trace, or the weights of all.
pub(super) fn check(case: &Case, report: &mut Report) -> Result<(), Fault> {
    if !case.has("prompt") {
        return parameters(case, report);
    }
    let trace = Trace::read(case)?;
    let calls = Arc::new(Mutex::new(Vec::new()));
    let weights = network_beside(case)?;
    let (model, vocab) = llada_model(&weights)?;
    let canvas = (trace.batch, trace.total);
    let text = match trace.frozen {
        None => {
            let denoiser = Watched { denoiser: plain(&weights, &model, vocab, canvas)?, calls: Arc::clone(&calls) };
            trace.run(case, vocab, denoiser)?
        }
        Some(frozen) => {
            let (blocks, mask) = ((trace.prompt, trace.block), trace.mask);
            let denoiser = FrozenDenoiser::new::<Fault>(&model, vocab, canvas, blocks, frozen, mask, Cpu::new, |s| {
                load(s, &weights)
            })?;
            trace.run(case, vocab, Watched { denoiser, calls: Arc::clone(&calls) })?
        }
    };
    report.exact("text", &text, &case.ids("x_final")?);
    let calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
    trace.compare(case, report, &calls, vocab)
}

/// The fixture of the folder that holds LLaDA's network.
fn network_beside(case: &Case) -> Result<Case, Fault> {
    let beside = std::fs::read_dir(&case.folder).map_err(Fault::refused)?.filter_map(Result::ok);
    let mut names: Vec<String> = beside.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    for name in names.into_iter().filter(|name| name.ends_with(".safetensors")) {
        let other = case.sibling(&name)?;
        if other.has("param.model.transformer.wte.weight") {
            return Ok(other);
        }
    }
    Err(Fault::Tensor { name: "param.model.transformer.wte.weight in a file beside this one".to_owned() })
}

/// That every tensor has its place in the network, and comes out of it as it went in.
fn parameters(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let (model, vocab) = llada_model(case)?;
    let mut rec = Recorder::new();
    let (ids, time) = (rec.input("ids", &[1, 1], DType::U32), rec.input("time", &[1], DType::F32));
    let logits = model.logits(&mut rec, vocab, ids, time, None);
    let mut session = Session::new(Cpu::new(), rec.finish(&[logits])).map_err(refused)?;
    load(&mut session, case)?;
    let ours = weights::export(&session, Part::Value).map_err(refused)?;
    let names: Vec<String> = case.names().filter_map(|name| name.strip_prefix("param.")).map(str::to_owned).collect();
    for name in names {
        let Some(tensor) = ours.get(&name) else {
            return Err(Fault::Tensor { name: format!("{name} in the network") });
        };
        report.relative_f32(name.clone(), &tensor.values, &case.vec(&format!("param.{name}"))?, 0.0);
    }
    Ok(())
}

fn refused(error: CpuError) -> Fault {
    Fault::refused(error)
}

/// The network on whole canvases.
fn plain(weights: &Case, model: &Model, vocab: usize, (batch, len): (usize, usize)) -> Result<NetDenoiser<Cpu>, Fault> {
    let mut rec = Recorder::new();
    let x_t = rec.input("x_t", &[batch, len], DType::U32);
    let time = rec.input("time", &[batch], DType::F32);
    let logits = model.logits(&mut rec, vocab, x_t, time, None);
    let mut session = Session::new(Cpu::new(), rec.finish(&[logits])).map_err(refused)?;
    load(&mut session, weights)?;
    Ok(NetDenoiser::new(session, x_t, time, logits, |_| 0.0))
}

/// The settings of a trace, and the widths of its calls.
struct Trace {
    batch: usize,
    total: usize,
    prompt: usize,
    block: usize,
    passes: usize,
    mask: u32,
    frozen: Option<Frozen>,
    widths: Vec<usize>,
}

impl Trace {
    fn read(case: &Case) -> Result<Self, Fault> {
        let ([batch, prompt], [_, total]) = (case.shape("prompt")?, case.shape("x_final")?);
        let (block, len) = (case.count("block_length")?, case.count("gen_length")?);
        if block == 0 || !len.is_multiple_of(block) || prompt + len != total {
            return Err(case.unsupported("block_length", "a divisor of gen_length"));
        }
        let passes = case.count("steps")? / (len / block);
        let names = (0..).map(|n| format!("call{n:02}.x")).take_while(|name| case.has(name));
        let widths: Vec<usize> = names.map(|name| Ok(case.shape::<2>(&name)?[1])).collect::<Result<_, Fault>>()?;
        // What a call computes says which cache it used: more than the block only with those that keep the prefix, which draw
        // more often than they are asked, too.
        let drawn = case.names().filter(|name| name.starts_with("rnd.")).count();
        let prefix = widths.iter().any(|&w| w > block && w < total) || drawn > widths.len();
        let frozen = match (prefix, widths.contains(&block)) {
            (true, _) => Some(Frozen::Prefix),
            (false, true) if block < total => Some(Frozen::Outside),
            (false, _) => None,
        };
        Ok(Self { batch, total, prompt, block, passes, mask: case.count("mask_id")? as u32, frozen, widths })
    }

    /// The recorded uniforms, each where its position is on the canvas.
    fn draws(&self, case: &Case, vocab: usize) -> Result<Recorded, Fault> {
        let (mut draws, mut next) = (Recorded::default(), 0);
        for (n, &width) in self.widths.iter().enumerate() {
            // With a prefix cache the original draws twice in a call on a part, and uses the second.
            next += usize::from(self.frozen == Some(Frozen::Prefix) && width < self.total);
            let numbers: Vec<f64> = case.recorded("", next)?.iter().copied().collect();
            next += 1;
            let start = self.start(&case.ids(&format!("call{n:02}.x"))?, width, case, n)?;
            let mut all = vec![f64::NAN; self.batch * self.total * vocab];
            for (all, row) in all.chunks_mut(self.total * vocab).zip(numbers.chunks(width * vocab)) {
                all[start * vocab..start * vocab + row.len()].copy_from_slice(row);
            }
            draws.push(stream::TOKENS, all, vocab);
        }
        Ok(draws)
    }

    /// Where the positions of call number `n` begin: those of a prefix cache end with the canvas; a block alone belongs to the
    /// whole canvas before it.
    fn start(&self, x: &[u32], width: usize, case: &Case, n: usize) -> Result<usize, Fault> {
        if width == self.total || self.frozen == Some(Frozen::Prefix) {
            return Ok(self.total - width);
        }
        let whole = (0..=n).rev().find(|&n| self.widths[n] == self.total).unwrap_or(0);
        let canvas = if whole == n { x.to_vec() } else { case.ids(&format!("call{whole:02}.x"))? };
        Ok(self.block_of(&canvas))
    }

    /// Where the block of the first masked position of a canvas begins.
    fn block_of(&self, canvas: &[u32]) -> usize {
        let masked = |l: &usize| canvas.chunks(self.total).any(|row| row.get(*l) == Some(&self.mask));
        let open = (0..self.total).find(masked).unwrap_or(self.total - 1);
        self.prompt + open.saturating_sub(self.prompt) / self.block * self.block
    }

    /// The text of our sampler.
    fn run<D: Denoiser>(&self, case: &Case, vocab: usize, denoiser: D) -> Result<Vec<u32>, Fault>
    where
        D::Error: std::error::Error + Send + Sync + 'static,
    {
        let temperature = case.number("temperature")?;
        let selection = match (case.setting("threshold"), case.setting("factor")) {
            (Some(_), None) => Selection::Threshold { least: case.number("threshold")?, slack: 0.0 },
            (None, Some(_)) => Selection::Factor { factor: case.number("factor")? },
            (None, None) => Selection::Quota { passes: self.passes },
            (Some(_), Some(_)) => return Err(case.unsupported("factor", "null beside a threshold")),
        };
        let options = UnmaskingOptions {
            filter: Filter { temperature, ..Filter::default() },
            selection,
            blocks: Some(Blocks { first: self.prompt, size: self.block }),
            idiom: Idiom::Race,
            ..Default::default()
        };
        let draws = if temperature > 0.0 { self.draws(case, vocab)? } else { Recorded::default() };
        let mut fixed = Fixed::none(self.batch, self.total);
        for (row, prompt) in case.id_array::<Ix2>("prompt")?.rows().into_iter().enumerate() {
            fixed.write(row, 0, &prompt.to_vec())?;
        }
        let process = Categorical::new(vocab, Limit::Mask(self.mask))?;
        let sampler = Unmasking::with_draws(denoiser, process, fixed, options, Box::new(draws))?;
        Ok(sampler.finish().map_err(Fault::refused)?.ids.iter().copied().collect())
    }

    /// What was asked, and what came back where the original kept it.
    fn compare(&self, case: &Case, report: &mut Report, calls: &[Call], vocab: usize) -> Result<(), Fault> {
        report.exact("calls", &[calls.len() as u32], &[self.widths.len() as u32]);
        let (mut asked, mut expected) = (Vec::new(), Vec::new());
        for (n, ((x, logits), &width)) in calls.iter().zip(&self.widths).enumerate() {
            let truth = case.ids(&format!("call{n:02}.x"))?;
            let start = self.start(&truth, width, case, n)?;
            asked.extend(x.chunks(self.total).flat_map(|row| &row[start..start + width]).copied());
            expected.extend(truth);
            let name = format!("call{n:02}.logits");
            if case.has(&name) {
                let rows = logits.chunks(self.total * vocab);
                let found: Vec<f32> = rows.flat_map(|row| &row[start * vocab..][..width * vocab]).copied().collect();
                report.relative_f32(name.clone(), &found, &case.vec(&name)?, OUTPUTS);
            }
        }
        report.exact("canvases", &asked, &expected);
        Ok(())
    }
}
