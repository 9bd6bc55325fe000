use super::reference::{self, Matrix, orthogonalise, product, rows, transpose};
use crate::cases::{Host, check, run};
use crate::isa::Isa;
use crate::op::{Hyper, Muon, Op};

/// Five iterations enlarge a direction of small singular value by up to 3.4445^5 = 485, and with it the rounding of X.
const TOLERANCE: f64 = 1e-4;

const MUON: Muon = Muon { momentum: 0.95, iterations: 5, weight_decay: 0.1 };

fn hyper(lr: f32, max_norm: f32) -> Host {
    let mut hyper = vec![f32::NAN; Hyper::LEN];
    hyper[Hyper::MUON_LR] = lr;
    hyper[Hyper::MAX_NORM] = max_norm;
    Host::f32(&[Hyper::LEN], hyper)
}

#[test]
fn several_steps_equal_the_algorithm() {
    let one = [(1, 1), (1, 7), (7, 1), (5, 3), (3, 5), (17, 17), (48, 16), (16, 50), (120, 40), (100, 100)];
    for (n, (r, c)) in one.map(|shape| (1, shape)).into_iter().chain([(2, (3, 5)), (3, (60, 33)), (5, (50, 101))]) {
        let zero = Host::f32(&[n, r, c], vec![0.0; n * r * c]);
        let mut state = [Host::normal(&[n, r, c], 1), zero];
        let mut truth: Vec<Vec<f64>> = state.iter().map(Host::f64).collect();
        for step in 0..3 {
            let (g, norm) = (Host::normal(&[n, r, c], 10 + step), [0.5, 4.0][step as usize % 2]);
            let hyper = hyper(0.1, 1.0);
            let [param, momentum] = &mut truth[..] else { unreachable!("two tensors") };
            let matrices = param.chunks_mut(r * c).zip(momentum.chunks_mut(r * c));
            for (g, (param, momentum)) in g.f64().chunks(r * c).zip(matrices) {
                reference::step(MUON, (r, c), g, norm, &hyper.f64(), param, momentum);
            }
            let reads = [g, Host::f32(&[1], vec![norm as f32]), hyper];
            check(Op::Muon(MUON), &reads, &state, &truth, TOLERANCE);
            let writes = run(Isa::detect(), 1, Op::Muon(MUON), &reads, &state);
            state = [0, 1].map(|i| Host::f32(&[n, r, c], writes[i].iter().map(|&x| x as f32).collect()));
        }
    }
}

#[test]
fn a_stack_has_the_bits_of_its_matrices_one_by_one() {
    let (n, r, c) = (3, 70, 52);
    let f32s = |x: &[f64]| x.iter().map(|&x| x as f32).collect::<Vec<_>>();
    let rest = [Host::f32(&[1], vec![2.0]), hyper(0.1, 1.0)];
    let all = [1, 2, 3].map(|row| Host::normal(&[n, r, c], row));
    for isa in Isa::available() {
        let step = |[g, param, momentum]: [Host; 3]| {
            run(isa, 2, Op::Muon(MUON), &[g, rest[0].clone(), rest[1].clone()], &[param, momentum])
        };
        let together = step(all.clone());
        for z in 0..n {
            let part = |x: &[f64]| x[z * r * c..(z + 1) * r * c].to_vec();
            let alone = step(all.clone().map(|host| Host::f32(&[1, r, c], f32s(&part(&host.f64())))));
            assert_eq!([part(&together[0]), part(&together[1])], [alone[0].clone(), alone[1].clone()], "{isa:?}: {z}");
        }
    }
}

/// The factor that the kernel applies to a zero parameter for the gradient g, at learning rate one.
fn factor(g: &Host, r: usize, c: usize) -> Matrix {
    let zero = Host::f32(&[1, r, c], vec![0.0; r * c]);
    let reads = [g.clone(), Host::f32(&[1], vec![1.0]), hyper(1.0, f32::INFINITY)];
    let param = run(Isa::detect(), 2, Op::Muon(MUON), &reads, &[zero.clone(), zero]).remove(0);
    let scale = -(r as f64 / c as f64).max(1.0).sqrt();
    rows(&param.iter().map(|x| x / scale).collect::<Vec<_>>(), c)
}

