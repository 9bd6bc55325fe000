//! The kernels and the works on a GPU, each beside its floor: `row gpu`.
//!
//! An op is timed by the device's clock around starts of its graph, a work of the seed's model by the host's around everything
//! that a user would wait for.

use crate::normals;
use crate::seed::{LEN, Sampling, Training, VOCAB, WIDTH};
use crate::stats::Spread;
use galatea_autograd::DType;
use galatea_kernels::cuda::{Arch, Cuda, Gpu};
use galatea_kernels::device::Device;
use galatea_kernels::{Activation, AdamW, AttentionMask, Backend, Cost, Hyper, Inst, Norm, Op, Program, cost, slots};
use galatea_random::Philox;
use galatea_tensor::{Region, Shape, Slot, bf16};
use serde::Serialize;
use std::time::Instant;

/// One row of the table.
#[derive(Clone, Debug, Serialize)]
pub struct GpuRow {
    /// The work and its sizes.
    pub name: String,
    /// Half of the runs took less.
    pub median_ms: f64,
    /// The quietest run.
    pub min_ms: f64,
    /// The median distance from the median.
    pub mad_ms: f64,
    /// What the arithmetic or the traffic alone takes by the ceilings of [`Ceilings`]; none for a whole work.
    pub floor_ms: Option<f64>,
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes that must move.
    pub bytes: u64,
}

/// What a device reaches at best.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ceilings {
    /// Operations a second in bf16: what cuBLAS reached on random numbers on an H200 (790e12), and an A100's data sheet.
    pub bf16: f64,
    /// Operations a second in f32.
    pub f32: f64,
    /// Bytes a second of a conversion of 128 Mi numbers, read and written, measured here.
    pub copy: f64,
}

/// What an operand is filled with.
#[derive(Clone, Copy)]
enum Fill {
    Normal,
    Value(f32),
    Ids(usize),
}

/// An op to time: its reads.
struct Case {
    name: String,
    op: Op,
    reads: Vec<(Vec<usize>, DType, Fill)>,
}

/// Everything that is measured on device 0.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The device's name.
    pub device: String,
    /// Its ceilings.
    pub ceilings: Ceilings,
    /// The rows.
    pub rows: Vec<GpuRow>,
}

/// Measures the rows whose names contain `only`, and says each as soon as it is known.
///
/// # Errors
/// If there is no GPU, or it fails.
pub fn measure(only: &str, runs: usize, say: &mut dyn FnMut(&str)) -> Result<Report, String> {
    let mut cuda = Gpu::find(0).ready().map_err(|e| e.to_string())?;
    let device = cuda.name().map_err(|e| e.to_string())?;
    let ceilings = ceilings(&mut cuda, runs)?;
    let mut rows = Vec::new();
    for case in cases().into_iter().filter(|case| case.name.contains(only)) {
        rows.push(op(&mut cuda, &case, ceilings, runs)?);
        say(&rows[rows.len() - 1].to_string());
    }
    for (name, set_up) in works().into_iter().filter(|(name, _)| name.contains(only)) {
        rows.push(work(name, set_up(Device::Cuda(Box::new(cuda.clone())))?, runs));
        say(&rows[rows.len() - 1].to_string());
    }
    Ok(Report { device, ceilings, rows })
}

/// What moves fastest is a conversion of 128 Mi numbers from f32 to bf16: 6 bytes each and no arithmetic.
fn ceilings(cuda: &mut Cuda, runs: usize) -> Result<Ceilings, String> {
    let (bf16, f32) = match cuda.machine().arch {
        Arch::Sm80 => (312e12, 19.5e12),
        Arch::Sm90a => (790e12, 60e12),
        Arch::Sm100a => (1800e12, 75e12),
    };
    let copy = Case {
        name: "copy".to_owned(),
        op: Op::Cast { to: DType::Bf16 },
        reads: vec![(vec![1 << 27], DType::F32, Fill::Normal)],
    };
    let row = op(cuda, &copy, Ceilings { bf16, f32, copy: 1e12 }, runs)?;
    Ok(Ceilings { bf16, f32, copy: row.bytes as f64 / row.min_ms * 1e3 })
}

fn half(dims: &[usize]) -> (Vec<usize>, DType, Fill) {
    (dims.to_vec(), DType::Bf16, Fill::Normal)
}

fn single(dims: &[usize], fill: Fill) -> (Vec<usize>, DType, Fill) {
    (dims.to_vec(), DType::F32, fill)
}

