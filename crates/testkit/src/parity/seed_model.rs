//! The textbook's script: a post-norm encoder that predicts the noise of embeddings.

use super::network::{GRADIENTS, gradients, load};
use super::{Case, Fault, Report};
use galatea_autograd::{DType, Init, Recorder, Session};
use galatea_kernels::Cpu;
use galatea_models::{Encoder, Nonlinearity, Norm, NormPlace, Positions, TimeInput};

/// The encoder that the settings describe.
fn encoder(case: &Case) -> Result<Encoder, Fault> {
    let norm_place = if case.flag("norm_first")? { NormPlace::Pre } else { NormPlace::Post };
    let activation = match case.text("activation")? {
        "relu" => Nonlinearity::Relu,
        _ => return Err(case.unsupported("activation", "relu")),
    };
    if norm_place == NormPlace::Pre {
        return Err(case.unsupported("norm_first", "false"));
    }
    let encoder = Encoder {
        d_model: case.count("embed_dim")?,
        layers: case.count("num_layers")?,
        heads: case.count("nhead")?,
        d_ff: case.count("dim_feedforward")?,
        norm_place,
        norm: Norm::Layer,
        activation,
        bias: true,
        positions: Positions::None,
        time: TimeInput::None,
        qk_norm: false,
        qk_gain: 1.0,
        dropout: 0.0,
        d_embed: 0,
    };
    encoder.validate()?;
    Ok(encoder)
}

/// `seed_model`: x_t = sqrt(1 - beta) e + sqrt(beta) noise, the prediction, its mean square error and all gradients; and the
/// rounding of its `generate`.
pub(super) fn check(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let encoder = encoder(case)?;
    let [vocab, d] = case.shape("param.embed.weight")?;
    let [batch, len] = case.shape("input_ids")?;
    let mut rec = Recorder::new();
    let ids = rec.input("ids", &[batch, len], DType::U32);
    let noise = rec.input("noise", &[batch, len, d], DType::F32);
    let scaled_noise = rec.input("scaled noise", &[batch, len, d], DType::F32);
    let level = rec.input("level", &[batch, 2], DType::F32);
    let table = rec.table("embed.weight", &[vocab, d], Init::Zeros);
    let e = rec.embedding(ids, table);
    // The recorded noise is added by hand: the signal is a corruption without any.
    let (signal, _) = rec.corrupt_gaussian(e, level);
    let x_t = rec.add(signal, scaled_noise);
    let prediction = encoder.body(&mut rec, x_t, None, None);
    let w = rec.constant(&[batch, len], vec![1.0 / (batch * len * d) as f32; batch * len]);
    let (loss, _) = rec.squared_error(prediction, noise, w);
    rec.backward(loss);
    let mut session = Session::new(Cpu::new(), rec.finish(&[loss, prediction, x_t])).map_err(Fault::refused)?;
    load(&mut session, case)?;
    let beta = case.scalar("timestep")? / case.number("total_steps")?;
    let scaled: Vec<f32> = case.vec("noise")?.iter().map(|noise| (beta.sqrt() * noise) as f32).collect();
    session.write(ids, &case.ids("input_ids")?).map_err(Fault::refused)?;
    session.write(noise, &case.vec_f32("noise")?).map_err(Fault::refused)?;
    session.write(scaled_noise, &scaled).map_err(Fault::refused)?;
    session.write(level, &[(1.0 - beta).sqrt() as f32, 0.0].repeat(batch)).map_err(Fault::refused)?;
    session.run().map_err(Fault::refused)?;
    let read = |var| session.read::<f32>(var).map_err(Fault::refused);
    report.relative_f32("x_t", &read(x_t)?, &case.vec("noisy_embeddings")?, 1e-6);
    report.relative_f32("prediction", &read(prediction)?, &case.vec("predicted_noise")?, 1e-5);
    report.relative_f32("loss", &read(loss)?, &case.vec("loss")?, 1e-6);
    gradients(&session, case, report, GRADIENTS)?;
    generate(case, vocab, report)
}

/// The script's `generate` rounds what it starts from: the argmax of the head's product with the noise.
fn generate(case: &Case, vocab: usize, report: &mut Report) -> Result<(), Fault> {
    let [batch, len, d] = case.shape("generate.noise")?;
    let mut rec = Recorder::new();
    let z = rec.input("z", &[batch, len, d], DType::F32);
    let table = rec.table("lm_head.weight", &[vocab, d], Init::Zeros);
    let bias = rec.param("lm_head.bias", &[vocab], Init::Zeros);
    let logits = galatea_models::Rounding { table, weight: table, bias: Some(bias) }.logits(&mut rec, z);
    let mut session = Session::new(Cpu::new(), rec.finish(&[logits])).map_err(Fault::refused)?;
    load(&mut session, case)?;
    session.write(z, &case.vec_f32("generate.noise")?).map_err(Fault::refused)?;
    session.run().map_err(Fault::refused)?;
    let logits: Vec<f32> = session.read(logits).map_err(Fault::refused)?;
    let best = |row: &[f32]| {
        let first = (0usize, f32::NEG_INFINITY);
        row.iter().enumerate().fold(first, |best, (k, &x)| if x > best.1 { (k, x) } else { best }).0 as u32
    };
    let found: Vec<u32> = logits.chunks(vocab).map(best).collect();
    report.exact("generated ids", &found, &case.ids("generate.ids")?);
    Ok(())
}
