//! Which steps of a long chain a short one keeps.

use crate::Error;
use std::fmt;
use std::str::FromStr;

/// A rule that picks steps of a chain: `"ddim50"`, or counts per section such as `"10,15,20"`.
///
/// ```
/// use galatea_schedules::{Betas, Spacing};
/// let chain = Betas::sqrt(2000)?;
/// let short = chain.respace(&"ddim50".parse::<Spacing>()?.steps(chain.len())?)?;
/// assert_eq!((short.len(), short.timestep_map()[1]), (50, 40));
/// # Ok::<(), galatea_schedules::Error>(())
/// ```
///
/// # Source
/// Song, Meng, Ermon (2021), DDIM (constant stride); Nichol, Dhariwal (2021) (sections).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Spacing {
    /// Every k-th step from the first, for the smallest k that keeps exactly this many.
    Ddim(usize),
    /// The chain cut into as many equal sections as there are counts; each keeps its count, evenly, with both ends.
    Sections(Vec<usize>),
}

impl Spacing {
    /// The kept steps of a chain of `available`, rising.
    ///
    /// # Errors
    /// [`Error::Spacing`] if no constant stride keeps the wanted number, or a section is shorter than its count.
    pub fn steps(&self, available: usize) -> Result<Vec<usize>, Error> {
        match self {
            Self::Ddim(wanted) => (1..available)
                .find(|stride| available.div_ceil(*stride) == *wanted)
                .map(|stride| (0..available).step_by(stride).collect())
                .ok_or(Error::Spacing { wanted: *wanted, available, reason: "no constant stride keeps this many" }),
            Self::Sections(counts) => sections(counts, available),
        }
    }
}

fn sections(counts: &[usize], available: usize) -> Result<Vec<usize>, Error> {
    if counts.is_empty() {
        return Err(Error::Spacing { wanted: 0, available, reason: "no section is given" });
    }
    let (size, extra) = (available / counts.len(), available % counts.len());
    let (mut steps, mut start) = (Vec::new(), 0);
    for (i, &wanted) in counts.iter().enumerate() {
        let size = size + usize::from(i < extra);
        if size < wanted {
            return Err(Error::Spacing { wanted, available: size, reason: "the section is shorter than its count" });
        }
        let stride = if wanted <= 1 { 1.0 } else { (size - 1) as f64 / (wanted - 1) as f64 };
        // The stride is summed, not multiplied, and ties go to even: both decide the step at a half.
        let mut at = 0.0f64;
        for _ in 0..wanted {
            steps.push(start + at.round_ties_even() as usize);
            at += stride;
        }
        start += size;
    }
    Ok(steps)
}

impl FromStr for Spacing {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad =
            |_| Error::Syntax { found: text.to_owned(), reason: "a spacing is `ddim50` or counts as in `10,15,20`" };
        if let Some(count) = text.strip_prefix("ddim") {
            return Ok(Self::Ddim(count.parse().map_err(bad)?));
        }
        Ok(Self::Sections(text.split(',').map(|count| count.trim().parse().map_err(bad)).collect::<Result<_, _>>()?))
    }
}

impl fmt::Display for Spacing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ddim(count) => write!(f, "ddim{count}"),
            Self::Sections(counts) => {
                let counts: Vec<String> = counts.iter().map(usize::to_string).collect();
                f.write_str(&counts.join(","))
            }
        }
    }
}
