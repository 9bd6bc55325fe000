//! DiffusionGemma's sampler on the recorded answers of its network.

use super::table::Recorded;
use super::{Case, Fault, Report};
use galatea_processes::{Categorical, Denoiser, Limit};
use galatea_samplers::{Fixed, Idiom, Refining, RefiningOptions, Sampler, Stability, stream};
use ndarray::{Array4, ArrayRef2, ArrayRef3, Axis, Ix2, Ix3, Ix4};
use std::convert::Infallible;

/// Answers in the order in which they were recorded.
struct Recall {
    logits: Array4<f32>,
    call: usize,
}

impl Denoiser for Recall {
    type Error = Infallible;

    fn denoise(&mut self, _: &ArrayRef2<u32>, _: f64, logits: &mut ArrayRef3<f32>) -> Result<(), Infallible> {
        if self.call < self.logits.len_of(Axis(0)) {
            logits.assign(&self.logits.index_axis(Axis(0), self.call));
        } else {
            logits.fill(f32::NAN);
        }
        self.call += 1;
        Ok(())
    }
}

/// `diffusion_gemma`.
pub(super) fn gemma(case: &Case, report: &mut Report) -> Result<(), Fault> {
    if !case.has("calls.logits") {
        let what = "DiffusionGemma's network".to_owned();
        return Err(Fault::Unknown { what, known: "the sampler on the network's recorded answers".to_owned() });
    }
    let logits = case.array::<Ix4>("calls.logits")?.mapv(|x| x as f32);
    let (seen, sequences) = (case.id_array::<Ix3>("calls.canvas")?, case.id_array::<Ix2>("sequences")?);
    let (_, batch, len, vocab) = logits.dim();
    let prompt = case.shape::<2>("prompt")?[1];
    let options = RefiningOptions {
        steps: case.count("max_denoising_steps")?,
        temperatures: [case.number("t_max")?, case.number("t_min")?],
        gamma: case.number("entropy_bound")?,
        stability: Some(Stability {
            steps: case.count("stability_threshold")?,
            entropy: case.number("confidence_threshold")?,
        }),
        idiom: Idiom::Race,
        ..Default::default()
    };
    let (mut call, mut texts) = (0, vec![vec![]; batch]);
    for draws in canvases(case)? {
        let rest = logits.slice_axis(Axis(0), (call..).into()).to_owned();
        let denoiser = Recall { logits: rest, call: 0 };
        let process = Categorical::new(vocab, Limit::Uniform)?;
        let (fixed, draws) = (Fixed::none(batch, len), Box::new(draws));
        let mut sampler = Refining::with_draws(denoiser, process, fixed, options.clone(), draws)?;
        loop {
            // A row that is done shows its text; the original goes on showing its last noise to the network.
            let canvas = sampler.canvas();
            let open = |row: &usize| !canvas.decided.row(*row).iter().all(|decided| *decided);
            for row in (0..batch).filter(open) {
                let at = |call| seen.index_axis(Axis(0), call).row(row).to_vec();
                let expected = if call < seen.len_of(Axis(0)) { at(call) } else { vec![] };
                report.exact("canvases", &canvas.ids.row(row).to_vec(), &expected);
            }
            let Some(step) = sampler.advance() else { break };
            step.map_err(Fault::refused)?;
            call += 1;
        }
        let ids = &sampler.canvas().ids;
        texts.iter_mut().zip(ids.rows()).for_each(|(text, ids)| text.extend(ids));
    }
    report.exact("calls", &[call as u32], &[seen.len_of(Axis(0)) as u32]);
    let (ends, pad) = (ends(case)?, case.count("pad_token_id")? as u32);
    let mut found = Vec::new();
    for text in &mut texts {
        let cut = text.iter().position(|id| ends.contains(id)).map_or(text.len(), |end| end + 1);
        text[cut..].fill(pad);
        found.extend(text.iter().copied());
    }
    let expected: Vec<u32> = sequences.rows().into_iter().flat_map(|row| row.to_vec().split_off(prompt)).collect();
    report.exact("text", &found, &expected);
    Ok(())
}

fn ends(case: &Case) -> Result<Vec<u32>, Fault> {
    let ends = match case.setting("eos_token_id") {
        Some(serde_json::Value::Array(ends)) => ends.as_slice(),
        Some(end) => std::slice::from_ref(end),
        None => &[],
    };
    let ids: Option<Vec<u32>> = ends.iter().map(|end| end.as_u64().map(|id| id as u32)).collect();
    ids.ok_or_else(|| case.unsupported("eos_token_id", "an id, a list of ids or null"))
}

/// The recorded numbers of every canvas: it begins with random tokens, and every step draws a token and noise.
fn canvases(case: &Case) -> Result<Vec<Recorded>, Fault> {
    let names: Vec<String> = case.names().filter(|name| name.starts_with("rnd.")).map(str::to_owned).collect();
    let mut canvases: Vec<Recorded> = Vec::new();
    let mut noise = true;
    for (index, name) in names.iter().enumerate() {
        let tensor = case.recorded("", index)?;
        let begins = noise && name.ends_with("randint");
        if begins {
            canvases.push(Recorded::default());
        }
        let Some(draws) = canvases.last_mut() else { return Err(Fault::Tensor { name: name.clone() }) };
        if begins {
            draws.push(stream::START, tensor.iter().copied(), 1);
        } else if name.ends_with("randint") {
            draws.push(stream::RENOISING, tensor.iter().copied(), 1);
        } else {
            let width = tensor.shape().last().copied().unwrap_or(1);
            draws.push(stream::TOKENS, tensor.iter().map(|e| (-e).exp()), width);
        }
        noise = !begins && name.ends_with("randint");
    }
    Ok(canvases)
}
