//! Block diffusion: a text is written block by block, each by masked diffusion given the blocks before it.

use super::tokens::{Form, Moment, OnTokens};
use super::{Objective, Purpose};
use crate::Error;
use galatea_processes::Bounds;
use galatea_processes::objectives::masked;
use serde::{Deserialize, Serialize};

/// `kind = "block"`: the masked NELBO of each block given the clean blocks before it, with a time for each block.
///
/// The network reads [x_t ; x_0], each of `len` positions, under a mask that shows a noisy block to itself and the earlier clean
/// blocks to it. In training times are drawn within [`low`, `high`], which costs the bound its name and saves variance; it is
/// measured over all times. With `search` the two follow the network: every so many steps the interval is taken under which the
/// losses of held-out rows vary least, out of a [grid](galatea_processes::Bounds::grid).
///
/// # Source
/// Arriola et al. (2025), "Block diffusion" (BD3-LM), equations 4 and 8, section 5.2 and its search over clipped schedules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Block {
    /// Positions of a block; they divide those of a row.
    pub size: usize,
    /// The earliest time that is trained.
    pub low: f64,
    /// The latest.
    pub high: f64,
    /// Steps between two searches for better ones; 0 for none.
    pub search: u32,
}

impl Block {
    /// The times that are trained.
    pub(super) fn bounds(&self) -> Bounds {
        Bounds::new(self.low, self.high).expect("ObjectiveConfig::validate has put them in order")
    }
}

impl Default for Block {
    fn default() -> Self {
        Self { size: 4, low: 0.0, high: 1.0, search: 0 }
    }
}

impl OnTokens for Block {
    fn form(&self, _objective: &Objective) -> Form {
        Form::CrossEntropy
    }

    fn moment(&self, objective: &Objective, t: f64, purpose: Purpose) -> Moment {
        let t = match purpose {
            Purpose::Measure => t,
            Purpose::Train { .. } => self.bounds().place(t),
        };
        Moment::new(objective, t, [masked::weight(&objective.schedule, t), 0.0, 0.0])
    }

    fn constant(&self, _objective: &Objective) -> Result<f64, Error> {
        Ok(0.0)
    }
}
