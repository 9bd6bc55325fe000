//! Muon on CUDA: a stack of matrices, products of all of them in one launch.

use super::cpu::{A, B, C, TINY};
use crate::cuda::{Arch, Launch, Launches, Machine, Place, Source};
use crate::gemm::cuda::{End, Finish, Form, Matrix, Product, reserve};
use crate::op::Muon;
use crate::program::Inst;
use galatea_tensor::DType;

/// All but the products.
pub(crate) const SOURCE: Source = Source { name: "muon", text: include_str!("muon.cu"), archs: &Arch::ALL };

/// Elements of a chunk, at the least.
const CHUNK: usize = 4096;
/// Most chunks of a matrix.
const CHUNKS: usize = 256;

/// One step on the matrices of param and momentum for the gradients g.
pub(crate) fn step(inst: &Inst, machine: Machine, muon: Muon) -> Launches {
    let (g, norm, hyper) = (inst.reads[0], inst.reads[1], inst.reads[2]);
    let [param, momentum, x, next, gram, poly] = [0, 1, 2, 3, 4, 5].map(|i| Place::from(inst.writes[i]));
    let dims: Vec<usize> = g.shape.dims().iter().map(|&d| d as usize).collect();
    let (n, r, c) = match dims[..] {
        [r, c] => (1, r, c),
        [n, r, c] => (n, r, c),
        _ => unreachable!("a matrix or a stack of them (`slots`)"),
    };
    let (len, s, k) = (r * c, r.min(c), r.max(c));
    let each = len.div_ceil(CHUNKS).max(CHUNK);
    let chunks = len.div_ceil(each);
    let grid = [chunks as u32, n as u32, 1];

    let mut plan = Launches::default();
    let squares = reserve(&mut plan, n * chunks * size_of::<f32>());
    let advance = Launch::new(&SOURCE, "muon_advance", grid, 256).at(g).at(norm).at(hyper);
    plan.list.push(advance.at(momentum).at(x).at(squares).u64(len).u64(each).f32(muon.momentum));
    let scale = Launch::new(&SOURCE, "muon_scale", grid, 256).at(squares).u32(chunks).at(x);
    plan.list.push(scale.u64(len).u64(each).f32(TINY));

    let (mut x, mut next) = (x, next);
    let matrix = |place| Matrix { place, dtype: DType::F32 };
    let mut product = |form, shape, a, b, finish| {
        let (a, b, end) = (matrix(a), matrix(b), End::Finish(finish));
        let product = Product { form, shape, dtype: DType::F32, a, b, end, split: false, count: n };
        product.plan(machine, &mut plan);
    };
    for _ in 0..muon.iterations {
        // The products of the rows, or of the columns if these are fewer: symmetric, as is what is made of them.
        let form = if r > c { Form::Tn } else { Form::Nt };
        product(form, (s, s, k), x, x, Finish::plain(matrix(gram)));
        let square = Finish { scale: C, residual: Some((B, gram)), ..Finish::plain(matrix(poly)) };
        product(Form::Nn, (s, s, s), gram, gram, square);
        let (left, right) = if r > c { (x, poly) } else { (poly, x) };
        product(Form::Nn, (r, c, s), left, right, Finish { residual: Some((A, x)), ..Finish::plain(matrix(next)) });
        std::mem::swap(&mut x, &mut next);
    }

    let scale = (r as f32 / c as f32).max(1.0).sqrt();
    let apply = Launch::over(&SOURCE, "muon_apply", n * len).at(x).at(hyper).at(param);
    plan.list.push(apply.u64(n * len).f32(muon.weight_decay).f32(scale));
    plan
}
