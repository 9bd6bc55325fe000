//! How a reverse step is taken, and what the denoiser's numbers are.

/// How x_s is drawn from x_t and the denoiser's answer.
///
/// With an exact denoiser [`Posterior`](Self::Posterior), [`Sampled`](Self::Sampled) and [`Tweedie`](Self::Tweedie) draw
/// each position from one and the same law, which [`Euler`](Self::Euler) approaches as the steps get small.
/// [`Flow`](Self::Flow) is Euler's for a chain of its own, which goes to clean tokens only; its marginals are the same, and
/// under the mask limit so is the chain.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Rule {
    /// From q(x_s | x_t, p): D3PM, MDLM, UDLM, Duo, GIDD; with [`Revise`](crate::Revise), ReMDM and the psi samplers.
    #[default]
    Posterior,
    /// A clean token is drawn from p(x_0 | x_t) first, and x_s from the posterior of that token: discrete DDIM.
    Sampled,
    /// From the score, by going back exactly as far as the step has forgotten: SEDD's analytic sampler, with
    /// s the scores and r = alpha_bar_t / alpha_bar_s,
    ///
    /// q(x_s = k) ∝ (s_k - (1 - r) pi(k) sum_j s_j) q_ts(k, x_t).
    Tweedie,
    /// One step of Euler along the reverse rates:
    ///
    /// q(x_s = k) = \[k = x_t\] + (t - s) rate_t pi(x_t) s_k for k other than x_t, and what is left for x_t.
    Euler,
    /// Discrete flow matching's Euler solver: x_1 (our x_0) is drawn from p(x_0 | x_t), the position jumps with
    /// probability 1 - exp(-(t - s) sum_k u_k) to k with probability u_k / sum u; the last step writes x_1 itself. With
    /// kappa = alpha_bar, its derivative kappa' in the direction of the data, and c the coefficient,
    ///
    /// u_k = kappa' / (1 - kappa) \[k = x_1\] + c kappa' / (kappa (1 - kappa)) ((1 - kappa) pi(k) + kappa \[k = x_1\]).
    Flow {
        /// c, the weight of the part without divergence: noise that goes to and fro and leaves the marginals alone.
        divergence_free: f64,
    },
}

/// What the denoiser's numbers are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Output {
    /// Unnormalised log p(x_0). A mask is never among the clean tokens and a token that is written under the mask limit is
    /// its own clean token, whatever the model says (the SUBS parameterisation of MDLM).
    #[default]
    Clean,
    /// Unnormalised log p(x_0) taken at its word at every position, the mask being an id like the others: what discrete
    /// flow matching's solver does.
    Verbatim,
    /// log s_k with s_k = q_t(the text with k at the position) / q_t(the text): SEDD. The number at the present token is
    /// not read (its score is 1), and of the filter only the forbidden ids count.
    Score,
}
