//! The ops: one folder each.

pub mod activation;
pub mod adamw;
pub mod add;
pub mod add_rows;
pub mod attention;
pub mod corrupt_gaussian;
pub mod corrupt_tokens;
pub mod cross_entropy;
pub mod dropout;
pub mod ema;
pub mod embedding;
pub mod gate;
pub mod global_norm;
pub mod layer_norm;
pub mod linear;
pub mod masked_weight;
pub mod modulate;
pub mod muon;
pub mod qk_norm;
pub mod rms_norm;
pub mod rotary;
pub mod sample_tokens;
pub mod squared_error;
pub mod time_features;
pub mod uniform_nelbo;
