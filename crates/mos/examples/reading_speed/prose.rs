//! English prose from a fixed seed; no two texts of one writer are equal.

use std::collections::HashSet;

const OPENINGS: [&str; 16] = [
    "In the first weeks of the season",
    "After the meeting in the old town hall",
    "When the results came back from the laboratory",
    "Before anybody had read the second report",
    "On the morning of the last inspection",
    "While the northern line was closed",
    "As soon as the harbour was free of ice",
    "During the long discussion about costs",
    "Although the budget had been approved",
    "Shortly after the bridge was opened",
    "Once the new instruments had arrived",
    "At the end of a quiet year",
    "Because the archive was being moved",
    "Even though the weather had turned",
    "Without waiting for the committee",
    "Two days after the harvest festival",
];

const ACTORS: [&str; 20] = [
    "the engineers",
    "Maria Lindqvist",
    "the harbour master",
    "a team from the university",
    "the younger of the two brothers",
    "our neighbours across the river",
    "the department of public works",
    "Dr. Okafor",
    "the night shift",
    "the owner of the mill",
    "three volunteers from the museum",
    "the council",
    "an apprentice",
    "the head gardener",
    "the surveyors",
    "my grandmother",
    "the editor of the newspaper",
    "a group of students",
    "the station manager",
    "Thomas and his daughter",
];

const ACTIONS: [&str; 20] = [
    "repaired",
    "measured",
    "described in detail",
    "refused to replace",
    "carefully catalogued",
    "drew a plan of",
    "spent a week comparing",
    "finally agreed to move",
    "wrote a long letter about",
    "quietly paid for",
    "photographed",
    "had almost forgotten",
    "set aside money for",
    "argued over",
    "inspected",
    "took apart and cleaned",
    "found a better use for",
    "made a list of",
    "asked an expert to judge",
    "returned to",
];

const OBJECTS: [&str; 20] = [
    "the pumps below the main hall",
    "every drawing from the first survey",
    "the roof of the greenhouse",
    "a collection of painted maps",
    "the sensors along the eastern wall",
    "the wooden footbridge",
    "the accounts of the past decade",
    "both of the damaged boats",
    "the oldest trees in the avenue",
    "the rules for visitors",
    "the clock in the tower",
    "an unusual set of letters",
    "the kitchen of the hostel",
    "the water supply of the village",
    "a new kind of insulation",
    "the timetable for the summer",
    "the telescope on the hill",
    "the foundations of the warehouse",
    "the choir's music library",
    "several crates of glass plates",
];

const PLACES: [&str; 16] = [
    "near the southern gate",
    "in a workshop outside the city",
    "on the third floor",
    "along the coast road",
    "behind the railway station",
    "in the cellar of the school",
    "at the edge of the forest",
    "between the two canals",
    "under the arches of the market",
    "in Bergen",
    "not far from the observatory",
    "at the foot of the dam",
    "in the valley of the upper river",
    "beside the ferry landing",
    "in a rented room",
    "on the island",
];

const REASONS: [&str; 20] = [
    "which nobody had expected",
    "because the earlier figures could not be trusted",
    "so that the work could go on in winter",
    "and kept the receipts for later",
    "although it took far longer than planned",
    "to everybody's relief",
    "as the insurance company had asked them to",
    "since there was no other way to be certain",
    "and published what they had learned",
    "in order to save about a third of the cost",
    "until the money ran out",
    "for reasons that were never written down",
    "and asked for a second opinion",
    "which changed how the place was used",
    "before the tourists arrived",
    "with tools that had been borrowed",
    "and told only a few friends about it",
    "as if it were the most ordinary thing",
    "while the others were still at lunch",
    "which is why the plan was changed again",
];

/// Writes sentences; the same seed writes the same.
pub(crate) struct Prose {
    state: u64,
    written: HashSet<String>,
}

impl Prose {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed | 1, written: HashSet::new() }
    }

    /// Returns a text of at least so many words in whole sentences, unlike any before.
    pub(crate) fn text(&mut self, n_words: usize) -> String {
        loop {
            let mut text = self.sentence();
            while text.split_whitespace().count() < n_words {
                text.push(' ');
                let sentence = self.sentence();
                text.push_str(&sentence);
            }
            if self.written.insert(text.clone()) {
                return text;
            }
        }
    }

    fn sentence(&mut self) -> String {
        let (opening, actor, action) = (self.one_of(&OPENINGS), self.one_of(&ACTORS), self.one_of(&ACTIONS));
        let (object, place, reason) = (self.one_of(&OBJECTS), self.one_of(&PLACES), self.one_of(&REASONS));
        match self.below(5) {
            0 => format!("{opening}, {actor} {action} {object} {place}."),
            1 => format!("{opening}, {actor} {action} {object}, {reason}."),
            2 => format!("{} {action} {object} {place}, {reason}.", capitalised(actor)),
            3 => {
                let (year, count) = (1950 + self.below(75), 2 + self.below(90));
                format!("In {year}, {actor} {action} {object} {place} for the sum of {count} thousand crowns.")
            }
            _ => {
                let other = self.one_of(&ACTORS);
                format!("{} {action} {object} {place}, but {other} thought little of it.", capitalised(actor))
            }
        }
    }

    fn one_of(&mut self, words: &[&'static str]) -> &'static str {
        words[self.below(words.len())]
    }

    /// A number below `n`: xorshift, whose upper bits are the better ones.
    fn below(&mut self, n: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 33) as usize % n
    }
}

fn capitalised(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
