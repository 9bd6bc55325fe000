//! Gradient checkpointing: what a block computed is computed again when the backward pass needs it, instead of being kept.

use crate::record::{Call, Place, Recorder, Var};
use std::collections::{BTreeMap, BTreeSet};

/// Which activations a program keeps for its backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// All that the backward pass reads.
    #[default]
    Everything,
    /// The inputs of the blocks that [`Recorder::block`] marks; the rest of a block is computed a second time just before its
    /// gradient. One more forward pass of the blocks for memory that grows by one tensor a block. The same bits: a random
    /// mask is drawn again from the same counters.
    BlockInputs,
}

/// Forward calls `from..to` of one block, and where the forward pass that holds it ends.
struct Block {
    from: usize,
    to: usize,
    forward_end: usize,
}

impl Recorder {
    /// Marks the beginning of a block of the model: what [`Keep::BlockInputs`] computes again as a whole.
    pub fn block(&mut self) {
        self.blocks.push(self.calls.len());
    }

    /// Rewrites the calls so that activations inside blocks live only while they are used.
    pub(crate) fn recompute_blocks(&mut self) {
        let blocks = self.marked_blocks();
        // What is computed again, by the call before which that happens.
        let mut again: BTreeMap<usize, Vec<Call>> = BTreeMap::new();
        for block in blocks {
            self.recompute(&block, &mut again);
        }
        let calls = std::mem::take(&mut self.calls);
        for (index, call) in calls.into_iter().enumerate() {
            self.calls.extend(again.remove(&index).into_iter().flatten());
            self.calls.push(call);
        }
    }

    /// The blocks between two marks of one forward pass. The last mark begins the block that is reversed at once: computing
    /// it again would save nothing.
    fn marked_blocks(&self) -> Vec<Block> {
        let pairs = self.blocks.windows(2).map(|pair| (pair[0], pair[1]));
        pairs
            .filter_map(|(from, to)| {
                let forward_end = *self.passes.iter().find(|&&end| end > from)?;
                (to < forward_end && from < to).then_some(Block { from, to, forward_end })
            })
            .collect()
    }

    fn recompute(&mut self, block: &Block, again: &mut BTreeMap<usize, Vec<Call>>) {
        let inside: BTreeSet<Var> =
            self.calls[block.from..block.to].iter().flat_map(|call| &call.writes).copied().collect();
        // What leaves the block in the forward pass is kept: the next block begins with it.
        let leaves: BTreeSet<Var> =
            self.calls[block.to..block.forward_end].iter().flat_map(|call| &call.reads).copied().collect();
        let wanted = |var: &Var| inside.contains(var) && !leaves.contains(var);
        let after = block.forward_end..self.calls.len();
        let Some(first) = after.clone().find(|&i| self.calls[i].reads.iter().any(wanted)) else { return };
        let mut needed: BTreeSet<Var> =
            self.calls[after.clone()].iter().flat_map(|call| &call.reads).filter(|var| wanted(var)).copied().collect();
        let mut chosen = Vec::new();
        for call in self.calls[block.from..block.to].iter().rev() {
            if call.writes.iter().any(|var| needed.contains(var)) {
                needed.extend(call.reads.iter().filter(|var| wanted(var)));
                chosen.push(call.clone());
            }
        }
        chosen.reverse();
        let mut renamed: BTreeMap<Var, Var> = BTreeMap::new();
        for call in &mut chosen {
            rename(&mut call.reads, &renamed);
            for write in &mut call.writes {
                let (shape, dtype) = (self.shape(*write), self.nodes[write.0 as usize].dtype);
                let fresh = self.node(shape, dtype, Place::Work);
                if !leaves.contains(write) {
                    renamed.insert(*write, fresh);
                }
                *write = fresh;
            }
        }
        self.calls[after].iter_mut().for_each(|call| rename(&mut call.reads, &renamed));
        again.entry(first).or_default().extend(chosen);
    }
}

fn rename(reads: &mut [Var], renamed: &BTreeMap<Var, Var>) {
    for read in reads {
        *read = renamed.get(read).copied().unwrap_or(*read);
    }
}
