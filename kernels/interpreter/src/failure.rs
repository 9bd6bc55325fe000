//! Why a launch did not come to its end.

use std::fmt;

/// What kind of mistake it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// No kernel has this name.
    UnknownEntry,
    /// The number of arguments or the size of one.
    Arguments,
    /// Grid, block, shared memory or a tensor map that the driver would refuse.
    Launch,
    /// Nobody can go on: a barrier that not all reach, a phase that never ends, bytes that never come.
    Deadlock,
    /// Threads that must do the same do not: `__syncthreads` in two places, half a warp in a matrix product, a shuffle from
    /// a lane that takes no part.
    Divergence,
    /// A barrier that is used in a way that has no meaning: not initialised, too many arrivals, more bytes than expected.
    Barrier,
    /// An address that is not a multiple of what the access wants.
    Misaligned,
    /// An access beyond shared memory.
    OutOfBounds,
    /// Two accesses to the same bytes of shared memory, one of them a write, that nothing orders.
    Race,
}

/// A kernel that failed, where, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kernel.
    pub entry: String,
    /// The kind of mistake.
    pub kind: Kind,
    /// The block, unless the launch failed before the first.
    pub block: Option<[u32; 3]>,
    /// The thread that noticed, where it was one alone.
    pub thread: Option<[u32; 3]>,
    /// What happened.
    pub text: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.entry)?;
        if let Some([x, y, z]) = self.block {
            write!(f, ", block ({x},{y},{z})")?;
        }
        if let Some([x, y, z]) = self.thread {
            write!(f, ", thread ({x},{y},{z})")?;
        }
        write!(f, ": {}", self.text)
    }
}

impl std::error::Error for Failure {}
