//! One seed for a run, and one generator for each of its parts.

use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

/// The generator of the part of this name, so that a new draw in one part moves no other part.
pub(crate) fn generator(seed: u64, part: &str, number: u64) -> ChaCha8Rng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    bytes[16..24].copy_from_slice(&fnv1a(part.as_bytes()).to_le_bytes());
    ChaCha8Rng::from_seed(bytes)
}

/// FNV-1a, 64 bits: names things, protects nothing.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn parts_draw_apart_and_repeat() {
        let draw = |seed, part, number| generator(seed, part, number).next_u64();
        assert_eq!(draw(7, "arrivals", 0), draw(7, "arrivals", 0));
        assert_ne!(draw(7, "arrivals", 0), draw(8, "arrivals", 0));
        assert_ne!(draw(7, "arrivals", 0), draw(7, "sessions", 0));
        assert_ne!(draw(7, "arrivals", 0), draw(7, "arrivals", 1));
    }
}
