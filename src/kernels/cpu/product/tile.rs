//! A tile of sums in registers, on the instructions of this machine.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m512};

use super::super::vector::Vector;
use super::block::{ProductBlock, RowSource};
use super::level::{Base, Level};

/// The most values of a tile.
const MOST: usize = 384;

/// A tile's sums in memory, row by row, from a cache line's start.
#[repr(align(64))]
struct Sums([f32; MOST]);

/// Computes a block whose panel is as wide as [`Level::width_for`] says, on the instructions of `level`.
///
/// # Safety
/// Nobody else reads or writes the block's part of the result. `level` is [`Level::here`].
pub unsafe fn run<L: RowSource>(level: Level, block: &ProductBlock<L>, narrow: bool) {
    // SAFETY: as the caller promises, of the block and of the instructions.
    unsafe {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => avx512(block, narrow),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => avx2(block, narrow),
            Level::Base if narrow => tiles_of::<Base, L, { BASE[1] }, 2>(block, base_narrow),
            Level::Base => tiles_of::<Base, L, { BASE[0] }, 3>(block, base_wide),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512cd")]
unsafe fn avx512<L: RowSource>(block: &ProductBlock<L>, narrow: bool) {
    // SAFETY: as the caller promises.
    unsafe {
        if narrow {
            tiles_of::<__m512, L, 12, 2>(block, avx512_narrow);
        } else {
            tiles_of::<__m512, L, 8, 3>(block, avx512_wide);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<L: RowSource>(block: &ProductBlock<L>, narrow: bool) {
    // SAFETY: as the caller promises.
    unsafe {
        if narrow {
            tiles_of::<__m256, L, 6, 2>(block, avx2_narrow);
        } else {
            tiles_of::<__m256, L, 4, 3>(block, avx2_wide);
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
unsafe fn tiles_of<T: Vector, L: RowSource, const R: usize, const V: usize>(block: &ProductBlock<L>, add: Add<R>) {
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
        // Sums without an epilogue are stored directly.
        let is_direct = is_bare && first + R <= block.rows.end;
        let (memory, stride) =
            if is_direct { (block.place(first), block.of.sides[1]) } else { (sums.0.as_mut_ptr(), width) };
        let mut is_first = true;
        let mut from = block.inputs.start;
        while from < block.inputs.end {
            let run = block.lhs.run();
            let length = (run - from % run).min(block.inputs.end - from);
            // The last tile's missing rows are the last row again.
            let lhs: [&[f32]; R] = std::array::from_fn(|r| block.lhs.part((first + r).min(last), from, length));
            let lhs = lhs.map(|part| part[..length].as_ptr());
            let rhs = block.panel[(from - block.inputs.start) * width..].as_ptr();
            // SAFETY: `length` values lie behind each pointer of `lhs`, and `length * width` behind `rhs`; the tile fits into
            // `sums`, and where it is direct, its rows and columns are this block's, whole.
            unsafe { add(memory, stride, lhs, rhs, length, is_first) };
            is_first = false;
            from += length;
        }
        if is_direct && !is_first {
            continue;
        }
        if is_first {
            sums.0.fill(0.0);
        }
        for (row, sums) in (first..=last).zip(sums.0.chunks_exact(width)).take(R) {
            // SAFETY: the row is one of the block's, which is this caller's alone.
            unsafe { block.finish::<T>(row, sums) };
        }
    }
}

/// `sums + lhs rhs`, or without `sums` if `is_first`: `depth` inputs of each row, and as many lines of a packed panel. Sums are in
/// rows of `V` vectors, `stride` values from one to the next.
///
/// # Safety
/// The machine has `T`'s instructions, `depth` values lie behind each pointer of `lhs`, and as many lines behind `rhs`; nobody
/// else uses the sums.
#[inline(always)]
unsafe fn add_products<T: Vector, const R: usize, const V: usize>(
    memory: *mut f32,
    stride: usize,
    lhs: [*const f32; R],
    rhs: *const f32,
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
            let line = rhs.add(i * V * T::LANES);
            let line: [T; V] = std::array::from_fn(|v| T::load(line.add(v * T::LANES)));
            for r in 0..R {
                let value = T::splat(*lhs[r].add(i));
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
            lhs: [*const f32; $rows],
            rhs: *const f32,
            depth: usize,
            is_first: bool,
        ) {
            // SAFETY: as the caller promises.
            unsafe { add_products::<$vector, { $rows }, { $vectors }>(sums, stride, lhs, rhs, depth, is_first) }
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
