#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod systems;

pub use galatea_autograd as autograd;
pub use galatea_kernels as kernels;
pub use galatea_models as models;
pub use galatea_processes as processes;
pub use galatea_random as random;
pub use galatea_samplers as samplers;
pub use galatea_schedules as schedules;
pub use galatea_tensor as tensor;
pub use galatea_text as text;
pub use galatea_train as train;
