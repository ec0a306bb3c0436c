//! What computes logits of windows.

use super::view::{Augment, View, turned};
use crate::engine::Segmenter;
use crate::error::{Error, ErrorKind, Result};
use crate::logits::Logits;

/// A network as a job needs it. [`Batched`] is the real one.
pub trait Network {
    /// Side of the input in pixels.
    fn input_size(&self) -> usize;

    /// Side of the part in its middle that needs no neighbour; at most the input's.
    fn tile_size(&self) -> usize;

    /// Channels of the logits, background included.
    fn classes(&self) -> usize;

    /// How many windows are best computed at once.
    fn batch(&self) -> usize {
        1
    }

    /// Calibrated logits of windows, each `[classes, n, n]` for some n that is the same for all.
    ///
    /// # Errors
    /// Whatever computing gives; it ends the job.
    fn logits(&mut self, windows: &[View<'_>]) -> Result<Vec<Logits>>;
}

/// A segmenter that computes several windows at once.
pub struct Batched<'a> {
    segmenter: &'a Segmenter,
    batch: usize,
}

impl<'a> Batched<'a> {
    /// Computes `batch` windows at once. Fewer are filled up, so that a window's numbers do not depend on how many there are.
    pub fn new(segmenter: &'a Segmenter, batch: usize) -> Self {
        Self { segmenter, batch: batch.max(1) }
    }
}

impl Network for Batched<'_> {
    fn input_size(&self) -> usize {
        self.segmenter.manifest().input_size
    }

    fn tile_size(&self) -> usize {
        self.segmenter.manifest().tile_size
    }

    fn classes(&self) -> usize {
        self.segmenter.manifest().architecture.mask_tokens
    }

    fn batch(&self) -> usize {
        self.batch
    }

    fn logits(&mut self, windows: &[View<'_>]) -> Result<Vec<Logits>> {
        let Some(last) = windows.last() else { return Ok(Vec::new()) };
        let again = windows.len().next_multiple_of(self.batch) - windows.len();
        let mut all: Vec<View<'_>> = windows.iter().map(View::same).collect();
        all.extend((0..again).map(|_| last.same()));
        let mut found = Vec::with_capacity(all.len());
        for batch in all.chunks(self.batch) {
            found.extend(pollster::block_on(self.segmenter.batch_logits(batch))?);
        }
        found.truncate(windows.len());
        Ok(found)
    }
}

/// The mean logits of some views of each window.
///
/// # Errors
/// The network's; [`ErrorKind::Device`] if it gives other logits than it says.
pub(super) fn mean_logits(network: &mut dyn Network, windows: &[View<'_>], augment: Augment) -> Result<Vec<Logits>> {
    let views: Vec<View<'_>> = windows.iter().flat_map(|w| (0..augment.views()).map(|turn| w.turn(turn))).collect();
    let found = network.logits(&views)?;
    let classes = network.classes();
    let side = found.first().map_or(1, |l| l.width);
    let fits = |l: &Logits| {
        l.classes == classes && (l.width, l.height) == (side, side) && l.values.len() == classes * side * side
    };
    if found.len() != views.len() || side == 0 || !found.iter().all(fits) {
        return Err(Error::new(ErrorKind::Device, "the network gives logits of another shape than it says"));
    }
    if augment == Augment::None {
        return Ok(found);
    }
    let mean = |views: &[Logits]| {
        let mut values = vec![0.0; classes * side * side];
        for (turn, view) in (0..).zip(views) {
            for (sums, plane) in values.chunks_exact_mut(side * side).zip(view.values.chunks_exact(side * side)) {
                for (i, value) in plane.iter().enumerate() {
                    let (x, y) = turned(turn, side, i % side, i / side);
                    sums[y * side + x] += value;
                }
            }
        }
        values.iter_mut().for_each(|v| *v /= views.len() as f32);
        Logits { classes, height: side, width: side, values }
    };
    Ok(found.chunks_exact(usize::from(augment.views())).map(mean).collect())
}
