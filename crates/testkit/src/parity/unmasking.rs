//! Decoders of masked language models: LLaDA, Dream, and the selection rules of Fast-dLLM and dInfer.

use super::table::{Recorded, Table};
use super::{Case, Fault, Report, fast};
use galatea_processes::{Categorical, Denoiser, Limit};
use galatea_samplers::{
    Blocks, ClassifierFree, Filter, Fixed, Idiom, Prompt, Sampler, Score, Scored, Selection, Shifted, Unmasking,
    UnmaskingOptions, above, best, by_segments, quota, row_stats, stream, within_factor,
};
use ndarray::{Array2, Ix2, Ix3};
use std::convert::Infallible;

/// `llada_sampling`.
pub(super) fn llada(case: &Case, report: &mut Report) -> Result<(), Fault> {
    if case.has("mask_index") {
        return quotas(case, report);
    }
    let (len, block) = (case.count("gen_length")?, case.count("block_length")?);
    let [_, total] = case.shape::<2>("x_final")?;
    let [_, prompt] = case.shape::<2>("prompt")?;
    let blocks = (total - prompt.min(total)).div_ceil(block.max(1)).max(1);
    let passes = case.count("steps")? / blocks;
    if len + prompt != total || block == 0 || passes == 0 {
        return Err(case.unsupported("block_length", "blocks of at least one token and one step"));
    }
    let random = match case.setting("remasking").and_then(serde_json::Value::as_str) {
        None | Some("low_confidence") => false,
        Some("random") => true,
        Some(_) => return Err(case.unsupported("remasking", "low_confidence or random")),
    };
    let temperature = case.number("temperature")?;
    // A block that is full before its steps are over still has the original's forward passes and draws, to no effect.
    let used: Vec<usize> = (0..blocks).flat_map(|b| (0..passes.min(block)).map(move |i| b * passes + i)).collect();
    let (tokens, orders) = (usize::from(temperature > 0.0), usize::from(random));
    let mut draws = Recorded::default();
    for &step in &used {
        let first = step * (tokens + orders);
        if tokens > 0 {
            let tensor = case.recorded("", first)?;
            draws.push(stream::TOKENS, tensor.iter().copied(), tensor.shape().last().copied().unwrap_or(1));
        }
        if orders > 0 {
            draws.push(stream::ORDER, case.recorded("", first + tokens)?.iter().copied(), 1);
        }
    }
    let options = UnmaskingOptions {
        filter: Filter { temperature, ..Filter::default() },
        selection: Selection::Quota { passes },
        score: if random { Score::Random } else { Score::Confidence },
        blocks: Some(Blocks { first: prompt, size: block }),
        idiom: Idiom::Race,
        ..Default::default()
    };
    let table = Table::read(case, "")?;
    let asked = table.asked();
    let scale = case.setting("cfg_scale").map_or(Ok(0.0), |_| case.number("cfg_scale"))?;
    let last = if scale > 0.0 {
        let given = Array2::from_shape_fn((case.shape::<2>("x_final")?[0], total), |(_, l)| l < prompt);
        let guided = ClassifierFree::new(Prompt::new(table, given, mask(case)?), scale + 1.0)?;
        finish(sampler(case, guided, draws, options)?)?
    } else {
        finish(sampler(case, table, draws, options)?)?
    };
    report.exact("text", &last, &case.ids("x_final")?);
    let calls = case.id_array::<Ix3>("calls.x")?;
    let expected: Vec<u32> = used
        .iter()
        .filter(|&&step| step < calls.shape()[0])
        .flat_map(|&step| calls.index_axis(ndarray::Axis(0), step).iter().copied().collect::<Vec<_>>())
        .collect();
    report.exact("calls", &asked.ids(), &expected);
    Ok(())
}

/// n_i per step for every row of `mask_index`, in the tensors `steps<N>`.
fn quotas(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let masked: Vec<usize> =
        case.array::<Ix2>("mask_index")?.rows().into_iter().map(|row| row.sum() as usize).collect();
    let tables: Vec<String> = case.names().filter(|name| name.starts_with("steps")).map(str::to_owned).collect();
    for name in tables {
        let [_, passes] = case.shape::<2>(&name)?;
        let ours: Vec<u32> = masked.iter().flat_map(|&n| quota(n, passes)).map(|n| n as u32).collect();
        report.exact(name.clone(), &ours, &case.ids(&name)?);
    }
    Ok(())
}

