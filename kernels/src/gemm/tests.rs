use super::*;
use crate::pool::Pool;
use crate::real::Real;
use galatea_random::Philox;
use galatea_tensor::bf16;

pub(super) const LAYOUTS: [(Layout, Layout); 4] = [
    (Layout::Normal, Layout::Normal),
    (Layout::Normal, Layout::Transposed),
    (Layout::Transposed, Layout::Normal),
    (Layout::Transposed, Layout::Transposed),
];

/// One row, one column, the edges of every tile and block, several tasks, odd sums over k.
pub(super) const SIZES: [(usize, usize, usize); 9] = [
    (1, 1, 1),
    (8, 48, 16),
    (3, 5, 7),
    (9, 49, 385),
    (200, 100, 30),
    (17, 130, 400),
    (64, 64, 64),
    (300, 20, 769),
    (33, 97, 1601),
];

fn random(len: usize, row: u32) -> Vec<f32> {
    let mut rng = Philox::new(1, 0, 0, row);
    (0..len).map(|_| rng.normal() as f32).collect()
}

fn halves(x: &[f32]) -> Vec<bf16> {
    x.iter().map(|&x| bf16::store(x)).collect()
}

pub(super) fn cores(threads: usize, isa: Isa) -> Cores {
    Cores { pool: Pool::new(threads), isa }
}

/// Elements from row to row of a factor of `rows` x `cols` in a layout.
pub(super) fn stride(layout: Layout, rows: usize, cols: usize) -> usize {
    if layout == Layout::Normal { cols } else { rows }
}

/// op(A) op(B) in f64, of values that are what the product multiplies.
fn truth((m, n, k): (usize, usize, usize), a: &[f64], la: Layout, b: &[f64], lb: Layout) -> Vec<f64> {
    let at = |i: usize, p: usize| if la == Layout::Normal { a[i * k + p] } else { a[p * m + i] };
    let bt = |p: usize, j: usize| if lb == Layout::Normal { b[p * n + j] } else { b[j * k + p] };
    let cell = |i: usize, j: usize| (0..k).map(|p| at(i, p) * bt(p, j)).sum::<f64>();
    (0..m).flat_map(|i| (0..n).map(move |j| (i, j))).map(|(i, j)| cell(i, j)).collect()
}

/// Every unit that can be tested here: those of each level, and the tile unit in loops.
fn units() -> Vec<(Isa, Unit, Precision)> {
    let of = |isa, precision| (isa, Unit::choose(isa, precision), precision);
    let mut units: Vec<_> =
        Isa::available().flat_map(|isa| [of(isa, Precision::F32), of(isa, Precision::Bf16)]).collect();
    for isa in Isa::available() {
        units.push((isa, Unit::Tiles(tiles::Unit::Software, tiles::Product::Pairs), Precision::Bf16));
    }
    // Pairs in loops: what a machine without them would compute.
    units.push((Isa::Portable, Unit::Vectors(Word::Pair), Precision::Bf16));
    units
}

/// Every unit of int8 that can be tested here.
pub(super) fn units_of_bytes() -> Vec<(Isa, Unit)> {
    let tiles = |isa| (isa, Unit::Tiles(tiles::Unit::Software, tiles::Product::Quads));
    Isa::available().flat_map(|isa| [(isa, Unit::choose(isa, Precision::Int8)), tiles(isa)]).collect()
}

#[test]
fn every_layout_size_type_and_unit_equals_the_f64_product() {
    for (shape, (la, lb)) in SIZES.into_iter().flat_map(|shape| LAYOUTS.map(|layouts| (shape, layouts))) {
        let (m, n, k) = shape;
        let (a, b) = (random(m * k, 1), random(k * n, 2));
        let (a_half, b_half) = (halves(&a), halves(&b));
        let wide = |x: &[bf16]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let full = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let exact = truth(shape, &full(&a), la, &full(&b), lb);
        let rounded = truth(shape, &wide(&a_half), la, &wide(&b_half), lb);
        for (isa, unit, precision) in units() {
            for (a, b) in [
                (Elements::F32(&a), Elements::F32(&b)),
                (Elements::Bf16(&a_half), Elements::Bf16(&b_half)),
                (Elements::F32(&a), Elements::Bf16(&b_half)),
            ] {
                let any_half = matches!(b, Elements::Bf16(_));
                if precision == Precision::F32 && any_half && matches!(a, Elements::F32(_)) {
                    continue;
                }
                let truth = if precision == Precision::F32 && !any_half { &exact } else { &rounded };
                let (fa, fb) = (Factor::new(a, stride(la, m, k), la), Factor::new(b, stride(lb, k, n), lb));
                let mut c = vec![f32::NAN; m * n];
                run(&cores(2, isa), unit, shape, fa, Right::Plain(fb), ElementsMut::F32(&mut c), Epilogue::default());
                // Rounding of a sum of k products grows with the root of k.
                let bound = 8e-6 * (k as f64).sqrt();
                for (c, truth) in c.iter().zip(truth) {
                    assert!((f64::from(*c) - truth).abs() < bound, "{isa:?} {unit:?} {la:?} {lb:?} {m}x{n}x{k}");
                }
            }
        }
    }
}

