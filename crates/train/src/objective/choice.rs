//! Which loss: `[objective]` of a configuration.

use super::{Block, Cdcd, D3pm, DiffusionLm, Draw, Flow, Gidd, Masked, PlaidBound, Sedd, Uniform, Weighting};
use crate::Error;
use crate::config::ProcessKind;
use serde::{Deserialize, Serialize};

/// `[objective]`: which loss, with its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ObjectiveConfig {
    /// The masked NELBO (MDLM, MD4, LLaDA).
    Masked(Masked),
    /// The uniform-state NELBO (UDLM, Duo).
    Uniform(Uniform),
    /// The KL of a chain's posteriors, with an auxiliary cross-entropy (D3PM).
    D3pm(D3pm),
    /// Score entropy (SEDD).
    Sedd(Sedd),
    /// The bound of masks and uniform tokens together (GIDD).
    Gidd(Gidd),
    /// The generalised KL of a mixture path (discrete flow matching).
    Flow(Flow),
    /// The masked NELBO block by block (BD3-LM).
    Block(Block),
    /// Squared error and rounding on embeddings.
    DiffusionLm(DiffusionLm),
    /// The variational bound with a learned schedule, on unit embeddings.
    Plaid(PlaidBound),
    /// Cross-entropy at warped noise levels, on unit embeddings.
    Cdcd(Cdcd),
}

impl ObjectiveConfig {
    /// Every loss with its default settings.
    pub fn all() -> [Self; 10] {
        [
            Self::Masked(Masked::default()),
            Self::Uniform(Uniform::default()),
            Self::D3pm(D3pm::default()),
            Self::Sedd(Sedd::default()),
            Self::Gidd(Gidd::default()),
            Self::Flow(Flow::default()),
            Self::Block(Block::default()),
            Self::DiffusionLm(DiffusionLm::default()),
            Self::Plaid(PlaidBound::default()),
            Self::Cdcd(Cdcd::default()),
        ]
    }

    /// The word for it in a configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Masked(_) => "masked",
            Self::Uniform(_) => "uniform",
            Self::D3pm(_) => "d3pm",
            Self::Sedd(_) => "sedd",
            Self::Gidd(_) => "gidd",
            Self::Flow(_) => "flow",
            Self::Block(_) => "block",
            Self::DiffusionLm(_) => "diffusion-lm",
            Self::Plaid(_) => "plaid",
            Self::Cdcd(_) => "cdcd",
        }
    }

    /// The processes that have this loss.
    pub fn processes(&self) -> &'static [ProcessKind] {
        match self {
            Self::Masked(_) | Self::Block(_) => &[ProcessKind::Mask],
            Self::Uniform(_) => &[ProcessKind::Uniform],
            Self::D3pm(_) => &[ProcessKind::Mask, ProcessKind::Uniform, ProcessKind::Dense],
            Self::Sedd(_) | Self::Flow(_) => &[ProcessKind::Mask, ProcessKind::Uniform],
            Self::Gidd(_) => &[ProcessKind::Hybrid],
            Self::DiffusionLm(_) | Self::Plaid(_) | Self::Cdcd(_) => &[ProcessKind::Gaussian],
        }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// The first that no loss can have.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let bad = |field: &'static str, expected: &str, found: &dyn std::fmt::Display| {
            Err(Error::Config { field, expected: expected.to_owned(), found: found.to_string() })
        };
        match self {
            Self::Masked(Masked { steps, .. }) if *steps > 1 << 24 => {
                bad("objective.steps", "0 for continuous time, else a number up to 16777216", steps)
            }
            Self::Masked(Masked { steps, times: Draw::Importance }) if *steps > 0 => {
                bad("objective.times", "\"uniform\" for a chain of steps, which are drawn alike", &"\"importance\"")
            }
            Self::D3pm(D3pm { steps, .. }) if *steps == 0 || *steps > 1 << 24 => {
                bad("objective.steps", "a number from 1 to 16777216", steps)
            }
            Self::D3pm(D3pm { lambda, .. }) if !(lambda.is_finite() && *lambda >= 0.0) => {
                bad("objective.lambda", "not negative", lambda)
            }
            Self::Gidd(Gidd { most, weighting })
                if *weighting != Weighting::Bound && !(most.is_finite() && *most > 0.0) =>
            {
                bad("objective.most", "a number above 0", most)
            }
            Self::Block(Block { size: 0, .. }) => bad("objective.size", "at least 1", &0),
            Self::Block(Block { low, high, .. }) if !(*low >= 0.0 && low < high && *high <= 1.0) => {
                let found = format!("{low} to {high}");
                bad("objective.low", "0 <= low < high <= 1", &found)
            }
            Self::Masked(_)
            | Self::Block(_)
            | Self::Uniform(_)
            | Self::D3pm(_)
            | Self::Sedd(_)
            | Self::Gidd(_)
            | Self::Flow(_)
            // The last two are checked together with their network.
            | Self::DiffusionLm(_)
            | Self::Plaid(_)
            | Self::Cdcd(_) => Ok(()),
        }
    }
}
