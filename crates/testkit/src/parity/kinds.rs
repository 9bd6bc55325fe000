//! Which check reads which folder.

use super::Kind;

/// Every family that there is a check for.
pub const KINDS: &[Kind] = &[];
