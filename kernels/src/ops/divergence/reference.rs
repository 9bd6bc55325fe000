//! The divergence as `mod.rs` writes it; UDLM's and Duo's forms of the uniform bound; the gradient by the chain rule.

use super::TERMS;
use crate::op::Link;

/// softmax of one row, the forbidden column left out.
pub(crate) fn softmax(logits: &[f64], forbid: Option<usize>) -> Vec<f64> {
    let allowed = |j: usize| Some(j) != forbid;
    let top = (0..logits.len()).filter(|&j| allowed(j)).fold(f64::NEG_INFINITY, |m, j| m.max(logits[j]));
    let e = |j: usize| if allowed(j) { (logits[j] - top).exp() } else { 0.0 };
    let total: f64 = (0..logits.len()).map(e).sum();
    (0..logits.len()).map(|j| e(j) / total).collect()
}

/// V a p_j + 1 - a.
fn bar(a: f64, p: &[f64]) -> Vec<f64> {
    p.iter().map(|p_j| p.len() as f64 * a * p_j + 1.0 - a).collect()
}

fn onehot(v: usize, x_0: usize) -> Vec<f64> {
    (0..v).map(|j| if j == x_0 { 1.0 } else { 0.0 }).collect()
}

/// The rate of one token of a uniform chain over -alpha_bar', times V alpha_bar, as Schiff et al. (2024) sum it.
pub(crate) fn udlm(a: f64, p: &[f64], x_0: usize, z: usize) -> f64 {
    let v = p.len() as f64;
    let (bar, bar_hat) = (bar(a, &onehot(p.len(), x_0)), bar(a, p));
    let mut braces = v / bar[z] - v / bar_hat[z];
    for j in 0..p.len() {
        braces -= bar[j] / bar[z] * (bar_hat[z].ln() - bar_hat[j].ln() + bar[j].ln() - bar[z].ln());
    }
    -braces
}

/// The same in Duo's form: the vocabulary enters by the sum of log bar_hat alone.
pub(crate) fn duo(a: f64, p: &[f64], x_0: usize, z: usize) -> f64 {
    let v = p.len() as f64;
    let (bar, bar_hat) = (bar(a, &onehot(p.len(), x_0)), bar(a, p));
    let kappa = (1.0 - a) / (v * a + 1.0 - a);
    let (same, other) = if x_0 == z { (1.0, 0.0) } else { (0.0, 1.0) };
    let logs: f64 = bar_hat.iter().map(|x| x.ln()).sum();
    let braces = v * (1.0 / bar[z] - 1.0 / bar_hat[z])
        + (same * kappa + other) * (logs - v * bar_hat[z].ln())
        + other * v * a / (1.0 - a) * (bar_hat[x_0].ln() - bar_hat[z].ln())
        - ((v - 1.0) * kappa * same - other / kappa) * kappa.ln();
    -braces
}

/// The terms of the uniform bound for a hit and a miss.
pub(crate) fn uniform(v: usize, a: f64) -> [[f64; TERMS]; 2] {
    let (va, low) = (v as f64 * a, 1.0 - a);
    let (high, n) = (va + low, va / low);
    [
        [n, low / high, n, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, v as f64 * n / high, 0.0],
        [n, 1.0, n, high / low, va / high, low / high, 0.0, 0.0, 1.0, 0.0, v as f64 * n / low, 0.0],
    ]
}

/// One token: u of every column, its rho, and how u depends on p there and on N.
struct Token<'a> {
    terms: &'a [f64],
    forbid: Option<usize>,
    x_0: usize,
    z: usize,
    p: Vec<f64>,
}

