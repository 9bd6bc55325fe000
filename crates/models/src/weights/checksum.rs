//! A checksum of named tensors that threads can share: it finds a flipped bit, not an adversary.
//!
//! A tensor is hashed in chunks of [`CHUNK`] elements; the sum of all hashes, each mixed with its name and place, is that of the
//! file, in whatever order the chunks are met.

/// Elements of a chunk: 1 MiB of f32.
pub(super) const CHUNK: usize = 1 << 18;

const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

fn eat(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(PRIME)
}

/// Every bit of the input in every bit of the output, so that sums of hashes do not cancel.
fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^ (x >> 32)
}

/// Of a tensor's name and extents.
pub(super) fn head(name: &str, dims: &[usize]) -> u64 {
    let hash = name.bytes().fold(BASIS, |hash, b| eat(hash, u64::from(b)));
    mix(dims.iter().fold(eat(hash, 256), |hash, &d| eat(hash, d as u64)))
}

/// Of chunk number `index` of the tensor whose [`head`] is given: FNV-1a in eight lanes, which do not wait for each other.
pub(super) fn chunk(head: u64, index: usize, x: &[f32]) -> u64 {
    let mut lanes = [BASIS; 8];
    let mut groups = x.chunks_exact(16);
    for group in &mut groups {
        for (lane, pair) in lanes.iter_mut().zip(group.chunks_exact(2)) {
            *lane = eat(*lane, u64::from(pair[0].to_bits()) | u64::from(pair[1].to_bits()) << 32);
        }
    }
    let rest = groups.remainder().iter().fold(BASIS, |hash, x| eat(hash, u64::from(x.to_bits())));
    let all = lanes.iter().fold(eat(head, index as u64), |hash, &lane| mix(eat(hash, lane)));
    mix(eat(all, rest))
}

/// Of a whole tensor.
pub(super) fn tensor(name: &str, dims: &[usize], x: &[f32]) -> u64 {
    let head = head(name, dims);
    x.chunks(CHUNK).enumerate().fold(head, |sum, (index, x)| sum.wrapping_add(chunk(head, index, x)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_flipped_bit_shows(len in 1usize..80, at in any::<prop::sample::Index>(), bit in 0u32..32, seed in any::<u32>()) {
            let mut x: Vec<f32> = (0..len as u32).map(|i| f32::from_bits(seed.wrapping_mul(i + 1) & 0x7f7f_ffff)).collect();
            let before = tensor("a", &[len], &x);
            let at = at.index(len);
            x[at] = f32::from_bits(x[at].to_bits() ^ (1 << bit));
            prop_assert_ne!(tensor("a", &[len], &x), before);
        }

        #[test]
        fn exchanged_elements_show(len in 2usize..80, a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>()) {
            let mut x: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let before = tensor("a", &[len], &x);
            let (a, b) = (a.index(len), b.index(len));
            x.swap(a, b);
            prop_assert_eq!(tensor("a", &[len], &x) == before, a == b);
        }
    }

    #[test]
    fn names_and_extents_count() {
        let x = [1.0; 6];
        let sums = [tensor("a", &[6], &x), tensor("b", &[6], &x), tensor("a", &[2, 3], &x), tensor("a", &[3, 2], &x)];
        for (i, sum) in sums.iter().enumerate() {
            assert!(!sums[..i].contains(sum), "{sums:?}");
        }
    }
}
