//! Llama bodies in both directions: LLaDA and Dream.

use super::dit::masked_cross_entropy;
use super::network::{GRADIENTS, Network, OUTPUTS, flat, gradients};
use super::{Case, Fault, Report};
use galatea_models::{Llama, Model};
use ndarray::{Array2, Ix2};

/// The body that the settings of a LLaDA describe, and its vocabulary.
pub(super) fn llada_model(case: &Case) -> Result<(Model, usize), Fault> {
    if !case.has("param.model.transformer.wte.weight") {
        let what = format!("{}, which holds no network", case.name);
        return Err(Fault::Unknown { what, known: "LLaDA's network with its parameters".to_owned() });
    }
    for (key, value) in [("block_type", "llama"), ("activation_type", "silu"), ("layer_norm_type", "rms")] {
        if case.setting(key).is_some() && case.text(key)? != value {
            return Err(case.unsupported(key, value));
        }
    }
    for key in
        ["include_bias", "include_qkv_bias", "bias_for_layer_norm", "weight_tying", "attention_layer_norm", "alibi"]
    {
        if case.flag(key)? {
            return Err(case.unsupported(key, "false"));
        }
    }
    let [vocab, d_model] = case.shape("param.model.transformer.wte.weight")?;
    let [d_ff, _] = case.shape("param.model.transformer.blocks.0.ff_proj.weight")?;
    let layers =
        (0..).take_while(|n| case.has(&format!("param.model.transformer.blocks.{n}.attn_norm.weight"))).count();
    let heads = case.count("n_heads")?;
    let kv_heads = if case.setting("n_kv_heads").is_some() { case.count("n_kv_heads")? } else { heads };
    let (rope_theta, norm_eps) = (case.number("rope_theta")?, case.number("rms_norm_eps")? as f32);
    let llama = Llama { d_model, layers, heads, kv_heads, d_ff, rope_theta, norm_eps, ..Llama::default() };
    let model = Model::Llama(llama);
    model.validate()?;
    Ok((model, vocab))
}

/// `llada`: logits, cross-entropy at masks, every gradient.
pub(super) fn llada(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let (model, vocab) = llada_model(case)?;
    let (x_t, x_0): (Array2<u32>, Array2<u32>) = (case.id_array::<Ix2>("x")?, case.id_array::<Ix2>("x0")?);
    let (batch, len) = x_t.dim();
    let logits = |rec: &mut _, ids, time| model.logits(rec, vocab, ids, time, None);
    let mut network = Network::new(case, [batch, len, vocab], logits)?;
    let logits = network.forward(&case.ids("x")?, &vec![0.0; batch])?;
    report.relative_f32("logits", &flat(&logits), &case.vec("logits")?, OUTPUTS);
    let dlogits = masked_cross_entropy(case, report, &x_0, &x_t, &logits)?;
    network.backward(&dlogits)?;
    gradients(&network.session, case, report, GRADIENTS)
}
