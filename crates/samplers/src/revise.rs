//! What a reverse step may take back.

use crate::Error;
use crate::error::parameter;
use crate::levels::{Level, Plateau, corrector_rate};

/// How much of what has been written a step takes back and draws anew.
///
/// One formula holds for every process. With the posterior for the present p(x_0) and q_0, the posterior at the data, sent
/// forward to s again,
///
/// q_psi(x_s) = kappa q(x_s | x_t, p) + (1 - kappa) Fwd_s(q_0),
///
/// kappa = 1 is ancestral sampling, kappa = 0 predicts and adds noise anew. Every kappa has the same marginals at s. Under
/// the mask limit it is ReMDM: a token is masked again with probability sigma = (1 - kappa)(1 - alpha_bar_s), and a mask
/// is written with (alpha_bar_s - (1 - sigma) alpha_bar_t) / (1 - alpha_bar_t). Up to
/// sigma = min(1, (1 - alpha_bar_s) / alpha_bar_t) these are probabilities, which kappa in \[0, 1\] never exceeds.
///
/// # Source
/// Wang et al. (2025), ReMDM, section 4; Sahoo et al. (2026), the psi samplers of Duo;
/// `docs/derivations/revision.md`.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Revise {
    /// Nothing: ancestral sampling.
    #[default]
    Never,
    /// The same kappa in every step.
    Renoise {
        /// The posterior's share, in \[0, 1\].
        kappa: f64,
    },
    /// A kappa for every step: the profile of a psi sampler.
    Profile(Vec<f64>),
    /// sigma = scale min(cap, (1 - alpha_bar_s) / alpha_bar_t); see [`cap`](Self::cap) and [`rescale`](Self::rescale).
    Remask {
        /// What sigma never exceeds, in \[0, 1\].
        cap: f64,
        /// The factor, in \[0, 1\].
        scale: f64,
    },
    /// scale min(1, (1 - alpha_bar_s) / alpha_bar_t), divided among the written positions of a text as softmax(-psi),
    /// psi being what the model gave the token when it was written: doubtful tokens are masked again more often.
    Confidence {
        /// The factor, in \[0, 1\].
        scale: f64,
    },
    /// `sigma` in steps that begin at t in (t_off, t_on\]: with [`Levels::plateau`](crate::Levels::plateau), ReMDM's loop.
    Loop {
        /// The probability of being masked again.
        sigma: f64,
        /// The first time.
        t_on: f64,
        /// The time before which the loop ends.
        t_off: f64,
    },
    /// The forward-backward corrector, sigma = (alpha_bar_s - alpha_bar_t) / alpha_bar_t: a step back for every two on.
    /// Steps that gain more than half of what is missing take back more than they can put right, as published.
    ForwardBackward,
    /// The corrector of discrete flow matching, sigma = b (alpha_bar_s - alpha_bar_t) / alpha_bar_t with
    /// b = 10 (t (1 - t))^(1/4), on the levels of [`Levels::corrected`](crate::Levels::corrected).
    Corrector,
}

impl Revise {
    /// ReMDM-cap: sigma = min(eta, (1 - alpha_bar_s) / alpha_bar_t).
    pub fn cap(eta: f64) -> Self {
        Self::Remask { cap: eta, scale: 1.0 }
    }

    /// ReMDM-rescale: sigma = eta min(1, (1 - alpha_bar_s) / alpha_bar_t).
    pub fn rescale(eta: f64) -> Self {
        Self::Remask { cap: 1.0, scale: eta }
    }

    /// sigma of the step number `step` from `here` to `there`; for [`Confidence`](Self::Confidence) the sum over a text's
    /// written positions.
    pub fn sigma(&self, step: usize, here: Level, there: Level) -> f64 {
        let (a_t, a_s) = (here.alpha_bar, there.alpha_bar);
        let most = if a_t > 0.0 { (1.0 - a_s) / a_t } else { f64::INFINITY };
        let of_kappa = |kappa: f64| (1.0 - kappa) * (1.0 - a_s);
        match self {
            Self::Never => 0.0,
            Self::Renoise { kappa } => of_kappa(*kappa),
            Self::Profile(kappas) => of_kappa(kappas.get(step).copied().unwrap_or(1.0)),
            Self::Remask { cap, scale } => scale * cap.min(most),
            Self::Confidence { scale } => scale * most.min(1.0),
            Self::Loop { sigma, t_on, t_off } => {
                if Plateau::holds(*t_on, *t_off, here.t) {
                    *sigma
                } else {
                    0.0
                }
            }
            Self::ForwardBackward => {
                if a_t > 0.0 {
                    (a_s - a_t) / a_t
                } else {
                    1.0
                }
            }
            Self::Corrector => {
                if a_t > 0.0 {
                    corrector_rate(here.t) * (a_s - a_t) / a_t
                } else {
                    0.0
                }
            }
        }
    }

    /// kappa = 1 - sigma / (1 - alpha_bar_s) of the step number `step`, cut to \[0, 1\].
    pub fn kappa(&self, step: usize, here: Level, there: Level) -> f64 {
        kappa_of(self.sigma(step, here, there), there.alpha_bar)
    }

    /// Whether anything can be taken back at all.
    pub(crate) fn revises(&self) -> bool {
        match self {
            Self::Never => false,
            Self::Renoise { .. }
            | Self::Profile(_)
            | Self::Remask { .. }
            | Self::Confidence { .. }
            | Self::Loop { .. }
            | Self::ForwardBackward
            | Self::Corrector => true,
        }
    }

    /// Whether sigma is a number that only an alpha_bar gives a meaning.
    pub(crate) fn needs_levels(&self) -> bool {
        match self {
            Self::Never | Self::Renoise { .. } | Self::Profile(_) => false,
            Self::Remask { .. }
            | Self::Confidence { .. }
            | Self::Loop { .. }
            | Self::ForwardBackward
            | Self::Corrector => true,
        }
    }

    pub(crate) fn check(&self, steps: usize) -> Result<(), Error> {
        let share = |name, x: f64| parameter(name, "in [0, 1]", x, (0.0..=1.0).contains(&x));
        match self {
            Self::Never | Self::ForwardBackward | Self::Corrector => {}
            Self::Renoise { kappa } => {
                share("kappa", *kappa)?;
            }
            Self::Profile(kappas) => {
                parameter("the number of kappas", "one for every step", kappas.len() as f64, kappas.len() >= steps)?;
                kappas.iter().try_for_each(|&kappa| share("kappa", kappa).map(drop))?;
            }
            Self::Remask { cap, scale } => {
                share("cap", *cap)?;
                share("scale", *scale)?;
            }
            Self::Confidence { scale } => {
                share("scale", *scale)?;
            }
            Self::Loop { sigma, t_on, t_off } => {
                share("sigma", *sigma)?;
                parameter("t_off", "no more than t_on", *t_off, t_off <= t_on)?;
            }
        }
        Ok(())
    }
}

/// 1 - sigma / (1 - alpha_bar_s), cut to \[0, 1\]; 1 where nothing can be taken back.
pub(crate) fn kappa_of(sigma: f64, alpha_bar_s: f64) -> f64 {
    let noise = 1.0 - alpha_bar_s;
    if noise > 0.0 { (1.0 - sigma / noise).clamp(0.0, 1.0) } else { 1.0 }
}
