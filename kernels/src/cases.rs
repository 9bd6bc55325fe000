//! The body of every parity test: one instruction, run by the backend, against its reference in f64.

use crate::backend::Backend;
use crate::cpu::Cpu;
use crate::isa::Isa;
use crate::op::Op;
use crate::program::{Inst, Program};
use crate::real::Real;
use crate::slots::slots;
use galatea_random::Philox;
use galatea_tensor::{DType, Region, Shape, Slot, bf16};

/// Tolerance of an output in bf16 whose inputs were rounded before the reference saw them: one unit in the last of eight
/// bits, twice the rounding of the output, which leaves a half for the arithmetic in f32 before it.
pub(crate) const BF16: f64 = 1.0 / 256.0;

/// A tensor on the host.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) shape: Shape,
    pub(crate) data: Data,
}

#[derive(Clone, Debug)]
pub(crate) enum Data {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
    U32(Vec<u32>),
    I8(Vec<i8>),
}

impl Host {
    pub(crate) fn f32(dims: &[usize], data: Vec<f32>) -> Self {
        assert_eq!(Shape::new(dims).len(), data.len());
        Self { shape: Shape::new(dims), data: Data::F32(data) }
    }

    pub(crate) fn u32(dims: &[usize], data: Vec<u32>) -> Self {
        assert_eq!(Shape::new(dims).len(), data.len());
        Self { shape: Shape::new(dims), data: Data::U32(data) }
    }

    pub(crate) fn i8(dims: &[usize], data: Vec<i8>) -> Self {
        assert_eq!(Shape::new(dims).len(), data.len());
        Self { shape: Shape::new(dims), data: Data::I8(data) }
    }

    /// Standard normals; another `row` is another tensor.
    pub(crate) fn normal(dims: &[usize], row: u32) -> Self {
        let mut rng = Philox::new(20_26, 0, 0, row);
        let len = Shape::new(dims).len();
        Self::f32(dims, (0..len).map(|_| rng.normal() as f32).collect())
    }

    /// This tensor rounded to bf16.
    pub(crate) fn bf16(&self) -> Self {
        let Data::F32(x) = &self.data else { panic!("only f32 tensors are rounded") };
        Self { shape: self.shape, data: Data::Bf16(x.iter().map(|&x| bf16::store(x)).collect()) }
    }

    /// What an output holds before the op: NaN, so that an element left unwritten shows.
    pub(crate) fn poison(dims: &[usize]) -> Self {
        Self::f32(dims, vec![f32::NAN; Shape::new(dims).len()])
    }

    /// The numbers in f64, for the reference.
    pub(crate) fn f64(&self) -> Vec<f64> {
        match &self.data {
            Data::F32(x) => x.iter().map(|&x| f64::from(x)).collect(),
            Data::Bf16(x) => x.iter().map(|&x| f64::from(x)).collect(),
            Data::U32(x) => x.iter().map(|&x| f64::from(x)).collect(),
            Data::I8(x) => x.iter().map(|&x| f64::from(x)).collect(),
        }
    }

    fn dtype(&self) -> DType {
        match self.data {
            Data::F32(_) => DType::F32,
            Data::Bf16(_) => DType::Bf16,
            Data::U32(_) => DType::U32,
            Data::I8(_) => DType::I8,
        }
    }
}

/// Activations in f32 and in bf16, with the tolerance of each.
pub(crate) fn both<const N: usize>(activations: [Host; N], tolerance: f64) -> [([Host; N], f64); 2] {
    [(activations.clone(), tolerance), (activations.map(|x| x.bf16()), BF16)]
}

