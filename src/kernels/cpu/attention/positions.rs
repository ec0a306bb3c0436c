//! Relative positions as attention reads them.

use std::borrow::Cow;

use burn_flex::FlexTensor;

#[cfg(feature = "train")]
use super::super::gemm::product;
use super::super::product::Panels;
#[cfg(feature = "train")]
use super::super::reduce::add_up;
#[cfg(feature = "train")]
use super::added::Learnt;
use super::added::{Added, for_rows};

/// Relative positions along height and width, `[2 rows - 1, dim]` and `[2 columns - 1, dim]`, each backwards: a query's
/// products with them are then in the order of its keys.
pub struct Positions {
    /// Both, one after the other.
    #[cfg(feature = "train")]
    values: Vec<f32>,
    /// The same for products with queries, `[dim, 2 (rows + columns) - 2]`.
    panels: Panels,
    rows: usize,
    columns: usize,
}

impl Positions {
    /// Of tables in SAM's order, `[2 rows - 1, dim]` and `[2 columns - 1, dim]`.
    pub fn of_tables(tables: [&FlexTensor; 2]) -> Self {
        let [rows, columns] = tables.map(|table| table.layout().shape()[0].div_ceil(2));
        let dim = tables[0].layout().shape()[1];
        let values: Vec<f32> =
            tables.into_iter().flat_map(|table| table.storage::<f32>().rchunks_exact(dim)).flatten().copied().collect();
        let panels = Panels::new(&values, [1, dim], [dim, values.len() / dim]);
        Self {
            #[cfg(feature = "train")]
            values,
            panels,
            rows,
            columns,
        }
    }
}

impl Added for Positions {
    /// The queries' products, `[count, 2 (rows + columns) - 2]`.
    fn numbers(&self, _: usize, q: &[f32]) -> Cow<'_, [f32]> {
        Cow::Owned(self.panels.times(q))
    }

    #[inline(always)]
    fn add(&self, numbers: &[f32], i: usize, [row, column]: [usize; 2], scores: &mut [f32]) {
        let (rows, columns) = (self.rows, self.columns);
        let width = 2 * (rows + columns) - 2;
        let (by_row, by_column) = numbers[i * width..][..width].split_at(2 * rows - 1);
        let (by_row, by_column) = (&by_row[rows - 1 - row..][..rows], &by_column[columns - 1 - column..][..columns]);
        for_rows(scores, columns, |row, line| {
            let by_row = by_row[row];
            let by_column = &by_column[..line.len()];
            for (score, by_column) in line.iter_mut().zip(by_column) {
                *score += by_row + by_column;
            }
        });
    }
}

#[cfg(feature = "train")]
impl Learnt for Positions {
    /// Both tables.
    fn length(&self) -> usize {
        self.values.len()
    }

    /// The gradients of the queries' products.
    fn sums(&self, count: usize) -> Vec<f32> {
        vec![0.0; count * (2 * (self.rows + self.columns) - 2)]
    }

    #[inline(always)]
    fn collect(&self, sums: &mut [f32], i: usize, [row, column]: [usize; 2], gradient: &[f32]) {
        let (rows, columns) = (self.rows, self.columns);
        let width = 2 * (rows + columns) - 2;
        let (by_row, by_column) = sums[i * width..][..width].split_at_mut(2 * rows - 1);
        let by_row = &mut by_row[rows - 1 - row..][..rows];
        let by_column = &mut by_column[columns - 1 - column..][..columns];
        for (line, by_row) in gradient.chunks_exact(columns).zip(by_row) {
            *by_row = line.iter().sum();
            for (sum, x) in by_column.iter_mut().zip(line) {
                *sum += x;
            }
        }
    }

    fn finish(&self, sums: &[f32], q: &[f32], dq: &mut [f32], out: &mut [f32]) {
        let width = 2 * (self.rows + self.columns) - 2;
        let (dim, count) = (self.values.len() / width, sums.len() / width);
        product([count, dim, width], dq, dim, (sums, width, 1), (&self.values, dim, 1), [1.0, 1.0]);
        if !out.is_empty() {
            product([width, dim, count], out, dim, (sums, 1, width), (q, dim, 1), [0.0, 1.0]);
        }
    }

    /// Both tables in SAM's order, of all heads together.
    fn join(&self, heads: &[f32]) -> Vec<Vec<f32>> {
        let width = 2 * (self.rows + self.columns) - 2;
        let dim = self.values.len() / width;
        let total = add_up(heads, self.values.len());
        let (h, w) = total.split_at((2 * self.rows - 1) * dim);
        [h, w].map(|table| table.rchunks_exact(dim).flatten().copied().collect()).into()
    }
}
