//! Relative positions as attention reads them.

use burn_flex::FlexTensor;

use super::super::product::Panels;

/// Relative positions along height and width, `[2 rows - 1, dim]` and `[2 columns - 1, dim]`, each backwards: a query's
/// products with them are then in the order of its keys.
pub struct Positions {
    /// Both, one after the other.
    values: Vec<f32>,
    dim: usize,
}

impl Positions {
    /// Of tables in SAM's order, `[2 rows - 1, dim]` and `[2 columns - 1, dim]`.
    pub fn of_tables(tables: [&FlexTensor; 2]) -> Self {
        let dim = tables[0].layout().shape()[1];
        let values: Vec<f32> =
            tables.into_iter().flat_map(|table| table.storage::<f32>().rchunks_exact(dim)).flatten().copied().collect();
        Self { values, dim }
    }

    /// Of positions by query and key, `[rows, rows, dim]` and `[columns, columns, dim]`, that depend on their difference alone.
    #[cfg(feature = "train")]
    pub fn of_pairs(pairs: [&FlexTensor; 2]) -> Self {
        let dim = pairs[0].layout().shape()[2];
        let values = pairs.into_iter().flat_map(|pairs| {
            let line = pairs.layout().shape()[0] * dim;
            let pairs: &[f32] = pairs.storage();
            // The last query's keys, then the first query's but for the first of them.
            pairs[pairs.len() - line..].iter().chain(&pairs[dim..line])
        });
        Self { values: values.copied().collect(), dim }
    }

    /// For products with queries: `[dim, 2 (rows + columns) - 2]`.
    pub fn panels(&self) -> Panels {
        Panels::new(&self.values, [1, self.dim], [self.dim, self.values.len() / self.dim])
    }
}
