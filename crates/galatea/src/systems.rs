//! Every system of the field as a combination of the same small parts: one table, whose names the compiler checks.
//!
//! ```
//! let mdlm = galatea::systems::SYSTEMS.iter().find(|system| system.name == "MDLM").expect("it is in the table");
//! assert_eq!(mdlm.process, ["processes::Scheduled", "processes::Limit::Mask"]);
//! assert_eq!(mdlm.config, Some("mdlm"));
//! ```

/// One system: which part answers which question. A part is a path below this crate.
#[derive(Clone, Copy, Debug)]
pub struct System {
    /// The name its authors gave it.
    pub name: &'static str,
    /// Who and when.
    pub source: &'static str,
    /// How much signal is left at t.
    pub schedule: &'static [&'static str],
    /// What noise is.
    pub process: &'static [&'static str],
    /// What the network's output means.
    pub parameterization: &'static [&'static str],
    /// What is minimised.
    pub objective: &'static [&'static str],
    /// How times are drawn.
    pub times: &'static [&'static str],
    /// How a canvas moves: the reverse step, or the order in which positions are written.
    pub order: &'static [&'static str],
    /// What may be undone.
    pub revise: &'static [&'static str],
    /// The file in `configs/` that trains it on the embedded language, if there is one.
    pub config: Option<&'static str>,
}

/// The paths of items that exist, as text below the facade: `galatea_samplers::Rule` is "samplers::Rule".
macro_rules! parts {
    ($($krate:ident :: $($part:ident)::+),* $(,)?) => {{
        $(
            #[allow(unused_imports, reason = "it is named to be checked")]
            use crate::$krate::$($part)::+ as _;
        )*
        &[$(concat!(stringify!($krate), $("::", stringify!($part)),+)),*]
    }};
}

const MASK: &[&str] = parts![processes::Scheduled, processes::Limit::Mask];
const UNIFORM: &[&str] = parts![processes::Scheduled, processes::Limit::Uniform];
const SUBS: &[&str] = parts![processes::objectives::masked::subs];
const LOGITS: &[&str] = parts![samplers::Output::Clean];
const SCORE: &[&str] = parts![samplers::Output::Score, processes::objectives::score_entropy::read_output];
const MASKED: &[&str] = parts![processes::objectives::masked::nelbo];
const MEAN_EMBEDDING: &[&str] = parts![processes::objectives::reparam::mean_embedding];
const STRATIFIED: &[&str] = parts![processes::Times::Stratified];
const LATTICE: &[&str] = parts![processes::Times::Lattice];
const ANCESTRAL: &[&str] = parts![samplers::Ancestral, samplers::Rule::Posterior];
const NEVER: &[&str] = parts![samplers::Revise::Never];
const LINEAR: &[&str] = parts![schedules::Linear];
const LOG_LINEAR: &[&str] = parts![schedules::LogLinear];

