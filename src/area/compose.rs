//! From finished blocks to the finished rows of the area.

use super::block::STRIPE;
use super::grid::Block;
use super::plan::Plan;
use super::store::Store;
use crate::engine::{Finish, SegmentOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::mask::{ClassStats, NO_DATA};
use crate::mosaic::Rows;
use crate::source::Window;

/// The most pixels of an area whose small regions are removed: that takes the whole mask, two bytes a pixel.
const MAX_WHOLE: u64 = 1 << 28;

/// What becomes of blocks that no folder has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holes {
    /// They are refused.
    Refused,
    /// They hold no data.
    NoData,
}

/// What is known of an area once all its rows are finished.
#[derive(Debug, Clone, PartialEq)]
pub struct Composed {
    /// Pixels, share and mean confidence of each class.
    pub classes: Vec<ClassStats>,
    /// Pixels that hold no data.
    pub without_data: u64,
}

/// Gives `sink` every row of a plan's area once, from the top down and finished (thresholds, small regions), from the blocks in `stores`;
/// where several have a block, the first counts. Memory is that of 128 rows, unless small regions are removed.
///
/// # Errors
/// [`ErrorKind::NotFound`] for holes, if they are refused; [`ErrorKind::Integrity`] for a damaged block, naming its file;
/// [`ErrorKind::Limit`] for an area that is too large to remove small regions; those of `sink` and of the options.
pub fn compose(
    plan: &Plan,
    stores: &[Store],
    options: &SegmentOptions,
    holes: Holes,
    mut sink: impl FnMut(&Rows) -> Result<()>,
) -> Result<Composed> {
    let area = plan.window();
    if options.min_pixels > 1 && area.width as u64 * area.height as u64 > MAX_WHOLE {
        let message = format!("small regions cannot be removed from {} x {} pixels", area.width, area.height);
        return Err(Error::new(ErrorKind::Limit, message).remedy("leave them, or take a smaller area"));
    }
    let blocks = plan.blocks()?;
    if holes == Holes::Refused {
        refuse_holes(&blocks, stores)?;
    }
    let mut finish = Finish::new(&plan.model.classes, options, (area.width, area.height))?;
    let mut rest = blocks.as_slice();
    let mut y = area.y;
    while y < area.y + area.height {
        // The blocks of a row end at the same line; where none is, the next one's beginning is where there is something again.
        let (row, bottom) = match rest.first() {
            Some((first, part)) if part.y <= y => {
                let count = rest.iter().take_while(|(block, _)| block.row == first.row).count();
                let (row, later) = rest.split_at(count);
                rest = later;
                (row, part.y + part.height)
            }
            Some((_, part)) => (&rest[..0], part.y),
            None => (&rest[..0], area.y + area.height),
        };
        let found = |&(block, part): &(Block, Window)| {
            stores.iter().find(|store| store.has(block)).map(|store| Found { store, block, part })
        };
        let found: Vec<Found<'_>> = row.iter().filter_map(found).collect();
        for (index, top) in (y..bottom).step_by(STRIPE).enumerate() {
            let rows = stripe(&found, index, Window { y: top, height: STRIPE.min(bottom - top), ..area }, area.y)?;
            if let Some(rows) = finish.rows(rows) {
                sink(&rows)?;
            }
        }
        y = bottom;
    }
    for rows in finish.held(STRIPE)? {
        sink(&rows)?;
    }
    let (classes, without_data) = finish.counts(&plan.model.classes);
    Ok(Composed { classes, without_data })
}

/// A block of a row, and the folder that has it.
struct Found<'a> {
    store: &'a Store,
    block: Block,
    part: Window,
}

/// The rows of `window` (of the raster), put together from the same stripe of each block.
fn stripe(found: &[Found<'_>], index: usize, window: Window, first: usize) -> Result<Rows> {
    let pixels = window.pixels();
    let mut rows = Rows {
        top: window.y - first,
        classes: vec![NO_DATA; pixels],
        confidence: vec![0; pixels],
        probabilities: Vec::new(),
    };
    for Found { store, block, part } in found {
        // Opened each time: a row of a large area has more blocks than a process may hold files open.
        let bytes = store.stripe(*block, *part, index)?;
        let (classes, confidence) = bytes.split_at(bytes.len() / 2);
        for (y, (classes, confidence)) in
            classes.chunks_exact(part.width).zip(confidence.chunks_exact(part.width)).enumerate()
        {
            let at = y * window.width + part.x - window.x;
            rows.classes[at..at + part.width].copy_from_slice(classes);
            rows.confidence[at..at + part.width].copy_from_slice(confidence);
        }
    }
    Ok(rows)
}

fn refuse_holes(blocks: &[(Block, Window)], stores: &[Store]) -> Result<()> {
    let holes: Vec<&Block> = blocks.iter().map(|(b, _)| b).filter(|b| !stores.iter().any(|s| s.has(**b))).collect();
    let Some(first) = holes.first() else { return Ok(()) };
    let at = blocks.iter().position(|(b, _)| b == *first).unwrap_or_default();
    let message = format!(
        "{} of {} blocks are in none of the folders; the first is number {} (row {}, column {})",
        holes.len(),
        blocks.len(),
        at + 1,
        first.row,
        first.column
    );
    Err(Error::new(ErrorKind::NotFound, message)
        .remedy("name the folders of all shares, and finish those that are not"))
}
