use super::CHUNK;
use crate::cuda::{Arch, Launch, Launches, Machine, Place, Source};
use crate::gemm::cuda::{End, Finish, Form, Matrix, Product, column_sums, reserve};
use crate::program::Inst;
use galatea_tensor::{DType, Slot};

/// The head.
pub(crate) const SOURCE: Source = Source { name: "head", text: include_str!("head.cu"), archs: &Arch::ALL };

/// Rows, and columns, of a tile of logits.
const TILE: usize = 64;
const THREADS: u32 = 128;

/// What all kernels of a head read.
struct Head {
    x: Slot,
    w: Slot,
    bias: Option<Slot>,
    forbid: u32,
    n: usize,
    v: usize,
    d: usize,
    /// How many rows are live.
    count: Place,
}

impl Head {
    fn new(inst: &Inst, bias: bool, forbid: Option<u32>, plan: &mut Launches) -> Self {
        let (x, w) = (inst.reads[0], inst.reads[1]);
        let (n, v, d) = (x.shape.rows(), w.shape.dim(0), w.shape.cols());
        let count = reserve(plan, size_of::<u32>());
        Self { x, w, bias: bias.then(|| inst.reads[2]), forbid: forbid.unwrap_or(u32::MAX), n, v, d, count }
    }

    fn entry(&self, f32: &'static str, bf16: &'static str) -> &'static str {
        if self.x.dtype == DType::Bf16 { bf16 } else { f32 }
    }

    /// Shared memory of a tile: its logits, and two stages of both factors.
    fn shared(&self) -> usize {
        let stage = if self.x.dtype == DType::Bf16 { 2 * TILE * (32 + 8) } else { 4 * TILE * (16 + 4) };
        4 * (TILE * (TILE + 1) + 64) + 4 * stage
    }

    /// A warp for every row.
    fn by_row(&self, entry: &'static str) -> Launch {
        Launch::new(&SOURCE, entry, [self.n.div_ceil(4) as u32, 1, 1], THREADS)
    }

    /// The live rows: their numbers, zeros in the outputs of the others, and their x.
    fn gather(
        &self,
        entry: &'static str,
        live: Slot,
        outputs: [Option<&Slot>; 3],
        numbers: Slot,
        gathered: Slot,
    ) -> [Launch; 2] {
        let number = Launch::new(&SOURCE, entry, [1, 1, 1], 1024).at(live).u32(self.n).at(numbers).at(self.count);
        let number = outputs.into_iter().fold(number, Launch::maybe);
        let copy = self.by_row(self.entry("head_gather_f32", "head_gather_bf16"));
        [number, copy.at(self.x).at(numbers).at(self.count).at(gathered).u32(self.n).u32(self.d)]
    }

    /// What the tiles leave of the live rows.
    fn parts(&self, numbers: Slot, gathered: Slot, targets: [Option<&Slot>; 2], parts: Slot, inverse: f32) -> Launch {
        let blocks = self.n.div_ceil(TILE) * self.v.div_ceil(TILE);
        let entry = self.entry("head_parts_f32", "head_parts_bf16");
        let launch = Launch::new(&SOURCE, entry, [blocks as u32, 1, 1], THREADS).shared(self.shared());
        let launch = launch.at(gathered).at(self.w).maybe(self.bias.as_ref()).at(numbers).at(self.count);
        let launch = targets.into_iter().fold(launch, Launch::maybe);
        launch.at(parts).u32(self.v).u32(self.d).u32(self.forbid).f32(inverse)
    }
}

/// loss, nll and lse.
pub(crate) fn forward(inst: &Inst, bias: bool, forbid: Option<u32>) -> Launches {
    let mut plan = Launches::default();
    let head = Head::new(inst, bias, forbid, &mut plan);
    let p = 2 + usize::from(bias);
    let (target, weight) = (inst.reads[p], inst.reads[p + 1]);
    let [loss, nll, lse, numbers, _, gathered, logits, _, parts] = inst.writes[..] else {
        unreachable!("what the op writes (slots.rs)")
    };
    plan.list.extend(head.gather("head_number_weights", weight, [Some(&nll), Some(&lse), None], numbers, gathered));
    plan.list.push(head.parts(numbers, gathered, [Some(&target), Some(&logits)], parts, 1.0));
    let join = head.by_row("head_join").at(parts).at(logits).at(numbers).at(head.count).at(target).at(nll).at(lse);
    plan.list.push(join.u32(head.v.div_ceil(TILE)).u32(head.v).u32(head.forbid));
    let sum = Launch::new(&SOURCE, "head_loss", [1, 1, 1], 1024);
    plan.list.push(sum.at(weight).at(nll).at(numbers).at(head.count).at(loss));
    plan
}

