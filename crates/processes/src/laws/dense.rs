use crate::dense::{doubly_stochastic, mutual_information, nearest_neighbour_rates, neighbour_walk_rates};
use crate::{Categorical, Dense, Error, Limit, TokenProcess};
use ndarray::{Array2, array};
use proptest::prelude::*;

fn embeddings() -> impl Strategy<Value = Array2<f64>> {
    proptest::collection::vec(-1.0..1.0f64, 7 * 3).prop_map(|x| Array2::from_shape_vec((7, 3), x).unwrap())
}

proptest! {
    #[test]
    fn nearest_neighbour_noise_is_doubly_stochastic_and_keeps_to_its_graph(table in embeddings(), k in 1usize..6) {
        for rates in [nearest_neighbour_rates(&table, k).unwrap(), neighbour_walk_rates(&table, k).unwrap()] {
            for i in 0..7 {
                prop_assert!(rates.row(i).sum().abs() < 1e-11 && rates.column(i).sum().abs() < 1e-11);
                // At least the k nearest are reached, and the relation is symmetric.
                prop_assert!(rates.row(i).iter().filter(|r| **r > 0.0).count() >= k);
                for j in 0..7 {
                    prop_assert!((rates[[i, j]] - rates[[j, i]]).abs() < 1e-11);
                }
            }
            let chain = Dense::exponential(&rates, &[0.1, 0.5, 2.0]).unwrap();
            for step in 0..3 {
                for row in chain.q(step).columns() {
                    prop_assert!((row.sum() - 1.0).abs() < 1e-10);
                }
            }
            prop_assert!(chain.prior().iter().all(|p| (p - 1.0 / 7.0).abs() < 1e-10));
        }
    }

    #[test]
    fn information_falls_linearly(table in embeddings(), k in 2usize..6, steps in 2usize..8, p in super::distribution(7)) {
        let rates = nearest_neighbour_rates(&table, k).unwrap();
        let Ok(chain) = Dense::linear_information(&rates, &p, steps, 1e-4) else {
            // A graph in several parts never forgets which part it was.
            let connected = Dense::exponential(&rates, &[1e6]).unwrap().q(0).iter().all(|q| *q > 1e-3);
            prop_assert!(!connected);
            return Ok(());
        };
        let entropy: f64 = p.iter().map(|p| -p * p.ln()).sum();
        for i in 0..steps {
            let left = mutual_information(&p, chain.q_bar(i)) / entropy;
            let expected = if i + 1 == steps { 1e-4 } else { 1.0 - (i + 1) as f64 / steps as f64 };
            prop_assert!((left - expected).abs() < 1e-9, "{} {}", left, expected);
        }
    }
}

/// For masks the information left is the share that is shown: alpha_bar = 1 - t / T whatever the data.
#[test]
fn linear_information_of_masks_is_the_linear_schedule() {
    let mut rates = Array2::zeros((5, 5));
    for i in 0..4 {
        rates[[i, 4]] = 1.0;
        rates[[i, i]] = -1.0;
    }
    let p = [0.5, 0.25, 0.15, 0.1, 0.0];
    let chain = Dense::linear_information(&rates, &p, 10, 0.01).unwrap();
    let masked = Categorical::new(5, Limit::Mask(4)).unwrap();
    for i in 0..9 {
        let expected = masked.q_bar(1.0 - (i + 1) as f64 / 10.0);
        assert!((chain.q_bar(i) - &expected).iter().all(|e| e.abs() < 1e-9), "step {i}");
    }
}

#[test]
fn rates_and_graphs_say_what_was_wrong() {
    let table = array![[0.0], [1.0], [3.0]];
    assert!(matches!(nearest_neighbour_rates(&table, 0), Err(Error::Parameter { .. })));
    assert!(matches!(nearest_neighbour_rates(&table, 3), Err(Error::Parameter { .. })));
    assert!(matches!(nearest_neighbour_rates(&array![[0.0]], 1), Err(Error::Vocabulary { .. })));
    assert!(matches!(nearest_neighbour_rates(&array![[0.0], [f64::NAN]], 1), Err(Error::Parameter { .. })));
    // Nearest by distance, and of equal ones the smaller id: 0 - 1 - 2.
    let rates = neighbour_walk_rates(&table, 1).unwrap();
    assert_eq!(rates, array![[-1.0, 1.0, 0.0], [1.0, -1.5, 0.5], [0.0, 0.5, -0.5]]);
    // A pattern without a doubly stochastic matrix.
    assert!(matches!(
        doubly_stochastic(array![[0.0, 1.0, 1.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]),
        Err(Error::Stochastic { .. })
    ));
    let square = array![[0.5, 1.0], [1.0, 2.0]];
    let scaled = doubly_stochastic(square).unwrap();
    assert!(scaled.rows().into_iter().all(|row| (row.sum() - 1.0).abs() < 1e-12));
    let rates = array![[-1.0, 1.0], [1.0, -1.0]];
    assert!(matches!(Dense::exponential(&array![[-1.0, 0.5], [1.0, -1.0]], &[1.0]), Err(Error::Rates { row: 0, .. })));
    assert!(matches!(Dense::exponential(&array![[1.0, -1.0], [1.0, -1.0]], &[1.0]), Err(Error::Rates { row: 0, .. })));
    assert!(matches!(Dense::exponential(&rates, &[f64::NAN]), Err(Error::Parameter { .. })));
    assert!(matches!(Dense::exponential(&rates, &[-1.0]), Err(Error::Parameter { .. })));
    let linear = |p: &[f64], steps, left| Dense::linear_information(&rates, p, steps, left);
    assert!(linear(&[0.5, 0.5], 4, 0.1).is_ok());
    assert!(matches!(linear(&[0.5, 0.6], 4, 0.1), Err(Error::Stochastic { .. })));
    assert!(matches!(linear(&[1.0, 0.0], 4, 0.1), Err(Error::Parameter { .. })));
    assert!(
        linear(&[0.5, 0.5], 0, 0.1).is_err() && linear(&[0.5, 0.5], 4, 0.3).is_err() && linear(&[0.5], 4, 0.1).is_err()
    );
}

#[test]
fn matrices_that_are_no_chain_are_refused() {
    assert!(Dense::new(vec![]).is_err());
    assert!(Dense::new(vec![Array2::zeros((2, 3))]).is_err());
    assert!(Dense::new(vec![Array2::eye(3), Array2::eye(2)]).is_err());
    let message = Dense::new(vec![Array2::eye(3) * 0.5]).unwrap_err().to_string();
    assert!(message.contains("row 0 of the matrix of step 0 sums to 0.5"), "{message}");
    assert!(Dense::band(4, &[9.0], 3).is_err());
    assert!(Dense::exponential(&Array2::eye(3), &[1.0]).is_err());
}