fn ids(dims: &[usize], below: usize) -> (Vec<usize>, DType, Fill) {
    (dims.to_vec(), DType::U32, Fill::Ids(below))
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: String, op, reads| cases.push(Case { name, op, reads });
    let plain = Op::Linear { bias: false, activation: Activation::None, keep: false };
    // The cube, then the seed's layers at 2 and at 64 texts: q k v, out, up, down.
    let layers = [(2304, 768), (768, 768), (2048, 768), (768, 2048)];
    let shapes = [256, 8192].into_iter().flat_map(|m| layers.map(|(n, k)| (m, n, k)));
    for (m, n, k) in [(4096, 4096, 4096)].into_iter().chain(shapes) {
        add(format!("linear/{m}x{n}x{k}/bf16"), plain, vec![half(&[m, k]), half(&[n, k])]);
        add(format!("linear_dx/{m}x{n}x{k}/bf16"), Op::LinearDx, vec![half(&[m, n]), half(&[n, k])]);
        add(format!("linear_dw/{m}x{n}x{k}/bf16"), Op::LinearDw { bias: false }, vec![half(&[m, n]), half(&[m, k])]);
    }
    let reads = vec![single(&[4096, 4096], Fill::Normal), single(&[4096, 4096], Fill::Normal)];
    add("linear/4096x4096x4096/f32".to_owned(), plain, reads);
    for (b, l, heads, d) in [(64, 128, 8, 96), (16, 1024, 16, 64), (16, 1024, 8, 128), (4, 4096, 8, 128)] {
        let (mask, padding, dropout) = (AttentionMask::Full, false, None);
        let kv_heads = heads;
        let (wide, narrow) = ([b, l, 3 * heads as usize * d], [b, l, heads as usize * d]);
        add(
            format!("attention/{b}x{l}x{heads}x{d}/bf16"),
            Op::Attention { heads, kv_heads, mask, padding, dropout },
            vec![half(&wide)],
        );
        add(
            format!("attention_grad/{b}x{l}x{heads}x{d}/bf16"),
            Op::AttentionGrad { heads, kv_heads, mask, padding, dropout },
            vec![half(&wide), half(&narrow), single(&[b, heads as usize, l], Fill::Value(9.0)), half(&narrow)],
        );
    }
    for n in [256, 8192] {
        let factors = || vec![half(&[n, WIDTH]), half(&[VOCAB, WIDTH])];
        let rows = || [ids(&[n], VOCAB), single(&[n], Fill::Value(1.0))];
        let op = Op::LinearCrossEntropy { bias: false, forbid: None };
        add(format!("head/{n}x{VOCAB}x{WIDTH}/bf16"), op, factors().into_iter().chain(rows()).collect());
        let after = [single(&[n], Fill::Value(40.0)), single(&[1], Fill::Value(1.0))];
        let op = Op::LinearCrossEntropyGrad { bias: false, forbid: None };
        let reads = factors().into_iter().chain(rows()).chain(after).collect();
        add(format!("head_grad/{n}x{VOCAB}x{WIDTH}/bf16"), op, reads);
        let op = Op::LinearSample { bias: false, stream: 1, temperature: 1.0, forbid: None };
        let reads = factors().into_iter().chain([(vec![n], DType::U32, Fill::Ids(1)), ids(&[4], 9)]).collect();
        add(format!("head_sample/{n}x{VOCAB}x{WIDTH}/bf16"), op, reads);
    }
    let (n, d) = (8192, WIDTH);
    let op = Op::AddNorm { norm: Norm::Layer, eps: 1e-5, gain: true, bias: true, dropout: None };
    let tables = || [single(&[d], Fill::Value(1.0)), single(&[d], Fill::Value(0.0))];
    add(format!("add_norm/{n}x{d}/bf16"), op, [half(&[n, d]), half(&[n, d])].into_iter().chain(tables()).collect());
    let adamw = AdamW { beta_1: 0.9, beta_2: 0.999, eps: 1e-8, weight_decay: 0.01 };
    let parameters = 79_000_000;
    let reads = vec![
        single(&[parameters], Fill::Normal),
        single(&[1], Fill::Value(1.0)),
        single(&[Hyper::LEN], Fill::Value(1e-3)),
    ];
    add(format!("adamw/{parameters}"), Op::AdamW { adamw, ema: false, copy: true }, reads);
    cases
}

/// A work of the seed's model and what sets it up on a device.
type SetUp = Box<dyn FnOnce(Device) -> Result<Box<dyn FnMut()>, String>>;

