//! Memories in the order of their importance.

use serde::{Deserialize, Serialize};

use super::{MAX_CAPACITY, MonitorItem};

/// How many memories stay that a turn did not choose again, as MemOS has it.
pub const RETENTION: usize = 2;

/// Memories of one user and cube, the most important first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MonitorList {
    /// The memories.
    pub items: Vec<MonitorItem>,
}

impl MonitorList {
    /// Takes in what a turn chose. What was in already is recorded once more and gets the new scores; of the others the
    /// `retention` most important ones stay, with nothing to their credit. At most `capacity` remain (and never more than
    /// 50), the most important ones first; equally important ones keep their order, those that were in already before those
    /// that come in.
    pub fn update(&mut self, new: Vec<MonitorItem>, retention: usize, capacity: usize) {
        let mut chosen: Vec<bool> = vec![false; self.items.len()];
        for item in new {
            match self.place_of(&item) {
                // A second one of the same batch says nothing new.
                Some(place) if chosen[place] => {}
                Some(place) => {
                    record_again(&mut self.items[place], item);
                    chosen[place] = true;
                }
                None => {
                    let mut item = MonitorItem { recording_count: item.recording_count.max(1), ..item };
                    item.weigh();
                    self.items.push(item);
                    chosen.push(true);
                }
            }
        }
        let retained = self.most_important(&chosen, retention);
        let old = std::mem::take(&mut self.items);
        for (place, mut item) in old.into_iter().enumerate() {
            if !chosen[place] {
                if !retained.contains(&place) {
                    continue;
                }
                (item.sorting_score, item.keywords_score, item.recording_count) = (0.0, 0.0, 1);
                item.weigh();
            }
            self.items.push(item);
        }
        self.sort();
        self.items.truncate(capacity.min(MAX_CAPACITY));
    }

    /// Where a memory stands, or else one that says the same.
    fn place_of(&self, item: &MonitorItem) -> Option<usize> {
        let by_memory = self.items.iter().position(|known| known.is_memory_of(item));
        by_memory.or_else(|| self.items.iter().position(|known| known.says_what(item)))
    }

    /// The places of the most important ones that were not chosen.
    fn most_important(&self, chosen: &[bool], n: usize) -> Vec<usize> {
        let mut others: Vec<usize> = (0..self.items.len()).filter(|place| !chosen[*place]).collect();
        others.sort_by(|a, b| self.items[*b].importance_score.total_cmp(&self.items[*a].importance_score));
        others.truncate(n);
        others
    }

    fn sort(&mut self) {
        self.items.sort_by(|a, b| b.importance_score.total_cmp(&a.importance_score));
    }
}

fn record_again(known: &mut MonitorItem, new: MonitorItem) {
    known.recording_count += 1;
    known.recalls += new.recalls;
    known.sorting_score = new.sorting_score;
    known.keywords_score = new.keywords_score;
    known.memory_text = new.memory_text;
    known.mapping_key = new.mapping_key;
    known.memory_id = new.memory_id.or_else(|| known.memory_id.take());
    known.weigh();
}
