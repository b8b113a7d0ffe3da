//! The memory of this process, as Linux counts it.

use std::fs;

/// Returns the resident memory in bytes; `None` where the system does not tell.
pub(crate) fn now() -> Option<u64> {
    of_status("VmRSS:")
}

/// Returns the largest resident memory in bytes since [`forget_peak`], or since the start of the process where that is not
/// possible; `None` where the system does not tell.
pub(crate) fn peak() -> Option<u64> {
    of_status("VmHWM:")
}

/// Makes the present resident memory the largest one, and returns whether that worked.
pub(crate) fn forget_peak() -> bool {
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

fn of_status(field: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
