//! Tiles in every pattern and products of every width, against exact answers.

use crate::common::{Map, call, product, whole};

#[test]
fn products_of_every_width_are_exact() {
    let (a, b) = (whole(64 * 64, 5), whole(256 * 64, 6));
    for n in [64_usize, 96, 128, 192, 256] {
        let right = product(&a, &b[..n * 64], [64, n, 64], false);
        for seed in 0..8 {
            let (ma, mb) = (Map::new(&a, 64, 64, [64, 64]), Map::new(&b, 256, 64, [64, 256]));
            let mut out = vec![f32::NAN; 64 * n];
            let shared = 64 * 128 + 256 * 128 + 8;
            call!("demo_width", [1, 1, 1], [128, 1, 1], shared, seed, ma, mb, out.as_mut_ptr(), n as i32)
                .unwrap_or_else(|failure| panic!("width {n}, seed {seed}: {failure}"));
            assert!(out == right, "width {n}, seed {seed}");
        }
    }
}

#[test]
fn products_of_every_pattern_are_exact() {
    let (a, b) = (whole(2 * 64 * 16, 7), whole(2 * 64 * 16, 8));
    let right = product(&a[64 * 16..], &b[64 * 16..], [64, 64, 16], false);
    for width in [128_u32, 64, 32, 16] {
        let swizzle = if width == 16 { 0 } else { width };
        let map = |x: &[u16]| Map::new(x, 64, 16, [width / 2, 64]).of_two(swizzle);
        for seed in 0..8 {
            let mut out = vec![f32::NAN; 64 * 64];
            let (ma, mb) = (map(&a), map(&b));
            call!("demo_pattern", [1, 1, 1], [128, 1, 1], 16384 + 8, seed, ma, mb, out.as_mut_ptr(), width)
                .unwrap_or_else(|failure| panic!("rows of {width} bytes, seed {seed}: {failure}"));
            assert!(out == right, "rows of {width} bytes, seed {seed}");
        }
    }
}

/// Where the documents of the copy engine put byte `at` of a box: chunks of 16 bytes change places within rows of `width`,
/// by the number of the 128 bytes that they lie in.
fn placed(at: usize, width: usize) -> usize {
    let chunks = (width / 16).max(1);
    at ^ (((at / 128) % chunks) * 16)
}

#[test]
fn boxes_are_permuted_clipped_and_filled_with_zeros() {
    let (cols, rows, depth) = (24_i64, 10, 3);
    let x: Vec<f32> = (0..cols * rows * depth).map(|i| i as f32 + 1.0).collect();
    for (swizzle, box_cols) in [(0, 16_u32), (32, 8), (64, 16), (128, 32)] {
        for (x0, y0, z0) in [(0, 0, 0), (4, 3, 1), (-3, -2, -1), (20, 8, 2)] {
            let map = Map::new(&x, rows as usize, cols as usize, [box_cols, 4]).of(depth as u64, 2, swizzle);
            let elements = box_cols * 8;
            let mut out = vec![f32::NAN; elements as usize];
            let at = out.as_mut_ptr();
            call!(
                "demo_box",
                [1, 1, 1],
                [128, 1, 1],
                4 * elements,
                3,
                map,
                at,
                x0 as i32,
                y0 as i32,
                z0 as i32,
                elements
            )
            .unwrap_or_else(|failure| panic!("swizzle {swizzle}: {failure}"));
            for i in 0..elements as usize {
                let inner = i as i64 % i64::from(box_cols);
                let (row, matrix) = (i as i64 / i64::from(box_cols) % 4, i as i64 / i64::from(box_cols) / 4);
                let (c, r, m) = (x0 + inner, y0 + row, z0 + matrix);
                let inside = (0..cols).contains(&c) && (0..rows).contains(&r) && (0..depth).contains(&m);
                let want = if inside { x[((m * rows + r) * cols + c) as usize] } else { 0.0 };
                let found = out[placed(4 * i, swizzle as usize) / 4];
                assert_eq!(found, want, "swizzle {swizzle}, box at ({x0},{y0},{z0}), element {i}");
            }
        }
    }
}
