#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod betas;
pub mod closed;
pub mod error;
pub mod even;
pub mod gaussian;
pub mod grid;
pub mod hybrid;
pub mod learned;
pub mod named;
pub mod spacing;
pub mod squeeze;
pub mod table;
pub mod warped;

pub use betas::Betas;
pub use closed::{Cosine, Linear, LogLinear, Logarithm, Polynomial, Power, Sine, Sqrt};
pub use error::Error;
pub use even::EvenWeight;
pub use gaussian::{Geometric, LinearBeta, LinearLogSnr, LinearSigma};
pub use hybrid::Hybrid;
pub use learned::{GammaWeights, LearnedGamma, Warp};
pub use named::AnySchedule;
pub use spacing::Spacing;
pub use squeeze::{Squeeze, Until};
pub use table::Table;
pub use warped::{WarpWeights, Warped};

/// How much of the signal is left at time `t`, from 0 (data) to 1 (noise).
///
/// `alpha_bar` is the cumulative quantity: in a Gaussian process the signal *power*, so that
/// x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise; in a categorical process the probability that a token has
/// never been replaced. It is never the per-step 1 - beta of a chain: that is [`Betas`].
///
/// Times outside \[0, 1\] are read as the nearest end. Every method is total: where alpha_bar is 0 the rate is
/// `+inf`, where alpha_bar is 1 the log-SNR is `+inf`.
pub trait Schedule {
    /// The signal left at `t`: 1 (or nearly) at t = 0, non-increasing, 0 (or nearly) at t = 1.
    fn alpha_bar(&self, t: f64) -> f64;

    /// The rate of forgetting, -d/dt log alpha_bar(t): `dsigma` of SEDD and MDLM, beta(t) of a VP-SDE.
    fn rate(&self, t: f64) -> f64;

    /// 1 - alpha_bar(t), where a schedule knows it without the subtraction: near t = 0 that loses all digits, and weights divide
    /// by it.
    fn noise(&self, t: f64) -> f64 {
        1.0 - self.alpha_bar(t)
    }

    /// The log signal-to-noise ratio, log(alpha_bar / (1 - alpha_bar)): -gamma of VDM and Plaid.
    fn log_snr(&self, t: f64) -> f64 {
        (self.alpha_bar(t) / self.noise(t)).ln()
    }

    /// d/dt alpha_bar(t), never positive.
    fn alpha_bar_derivative(&self, t: f64) -> f64 {
        let alpha_bar = self.alpha_bar(t);
        if alpha_bar > 0.0 { -self.rate(t) * alpha_bar } else { 0.0 }
    }

    /// The earliest time at which no more than `alpha_bar` of the signal is left (0 or 1 beyond the schedule's ends).
    fn time_of(&self, alpha_bar: f64) -> f64 {
        let (mut low, mut high) = (0.0, 1.0);
        if self.alpha_bar(low) <= alpha_bar {
            return low;
        }
        // Sixty halvings leave an interval of one unit in the last place of a number near 1.
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if self.alpha_bar(middle) <= alpha_bar {
                high = middle;
            } else {
                low = middle;
            }
        }
        high
    }
}

/// -alpha_bar' / alpha_bar, `+inf` where nothing is left.
pub(crate) fn rate_of(alpha_bar: f64, derivative: f64) -> f64 {
    if alpha_bar > 0.0 { -derivative / alpha_bar } else { f64::INFINITY }
}

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl<S: Schedule + ?Sized> Schedule for $pointer {
            fn alpha_bar(&self, t: f64) -> f64 {
                (**self).alpha_bar(t)
            }
            fn rate(&self, t: f64) -> f64 {
                (**self).rate(t)
            }
            fn noise(&self, t: f64) -> f64 {
                (**self).noise(t)
            }
            fn log_snr(&self, t: f64) -> f64 {
                (**self).log_snr(t)
            }
            fn alpha_bar_derivative(&self, t: f64) -> f64 {
                (**self).alpha_bar_derivative(t)
            }
            fn time_of(&self, alpha_bar: f64) -> f64 {
                (**self).time_of(alpha_bar)
            }
        }
    )*};
}
forward!(&S, Box<S>, std::sync::Arc<S>);

#[cfg(test)]
mod laws;
