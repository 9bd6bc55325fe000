//! Which check reads which folder.

use super::{Kind, ancestral, bd3lm, cdcd, diffusion_lm, dit, gaussian, plaid, refining, seed_model, unmasking};

/// Every family that there is a check for.
pub const KINDS: &[Kind] = &[
    Kind { family: "bd3lm", check: bd3lm::check },
    Kind { family: "dit_mdlm", check: dit::mdlm },
    Kind { family: "gidd_dit", check: dit::gidd },
    Kind { family: "sedd", check: dit::sedd },
    Kind { family: "seed_model", check: seed_model::check },
    Kind { family: "diffusion_gemma", check: refining::gemma },
    Kind { family: "diffusion_lm", check: diffusion_lm::check },
    Kind { family: "diffusion_lm_sampling", check: diffusion_lm::sample },
    Kind { family: "dream_sampling", check: unmasking::dream },
    Kind { family: "fast_dllm", check: unmasking::fast_dllm },
    Kind { family: "gaussian_samplers", check: gaussian::samplers },
    Kind { family: "llada_sampling", check: unmasking::llada },
    Kind { family: "mdlm_sampling", check: ancestral::mdlm },
    Kind { family: "remdm_sampling", check: ancestral::remdm },
    Kind { family: "duo", check: ancestral::duo },
    Kind { family: "gidd_loss", check: ancestral::gidd },
    Kind { family: "d3pm", check: ancestral::d3pm },
    Kind { family: "plaid", check: plaid::check },
    Kind { family: "plaid_cdcd", check: cdcd::check },
    Kind { family: "udlm_sampling", check: ancestral::udlm },
];
