//! The shape rule of every op: what it writes, given what it reads.

use crate::norm::parts;
use crate::op::{Chunk, Hyper, Limit, Norm, Op, Rows, Wish};
use crate::ops::divergence::TERMS;
use galatea_tensor::{DType, Shape};

/// A tensor without a place.
pub type Kind = (Shape, DType);

/// A tensor that an op cannot take: a mistake of the recording, shown with every shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{op}: expected {expected}; found {found}")]
pub struct ShapeError {
    /// The op's name.
    pub op: &'static str,
    /// What its documentation asks for.
    pub expected: &'static str,
    /// The shapes and types it was given.
    pub found: String,
}

use DType::{Bf16, F32, I8, U32};

/// What an attention mask asks of its positions.
const BLOCKS: &str = "blocks of at least one position, and an even number of positions where the canvas stands twice";

/// What a gated layer asks of its weights.
const HALVES: &str = "weights whose rows are two halves of one size";

/// The tensors that `op` writes when it reads tensors of these kinds.
///
/// # Errors
/// If their number, shapes or types are not the ones that [`Op`] documents.
pub fn slots(op: &Op, reads: &[Kind]) -> Result<Vec<Kind>, ShapeError> {
    let same = |i: usize| reads[i];
    let f = |dims: &[usize]| (Shape::new(dims), F32);
    let u = |dims: &[usize]| (Shape::new(dims), U32);
    let scalar = f(&[1]);
    let check = |ok: bool, expected: &'static str| if ok { Ok(()) } else { Err(mismatch(op, expected, reads)) };
    let arity = |n: usize, types: &[DType], expected: &'static str| {
        check(reads.len() == n && reads.iter().zip(types).all(|(r, t)| r.1 == *t), expected)
    };
    // The element type of an activation: that of read `i` if it can be one.
    let real = |i: usize| reads.get(i).map_or(F32, |r| if r.1 == Bf16 { Bf16 } else { F32 });
    let is = |i: usize, dims: &[usize]| reads[i].0 == Shape::new(dims);
    let rank3 = |i: usize| reads[i].0.rank() == 3;
    let d3 = |i: usize| (reads[i].0.dim(0), reads[i].0.dim(1), reads[i].0.dim(2));
    // exhaustive: no wildcard arm
    Ok(match *op {
        Op::Add => {
            const E: &str = "two tensors of one shape and type, f32 or bf16";
            arity(2, &[real(0); 2], E)?;
            check(reads[0].0 == reads[1].0, E)?;
            vec![same(0)]
        }
        Op::Accumulate => {
            arity(1, &[F32], "one f32 tensor")?;
            vec![same(0)]
        }
        Op::Cast { to } => {
            const E: &str = "one tensor, f32 or bf16, and one of these to turn it to";
            arity(1, &[real(0)], E)?;
            check(matches!(to, F32 | Bf16), E)?;
            vec![(reads[0].0, to)]
        }
        Op::AddRows { over, past } => {
            const E: &str = "x [b, l, d] and r f32 [p, d] with p dividing l (positions; at least l where they begin at past \
                u32 [1]) or [b, d] of x's type (batch)";
            arity(2 + usize::from(past), &[real(0), if over == Rows::Positions { F32 } else { real(0) }, U32], E)?;
            check(rank3(0) && reads[1].0.rank() == 2, E)?;
            let ((b, l, d), rows) = (d3(0), reads[1].0.dim(0));
            let fits = match over {
                Rows::Positions if past => rows >= l && is(2, &[1]),
                Rows::Positions => rows > 0 && l.is_multiple_of(rows),
                Rows::Batch => rows == b && !past,
            };
            check(fits && reads[1].0.cols() == d, E)?;
            vec![same(0)]
        }
        Op::AddRowsGrad { over, rows } => {
            const E: &str = "dy [b, l, d] whose rows share those of r";
            arity(1, &[real(0)], E)?;
            check(rank3(0), E)?;
            let ((b, l, d), rows) = (d3(0), rows as usize);
            check(if over == Rows::Positions { rows > 0 && l.is_multiple_of(rows) } else { rows == b }, E)?;
            vec![(Shape::new(&[rows, d]), if over == Rows::Positions { F32 } else { real(0) })]
        }
        Op::Activate { activation } => {
            const E: &str = "one tensor, f32 or bf16, and an activation of its elements";
            arity(1, &[real(0)], E)?;
            check(activation.halves() == 1, E)?;
            vec![same(0)]
        }
        Op::ActivateGrad { activation } => {
            const E: &str = "u and dy of one shape and type, and an activation of their elements";
            arity(2, &[real(0); 2], E)?;
            check(reads[0].0 == reads[1].0 && activation.halves() == 1, E)?;
            vec![same(0)]
        }
        Op::SwiGlu => {
            const E: &str = "u [.., 2 f]";
            arity(1, &[real(0)], E)?;
            check(reads[0].0.cols().is_multiple_of(2), E)?;
            vec![(reads[0].0.with_cols(reads[0].0.cols() / 2), real(0))]
        }
        Op::SwiGluGrad => {
            const E: &str = "u [.., 2 f] and dy [.., f]";
            arity(2, &[real(0); 2], E)?;
            check(reads[0].0.cols().is_multiple_of(2) && reads[1].0 == reads[0].0.with_cols(reads[0].0.cols() / 2), E)?;
            vec![same(0)]
        }
        Op::Linear { bias, activation, keep } => {
            const E: &str = "x [.., i], w [o, i] and, with a bias, b [o]";
            arity(2 + usize::from(bias), &[real(0), real(1), F32], E)?;
            check(reads[1].0.rank() == 2 && reads[0].0.cols() == reads[1].0.dim(1), E)?;
            let o = reads[1].0.dim(0);
            check(!bias || is(2, &[o]), E)?;
            check(o.is_multiple_of(activation.halves()), HALVES)?;
            let mut out = vec![(reads[0].0.with_cols(o / activation.halves()), real(1))];
            out.extend(keep.then(|| (reads[0].0.with_cols(o), real(1))));
            out
        }
        Op::LinearPacked { bias, activation, outputs } => {
            const E: &str = "x bf16 [.., i], the packed words of w [outputs, i] and, with a bias, b [outputs]";
            arity(2 + usize::from(bias), &[Bf16, U32, F32], E)?;
            let (o, halves) = (outputs as usize, activation.halves());
            check(o > 0 && o.is_multiple_of(halves), HALVES)?;
            let words = halves * crate::gemm::packed_words(o / halves, reads[0].0.cols());
            check(is(1, &[words]) && (!bias || is(2, &[o])), E)?;
            vec![(reads[0].0.with_cols(o / halves), Bf16)]
        }
        Op::LinearInt8 { bias, activation } => {
            const E: &str =
                "x [.., i] with i no more than 2^16, q int8 [o, i], its scales f32 [o] and, with a bias, b [o]";
            arity(3 + usize::from(bias), &[real(0), I8, F32, F32], E)?;
            check(reads[0].0.rank() >= 2 && reads[1].0.rank() == 2 && reads[0].0.cols() == reads[1].0.dim(1), E)?;
            let (n, i, o) = (reads[0].0.rows(), reads[0].0.cols(), reads[1].0.dim(0));
            check(i <= crate::gemm::int8::DEPTH && is(2, &[o]) && (!bias || is(3, &[o])), E)?;
            check(o.is_multiple_of(activation.halves()), HALVES)?;
            let y = (reads[0].0.with_cols(o / activation.halves()), real(0));
            vec![y, (Shape::new(&[n, i]), I8), f(&[n, 2])]
        }
        Op::LinearDx => {
            const E: &str = "dy [.., o] and w [o, i]";
            arity(2, &[real(0), real(1)], E)?;
            check(reads[1].0.rank() == 2 && reads[0].0.cols() == reads[1].0.dim(0), E)?;
            vec![(reads[0].0.with_cols(reads[1].0.dim(1)), real(1))]
        }
        Op::LinearDw { bias } => {
            const E: &str = "dy [.., o] and x [.., i] with the same rows";
            arity(2, &[real(0), real(1)], E)?;
            check(reads[0].0.rows() == reads[1].0.rows(), E)?;
            let (o, i) = (reads[0].0.cols(), reads[1].0.cols());
            let mut out = vec![f(&[o, i])];
            if bias {
                out.push(f(&[o]));
            }
            out
        }
        Op::Embedding => {
            const E: &str = "ids u32 [b, l] and table [v, d]";
            arity(2, &[U32, real(1)], E)?;
            check(reads[0].0.rank() == 2 && reads[1].0.rank() == 2, E)?;
            vec![(Shape::new(&[reads[0].0.dim(0), reads[0].0.dim(1), reads[1].0.dim(1)]), real(1))]
        }
        Op::EmbeddingGrad { vocab } => {
            const E: &str = "ids u32 [b, l] and dy [b, l, d]";
            arity(2, &[U32, real(1)], E)?;
            check(reads[0].0.len() == reads[1].0.rows(), E)?;
            vec![f(&[vocab as usize, reads[1].0.cols()])]
        }
        Op::LayerNorm { gain, bias, .. } => {
            const E: &str = "x [.., d], then gain [d] and shift [d] where asked";
            arity(1 + usize::from(gain) + usize::from(bias), &[real(0), F32, F32], E)?;
            check((1..reads.len()).all(|i| is(i, &[reads[0].0.cols()])), E)?;
            vec![same(0), f(&[reads[0].0.rows(), 2])]
        }
        Op::LayerNormGrad { gain, bias } => {
            const E: &str = "x [.., d], stats [n, 2], dy like x, gain [d] where asked";
            arity(3 + usize::from(gain), &[real(0), F32, real(0), F32], E)?;
            let d = reads[0].0.cols();
            check(is(1, &[reads[0].0.rows(), 2]) && reads[2].0 == reads[0].0 && (!gain || is(3, &[d])), E)?;
            [vec![same(0)], column_sums(reads[0].0, gain, bias)].concat()
        }
        Op::RmsNorm { gain, .. } => {
            const E: &str = "x [.., d] and gain [d] where asked";
            arity(1 + usize::from(gain), &[real(0), F32], E)?;
            check(!gain || is(1, &[reads[0].0.cols()]), E)?;
            vec![same(0), f(&[reads[0].0.rows()])]
        }
        Op::RmsNormGrad { gain } => {
            const E: &str = "x [.., d], stats [n], dy like x, gain [d] where asked";
            arity(3 + usize::from(gain), &[real(0), F32, real(0), F32], E)?;
            let d = reads[0].0.cols();
            check(is(1, &[reads[0].0.rows()]) && reads[2].0 == reads[0].0 && (!gain || is(3, &[d])), E)?;
            [vec![same(0)], column_sums(reads[0].0, gain, false)].concat()
        }
        Op::AddNorm { norm, gain, bias, dropout, .. } => {
            const E: &str = "x [.., d], h like x, gain [d], shift [d] and rng u32 [4] where asked, 0 <= p < 1";
            let tables = usize::from(gain) + usize::from(bias);
            let mut types = vec![F32; 2 + tables + usize::from(dropout.is_some())];
            types[..2].fill(real(0));
            types[2 + tables..].fill(U32);
            arity(types.len(), &types, E)?;
            check(reads[1].0 == reads[0].0 && (2..2 + tables).all(|i| is(i, &[reads[0].0.cols()])), E)?;
            check(dropout.is_none_or(|d| is(2 + tables, &[4]) && (0.0..1.0).contains(&d.p)), E)?;
            vec![same(0), same(0), f(&stats(norm, reads[0].0))]
        }
        Op::AddNormGrad { norm, gain, bias, dropout, sum } => {
            const E: &str = "s [.., d], stats, dy like s, ds like s, gain [d] and rng u32 [4] where asked";
            let (g, r) = (3 + usize::from(sum), 3 + usize::from(sum) + usize::from(gain));
            let mut types = vec![real(0); r + usize::from(dropout.is_some())];
            types[1] = F32;
            types[g..r].fill(F32);
            types[r..].fill(U32);
            arity(types.len(), &types, E)?;
            check(is(1, &stats(norm, reads[0].0)) && (2..g).all(|i| reads[i].0 == reads[0].0), E)?;
            check((!gain || is(g, &[reads[0].0.cols()])) && (dropout.is_none() || is(r, &[4])), E)?;
            let inputs = vec![same(0); if dropout.is_some() { 2 } else { 1 }];
            [inputs, column_sums(reads[0].0, gain, bias)].concat()
        }
        Op::QkNorm { heads, kv_heads, learned, .. } => {
            const E: &str = "qkv [b, l, (heads + 2 kv_heads) d_head] and, if they are learned, gains [2 d_head]";
            arity(1 + usize::from(learned), &[real(0), F32], E)?;
            check(groups_fit(reads[0].0, heads, kv_heads), E)?;
            check(!learned || is(1, &[2 * d_head(reads[0].0.cols(), heads, kv_heads)]), E)?;
            vec![same(0), f(&[reads[0].0.rows(), heads as usize + kv_heads as usize])]
        }
        Op::QkNormGrad { heads, kv_heads, learned, .. } => {
            const E: &str = "qkv [b, l, (heads + 2 kv_heads) d_head], stats [n, heads + kv_heads], dy like qkv and, if they are \
                             learned, gains [2 d_head]";
            arity(3 + usize::from(learned), &[real(0), F32, real(0), F32], E)?;
            check(groups_fit(reads[0].0, heads, kv_heads), E)?;
            check(is(1, &[reads[0].0.rows(), heads as usize + kv_heads as usize]) && reads[2].0 == reads[0].0, E)?;
            let (n, width) = (reads[0].0.rows(), reads[0].0.cols());
            let gains = 2 * d_head(width, heads, kv_heads);
            check(!learned || is(3, &[gains]), E)?;
            if learned { vec![same(0), f(&[gains]), f(&[parts(n, width), gains])] } else { vec![same(0)] }
        }
        Op::Modulate { shift, scale } => {
            const E: &str = "x [b, l, d] and m [b, chunks d]";
            arity(2, &[real(0); 2], E)?;
            check(rank3(0) && shift.of == scale.of && shift.index != scale.index, "two chunks of one m")?;
            check(fits(shift, 1, 0, reads) && fits(scale, 1, 0, reads), E)?;
            vec![same(0)]
        }
        Op::ModulateGrad { shift, scale } => {
            const E: &str = "x [b, l, d], m [b, chunks d], dy like x";
            arity(3, &[real(0); 3], E)?;
            check(rank3(0) && reads[2].0 == reads[0].0 && fits(shift, 1, 0, reads) && fits(scale, 1, 0, reads), E)?;
            vec![same(0), same(1)]
        }
        Op::Gate { gate } => {
            const E: &str = "x [b, l, d], h like x, m [b, chunks d]";
            arity(3, &[real(0); 3], E)?;
            check(rank3(0) && reads[1].0 == reads[0].0 && fits(gate, 2, 0, reads), E)?;
            vec![same(0)]
        }
        Op::GateGrad { gate } => {
            const E: &str = "h [b, l, d], m [b, chunks d], dy like h";
            arity(3, &[real(0); 3], E)?;
            check(rank3(0) && reads[2].0 == reads[0].0 && fits(gate, 1, 0, reads), E)?;
            vec![same(0), same(1)]
        }
        Op::Rotary { heads, kv_heads, past, .. } => {
            const E: &str = "qkv [b, l, (heads + 2 kv_heads) d_head], table [l, d_head] with an even d_head and, with past, a \
                             table of l positions or more and past u32 [1]";
            arity(2 + usize::from(past), &[real(0), F32, U32], E)?;
            check(groups_fit(reads[0].0, heads, kv_heads) && reads[1].0.rank() == 2, E)?;
            let (d_head, rows, l) = (d_head(reads[0].0.cols(), heads, kv_heads), reads[1].0.dim(0), reads[0].0.dim(1));
            check(d_head.is_multiple_of(2) && is(1, &[rows, d_head]), E)?;
            check(if past { rows >= l && is(2, &[1]) } else { rows == l }, E)?;
            vec![same(0)]
        }
        Op::Attention { heads, kv_heads, mask, padding, dropout } => {
            const E: &str = "qkv [b, l, (heads + 2 kv_heads) d_head], visible u32 [b, l] with padding, rng u32 [4] with \
                             dropout; then 0 <= p < 1 and l <= 65536";
            let p = usize::from(padding);
            arity(1 + p + usize::from(dropout.is_some()), &[real(0), U32, U32], E)?;
            check(groups_fit(reads[0].0, heads, kv_heads), E)?;
            let (b, l, width) = d3(0);
            check(mask.fits(l), BLOCKS)?;
            check(!padding || is(1, &[b, l]), E)?;
            check(dropout.is_none_or(|d| is(1 + p, &[4]) && (0.0..1.0).contains(&d.p) && l <= 1 << 16), E)?;
            let d = heads as usize * d_head(width, heads, kv_heads);
            vec![(reads[0].0.with_cols(d), real(0)), f(&[b, heads as usize, l])]
        }
        Op::AttentionGrad { heads, kv_heads, mask, padding, dropout } => {
            const E: &str = "qkv, visible where asked, y [b, l, heads d_head], lse f32 [b, heads, l], dy like y, rng u32 [4] where asked";
            let x = real(0);
            let types: &[DType] = if padding { &[x, U32, x, F32, x, U32] } else { &[x, x, F32, x, U32] };
            arity(types.len() - usize::from(dropout.is_none()), types, E)?;
            check(groups_fit(reads[0].0, heads, kv_heads), E)?;
            let (b, l, width) = d3(0);
            let (p, d) = (usize::from(padding), heads as usize * d_head(width, heads, kv_heads));
            check(mask.fits(l), BLOCKS)?;
            check(is(1 + p, &[b, l, d]) && is(2 + p, &[b, heads as usize, l]), E)?;
            check(reads[3 + p].0 == reads[1 + p].0 && (!padding || is(1, &[b, l])), E)?;
            check(dropout.is_none() || is(4 + p, &[4]), E)?;
            vec![same(0)]
        }
        Op::AttentionCached { heads, kv_heads, capacity, mask } => {
            check(mask.is_prefix(), "a mask by which a position sees a prefix: the cache holds nothing else")?;
            const E: &str =
                "qkv [b, n, (heads + 2 kv_heads) d_head] with n no more than the capacity, and past u32 [1]";
            arity(2, &[real(0), U32], E)?;
            check(groups_fit(reads[0].0, heads, kv_heads) && is(1, &[1]), E)?;
            let (b, n, width) = d3(0);
            check(mask.fits(n), BLOCKS)?;
            let (d_head, capacity) = (d_head(width, heads, kv_heads), capacity as usize);
            check(n <= capacity, E)?;
            let cache = (Shape::new(&[b, capacity, kv_heads as usize * d_head]), real(0));
            let dims = crate::ops::attention::Dims::new(reads[0].0, heads, kv_heads, mask);
            let y = (reads[0].0.with_cols(heads as usize * d_head), real(0));
            vec![cache, cache, y, f(&dims.partials(b, capacity))]
        }
        Op::TimeFeatures { dim, .. } => {
            const E: &str = "t [b] and an even width";
            arity(1, &[F32], E)?;
            check(reads[0].0.rank() == 1 && dim.is_multiple_of(2) && dim > 0, E)?;
            vec![f(&[reads[0].0.len(), dim as usize])]
        }
        Op::CorruptTokens { limit, .. } => {
            const E: &str = "x_0 u32 [b, l], level [b, g] (hybrid: [b, g, 2]) with g dividing l, rng u32 [4]";
            arity(3, &[U32, F32, U32], E)?;
            check(reads[0].0.rank() == 2 && is(2, &[4]), E)?;
            let level = if limit.levels() == 1 { &[][..] } else { &[2] };
            check(grouped(reads[0].0, reads[1].0, level), E)?;
            let empty = matches!(limit, Limit::Uniform(0) | Limit::Hybrid { ids: 0, .. });
            check(!empty, "a uniform limit over at least one id")?;
            vec![same(0)]
        }
        Op::CorruptGaussian { .. } => {
            const E: &str = "x_0 [b, l, d], level [b, 2], rng u32 [4]";
            arity(3, &[real(0), F32, U32], E)?;
            check(rank3(0) && is(1, &[reads[0].0.dim(0), 2]) && is(2, &[4]), E)?;
            vec![same(0), same(0)]
        }
        Op::CorruptGaussianGrad => {
            const E: &str = "level [b, 2] and dy [b, l, d]";
            arity(2, &[F32, real(1)], E)?;
            check(rank3(1) && is(0, &[reads[1].0.dim(0), 2]), E)?;
            vec![same(1)]
        }
        Op::Dropout { p, .. } => {
            const E: &str = "x, rng u32 [4] and 0 <= p < 1";
            arity(2, &[real(0), U32], E)?;
            check(is(1, &[4]) && (0.0..1.0).contains(&p), E)?;
            vec![same(0)]
        }
        Op::TokenWeight { .. } => {
            const E: &str = "x_0 and x_t u32 [b, l], weight [b, g, 3] with g dividing l";
            arity(3, &[U32, U32, F32], E)?;
            check(reads[0].0.rank() == 2 && reads[1].0 == reads[0].0 && grouped(reads[0].0, reads[2].0, &[3]), E)?;
            vec![(reads[0].0, F32)]
        }
        Op::CrossEntropy { .. } => {
            const E: &str = "logits [.., v], target u32 [..], w [..]";
            arity(3, &[F32, U32, F32], E)?;
            check(reads[0].0.rows() == reads[1].0.len() && reads[1].0.len() == reads[2].0.len(), E)?;
            vec![scalar, (reads[1].0, F32)]
        }
        Op::CrossEntropyGrad { .. } => {
            const E: &str = "logits, target, w, nll, dloss [1]";
            arity(5, &[F32, U32, F32, F32, F32], E)?;
            let n = reads[1].0.len();
            check(reads[0].0.rows() == n && reads[2].0.len() == n && reads[3].0.len() == n && is(4, &[1]), E)?;
            vec![same(0)]
        }
        Op::LinearCrossEntropy { bias, .. } => {
            const E: &str = "x [.., d], w [v, d] of its type, b [v] with a bias, target u32 [..], weight [..]";
            let b: &[DType] = if bias { &[F32] } else { &[] };
            arity(4 + b.len(), &[&[real(0), real(0)], b, &[U32, F32]].concat(), E)?;
            let (n, v, d) = head(reads, E, bias, op)?;
            let p = 2 + b.len();
            check(reads[p].0.len() == n && reads[p + 1].0.len() == n, E)?;
            let lead = reads[p + 1].0;
            let scratch = [u(&[n]), u(&[n]), (Shape::new(&[n, d]), real(0)), f(&[n]), f(&[n, 2])];
            let outputs = [scalar, (lead, F32), (lead, F32)];
            outputs.into_iter().chain(scratch).chain([f(&[n, 4 * crate::ops::head::parts(v)])]).collect()
        }
        Op::LinearCrossEntropyGrad { bias, .. } => {
            const E: &str =
                "x [.., d], w [v, d] of its type, b [v] with a bias, target u32 [..], weight, lse [..], dloss [1]";
            let b: &[DType] = if bias { &[F32] } else { &[] };
            arity(6 + b.len(), &[&[real(0), real(0)], b, &[U32, F32, F32, F32]].concat(), E)?;
            let (n, v, d) = head(reads, E, bias, op)?;
            let p = 2 + b.len();
            check((p..p + 3).all(|i| reads[i].0.len() == n) && is(p + 3, &[1]), E)?;
            let chunk = v.min(crate::ops::head::CHUNK);
            let outputs = [same(0), f(&[v, d])].into_iter().chain(bias.then(|| f(&[v])));
            let scratch = [(Shape::new(&[n, d]), real(0)), (Shape::new(&[n, chunk]), real(0)), f(&[n, d])];
            outputs.chain([u(&[n])]).chain(scratch).collect()
        }
        Op::LinearSample { bias, .. } => {
            const E: &str = "x [.., d], w [v, d] of its type, b [v] with a bias, live u32 [..], rng u32 [4]";
            let b: &[DType] = if bias { &[F32] } else { &[] };
            arity(4 + b.len(), &[&[real(0), real(0)], b, &[U32, U32]].concat(), E)?;
            let (n, v, d) = head(reads, E, bias, op)?;
            let p = 2 + b.len();
            check(reads[p].0.len() == n && is(p + 1, &[4]), E)?;
            let lead = reads[p].0;
            let scratch =
                [u(&[n]), (Shape::new(&[n, d]), real(0)), f(&[n, 3]), f(&[n, 4 * crate::ops::head::parts(v)])];
            [(lead, U32), (lead, F32), (lead, F32)].into_iter().chain(scratch).collect()
        }
        Op::Divergence { .. } => {
            const E: &str = "logits [b, l, v], x_0 and x_t u32 [b, l], terms [b, g, 3, 12] with g dividing l, w [b, l]";
            arity(5, &[F32, U32, U32, F32, F32], E)?;
            check(rank3(0) && reads[1..].iter().all(|r| r.0.dim(0) == reads[0].0.dim(0)), E)?;
            let (b, l, _) = d3(0);
            check([1, 2, 4].iter().all(|&i| is(i, &[b, l])) && grouped(reads[1].0, reads[3].0, &[3, TERMS]), E)?;
            vec![scalar, f(&[b, l]), f(&[b, l])]
        }
        Op::DivergenceGrad { .. } => {
            const E: &str = "logits, x_0, x_t, terms, w, lse [b, l], dloss [1]";
            arity(7, &[F32, U32, U32, F32, F32, F32, F32], E)?;
            check(rank3(0) && is(6, &[1]), E)?;
            vec![same(0)]
        }
        Op::PosteriorKl { .. } => {
            const E: &str = "logits [b, l, v], x_0 and x_t u32 [b, l], chain [b, 2, v, v], w [b, l]";
            arity(5, &[F32, U32, U32, F32, F32], E)?;
            check(rank3(0), E)?;
            let (b, l, v) = d3(0);
            check([1, 2, 4].iter().all(|&i| is(i, &[b, l])) && is(3, &[b, 2, v, v]), E)?;
            vec![scalar, f(&[b, l]), same(0), same(0)]
        }
        Op::PosteriorKlGrad { .. } => {
            const E: &str = "p and m [b, l, v], x_0, x_t, chain, w, dloss [1]";
            arity(7, &[F32, F32, U32, U32, F32, F32, F32], E)?;
            check(rank3(0) && reads[0].0 == reads[1].0 && is(6, &[1]), E)?;
            vec![same(0), same(0)]
        }
        Op::SquaredError => {
            const E: &str = "prediction [.., d], target like it, w [..]";
            arity(3, &[real(0), real(0), F32], E)?;
            check(reads[0].0 == reads[1].0 && reads[0].0.rows() == reads[2].0.len(), E)?;
            vec![scalar, same(2)]
        }
        Op::SquaredErrorGrad => {
            const E: &str = "prediction, target, w, dloss [1]";
            arity(4, &[real(0), real(0), F32, F32], E)?;
            check(reads[0].0 == reads[1].0 && reads[0].0.rows() == reads[2].0.len() && is(3, &[1]), E)?;
            vec![same(0), same(1)]
        }
        Op::Distances => {
            const E: &str = "x f32 [.., d] and w f32 [v, d]";
            arity(2, &[F32; 2], E)?;
            check(reads[1].0.rank() == 2 && reads[0].0.cols() == reads[1].0.cols(), E)?;
            vec![(reads[0].0.with_cols(reads[1].0.dim(0)), F32)]
        }
        Op::DistancesGrad => {
            const E: &str = "x f32 [.., d], w f32 [v, d], y [.., v], dy like y";
            arity(4, &[F32; 4], E)?;
            let fits = reads[1].0.rank() == 2 && reads[0].0.cols() == reads[1].0.cols();
            check(fits && reads[2].0 == reads[0].0.with_cols(reads[1].0.dim(0)) && reads[3].0 == reads[2].0, E)?;
            vec![same(0), same(1)]
        }
        Op::Softmax | Op::UnitRows { .. } => {
            arity(1, &[F32], "x f32 [.., d]")?;
            vec![same(0)]
        }
        Op::SoftmaxGrad | Op::UnitRowsGrad { .. } => {
            const E: &str = "two f32 tensors of one shape";
            arity(2, &[F32; 2], E)?;
            check(reads[0].0 == reads[1].0, E)?;
            vec![same(0)]
        }
        Op::ScaleRows { chunk } => {
            const E: &str = "x f32 [b, l, d] and m f32 [b, chunks]";
            arity(2, &[F32; 2], E)?;
            check(rank3(0) && chunk.index < chunk.of && is(1, &[reads[0].0.dim(0), chunk.of as usize]), E)?;
            vec![same(0)]
        }
        Op::ScaleRowsGrad { chunk } => {
            const E: &str = "x f32 [b, l, d], m f32 [b, chunks], dy like x";
            arity(3, &[F32; 3], E)?;
            check(rank3(0) && chunk.index < chunk.of && is(1, &[reads[0].0.dim(0), chunk.of as usize]), E)?;
            check(reads[2].0 == reads[0].0, E)?;
            vec![same(1)]
        }
        Op::Wishes => {
            const E: &str = "logits f32 [b, l, v], wishes u32 [k, 3], weight f32 [k]";
            arity(3, &[F32, U32, F32], E)?;
            check(rank3(0) && reads[2].0.rank() == 1 && is(1, &[reads[2].0.len(), Wish::LEN]), E)?;
            vec![scalar, f(&[reads[0].0.dim(0), reads[0].0.dim(1)])]
        }
        Op::WishesGrad => {
            const E: &str = "logits f32 [b, l, v], wishes u32 [k, 3], weight f32 [k], lse [b, l], dloss [1]";
            arity(5, &[F32, U32, F32, F32, F32], E)?;
            check(rank3(0) && reads[2].0.rank() == 1 && is(1, &[reads[2].0.len(), Wish::LEN]), E)?;
            check(is(3, &[reads[0].0.dim(0), reads[0].0.dim(1)]) && is(4, &[1]), E)?;
            vec![same(0)]
        }
        Op::SampleTokens { .. } => {
            const E: &str = "logits [.., v] and rng u32 [4]";
            arity(2, &[F32, U32], E)?;
            check(is(1, &[4]) && reads[0].0.rank() >= 2, E)?;
            let lead: Vec<usize> = reads[0].0.dims()[..reads[0].0.rank() - 1].iter().map(|&d| d as usize).collect();
            vec![(Shape::new(&lead), U32), f(&lead), f(&lead)]
        }
        Op::GlobalNorm => {
            arity(1, &[F32], "the flat gradient")?;
            vec![scalar]
        }
        Op::LinearDwAdamW { bias, ema, copy, .. } => {
            const E: &str = "dy [.., o] and x [.., i] with the same rows, and hyper";
            arity(3, &[real(0), real(1), F32], E)?;
            check(reads[0].0.rows() == reads[1].0.rows() && is(2, &[Hyper::LEN]), E)?;
            let (o, i) = (reads[0].0.cols(), reads[1].0.cols());
            let mut out = vec![f(&[o, i]); 3 + usize::from(ema)];
            out.extend(copy.then(|| (Shape::new(&[o, i]), Bf16)));
            out.extend(bias.then(|| f(&[o])));
            out
        }
        Op::EmbeddingAdamW { vocab, ema, copy, .. } => {
            const E: &str = "ids u32 [b, l], dy [b, l, d] and hyper";
            arity(3, &[U32, real(1), F32], E)?;
            check(reads[0].0.len() == reads[1].0.rows() && is(2, &[Hyper::LEN]), E)?;
            let table = Shape::new(&[vocab as usize, reads[1].0.cols()]);
            let mut out = vec![(table, F32); 3 + usize::from(ema)];
            out.extend(copy.then_some((table, Bf16)));
            out.push((Shape::new(&[vocab as usize + reads[0].0.len()]), U32));
            out
        }
        Op::AdamW { ema, copy, .. } => {
            const E: &str = "g (flat), norm [1], hyper";
            arity(3, &[F32; 3], E)?;
            check(is(1, &[1]) && is(2, &[Hyper::LEN]), E)?;
            let mut out = vec![same(0); 3 + usize::from(ema)];
            out.extend(copy.then_some((reads[0].0, Bf16)));
            out
        }
        Op::Muon(_) => {
            const E: &str = "g [n, r, c], norm [1], hyper";
            arity(3, &[F32; 3], E)?;
            check(rank3(0) && is(1, &[1]) && is(2, &[Hyper::LEN]), E)?;
            let (n, r, c) = d3(0);
            let gram = f(&[n, r.min(c), r.min(c)]);
            vec![same(0), same(0), same(0), same(0), gram, gram]
        }
        Op::Ema => {
            const E: &str = "param (flat) and hyper";
            arity(2, &[F32; 2], E)?;
            check(is(1, &[Hyper::LEN]), E)?;
            vec![same(0)]
        }
    })
}

