//! The fields that lists ask for most. Stores keep them where a list is answered from, so that no memory is read for them.

use mos_core::Filter;

/// The fields of metadata that lists are answered from. Their order is that of columns and texts in the stores.
pub(crate) const LISTED: [&str; 3] = ["memory_type", "status", "user_id"];

/// Whether a filter asks for nothing but listed fields.
pub(crate) fn is_listed(filter: &Filter) -> bool {
    match filter {
        Filter::Everything => true,
        Filter::Is(condition) => LISTED.contains(&condition.field.as_str()),
        Filter::All(parts) | Filter::Any(parts) => parts.iter().all(is_listed),
        Filter::Not(part) => is_listed(part),
    }
}

/// Takes a filter apart: what listed fields can answer, and what else must be so. Both together are the filter.
pub(crate) fn taken_apart(filter: &Filter) -> (Filter, Filter) {
    if is_listed(filter) {
        return (filter.clone(), Filter::Everything);
    }
    match filter {
        Filter::All(parts) => {
            let mut both = (Filter::Everything, Filter::Everything);
            for part in parts {
                let (listed, rest) = taken_apart(part);
                both = (both.0.and(listed), both.1.and(rest));
            }
            both
        }
        other => (Filter::Everything, other.clone()),
    }
}
