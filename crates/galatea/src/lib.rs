//! A from-scratch diffusion language model stack: the facade and the command line.
