//! Which check reads which folder.

use super::{Kind, ancestral};

/// Every family that there is a check for.
pub const KINDS: &[Kind] = &[
    Kind { family: "mdlm_sampling", check: ancestral::mdlm },
    Kind { family: "udlm_sampling", check: ancestral::udlm },
];
