//! The body of every parity test: one instruction, run by the backend, against its reference in f64.

use crate::backend::Backend;
use crate::cpu::Cpu;
use crate::cuda::{self, Arch, Call, Emulated, Machine, Operand};
use crate::isa::Isa;
use crate::op::Op;
use crate::program::{Inst, Program};
use crate::real::Real;
use crate::slots::slots;
use galatea_interpreter::{Extent, launch_within};
use galatea_random::Philox;
use galatea_tensor::{DType, Elem, Region, Shape, Slot, bf16};

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

    /// The first `n` rows of a matrix.
    pub(crate) fn rows(&self, n: usize) -> Self {
        let (dims, len) = ([n, self.shape.cols()], n * self.shape.cols());
        match &self.data {
            Data::F32(x) => Self::f32(&dims, x[..len].to_vec()),
            Data::Bf16(x) => Self { shape: Shape::new(&dims), data: Data::Bf16(x[..len].to_vec()) },
            Data::U32(x) => Self::u32(&dims, x[..len].to_vec()),
            Data::I8(x) => Self::i8(&dims, x[..len].to_vec()),
        }
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

/// [`run_on`] a fresh CPU backend.
pub(crate) fn run(isa: Isa, threads: usize, op: Op, reads: &[Host], in_place: &[Host]) -> Vec<Vec<f64>> {
    run_on(&mut Cpu::with(threads, isa), op, reads, in_place).expect("the CPU runs what it can allocate")
}

/// Runs `op` once and returns every write in f64. `in_place` are the initial contents of the first writes; the others start
/// as NaN.
pub(crate) fn run_on<B: Backend>(
    backend: &mut B,
    op: Op,
    reads: &[Host],
    in_place: &[Host],
) -> Result<Vec<Vec<f64>>, B::Error> {
    assert_eq!(in_place.len(), op.in_place());
    let (inst, end) = instruction(op, reads);
    let (read_slots, write_slots) = (inst.reads.clone(), inst.writes.clone());
    let program = Program::new(vec![inst], vec![], [0, 0, 0, 0, end]).unwrap_or_else(|e| panic!("{e}"));
    let mut memory = backend.allocate(&program)?;
    let mut upload = |memory: &mut _, slot: Slot, host: &Host| match &host.data {
        Data::F32(x) => backend.upload(memory, slot, x),
        Data::Bf16(x) => backend.upload(memory, slot, x),
        Data::U32(x) => backend.upload(memory, slot, x),
        Data::I8(x) => backend.upload(memory, slot, x),
    };
    for (slot, host) in read_slots.iter().zip(reads) {
        upload(&mut memory, *slot, host)?;
    }
    for (i, slot) in write_slots.iter().enumerate() {
        let dims: Vec<usize> = slot.shape.dims().iter().map(|&d| d as usize).collect();
        let poison = match slot.dtype {
            DType::F32 => Host::poison(&dims),
            DType::Bf16 => Host::poison(&dims).bf16(),
            DType::I8 => Host::i8(&dims, vec![i8::MIN; slot.shape.len()]),
            DType::F16 | DType::U32 => Host::u32(&dims, vec![u32::MAX; slot.shape.len()]),
        };
        upload(&mut memory, *slot, in_place.get(i).unwrap_or(&poison))?;
    }
    backend.run(&mut memory, &program)?;
    write_slots.iter().map(|slot| download(backend, &memory, slot)).collect()
}

/// The op on tensors that lie one after another, and where the last ends.
pub(crate) fn instruction(op: Op, reads: &[Host]) -> (Inst, usize) {
    let kinds: Vec<_> = reads.iter().map(|r| (r.shape, r.dtype())).collect();
    let outputs = slots(&op, &kinds).unwrap_or_else(|e| panic!("{e}"));
    let mut end = 0;
    let mut place = |(shape, dtype): (Shape, DType)| {
        let slot = Slot { region: Region::Step, offset: end, shape, dtype };
        end = slot.end().next_multiple_of(Slot::ALIGN);
        slot
    };
    let reads: Vec<Slot> = kinds.into_iter().map(&mut place).collect();
    let writes: Vec<Slot> = outputs.into_iter().map(&mut place).collect();
    (Inst { op, reads: reads.into(), writes: writes.into() }, end)
}

/// A slot in f64.
fn download<B: Backend>(backend: &B, memory: &B::Memory, slot: &Slot) -> Result<Vec<f64>, B::Error> {
    fn as_f64<B: Backend, T: Elem + Into<f64>>(
        backend: &B,
        memory: &B::Memory,
        slot: &Slot,
    ) -> Result<Vec<f64>, B::Error> {
        let mut host = vec![T::zeroed(); slot.shape.len()];
        backend.download(memory, *slot, &mut host)?;
        Ok(host.into_iter().map(Into::into).collect())
    }
    match slot.dtype {
        DType::U32 => as_f64::<B, u32>(backend, memory, slot),
        DType::I8 => as_f64::<B, i8>(backend, memory, slot),
        DType::Bf16 => as_f64::<B, bf16>(backend, memory, slot),
        DType::F32 | DType::F16 => as_f64::<B, f32>(backend, memory, slot),
    }
}

/// Checks every write that `truth` names (an empty entry is not compared): within `tolerance` of the largest magnitude of the
/// true tensor (absolutely where that is below one). On the CPU at every instruction level, and the same bits for one and
/// three threads; on the CUDA kernels in the interpreter ([`emulated`]).
#[track_caller]
pub(crate) fn check(op: Op, reads: &[Host], in_place: &[Host], truth: &[Vec<f64>], tolerance: f64) {
    check_both(op, reads, in_place, truth, [tolerance; 2]);
}

/// [`check`] with a tolerance for the CPU and one for CUDA.
#[track_caller]
pub(crate) fn check_both(op: Op, reads: &[Host], in_place: &[Host], truth: &[Vec<f64>], [cpu, cuda]: [f64; 2]) {
    for isa in Isa::available() {
        let one = run(isa, 1, op, reads, in_place);
        let three = run(isa, 3, op, reads, in_place);
        same_bits(&format!("{op:?} at {isa:?} depends on the number of threads"), &one, &three);
        close(&format!("{op:?} at {isa:?}"), &one, truth, cpu);
    }
    emulated(op, reads, in_place, truth, cuda);
}

/// Checks the CUDA kernels of an op in the interpreter: what is planned for a machine of each kind, under several orders of
/// its threads (`GALATEA_SCHEDULES`, 8 where it is not set; a quarter for a large case), which all must give the same bits.
/// Nothing happens for an op without kernels; `plan.rs` says which those are. With the feature `cuda`, also whether a GPU would take every launch.
#[track_caller]
pub(crate) fn emulated(op: Op, reads: &[Host], in_place: &[Host], truth: &[Vec<f64>], tolerance: f64) {
    // An interpreter of Rust does not run another of CUDA.
    if cfg!(miri) {
        return;
    }
    let asked = std::env::var("GALATEA_SCHEDULES").ok().and_then(|n| n.parse().ok()).unwrap_or(8u64);
    let inst = instruction(op, reads).0;
    // Every op has small cases, which meet all its barriers; the large ones are there for the edges of tiles.
    let schedules = if crate::cost(&inst).flops > LARGE { asked.div_ceil(4) } else { asked };
    #[cfg(feature = "cuda")]
    launchable::check(&inst);
    #[cfg(feature = "cuda")]
    if let (Some(mut cuda), true) = (device(), cuda::launches(&inst, MACHINES[0]).is_ok()) {
        let name = format!("{op:?} on the device");
        let found = run_on(&mut cuda, op, reads, in_place).unwrap_or_else(|e| panic!("{name}: {e}"));
        close(&name, &found, truth, tolerance);
    }
    let mut planned = Vec::new();
    for machine in MACHINES {
        let Ok(launches) = cuda::launches(&inst, machine) else { return };
        if planned.contains(&launches) {
            continue;
        }
        planned.push(launches);
        let mut first: Option<Vec<Vec<f64>>> = None;
        for schedule in 0..schedules {
            let mut backend = Emulated::new(machine, interpret(schedule));
            let name = format!("{op:?} for {machine:?} in schedule {schedule}");
            let found = run_on(&mut backend, op, reads, in_place).unwrap_or_else(|e| panic!("{name}: {e}"));
            let first = first.get_or_insert_with(|| found.clone());
            same_bits(&format!("{name} depends on the schedule"), first, &found);
            close(&name, &found, truth, tolerance);
        }
    }
}

/// The GPU of this machine, if it has one; `GALATEA_REQUIRE_CUDA=1` makes a missing one a failure.
#[cfg(feature = "cuda")]
fn device() -> Option<cuda::Cuda> {
    static DEVICE: std::sync::OnceLock<Option<cuda::Cuda>> = std::sync::OnceLock::new();
    let found = DEVICE.get_or_init(|| match cuda::Gpu::find(0).ready() {
        Ok(cuda) => Some(cuda),
        Err(why) => {
            let required = std::env::var_os("GALATEA_REQUIRE_CUDA").is_some_and(|on| on != "0");
            assert!(!required, "GALATEA_REQUIRE_CUDA is set, and {why}");
            galatea_fixtures::skipped(&format!("the cases on a GPU: {why}"));
            None
        }
    });
    found.clone()
}

/// Operations of a case that takes the interpreter a tenth of a second.
const LARGE: u64 = 1_000_000;

/// The machines that kernels are planned for in the tests: few processors, so that persistent blocks take several tiles.
const MACHINES: [Machine; 2] =
    [Machine { arch: Arch::Sm80, processors: 3 }, Machine { arch: Arch::Sm90a, processors: 3 }];

/// Whether a GPU would take every launch of an op.
#[cfg(feature = "cuda")]
mod launchable {
    use crate::cuda::{Arch, CompileError, CubinError, Cubins, Image, Machine, Source, fits, launches};
    use crate::program::Inst;
    use std::collections::BTreeMap;
    use std::sync::{Mutex, OnceLock};

    /// Images by file and architecture; none where there is no compiler.
    fn image(source: &Source, arch: Arch) -> Option<Image> {
        static CUBINS: OnceLock<Cubins> = OnceLock::new();
        static IMAGES: Mutex<BTreeMap<(&str, Arch), Option<Image>>> = Mutex::new(BTreeMap::new());
        let mut images = IMAGES.lock().expect("no test panics while it holds the images");
        let compile = || match CUBINS.get_or_init(Cubins::from_env).get(source, arch) {
            Ok(cubin) => Ok(Some(Image::parse(&cubin.image).expect("the compiler makes images"))),
            Err(CubinError::Compile(CompileError::Missing)) => Ok(None),
            Err(error) => Err(error),
        };
        let known = match images.get(&(source.name, arch)) {
            Some(known) => Ok(known.clone()),
            None => compile().inspect(|image| {
                images.insert((source.name, arch), image.clone());
            }),
        };
        drop(images);
        known.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Checks the plan for a machine of each kind against the machine code, where there is a compiler.
    #[track_caller]
    pub(super) fn check(inst: &Inst) {
        for arch in Arch::ALL {
            let Ok(planned) = launches(inst, Machine { arch, processors: 132 }) else { return };
            for launch in &planned.list {
                if let Some(image) = image(launch.source, arch) {
                    fits(launch, &image, arch)
                        .unwrap_or_else(|misfit| panic!("{:?} on {}: {misfit}", inst.op, arch.name()));
                }
            }
        }
    }
}

/// The interpreter as a driver.
pub(crate) fn interpret(schedule: u64) -> impl FnMut(Call<'_>) -> Result<(), String> {
    move |call| {
        let Call { entry, grid, block, shared, args, sizes, memory } = call;
        let extent = |o: &Operand| Extent { start: o.start, bytes: o.bytes, writable: o.writable };
        let memory: Vec<Extent> = memory.iter().map(extent).collect();
        // SAFETY: `Emulated` gives every argument's size and addresses that are valid for the whole operand.
        let result = unsafe { launch_within(entry, grid, block, shared, args, sizes, schedule, &memory) };
        result.map_err(|failure| failure.to_string())
    }
}

/// Asserts that the outputs of two runs have the same bits.
#[track_caller]
fn same_bits(name: &str, a: &[Vec<f64>], b: &[Vec<f64>]) {
    for (write, (a, b)) in a.iter().zip(b).enumerate() {
        let same = a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "{name}: write {write}");
    }
}

/// Asserts that outputs are those of the reference, where it names them.
#[track_caller]
fn close(name: &str, found: &[Vec<f64>], truth: &[Vec<f64>], tolerance: f64) {
    for (write, (truth, found)) in truth.iter().zip(found).enumerate().filter(|(_, (truth, _))| !truth.is_empty()) {
        assert_eq!(found.len(), truth.len(), "{name}: write {write}");
        let scale = truth.iter().filter(|x| x.is_finite()).fold(1.0f64, |m, x| m.max(x.abs()));
        for (i, (f, t)) in found.iter().zip(truth).enumerate() {
            assert!(
                f == t || (f - t).abs() <= tolerance * scale,
                "{name}: write {write}, element {i}: {f} instead of {t} (tolerance {tolerance} of {scale})"
            );
        }
    }
}
