//! Training diffusion language models: objectives as programs, checkpoints, logs.
