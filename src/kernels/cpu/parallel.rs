//! Work shared among cores natively; a browser's worker has one.

/// Calls `work` with the index and content of each chunk of `length` values, on all cores.
pub fn for_chunks(values: &mut [f32], length: usize, work: impl Fn(usize, &mut [f32]) + Sync + Send) {
    #[cfg(not(target_arch = "wasm32"))]
    {
        use rayon::prelude::*;
        values.par_chunks_mut(length).enumerate().for_each(|(i, chunk)| work(i, chunk));
    }
    #[cfg(target_arch = "wasm32")]
    values.chunks_mut(length).enumerate().for_each(|(i, chunk)| work(i, chunk));
}

/// Calls `work` with every number below `count`, on all cores.
pub fn for_tasks(count: usize, work: impl Fn(usize) + Sync + Send) {
    #[cfg(not(target_arch = "wasm32"))]
    {
        use rayon::prelude::*;
        (0..count).into_par_iter().with_max_len(1).for_each(work);
    }
    #[cfg(target_arch = "wasm32")]
    (0..count).for_each(work);
}

/// Rows that one core works on at a time.
pub const ROWS: usize = 16;

/// A result that threads write to, each its own part.
pub struct Shared(*mut f32);

impl Shared {
    /// Of a vector's memory; it must not grow or go while this is used.
    pub fn new(values: &mut Vec<f32>) -> Self {
        Self(values.as_mut_ptr())
    }

    /// The address of place `at`.
    #[inline(always)]
    pub fn at(&self, at: usize) -> *mut f32 {
        self.0.wrapping_add(at)
    }

    /// Writes `values` from place `at`.
    ///
    /// # Safety
    /// There is memory for them, and nobody else reads or writes it.
    #[inline(always)]
    pub unsafe fn write(&self, at: usize, values: &[f32]) {
        // SAFETY: as the caller promises.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), self.at(at), values.len()) };
    }
}

// SAFETY: it only hands out the address; who writes there promises to be alone.
unsafe impl Sync for Shared {}

/// Cores to share work among.
pub fn threads() -> usize {
    #[cfg(not(target_arch = "wasm32"))]
    return rayon::current_num_threads();
    #[cfg(target_arch = "wasm32")]
    1
}
