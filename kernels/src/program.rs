//! Programs: instructions at fixed addresses, verified once.

use crate::op::Op;
use crate::slots::{ShapeError, slots};
use galatea_tensor::{Region, Slot};

/// One launch. Reads and writes never overlap: in place is a different op, never an aliased slot.
#[derive(Clone, Debug, PartialEq)]
pub struct Inst {
    /// The kernel.
    pub op: Op,
    /// What it reads, in the order that [`Op`] documents.
    pub reads: Box<[Slot]>,
    /// What it writes, in order.
    pub writes: Box<[Slot]>,
}

/// A value that is in memory before the first run and never changes (a table of rotations).
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    /// Where, in `Region::Step`.
    pub slot: Slot,
    /// The elements.
    pub values: Box<[f32]>,
}

/// Why a list of instructions is not a program.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// An op was given tensors it cannot take.
    #[error("instruction {index}: {source}")]
    Shape {
        /// Which instruction.
        index: usize,
        /// What was wrong.
        source: ShapeError,
    },
    /// What is written is not what the op writes.
    #[error("instruction {index} ({op}): write {write} has the wrong shape or type")]
    Write {
        /// Which instruction.
        index: usize,
        /// Its name.
        op: &'static str,
        /// Which of its writes.
        write: usize,
    },
    /// Two slots of one instruction share bytes and one of them is written.
    #[error("instruction {index} ({op}): {a:?} overlaps {b:?}, which it writes")]
    Overlap {
        /// Which instruction.
        index: usize,
        /// Its name.
        op: &'static str,
        /// One slot.
        a: Slot,
        /// The written slot.
        b: Slot,
    },
    /// A slot ends outside its region or is not aligned.
    #[error("instruction {index} ({op}): {slot:?} is outside its region of {bytes} bytes or not aligned")]
    Bounds {
        /// Which instruction.
        index: usize,
        /// Its name.
        op: &'static str,
        /// The slot.
        slot: Slot,
        /// The region's size.
        bytes: usize,
    },
    /// A read of bytes in `Region::Work` that no earlier instruction wrote.
    #[error("instruction {index} ({op}): reads {slot:?}, which nothing wrote before")]
    Unwritten {
        /// Which instruction.
        index: usize,
        /// Its name.
        op: &'static str,
        /// The slot.
        slot: Slot,
    },
}

/// Instructions at fixed byte offsets. Only [`Program::new`] makes one, so every program is verified.
#[derive(Clone, Debug)]
pub struct Program {
    insts: Box<[Inst]>,
    constants: Box<[Constant]>,
    region_bytes: [usize; 5],
}

impl Program {
    /// Verifies and seals a list of instructions: shapes and types obey each op's rule, every slot is aligned and inside
    /// its region, no write overlaps another slot of its instruction, and nothing in `Region::Work` is read before it is
    /// written by an instruction whose slot has the same offset and size.
    ///
    /// # Errors
    /// The first rule that is broken, with the instruction.
    pub fn new(insts: Vec<Inst>, constants: Vec<Constant>, region_bytes: [usize; 5]) -> Result<Self, VerifyError> {
        let mut written: Vec<Slot> = Vec::new();
        for (index, inst) in insts.iter().enumerate() {
            verify(index, inst, &region_bytes)?;
            for read in inst.reads.iter().filter(|r| r.region == Region::Work) {
                let same = |w: &Slot| w.offset == read.offset && w.bytes() == read.bytes() && w.dtype == read.dtype;
                if !written.iter().any(same) {
                    return Err(VerifyError::Unwritten { index, op: inst.op.name(), slot: *read });
                }
            }
            for write in inst.writes.iter().filter(|w| w.region == Region::Work) {
                written.retain(|w| !w.overlaps(write));
                written.push(*write);
            }
        }
        Ok(Self { insts: insts.into(), constants: constants.into(), region_bytes })
    }

    /// The instructions in order.
    pub fn insts(&self) -> &[Inst] {
        &self.insts
    }

    /// What must be uploaded before the first run.
    pub fn constants(&self) -> &[Constant] {
        &self.constants
    }

    /// Bytes of every region, in the order of [`Region::ALL`].
    pub fn region_bytes(&self) -> [usize; 5] {
        self.region_bytes
    }
}

fn verify(index: usize, inst: &Inst, region_bytes: &[usize; 5]) -> Result<(), VerifyError> {
    let op = inst.op.name();
    let kinds: Vec<_> = inst.reads.iter().map(|s| (s.shape, s.dtype)).collect();
    let expected = slots(&inst.op, &kinds).map_err(|source| VerifyError::Shape { index, source })?;
    for write in 0..expected.len().max(inst.writes.len()) {
        let found = inst.writes.get(write).map(|w| (w.shape.len(), w.dtype));
        if found != expected.get(write).map(|(s, d)| (s.len(), *d)) {
            return Err(VerifyError::Write { index, op, write });
        }
    }
    for slot in inst.reads.iter().chain(&inst.writes) {
        let bytes = region_bytes[slot.region.index()];
        if slot.end() > bytes || !slot.offset.is_multiple_of(Slot::ALIGN) {
            return Err(VerifyError::Bounds { index, op, slot: *slot, bytes });
        }
    }
    for (i, b) in inst.writes.iter().enumerate() {
        if let Some(a) = inst.reads.iter().chain(&inst.writes[..i]).find(|a| a.overlaps(b)) {
            return Err(VerifyError::Overlap { index, op, a: *a, b: *b });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use galatea_tensor::{DType, Shape};

    fn slot(region: Region, offset: usize) -> Slot {
        Slot { region, offset, shape: Shape::new(&[16]), dtype: DType::F32 }
    }

    fn add(a: Slot, b: Slot, y: Slot) -> Inst {
        Inst { op: Op::Add, reads: [a, b].into(), writes: [y].into() }
    }

    #[test]
    fn overlap_bounds_and_unwritten_reads_are_refused() {
        let (p, w) = (slot(Region::Param, 0), slot(Region::Work, 0));
        let bytes = [64, 0, 0, 128, 0];
        let new = |insts| Program::new(insts, vec![], bytes).map(|p| p.insts().len());
        assert_eq!(new(vec![add(p, p, w), add(w, p, slot(Region::Work, 64))]), Ok(2));
        assert!(matches!(new(vec![add(p, p, w), add(w, p, w)]), Err(VerifyError::Overlap { index: 1, .. })));
        assert!(matches!(new(vec![add(p, p, slot(Region::Work, 128))]), Err(VerifyError::Bounds { .. })));
        assert!(matches!(new(vec![add(w, p, slot(Region::Work, 64))]), Err(VerifyError::Unwritten { .. })));
        let short = Slot { shape: Shape::new(&[8]), ..w };
        assert!(matches!(new(vec![add(p, p, short)]), Err(VerifyError::Write { write: 0, .. })));
    }
}
