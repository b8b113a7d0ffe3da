//! The latest questions of a user, and how often their keywords occur.

use std::collections::VecDeque;

use jiff::Timestamp;
use mos_core::{CubeId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{MAX_QUERY, clipped};
use crate::message::{naive, python_json};

/// The most keywords of a question.
const MAX_KEYWORDS: usize = 20;

/// The most characters of a keyword.
const MAX_KEYWORD: usize = 100;

/// The most questions that are kept.
const MAX_QUESTIONS: usize = 20;

/// A question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueryItem {
    /// The message that asked it.
    pub item_id: String,
    /// Who asked.
    pub user_id: UserId,
    /// Which cube.
    pub mem_cube_id: CubeId,
    /// The question.
    pub query_text: String,
    /// What it is about.
    pub keywords: Vec<String>,
    /// When it was asked, in UTC; written without an offset.
    #[serde(with = "naive")]
    pub timestamp: Timestamp,
}

/// The latest questions of a user about a cube; the oldest goes when there is no room.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueryMonitor {
    /// How many questions are kept.
    pub capacity: usize,
    /// The questions, oldest first.
    pub items: VecDeque<QueryItem>,
}

impl Default for QueryMonitor {
    /// MemOS' window of 5 questions.
    fn default() -> Self {
        Self::new(5)
    }
}

impl QueryMonitor {
    /// Returns an empty one that keeps so many questions, from 1 to 20.
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.clamp(1, MAX_QUESTIONS), items: VecDeque::new() }
    }

    /// Takes a question in. One of the same message takes the place of the one that is there.
    pub fn put(&mut self, mut item: QueryItem) {
        item.query_text = clipped(&item.query_text, MAX_QUERY);
        item.keywords.truncate(MAX_KEYWORDS);
        item.keywords = item.keywords.iter().map(|keyword| clipped(keyword, MAX_KEYWORD)).collect();
        if let Some(known) = self.items.iter_mut().find(|known| known.item_id == item.item_id) {
            *known = item;
            return;
        }
        self.items.push_back(item);
        self.resize(self.capacity);
    }

    /// Keeps so many questions from now on.
    pub fn resize(&mut self, capacity: usize) {
        self.capacity = capacity.clamp(1, MAX_QUESTIONS);
        while self.items.len() > self.capacity {
            self.items.pop_front();
        }
    }

    /// The questions, the latest first.
    pub fn queries(&self) -> Vec<&str> {
        self.items.iter().rev().map(|item| item.query_text.as_str()).collect()
    }

    /// In how many questions each keyword stands, in the order in which they first came up.
    pub fn keywords(&self) -> Vec<(String, u64)> {
        let mut counts: Vec<(String, u64)> = Vec::new();
        for keyword in self.items.iter().flat_map(|item| &item.keywords) {
            match counts.iter_mut().find(|(known, _)| known == keyword) {
                Some((_, count)) => *count += 1,
                None => counts.push((keyword.clone(), 1)),
            }
        }
        counts
    }

    /// Returns it in MemOS' form: the capacity, and each question as a text of JSON, oldest first.
    pub fn to_memos(&self) -> Value {
        let items: Vec<String> = self.items.iter().map(|item| python_json(&json!(item))).collect();
        json!({"maxsize": self.capacity, "items": items})
    }
}
