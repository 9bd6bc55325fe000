//! Schedules by name, for configuration files and command lines.

use crate::{
    Cosine, Error, EvenWeight, Geometric, Hybrid, Linear, LinearBeta, LinearLogSnr, LinearSigma, LogLinear, Logarithm,
    Polynomial, Power, Schedule, Sine, Sqrt, Squeeze, Until,
};
use std::fmt;
use std::str::FromStr;

/// Any of the closed-form schedules, read from and written as text.
///
/// A schedule is a name (`cosine`), or a name and its numbers (`log-linear(0.001)`, `geometric(0.0001, 20)`,
/// `squeeze(0.001, 1, sine)`); a name alone takes the published defaults. `Display` writes the full form, and reading
/// that gives the same schedule back.
///
/// ```
/// use galatea_schedules::{AnySchedule, Schedule};
/// let schedule: AnySchedule = "log-linear".parse()?;
/// assert_eq!(schedule.to_string(), "log-linear(0.001)");
/// assert!("quadratic".parse::<AnySchedule>().unwrap_err().to_string().contains("cosine-md4"));
/// # Ok::<(), galatea_schedules::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum AnySchedule {
    /// `linear`: 1 - t.
    Linear(Linear),
    /// `log-linear(eps)`.
    LogLinear(LogLinear),
    /// `cosine(s, power)`.
    Cosine(Cosine),
    /// `sine`: 1 - sin(pi/2 t).
    Sine(Sine),
    /// `sqrt(s)`.
    Sqrt(Sqrt),
    /// `polynomial(power)`: 1 - t^power.
    Polynomial(Polynomial),
    /// `power(power)`: (1 - t)^power.
    Power(Power),
    /// `logarithm`: 1 - log2(1 + t).
    Logarithm(Logarithm),
    /// `linear-beta(beta_min, beta_max)`.
    LinearBeta(LinearBeta),
    /// `linear-sigma(sigma_min, sigma_max)`.
    LinearSigma(LinearSigma),
    /// `geometric(sigma_min, sigma_max)`.
    Geometric(Geometric),
    /// `log-snr(max, min)`.
    LinearLogSnr(LinearLogSnr),
    /// `even-weight(p_min, p_max)`.
    EvenWeight(EvenWeight),
    /// `hybrid(p_uniform, gamma)`.
    Hybrid(Hybrid),
    /// `squeeze(low, high, schedule)`, and the names `linear-md4`, `cosine-md4`, `cosine-mdlm`,
    /// `cosine-squared-mdlm` of squeezed schedules in the literature.
    Squeeze(Box<Squeeze<AnySchedule>>),
    /// `until(end, schedule)`, and `cosine-duo`.
    Until(Box<Until<AnySchedule>>),
}

/// Every name that [`AnySchedule`] reads.
pub const NAMES: &[&str] = &[
    "linear",
    "log-linear",
    "cosine",
    "sine",
    "sqrt",
    "polynomial",
    "power",
    "logarithm",
    "linear-beta",
    "linear-sigma",
    "geometric",
    "log-snr",
    "even-weight",
    "hybrid",
    "squeeze",
    "until",
    "linear-md4",
    "cosine-md4",
    "cosine-mdlm",
    "cosine-squared-mdlm",
    "cosine-duo",
];

impl AnySchedule {
    fn as_dyn(&self) -> &dyn Schedule {
        match self {
            Self::Linear(s) => s,
            Self::LogLinear(s) => s,
            Self::Cosine(s) => s,
            Self::Sine(s) => s,
            Self::Sqrt(s) => s,
            Self::Polynomial(s) => s,
            Self::Power(s) => s,
            Self::Logarithm(s) => s,
            Self::LinearBeta(s) => s,
            Self::LinearSigma(s) => s,
            Self::Geometric(s) => s,
            Self::LinearLogSnr(s) => s,
            Self::EvenWeight(s) => s,
            Self::Hybrid(s) => s,
            Self::Squeeze(s) => &**s,
            Self::Until(s) => &**s,
        }
    }