/// (rows, columns, width) of a head x [.., d], w [v, d], b [v].
fn head(reads: &[Kind], expected: &'static str, bias: bool, op: &Op) -> Result<(usize, usize, usize), ShapeError> {
    let (x, w) = (reads[0].0, reads[1].0);
    let fits =
        x.rank() >= 2 && w.rank() == 2 && x.cols() == w.cols() && (!bias || reads[2].0 == Shape::new(&[w.dim(0)]));
    if fits { Ok((x.rows(), w.dim(0), w.cols())) } else { Err(mismatch(op, expected, reads)) }
}

fn mismatch(op: &Op, expected: &'static str, reads: &[Kind]) -> ShapeError {
    let found: Vec<String> = reads.iter().map(|(shape, dtype)| format!("{} {shape}", dtype.name())).collect();
    ShapeError { op: op.name(), expected, found: if found.is_empty() { "nothing".into() } else { found.join(", ") } }
}

/// What a norm keeps of a row of `x`.
fn stats(norm: Norm, x: Shape) -> Vec<usize> {
    match norm {
        Norm::Layer => vec![x.rows(), 2],
        Norm::Rms => vec![x.rows()],
    }
}

/// dgain and dshift where asked, then the scratch of both.
fn column_sums(x: Shape, gain: bool, bias: bool) -> Vec<Kind> {
    let tables = usize::from(gain) + usize::from(bias);
    let mut out = vec![(Shape::new(&[x.cols()]), F32); tables];
    if tables > 0 {
        out.push((Shape::new(&[parts(x.rows(), x.cols()), tables * x.cols()]), F32));
    }
    out
}

