//! Which check reads which folder.

use super::{
    Kind, ancestral, bd3lm, blocks, cdcd, d3pm, diffusion_lm, dit, gaussian, llama, masked, plaid, rates, refining,
    schedules, scores, seed_model, uniform, unmasking,
};

/// Every family that there is a check for.
pub const KINDS: &[Kind] = &[
    Kind { family: "bd3lm", check: bd3lm::check },
    Kind { family: "bd3lm_loss", check: masked::bd3lm },
    Kind { family: "bd3lm_sampling", check: blocks::bd3lm },
    Kind { family: "d3pm", check: d3pm::check },
    Kind { family: "diffusion_gemma", check: refining::gemma },
    Kind { family: "diffusion_lm", check: diffusion_lm::check },
    Kind { family: "diffusion_lm_sampling", check: diffusion_lm::sample },
    Kind { family: "dit_mdlm", check: dit::mdlm },
    Kind { family: "dream", check: llama::dream },
    Kind { family: "dream_sampling", check: unmasking::dream },
    Kind { family: "duo", check: uniform::duo },
    Kind { family: "fast_dllm", check: unmasking::fast_dllm },
    Kind { family: "flow_matching", check: uniform::flow },
    Kind { family: "gaussian_samplers", check: gaussian::samplers },
    Kind { family: "gidd_dit", check: dit::gidd },
    Kind { family: "gidd_loss", check: uniform::gidd },
    Kind { family: "llada", check: llama::llada },
    Kind { family: "llada_loss", check: masked::llada },
    Kind { family: "llada_sampling", check: unmasking::llada },
    Kind { family: "md4", check: masked::md4 },
    Kind { family: "mdlm_loss", check: masked::mdlm },
    Kind { family: "mdlm_sampling", check: ancestral::mdlm },
    Kind { family: "plaid", check: plaid::check },
    Kind { family: "plaid_cdcd", check: cdcd::check },
    Kind { family: "remdm_sampling", check: ancestral::remdm },
    Kind { family: "schedules", check: schedules::check },
    Kind { family: "sdar", check: llama::sdar },
    Kind { family: "sedd", check: dit::sedd },
    Kind { family: "sedd_loss", check: scores::sedd },
    Kind { family: "sedd_sampling", check: rates::sedd },
    Kind { family: "seed_model", check: seed_model::check },
    Kind { family: "udlm_loss", check: uniform::udlm },
    Kind { family: "udlm_sampling", check: ancestral::udlm },
];
