//! What is drawn: a generator of its own for each thing, so that a draw for one moves no other.

use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

/// The generator of the thing of this kind and number.
pub(crate) fn generator(seed: u64, kind: [u8; 8], number: u64) -> ChaCha8Rng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    bytes[16..24].copy_from_slice(&kind);
    ChaCha8Rng::from_seed(bytes)
}
