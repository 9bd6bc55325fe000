//! Traces of BD3-LM's block sampler: first-hitting, and ancestral steps block by block.

use super::table::{Asked, Recorded, Table};
use super::{Case, Fault, Report};
use galatea_processes::{Categorical, Denoiser, Limit};
use galatea_samplers::{
    Blocks, Blockwise, BlockwiseOptions, Canvas, Fill, Filter, Fixed, Idiom, Nucleus, Sampler, Steps, stream,
};
use ndarray::{Array2, Array3, Axis, Ix3};

/// What stands behind the end of a growing canvas.
const NOTHING: u32 = u32::MAX;

/// `bd3lm_sampling`.
pub(super) fn bd3lm(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let (vocab, mask) = (case.count("vocab_size")?, case.count("mask_index")? as u32);
    let (size, steps) = (case.count("block_size")?, case.count("num_steps")?);
    let [batch, len] = case.shape::<2>("x_final")?;
    if batch != 1 || size == 0 {
        return Err(case.unsupported("block_size", "at least 1, and one row"));
    }
    let hitting = case.flag("first_hitting")?;
    let expected: Vec<Vec<u32>> = case
        .array::<Ix3>("x_steps")?
        .outer_iter()
        .map(|canvas| canvas.iter().map(|&id| if id < 0.0 { NOTHING } else { id as u32 }).collect())
        .collect();
    let mut fixed = Fixed::none(1, len);
    fixed.set(0, 0, case.count("bos_token_id")? as u32)?;
    let options = BlockwiseOptions {
        filter: Filter { top_p: case.number("nucleus_p")?, nucleus: Nucleus::Within, ..Filter::default() },
        idiom: Idiom::Guarded64,
        blocks: Blocks { first: 0, size },
        fill: if hitting { Fill::FirstHitting } else { Fill::Ancestral(Steps::lagging(steps)?) },
        ..BlockwiseOptions::new(size)
    };
    let filter = options.filter.clone();
    let (table, asked) = (Table::read(case, "")?, Asked::default());
    let draws = recorded(case, hitting, &expected, size)?;
    let process = Categorical::new(vocab, Limit::Mask(mask))?;
    let mut sampler =
        Blockwise::with_draws(table.clone().logged(asked.clone()), process, fixed, options, Box::new(draws))?;
    let (mut trace, mut calls) = (Trace { in_block: 0, end: 0, found: Vec::new() }, Vec::new());
    let lagging = Steps::lagging(steps)?.as_slice().len();
    while let Some(canvas) = sampler.next() {
        let canvas = canvas.map_err(Fault::refused)?;
        trace.push(&canvas, sampler.end());
        calls.extend(asked.take());
        let masks: Vec<usize> = (0..sampler.end()).filter(|&l| canvas.ids[[0, l]] == mask).collect();
        if !hitting && trace.in_block == lagging && !masks.is_empty() {
            // The original takes a last step from t = 0, whose weights are infinite for every token of the nucleus and
            // not a number for the others, the first of which is what its argmax finds; else the first of all.
            let shown = Array2::from_shape_fn((1, sampler.end()), |at| canvas.ids[at]);
            let mut logits = Array3::zeros((1, sampler.end(), vocab));
            let Ok(()) = table.clone().denoise(&shown, 0.0, &mut logits);
            logits.index_axis_mut(Axis(2), mask as usize).fill(f32::NEG_INFINITY);
            if !canvas.changed.is_empty() {
                calls.push(shown.iter().copied().collect());
            }
            for &position in &masks {
                let row: Vec<f32> = (0..vocab).map(|v| logits[[0, position, v]]).collect();
                let mut p = vec![0.0; vocab];
                filter.apply(&row, &mut p);
                let ids = || (0..vocab as u32).filter(|&v| v != mask);
                let found = ids().find(|&v| p[v as usize] <= 0.0).or_else(|| ids().next());
                sampler.write(0, position, found.unwrap_or(0))?;
            }
            let canvas = sampler.canvas().clone();
            trace.push(&canvas, sampler.end());
        }
    }
    report.exact("canvases", &trace.found.concat(), &expected.concat());
    let last: Vec<u32> = sampler.canvas().ids.iter().copied().collect();
    report.exact("text", &last, &case.ids("x_final")?);
    let mut theirs = Vec::new();
    // In the order of their numbers, of which those from 100 on have more digits.
    let mut names: Vec<&str> = case.names().filter(|name| name.starts_with("calls.") && name.ends_with(".x")).collect();
    names.sort_by_key(|name| (name.len(), *name));
    for name in names {
        theirs.extend(case.ids(name)?);
    }
    report.exact("calls", &calls.concat(), &theirs);
    Ok(())
}

/// The canvases so far, and where in a block they are.
struct Trace {
    in_block: usize,
    end: usize,
    found: Vec<Vec<u32>>,
}

impl Trace {
    fn push(&mut self, canvas: &Canvas, end: usize) {
        self.in_block = if self.end == end { self.in_block + 1 } else { 1 };
        self.end = end;
        let shown = canvas.ids.iter().enumerate().map(|(i, &id)| if i < end { id } else { NOTHING });
        self.found.push(shown.collect());
    }
}

/// The recorded numbers, which count positions from the beginning of the block and steps without those that the original
/// adds.
fn recorded(case: &Case, hitting: bool, expected: &[Vec<u32>], size: usize) -> Result<Recorded, Fault> {
    let (mut draws, len) = (Recorded::default(), expected.first().map_or(0, Vec::len));
    let lagging = Steps::lagging(case.count("num_steps")?)?.as_slice().len();
    let (mut index, mut in_block, mut end) = (0, 0, 0);
    for (step, canvas) in expected.iter().enumerate() {
        let present = canvas.iter().position(|&id| id == NOTHING).unwrap_or(len);
        in_block = if present == end { in_block + 1 } else { 1 };
        end = present;
        let tensor = case.recorded("", index)?;
        index += 1;
        if !hitting && in_block > lagging {
            continue;
        }
        let width = tensor.shape().last().copied().unwrap_or(1);
        let before = std::iter::repeat_n(f64::NAN, end.saturating_sub(size) * width);
        draws.push(stream::TOKENS, before.chain(tensor.iter().copied()), width);
        if hitting {
            draws.push(stream::TIME, case.vec("time_uniforms")?.get(step).copied(), 1);
            draws.push(stream::ORDER, case.recorded("", index)?.iter().copied(), 1);
            index += 1;
        }
    }
    Ok(draws)
}
