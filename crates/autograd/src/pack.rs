//! What inference needs not: a weight that products alone read is kept in the order in which the machine multiplies it, packed
//! once when it is set rather than in every run (bf16); what only a gradient would read is not written.

use crate::record::{Call, Place, Recorder, Var};
use crate::{DType, Shape};
use galatea_kernels::gemm::packed_words;
use galatea_kernels::{Activation, Op};
use std::collections::BTreeSet;

impl Recorder {
    /// Rewrites the linear layers of a recording without a gradient.
    pub(crate) fn pack_weights(&mut self) {
        if self.grads.iter().any(Option::is_some) || !self.passes.is_empty() {
            return;
        }
        for param in 0..self.params.len() {
            let Some(copy) = self.copies[param] else { continue };
            let Some(halves) = self.halves(copy) else { continue };
            let (o, i) = (self.params[param].shape.dim(0), self.params[param].shape.dim(1));
            // Two halves take the words of the whole, unless a panel is cut.
            if !o.is_multiple_of(halves) || halves * packed_words(o / halves, i) != packed_words(o, i) {
                continue;
            }
            let words = self.node(Shape::new(&[packed_words(o, i)]), DType::U32, Place::Packed(param));
            for call in self.calls.iter_mut().filter(|call| call.reads.contains(&copy)) {
                if let Op::Linear { bias, activation, .. } = call.op {
                    call.op = Op::LinearPacked { bias, activation, outputs: o as u32 };
                    call.reads[1] = words;
                    call.writes.truncate(1);
                }
            }
            self.copies[param] = None;
            self.packed.insert(param, halves);
        }
    }

    /// In how many parts every reader of a weight multiplies it, if these are linear layers of one kind.
    fn halves(&self, weight: Var) -> Option<usize> {
        let mut readers = self.calls.iter().filter(|call| call.reads.contains(&weight));
        let of = |call: &Call| match call.op {
            Op::Linear { activation, .. } if call.reads[1] == weight => Some(activation.halves()),
            _ => None,
        };
        let halves = readers.next().map_or(Some(Activation::None.halves()), of)?;
        readers.all(|call| of(call) == Some(halves)).then_some(halves)
    }

    /// Leaves out what a linear layer keeps for a gradient that is not taken.
    pub(crate) fn drop_unread(&mut self, outputs: &[Var]) {
        let read: BTreeSet<Var> = self.calls.iter().flat_map(|call| &call.reads).chain(outputs).copied().collect();
        for call in &mut self.calls {
            if let Op::Linear { keep, .. } = &mut call.op
                && *keep
                && !read.contains(&call.writes[1])
            {
                *keep = false;
                call.writes.truncate(1);
            }
        }
    }
}
