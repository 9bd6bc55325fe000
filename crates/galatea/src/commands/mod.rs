//! One module a command.

pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod data;
pub(crate) mod demo;
pub(crate) mod eval;
pub(crate) mod flags;
pub(crate) mod generate;
pub(crate) mod infill;
pub(crate) mod inspect;
mod on;
pub(crate) mod oracle;
pub(crate) mod sample;
pub(crate) mod train;
