//! The job: all blocks of a share, one after the other.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use super::compute::{Computer, Fault, Found};
use super::grid::{Block, Grid};
use super::kept::Kept;
use super::network::Network;
use super::plan::Plan;
use super::report::{Estimate, Missing, Progress, Report, Times, timed};
use super::shard::Shard;
use super::store::{State, Store};
use super::view::Augment;
use crate::error::{Error, ErrorKind, Result};
use crate::source::{Raster, Window};

/// How a job runs; none of it changes a pixel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Which blocks.
    pub shard: Shard,
    /// How often blocks that could not be read are tried again, at the end.
    pub retries: u32,
    /// Bytes of logits that are kept for the next row of blocks.
    pub kept_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        // Two rows of windows over 200,000 pixels: 2 * 780 windows of two classes at an input of 448 px are 157 MB.
        Self { shard: Shard::default(), retries: 2, kept_bytes: 256 << 20 }
    }
}

/// The outline of an area.
pub struct Clip<'a> {
    /// What it is known by: another outline must have another name. A hash of it will do.
    pub name: String,
    /// For a window of the raster, which of its pixels lie inside, row by row; none if all do.
    #[allow(clippy::type_complexity)] // a closure and its result
    pub inside: Box<dyn Fn(Window) -> Result<Vec<bool>> + 'a>,
}

/// A plan, its folder, and what is to be done.
pub struct Job<'a> {
    plan: Plan,
    grid: Grid,
    augment: Augment,
    store: Store,
    clip: Option<Clip<'a>>,
    options: Options,
    /// The blocks of this share that are not finished.
    left: Vec<(Block, Window)>,
    report: Report,
}

impl<'a> Job<'a> {
    /// A job in a folder: a new one, or one that is gone on with. Blocks that are there are verified; damaged ones are computed again.
    ///
    /// # Errors
    /// As [`Store::open`]; [`ErrorKind::Invalid`] for a plan that has an outline already; the outline's own.
    pub fn open(
        folder: &Path,
        mut plan: Plan,
        augment: Augment,
        clip: Option<Clip<'a>>,
        options: Options,
    ) -> Result<Self> {
        plan.augment = augment.name().into();
        if let Some(clip) = &clip {
            if plan.area.clip.is_some() {
                return Err(Error::new(ErrorKind::Invalid, "a plan has one outline"));
            }
            plan.area.blocks = Some(runs(&plan.blocks()?, clip)?);
            plan.area.clip = Some(clip.name.clone());
        }
        let (grid, store) = (plan.grid()?, Store::open(folder, &plan)?);
        let all = plan.blocks()?;
        let share = all.get(options.shard.of(all.len())).unwrap_or_default();
        let mut report = Report { blocks: share.len(), ..Report::default() };
        let mut left = Vec::new();
        for &(block, part) in share {
            match store.state(block, part) {
                State::Whole => report.found += 1,
                State::Missing => left.push((block, part)),
                State::Damaged(error) => {
                    report.damaged.push(error.to_string());
                    left.push((block, part));
                }
            }
        }
        Ok(Self { plan, grid, augment, store, clip, options, left, report })
    }

    /// The plan, with its outline.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The folder.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The job is over: its plan and folder.
    pub fn close(self) -> (Plan, Store) {
        (self.plan, self.store)
    }

    /// What there is to do, as far as it is known before: blocks that were found and blocks of other shares are not counted.
    pub fn estimate(&self, raster: &dyn Raster) -> Estimate {
        self.costs(&self.left, raster).into_iter().fold(Estimate::default(), Estimate::plus)
    }

    /// What each of some blocks takes: windows that it shares with one before are counted there.
    fn costs(&self, blocks: &[(Block, Window)], raster: &dyn Raster) -> Vec<Estimate> {
        let pixel_bytes = (raster.bands() * raster.depth().bytes()) as u64;
        let window_bytes = (self.grid.input() * self.grid.input()) as u64 * pixel_bytes;
        let cells = |axis: usize, from: usize, length: usize| {
            let range = self.grid.cells_touching(axis, from, from + length);
            (*range.start(), *range.end())
        };
        let mut before: Option<(Block, i64)> = None;
        let mut above: BTreeMap<i64, i64> = BTreeMap::new();
        let cost = |(block, part): &(Block, Window)| {
            let ((first, last), (top, bottom)) = (cells(0, part.x, part.width), cells(1, part.y, part.height));
            let shared = before.filter(|(b, _)| (b.row, b.column + 1) == (block.row, block.column));
            let first = shared.map_or(first, |(_, end)| first.max(end + 1));
            let top = above.get(&block.column).map_or(top, |end| top.max(end + 1));
            let windows = ((last - first + 1).max(0) * (bottom - top + 1).max(0)) as u64;
            before = Some((*block, last));
            above.insert(block.column, bottom);
            let (pixels, bytes) = (part.pixels() as u64, windows * window_bytes);
            Estimate { blocks: 1, windows, pixels, bytes, milliseconds: None }
        };
        blocks.iter().map(cost).collect()
    }