    fn squeezed(inner: Self, low: f64, high: f64) -> Result<Self, Error> {
        Ok(Self::Squeeze(Box::new(Squeeze::new(inner, low, high)?)))
    }
}

impl Default for AnySchedule {
    /// `log-linear(0.001)`.
    fn default() -> Self {
        Self::LogLinear(LogLinear::default())
    }
}

impl Schedule for AnySchedule {
    fn alpha_bar(&self, t: f64) -> f64 {
        self.as_dyn().alpha_bar(t)
    }
    fn rate(&self, t: f64) -> f64 {
        self.as_dyn().rate(t)
    }
    fn noise(&self, t: f64) -> f64 {
        self.as_dyn().noise(t)
    }
    fn log_snr(&self, t: f64) -> f64 {
        self.as_dyn().log_snr(t)
    }
    fn alpha_bar_derivative(&self, t: f64) -> f64 {
        self.as_dyn().alpha_bar_derivative(t)
    }
    fn time_of(&self, alpha_bar: f64) -> f64 {
        self.as_dyn().time_of(alpha_bar)
    }
}

/// The numbers in a schedule's parentheses, or their defaults.
struct Arguments<'a> {
    text: &'a str,
    numbers: Vec<&'a str>,
}

impl Arguments<'_> {
    /// As many numbers as there are defaults; no numbers at all means the defaults.
    fn or<const N: usize>(&self, defaults: [f64; N]) -> Result<[f64; N], Error> {
        if self.numbers.is_empty() {
            return Ok(defaults);
        }
        self.exactly()
    }

    fn exactly<const N: usize>(&self) -> Result<[f64; N], Error> {
        let bad = |reason| Error::Syntax { found: self.text.to_owned(), reason };
        if self.numbers.len() != N {
            return Err(bad("it has another number of arguments"));
        }
        let mut values = [0.0; N];
        for (value, text) in values.iter_mut().zip(&self.numbers) {
            *value = text.parse().map_err(|_| bad("an argument is not a number"))?;
        }
        Ok(values)
    }
}