/// Runs `op` once on a fresh CPU backend and returns every write in f64. `in_place` are the initial contents of the
/// first writes; the others start as NaN.
pub(crate) fn run(isa: Isa, threads: usize, op: Op, reads: &[Host], in_place: &[Host]) -> Vec<Vec<f64>> {
    assert_eq!(in_place.len(), op.in_place());
    let kinds: Vec<_> = reads.iter().map(|r| (r.shape, r.dtype())).collect();
    let outputs = slots(&op, &kinds).unwrap_or_else(|e| panic!("{e}"));
    let mut end = 0;
    let mut place = |(shape, dtype): (Shape, DType)| {
        let slot = Slot { region: Region::Step, offset: end, shape, dtype };
        end = slot.end().next_multiple_of(Slot::ALIGN);
        slot
    };
    let read_slots: Vec<Slot> = kinds.into_iter().map(&mut place).collect();
    let write_slots: Vec<Slot> = outputs.into_iter().map(&mut place).collect();
    let inst = Inst { op, reads: read_slots.clone().into(), writes: write_slots.clone().into() };
    let program = Program::new(vec![inst], vec![], [0, 0, 0, 0, end]).unwrap_or_else(|e| panic!("{e}"));
    let mut cpu = Cpu::with(threads, isa);
    let mut memory = cpu.allocate(&program).expect("a small allocation");
    let upload = |cpu: &mut Cpu, memory: &mut _, slot: Slot, host: &Host| match &host.data {
        Data::F32(x) => cpu.upload(memory, slot, x).expect("upload"),
        Data::Bf16(x) => cpu.upload(memory, slot, x).expect("upload"),
        Data::U32(x) => cpu.upload(memory, slot, x).expect("upload"),
        Data::I8(x) => cpu.upload(memory, slot, x).expect("upload"),
    };
    for (slot, host) in read_slots.iter().zip(reads) {
        upload(&mut cpu, &mut memory, *slot, host);
    }
    for (i, slot) in write_slots.iter().enumerate() {
        let dims: Vec<usize> = slot.shape.dims().iter().map(|&d| d as usize).collect();
        match (in_place.get(i), slot.dtype) {
            (Some(host), _) => upload(&mut cpu, &mut memory, *slot, host),
            (None, DType::F32) => upload(&mut cpu, &mut memory, *slot, &Host::poison(&dims)),
            (None, DType::Bf16) => upload(&mut cpu, &mut memory, *slot, &Host::poison(&dims).bf16()),
            (None, DType::I8) => {
                upload(&mut cpu, &mut memory, *slot, &Host::i8(&dims, vec![i8::MIN; slot.shape.len()]))
            }
            (None, _) => upload(&mut cpu, &mut memory, *slot, &Host::u32(&dims, vec![u32::MAX; slot.shape.len()])),
        }
    }
    cpu.run(&mut memory, &program).expect("a program of one op");
    let download = |slot: &Slot| match slot.dtype {
        DType::U32 => memory.get::<u32>(slot).iter().map(|&x| f64::from(x)).collect(),
        DType::I8 => memory.get::<i8>(slot).iter().map(|&x| f64::from(x)).collect(),
        DType::Bf16 => memory.get::<bf16>(slot).iter().map(|&x| f64::from(x)).collect(),
        _ => memory.get::<f32>(slot).iter().map(|&x| f64::from(x)).collect(),
    };
    write_slots.iter().map(download).collect()
}

/// Checks every write that `truth` names (an empty entry is not compared) at every instruction level: within `tolerance`
/// of the largest magnitude of the true tensor (absolutely where that is below one), and the same bits for one and three
/// threads.
#[track_caller]
pub(crate) fn check(op: Op, reads: &[Host], in_place: &[Host], truth: &[Vec<f64>], tolerance: f64) {
    for isa in Isa::available() {
        let one = run(isa, 1, op, reads, in_place);
        let three = run(isa, 3, op, reads, in_place);
        for (write, (truth, found)) in truth.iter().zip(&one).enumerate() {
            let same = found.iter().zip(&three[write]).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{op:?} at {isa:?}: write {write} depends on the number of threads");
            if truth.is_empty() {
                continue;
            }
            assert_eq!(found.len(), truth.len(), "{op:?}: write {write}");
            let scale = truth.iter().filter(|x| x.is_finite()).fold(1.0f64, |m, x| m.max(x.abs()));
            for (i, (f, t)) in found.iter().zip(truth).enumerate() {
                assert!(
                    f == t || (f - t).abs() <= tolerance * scale,
                    "{op:?} at {isa:?}: write {write}, element {i}: {f} instead of {t} (tolerance {tolerance} of {scale})"
                );
            }
        }
    }
}
