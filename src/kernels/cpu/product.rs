//! The product with a matrix, and all that follows it while its sums are near: bias, activation, residual.
//!
//! The right matrix is cut into panels of as many columns as a tile of sums has. A thread packs one panel, then passes rows
//! over it, some at a time; the left-hand side is read without a copy. Every sum is taken in the order of the inputs, [`DEPTH`] of
//! them at once, so that the number of threads changes nothing.

mod block;
mod compute;
mod level;
mod panels;
mod rhs;
mod tile;

pub use block::{CpuProduct, Plane, RowSource};
pub use level::{Level, VectorWork};
pub use panels::Panels;
pub use rhs::{Blocks, Rhs, panel_width, panels};
