//! The fused ops of galatea: reference, CPU kernels, programs and backends.
