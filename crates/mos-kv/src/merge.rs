//! Several caches as one prefix.
//!
//! | strategy | keys | recomputed | exact |
//! |---|---|---|---|
//! | `prefix_tree` | as computed in context | what no stored prefix covers | yes |
//! | `concat` | as rotated when each item was computed alone | nothing | no |
//! | `shifted` | attended where they stand | nothing | no |
//! | `lego:k` | attended where they stand | the first `k` tokens of every item but the first | when `k` covers the items |
//! | `blend:ratio` | rotated to where they stand | the tokens whose context matters most | at ratio 1 |
//!
//! Nothing is copied except by `blend`: a prefix shares the items' segments.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use mos_core::ModelError;
use mos_engine::{CancelToken, Decoder, KvPart, KvPrefix, KvSegment, LogitRows};
use serde::{Deserialize, Serialize};

use crate::error::KvError;

/// Tokens that `lego` recomputes per item when nothing else is said.
pub const DEFAULT_LEGO_TOKENS: usize = 16;
/// Share of the tokens that `blend` recomputes when nothing else is said.
pub const DEFAULT_BLEND_RATIO: f32 = 0.15;
/// The layer whose keys and values decide what `blend` recomputes: the first that sees any context.
const BLEND_SELECT_LAYER: usize = 1;

/// A way to make one prefix of several items. As text: `prefix_tree`, `concat`, `shifted`, `lego` or `lego:16`,
/// `blend` or `blend:0.15`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum MergeStrategy {
    /// Exact: the longest stored prefix is reused and the rest computed.
    PrefixTree,
    /// As upstream does it: keys and values joined in order, positions as they were.
    Concat,
    /// Joined in order, positions corrected.
    Shifted,
    /// As `Shifted`, with the beginning of every item but the first computed in context.
    Lego {
        /// Tokens of each item.
        k: usize,
    },
    /// As `Shifted`, with the tokens that their context changes most recomputed.
    Blend {
        /// Share of the tokens, from 0 to 1.
        ratio: f32,
    },
}

impl MergeStrategy {
    /// The strategies that are not exact, with their usual settings, from the cheapest to the dearest.
    pub const LOSSY: [Self; 4] = [
        Self::Concat,
        Self::Shifted,
        Self::Lego { k: DEFAULT_LEGO_TOKENS },
        Self::Blend { ratio: DEFAULT_BLEND_RATIO },
    ];

    /// Returns whether results may differ from those of a prompt that is computed as a whole.
    pub fn is_lossy(self) -> bool {
        self != Self::PrefixTree
    }

    fn check(self) -> Result<Self, KvError> {
        match self {
            Self::Blend { ratio } if !(0.0..=1.0).contains(&ratio) => {
                Err(KvError::Invalid(format!("the ratio of `blend` is {ratio}; it must be from 0 to 1")))
            }
            other => Ok(other),
        }
    }
}

impl fmt::Display for MergeStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PrefixTree => f.write_str("prefix_tree"),
            Self::Concat => f.write_str("concat"),
            Self::Shifted => f.write_str("shifted"),
            Self::Lego { k } => write!(f, "lego:{k}"),
            Self::Blend { ratio } => write!(f, "blend:{ratio}"),
        }
    }
}

impl From<MergeStrategy> for String {
    fn from(strategy: MergeStrategy) -> Self {
        strategy.to_string()
    }
}

impl FromStr for MergeStrategy {
    type Err = KvError;

