//! The optimizer as ops: a whole training step is one program.

use crate::plan::padded;
use crate::record::{Call, Place, Recorder, Role, Var};
use crate::{DType, Part, Shape};
use galatea_kernels::{AdamW, Hyper, Muon, Op};

/// Most elements of the matrices that Muon moves together: more would gain nothing and need more scratch.
const STACK: usize = 1 << 20;

/// Which rule moves which parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    /// AdamW for all; gains and biases without weight decay.
    AdamW(AdamW),
    /// Muon for the matrices that multiply activations, AdamW for tables, gains and biases.
    Muon {
        /// For matrices.
        matrices: Muon,
        /// For everything else.
        rest: AdamW,
    },
}

/// What follows the backward pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// The rule.
    pub optimizer: Optimizer,
    /// Whether to keep an exponential moving average of the parameters ([`Part::Ema`]).
    pub ema: bool,
    /// Whether the global norm of the gradient is taken, for [`Hyper::MAX_NORM`] to clip by it. Without, the norm reads 1, and
    /// AdamW moves the weights of a linear layer and the rows of an embedding while their gradient is made: [`Part::Grad`] has
    /// none of them.
    pub norm: bool,
}

impl Recorder {
    /// Appends the global norm of the gradient, and the optimizer with its clip and the moving average: AdamW averages in
    /// the pass that moves the parameters and writes their bf16 copies on the way; Muon's matrices follow after it. Rates travel in the
    /// input `hyper` (see [`Hyper`]). Returns the norm [1].
    ///
    /// # Panics
    /// If no backward pass was recorded.
    #[track_caller]
    pub fn update(&mut self, update: Update) -> Var {
        assert!(self.grads.iter().any(Option::is_some), "record a backward pass before the optimizer");
        let hyper = self.input("hyper", &[Hyper::LEN], DType::F32);
        let fusible = match update.optimizer {
            Optimizer::AdamW(_) if !update.norm => self.fusible(),
            Optimizer::AdamW(_) | Optimizer::Muon { .. } => Vec::new(),
        };
        self.fused = fusible.iter().map(|&(_, param)| param).collect();
        let layout = self.fix_layout();
        let all = layout.iter().filter(|&&p| self.grads[p].is_some() && !self.fused.contains(&p)).count();
        let norm = if update.norm {
            let gradient = self.flat(Part::Grad, 0, all);
            self.one(Op::GlobalNorm, &[gradient])
        } else {
            self.constant(&[1], vec![1.0])
        };
        let role = |rec: &Self, i: usize| rec.params[layout[i]].role;
        let tables = (0..all).find(|&i| role(self, i) > Role::Vector).unwrap_or(all);
        let matrices = (0..all).find(|&i| role(self, i) > Role::Table).unwrap_or(all);
        match update.optimizer {
            Optimizer::AdamW(adamw) => {
                for (call, param) in fusible {
                    self.fuse(call, param, adamw, update.ema, hyper);
                }
                self.adamw(AdamW { weight_decay: 0.0, ..adamw }, update.ema, norm, hyper, 0, tables);
                self.adamw(adamw, update.ema, norm, hyper, tables, all);
            }
            Optimizer::Muon { matrices: muon, rest } => {
                self.adamw(AdamW { weight_decay: 0.0, ..rest }, update.ema, norm, hyper, 0, tables);
                self.adamw(rest, update.ema, norm, hyper, tables, matrices);
                let mut from = matrices;
                while from < all {
                    let to = from + self.stack(&layout[from..all]);
                    self.muon(muon, norm, hyper, from, to);
                    from = to;
                }
                if update.ema && matrices < all {
                    let [param, ema] = [Part::Value, Part::Ema].map(|part| self.flat(part, matrices, all));
                    self.modify(Op::Ema, &[param, hyper], vec![ema]);
                }
                if self.has_copies() && matrices < all {
                    let [param, copy] = [Part::Value, Part::Copy].map(|part| self.flat(part, matrices, all));
                    self.modify(Op::Cast { to: DType::Bf16 }, &[param], vec![copy]);
                }
            }
        }
        norm
    }

    fn adamw(&mut self, adamw: AdamW, ema: bool, norm: Var, hyper: Var, from: usize, to: usize) {
        if from < to {
            let gradient = self.flat(Part::Grad, from, to);
            let copy = self.has_copies();
            let parts = [Part::Value, Part::Moment1, Part::Moment2].into_iter().chain(ema.then_some(Part::Ema));
            let parts = parts.chain(copy.then_some(Part::Copy));
            let writes = parts.map(|part| self.flat(part, from, to)).collect();
            self.modify(Op::AdamW { adamw, ema, copy }, &[gradient, norm, hyper], writes);
        }
    }

