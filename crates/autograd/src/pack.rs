//! Inference in bf16: a weight that products alone read is kept in the order in which the machine multiplies it, packed once
//! when it is set rather than in every run.

use crate::record::{Place, Recorder};
use crate::{DType, Shape};
use galatea_kernels::Op;
use galatea_kernels::gemm::packed_words;

impl Recorder {
    /// Rewrites the linear layers of a recording without a gradient.
    pub(crate) fn pack_weights(&mut self) {
        if self.grads.iter().any(Option::is_some) || !self.passes.is_empty() {
            return;
        }
        for param in 0..self.params.len() {
            let Some(copy) = self.copies[param] else { continue };
            let linear = |op: &Op| matches!(op, Op::Linear { .. });
            let readers = || self.calls.iter().filter(|call| call.reads.contains(&copy));
            if readers().all(|call| linear(&call.op) && call.reads[1] == copy) {
                let (o, i) = (self.params[param].shape.dim(0), self.params[param].shape.dim(1));
                let words = self.node(Shape::new(&[packed_words(o, i)]), DType::U32, Place::Packed(param));
                for call in self.calls.iter_mut().filter(|call| call.reads.contains(&copy)) {
                    if let Op::Linear { bias, activation } = call.op {
                        call.op = Op::LinearPacked { bias, activation, outputs: o as u32 };
                        call.reads[1] = words;
                        call.writes.truncate(1);
                    }
                }
                self.copies[param] = None;
                self.packed.push(param);
            }
        }
    }
}
