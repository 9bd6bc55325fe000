//! What a position attends to, and where it stands: the same choice for every body.

use galatea_autograd::{AttentionMask, Init, Recorder, Rows, Var};

/// Which positions a position attends to.
pub(crate) enum Attend<'a> {
    /// Every one that is visible, where that is given.
    All(Option<Var>),
    /// Those before it and itself.
    Earlier,
    /// Its block of `block` positions and the earlier ones, as they stand, where visible.
    Blocks { block: u32, visible: Option<Var> },
    /// A canvas that stands twice, [x_t ; x_0], in blocks of `block` positions: the earlier clean blocks, and its own block of
    /// its own half, where visible.
    Twice { block: u32, visible: Option<Var> },
    /// Those that `mask` lets it see, when only the new positions are computed, from `position` on: `past` others lie in the
    /// caches, (keys, values) of every layer, which have room for `capacity`.
    Cached { past: Var, position: Var, capacity: usize, mask: AttentionMask, caches: &'a [(Var, Var)] },
}

/// Heads of the queries, and of the keys and values.
pub(crate) type Heads = (u32, u32);

impl Attend<'_> {
    /// x [b, l, d] + the row of the table called `name` for each position.
    pub(crate) fn place(&self, rec: &mut Recorder, x: Var, name: &str) -> Var {
        let (len, d) = (rec.shape(x).dim(1), rec.shape(x).cols());
        let mut table = |len: usize| rec.table(name, &[len, d], Init::Normal { std: 0.02 });
        match self {
            Attend::All(_) | Attend::Earlier | Attend::Blocks { .. } => {
                let table = table(len);
                rec.add_rows(x, table, Rows::Positions)
            }
            Attend::Twice { .. } => {
                let table = table(len / 2);
                rec.add_rows(x, table, Rows::Positions)
            }
            Attend::Cached { position, capacity, .. } => {
                let table = table(*capacity);
                rec.add_later_rows(x, table, *position)
            }
        }
    }

    /// Rotates q and k of qkv [b, l, (heads + 2 kv_heads) d_head] by position.
    pub(crate) fn rotate(&self, rec: &mut Recorder, qkv: Var, (heads, kv_heads): Heads, theta: f64) -> Var {
        match self {
            Attend::All(_) | Attend::Earlier | Attend::Blocks { .. } => {
                rec.grouped_rotary(qkv, heads, kv_heads, theta, None)
            }
            Attend::Twice { .. } => rec.rotary_twice(qkv, heads, kv_heads, theta),
            Attend::Cached { position, capacity, .. } => {
                rec.grouped_rotary(qkv, heads, kv_heads, theta, Some((*position, *capacity)))
            }
        }
    }

    /// The attention of layer number `layer`, [b, l, heads d_head], with a share `dropout` of its weights zero where a text is
    /// computed as a whole.
    pub(crate) fn mix(&self, rec: &mut Recorder, qkv: Var, heads: Heads, layer: usize, dropout: f32) -> Var {
        match self {
            Attend::All(visible) => rec.attention_dropout(qkv, heads, AttentionMask::Full, *visible, dropout),
            Attend::Earlier => rec.attention_dropout(qkv, heads, AttentionMask::Causal, None, dropout),
            Attend::Blocks { block, visible } => {
                rec.attention_dropout(qkv, heads, AttentionMask::BlockCausal(*block), *visible, dropout)
            }
            Attend::Twice { block, visible } => {
                rec.attention_dropout(qkv, heads, AttentionMask::BlockDiffusion(*block), *visible, dropout)
            }
            Attend::Cached { past, mask, caches, .. } => {
                rec.attention_cached(qkv, heads.0, heads.1, *mask, *past, caches[layer])
            }
        }
    }
}

/// Keys and values of every layer, [batch, capacity, width] each: the inputs `cache.{layer}.k` and `.v`.
pub(crate) fn caches(rec: &mut Recorder, layers: usize, [batch, capacity, width]: [usize; 3]) -> Vec<(Var, Var)> {
    let dtype = rec.precision();
    let mut cache =
        |layer: usize, part: &str| rec.input(&format!("cache.{layer}.{part}"), &[batch, capacity, width], dtype);
    (0..layers).map(|layer| (cache(layer, "k"), cache(layer, "v"))).collect()
}
