//! Bidirectional attention of packed q, k, v, without a [len, len] tensor in memory.
//!
//! y_i = sum_j p_ij v_j, p_ij = softmax_j(q_i k_j / sqrt(d_head)) over the keys that the mask and `visible` allow. Forward 4 b l l
//! d operations, backward 10 b l l d (scores again, two products for dq and dk, two for dv and dp). A row without a visible
//! key gives zeros and log-sum -inf.
//!
//! With D_i = dy_i . y_i: dp_ij = dy_i . v_j, ds_ij = p_ij (dp_ij - D_i) / sqrt(d_head), dq_i = sum_j ds_ij k_j,
//! dk_j = sum_i ds_ij q_i, dv_j = sum_i p_ij dy_i.
//!
//! Source: Vaswani et al. 2017, equation 1; Dao et al. 2022, algorithm 4 (the backward pass from log-sums).

mod cpu;

pub use cpu::{backward, forward};
