//! Class masks of an area of any extent: a job that is done block by block, can be stopped at any moment and gone on with, and can be
//! shared out among processes.
//!
//! Windows lie on a grid of the *ground* ([`Grid`]) and not of the image's or the area's edge, so that the result at a place is
//! the same whatever area, block size or shard it was computed in. A [`Job`] computes the blocks of its [`Plan`] and keeps each in a
//! folder ([`Store`]); [`compose`] gives the finished rows of one or several such folders, to whatever takes rows.
//!
//! A module imports only what stands above it in this file.

mod grid;
mod view;
mod network;
mod blend;
mod place;
mod bounds;
mod shard;
mod fingerprint;
mod plan;
mod block;
mod store;
mod kept;
mod report;
mod compute;
mod job;
mod compose;

pub use blend::{Placed, blend};
pub use bounds::window_of;
pub use compose::{Composed, Holes, compose};
pub use fingerprint::fingerprint;
pub use grid::{Block, Grid};
pub use job::{Clip, Job, Options};
pub use network::{Batched, Network};
pub use place::Place;
pub use plan::{AreaPlan, GridPlan, ModelPlan, Plan, RasterPlan};
pub use report::{Estimate, Missing, Progress, Report, Times};
pub use shard::Shard;
pub use store::{State, Store};
pub use view::{Augment, View};
