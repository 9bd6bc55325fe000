//! Which check reads which folder.

use super::{
    Kind, ancestral, bd3lm, blocks, cdcd, diffusion_lm, dit, gaussian, llama, plaid, rates, refining, seed_model,
    unmasking,
};

/// Every family that there is a check for.
pub const KINDS: &[Kind] = &[
    Kind { family: "bd3lm", check: bd3lm::check },
    Kind { family: "bd3lm_sampling", check: blocks::bd3lm },
    Kind { family: "d3pm", check: ancestral::d3pm },
    Kind { family: "dit_mdlm", check: dit::mdlm },
    Kind { family: "gidd_dit", check: dit::gidd },
    Kind { family: "llada", check: llama::llada },
    Kind { family: "sedd", check: dit::sedd },
    Kind { family: "seed_model", check: seed_model::check },
    Kind { family: "diffusion_gemma", check: refining::gemma },
    Kind { family: "diffusion_lm", check: diffusion_lm::check },
    Kind { family: "diffusion_lm_sampling", check: diffusion_lm::sample },
    Kind { family: "dit_mdlm", check: dit::mdlm },
    Kind { family: "dream_sampling", check: unmasking::dream },
    Kind { family: "duo", check: ancestral::duo },
    Kind { family: "fast_dllm", check: unmasking::fast_dllm },
    Kind { family: "flow_matching", check: rates::flow },
    Kind { family: "gaussian_samplers", check: gaussian::samplers },
    Kind { family: "gidd_dit", check: dit::gidd },
    Kind { family: "gidd_loss", check: ancestral::gidd },
    Kind { family: "llada_sampling", check: unmasking::llada },
    Kind { family: "mdlm_sampling", check: ancestral::mdlm },
    Kind { family: "plaid", check: plaid::check },
    Kind { family: "plaid_cdcd", check: cdcd::check },
    Kind { family: "remdm_sampling", check: ancestral::remdm },
    Kind { family: "sedd", check: dit::sedd },
    Kind { family: "sedd_sampling", check: rates::sedd },
    Kind { family: "seed_model", check: seed_model::check },
    Kind { family: "udlm_sampling", check: ancestral::udlm },
];
