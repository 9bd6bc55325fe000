//! The matrix product in the shapes of a base-size encoder and of the demonstration.

use galatea_benches::{Bench, Launch, normals};
use galatea_kernels::cpu::Cores;
use galatea_kernels::gemm::{Factor, Layout, Precision, product};
use galatea_kernels::pool::Pool;
use galatea_kernels::{Cost, Isa};
use galatea_tensor::DType;

/// (m, n, k): C [m, n] = op(A) op(B) over k; N as written, T transposed.
const SHAPES: [(&str, usize, usize, usize); 8] = [
    ("nn", 256, 768, 768),
    ("nn", 256, 3072, 768),
    ("nn", 256, 768, 3072),
    ("nn", 2048, 768, 768),
    ("nn", 1024, 1024, 1024),
    // The demonstration's qkv, its first feed-forward matrix, and the gradient of that one.
    ("nt", 1536, 384, 128),
    ("nt", 1536, 512, 128),
    ("tn", 512, 128, 1536),
];

fn main() {
    let mut bench = Bench::from_args();
    for (layouts, m, n, k) in SHAPES {
        let bytes = 4 * (m * k + k * n + m * n) as u64;
        let launch =
            Launch { cost: Cost { flops: 2 * (m * n * k) as u64, bytes }, footprint: bytes, dtype: DType::F32 };
        for threads in [1, 2] {
            bench.run("gemm", &format!("{layouts}_{m}x{n}x{k}"), threads, &[launch], || {
                let (a, b, mut c) = (normals(m * k, 1), normals(k * n, 2), vec![0.0; m * n]);
                let cores = Cores { pool: Pool::new(threads), isa: Isa::detect() };
                let layout =
                    |at: usize| if layouts.as_bytes()[at] == b't' { Layout::Transposed } else { Layout::Normal };
                let (at, bt) = (layout(0), layout(1));
                move || {
                    let a = Factor::new(&a[..], if at == Layout::Normal { k } else { m }, at);
                    let b = Factor::new(&b[..], if bt == Layout::Normal { n } else { k }, bt);
                    product(&cores, Precision::F32, (m, n, k), a, b, &mut c[..]);
                }
            });
        }
    }
    bench.finish();
}
