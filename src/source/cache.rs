//! Decoded blocks that were used last, up to a budget of bytes.

use std::collections::HashMap;
use std::hash::Hash;

use super::open::Block;
use crate::error::Result;

/// Bytes of decoded blocks that are kept: enough for a row of 512-pixel tiles of a picture 100 000 pixels wide.
const BUDGET: usize = 256 << 20;

/// Decoded blocks by key; the one used longest ago goes first.
pub(super) struct Cache<K> {
    blocks: HashMap<K, (u64, Block)>,
    bytes: usize,
    clock: u64,
}

impl<K: Hash + Eq + Copy> Cache<K> {
    pub(super) fn new() -> Self {
        Self { blocks: HashMap::new(), bytes: 0, clock: 0 }
    }

    /// The block of `key`, decoded now if it is not there.
    pub(super) fn get(&mut self, key: K, decode: impl FnOnce() -> Result<Block>) -> Result<&Block> {
        self.clock += 1;
        if !self.blocks.contains_key(&key) {
            let block = decode()?;
            self.bytes += block.bytes();
            while self.bytes > BUDGET
                && let Some(oldest) = self.blocks.iter().min_by_key(|(_, (used, _))| *used).map(|(k, _)| *k)
            {
                if let Some((_, gone)) = self.blocks.remove(&oldest) {
                    self.bytes -= gone.bytes();
                }
            }
            self.blocks.insert(key, (self.clock, block));
        }
        let clock = self.clock;
        let entry = self.blocks.entry(key).or_insert_with(|| (clock, Block::blank(0, 0)));
        entry.0 = clock;
        Ok(&entry.1)
    }
}
