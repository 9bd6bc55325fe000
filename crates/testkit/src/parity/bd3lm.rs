//! Block diffusion: training on a canvas that stands twice, and one block after another by a cache.

use super::network::{GRADIENTS, Network, OUTPUTS, dit, flat, gradients, load, network_of, objective};
use super::{Case, Fault, Report};
use galatea_autograd::{Recorder, Session};
use galatea_kernels::Cpu;
use galatea_models::BlockModel;
use galatea_processes::objectives::masked;
use ndarray::{Array2, Axis, Ix2, Slice, concatenate};

/// `bd3lm`.
pub(super) fn check(case: &Case, report: &mut Report) -> Result<(), Fault> {
    if case.has("block0.noisy_ids") { cached(case, report) } else { training(case, report) }
}

fn settings(case: &Case) -> Result<(), Fault> {
    for key in ["cross_attn", "adaLN"] {
        if case.setting(key).is_some() && !case.flag(key)? {
            return Err(case.unsupported(key, "true"));
        }
    }
    Ok(())
}

/// The training forward, the block NELBO at the linear schedule and its gradients.
fn training(case: &Case, report: &mut Report) -> Result<(), Fault> {
    settings(case)?;
    let (model, vocab) = dit(case, "n_heads")?;
    let mask = case.count("mask_index")? as u32;
    let (x_t, x_0): (Array2<u32>, Array2<u32>) = (case.id_array::<Ix2>("x_t")?, case.id_array::<Ix2>("x0")?);
    let times: Array2<f64> = case.array::<Ix2>("t_block")?;
    let (batch, len) = x_t.dim();
    let model = BlockModel::new(model, case.count("block_size")?)?;
    let mut network = Network::new(case, [batch, 2 * len, vocab], |rec, ids, time| {
        let (h, head) = model.hidden(rec, vocab, ids, time, None);
        head.logits(rec, h)
    })?;
    let both = concatenate(Axis(1), &[x_t.view(), x_0.view()]).map_err(Fault::refused)?;
    let ids: Vec<u32> = both.iter().copied().collect();
    let all = network.forward(&ids, &case.vec_f32("sigma")?)?;
    let logits = all.slice_axis(Axis(1), Slice::from(..len)).as_standard_layout().into_owned();
    report.relative_f32("logits", &flat(&logits), &case.vec("logits")?, OUTPUTS);
    let tokens = x_t.len() as f64;
    let (loss, half) = objective(&x_0, &x_t, &logits, 1.0 / tokens, |row| {
        let weight = 1.0 / times[[row.b, row.l / model.block()]];
        masked::nelbo(row.logits, row.x_0, row.x_t, mask, weight, row.dlogits)
    })?;
    let found: Vec<f64> = loss.iter().copied().collect();
    report.relative("loss per token", &found, &case.vec("loss_per_token")?, OUTPUTS);
    report.relative("loss", &[loss.sum() / tokens], &[case.scalar("loss")?], OUTPUTS);
    let mut dlogits = ndarray::Array3::zeros(all.dim());
    dlogits.slice_axis_mut(Axis(1), Slice::from(..len)).assign(&half);
    network.backward(&dlogits)?;
    gradients(&network.session, case, report, GRADIENTS)
}

/// Every block, noisy and then clean, with the keys and values of the clean ones before it.
fn cached(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let weights = network_of(case, "note")?;
    settings(&weights)?;
    let (model, vocab) = dit(&weights, "n_heads")?;
    let [batch, block] = case.shape("block0.noisy_ids")?;
    let blocks = (0..).take_while(|n| case.has(&format!("block{n}.noisy_ids"))).count();
    let mut rec = Recorder::new();
    let program = BlockModel::new(model, block)?.program(&mut rec, vocab, batch, blocks * block)?;
    let mut session = Session::new(Cpu::new(), rec.finish(&[program.logits])).map_err(Fault::refused)?;
    load(&mut session, &weights)?;
    session.write(program.time, &weights.vec_f32("sigma")?).map_err(Fault::refused)?;
    for n in 0..blocks {
        for (ids, logits) in [("noisy_ids", "logits_noisy"), ("clean_ids", "logits_clean_stored")] {
            let name = |what| format!("block{n}.{what}");
            session.write(program.ids, &case.ids(&name(ids))?).map_err(Fault::refused)?;
            session.write(program.past, &[(n * block) as u32]).map_err(Fault::refused)?;
            session.run().map_err(Fault::refused)?;
            let found: Vec<f32> = session.read(program.logits).map_err(Fault::refused)?;
            report.relative_f32(name(logits), &found, &case.vec(&name(logits))?, OUTPUTS);
        }
    }
    Ok(())
}
