//! Losses and bounds.
