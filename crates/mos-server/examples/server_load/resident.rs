//! What a process takes, as Linux counts it.

/// Returns the resident memory of a process in bytes; `None` where the system does not tell.
pub(crate) fn bytes(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Returns the seconds that this process has computed; `None` where the system does not tell.
pub(crate) fn own_seconds() -> Option<f64> {
    let line = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name before it may hold anything. Then come the state and ten more numbers.
    let mut fields = line.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    // Linux counts hundredths of a second on every platform that programs are built for here.
    Some((user + system) / 100.0)
}