/// `dream_sampling`.
pub(super) fn dream(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let (passes, t_min) = (case.count("steps")?, case.number("eps")?);
    let optional = |key: &str| case.setting(key).map(|_| case.number(key)).transpose();
    let temperature = optional("temperature")?.unwrap_or(0.0);
    let order_temperature = optional("alg_temp")?.unwrap_or(0.0);
    let (share, origin) = (Selection::Share { passes, t_min }, Selection::Bernoulli { passes, t_min });
    let (selection, score) = match case.text("alg")? {
        "origin" => (origin, Score::Random),
        "maskgit_plus" => (share, Score::Confidence),
        "topk_margin" => (share, Score::Margin),
        "entropy" => (share, Score::Entropy),
        _ => return Err(case.unsupported("alg", "origin, maskgit_plus, topk_margin or entropy")),
    };
    let options = UnmaskingOptions {
        filter: Filter {
            temperature,
            top_p: optional("top_p")?.unwrap_or(1.0).min(1.0),
            top_k: case.setting("top_k").map(|_| case.count("top_k")).transpose()?,
            ..Filter::default()
        },
        selection,
        score,
        scored: Scored::Filtered,
        order_temperature: if selection == origin { 0.0 } else { order_temperature },
        idiom: Idiom::Race,
        ..Default::default()
    };
    let draws = dream_draws(case, selection == origin, temperature > 0.0, options.order_temperature > 0.0)?;
    let table = Table::read(case, "")?;
    let asked = table.asked();
    let mut sampler = sampler(case, Shifted(table), draws, options)?;
    let mut found = Vec::new();
    for canvas in &mut sampler {
        found.extend(canvas.map_err(Fault::refused)?.ids);
    }
    // We stop when no mask is left; the original goes on and changes nothing.
    let (history, calls) = (case.ids("history")?, case.ids("calls.x")?);
    report.exact("canvases", &found, history.get(..found.len()).unwrap_or(&history));
    let last: Vec<u32> = sampler.canvas().ids.iter().copied().collect();
    report.exact("text", &last, &case.ids("x_final")?);
    let ours = asked.ids();
    report.exact("calls", &ours, calls.get(..ours.len()).unwrap_or(&calls));
    Ok(())
}

/// The recorded numbers, which exist for the masked positions only (those chosen, for the tokens of "origin"), put where
/// those positions are.
fn dream_draws(case: &Case, origin: bool, tokens: bool, orders: bool) -> Result<Recorded, Fault> {
    let (calls, history) = (case.id_array::<Ix3>("calls.x")?, case.id_array::<Ix3>("history")?);
    let (mask, vocab) = (mask(case)?, case.count("vocab_size")?);
    let (mut draws, mut next) = (Recorded::default(), 0);
    // For no positions at all there is a tensor without numbers, or none.
    let mut read = |any: bool| -> Result<Vec<f64>, Fault> {
        let tensor = case.recorded("", next);
        if !any && tensor.as_ref().map_or(true, |tensor| !tensor.is_empty()) {
            return Ok(Vec::new());
        }
        next += 1;
        Ok(tensor?.iter().copied().collect())
    };
    // Exponentials are recorded; uniforms are asked for.
    let uniforms = |expo: Vec<f64>| expo.into_iter().map(|e| (-e).exp()).collect::<Vec<_>>();
    for (before, after) in calls.outer_iter().zip(history.outer_iter()) {
        let masked: Vec<bool> = before.iter().map(|&id| id == mask).collect();
        let written: Vec<bool> = masked.iter().zip(after.iter()).map(|(&m, &id)| m && id != mask).collect();
        if origin {
            draws.push(stream::ORDER, scatter(&read(masked.contains(&true))?, &masked, 1), 1);
        }
        if tokens {
            let drawn = if origin { &written } else { &masked };
            draws.push(stream::TOKENS, scatter(&uniforms(read(drawn.contains(&true))?), drawn, vocab), vocab);
        }
        if orders {
            let order = if written.contains(&true) { uniforms(read(true)?) } else { vec![f64::NAN; masked.len()] };
            draws.push(stream::ORDER, order, 1);
        }
    }
    Ok(draws)
}

/// Rows of `width` numbers, given for the true places only; NaN elsewhere.
fn scatter(rows: &[f64], places: &[bool], width: usize) -> Vec<f64> {
    let mut rows = rows.chunks(width);
    let mut out = Vec::new();
    for &place in places {
        match if place { rows.next() } else { None } {
            Some(row) => out.extend_from_slice(row),
            None => out.extend(std::iter::repeat_n(f64::NAN, width)),
        }
    }
    out
}

