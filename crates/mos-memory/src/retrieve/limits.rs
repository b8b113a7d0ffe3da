//! At most so many hits of each kind.

use std::collections::HashMap;

use mos_core::{Hit, KindLimits, MemoryType};

/// How many hits of the special kinds may be returned beside the plain ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memories of conversations, files and the web, working memory included.
    pub plain: usize,
    /// Descriptions of tools, and as many stories of their use.
    pub tools: usize,
    /// Procedures.
    pub skills: usize,
    /// Preferences.
    pub preferences: usize,
}

impl Limits {
    /// None of the special kinds.
    pub fn new(plain: usize) -> Self {
        Self { plain, tools: 0, skills: 0, preferences: 0 }
    }

    /// What a request for `top_k` plain memories says about the others.
    pub(crate) fn asked(top_k: usize, kinds: KindLimits) -> Self {
        Self { plain: top_k, tools: kinds.tools, skills: kinds.skills, preferences: top_k }
    }

    /// How many hits there can be at most.
    pub(crate) fn total(self) -> usize {
        let special = self.tools.saturating_mul(2).saturating_add(self.skills).saturating_add(self.preferences);
        self.plain.saturating_add(special)
    }

    fn of(self, kind: Option<MemoryType>) -> usize {
        match kind {
            Some(MemoryType::ToolSchema | MemoryType::ToolTrajectory) => self.tools,
            Some(MemoryType::Skill) => self.skills,
            Some(MemoryType::Preference) => self.preferences,
            _ => self.plain,
        }
    }

    /// Returns the hits within the limits, in their order.
    pub fn apply(self, hits: Vec<Hit>) -> Vec<Hit> {
        let mut n_taken: HashMap<Option<MemoryType>, usize> = HashMap::new();
        let within = hits.into_iter().filter(|hit| {
            let kind = shelf(hit);
            let taken = n_taken.entry(kind).or_default();
            *taken += 1;
            *taken <= self.of(kind)
        });
        within.collect()
    }
}

/// The special kind of a hit; `None` for the plain ones, which share a limit.
fn shelf(hit: &Hit) -> Option<MemoryType> {
    let kind = hit.item.metadata.tree().map(|fields| fields.memory_type)?;
    use MemoryType::{Preference, Skill, ToolSchema, ToolTrajectory};
    matches!(kind, ToolSchema | ToolTrajectory | Skill | Preference).then_some(kind)
}

/// Whether a hit is one of those for which [`KindLimits`] has numbers.
pub(crate) fn is_tool_or_skill(hit: &Hit) -> bool {
    matches!(shelf(hit), Some(MemoryType::ToolSchema | MemoryType::ToolTrajectory | MemoryType::Skill))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hit(number: u8, kind: &str) -> Hit {
        let id = format!("00000000-0000-4000-8000-0000000000{number:02}");
        let value = json!({"id": id, "memory": kind, "metadata": {"memory_type": kind}});
        Hit::new(mos_core::MemoryItem::from_value(value, String::new).unwrap(), 1.0, 1.0, Vec::new())
    }

    #[test]
    fn each_kind_has_its_own_limit_and_the_order_stays() {
        let kinds = [
            "LongTermMemory",
            "ToolSchemaMemory",
            "UserMemory",
            "ToolTrajectoryMemory",
            "ToolSchemaMemory",
            "SkillMemory",
            "WorkingMemory",
            "PreferenceMemory",
        ];
        let hits: Vec<Hit> = kinds.iter().zip(1..).map(|(kind, number)| hit(number, kind)).collect();
        let kept = |limits: Limits| -> Vec<String> {
            limits.apply(hits.clone()).into_iter().map(|hit| hit.item.memory).collect()
        };
        assert_eq!(kept(Limits::new(2)), ["LongTermMemory", "UserMemory"]);
        let all = Limits { plain: 9, tools: 1, skills: 1, preferences: 1 };
        assert_eq!(
            kept(all),
            [
                "LongTermMemory",
                "ToolSchemaMemory",
                "UserMemory",
                "ToolTrajectoryMemory",
                "SkillMemory",
                "WorkingMemory",
                "PreferenceMemory"
            ]
        );
    }
}
