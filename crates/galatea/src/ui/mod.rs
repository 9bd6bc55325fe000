//! What people see: the canvas being carved, the progress of training, the logs, plain output.

pub(crate) mod canvas;
pub(crate) mod log;
pub(crate) mod out;
pub(crate) mod progress;
pub(crate) mod record;
