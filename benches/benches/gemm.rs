//! The matrix product in the shapes of a base-size encoder and of the demonstration, in f32 and in bf16.

use galatea_benches::{Bench, Launch, normals};
use galatea_kernels::cpu::Cores;
use galatea_kernels::gemm::{Batch, Elements, Epilogue, Factor, Layout, Precision, gemm_batch, product};
use galatea_kernels::pool::Pool;
use galatea_kernels::{Cost, Isa, Real};
use galatea_tensor::{DType, bf16};

/// (m, n, k): C [m, n] = op(A) op(B) over k; N as written, T transposed. A linear layer is "nt", the gradient of its input
/// "nn", that of its weights "tn".
const SHAPES: [(&str, usize, usize, usize); 14] = [
    ("nt", 256, 768, 768),
    ("nt", 256, 2304, 768),
    ("nt", 256, 2048, 768),
    ("nt", 256, 768, 2048),
    ("nt", 256, 30_000, 768),
    ("nt", 16, 30_000, 768),
    ("nn", 256, 768, 2304),
    ("tn", 2304, 768, 256),
    ("nt", 2048, 768, 768),
    ("nn", 1024, 1024, 1024),
    // The demonstration's qkv, its first feed-forward matrix, and the gradient of that one.
    ("nt", 1536, 384, 128),
    ("nt", 1536, 512, 128),
    ("tn", 512, 128, 1536),
    ("nn", 1536, 128, 512),
];

/// (count, n, k): as many symmetric products X X^T of X [n, k], what Muon does with the demonstration's matrices.
const BATCHES: [(usize, usize, usize); 4] = [(1, 128, 128), (4, 128, 128), (1, 128, 512), (4, 128, 512)];

/// Half of every product is what must be computed.
fn batches(bench: &mut Bench) {
    for ((count, n, k), threads) in BATCHES.into_iter().flat_map(|shape| [(shape, 1), (shape, 2)]) {
        let bytes = 4 * (count * (n * k + n * n)) as u64;
        let cost = Cost { flops: (count * n * n * k) as u64, bytes };
        let launch = Launch { cost, footprint: bytes, dtype: DType::F32 };
        bench.run("gemm_batch", &format!("symmetric_{count}x{n}x{n}x{k}"), threads, &[launch], || {
            let (x, mut c) = (normals(count * n * k, 1), vec![0.0; count * n * n]);
            let cores = Cores { pool: Pool::new(threads), isa: Isa::detect() };
            let batch = Batch { count, a: n * k, b: n * k, symmetric: true };
            move || {
                let [a, b] = [Layout::Normal, Layout::Transposed].map(|layout| Factor::new(&x[..], k, layout));
                let c = (&mut c[..]).into();
                gemm_batch(&cores, Precision::F32, batch, (n, n, k), a, b, c, Epilogue::default());
            }
        });
    }
}

fn main() {
    let mut bench = Bench::from_args();
    batches(&mut bench);
    for (layouts, m, n, k) in SHAPES {
        for (dtype, threads) in [(DType::F32, 1), (DType::F32, 2), (DType::Bf16, 1), (DType::Bf16, 2)] {
            let bytes = (dtype.size() * (m * k + k * n) + 4 * m * n) as u64;
            let launch = Launch { cost: Cost { flops: 2 * (m * n * k) as u64, bytes }, footprint: bytes, dtype };
            bench.run("gemm", &format!("{layouts}_{m}x{n}x{k}_{}", dtype.name()), threads, &[launch], || {
                let (a, b, mut c) = (normals(m * k, 1), normals(k * n, 2), vec![0.0; m * n]);
                let halves = |x: &[f32]| x.iter().map(|&x| bf16::store(x)).collect::<Vec<_>>();
                let (a_half, b_half) = (halves(&a), halves(&b));
                let cores = Cores { pool: Pool::new(threads), isa: Isa::detect() };
                let layout =
                    |at: usize| if layouts.as_bytes()[at] == b't' { Layout::Transposed } else { Layout::Normal };
                let (at, bt) = (layout(0), layout(1));
                move || {
                    let (a, b, precision): (Elements<'_>, Elements<'_>, _) = match dtype {
                        DType::Bf16 => (a_half[..].into(), b_half[..].into(), Precision::Bf16),
                        DType::F32 | DType::F16 | DType::U32 | DType::I8 => {
                            (a[..].into(), b[..].into(), Precision::F32)
                        }
                    };
                    let a = Factor::new(a, if at == Layout::Normal { k } else { m }, at);
                    let b = Factor::new(b, if bt == Layout::Normal { n } else { k }, bt);
                    product(&cores, precision, (m, n, k), a, b, &mut c[..]);
                }
            });
        }
    }
    bench.finish();
}