/// Eigenvalues of a symmetric matrix by cyclic Jacobi rotations.
fn eigenvalues(mut a: Matrix) -> Vec<f64> {
    let n = a.len();
    for _ in 0..30 {
        for p in 0..n {
            for q in p + 1..n {
                let angle = 0.5 * (2.0 * a[p][q]).atan2(a[q][q] - a[p][p]);
                let (sin, cos) = angle.sin_cos();
                for row in &mut a {
                    (row[p], row[q]) = (cos * row[p] - sin * row[q], sin * row[p] + cos * row[q]);
                }
                let (upper, lower) = a.split_at_mut(q);
                for (x, y) in upper[p].iter_mut().zip(&mut lower[0]) {
                    (*x, *y) = (cos * *x - sin * *y, sin * *x + cos * *y);
                }
            }
        }
    }
    (0..n).map(|i| a[i][i]).collect()
}

#[test]
fn singular_values_lie_in_the_band_of_the_quintic() {
    for (r, c) in [(12, 12), (12, 30), (36, 12), (1, 9), (9, 1)] {
        let o = factor(&Host::normal(&[1, r, c], 3), r, c);
        let gram = if r > c { product(&transpose(&o), &o) } else { product(&o, &transpose(&o)) };
        for value in eigenvalues(gram) {
            // A square Gaussian matrix has singular values down to 1 / n of the largest: five iterations reach them.
            assert!((0.68f64..1.14).contains(&value.sqrt()), "{r} x {c}: {}", value.sqrt());
        }
    }
}

/// The polar factor is the one orthogonal matrix O for which O X^T is symmetric and positive: the quintic keeps this.
#[test]
fn the_factor_points_where_the_gradient_does() {
    let (r, c) = (6, 15);
    let g = Host::normal(&[1, r, c], 4);
    let aligned = product(&factor(&g, r, c), &transpose(&rows(&g.f64(), c)));
    for (row, column) in aligned.iter().zip(transpose(&aligned)) {
        assert!(row.iter().zip(column).all(|(a, b)| (a - b).abs() < 1e-3));
    }
    assert!(eigenvalues(aligned).iter().all(|&x| x > 0.0));
}

#[test]
fn jacobi_finds_known_eigenvalues() {
    let mut found = eigenvalues(vec![vec![2.0, 1.0, 0.0], vec![1.0, 2.0, 0.0], vec![0.0, 0.0, 5.0]]);
    found.sort_by(f64::total_cmp);
    for (found, expected) in found.iter().zip([1.0, 3.0, 5.0]) {
        assert!((found - expected).abs() < 1e-12);
    }
}

#[test]
fn one_is_taken_to_the_sum_of_the_coefficients() {
    // 3.4445 - 4.7750 + 2.0315.
    assert!((orthogonalise(&vec![vec![7.0]], 1)[0][0] - 0.7010).abs() < 1e-6);
    let identity = orthogonalise(&vec![vec![1.0, 0.0], vec![0.0, 1.0]], 5);
    assert!((0.68..1.14).contains(&identity[0][0]) && identity[0][1].abs() < 1e-12);
}

#[test]
fn a_zero_gradient_only_decays() {
    let (zero, one) = (Host::f32(&[1, 2, 3], vec![0.0; 6]), Host::f32(&[1, 2, 3], vec![1.0; 6]));
    let reads = [zero.clone(), Host::f32(&[1], vec![0.0]), hyper(0.5, 1.0)];
    check(Op::Muon(MUON), &reads, &[one, zero], &[vec![0.95; 6], vec![0.0; 6]], 1e-7);
}
