//! A tile of sums in registers, on the instructions of this machine.

use super::super::vector::Vector;
use super::{Block, Rows};

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m512};

#[cfg(target_arch = "aarch64")]
type Base = std::arch::aarch64::float32x4_t;
#[cfg(target_arch = "wasm32")]
type Base = std::arch::wasm32::v128;
#[cfg(not(any(target_arch = "aarch64", target_arch = "wasm32")))]
type Base = super::super::vector::Plain;

/// The most values of a tile.
const MOST: usize = 384;

/// A tile's sums in memory, row by row, from a cache line's start.
#[repr(align(64))]
struct Sums([f32; MOST]);

/// The instructions to use.
#[derive(Clone, Copy)]
pub enum Level {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Base,
}

impl Level {
    /// The best of this machine.
    pub fn here() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx512f") && has!("avx512vl") && has!("avx512bw") && has!("avx512dq") && has!("avx512cd") {
                return Self::Avx512;
            }
            if has!("avx2") && has!("fma") {
                return Self::Avx2;
            }
        }
        Self::Base
    }

    /// Columns of a panel for a matrix of `n`, and whether that is the narrower tile's.
    pub fn width_for(self, n: usize) -> (usize, bool) {
        let [wide, narrow] = self.widths();
        // The narrower tile is a twentieth slower, but may have fewer columns to spare.
        let is_narrow = 20 * n.next_multiple_of(wide) > 21 * n.next_multiple_of(narrow);
        (if is_narrow { narrow } else { wide }, is_narrow)
    }

    /// Columns of its tile of three vectors, which is the fastest, and of two, which fits other matrices.
    fn widths(self) -> [usize; 2] {
        let lanes = match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => __m512::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => __m256::LANES,
            Self::Base => Base::LANES,
        };
        [3 * lanes, 2 * lanes]
    }

    /// Computes a block whose panel is as wide as [`Level::width_for`] says.
    ///
    /// # Safety
    /// Nobody else reads or writes the block's part of the result. `self` is [`Level::here`].
    pub unsafe fn run<L: Rows>(self, block: &Block<L>, narrow: bool) {
        // SAFETY: as the caller promises, of the block and of the instructions.
        unsafe {
            match self {
                #[cfg(target_arch = "x86_64")]
                Self::Avx512 => avx512(block, narrow),
                #[cfg(target_arch = "x86_64")]
                Self::Avx2 => avx2(block, narrow),
                Self::Base if narrow => run::<Base, L, { BASE[1] }, 2>(block, base_narrow),
                Self::Base => run::<Base, L, { BASE[0] }, 3>(block, base_wide),
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512cd")]
unsafe fn avx512<L: Rows>(block: &Block<L>, narrow: bool) {
    // SAFETY: as the caller promises.
    unsafe {
        if narrow {
            run::<__m512, L, 12, 2>(block, avx512_narrow);
        } else {
            run::<__m512, L, 8, 3>(block, avx512_wide);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<L: Rows>(block: &Block<L>, narrow: bool) {
    // SAFETY: as the caller promises.
    unsafe {
        if narrow {
            run::<__m256, L, 6, 2>(block, avx2_narrow);
        } else {
            run::<__m256, L, 4, 3>(block, avx2_wide);
        }
    }
}

/// Rows of the base level's tiles: 24 sums for 32 registers, 12 for 16. In wasm by measurement (V8, x86-64): six rows are 1.1
/// times as fast as four, and with relaxed SIMD three are twice as fast as four.
const BASE: [usize; 2] = if cfg!(target_arch = "aarch64") {
    [8, 12]
} else if cfg!(all(target_arch = "wasm32", feature = "relaxed-simd")) {
    [3, 4]
} else if cfg!(target_arch = "wasm32") {
    [6, 8]
} else {
    [4, 6]
};

/// [`add_products`] for a tile of `R` rows.
type Add<const R: usize> = unsafe fn(*mut f32, usize, [*const f32; R], *const f32, usize, bool);

/// Passes the block's rows over its panel, in tiles of `R` rows and `V` vectors, by `add`.
///
/// # Safety
/// The machine has `T`'s instructions; nobody else reads or writes the block's part of the result.
#[inline(always)]
unsafe fn run<T: Vector, L: Rows, const R: usize, const V: usize>(block: &Block<L>, add: Add<R>) {
    let width = V * T::LANES;
    const { assert!(R * V * T::LANES <= MOST) };
    assert!(block.panel.len() >= block.inputs.len() * width);
    let mut sums = Sums([0.0; MOST]);
    let tiles = block.rows.len().div_ceil(R);
    let last = block.rows.end.saturating_sub(1);
    let is_bare = block.is_bare() && block.columns.len() == width;
    for (i, first) in block.rows.clone().step_by(R).enumerate() {
        block.ahead(i, tiles, |at| {
            // SAFETY: any address may be asked for.
            unsafe { T::prefetch(at) }
        });
        // Sums that nothing follows go to their place at once.
        let is_direct = is_bare && first + R <= block.rows.end;
        let (memory, stride) =
            if is_direct { (block.place(first), block.of.sides[1]) } else { (sums.0.as_mut_ptr(), width) };
        let mut is_first = true;
        let mut from = block.inputs.start;
        while from < block.inputs.end {
            let run = block.left.run();
            let length = (run - from % run).min(block.inputs.end - from);
            // The last tile's missing rows are the last row again.
            let left: [&[f32]; R] = std::array::from_fn(|r| block.left.part((first + r).min(last), from, length));
            let left = left.map(|part| part[..length].as_ptr());
            let right = block.panel[(from - block.inputs.start) * width..].as_ptr();
            // SAFETY: `length` values lie behind each pointer of `left`, and `length * width` behind `right`; the tile fits into
            // `sums`, and where it is direct, its rows and columns are this block's, whole.
            unsafe { add(memory, stride, left, right, length, is_first) };
            is_first = false;
            from += length;
        }
        if is_direct && !is_first {
            continue;
        }
        if is_first {
            sums.0.fill(0.0);
        }
        for (row, sums) in (first..=last).zip(sums.0.chunks_exact_mut(width)).take(R) {
            // SAFETY: the row is one of the block's, which is this caller's alone.
            unsafe { block.finish(row, sums) };
        }
    }
}

/// `sums + left right`, or without `sums` if `is_first`: `depth` inputs of each row, and as many lines of a packed panel. Sums are in
/// rows of `V` vectors, `stride` values from one to the next.
///
/// # Safety
/// The machine has `T`'s instructions, `depth` values lie behind each pointer of `left`, and as many lines behind `right`; nobody
/// else uses the sums.
#[inline(always)]
unsafe fn add_products<T: Vector, const R: usize, const V: usize>(
    memory: *mut f32,
    stride: usize,
    left: [*const f32; R],
    right: *const f32,
    depth: usize,
    is_first: bool,
) {
    const { assert!(R * V * T::LANES <= MOST) };
    let place = |r: usize, v: usize| memory.wrapping_add(r * stride + v * T::LANES);
    // SAFETY: as the caller promises.
    unsafe {
        let mut sums = [[T::splat(0.0); V]; R];
        if !is_first {
            sums = std::array::from_fn(|r| std::array::from_fn(|v| T::load(place(r, v))));
        }
        for i in 0..depth {
            let line = right.add(i * V * T::LANES);
            let line: [T; V] = std::array::from_fn(|v| T::load(line.add(v * T::LANES)));
            for r in 0..R {
                let value = T::splat(*left[r].add(i));
                for v in 0..V {
                    sums[r][v] = sums[r][v].add_product(value, line[v]);
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                sum.store(place(r, v));
            }
        }
    }
}

/// [`add_products`] as functions of their own: within a larger one, compilers have no registers left for the sums.
macro_rules! tiles {
    ($($(#[$attribute:meta])* $name:ident: $vector:ty, $rows:expr, $vectors:expr;)*) => {$(
        $(#[$attribute])*
        #[inline(never)]
        unsafe fn $name(
            sums: *mut f32,
            stride: usize,
            left: [*const f32; $rows],
            right: *const f32,
            depth: usize,
            is_first: bool,
        ) {
            // SAFETY: as the caller promises.
            unsafe { add_products::<$vector, { $rows }, { $vectors }>(sums, stride, left, right, depth, is_first) }
        }
    )*};
}

tiles! {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    avx512_wide: __m512, 8, 3;
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    avx512_narrow: __m512, 12, 2;
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    avx2_wide: __m256, 4, 3;
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    avx2_narrow: __m256, 6, 2;
    #[cfg_attr(all(target_arch = "wasm32", feature = "relaxed-simd"), target_feature(enable = "relaxed-simd"))]
    base_wide: Base, BASE[0], 3;
    #[cfg_attr(all(target_arch = "wasm32", feature = "relaxed-simd"), target_feature(enable = "relaxed-simd"))]
    base_narrow: Base, BASE[1], 2;
}
