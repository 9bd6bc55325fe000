//! The interpreter on kernels of its own: correct ones pass under every schedule, and every planted mistake is noticed.

mod common;
mod correct;
mod descriptors;
mod mistakes;