fn works() -> Vec<(String, SetUp)> {
    let mut works: Vec<(String, SetUp)> = Vec::new();
    for dtype in [DType::Bf16, DType::F32] {
        for batch in [2, 64] {
            works.push((
                format!("step/{batch}x{LEN}/{}", dtype.name()),
                Box::new(move |device| {
                    let mut training = Training::new(batch, LEN, dtype, device)?;
                    Ok(Box::new(move || training.run()))
                }),
            ));
        }
    }
    for batch in [1, 64] {
        works.push((
            format!("sample/{batch}x{LEN}x32/bf16"),
            Box::new(move |device| {
                let mut sampling = Sampling::new([batch, LEN, 32], DType::Bf16, device, None)?;
                Ok(Box::new(move || {
                    std::hint::black_box(sampling.run());
                }))
            }),
        ));
    }
    works
}

fn op(cuda: &mut Cuda, case: &Case, ceilings: Ceilings, runs: usize) -> Result<GpuRow, String> {
    let kinds: Vec<_> = case.reads.iter().map(|(dims, dtype, _)| (Shape::new(dims), *dtype)).collect();
    let outputs = slots(&case.op, &kinds).map_err(|e| e.to_string())?;
    let mut ends = [0; 5];
    let mut place = |region: Region, (shape, dtype): (Shape, DType)| {
        let end = &mut ends[region.index()];
        let slot = Slot { region, offset: *end, shape, dtype };
        *end = slot.end().next_multiple_of(Slot::ALIGN);
        slot
    };
    let reads: Vec<Slot> = kinds.into_iter().map(|kind| place(Region::Param, kind)).collect();
    let writes: Vec<Slot> = outputs.into_iter().map(|kind| place(Region::Grad, kind)).collect();
    let inst = Inst { op: case.op, reads: reads.clone().into(), writes: writes.into() };
    let Cost { flops, bytes } = cost(&inst);
    let program = Program::new(vec![inst], vec![], ends).map_err(|e| e.to_string())?;
    let mut memory = cuda.allocate(&program).map_err(|e| format!("{}: {e}", case.name))?;
    for (row, (slot, (_, dtype, fill))) in reads.iter().zip(&case.reads).enumerate() {
        let (len, row) = (slot.shape.len(), row as u32);
        let uploaded = match (*fill, dtype) {
            (Fill::Ids(below), _) => {
                let mut rng = Philox::new(2026, 0, 0, row);
                // Every live flag is set where there is but one id.
                let id = |rng: &mut Philox| if below == 1 { 1 } else { rng.below(below) as u32 };
                let ids: Vec<u32> = (0..len).map(|_| id(&mut rng)).collect();
                cuda.upload(&mut memory, *slot, &ids)
            }
            (Fill::Normal, DType::Bf16) => {
                let half: Vec<bf16> = normals(len, row).into_iter().map(bf16::from_f32).collect();
                cuda.upload(&mut memory, *slot, &half)
            }
            (Fill::Normal, _) => cuda.upload(&mut memory, *slot, &normals(len, row)),
            (Fill::Value(x), _) => cuda.upload(&mut memory, *slot, &vec![x; len]),
        };
        uploaded.map_err(|e| e.to_string())?;
    }
    let times = cuda.time(&mut memory, &program, 3, runs).map_err(|e| format!("{}: {e}", case.name))?;
    let rate = if case.name.ends_with("/f32") { ceilings.f32 } else { ceilings.bf16 };
    let floor_ms = Some((flops as f64 / rate).max(bytes as f64 / ceilings.copy) * 1e3);
    Ok(row(case.name.clone(), &times, floor_ms, flops, bytes))
}

fn work(name: String, mut run: Box<dyn FnMut()>, runs: usize) -> GpuRow {
    (0..3).for_each(|_| run());
    let once = |_| {
        let begin = Instant::now();
        run();
        begin.elapsed().as_secs_f64() * 1e3
    };
    let times: Vec<f64> = (0..runs).map(once).collect();
    row(name, &times, None, 0, 0)
}

fn row(name: String, times: &[f64], floor_ms: Option<f64>, flops: u64, bytes: u64) -> GpuRow {
    let Spread { median: median_ms, min: min_ms, mad: mad_ms } = Spread::of(times);
    GpuRow { name, median_ms, min_ms, mad_ms, floor_ms, flops, bytes }
}

impl std::fmt::Display for GpuRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, median_ms, min_ms, .. } = self;
        write!(f, "{name:<36} median {median_ms:>9.4} ms, best {min_ms:>9.4} ms")?;
        if let Some(floor) = self.floor_ms {
            let share = 100.0 * floor / median_ms;
            write!(f, ", floor {floor:>8.4} ms ({share:>3.0} %)")?;
            let (tera, giga) = (self.flops as f64 / median_ms / 1e9, self.bytes as f64 / median_ms / 1e6);
            write!(f, ", {tera:>6.1} TFLOP/s, {giga:>6.0} GB/s")?;
        }
        Ok(())
    }
}
