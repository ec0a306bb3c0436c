//! Decoded blocks that were used last, up to a budget of bytes.

use std::hash::Hash;

use lru::LruCache;

use super::block::PixelBlock;
use crate::error::Result;

/// Bytes of an image's decoded blocks that are kept: enough for a row of 512-pixel tiles of a picture 100 000 pixels wide.
pub(super) const BUDGET: usize = 256 << 20;

/// Decoded blocks by key; the one used longest ago goes first.
pub(super) struct Cache<K: Hash + Eq> {
    blocks: LruCache<K, PixelBlock>,
    budget: usize,
    bytes: usize,
    decoded: u64,
}

impl<K: Hash + Eq> Cache<K> {
    /// A cache of `budget` bytes and one block.
    pub(super) fn new(budget: usize) -> Self {
        Self { blocks: LruCache::unbounded(), budget, bytes: 0, decoded: 0 }
    }

    /// The block of `key`, decoded now if it is not there.
    pub(super) fn get(&mut self, key: K, decode: impl FnOnce() -> Result<PixelBlock>) -> Result<&PixelBlock> {
        while self.bytes > self.budget
            && let Some((_, gone)) = self.blocks.pop_lru()
        {
            self.bytes -= gone.bytes();
        }
        let (bytes, decoded) = (&mut self.bytes, &mut self.decoded);
        self.blocks.try_get_or_insert(key, || {
            let block = decode()?;
            *decoded += 1;
            *bytes += block.bytes();
            Ok(block)
        })
    }

    /// A block that is at hand.
    pub(super) fn find(&mut self, key: &K) -> Option<&PixelBlock> {
        self.blocks.get(key)
    }

    /// Whether a block is at hand.
    pub(super) fn holds(&self, key: &K) -> bool {
        self.blocks.contains(key)
    }

    /// How many blocks were decoded.
    pub(super) fn decoded(&self) -> u64 {
        self.decoded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::raster::Samples;

    #[test]
    fn the_block_used_longest_ago_goes_first() {
        let block =
            || Ok(PixelBlock { width: 10, height: 1, bands: 1, samples: Samples::U8(vec![0; 10]), valid: Vec::new() });
        let mut cache = Cache::new(25);
        for key in [1, 2, 1, 3, 1] {
            cache.get(key, block).expect("decoded");
        }
        assert_eq!(cache.decoded(), 3);
        // 30 bytes are more than 25: the second, used longest ago, goes; the first and third stay.
        cache.get(1, block).expect("decoded");
        cache.get(3, block).expect("decoded");
        assert_eq!((cache.decoded(), cache.bytes), (3, 20));
        cache.get(2, block).expect("decoded");
        assert_eq!((cache.decoded(), cache.bytes), (4, 30));
    }
}
