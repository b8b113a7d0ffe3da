//! Names inside keys: only letters, digits and `-_.`, everything else as `%` and two hexadecimal digits per byte.
//!
//! So a name holds none of the characters that part a key (`:`), a member of a set (a space) or a hash tag (braces), and
//! two names never become one.

use std::fmt::Write;

/// Returns a name as it stands in keys.
pub(super) fn encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Returns the name that was encoded. What [`encode`] did not make is taken as it stands.
pub(super) fn decode(encoded: &str) -> String {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend(before.bytes());
        match after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(b'%');
                rest = after;
            }
        }
    }
    bytes.extend(rest.bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_parts_a_key_is_encoded() {
        assert_eq!(encode("ann_1.x-y"), "ann_1.x-y");
        assert_eq!(encode("a:b c{d}%"), "a%3Ab%20c%7Bd%7D%25");
        assert_eq!(encode("记"), "%E8%AE%B0");
        assert_eq!(decode("100%"), "100%", "no code of ours");
    }

    proptest! {
        #[test]
        fn names_come_back_and_stay_apart(one in any::<String>(), other in any::<String>()) {
            prop_assert_eq!(decode(&encode(&one)), one.as_str());
            prop_assert_eq!(encode(&one) == encode(&other), one == other);
            prop_assert!(encode(&one).bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.%".contains(&byte)));
        }
    }
}