impl Token<'_> {
    fn norm(&self) -> f64 {
        if self.forbid == Some(self.z) { 1.0 } else { 1.0 + self.terms[0] * self.p[self.z] }
    }

    /// (rho, start, slope) of column j, u_j = (start + slope p_j) / N; `None` where it has no term.
    fn column(&self, j: usize) -> Option<(f64, f64, f64)> {
        let [n, rho, a, rho_0, s_0, start_0, rho_z, h, start_z, ..] = *self.terms else { unreachable!() };
        let hit = self.x_0 == self.z;
        match j {
            _ if Some(j) == self.forbid => None,
            _ if j == self.z => (rho_z > 0.0).then_some((rho_z, start_z, n + h)),
            _ if j == self.x_0 => Some((rho_0, start_0, s_0)),
            _ if rho == 0.0 => None,
            _ => Some((rho, if hit { 1.0 + n } else { 1.0 }, a / rho)),
        }
    }

    /// Whether column j has the term a p_j / N.
    fn plain(&self, j: usize) -> bool {
        self.terms[1] == 0.0 && ![Some(self.z), Some(self.x_0), self.forbid.or(Some(self.z))].contains(&Some(j))
    }

    fn divergence(&self) -> f64 {
        let norm = self.norm();
        let gap = |u: f64| u - 1.0 - u.ln();
        let mut d = if self.terms[11] == 0.0 { 0.0 } else { -self.terms[11] * self.p[self.x_0].ln() };
        for j in 0..self.p.len() {
            if let Some((rho, start, slope)) = self.column(j) {
                d += rho * gap((start + slope * self.p[j]) / norm);
            }
            if self.plain(j) {
                d += self.terms[2] * self.p[j] / norm;
            }
        }
        if self.terms[9] > 0.0 && self.forbid != Some(self.z) {
            d += self.terms[9] * gap(norm / (self.terms[8] + (self.terms[0] + self.terms[7]) * self.p[self.z]));
        }
        d
    }

    /// dd/dp, N's share by `pull`.
    fn gradient(&self) -> Vec<f64> {
        let norm = self.norm();
        let mut g: Vec<f64> = (0..self.p.len())
            .map(|j| match self.column(j) {
                Some((rho, start, slope)) => rho * slope / norm * (1.0 - norm / (start + slope * self.p[j])),
                None if self.plain(j) => self.terms[2] / norm,
                None => 0.0,
            })
            .collect();
        if self.terms[11] > 0.0 {
            g[self.x_0] -= self.terms[11] / self.p[self.x_0];
        }
        if self.forbid != Some(self.z) {
            let lean = if self.z == self.x_0 { self.p[self.z] - 1.0 } else { self.p[self.z] };
            g[self.z] += self.terms[0] * self.terms[10] * lean / (norm * norm);
            if self.terms[9] > 0.0 {
                let at = self.terms[8] + (self.terms[0] + self.terms[7]) * self.p[self.z];
                let u = at / norm;
                g[self.z] += self.terms[9] * (u - 1.0) / (u * u) * (self.terms[0] + self.terms[7]) / norm;
            }
        }
        g
    }
}

/// What the op reads, in f64.
pub(crate) struct Reads<'a> {
    pub(crate) link: Link,
    pub(crate) forbid: Option<u32>,
    pub(crate) logits: &'a [f64],
    pub(crate) x_0: &'a [u32],
    pub(crate) x_t: &'a [u32],
    /// [b, g, 3, 12] for `rows` texts.
    pub(crate) terms: &'a [f64],
    pub(crate) rows: usize,
    pub(crate) w: &'a [f64],
}

impl Reads<'_> {
    fn vocab(&self) -> usize {
        self.logits.len() / self.x_0.len()
    }

    fn token(&self, n: usize) -> Token<'_> {
        let (v, len) = (self.vocab(), self.x_0.len() / self.rows);
        let groups = self.terms.len() / (3 * TERMS * self.rows);
        let group = n / len * groups + (n % len) / (len / groups);
        let class = match self.x_t[n] {
            z if Some(z) == self.forbid => 0,
            z if z == self.x_0[n] => 1,
            _ => 2,
        };
        let (row, forbid) = (&self.logits[n * v..][..v], self.forbid.map(|f| f as usize));
        let p = match self.link {
            Link::Softmax => softmax(row, forbid),
            Link::Exp => row.iter().map(|x| x.exp()).collect(),
        };
        let terms = &self.terms[(3 * group + class) * TERMS..][..TERMS];
        Token { terms, forbid, x_0: self.x_0[n] as usize, z: self.x_t[n] as usize, p }
    }

    /// Under `Exp` the starts are 0 and N is 1.
    fn rates(&self, token: &Token) -> Vec<(f64, f64)> {
        (0..self.vocab())
            .map(|j| match j {
                _ if Some(j) == token.forbid || j == token.z => (0.0, 0.0),
                _ if j == token.x_0 => (token.terms[3], token.terms[3] * token.terms[4] * token.p[j]),
                _ => (token.terms[1], token.terms[2] * token.p[j]),
            })
            .collect()
    }

    /// (loss, d).
    pub(crate) fn forward(&self) -> (f64, Vec<f64>) {
        let one = |n: usize| {
            let token = self.token(n);
            match self.link {
                _ if self.w[n] == 0.0 => 0.0,
                Link::Softmax => token.divergence(),
                Link::Exp => {
                    let term = |(rho, m): (f64, f64)| if rho > 0.0 { m - rho - rho * (m / rho).ln() } else { m };
                    self.rates(&token).into_iter().map(term).sum()
                }
            }
        };
        let d: Vec<f64> = (0..self.x_0.len()).map(one).collect();
        (d.iter().zip(self.w).map(|(d, w)| d * w).sum(), d)
    }

    /// dlogits.
    pub(crate) fn backward(&self, dloss: f64) -> Vec<f64> {
        let mut dlogits = Vec::with_capacity(self.logits.len());
        for n in 0..self.x_0.len() {
            let (token, scale) = (self.token(n), dloss * self.w[n]);
            match self.link {
                Link::Softmax => {
                    let g = token.gradient();
                    let mean: f64 = g.iter().zip(&token.p).map(|(g, p)| p * g).sum();
                    dlogits.extend(g.iter().zip(&token.p).map(|(g, p)| scale * p * (g - mean)));
                }
                Link::Exp => dlogits.extend(self.rates(&token).into_iter().map(|(rho, m)| scale * (m - rho))),
            }
        }
        dlogits
    }
}
