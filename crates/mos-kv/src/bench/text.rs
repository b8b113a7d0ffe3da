//! Natural text of any length, different for every number.

/// Who.
const PEOPLE: [&str; 16] = [
    "My sister Clara",
    "Our neighbour Tom",
    "The baker on the corner",
    "An old friend from school",
    "Doctor Lindqvist",
    "My colleague Priya",
    "The new gardener",
    "Grandmother Ilse",
    "A violinist I met on the train",
    "Captain Okafor",
    "The librarian",
    "My cousin Mateo",
    "Professor Hayashi",
    "The ferryman",
    "Little Anna from upstairs",
    "Our landlord",
];
/// Did what.
const DEEDS: [&str; 20] = [
    "told me about a journey through the mountains",
    "has been learning to bake bread with rye flour",
    "repaired the old clock that stood still for years",
    "planted eleven apple trees behind the house",
    "lost a blue umbrella somewhere between the station and the museum",
    "writes long letters about the weather",
    "is allergic to walnuts and always asks before eating",
    "keeps bees and gives away the honey in autumn",
    "moved from a small harbour town to the capital",
    "never drinks coffee after four in the afternoon",
    "is preparing a talk about the history of paper",
    "adopted a grey cat with one white ear",
    "sold the red bicycle to a student for forty crowns",
    "studies the stars with a telescope on the roof",
    "sings in a choir that meets in the town hall",
    "found a Roman coin while digging a well",
    "translates poems from Portuguese for a small press",
    "swims across the lake every morning before work",
    "wants to visit the lighthouse at the northern cape",
    "forgot the key in the door twice this month",
];
/// When or where.
const CIRCUMSTANCES: [&str; 14] = [
    "last winter, when the river froze",
    "on the first Sunday of May",
    "in the house by the canal",
    "although nobody had expected it",
    "because the doctor recommended it",
    "together with two friends from Lisbon",
    "after the long strike of the railway",
    "during the week of the market",
    "while it rained for nine days",
    "shortly before the bridge was closed",
    "with more patience than skill",
    "in the year of the great harvest",
    "far away from the noise of the city",
    "just as the lamps were being lit",
];
/// And then.
const CONSEQUENCES: [&str; 16] = [
    "We talked about it for a whole evening.",
    "I still remember the smell of the wet leaves.",
    "Nobody believed it at first, but the photographs were convincing.",
    "It cost less than the two of us had feared.",
    "Since then we meet every second Thursday.",
    "The dog slept through all of it.",
    "There is a short report about it in the local newspaper.",
    "I promised to help as soon as my knee is better.",
    "Perhaps we should write that down before it is forgotten.",
    "The children asked a hundred questions.",
    "What remains is a box of maps and a rusty compass.",
    "My brother laughed and put the kettle on.",
    "In the end everything was finished before dark.",
    "That is why the meeting was moved to Friday.",
    "Of course the train was late again.",
    "We agreed that it had been worth the effort.",
];

/// A small generator of numbers (SplitMix64): the same text on every machine.
struct Numbers(u64);

impl Numbers {
    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        from[((mixed ^ (mixed >> 31)) % from.len() as u64) as usize]
    }
}

/// Returns at least `bytes` bytes of English prose; another one for every `number`.
pub fn prose(number: usize, bytes: usize) -> String {
    let mut numbers = Numbers(number as u64 + 1);
    let mut text = format!("Notes, volume {}. ", number + 1);
    while text.len() < bytes {
        let (who, deed) = (numbers.pick(&PEOPLE), numbers.pick(&DEEDS));
        let (when, then) = (numbers.pick(&CIRCUMSTANCES), numbers.pick(&CONSEQUENCES));
        text.push_str(&format!("{who} {deed} {when}. {then} "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_long_enough_and_differ() {
        let (one, two) = (prose(0, 5000), prose(1, 5000));
        assert!(one.len() >= 5000 && one != two);
        assert_eq!(one, prose(0, 5000), "and are the same every time");
    }
}