#[test]
fn tiles_give_the_bits_of_their_twin_in_loops() {
    if !Isa::available().any(|isa| isa == Isa::Amx) {
        return;
    }
    // The most rows and the deepest block that a task packs besides.
    let sizes = SIZES.into_iter().chain([(TILE_TASK_ROWS, 256, 2 * TILE_DEPTH)]);
    for (shape, (la, lb)) in sizes.flat_map(|shape| LAYOUTS.map(|layouts| (shape, layouts))) {
        let (m, n, k) = shape;
        let (a, b) = (halves(&random(m * k, 1)), halves(&random(k * n, 2)));
        let with = |tiles| {
            let (fa, fb) = (Factor::new(&a[..], stride(la, m, k), la), Factor::new(&b[..], stride(lb, k, n), lb));
            let (mut c, unit) = (vec![f32::NAN; m * n], Unit::Tiles(tiles, tiles::Product::Pairs));
            let out = ElementsMut::F32(&mut c);
            run(&cores(2, Isa::Amx), unit, shape, fa, Right::Plain(fb), out, Epilogue::default());
            c
        };
        assert!(with(tiles::Unit::Hardware) == with(tiles::Unit::Software), "{la:?} {lb:?} {m}x{n}x{k}");
    }
}

#[test]
fn the_epilogue_does_what_it_says_in_its_order() {
    let (m, n, k) = (37, 101, 50);
    let (a, b, bias, residual, before) =
        (random(m * k, 1), random(k * n, 2), random(n, 3), random(m * n, 4), random(m * n, 5));
    let full = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
    let product = truth((m, n, k), &full(&a), Layout::Normal, &full(&b), Layout::Normal);
    for isa in Isa::available() {
        let (mut c, mut u) = (before.clone(), vec![f32::NAN; m * n]);
        let epilogue = Epilogue {
            scale: 0.5,
            bias: Some(&bias),
            activation: crate::op::Activation::Relu,
            u: Some(ElementsMut::F32(&mut u)),
            residual: Some((3.0, Elements::F32(&residual))),
            accumulate: true,
        };
        let (fa, fb) = (Factor::new(&a[..], k, Layout::Normal), Factor::new(&b[..], n, Layout::Normal));
        gemm(&cores(2, isa), Precision::F32, (m, n, k), fa, fb, ElementsMut::F32(&mut c), epilogue);
        for at in 0..m * n {
            let inner = 0.5 * product[at] + f64::from(bias[at % n]);
            let outer = inner.max(0.0) + 3.0 * f64::from(residual[at]) + f64::from(before[at]);
            assert!((f64::from(u[at]) - inner).abs() < 1e-4, "{isa:?}: u");
            assert!((f64::from(c[at]) - outer).abs() < 1e-4, "{isa:?}: c");
        }
    }
}