impl FromStr for AnySchedule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |reason| Error::Syntax { found: text.to_owned(), reason };
        let trimmed = text.trim();
        let (name, inside) = match trimmed.split_once('(') {
            None => (trimmed, None),
            Some((name, rest)) => {
                (name.trim(), Some(rest.strip_suffix(')').ok_or_else(|| bad("its parenthesis is not closed"))?))
            }
        };
        if name == "squeeze" {
            let mut parts = inside.unwrap_or("").splitn(3, ',');
            let mut next = || parts.next().ok_or_else(|| bad("squeeze takes a low end, a high end and a schedule"));
            let (low, high, inner) = (next()?, next()?, next()?);
            let number = |part: &str| part.trim().parse().map_err(|_| bad("an end is not a number"));
            return Self::squeezed(inner.parse()?, number(low)?, number(high)?);
        }
        if name == "until" {
            let (end, inner) = inside
                .and_then(|inside| inside.split_once(','))
                .ok_or_else(|| bad("until takes an end and a schedule"))?;
            let end = end.trim().parse().map_err(|_| bad("the end is not a number"))?;
            return Ok(Self::Until(Box::new(Until::new(inner.parse()?, end)?)));
        }
        let numbers = inside.map_or_else(Vec::new, |inside| inside.split(',').map(str::trim).collect());
        let given = Arguments { text, numbers };
        let cosine = |power| Cosine::new(0.0, power).map(Self::Cosine);
        let none = |schedule| given.or([]).map(|[]| schedule);
        match name {
            "linear" => none(Self::Linear(Linear)),
            "log-linear" => given.or([1e-3]).and_then(|[eps]| LogLinear::new(eps).map(Self::LogLinear)),
            "cosine" => given.or([0.008, 2.0]).and_then(|[s, power]| Cosine::new(s, power).map(Self::Cosine)),
            "sine" => none(Self::Sine(Sine)),
            "sqrt" => given.or([1e-4]).and_then(|[s]| Sqrt::new(s).map(Self::Sqrt)),
            "polynomial" => given.exactly().and_then(|[power]| Polynomial::new(power).map(Self::Polynomial)),
            "power" => given.exactly().and_then(|[power]| Power::new(power).map(Self::Power)),
            "logarithm" => none(Self::Logarithm(Logarithm)),
            "linear-beta" => given.or([0.1, 20.0]).and_then(|[a, b]| LinearBeta::new(a, b).map(Self::LinearBeta)),
            "linear-sigma" => given.or([0.0, 10.0]).and_then(|[a, b]| LinearSigma::new(a, b).map(Self::LinearSigma)),
            "geometric" => given.or([1e-4, 20.0]).and_then(|[a, b]| Geometric::new(a, b).map(Self::Geometric)),
            "log-snr" => given.or([13.3, -5.0]).and_then(|[a, b]| LinearLogSnr::new(a, b).map(Self::LinearLogSnr)),
            "even-weight" => {
                let EvenWeight { p_min, p_max } = EvenWeight::default();
                given.or([p_min, p_max]).and_then(|[a, b]| EvenWeight::new(a, b).map(Self::EvenWeight))
            }
            "hybrid" => given.or([0.1, 1.0]).and_then(|[p, gamma]| Hybrid::new(p, gamma).map(Self::Hybrid)),
            "linear-md4" => given.or([1e-4]).and_then(|[eps]| Self::squeezed(Self::Linear(Linear), eps, 1.0 - eps)),
            "cosine-md4" => given.or([1e-4]).and_then(|[eps]| Self::squeezed(Self::Sine(Sine), eps, 1.0 - eps)),
            "cosine-mdlm" => given.or([1e-3]).and_then(|[eps]| Self::squeezed(cosine(1.0)?, eps, 1.0)),
            "cosine-squared-mdlm" => given.or([1e-3]).and_then(|[eps]| Self::squeezed(cosine(2.0)?, eps, 1.0)),
            "cosine-duo" => {
                given.or([1e-3]).and_then(|[eps]| Ok(Self::Until(Box::new(Until::new(Self::Sine(Sine), 1.0 - eps)?))))
            }
            _ => Err(Error::UnknownName { found: name.to_owned(), names: NAMES }),
        }
    }
}

impl fmt::Display for AnySchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Linear(_) => f.write_str("linear"),
            Self::LogLinear(s) => write!(f, "log-linear({})", s.eps),
            Self::Cosine(s) => write!(f, "cosine({}, {})", s.s, s.power),
            Self::Sine(_) => f.write_str("sine"),
            Self::Sqrt(s) => write!(f, "sqrt({})", s.s),
            Self::Polynomial(s) => write!(f, "polynomial({})", s.power),
            Self::Power(s) => write!(f, "power({})", s.power),
            Self::Logarithm(_) => f.write_str("logarithm"),
            Self::LinearBeta(s) => write!(f, "linear-beta({}, {})", s.beta_min, s.beta_max),
            Self::LinearSigma(s) => write!(f, "linear-sigma({}, {})", s.sigma_min, s.sigma_max),
            Self::Geometric(s) => write!(f, "geometric({}, {})", s.sigma_min, s.sigma_max),
            Self::LinearLogSnr(s) => write!(f, "log-snr({}, {})", s.max, s.min),
            Self::EvenWeight(s) => write!(f, "even-weight({}, {})", s.p_min, s.p_max),
            Self::Hybrid(s) => write!(f, "hybrid({}, {})", s.p_uniform, s.gamma),
            Self::Until(s) => write!(f, "until({}, {})", s.end, s.inner),
            Self::Squeeze(s) => write!(f, "squeeze({}, {}, {})", s.low, s.high, s.inner),
        }
    }
}