    fn from_str(text: &str) -> Result<Self, KvError> {
        let (name, setting) = match text.split_once(':') {
            Some((name, setting)) => (name, Some(setting)),
            None => (text, None),
        };
        let refused = || {
            KvError::Invalid(format!(
                "there is no merge strategy `{text}`; use prefix_tree, concat, shifted, lego:TOKENS or blend:RATIO"
            ))
        };
        match (name, setting) {
            ("prefix_tree", None) => Ok(Self::PrefixTree),
            ("concat", None) => Ok(Self::Concat),
            ("shifted", None) => Ok(Self::Shifted),
            ("lego", None) => Ok(Self::Lego { k: DEFAULT_LEGO_TOKENS }),
            ("lego", Some(k)) => Ok(Self::Lego { k: k.parse().map_err(|_| refused())? }),
            ("blend", None) => Ok(Self::Blend { ratio: DEFAULT_BLEND_RATIO }),
            ("blend", Some(ratio)) => Self::Blend { ratio: ratio.parse().map_err(|_| refused())? }.check(),
            _ => Err(refused()),
        }
    }
}

impl TryFrom<String> for MergeStrategy {
    type Error = KvError;

    fn try_from(text: String) -> Result<Self, KvError> {
        text.parse()
    }
}

/// A named strategy, or the memory's own choice (`auto`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum MergeChoice {
    /// Exact, unless a lossy strategy passed its calibration with this model.
    #[default]
    Auto,
    /// This one, calibrated or not.
    Named(MergeStrategy),
}

impl From<MergeStrategy> for MergeChoice {
    fn from(strategy: MergeStrategy) -> Self {
        Self::Named(strategy)
    }
}

impl fmt::Display for MergeChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Named(strategy) => strategy.fmt(f),
        }
    }
}

impl From<MergeChoice> for String {
    fn from(choice: MergeChoice) -> Self {
        choice.to_string()
    }
}

impl FromStr for MergeChoice {
    type Err = KvError;

    fn from_str(text: &str) -> Result<Self, KvError> {
        if text == "auto" { Ok(Self::Auto) } else { text.parse().map(Self::Named) }
    }
}

impl TryFrom<String> for MergeChoice {
    type Error = KvError;

    fn try_from(text: String) -> Result<Self, KvError> {
        text.parse()
    }
}

/// Makes one prefix of segments of one model, in order; `prefix_tree` starts from the first segment.
///
/// # Errors
/// [`KvError::TooLong`] when the segments together exceed the model's context; [`KvError::Invalid`] for a ratio
/// outside of 0 to 1; [`KvError::Model`], also for segments of another model than the decoder's.
pub fn merge(
    decoder: &Decoder,
    segments: &[Arc<KvSegment>],
    strategy: MergeStrategy,
    cancel: &CancelToken,
) -> Result<KvPrefix, KvError> {
    let n_tokens = segments.iter().map(|segment| segment.len()).sum();
    let limit = decoder.spec().context_length;
    if n_tokens > limit {
        return Err(KvError::TooLong { n_tokens, limit });
    }
    match strategy.check()? {
        MergeStrategy::PrefixTree => {
            let known = concat(&segments[..segments.len().min(1)])?;
            let tokens: Vec<u32> = segments.iter().flat_map(|segment| segment.tokens()).copied().collect();
            exact(decoder, &known, &tokens, cancel)
        }
        MergeStrategy::Concat => concat(segments),
        MergeStrategy::Shifted => shifted(segments),
        MergeStrategy::Lego { k } => lego(decoder, segments, k, cancel),
        MergeStrategy::Blend { ratio } => {
            let layer = BLEND_SELECT_LAYER.min(decoder.spec().layers - 1);
            let mut result = KvPrefix::default();
            if n_tokens > 0 {
                result.push(Arc::new(decoder.blend(&shifted(segments)?, ratio, layer, cancel)?));
            }
            Ok(result)
        }
    }
}

/// Joins segments in order, keys as they were rotated: per layer, the rows of the result are those of the segments
/// one after the other. Nothing is copied.
///
/// # Errors
/// [`KvError::Model`] when the segments are of several models.
pub fn concat(segments: &[Arc<KvSegment>]) -> Result<KvPrefix, KvError> {
    let mut prefix = KvPrefix::default();
    for segment in segments {
        prefix.push_part(KvPart::whole(Arc::clone(segment)))?;
    }
    Ok(prefix)
}

