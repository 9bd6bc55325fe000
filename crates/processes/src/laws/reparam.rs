use super::check_gradient;
use crate::objectives::reparam::{
    add_output_prior, mean_embedding, mean_embedding_backward, unit_rows, unit_rows_backward,
};
use crate::objectives::rounding::Rounding;
use crate::objectives::softmax;
use ndarray::{Array2, array};
use proptest::prelude::*;

const V: usize = 4;
const D: usize = 3;

fn table() -> impl Strategy<Value = Vec<f64>> {
    proptest::collection::vec(0.2..1.5f64, V * D)
}

fn shaped(x: &[f64]) -> Array2<f64> {
    Array2::from_shape_vec((V, D), x.to_vec()).unwrap()
}

proptest! {
    #[test]
    fn mean_embedding_gradients(logits in proptest::collection::vec(-2.0..2.0f64, V), e in table(), g in proptest::collection::vec(-1.0..1.0f64, D)) {
        let loss = |logits: &[f64], e: &[f64]| {
            let (mut p, mut x) = (logits.to_vec(), [0.0; D]);
            mean_embedding(&mut p, &shaped(e), &mut x);
            x.iter().zip(&g).map(|(x, g)| x * g).sum::<f64>()
        };
        let (mut p, mut x) = (logits.clone(), [0.0; D]);
        mean_embedding(&mut p, &shaped(&e), &mut x);
        prop_assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-14);
        let (mut dlogits, mut de) = (vec![f64::NAN; V], Array2::zeros((V, D)));
        mean_embedding_backward(&p, &shaped(&e), &g, &mut dlogits, Some(&mut de));
        check_gradient(&logits, &dlogits, |l| loss(l, &e));
        check_gradient(&e, de.as_slice().unwrap(), |e| loss(&logits, e));
    }

    #[test]
    fn unit_rows_have_norm_one_and_their_gradient_stays_on_the_sphere(e in table(), g in proptest::collection::vec(-1.0..1.0f64, V * D)) {
        let loss = |e: &[f64]| {
            let mut unit = Array2::zeros((V, D));
            unit_rows(&shaped(e), 1e-8, &mut unit);
            unit.iter().zip(&g).map(|(u, g)| u * g).sum::<f64>()
        };
        let mut unit = Array2::zeros((V, D));
        unit_rows(&shaped(&e), 0.0, &mut unit);
        prop_assert!(unit.outer_iter().all(|row| (row.iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-14));
        let mut de = Array2::zeros((V, D));
        unit_rows_backward(&shaped(&e), 1e-8, &shaped(&g), &mut de);
        check_gradient(&e, de.as_slice().unwrap(), loss);
        for (row, d) in unit.outer_iter().zip(de.outer_iter()) {
            prop_assert!(row.iter().zip(&d).map(|(x, d)| x * d).sum::<f64>().abs() < 1e-7);
        }
    }

    /// For unit-norm embeddings the output prior is the whole posterior of a lone noisy token.
    #[test]
    fn output_prior_is_the_posterior_of_unit_embeddings(e in table(), z in proptest::collection::vec(-1.0..1.0f64, D), a in 0.05..0.95f64) {
        let mut unit = Array2::zeros((V, D));
        unit_rows(&shaped(&e), 0.0, &mut unit);
        let (mut found, mut expected) = ([0.0; V], [0.0; V]);
        add_output_prior(&mut found, &z, &unit, a, 1.0);
        Rounding::Bayes { alpha_bar: a }.logits(&z, &unit, None, &mut expected);
        softmax(&mut found);
        softmax(&mut expected);
        prop_assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12));
    }
}

#[test]
fn a_row_of_zeros_has_no_direction() {
    let table = array![[0.0, 0.0], [3.0, 4.0]];
    let (mut unit, mut dtable) = (Array2::zeros((2, 2)), Array2::zeros((2, 2)));
    unit_rows(&table, 1e-8, &mut unit);
    assert_eq!(unit.row(0).to_vec(), [0.0, 0.0]);
    unit_rows_backward(&table, 1e-8, &Array2::ones((2, 2)), &mut dtable);
    assert_eq!(dtable.row(0).to_vec(), [0.0, 0.0]);
    assert!(dtable.iter().all(|d| d.is_finite()));
}
