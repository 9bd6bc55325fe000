//! What the instructions do, as this machine does them: by its processor, or by the emulator beside this file.

use crate::isa::Isa;
use std::arch::asm;

/// Whether this machine has tiles, or is given them.
fn here() -> bool {
    Isa::available().any(|isa| isa == Isa::Amx)
}

/// Runs `work` with tiles 0 to 2 as C, A, B, each (rows, bytes).
fn with_tiles(extents: [(u8, u16); 3], work: impl FnOnce()) {
    assert!(here());
    let mut bytes = [0u8; 64];
    bytes[0] = 1;
    for (tile, (rows, wide)) in extents.iter().enumerate() {
        bytes[16 + 2 * tile..][..2].copy_from_slice(&wide.to_le_bytes());
        bytes[48 + tile] = *rows;
    }
    // SAFETY: `Isa::Amx` is available (asserted); the bytes are a configuration of palette 1.
    unsafe { asm!("ldtilecfg [{}]", in(reg) bytes.as_ptr(), options(nostack, readonly)) };
    work();
    // SAFETY: as above.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

/// C + A B by one instruction, of matrices whose rows follow each other.
macro_rules! multiply {
    ($name:literal, $c:expr, $a:expr, $b:expr, $wide_c:expr, $wide_a:expr) => {
        // SAFETY: tiles are configured for these matrices (`with_tiles`), which hold their rows.
        unsafe {
            asm!(
                "tileloadd tmm0, [{c} + {wide_c}*1]",
                "tileloadd tmm1, [{a} + {wide_a}*1]",
                "tileloadd tmm2, [{b} + {wide_c}*1]",
                concat!($name, " tmm0, tmm1, tmm2"),
                "tilestored [{c} + {wide_c}*1], tmm0",
                c = in(reg) $c.as_mut_ptr(), a = in(reg) $a.as_ptr(), b = in(reg) $b.as_ptr(),
                wide_c = in(reg) $wide_c as usize, wide_a = in(reg) $wide_a as usize, options(nostack)
            );
        }
    };
}

fn half(x: f32) -> u32 {
    assert_eq!(x.to_bits() & 0xffff, 0, "{x} is a bf16");
    x.to_bits() >> 16
}

/// c + a b for one row of pairs and one column.
fn dot(c: f32, pairs: &[[f32; 4]]) -> f32 {
    let (mut c, n) = ([c], pairs.len());
    let a: Vec<u32> = pairs.iter().map(|[a, b, _, _]| half(*a) | half(*b) << 16).collect();
    let b: Vec<u32> = pairs.iter().map(|[_, _, a, b]| half(*a) | half(*b) << 16).collect();
    with_tiles([(1, 4), (1, 4 * n as u16), (n as u8, 4)], || multiply!("tdpbf16ps", c, a, b, 4, 4 * n));
    c[0]
}

#[test]
fn a_product_of_halves_sums_lower_and_upper_ones_apart_before_it_adds_them() {
    if !here() {
        return;
    }
    assert_eq!(dot(0.5, &[[2.0, 3.0, 5.0, 7.0], [1.0, -1.0, 4.0, 0.25]]), 0.5 + 10.0 + 21.0 + 4.0 - 0.25);
    // Alone, each one is lost beside 2^24; together they are not.
    let large = 16_777_216.0;
    assert_eq!(dot(large, &[[1.0, 1.0, 1.0, 1.0]]), large + 2.0);
    // The lower products are one sum: 2^24 + 1 - 2^24 = 0, where 1 would be left of another order.
    let of_lower = [[large, 0.0, 1.0, 0.0], [1.0, 0.0, 1.0, 0.0], [-large, 0.0, 1.0, 0.0]];
    assert_eq!(dot(0.0, &of_lower), 0.0);
    let apart = [[large, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0], [-large, 0.0, 1.0, 0.0]];
    assert_eq!(dot(0.0, &apart), 1.0);
}

#[test]
fn a_product_of_halves_has_no_subnormal_numbers() {
    if !here() {
        return;
    }
    let (small, least) = (f32::from_bits(0x0001_0000), f32::MIN_POSITIVE);
    assert!(small.is_subnormal() && small * 2f32.powi(100) > 0.0);
    assert_eq!(dot(0.0, &[[small, 0.0, 2f32.powi(100), 0.0]]), 0.0, "a factor");
    assert_eq!(dot(0.0, &[[2f32.powi(-70), 0.0, 2f32.powi(-70), 0.0]]), 0.0, "a product");
    assert_eq!(dot(f32::from_bits(1), &[[0.0; 4]]), 0.0, "C");
    assert_eq!(dot(-1.5 * least, &[[least, 0.0, 1.0, 0.0]]), 0.0, "the sum");
    assert_eq!(dot(-3.0 * least, &[[least, 0.0, 1.0, 0.0]]), -2.0 * least);
}

#[test]
fn products_of_bytes_take_each_sign_as_told_and_wrap() {
    if !here() {
        return;
    }
    const M: usize = 3;
    const N: usize = 5;
    const K: usize = 6;
    let byte = |i: usize, salt: usize| (i * 89 + salt * 57) as u8;
    let a: Vec<[u8; 4]> = (0..M * K).map(|i| std::array::from_fn(|e| byte(4 * i + e, 1))).collect();
    let b: Vec<[u8; 4]> = (0..K * N).map(|i| std::array::from_fn(|e| byte(4 * i + e, 2))).collect();
    let before: Vec<i32> = (0..M * N).map(|i| i32::MAX - 7 * i as i32).collect();
    let wide = |byte: u8, signed: bool| if signed { i64::from(byte as i8) } else { i64::from(byte) };
    let truth = |a_signed, b_signed| -> Vec<i32> {
        let cell = |m: usize, n: usize| {
            let pairs = (0..K).flat_map(|k| (0..4).map(move |e| (m * K + k, k * N + n, e)));
            pairs.map(|(i, j, e)| wide(a[i][e], a_signed) * wide(b[j][e], b_signed)).sum::<i64>()
        };
        (0..M * N).map(|i| (i64::from(before[i]) + cell(i / N, i % N)) as i32).collect()
    };
    macro_rules! check {
        ($name:literal, $a_signed:literal, $b_signed:literal) => {
            let mut c = before.clone();
            with_tiles([(M as u8, 4 * N as u16), (M as u8, 4 * K as u16), (K as u8, 4 * N as u16)], || {
                multiply!($name, c, a, b, 4 * N, 4 * K);
            });
            assert_eq!(c, truth($a_signed, $b_signed), $name);
        };
    }
    check!("tdpbssd", true, true);
    check!("tdpbsud", true, false);
    check!("tdpbusd", false, true);
    check!("tdpbuud", false, false);
}

#[test]
fn a_load_clears_what_the_tile_has_beyond_its_rows_and_a_store_writes_its_rows_alone() {
    if !here() {
        return;
    }
    let source: [u8; 160] = std::array::from_fn(|i| i as u8 + 1);
    let mut out = [0u8; 160];
    with_tiles([(3, 12), (16, 64), (1, 4)], || {
        // SAFETY: tiles are configured; rows 40 bytes apart and rows 20 times two bytes apart lie in 160 bytes.
        unsafe {
            asm!(
                "tileloadd tmm0, [{from} + {stride}*1 + 5]",
                "tilestored [{to} + {half}*2 + 8], tmm0",
                from = in(reg) source.as_ptr(), to = in(reg) out.as_mut_ptr(), stride = in(reg) 40usize,
                half = in(reg) 20usize, options(nostack)
            );
        }
    });
    for (i, &byte) in out.iter().enumerate() {
        let inside = (8..128).contains(&i) && (i - 8) % 40 < 12 && i < 8 + 2 * 40 + 12;
        assert_eq!(byte, if inside { source[i - 8 + 5] } else { 0 }, "byte {i}");
    }
}

#[test]
fn rows_without_an_index_are_one_row_and_zeros_are_zero() {
    if !here() {
        return;
    }
    let (row, mut out) = ([7u32, 8, 9], [[1u32; 3]; 4]);
    with_tiles([(4, 12), (4, 12), (1, 4)], || {
        // SAFETY: tiles are configured; one row of twelve bytes is read, four are written.
        unsafe {
            asm!(
                "tileloadd tmm0, [{row}]",
                "tilestored [{out} + {stride}*1], tmm0",
                row = in(reg) row.as_ptr(), out = in(reg) out.as_mut_ptr(), stride = in(reg) 12usize, options(nostack)
            );
        }
        assert_eq!(out, [row; 4]);
        // SAFETY: as above.
        unsafe {
            asm!(
                "tileloadd tmm1, [{row}]",
                "tilezero tmm1",
                "tilestored [{out} + {stride}*1], tmm1",
                row = in(reg) row.as_ptr(), out = in(reg) out.as_mut_ptr(), stride = in(reg) 12usize, options(nostack)
            );
        }
    });
    assert_eq!(out, [[0; 3]; 4]);
}

#[test]
fn every_thread_has_tiles_of_its_own() {
    if !here() {
        return;
    }
    let one = |value: u32| {
        let (row, mut out) = ([value], [0u32]);
        with_tiles([(1, 4), (1, 4), (1, 4)], || {
            // SAFETY: tiles are configured for one word.
            unsafe { asm!("tileloadd tmm0, [{}]", in(reg) row.as_ptr(), options(nostack, readonly)) };
            // Others load theirs meanwhile.
            std::thread::yield_now();
            // SAFETY: as above.
            unsafe { asm!("tilestored [{}], tmm0", in(reg) out.as_mut_ptr(), options(nostack)) };
        });
        out[0] == value
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|t| scope.spawn(move || (0..200).all(|i| one(1000 * t + i)))).collect();
        assert!(threads.into_iter().all(|thread| thread.join().expect("no panic")));
    });
}