/// dx, dw and db, by chunks of the vocabulary.
pub(crate) fn backward(inst: &Inst, machine: Machine, bias: bool, forbid: Option<u32>) -> Launches {
    let mut plan = Launches::default();
    let head = Head::new(inst, bias, forbid, &mut plan);
    let p = 2 + usize::from(bias);
    let [target, weight, lse, dloss] = [p, p + 1, p + 2, p + 3].map(|i| inst.reads[i]);
    let (dx, dw, db) = (inst.writes[0], inst.writes[1], bias.then(|| inst.writes[2]));
    let [numbers, gathered, chunk, sums] = [p, p + 1, p + 2, p + 3].map(|i| inst.writes[i]);
    let Head { n, v, d, count, .. } = head;
    plan.list.extend(head.gather("head_number_weights", weight, [None; 3], numbers, gathered));
    let g = Matrix::from(chunk);
    let later =
        |slot: Slot, elements: usize| Place::Slot(Slot { offset: slot.offset + elements * slot.dtype.size(), ..slot });
    for first in (0..v).step_by(CHUNK) {
        let columns = CHUNK.min(v - first);
        let blocks = n.div_ceil(TILE) * columns.div_ceil(TILE);
        let entry = head.entry("head_gradient_f32", "head_gradient_bf16");
        let launch = Launch::new(&SOURCE, entry, [blocks as u32, 1, 1], THREADS).shared(head.shared());
        let launch = launch.at(gathered).at(head.w).maybe(head.bias.as_ref()).at(numbers).at(count).at(target);
        let launch = launch.at(weight).at(lse).at(dloss).at(chunk).u32(n).u32(first).u32(columns).u32(d);
        plan.list.push(launch.u32(head.forbid));
        let w = Matrix { place: later(head.w, first * d), dtype: head.w.dtype };
        let product = |form, shape, a, b, end| {
            let dtype = head.x.dtype;
            Product { form, shape, dtype, a, b, end: End::Finish(end), split: false, count: 1 }
        };
        let end = Finish { accumulate: first > 0, ..Finish::plain(sums) };
        product(Form::Nn, (n, d, columns), g, w, end).plan(machine, &mut plan);
        let end = Finish::plain(Matrix { place: later(dw, first * d), dtype: DType::F32 });
        product(Form::Tn, (columns, d, n), g, Matrix::from(gathered), end).plan(machine, &mut plan);
        if let Some(db) = db {
            column_sums(machine, g, (n, columns), later(db, first), &mut plan);
        }
    }
    let scatter = head.by_row(head.entry("head_scatter_f32", "head_scatter_bf16"));
    plan.list.push(scatter.at(sums).at(numbers).at(count).at(dx).u32(n).u32(d));
    plan
}

/// ids, log_p and entropy.
pub(crate) fn sample(inst: &Inst, bias: bool, (stream, temperature): (u32, f32), forbid: Option<u32>) -> Launches {
    let mut plan = Launches::default();
    let head = Head::new(inst, bias, forbid, &mut plan);
    let p = 2 + usize::from(bias);
    let (live, rng) = (inst.reads[p], inst.reads[p + 1]);
    let [ids, log_p, entropy, numbers, gathered, _, parts] = inst.writes[..] else {
        unreachable!("what the op writes (slots.rs)")
    };
    let zeros = [Some(&ids), Some(&log_p), Some(&entropy)];
    plan.list.extend(head.gather("head_number_flags", live, zeros, numbers, gathered));
    let inverse = if temperature == 0.0 { 1.0 } else { 1.0 / temperature };
    plan.list.push(head.parts(numbers, gathered, [None; 2], parts, inverse));
    let entry = head.entry("head_choose_f32", "head_choose_bf16");
    let choose = Launch::new(&SOURCE, entry, [head.n as u32, 1, 1], THREADS);
    let choose = choose.at(gathered).at(head.w).maybe(head.bias.as_ref()).at(parts).at(numbers).at(head.count).at(rng);
    let choose = choose.at(ids).at(log_p).at(entropy).u32(head.v).u32(head.d).u32(head.forbid).u32(stream);
    plan.list.push(choose.f32(temperature));
    plan
}