/// Joins segments in order; each is attended as if it had been computed where it stands. Nothing is copied.
///
/// # Errors
/// [`KvError::Model`] when the segments are of several models.
pub fn shifted(segments: &[Arc<KvSegment>]) -> Result<KvPrefix, KvError> {
    let mut prefix = KvPrefix::default();
    for segment in segments {
        let place = prefix.len();
        prefix.push_part(KvPart::whole(Arc::clone(segment)).at(place))?;
    }
    Ok(prefix)
}

/// As [`shifted`], with the first `k` tokens of every segment but the first computed in context.
fn lego(decoder: &Decoder, segments: &[Arc<KvSegment>], k: usize, cancel: &CancelToken) -> Result<KvPrefix, KvError> {
    let mut prefix = shifted(&segments[..segments.len().min(1)])?;
    for segment in segments.iter().skip(1) {
        let fresh = k.min(segment.len());
        if fresh > 0 {
            let mut tail = decoder.new_tail();
            decoder.forward(&segment.tokens()[..fresh], &prefix, &mut tail, LogitRows::None, cancel)?;
            prefix.push(Arc::new(tail.freeze()?));
        }
        if fresh < segment.len() {
            let rest = KvPart { segment: Arc::clone(segment), range: fresh..segment.len(), shift: 0 };
            let place = prefix.len();
            prefix.push_part(rest.at(place))?;
        }
    }
    Ok(prefix)
}

/// Returns the exact prefix of `tokens`: as much of `known` as is exact and fits is reused, the rest is computed.
///
/// # Errors
/// [`KvError::TooLong`]; [`KvError::Model`].
pub fn exact(decoder: &Decoder, known: &KvPrefix, tokens: &[u32], cancel: &CancelToken) -> Result<KvPrefix, KvError> {
    let limit = decoder.spec().context_length;
    if tokens.len() > limit {
        return Err(KvError::TooLong { n_tokens: tokens.len(), limit });
    }
    let mut prefix = known.truncated(common(known, tokens).min(known.exact_len()));
    if prefix.len() < tokens.len() {
        let mut tail = decoder.new_tail();
        decoder.forward(&tokens[prefix.len()..], &prefix, &mut tail, LogitRows::None, cancel)?;
        prefix.push(Arc::new(tail.freeze()?));
    }
    if !prefix.is_exact() {
        let source = "an exact prefix came out inexact";
        return Err(KvError::Model(ModelError::Internal { context: "merging caches", source: source.into() }));
    }
    Ok(prefix)
}

/// How many of the first tokens of a prefix are those of a sequence.
pub(crate) fn common(prefix: &KvPrefix, tokens: &[u32]) -> usize {
    prefix.tokens().zip(tokens).take_while(|(a, b)| a == *b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let strategies = MergeStrategy::LOSSY.into_iter().chain([
            MergeStrategy::PrefixTree,
            MergeStrategy::Lego { k: 0 },
            MergeStrategy::Blend { ratio: 1.0 },
        ]);
        for strategy in strategies {
            let text = serde_json::to_string(&strategy).unwrap();
            assert_eq!(serde_json::from_str::<MergeStrategy>(&text).unwrap(), strategy, "{text}");
        }
        assert_eq!("lego".parse::<MergeStrategy>().unwrap(), MergeStrategy::Lego { k: 16 });
        assert_eq!("auto".parse::<MergeChoice>().unwrap(), MergeChoice::Auto);
        assert_eq!("concat".parse::<MergeChoice>().unwrap(), MergeStrategy::Concat.into());
        for bad in ["", "Concat", "lego:", "lego:-1", "blend:1.5", "blend:NaN", "concat:3", "prefix_tree:1"] {
            assert!(matches!(bad.parse::<MergeStrategy>(), Err(KvError::Invalid(_))), "{bad}");
        }
    }
}
