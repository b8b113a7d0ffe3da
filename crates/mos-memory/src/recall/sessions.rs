//! Which memory stands beside which: the memories of each session in the order of their first write.

use std::collections::HashMap;
use std::sync::Arc;

/// Memories before one whose vectors meet its own in some window, which reaches two memories to each side.
pub(super) const BEFORE: usize = 4;

/// Rows at -2, -1, +1 and +2.
pub(super) type Around = [Option<u32>; BEFORE];

#[derive(Clone, Copy, Debug)]
struct Member {
    arrival: u64,
    row: u32,
}

/// The members of every session.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    members: HashMap<Arc<str>, Vec<Member>>,
}

impl Sessions {
    /// Puts a row where its arrival belongs; arrivals differ.
    pub(super) fn insert(&mut self, session: &Arc<str>, arrival: u64, row: u32) {
        let members = self.members.entry(Arc::clone(session)).or_default();
        // Nearly always the last place.
        let place = members.partition_point(|member| member.arrival < arrival);
        members.insert(place, Member { arrival, row });
    }

    /// Takes a row out; an unknown one is no error.
    pub(super) fn remove(&mut self, session: &str, arrival: u64) {
        let Some(members) = self.members.get_mut(session) else { return };
        if let Ok(place) = members.binary_search_by_key(&arrival, |member| member.arrival) {
            members.remove(place);
        }
        if members.is_empty() {
            self.members.remove(session);
        }
    }

    /// Returns the rows of the same session around a member; none for a member that is not there.
    pub(super) fn around(&self, session: &str, arrival: u64) -> Around {
        self.at_offsets(session, arrival, [-2, -1, 1, 2])
    }

    /// Returns the rows before a member, the nearest first.
    pub(super) fn before(&self, session: &str, arrival: u64) -> [Option<u32>; BEFORE] {
        self.at_offsets(session, arrival, [-1, -2, -3, -4])
    }

    /// Returns at most `count` rows that stand at `arrival` or after it, in order. The place may be empty by now.
    pub(super) fn beginning_at(&self, session: &str, arrival: u64, count: usize) -> Vec<u32> {
        let Some(members) = self.members.get(session) else { return Vec::new() };
        let place = members.partition_point(|member| member.arrival < arrival);
        members[place..].iter().take(count).map(|member| member.row).collect()
    }

    /// Bytes it takes, about.
    pub(super) fn n_bytes(&self) -> usize {
        let of =
            |(name, members): (&Arc<str>, &Vec<Member>)| name.len() + 64 + members.capacity() * size_of::<Member>();
        self.members.iter().map(of).sum()
    }

    fn at_offsets(&self, session: &str, arrival: u64, offsets: [isize; BEFORE]) -> [Option<u32>; BEFORE] {
        let Some(members) = self.members.get(session) else { return [None; BEFORE] };
        let Ok(place) = members.binary_search_by_key(&arrival, |member| member.arrival) else { return [None; BEFORE] };
        offsets.map(|offset| {
            let member = members.get(place.checked_add_signed(offset)?)?;
            Some(member.row)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions(arrivals: &[u64]) -> Sessions {
        let mut sessions = Sessions::default();
        for arrival in arrivals {
            // The row is ten times the arrival, so that tests read well.
            sessions.insert(&Arc::from("s"), *arrival, *arrival as u32 * 10);
        }
        sessions
    }

    #[test]
    fn members_stand_in_the_order_of_arrival() {
        let sessions = sessions(&[3, 1, 5, 2, 4]);
        assert_eq!(sessions.around("s", 3), [Some(10), Some(20), Some(40), Some(50)]);
        assert_eq!(sessions.around("s", 1), [None, None, Some(20), Some(30)]);
        assert_eq!(sessions.before("s", 5), [Some(40), Some(30), Some(20), Some(10)]);
        assert_eq!(sessions.before("s", 2), [Some(10), None, None, None]);
        assert_eq!(sessions.beginning_at("s", 2, 3), [20, 30, 40]);
    }

    #[test]
    fn who_leaves_lets_the_others_close_up() {
        let mut sessions = sessions(&[1, 2, 3, 4]);
        sessions.remove("s", 2);
        sessions.remove("s", 9);
        assert_eq!(sessions.around("s", 3), [None, Some(10), Some(40), None]);
        assert_eq!(sessions.beginning_at("s", 2, 5), [30, 40], "the place is empty");
        for arrival in [1, 3, 4] {
            sessions.remove("s", arrival);
        }
        assert!(sessions.members.is_empty(), "an empty session is forgotten");
        assert_eq!(sessions.around("s", 3), [None; 4]);
    }

    #[test]
    fn sessions_do_not_touch() {
        let mut sessions = sessions(&[1, 3]);
        sessions.insert(&Arc::from("other"), 2, 20);
        assert_eq!(sessions.around("s", 3), [None, Some(10), None, None]);
        assert_eq!(sessions.around("other", 2), [None; 4]);
    }
}
