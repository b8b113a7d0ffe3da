//! Work on rows, shared between threads.

use mos_core::ModelError;

use crate::compute::{Kernels, SharedMut, Team};
use crate::cpu::CpuPath;
use crate::error::internal;

/// Rows that one task of row-wise work takes.
const ROWS_PER_TASK: usize = 16;

/// Threads and instructions that a model computes with.
pub(crate) struct Compute {
    pub(crate) team: Team,
    pub(crate) kernels: Kernels,
}

impl Compute {
    pub(crate) fn new(threads: usize, path: CpuPath) -> Result<Self, ModelError> {
        let team = Team::new(threads).map_err(|error| internal("starting the compute threads", error))?;
        Ok(Self { team, kernels: Kernels::new(path) })
    }

    /// Calls `work` with each row of `x` and the same row of `out`.
    pub(super) fn rows(
        &self,
        x: &[f32],
        width: usize,
        out: &mut [f32],
        out_width: usize,
        work: impl Fn(&[f32], &mut [f32]) + Sync,
    ) {
        self.numbered_rows(out, out_width, |row, out| work(&x[row * width..][..width], out));
    }

    /// Calls `work` with the number and the values of each row.
    pub(crate) fn numbered_rows(&self, values: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
        let rows = values.len() / width;
        let shared = SharedMut::new(values);
        self.team.run(rows.div_ceil(ROWS_PER_TASK), &|task| {
            for row in task * ROWS_PER_TASK..((task + 1) * ROWS_PER_TASK).min(rows) {
                // SAFETY: every row belongs to one task.
                #[allow(unsafe_code, reason = "rows are disjoint")]
                let values = unsafe { shared.part(row * width, width) };
                work(row, values);
            }
        });
    }
}