/// The table.
pub const SYSTEMS: [System; 23] = [
    System {
        name: "the textbook's script, done right",
        source: "its section on diffusion language models",
        schedule: parts![schedules::Linear, schedules::Sqrt],
        process: parts![processes::Gaussian],
        parameterization: parts![processes::Prediction::X0, processes::Prediction::Noise],
        objective: parts![processes::objectives::embedding::mse, processes::objectives::rounding],
        times: parts![processes::Times::Independent],
        order: parts![samplers::Embedding, samplers::Method, samplers::Clamp],
        revise: &[],
        config: Some("diffusion-lm"),
    },
    System {
        name: "Diffusion-LM",
        source: "Li et al. (2022)",
        schedule: parts![schedules::Sqrt, schedules::Betas],
        process: parts![processes::Gaussian],
        parameterization: parts![processes::Prediction::X0],
        objective: parts![
            processes::objectives::embedding::mse,
            processes::objectives::embedding::prior,
            processes::objectives::rounding
        ],
        times: parts![processes::Times::Independent, processes::LossHistory],
        order: parts![samplers::Embedding, samplers::Method, samplers::Clamp, samplers::Guide],
        revise: &[],
        config: Some("diffusion-lm"),
    },
    System {
        name: "CDCD",
        source: "Dieleman et al. (2022)",
        schedule: parts![schedules::LinearSigma, schedules::Warped],
        process: parts![processes::VarianceExploding],
        parameterization: MEAN_EMBEDDING,
        objective: parts![processes::objectives::d3pm::cross_entropy],
        times: parts![schedules::Warped, processes::Times::Lattice],
        order: parts![samplers::Embedding, samplers::Method],
        revise: &[],
        config: Some("cdcd"),
    },
    System {
        name: "Plaid",
        source: "Gulrajani and Hashimoto (2023)",
        schedule: parts![schedules::LearnedGamma],
        process: parts![processes::Gaussian],
        parameterization: parts![
            processes::objectives::reparam::mean_embedding,
            processes::objectives::reparam::add_output_prior,
            processes::objectives::reparam::unit_rows
        ],
        objective: parts![processes::objectives::bound],
        times: LATTICE,
        order: parts![samplers::Embedding, samplers::Method, samplers::Guide],
        revise: &[],
        config: Some("plaid"),
    },
    System {
        name: "D3PM, absorbing",
        source: "Austin et al. (2021)",
        schedule: parts![schedules::Betas],
        process: MASK,
        parameterization: LOGITS,
        objective: parts![processes::objectives::d3pm::loss],
        times: parts![processes::Times::Independent, processes::times::quantise],
        order: ANCESTRAL,
        revise: NEVER,
        config: Some("d3pm"),
    },
    System {
        name: "D3PM, uniform",
        source: "Austin et al. (2021)",
        schedule: parts![schedules::Betas],
        process: UNIFORM,
        parameterization: LOGITS,
        objective: parts![processes::objectives::d3pm::loss],
        times: parts![processes::Times::Independent, processes::times::quantise],
        order: ANCESTRAL,
        revise: NEVER,
        config: Some("d3pm-uniform"),
    },
    System {
        name: "D3PM, structured matrices",
        source: "Austin et al. (2021)",
        schedule: parts![schedules::Betas],
        process: parts![processes::Dense],
        parameterization: LOGITS,
        objective: parts![processes::objectives::d3pm::loss],
        times: parts![processes::Times::Independent, processes::times::quantise],
        order: ANCESTRAL,
        revise: NEVER,
        config: Some("d3pm-dense"),
    },
    System {
        name: "SEDD, absorb",
        source: "Lou et al. (2024)",
        schedule: LOG_LINEAR,
        process: MASK,
        parameterization: SCORE,
        objective: parts![processes::objectives::score_entropy::loss],
        times: parts![processes::Times::Independent],
        order: parts![samplers::Ancestral, samplers::Rule::Tweedie, samplers::Rule::Euler],
        revise: NEVER,
        config: Some("sedd"),
    },
    System {
        name: "SEDD, uniform",
        source: "Lou et al. (2024)",
        schedule: parts![schedules::Geometric],
        process: UNIFORM,
        parameterization: SCORE,
        objective: parts![processes::objectives::score_entropy::loss],
        times: parts![processes::Times::Independent],
        order: parts![samplers::Ancestral, samplers::Rule::Tweedie, samplers::Rule::Euler],
        revise: NEVER,
        config: Some("sedd-uniform"),
    },
    System {
        name: "MDLM",
        source: "Sahoo et al. (2024)",
        schedule: LOG_LINEAR,
        process: MASK,
        parameterization: SUBS,
        objective: MASKED,
        times: parts![processes::Times::Stratified, schedules::EvenWeight],
        order: ANCESTRAL,
        revise: NEVER,
        config: Some("mdlm"),
    },
    System {
        name: "MD4",
        source: "Shi et al. (2024)",
        schedule: parts![schedules::Linear, schedules::Cosine, schedules::Polynomial],
        process: MASK,
        parameterization: SUBS,
        objective: MASKED,
        times: LATTICE,
        order: ANCESTRAL,
        revise: NEVER,
        config: Some("md4"),
    },
    System {
        name: "ReMDM",
        source: "Wang et al. (2025)",
        schedule: LINEAR,
        process: MASK,
        parameterization: SUBS,
        objective: MASKED,
        times: STRATIFIED,
        order: ANCESTRAL,
        revise: parts![
            samplers::Revise::Remask,
            samplers::Revise::Confidence,
            samplers::Revise::Loop,
            samplers::Revise::ForwardBackward,
            samplers::Revise::Corrector
        ],
        config: Some("mdlm"),
    },
    System {
        name: "UDLM",
        source: "Schiff et al. (2024)",
        schedule: LOG_LINEAR,
        process: UNIFORM,
        parameterization: LOGITS,
        objective: parts![processes::objectives::uniform::nelbo],
        times: STRATIFIED,
        order: parts![samplers::Ancestral, samplers::ClassifierFree, samplers::ClassifierGuided],
        revise: NEVER,
        config: Some("duo"),
    },
    System {
        name: "Duo",
        source: "Sahoo et al. (2025)",
        schedule: LOG_LINEAR,
        process: UNIFORM,
        parameterization: LOGITS,
        objective: parts![processes::objectives::uniform::nelbo],
        times: STRATIFIED,
        order: ANCESTRAL,
        revise: parts![samplers::Revise::Renoise, samplers::Revise::Profile],
        config: Some("duo"),
    },
    System {
        name: "GIDD",
        source: "von Rütte et al. (2025)",
        schedule: parts![schedules::Hybrid],
        process: parts![processes::Hybrid],
        parameterization: LOGITS,
        objective: parts![processes::objectives::interpolating::nelbo],
        times: LATTICE,
        order: parts![samplers::Ancestral, samplers::Rule::Posterior, samplers::correcting],
        revise: NEVER,
        config: Some("gidd"),
    },
    System {
        name: "discrete flow matching",
        source: "Gat et al. (2024); Shaul et al. (2024)",
        schedule: parts![schedules::Polynomial],
        process: parts![processes::Scheduled, processes::FlowRates],
        parameterization: LOGITS,
        objective: parts![processes::objectives::flow::loss],
        times: parts![processes::Times::Independent],
        order: parts![samplers::Ancestral, samplers::Rule::Flow],
        revise: NEVER,
        config: Some("flow"),
    },
    System {
        name: "BD3-LM",
        source: "Arriola et al. (2025)",
        schedule: LINEAR,
        process: parts![processes::Scheduled, processes::Limit::Mask, processes::Bounds],
        parameterization: SUBS,
        objective: MASKED,
        times: STRATIFIED,
        order: parts![samplers::Blockwise, samplers::Fill, samplers::Stop],
        revise: NEVER,
        config: Some("bd3lm"),
    },
    System {
        name: "LLaDA",
        source: "Nie et al. (2025)",
        schedule: LINEAR,
        process: MASK,
        parameterization: SUBS,
        objective: MASKED,
        times: parts![processes::Times::Independent],
        order: parts![samplers::Unmasking, samplers::Selection::Quota, samplers::Score::Confidence, samplers::Blocks],
        revise: NEVER,
        config: Some("llada"),
    },
    System {
        name: "LLaDA, fine-tuned on answers",
        source: "Nie et al. (2025)",
        schedule: LINEAR,
        process: MASK,
        parameterization: SUBS,
        objective: parts![processes::objectives::masked::nelbo, processes::objectives::answer],
        times: parts![processes::Times::Independent],
        order: parts![samplers::Unmasking, samplers::Fixed, samplers::Score::Confidence, samplers::Blocks],
        revise: NEVER,
        config: Some("llada-sft"),
    },
    System {
        name: "Dream",
        source: "Ye et al. (2025)",
        schedule: LINEAR,
        process: MASK,
        parameterization: parts![processes::objectives::masked::subs, samplers::Shifted],
        objective: MASKED,
        times: parts![processes::Times::Independent],
        order: parts![
            samplers::Unmasking,
            samplers::Selection::Share,
            samplers::Selection::Bernoulli,
            samplers::Score::Margin,
            samplers::Score::Entropy
        ],
        revise: NEVER,
        config: None,
    },
    System {
        name: "Fast-dLLM, dInfer",
        source: "Wu et al. (2025); Ma et al. (2025)",
        schedule: &[],
        process: MASK,
        parameterization: SUBS,
        objective: &[],
        times: &[],
        order: parts![
            samplers::Unmasking,
            samplers::Selection::Threshold,
            samplers::Selection::Factor,
            samplers::Selection::Hierarchy
        ],
        revise: NEVER,
        config: None,
    },
    System {
        name: "entropy-bounded unmasking",
        source: "Ben-Hamu et al. (2025)",
        schedule: &[],
        process: MASK,
        parameterization: SUBS,
        objective: &[],
        times: &[],
        order: parts![samplers::Unmasking, samplers::Selection::EntropyBound],
        revise: NEVER,
        config: None,
    },
    System {
        name: "DiffusionGemma's sampler",
        source: "Google (2026)",
        schedule: &[],
        process: UNIFORM,
        parameterization: LOGITS,
        objective: &[],
        times: &[],
        order: parts![samplers::Refining, samplers::Stability],
        revise: parts![samplers::Refining],
        config: None,
    },
];

