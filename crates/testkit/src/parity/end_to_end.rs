//! MDLM's samplers with a network instead of a table: weights, time, sampler and network together.

use super::ancestral::{follow, masks, sampler};
use super::network::{OUTPUTS, dit, flat, load, network_of};
use super::{Case, Fault, Report};
use galatea_autograd::{DType, Recorder, Session};
use galatea_kernels::Cpu;
use galatea_kernels::cpu::CpuError;
use galatea_models::{Dit, Model, NetDenoiser};
use galatea_processes::Denoiser;
use galatea_samplers::{AncestralOptions, Levels};
use galatea_schedules::{LogLinear, Schedule};
use ndarray::{Array3, ArrayRef2, ArrayRef3, Axis, Ix3};
use std::sync::{Arc, Mutex, PoisonError};

/// One call: the canvas, and the logits that came back.
pub(super) type Call = (Vec<u32>, Vec<f32>);

/// A denoiser whose calls are kept.
pub(super) struct Watched<D> {
    pub(super) denoiser: D,
    pub(super) calls: Arc<Mutex<Vec<Call>>>,
}

impl<D: Denoiser> Denoiser for Watched<D> {
    type Error = D::Error;

    fn denoise(&mut self, x_t: &ArrayRef2<u32>, t: f64, logits: &mut ArrayRef3<f32>) -> Result<(), D::Error> {
        self.denoiser.denoise(x_t, t, logits)?;
        let call = (x_t.iter().copied().collect(), logits.iter().copied().collect());
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        Ok(())
    }
}

/// A canvas like that of the trace, through the network of the fixture that `model` names.
pub(super) fn check(case: &Case, report: &mut Report, levels: Levels, options: AncestralOptions) -> Result<(), Fault> {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::new(Mutex::new(Vec::new()));
    let watched = Watched { denoiser: network(case, Arc::clone(&told))?, calls: Arc::clone(&calls) };
    follow(case, report, sampler(case, watched, masks(case)?, levels, options)?)?;
    let calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
    let truth = case.ids("calls.x")?;
    let ours: Vec<u32> = calls.iter().flat_map(|(x_t, _)| x_t).copied().collect();
    // Where no mask is left we save the original's last call.
    report.exact("calls", &ours, truth.get(..ours.len()).unwrap_or(&truth));
    // One number for each call: the rows of a batch are told the same.
    let sigma = sigma(case)?;
    let told = told.lock().unwrap_or_else(PoisonError::into_inner);
    report.relative("total noise", &told, sigma.get(..told.len()).unwrap_or(&sigma), 1e-5);
    let [all, batch, len] = case.shape("calls.x")?;
    if let Some((_, logits)) = calls.first() {
        report.relative_f32("first logits", logits, &case.vec("calls.logits_first")?, OUTPUTS);
    }
    // The last call anew, whether or not we saved it.
    let mut network = network(case, Arc::new(Mutex::new(vec![0.0; all - 1])))?;
    let last = case.id_array::<Ix3>("calls.x")?.index_axis_move(Axis(0), all - 1);
    let mut logits = Array3::zeros((batch, len, case.shape::<3>("calls.logits_last")?[2]));
    network.denoise(&last.as_standard_layout(), 0.0, &mut logits).map_err(Fault::refused)?;
    report.relative_f32("last logits", &flat(&logits), &case.vec("calls.logits_last")?, OUTPUTS);
    Ok(())
}

/// What the network was told in each call.
fn sigma(case: &Case) -> Result<Vec<f64>, Fault> {
    let batch = case.shape::<2>("calls.sigma")?[1];
    Ok(case.vec("calls.sigma")?.into_iter().step_by(batch.max(1)).collect())
}

/// The DiT behind the trait. What it would be told is appended to `told`; it is told what the original was, whose total noise
/// in f32 is wrong by 1e-5 at the end of the schedule (1 - 0.999 has few digits), and so would its logits be.
fn network(case: &Case, told: Arc<Mutex<Vec<f64>>>) -> Result<NetDenoiser<Cpu>, Fault> {
    let weights = network_of(case, "model")?;
    let (model, vocab) = dit(&weights, "n_heads")?;
    let Model::Dit(dit) = model else { return Err(case.unsupported("model", "a DiT")) };
    let model = Model::Dit(Dit { time_conditioning: case.flag("time_conditioning")?, ..dit });
    let [batch, len] = case.shape("x_final")?;
    let mut rec = Recorder::new();
    let x_t = rec.input("x_t", &[batch, len], DType::U32);
    let time = rec.input("time", &[batch], DType::F32);
    let logits = model.logits(&mut rec, vocab, x_t, time, None);
    let mut session =
        Session::new(Cpu::new(), rec.finish(&[logits])).map_err(|error: CpuError| Fault::refused(error))?;
    load(&mut session, &weights)?;
    let (schedule, sigma) = (LogLinear::default(), sigma(case)?);
    Ok(NetDenoiser::new(session, x_t, time, logits, move |t| {
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        told.push(f64::from(model.time_value(t, schedule.alpha_bar(t))));
        sigma.get(told.len() - 1).map_or(f32::NAN, |&sigma| sigma as f32)
    }))
}