    /// Calls that make the whole gradient of a matrix or a table, after which nothing reads it, and the parameter.
    fn fusible(&self) -> Vec<(usize, usize)> {
        let reads = |call: &Call, var: Var| call.reads.contains(&var);
        let alone = |at: usize, param: usize, grad: Var| {
            let weight = [Some(self.params[param].var), self.copies[param]];
            let read_later = |call: &Call| weight.iter().flatten().any(|&w| reads(call, w));
            let touched = self.calls.iter().filter(|call| reads(call, grad) || call.writes.contains(&grad)).count();
            touched == 1 && !self.calls[at + 1..].iter().any(read_later)
        };
        let one = |(at, call): (usize, &Call)| match (call.op, self.nodes[call.writes[0].0 as usize].place) {
            (Op::LinearDw { .. } | Op::EmbeddingGrad { .. }, Place::Grad(param)) => {
                alone(at, param, call.writes[0]).then_some((at, param))
            }
            _ => None,
        };
        self.calls.iter().enumerate().filter_map(one).collect()
    }

    /// Turns the call that makes a parameter's gradient into one that moves the parameter.
    fn fuse(&mut self, call: usize, param: usize, adamw: AdamW, ema: bool, hyper: Var) {
        let layout = self.fix_layout();
        let at = layout.iter().position(|&p| p == param).expect("every parameter has a place");
        let (copy, shape) = (self.has_copies(), self.params[param].shape);
        let parts = [Part::Moment1, Part::Moment2].into_iter().chain(ema.then_some(Part::Ema));
        let parts: Vec<Part> = parts.chain(copy.then_some(Part::Copy)).collect();
        let dtype = |part| if part == Part::Copy { DType::Bf16 } else { DType::F32 };
        let state = parts.into_iter().map(|part| self.node(shape, dtype(part), Place::Flat(part, at, at + 1)));
        let state: Vec<Var> = state.collect();
        let (op, last) = if let Op::EmbeddingGrad { vocab } = self.calls[call].op {
            let ids = self.shape(self.calls[call].reads[0]).len();
            let places = self.node(Shape::new(&[vocab as usize + ids]), DType::U32, Place::Work);
            (Op::EmbeddingAdamW { vocab, adamw, ema, copy }, Some(places))
        } else {
            let bias = self.calls[call].writes.get(1).copied();
            (Op::LinearDwAdamW { bias: bias.is_some(), adamw, ema, copy }, bias)
        };
        let call = &mut self.calls[call];
        call.op = op;
        call.reads.push(hyper);
        call.writes = [self.params[param].var].into_iter().chain(state).chain(last).collect();
    }

    pub(crate) fn has_copies(&self) -> bool {
        self.copies.iter().any(Option::is_some)
    }

    /// How many of the parameters, which lie one after another, are matrices of one shape without a gap between them that Muon
    /// moves together.
    fn stack(&self, params: &[usize]) -> usize {
        let shape = self.params[params[0]].shape;
        let most = if padded(shape) == shape.len() { (STACK / shape.len()).max(1) } else { 1 };
        params.iter().take(most).take_while(|&&p| self.params[p].shape == shape).count()
    }

    fn muon(&mut self, muon: Muon, norm: Var, hyper: Var, from: usize, to: usize) {
        let param = self.fix_layout()[from];
        let shape = self.params[param].shape;
        let (n, s) = (to - from, shape.dim(0).min(shape.dim(1)));
        let (stack, gram) = (Shape::new(&[n, shape.dim(0), shape.dim(1)]), Shape::new(&[n, s, s]));
        let [gradient, param, momentum] = [Part::Grad, Part::Value, Part::Moment1]
            .map(|part| self.node(stack, DType::F32, Place::Flat(part, from, to)));
        let scratch = [stack, stack, gram, gram].map(|shape| self.node(shape, DType::F32, Place::Work));
        let writes = [param, momentum].into_iter().chain(scratch).collect();
        self.modify(Op::Muon(muon), &[gradient, norm, hyper], writes);
    }

    /// A flat view of one part of the parameters `from..to` in layout order.
    fn flat(&mut self, part: Part, from: usize, to: usize) -> Var {
        let layout = self.fix_layout();
        let len = layout[from..to].iter().map(|&p| padded(self.params[p].shape)).sum();
        self.node(Shape::new(&[len]), part.dtype(), Place::Flat(part, from, to))
    }

    /// The parameters' order in memory: those with a gradient first (one that is in memory before one that is not), by role, so
    /// that each rule of the optimizer sees one flat run of what it moves, and matrices by shape; then those that have a bf16
    /// copy.
    pub(crate) fn fix_layout(&mut self) -> Vec<usize> {
        if self.layout.is_none() {
            let mut order: Vec<usize> = (0..self.params.len()).collect();
            order.sort_by_cached_key(|&i| {
                let (frozen, role) = (self.grads[i].is_none(), self.params[i].role);
                let shape = (role == Role::Matrix).then(|| self.params[i].shape.dims().to_vec());
                (frozen, self.fused.contains(&i), frozen && self.copies[i].is_none(), role, shape, i)
            });
            self.layout = Some(order);
        }
        self.layout.clone().expect("fixed above")
    }
}
