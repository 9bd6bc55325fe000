//! The numbers of a token, and the columns of its row that have a part of their own.

/// Numbers of one class at one level.
pub const TERMS: usize = 12;

/// The numbers of a token's class and level; `mod.rs` says what they are.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    pub(super) n: f64,
    pub(super) rho: f64,
    pub(super) a: f64,
    pub(super) rho_0: f64,
    pub(super) s_0: f64,
    pub(super) start_0: f64,
    pub(super) rho_z: f64,
    pub(super) h: f64,
    pub(super) start_z: f64,
    pub(super) back: f64,
    pub(super) pull: f64,
    pub(super) ce: f64,
}

impl Terms {
    pub(super) fn read(at: &[f32; TERMS]) -> Self {
        let [n, rho, a, rho_0, s_0, start_0, rho_z, h, start_z, back, pull, ce] = at.map(f64::from);
        Self { n, rho, a, rho_0, s_0, start_0, rho_z, h, start_z, back, pull, ce }
    }

    /// rho s = a, where rho is not 0.
    pub(super) fn s(self) -> f64 {
        self.a / self.rho
    }
}

/// What has become of a token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Mask,
    Hit,
    Miss,
}

/// A token whose row has columns for all it needs.
#[derive(Clone, Copy)]
pub(super) struct Token {
    pub(super) class: Class,
    pub(super) x_0: usize,
    pub(super) z: usize,
    /// The forbidden column; that of z if none is.
    pub(super) forbid: usize,
    pub(super) terms: Terms,
}

impl Token {
    /// The columns but x_0, z and the forbidden one.
    #[inline(always)]
    pub(super) fn others(self, row: &[f32]) -> [&[f32]; 4] {
        let (a, b) = (self.x_0.min(self.z), self.x_0.max(self.z));
        let (low, c) = (a.min(self.forbid), a.max(self.forbid));
        let (middle, high) = (c.min(b), c.max(b));
        let part = |from: usize, to: usize| if from < to { &row[from..to] } else { &[] };
        [&row[..low], part(low + 1, middle), part(middle + 1, high), &row[high + 1..]]
    }

    /// What a softmax must know beside the parts of the row: the largest logit that is not forbidden.
    #[inline(always)]
    pub(super) fn top(self, row: &[f32]) -> f32 {
        let others = self.others(row).map(crate::math::max);
        let own = if self.class == Class::Miss { row[self.x_0].max(row[self.z]) } else { row[self.x_0] };
        others.into_iter().fold(own, f32::max)
    }
}

/// G(u) = u - 1 - log u for u = 1 + e, both given because each keeps the digits that the other loses.
#[inline(always)]
pub(super) fn gap(u: f64, e: f64) -> f64 {
    if e.abs() < 1e-4 {
        e * e * (0.5 - e * (1.0 / 3.0 - 0.25 * e))
    } else if e.abs() < 0.5 {
        e - e.ln_1p()
    } else {
        e - u.ln()
    }
}
