//! Versions of servers.

/// Whether a server's version, such as `7.2.4` or `1.16-rc1`, is lower than the oldest that will do, by its first two
/// numbers. A text that is no version counts as lower than any.
pub(crate) fn is_older(version: &str, oldest: (u32, u32)) -> bool {
    let mut numbers = version.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < oldest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_two_numbers_count() {
        for old in ["", "Neo4j", "5", "5.9.0", "5.25.9", "4.99", "5.x"] {
            assert!(is_older(old, (5, 26)), "{old}");
        }
        for good in ["5.26", "5.26.30", "5.26-aura", "5.27.0", "2025.01.0"] {
            assert!(!is_older(good, (5, 26)), "{good}");
        }
    }
}