    /// Computes what is left. `progress` is called after each batch of windows and each block; it may wait, and its error ends the job,
    /// of which all finished blocks stay. Blocks that cannot be read are tried again at the end.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for another raster or network than the plan's; those of the network, of keeping blocks, and of `progress`.
    /// What cannot be read is no error: [`Report::missing`] names it.
    pub fn run(
        &mut self,
        network: &mut dyn Network,
        raster: &mut dyn Raster,
        progress: &mut dyn FnMut(&Progress) -> Result<()>,
    ) -> Result<Report> {
        self.check(network, raster)?;
        let watch = Instant::now();
        let grid = self.grid.clone();
        let (times, kept) = (Times::default(), Kept::default());
        let mut computer = Computer { grid: &grid, network, raster, augment: self.augment, kept, times, windows: 0 };
        let mut reasons = Vec::new();
        for _ in 0..=self.options.retries {
            reasons = self.pass(&mut computer, progress)?;
            if reasons.is_empty() {
                break;
            }
        }
        let missing = self.left.iter().zip(reasons);
        self.report.missing = missing.map(|(&(block, part), reason)| Missing::new(block, part, reason)).collect();
        self.report.windows += computer.windows;
        self.report.times = Times { total: watch.elapsed().as_secs_f64() * 1e3, ..computer.times };
        Ok(self.report.clone())
    }

    /// Tries all blocks that are left once. Those that cannot be read stay; gives why, for each.
    fn pass(
        &mut self,
        computer: &mut Computer<'_>,
        progress: &mut dyn FnMut(&Progress) -> Result<()>,
    ) -> Result<Vec<String>> {
        let todo = std::mem::take(&mut self.left);
        let costs = self.costs(&todo, computer.raster);
        let mut left = costs.iter().copied().fold(Estimate::default(), Estimate::plus);
        let mut reasons = Vec::new();
        computer.kept.clear();
        for (at, (&(block, part), cost)) in todo.iter().zip(costs).enumerate() {
            let blocks_done = self.report.found + self.report.computed;
            let state = Progress { blocks: self.report.blocks, blocks_done, left, windows: computer.windows };
            let begun = computer.windows;
            let mut pause = |times: &Times, windows: u64| progress(&state.after(times, windows, windows - begun));
            let outline = self.clip.as_ref().map(|clip| inside(clip, part)).transpose();
            let done = match outline
                .map_err(Fault::End)
                .and_then(|outline| computer.block(part, outline.as_deref().unwrap_or_default(), &mut pause))
            {
                Ok(found) => self.keep(block, part, &found, &mut computer.times),
                Err(Fault::End(error)) => Err(error),
                Err(Fault::Read(error)) => {
                    self.left.push((block, part));
                    reasons.push(error.to_string());
                    Ok(())
                }
            };
            if let Err(error) = done {
                self.left.extend(&todo[at..]);
                return Err(error);
            }
            self.forget(part, computer);
            left = left.minus(cost);
            let blocks_done = self.report.found + self.report.computed;
            let state = Progress { blocks_done, left, ..state };
            if let Err(error) = progress(&state.after(&computer.times, computer.windows, 0)) {
                self.left.extend(&todo[at + 1..]);
                return Err(error);
            }
        }
        Ok(reasons)
    }

    /// Lets go of the logits that no block after this one needs.
    fn forget(&self, part: Window, computer: &mut Computer<'_>) {
        let first = |axis: usize, at: usize| *self.grid.cells_touching(axis, at, at + 1).start();
        let (top, below) = (first(1, part.y), first(1, part.y + part.height));
        let right = first(0, part.x + part.width);
        let wanted = |(row, column): (i64, i64)| row >= below || row >= top && column >= right;
        computer.kept.retain(self.options.kept_bytes, wanted);
    }

    fn keep(&mut self, block: Block, part: Window, found: &Found, times: &mut Times) -> Result<()> {
        timed(&mut times.store, || self.store.put(block, part, &found.classes, &found.confidence))?;
        self.report.computed += 1;
        self.report.blank += usize::from(found.is_blank());
        Ok(())
    }

    fn check(&self, network: &dyn Network, raster: &dyn Raster) -> Result<()> {
        let plan = &self.plan;
        if raster.size() != (plan.raster.width, plan.raster.height) {
            return Err(Error::new(ErrorKind::Invalid, "the raster is not the plan's"));
        }
        let network = (network.input_size(), network.tile_size(), network.classes());
        if network != (plan.grid.input, plan.grid.tile, plan.model.classes.len()) {
            return Err(Error::new(ErrorKind::Invalid, "the network is not the plan's"));
        }
        Ok(())
    }
}

fn inside(clip: &Clip<'_>, part: Window) -> Result<Vec<bool>> {
    let inside = (clip.inside)(part)?;
    if inside.is_empty() || inside.len() == part.pixels() {
        return Ok(inside);
    }
    Err(Error::new(ErrorKind::Invalid, format!("an outline of {} pixels for {}", inside.len(), part.pixels())))
}

/// The blocks that have any of an outline, as runs of columns.
fn runs(all: &[(Block, Window)], clip: &Clip<'_>) -> Result<Vec<[i64; 3]>> {
    let mut runs: Vec<[i64; 3]> = Vec::new();
    for &(Block { row, column }, part) in all {
        let inside = inside(clip, part)?;
        if !inside.is_empty() && !inside.contains(&true) {
            continue;
        }
        match runs.last_mut().filter(|r| r[0] == row && r[2] + 1 == column) {
            Some(run) => run[2] = column,
            None => runs.push([row, column, column]),
        }
    }
    Ok(runs)
}