/// `fast_dllm`: which positions the rules choose on recorded logits.
pub(super) fn fast_dllm(case: &Case, report: &mut Report) -> Result<(), Fault> {
    if !case.has("mask_index") {
        return fast::check(case, report);
    }
    let (logits, masked) = (case.array::<Ix3>("logits")?, case.id_array::<Ix2>("mask_index")?);
    let (x, mask) = (case.id_array::<Ix2>("x")?, mask(case)?);
    let high = case.setting("high_threshold").map_or(Ok(0.9), |_| case.number("high_threshold"))?;
    let names: Vec<String> = case.names().map(str::to_owned).collect();
    for name in names {
        let Some((rule, part)) = name.split_once('.').map(|_| name.rsplit_once('.').unwrap_or_default()) else {
            continue;
        };
        let mut found = Vec::new();
        for ((row, masked), x) in logits.outer_iter().zip(masked.rows()).zip(x.rows()) {
            let row: Vec<Vec<f32>> = row.outer_iter().map(|l| l.iter().map(|&l| l as f32).collect()).collect();
            let stats: Vec<_> = row.iter().map(|logits| row_stats(logits)).collect::<Option<_>>().unwrap_or_default();
            let argmax = |l: usize| stats.get(l).map_or(u32::MAX, |stats| stats.argmax as u32);
            if part == "x0" {
                found.extend((0..x.len()).map(|l| if masked[l] == 1 { argmax(l) } else { x[l] }));
                continue;
            }
            // dInfer's threshold never considers a position whose likeliest token is the mask.
            let open = |l: &usize| masked[*l] == 1 && !(rule.starts_with("threshold") && argmax(*l) == mask);
            let positions: Vec<usize> = (0..x.len()).filter(open).collect();
            let scores: Vec<f64> = positions.iter().filter_map(|&l| stats.get(l)).map(|s| s.confidence()).collect();
            let mut chosen = Vec::new();
            choose(rule, &positions, &scores, high, &mut chosen).ok_or_else(|| Fault::Tensor { name: name.clone() })?;
            let mut transfer = vec![0u32; x.len()];
            chosen.iter().for_each(|&k| transfer[positions[k]] = 1);
            found.extend(transfer);
        }
        report.exact(name.clone(), &found, &case.ids(&name)?);
    }
    Ok(())
}

/// Applies the rule that a tensor is named after, "factor0.5" say; `None` for one that nobody knows.
fn choose(rule: &str, positions: &[usize], scores: &[f64], high: f64, chosen: &mut Vec<usize>) -> Option<()> {
    let number = |prefix: &str| rule.strip_prefix(prefix).and_then(|x| x.parse::<f64>().ok());
    if let Some(least) = number("fastdllm_threshold") {
        above(scores, least, 0.0, chosen);
    } else if let Some(least) = number("threshold") {
        above(scores, least, 1e-5, chosen);
    } else if let Some(factor) = number("factor") {
        within_factor(scores, factor, chosen);
    } else if let Some(count) = number("quota") {
        best(scores, count as usize, chosen);
    } else if let Some(low) = rule.strip_prefix("hierarchy_low") {
        let low = if low == "None" { None } else { Some(low.parse().ok()?) };
        by_segments(positions, scores, high, low, chosen);
    } else {
        return None;
    }
    Some(())
}

fn mask(case: &Case) -> Result<u32, Fault> {
    Ok(case.count("mask_id")? as u32)
}

/// The sampler on the recorded prompt, or on none.
fn sampler<D: Denoiser<Error = Infallible>>(
    case: &Case,
    denoiser: D,
    draws: Recorded,
    options: UnmaskingOptions,
) -> Result<Unmasking<D>, Fault> {
    let [batch, len] = case.shape::<2>("x_final")?;
    let mut fixed = Fixed::none(batch, len);
    if case.has("prompt") {
        for (row, prompt) in case.id_array::<Ix2>("prompt")?.rows().into_iter().enumerate() {
            fixed.write(row, 0, &prompt.to_vec())?;
        }
    }
    let process = Categorical::new(case.count("vocab_size")?, Limit::Mask(mask(case)?))?;
    Ok(Unmasking::with_draws(denoiser, process, fixed, options, Box::new(draws))?)
}

fn finish(sampler: impl Sampler<DenoiserError = Infallible>) -> Result<Vec<u32>, Fault> {
    Ok(sampler.finish().map_err(Fault::refused)?.ids.iter().copied().collect())
}
