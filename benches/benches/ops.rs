//! Single ops as programs of one instruction.

use galatea_benches::{Bench, launches, normals};
use galatea_kernels::{
    Activation, AdamW, AttentionMask, Backend, Chunk, Cpu, Dropout, Hyper, Inst, Muon, Norm, Op, Program, Rows, slots,
};
use galatea_random::Philox;
use galatea_tensor::{DType, Region, Shape, Slot, bf16};

/// What a read holds.
#[derive(Clone, Copy)]
enum Fill {
    Normal,
    /// The same in bf16.
    Half,
    Value(f32),
    /// Ids below this one.
    Ids(usize),
    /// A number of positions.
    Count(usize),
}
use Fill::{Count, Half, Ids, Normal, Value};

/// Every rate of the optimizers: parameters hardly move.
const RATE: Fill = Value(1e-3);

type Read<'a> = (&'a [usize], Fill);

fn run(bench: &mut Bench, name: &str, op: Op, reads: &[Read<'_>]) {
    let dtype = |fill: Fill| match fill {
        Normal | Value(_) => DType::F32,
        Half => DType::Bf16,
        Ids(_) | Count(_) => DType::U32,
    };
    let kind = |read: &Read<'_>| (Shape::new(read.0), dtype(read.1));
    let kinds: Vec<_> = reads.iter().map(kind).collect();
    let writes = slots(&op, &kinds).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut end = 0;
    let mut place = |(shape, dtype)| {
        let slot = Slot { region: Region::Step, offset: end, shape, dtype };
        end = slot.end().next_multiple_of(Slot::ALIGN);
        slot
    };
    let read_slots: Vec<Slot> = kinds.into_iter().map(&mut place).collect();
    let inst = Inst { op, reads: read_slots.clone().into(), writes: writes.into_iter().map(&mut place).collect() };
    let program = Program::new(vec![inst], vec![], [0, 0, 0, 0, end]).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut cpu = Cpu::new();
    let threads = cpu.cores().pool.threads();
    bench.run(op.name(), name, threads, &launches(&program), || {
        let mut memory = cpu.allocate(&program).expect("memory for one op");
        for (row, (slot, (_, fill))) in read_slots.iter().zip(reads).enumerate() {
            let (len, row) = (slot.shape.len(), row as u32);
            let mut f32s = |x: &[f32]| cpu.upload(&mut memory, *slot, x).expect("an upload");
            match *fill {
                Normal => f32s(&normals(len, row)),
                Value(x) => f32s(&vec![x; len]),
                Half => {
                    let half: Vec<bf16> = normals(len, row).into_iter().map(bf16::from_f32).collect();
                    cpu.upload(&mut memory, *slot, &half).expect("an upload");
                }
                Count(n) => cpu.upload(&mut memory, *slot, &vec![n as u32; len]).expect("an upload"),
                Ids(below) => {
                    let mut rng = Philox::new(2026, 0, 0, row);
                    let ids: Vec<u32> = (0..len).map(|_| rng.below(below) as u32).collect();
                    cpu.upload(&mut memory, *slot, &ids).expect("an upload");
                }
            }
        }
        move || cpu.run(&mut memory, &program).expect("a program of one op")
    });
}

fn main() {
    let mut bench = Bench::from_args();
    network(&mut bench);
    decoding(&mut bench);
    layers(&mut bench);
    optimizers(&mut bench);
    bench.finish();
}

fn attention(bench: &mut Bench, (b, l, d, h): (usize, usize, usize, usize)) {
    let (heads, mask, padding) = (h as u32, AttentionMask::Full, false);
    let (x, log_sums) = ([b, l, d], [b, h, l]);
    let lse: Read<'_> = (&log_sums, Value((l as f32).ln() + 0.5));
    let qkv: Read<'_> = (&[b, l, 3 * d], Normal);
    let name = format!("{b}x{l}x{d}x{h}");
    let dropped = format!("{name}_dropout");
    for (name, dropout) in [(name, None), (dropped, Some(Dropout { p: 0.1, stream: 1 }))] {
        let rng: &[Read<'_>] = if dropout.is_some() { &[(&[4], Ids(7))] } else { &[] };
        let reads = [&[qkv], rng].concat();
        run(bench, &name, Op::Attention { heads, kv_heads: heads, mask, padding, dropout }, &reads);
        let reads = [&[qkv, (&x, Normal), lse, (&x, Normal)], rng].concat();
        run(bench, &name, Op::AttentionGrad { heads, kv_heads: heads, mask, padding, dropout }, &reads);
    }
}

fn network(bench: &mut Bench) {
    // A large batch of the encoder, and long sequences.
    for size in [(16, 128, 768, 8), (2, 1024, 768, 8)] {
        attention(bench, size);
    }
    // The demonstration, and a base-size encoder at batch two.
    for (b, l, d, h, v) in [(32, 48, 128, 4, 111), (2, 128, 768, 8, 30_000)] {
        attention(bench, (b, l, d, h));
        let name = format!("{b}x{l}x{d}");
        passes(bench, &name, (b, l, d, h, v), Normal);
        passes(bench, &format!("{name}_bf16"), (b, l, d, h, v), Half);

        let name = format!("{b}x{l}x{v}");
        let forbid = Some(v as u32 - 1);
        let (logits, n) = ([b, l, v], [b, l]);
        let w = Value(1.0 / (b * l) as f32);
        let reads: [Read<'_>; 3] = [(&logits, Normal), (&n, Ids(v - 1)), (&n, w)];
        run(bench, &name, Op::CrossEntropy { forbid }, &reads);
        let reads = [reads[0], reads[1], reads[2], (&n, Value((v as f32).ln() + 0.5)), (&[1], Value(1.0))];
        run(bench, &name, Op::CrossEntropyGrad { forbid }, &reads);
        head(bench, &name, (b, l, d, v), Normal);
        head(bench, &format!("{name}_bf16"), (b, l, d, v), Half);
    }
}

/// One new position after a full cache but one, and as many as are decided at once in a block: the cache is read once.
fn decoding(bench: &mut Bench) {
    for (b, n, capacity, fill) in [(1, 1, 1024, Normal), (1, 1, 1024, Half), (16, 1, 1024, Half), (1, 32, 1024, Half)] {
        let (d, heads) = (768, 8);
        let op = Op::AttentionCached { heads, kv_heads: heads, capacity: capacity as u32, mask: AttentionMask::Causal };
        let half = if matches!(fill, Half) { "_bf16" } else { "" };
        let past = Count(capacity - n);
        run(bench, &format!("{b}x{n}x{capacity}x{d}x{heads}{half}"), op, &[(&[b, n, 3 * d], fill), (&[1], past)]);
    }
}

/// The fused head with every row live: what `CrossEntropy` and its products do with the logits in memory.
fn head(bench: &mut Bench, name: &str, (b, l, d, v): (usize, usize, usize, usize), fill: Fill) {
    let (bias, forbid, n) = (true, Some(v as u32 - 1), [b, l]);
    let (x, w): (Read<'_>, Read<'_>) = ((&[b, l, d], fill), (&[v, d], fill));
    let (weight, lse) = (Value(1.0 / (b * l) as f32), Value((v as f32).ln() + 0.5));
    let all: [Read<'_>; 5] = [x, w, (&[v], Normal), (&n, Ids(v - 1)), (&n, weight)];
    run(bench, name, Op::LinearCrossEntropy { bias, forbid }, &all);
    let grad = [&all[..], &[(&n, lse), (&[1], Value(1.0))]].concat();
    run(bench, name, Op::LinearCrossEntropyGrad { bias, forbid }, &grad);
    // No id is the flag of a row that is not drawn.
    let sample = [&all[..3], &[(&n, Ids(v)), (&[4], Ids(7))]].concat();
    run(bench, name, Op::LinearSample { bias, stream: 1, temperature: 1.0, forbid }, &sample);
}

/// What reads and writes its tensors once: the floor is the memory's.
fn passes(bench: &mut Bench, name: &str, (b, l, d, h, v): (usize, usize, usize, usize, usize), fill: Fill) {
    let (heads, gain, bias, p, stream) = (h as u32, true, true, 0.1, 1);
    let (activation, over) = (Activation::Gelu, Rows::Positions);
    let (shift, scale) = (Chunk { index: 0, of: 6 }, Chunk { index: 1, of: 6 });
    let x: Read<'_> = (&[b, l, d], fill);
    let (row, one): (Read<'_>, Read<'_>) = ((&[d], Normal), (&[1], Value(1.0)));
    let m: Read<'_> = (&[b, 6 * d], fill);
    let qkv: Read<'_> = (&[b, l, 3 * d], fill);
    let (rng, stats): (Read<'_>, Read<'_>) = ((&[4], Ids(7)), (&[b * l, 2], Value(1.0)));
    let (table, ids): (Read<'_>, Read<'_>) = ((&[v, d], fill), (&[b, l], Ids(v)));
    let w: Read<'_> = (&[b, l], Value(1.0));
    let to = if matches!(fill, Half) { DType::F32 } else { DType::Bf16 };
    run(bench, name, Op::Add, &[x, x]);
    run(bench, name, Op::Cast { to }, &[x]);
    run(bench, name, Op::AddRows { over, past: false }, &[x, (&[l, d], Normal)]);
    run(bench, name, Op::AddRowsGrad { over: Rows::Batch, rows: 1 }, &[(&[1, b * l, d], fill)]);
    run(bench, name, Op::Activate { activation }, &[x]);
    run(bench, name, Op::ActivateGrad { activation }, &[x, x]);
    run(bench, name, Op::SwiGlu, &[(&[b, l, 2 * d], fill)]);
    run(bench, name, Op::SwiGluGrad, &[(&[b, l, 2 * d], fill), x]);
    run(bench, name, Op::RmsNorm { eps: 1e-5, gain }, &[x, row]);
    run(bench, name, Op::RmsNormGrad { gain }, &[x, (&[b * l], Value(1.0)), x, row]);
    for (name, dropout) in [(name, None), (&format!("{name}_dropout"), Some(Dropout { p, stream }))] {
        let rng: &[Read<'_>] = if dropout.is_some() { &[rng] } else { &[] };
        let (norm, eps) = (Norm::Layer, 1e-5);
        run(bench, name, Op::AddNorm { norm, eps, gain, bias, dropout }, &[&[x, x, row, row], rng].concat());
        let reads = [&[x, stats, x, x, row], rng].concat();
        run(bench, name, Op::AddNormGrad { norm, gain, bias, dropout, sum: true }, &reads);
    }
    run(bench, name, Op::LayerNorm { eps: 1e-5, gain, bias }, &[x, row, row]);
    run(bench, name, Op::LayerNormGrad { gain, bias }, &[x, stats, x, row]);
    run(bench, name, Op::QkNorm { heads, kv_heads: heads, eps: 1e-5, gain: 1.0, learned: false }, &[qkv]);
    let reads = [qkv, (&[b * l, 2 * h], Value(1.0)), qkv];
    run(bench, name, Op::QkNormGrad { heads, kv_heads: heads, gain: 1.0, learned: false }, &reads);
    run(bench, name, Op::Modulate { shift, scale }, &[x, m]);
    run(bench, name, Op::ModulateGrad { shift, scale }, &[x, m, x]);
    run(bench, name, Op::Gate { gate: shift }, &[x, x, m]);
    run(bench, name, Op::GateGrad { gate: shift }, &[x, m, x]);
    run(bench, name, Op::Rotary { heads, kv_heads: heads, inverse: false, past: false }, &[qkv, (&[l, d / h], Normal)]);
    run(bench, name, Op::Dropout { p, stream }, &[x, rng]);
    run(bench, name, Op::Embedding, &[ids, table]);
    run(bench, name, Op::EmbeddingGrad { vocab: v as u32 }, &[ids, x]);
    run(bench, name, Op::CorruptGaussian { stream }, &[x, (&[b, 2], Value(0.5)), rng]);
    run(bench, name, Op::SquaredError, &[x, x, w]);
    run(bench, name, Op::SquaredErrorGrad, &[x, x, w, one]);
}

/// The first matrix of a feed-forward layer with what follows it: of the demonstration, and of the seed's width in inference
/// (u is not kept) and in training.
fn layers(bench: &mut Bench) {
    for (n, i, o, activation) in [
        (1536, 128, 512, Activation::Gelu),
        (256, 768, 2048, Activation::Gelu),
        (128, 768, 4096, Activation::SwiGlu),
        (256, 768, 4096, Activation::SwiGlu),
    ] {
        for (fill, keep) in [(Normal, false), (Normal, true), (Half, false), (Half, true)] {
            let dtype = if matches!(fill, Half) { "bf16" } else { "f32" };
            let name = format!("{n}x{i}x{o}_{activation:?}_{dtype}{}", if keep { "_kept" } else { "" });
            let op = Op::Linear { bias: false, activation, keep };
            run(bench, &name.to_lowercase(), op, &[(&[1, n, i], fill), (&[o, i], fill)]);
        }
    }
}

fn optimizers(bench: &mut Bench) {
    let adamw = AdamW { beta_1: 0.9, beta_2: 0.98, eps: 1e-8, weight_decay: 0.01 };
    for len in [1 << 20, 1 << 24] {
        let reads: [Read<'_>; 3] = [(&[len], Normal), (&[1], Value(1.0)), (&[Hyper::LEN], RATE)];
        for (name, ema, copy) in [("", false, false), ("_ema_copy", true, true)] {
            run(bench, &format!("{len}{name}"), Op::AdamW { adamw, ema, copy }, &reads);
        }
        run(bench, &len.to_string(), Op::GlobalNorm, &reads[..1]);
        run(bench, &len.to_string(), Op::Ema, &[reads[0], reads[2]]);
    }
    let (b, l, d, vocab) = (2, 128, 768, 30_000);
    let reads: [Read<'_>; 3] = [(&[b, l], Ids(vocab)), (&[b, l, d], Normal), (&[Hyper::LEN], RATE)];
    let op = Op::EmbeddingAdamW { vocab: vocab as u32, adamw, ema: false, copy: false };
    run(bench, &format!("{b}x{l}x{d}x{vocab}"), op, &reads);
    let reads: [Read<'_>; 3] = [(&[vocab * d], Normal), (&[1], Value(1.0)), (&[Hyper::LEN], RATE)];
    run(bench, &format!("{vocab}x{d}"), Op::AdamW { adamw, ema: false, copy: false }, &reads);
    let muon = Muon { momentum: 0.95, iterations: 5, weight_decay: 0.0 };
    for (n, r, c) in [(1, 512, 128), (4, 384, 128), (4, 512, 128), (4, 128, 512), (1, 768, 768)] {
        let reads: [Read<'_>; 3] = [(&[n, r, c], Normal), (&[1], Value(1.0)), (&[Hyper::LEN], RATE)];
        run(bench, &format!("{n}x{r}x{c}"), Op::Muon(muon), &reads);
    }
}
