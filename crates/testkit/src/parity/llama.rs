//! Llama bodies in both directions or in blocks: LLaDA, Dream, SDAR.

use super::dit::masked_cross_entropy;
use super::network::{GRADIENTS, Network, OUTPUTS, flat, gradients};
use super::{Case, Fault, Report};
use galatea_autograd::DType;
use galatea_models::{BlockModel, Llama, Model, Naming};
use ndarray::{Array2, Array3, Axis, Ix2, Slice, concatenate};

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

/// The body that the settings of a Qwen describe, and its vocabulary.
fn qwen_model(case: &Case) -> Result<(Model, usize), Fault> {
    if case.flag("tie_word_embeddings")? {
        return Err(case.unsupported("tie_word_embeddings", "false"));
    }
    let [vocab, d_model] = case.shape("param.model.embed_tokens.weight")?;
    let [d_ff, _] = case.shape("param.model.layers.0.mlp.gate_proj.weight")?;
    let ([q_width, _], heads) =
        (case.shape("param.model.layers.0.self_attn.q_proj.weight")?, case.count("num_attention_heads")?);
    let layers = (0..).take_while(|n| case.has(&format!("param.model.layers.{n}.input_layernorm.weight"))).count();
    let model = Model::Llama(Llama {
        d_model,
        layers,
        heads,
        d_head: q_width.checked_div(heads).unwrap_or(0),
        kv_heads: case.count("num_key_value_heads")?,
        d_ff,
        rope_theta: case.number("rope_theta")?,
        norm_eps: case.number("rms_norm_eps")? as f32,
        qk_norm: case.has("param.model.layers.0.self_attn.q_norm.weight"),
        qkv_bias: case.has("param.model.layers.0.self_attn.q_proj.bias"),
        naming: Naming::Qwen,
        ..Llama::default()
    });
    model.validate()?;
    Ok((model, vocab))
}

/// `dream`: logits, those of the token before for every position, a row with padding before it, and every gradient.
pub(super) fn dream(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let (model, vocab) = qwen_model(case)?;
    let (x_t, x_0): (Array2<u32>, Array2<u32>) = (case.id_array::<Ix2>("x")?, case.id_array::<Ix2>("x0")?);
    let (batch, len) = x_t.dim();
    let mut network = Network::new(case, [batch, len, vocab], |rec, ids, time| {
        let visible = rec.input("visible", &[batch, len], DType::U32);
        model.logits(rec, vocab, ids, time, Some(visible))
    })?;
    let ids = case.ids("x")?;
    let forward = |network: &mut Network, visible: &[u32]| {
        let input = network.session.plan().input("visible").ok_or_else(|| Fault::Tensor { name: "visible".into() })?;
        network.session.write(input, visible).map_err(Fault::refused)?;
        network.forward(&ids, &vec![0.0; batch])
    };
    if case.has("leftpad.attention_mask") {
        // Rotations know how far apart two positions are and nothing else: padding needs no other positions.
        let visible = case.ids("leftpad.attention_mask")?;
        let logits = forward(&mut network, &visible)?;
        let padding = visible.iter().take_while(|&&v| v == 0).count();
        let found: Vec<f32> = flat(&logits)[padding * vocab..len * vocab].to_vec();
        report.relative_f32("logits behind padding", &found, &case.vec("leftpad.logits_valid")?, OUTPUTS);
    }
    let logits = forward(&mut network, &vec![1; batch * len])?;
    report.relative_f32("logits", &flat(&logits), &case.vec("logits")?, OUTPUTS);
    // A position is predicted where the token before it stands; the first by itself.
    let cut = |from: usize, to: usize| logits.slice_axis(Axis(1), Slice::from(from..to));
    let shifted = concatenate(Axis(1), &[cut(0, 1), cut(0, len - 1)]).map_err(Fault::refused)?;
    let shifted = shifted.as_standard_layout().into_owned();
    report.relative_f32("shifted logits", &flat(&shifted), &case.vec("logits_shifted")?, OUTPUTS);
    let dshifted = masked_cross_entropy(case, report, &x_0, &x_t, &shifted)?;
    let mut dlogits = Array3::zeros(logits.dim());
    for l in 0..len {
        let mut to = dlogits.index_axis_mut(Axis(1), l.saturating_sub(1));
        to += &dshifted.index_axis(Axis(1), l);
    }
    network.backward(&dlogits)?;
    gradients(&network.session, case, report, GRADIENTS)
}

/// `sdar`: logits in blocks and with everything visible, cross-entropy at masks of the first, every gradient.
pub(super) fn sdar(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let (model, vocab) = qwen_model(case)?;
    let (x_t, x_0): (Array2<u32>, Array2<u32>) = (case.id_array::<Ix2>("x")?, case.id_array::<Ix2>("x0")?);
    let (batch, len) = x_t.dim();
    let (ids, time) = (case.ids("x")?, vec![0.0; batch]);
    if case.has("logits_full_attention") {
        let whole = |rec: &mut _, ids, time| model.logits(rec, vocab, ids, time, None);
        let logits = Network::new(case, [batch, len, vocab], whole)?.forward(&ids, &time)?;
        report.relative_f32("logits of all", &flat(&logits), &case.vec("logits_full_attention")?, OUTPUTS);
    }
    let model = BlockModel::new(model, case.count("block_size")?)?;
    let mut network = Network::new(case, [batch, len, vocab], |rec, ids, time| {
        let (h, head) = model.hidden_as_it_stands(rec, vocab, ids, time, None);
        head.logits(rec, h)
    })?;
    let logits = network.forward(&ids, &time)?;
    report.relative_f32("logits", &flat(&logits), &case.vec("logits")?, OUTPUTS);
    let dlogits = masked_cross_entropy(case, report, &x_0, &x_t, &logits)?;
    network.backward(&dlogits)?;
    gradients(&network.session, case, report, GRADIENTS)
}