/// Whether qkv is [b, l, (heads + 2 kv_heads) d_head] with as many query heads for each key.
fn groups_fit(qkv: Shape, heads: u32, kv_heads: u32) -> bool {
    let whole = kv_heads > 0 && heads > 0 && heads.is_multiple_of(kv_heads);
    whole && qkv.rank() == 3 && qkv.cols().is_multiple_of(heads as usize + 2 * kv_heads as usize)
}

/// The width of a head in a qkv of that shape.
fn d_head(width: usize, heads: u32, kv_heads: u32) -> usize {
    width / (heads as usize + 2 * kv_heads as usize)
}

/// Whether a tensor is [b, g, ..`each`] for a text [b, l] in g groups of as many positions each.
fn grouped(text: Shape, groups: Shape, each: &[usize]) -> bool {
    let dims: Vec<usize> = groups.dims().iter().map(|&d| d as usize).collect();
    let fits = |b: usize, g: usize| b == text.dim(0) && g > 0 && text.dim(1).is_multiple_of(g);
    matches!(&dims[..], [b, g, rest @ ..] if fits(*b, *g) && rest == each)
}

/// Whether read `m` is [b, chunks d] for read `x` [b, l, d] and the chunk is one of them.
fn fits(chunk: Chunk, m: usize, x: usize, reads: &[Kind]) -> bool {
    let (x, m) = (reads[x].0, reads[m].0);
    chunk.index < chunk.of && x.rank() == 3 && m == Shape::new(&[x.dim(0), chunk.of as usize * x.dim(2)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Activation, AttentionMask};

    #[test]
    fn a_wrong_shape_is_named_with_what_was_expected() {
        let reads = [(Shape::new(&[4, 8]), F32), (Shape::new(&[16, 9]), F32)];
        let error = slots(&Op::Linear { bias: false, activation: Activation::None, keep: false }, &reads).unwrap_err();
        assert_eq!(
            error.to_string(),
            "linear: expected x [.., i], w [o, i] and, with a bias, b [o]; found f32 [4, 8], f32 [16, 9]"
        );
    }

    #[test]
    fn too_few_reads_are_an_error_not_a_panic() {
        let (mask, padding, dropout) = (AttentionMask::Full, true, None);
        assert!(slots(&Op::AttentionGrad { heads: 2, kv_heads: 2, mask, padding, dropout }, &[]).is_err());
        assert!(slots(&Op::Add, &[(Shape::new(&[2]), F32)]).is_err());
    }
}