/// The table as markdown.
pub fn markdown() -> String {
    let mut page = String::from(
        "| system | schedule | process | output | objective | times | step, order | revise | config |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    for system in &SYSTEMS {
        let parts = [
            system.schedule,
            system.process,
            system.parameterization,
            system.objective,
            system.times,
            system.order,
            system.revise,
        ];
        let config = system.config.map_or("-".to_owned(), |name| format!("[{name}](../configs/{name}.toml)"));
        page += &format!("| {}, {} | {} | {config} |\n", system.name, system.source, parts.map(cell).join(" | "));
    }
    page
}

fn cell(parts: &[&str]) -> String {
    let short = |part: &&str| format!("`{}`", part.split("::").skip(1).collect::<Vec<_>>().join("::"));
    if parts.is_empty() { "-".to_owned() } else { parts.iter().map(short).collect::<Vec<_>>().join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// `GALATEA_WRITE=1 cargo test -p galatea systems` writes the page anew.
    #[test]
    fn the_page_holds_the_table() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let page = root.join("docs/systems.md");
        let text = std::fs::read_to_string(&page).expect("docs/systems.md");
        let begin = text.find("| system |").expect("the table's head");
        let end = begin + text[begin..].find("\n\n").map_or(text.len() - begin, |at| at + 1);
        if std::env::var_os("GALATEA_WRITE").is_some() {
            let new = format!("{}{}{}", &text[..begin], markdown(), &text[end..]);
            std::fs::write(&page, new).expect("written");
        } else {
            assert_eq!(&text[begin..end], markdown(), "write it anew with GALATEA_WRITE=1");
        }
        for config in SYSTEMS.iter().filter_map(|system| system.config) {
            assert!(root.join(format!("configs/{config}.toml")).exists(), "{config}");
        }
    }

    #[test]
    fn every_config_belongs_to_a_system() {
        let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
        for entry in std::fs::read_dir(configs).expect("configs") {
            let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
            let stem = name.trim_end_matches(".toml");
            assert!(SYSTEMS.iter().any(|system| system.config == Some(stem)), "{stem}");
        }
    }
}