#[test]
fn a_bf16_output_is_the_f32_one_rounded() {
    let (m, n, k) = (20, 70, 33);
    let (a, b) = (random(m * k, 1), random(k * n, 2));
    for (isa, unit, _) in units() {
        let (mut full, mut half) = (vec![0.0; m * n], vec![bf16::NAN; m * n]);
        let (fa, fb) = (Factor::new(&a[..], k, Layout::Normal), Factor::new(&b[..], n, Layout::Normal));
        run(&cores(1, isa), unit, (m, n, k), fa, Right::Plain(fb), ElementsMut::F32(&mut full), Epilogue::default());
        run(&cores(1, isa), unit, (m, n, k), fa, Right::Plain(fb), ElementsMut::Bf16(&mut half), Epilogue::default());
        assert_eq!(halves(&full), half, "{isa:?} {unit:?}");
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for (m, n, k) in [(300, 200, 500), (2000, 40, 900)] {
        let (a, b) = (random(m * k, 1), random(k * n, 2));
        for (isa, unit, _) in units() {
            let with = |threads| {
                let mut c = vec![0.0; m * n];
                let (fa, fb) = (Factor::new(&a[..], k, Layout::Normal), Factor::new(&b[..], n, Layout::Normal));
                run(
                    &cores(threads, isa),
                    unit,
                    (m, n, k),
                    fa,
                    Right::Plain(fb),
                    ElementsMut::F32(&mut c),
                    Epilogue::default(),
                );
                c
            };
            assert_eq!(with(1), with(3), "{isa:?} {unit:?}");
        }
    }
}

#[test]
fn what_is_not_finite_reaches_its_rows_alone() {
    let (m, n, k) = (10, 50, 20);
    let (mut a, b) = (random(m * k, 1), random(k * n, 2));
    a[3 * k + 7] = f32::NAN;
    for (isa, unit, _) in units() {
        let mut c = vec![0.0; m * n];
        let (fa, fb) = (Factor::new(&a[..], k, Layout::Normal), Factor::new(&b[..], n, Layout::Normal));
        run(&cores(1, isa), unit, (m, n, k), fa, Right::Plain(fb), ElementsMut::F32(&mut c), Epilogue::default());
        assert!(c.iter().enumerate().all(|(at, x)| x.is_nan() == (at / n == 3)), "{isa:?} {unit:?}");
    }
}

#[test]
fn packed_weights_give_the_bits_of_weights_as_they_lie() {
    for (m, n, k) in SIZES.into_iter().chain([(5, 200, 800), (70, 33, 31)]) {
        let (x, w) = (halves(&random(m * k, 1)), halves(&random(n * k, 2)));
        for isa in Isa::available() {
            let mut words = vec![u32::MAX; packed_words(n, k)];
            pack_weights(isa, (n, k), &w, &mut words);
            let (mut plain, mut packed) = (vec![0.0; m * n], vec![f32::NAN; m * n]);
            let x = Factor::new(&x[..], k, Layout::Normal);
            let (unit, w) = (Unit::choose(isa, Precision::Bf16), Factor::new(&w[..], k, Layout::Transposed));
            let out = ElementsMut::F32(&mut plain);
            run(&cores(2, isa), unit, (m, n, k), x, Right::Plain(w), out, Epilogue::default());
            product_packed(&cores(2, isa), (m, n, k), x, &words, ElementsMut::F32(&mut packed), Epilogue::default());
            assert_eq!(plain, packed, "{isa:?} {m}x{n}x{k}");
        }
    }
}

#[test]
fn packed_weights_fit_the_order_of_tiles() {
    // What a machine with tiles does, in loops.
    let (m, n, k, unit) = (40, 100, 600, Unit::Tiles(tiles::Unit::Software, tiles::Product::Pairs));
    let (x, w) = (halves(&random(m * k, 1)), halves(&random(n * k, 2)));
    let mut words = vec![u32::MAX; packed_words(n, k)];
    packed::pack_for(Isa::detect(), unit, (n, k), &w, &mut words);
    let x = Factor::new(&x[..], k, Layout::Normal);
    let (mut plain, mut packed) = (vec![0.0; m * n], vec![f32::NAN; m * n]);
    let by_row = Right::Plain(Factor::new(&w[..], k, Layout::Transposed));
    for (b, c) in [(by_row, &mut plain), (Right::Packed(&words), &mut packed)] {
        run(&cores(2, Isa::detect()), unit, (m, n, k), x, b, ElementsMut::F32(c), Epilogue::default());
    }
    assert_eq!(plain, packed);
}

#[test]
fn few_rows_equal_the_f64_product_and_threads_change_no_bit() {
    for (m, n, k) in [(1, 1, 1), (1, 100, 64), (3, 49, 770), (17, 200, 333)] {
        let (x, w, bias) = (random(m * k, 1), random(n * k, 2), random(n, 3));
        let (x_half, w_half) = (halves(&x), halves(&w));
        let full = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let wide = |x: &[bf16]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let exact = truth((m, n, k), &full(&x), Layout::Normal, &full(&w), Layout::Transposed);
        let rounded = truth((m, n, k), &wide(&x_half), Layout::Normal, &wide(&w_half), Layout::Transposed);
        for isa in Isa::available() {
            for (precision, x, w, truth) in [
                (Precision::F32, Elements::F32(&x), Elements::F32(&w), &exact),
                (Precision::Bf16, Elements::Bf16(&x_half), Elements::Bf16(&w_half), &rounded),
            ] {
                let (x, w) = (Factor::new(x, k, Layout::Normal), Factor::new(w, k, Layout::Transposed));
                assert!(few::fits(precision, &x, &Right::Plain(w)));
                let with = |threads| {
                    let mut y = vec![f32::NAN; m * n];
                    let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
                    gemm_of_few(&cores(threads, isa), precision, (m, n, k), x, w, ElementsMut::F32(&mut y), epilogue);
                    y
                };
                let y = with(1);
                assert_eq!(y, with(3), "{isa:?} {precision:?}");
                for (at, (y, truth)) in y.iter().zip(truth).enumerate() {
                    let truth = truth + f64::from(bias[at % n]);
                    assert!(
                        (f64::from(*y) - truth).abs() < 8e-6 * (k as f64).sqrt(),
                        "{isa:?} {precision:?} {m}x{n}x{k}"
                    );
                }
            }
        }
    }
}

/// C of a batch, in f32.
fn batch(isa: Isa, unit: Unit, batch: Batch, shape: (usize, usize, usize), a: Factor<'_>, b: Factor<'_>) -> Vec<f32> {
    let mut c = vec![f32::NAN; batch.count * shape.0 * shape.1];
    let out = ElementsMut::F32(&mut c);
    batch::run_batch(&cores(3, isa), unit, batch, shape, a, b, out, Epilogue::default());
    c
}

#[test]
fn a_batch_has_the_bits_of_its_products_one_by_one() {
    let count = 5;
    for ((m, n, k), (la, lb)) in
        [(9, 49, 385), (130, 20, 30), (7, 200, 64)].into_iter().flat_map(|s| LAYOUTS.map(|l| (s, l)))
    {
        let (a, b) = (random(count * m * k, 1), random(count * k * n, 2));
        for (isa, unit, _) in units() {
            // Every A and every B, then one B for all.
            for apart in [k * n, 0] {
                let (fa, fb) = (Factor::new(&a[..], stride(la, m, k), la), Factor::new(&b[..], stride(lb, k, n), lb));
                let together = Batch { count, a: m * k, b: apart, symmetric: false };
                let c = batch(isa, unit, together, (m, n, k), fa, fb);
                for (z, c) in c.chunks(m * n).enumerate() {
                    let mut alone = vec![f32::NAN; m * n];
                    let (fa, fb) = (fa.after(z * m * k), fb.after(z * apart));
                    let out = ElementsMut::F32(&mut alone);
                    run(&cores(1, isa), unit, (m, n, k), fa, Right::Plain(fb), out, Epilogue::default());
                    assert_eq!(c, alone, "{isa:?} {unit:?} {la:?} {lb:?} {m}x{n}x{k}, product {z}");
                }
            }
        }
    }
}

#[test]
fn half_of_a_symmetric_product_has_the_bits_of_the_whole() {
    for (count, n, k) in [(1, 1, 1), (3, 48, 7), (2, 100, 500), (1, 300, 40), (2, 33, 64)] {
        let x = random(count * n * k, 1);
        for (isa, unit, _) in units() {
            for (left, right) in [(Layout::Normal, Layout::Transposed), (Layout::Transposed, Layout::Normal)] {
                let factor = |layout| Factor::new(&x[..], stride(layout, n, k), layout);
                let with = |symmetric| {
                    let batch_of = Batch { count, a: n * k, b: n * k, symmetric };
                    batch(isa, unit, batch_of, (n, n, k), factor(left), Factor { layout: right, ..factor(left) })
                };
                assert_eq!(with(true), with(false), "{isa:?} {unit:?} {left:?} {count}x{n}x{k}");
            }
        }
    }
}

#[test]
fn a_symmetric_product_is_added_and_rounded_on_both_sides() {
    let (n, k) = (110, 30);
    let (x, before) = (random(n * k, 1), random(n * n, 2));
    let even: Vec<f32> = (0..n * n).map(|at| before[at / n * n + at % n] + before[at % n * n + at / n]).collect();
    for (isa, unit, _) in units() {
        let with = |symmetric| {
            let batch_of = Batch { count: 1, a: 0, b: 0, symmetric };
            let x = Factor::new(&x[..], k, Layout::Normal);
            let epilogue = || Epilogue {
                scale: 0.5,
                residual: Some((2.0, Elements::F32(&even))),
                accumulate: true,
                ..Epilogue::default()
            };
            let (mut full, mut half) = (even.clone(), halves(&even));
            for c in [ElementsMut::F32(&mut full), ElementsMut::Bf16(&mut half)] {
                let (t, shape) = (Factor { layout: Layout::Transposed, ..x }, (n, n, k));
                batch::run_batch(&cores(2, isa), unit, batch_of, shape, x, t, c, epilogue());
            }
            (full, half)
        };
        assert_eq!(with(true), with(false), "{isa:?} {unit:?}");
    }
}

#[test]
#[should_panic(expected = "has no bias")]
fn a_symmetric_product_refuses_a_bias() {
    let (x, bias) = (random(12, 1), random(3, 2));
    let (a, b) = (Factor::new(&x[..], 4, Layout::Normal), Factor::new(&x[..], 4, Layout::Transposed));
    let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
    let one = Batch { symmetric: true, ..Batch::ONE };
    gemm_batch(&cores(1, Isa::Portable), Precision::F32, one, (3, 3, 4), a, b, (&mut [0.0; 9][..]).into(), epilogue);
}
