//! Products of blocks: every sum stays in its register and takes its terms in order.

#![allow(unsafe_code, reason = "vector kernels over raw pointers")]
#![allow(unsafe_op_in_unsafe_fn, reason = "kernels are made of pointer arithmetic and intrinsics")]
#![allow(clippy::needless_range_loop, reason = "counted loops over constant bounds stay in registers")]

use super::panels::PANEL;
use super::simd::Simd16;

/// `c[m, 16 * panels] (+)= a[m, depth] * b`, all strides in elements.
///
/// Panel `p` of `b` starts at `b + p * b_panel` and holds sixteen values per step of `depth`, `b_step` apart: floats,
/// or `f16` bits.
#[derive(Clone, Copy)]
pub(crate) struct GemmBlock<W = f32> {
    pub(crate) m: usize,
    pub(crate) depth: usize,
    pub(crate) panels: usize,
    pub(crate) a: *const f32,
    pub(crate) a_stride: usize,
    pub(crate) b: *const W,
    pub(crate) b_step: usize,
    pub(crate) b_panel: usize,
    pub(crate) c: *mut f32,
    pub(crate) c_stride: usize,
    /// Whether `c` is added to; otherwise it is overwritten.
    pub(crate) accumulate: bool,
}

/// The most rows of a product whose weights are widened on the way, by [`gemm_few_rows`].
pub(crate) const FEW_ROWS: usize = 4;

impl<W> GemmBlock<W> {
    /// Returns the same product with other weights.
    pub(crate) fn over<V>(&self, b: *const V, b_step: usize, b_panel: usize) -> GemmBlock<V> {
        let &Self { m, depth, panels, a, a_stride, c, c_stride, accumulate, .. } = self;
        GemmBlock { m, depth, panels, a, a_stride, b, b_step, b_panel, c, c_stride, accumulate }
    }
}

/// What a product's weights are made of.
trait Weight: Sized {
    /// Sixteen of them, as floats.
    unsafe fn load<S: Simd16>(from: *const Self) -> S::V;
}

impl Weight for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd16>(from: *const Self) -> S::V {
        S::load(from)
    }
}

/// The bits of an `f16`.
impl Weight for u16 {
    #[inline(always)]
    unsafe fn load<S: Simd16>(from: *const Self) -> S::V {
        S::load_f16(from)
    }
}

#[inline(always)]
pub(super) unsafe fn gemm_block<S: Simd16, const M: usize, const P: usize, const FEW: usize>(g: &GemmBlock) {
    let mut panel = 0;
    // Few rows: more panels at once, so that enough independent sums are in flight.
    while g.m <= 3 && panel + 4 <= g.panels {
        gemm_rows::<S, FEW, 4>(g, panel);
        panel += 4;
    }
    while panel + P <= g.panels {
        gemm_rows::<S, M, P>(g, panel);
        panel += P;
    }
    while panel < g.panels {
        gemm_rows::<S, M, 1>(g, panel);
        panel += 1;
    }
}

#[inline(always)]
pub(super) unsafe fn gemm_few_rows<S: Simd16, const P: usize>(g: &GemmBlock<u16>) {
    let mut panel = 0;
    // One row: more panels at once, as above.
    while g.m == 1 && panel + 4 <= g.panels {
        micro::<S, u16, 1, 4>(g, 0, panel);
        panel += 4;
    }
    while panel + P <= g.panels {
        micro_of::<S, u16, FEW_ROWS, P>(g.m, g, 0, panel);
        panel += P;
    }
    while panel < g.panels {
        micro_of::<S, u16, FEW_ROWS, 1>(g.m, g, 0, panel);
        panel += 1;
    }
}

#[inline(always)]
unsafe fn gemm_rows<S: Simd16, const M: usize, const P: usize>(g: &GemmBlock, panel: usize) {
    let mut row = 0;
    while g.m - row >= 2 * M || g.m - row == M {
        micro::<S, f32, M, P>(g, row, panel);
        row += M;
    }
    // The rest in two halves rather than in a full block and a sliver, which has too few sums in flight.
    let rest = g.m - row;
    let half = if rest > M { rest.div_ceil(2) } else { rest };
    micro_of::<S, f32, M, P>(half, g, row, panel);
    micro_of::<S, f32, M, P>(rest - half, g, row + half, panel);
}

/// `micro` with a number of rows, at most `M`, that is known when it runs.
#[inline(always)]
unsafe fn micro_of<S: Simd16, W: Weight, const M: usize, const P: usize>(
    rows: usize,
    g: &GemmBlock<W>,
    row: usize,
    panel: usize,
) {
    debug_assert!(rows <= M && M <= 12);
    // What is beyond `M` is known to be out of reach, and not compiled.
    match rows {
        1 => micro::<S, W, 1, P>(g, row, panel),
        2 if M >= 2 => micro::<S, W, 2, P>(g, row, panel),
        3 if M >= 3 => micro::<S, W, 3, P>(g, row, panel),
        4 if M >= 4 => micro::<S, W, 4, P>(g, row, panel),
        5 if M >= 5 => micro::<S, W, 5, P>(g, row, panel),
        6 if M >= 6 => micro::<S, W, 6, P>(g, row, panel),
        7 if M >= 7 => micro::<S, W, 7, P>(g, row, panel),
        8 if M >= 8 => micro::<S, W, 8, P>(g, row, panel),
        9 if M >= 9 => micro::<S, W, 9, P>(g, row, panel),
        10 if M >= 10 => micro::<S, W, 10, P>(g, row, panel),
        11 if M >= 11 => micro::<S, W, 11, P>(g, row, panel),
        12 if M >= 12 => micro::<S, W, 12, P>(g, row, panel),
        _ => {}
    }
}

/// `M` rows times `P` panels: every sum stays in its register and takes its terms in order.
#[inline(always)]
unsafe fn micro<S: Simd16, W: Weight, const M: usize, const P: usize>(g: &GemmBlock<W>, row: usize, panel: usize) {
    let a = g.a.add(row * g.a_stride);
    let b = g.b.add(panel * g.b_panel);
    let c = g.c.add(row * g.c_stride + panel * PANEL);
    let mut sums = [[S::splat(0.0); P]; M];
    if g.accumulate {
        for r in 0..M {
            for p in 0..P {
                sums[r][p] = S::load(c.add(r * g.c_stride + p * PANEL));
            }
        }
    }
    for k in 0..g.depth {
        let mut weights = [S::splat(0.0); P];
        for p in 0..P {
            weights[p] = W::load::<S>(b.add(k * g.b_step + p * g.b_panel));
        }
        for r in 0..M {
            let x = S::splat(*a.add(r * g.a_stride + k));
            for p in 0..P {
                sums[r][p] = S::fma(x, weights[p], sums[r][p]);
            }
        }
    }
    for r in 0..M {
        for p in 0..P {
            S::store(c.add(r * g.c_stride + p * PANEL), sums[r][p]);
        }
    }
}
