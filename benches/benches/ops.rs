//! Single ops as programs of one instruction.

use galatea_benches::{Bench, launches, normals};
use galatea_kernels::{AdamW, AttentionMask, Backend, Cpu, Hyper, Inst, Muon, Op, Program, slots};
use galatea_random::Philox;
use galatea_tensor::{DType, Region, Shape, Slot};

/// What a read holds.
#[derive(Clone, Copy)]
enum Fill {
    Normal,
    Value(f32),
    /// Ids below this one.
    Ids(usize),
}
use Fill::{Ids, Normal, Value};

/// Every rate of the optimizers: parameters hardly move.
const RATE: Fill = Value(1e-3);

type Read<'a> = (&'a [usize], Fill);

fn run(bench: &mut Bench, name: &str, op: Op, reads: &[Read<'_>]) {
    let kind = |read: &Read<'_>| (Shape::new(read.0), if matches!(read.1, Ids(_)) { DType::U32 } else { DType::F32 });
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
    optimizers(&mut bench);
    bench.finish();
}

fn attention(bench: &mut Bench, (b, l, d, h): (usize, usize, usize, usize)) {
    let (heads, mask, padding) = (h as u32, AttentionMask::Full, false);
    let (x, lse) = ([b, l, d], (l as f32).ln() + 0.5);
    let qkv: Read<'_> = (&[b, l, 3 * d], Normal);
    let name = format!("{b}x{l}x{d}x{h}");
    run(bench, &name, Op::Attention { heads, kv_heads: heads, mask, padding }, &[qkv]);
    let reads = [qkv, (&x, Normal), (&[b, h, l], Value(lse)), (&x, Normal)];
    run(bench, &name, Op::AttentionGrad { heads, kv_heads: heads, mask, padding }, &reads);
}

fn network(bench: &mut Bench) {
    // A large batch of the encoder, and long sequences.
    for size in [(16, 128, 768, 8), (2, 1024, 768, 8)] {
        attention(bench, size);
    }
    // The demonstration, and a base-size encoder at batch two.
    for (b, l, d, h, v) in [(32, 48, 128, 4, 111), (2, 128, 768, 8, 30_000)] {
        let x = [b, l, d];
        attention(bench, (b, l, d, h));

        let name = format!("{b}x{l}x{d}");
        run(bench, &name, Op::RmsNorm { eps: 1e-5, gain: true }, &[(&x, Normal), (&[d], Normal)]);
        let reads: [Read<'_>; 4] = [(&x, Normal), (&[b * l], Value(1.0)), (&x, Normal), (&[d], Normal)];
        run(bench, &name, Op::RmsNormGrad { gain: true }, &reads);

        let name = format!("{b}x{l}x{v}");
        let forbid = Some(v as u32 - 1);
        let (logits, n) = ([b, l, v], [b, l]);
        let w = Value(1.0 / (b * l) as f32);
        let reads: [Read<'_>; 3] = [(&logits, Normal), (&n, Ids(v - 1)), (&n, w)];
        run(bench, &name, Op::CrossEntropy { forbid }, &reads);
        let reads = [reads[0], reads[1], reads[2], (&n, Value((v as f32).ln() + 0.5)), (&[1], Value(1.0))];
        run(bench, &name, Op::CrossEntropyGrad { forbid }, &reads);
    }
}

fn optimizers(bench: &mut Bench) {
    let adamw = AdamW { beta_1: 0.9, beta_2: 0.98, eps: 1e-8, weight_decay: 0.01 };
    for len in [1 << 20, 1 << 24] {
        let reads: [Read<'_>; 3] = [(&[len], Normal), (&[1], Value(1.0)), (&[Hyper::LEN], RATE)];
        run(bench, &len.to_string(), Op::AdamW(adamw), &reads);
    }
    let muon = Muon { momentum: 0.95, iterations: 5, weight_decay: 0.0 };
    for (r, c) in [(384, 128), (512, 128), (768, 768)] {
        let reads: [Read<'_>; 3] = [(&[r, c], Normal), (&[1], Value(1.0)), (&[Hyper::LEN], RATE)];
        run(bench, &format!("{r}x{c}"), Op::Muon(muon), &reads);
    }
}
