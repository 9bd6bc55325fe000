//! Criterion benches with the roofline beside each time.
