//! Diffusion denoisers that record themselves, and their checkpoint names.
