//! What memories can be promoted to.

use mos_core::MemoryError;

/// A kind of memory that plain text may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PromotionTarget {
    /// Computed state that stands before conversations.
    Activation,
    /// Weights of a model.
    Parametric,
}

impl PromotionTarget {
    /// Returns the target of a word: `activation` or `parametric`, also with `_memory` behind it.
    ///
    /// # Errors
    /// [`MemoryError::Invalid`] for other words.
    pub fn parse(word: &str) -> Result<Self, MemoryError> {
        match word.strip_suffix("_memory").unwrap_or(word) {
            "activation" => Ok(Self::Activation),
            "parametric" => Ok(Self::Parametric),
            _ => Err(MemoryError::Invalid(format!(
                "memories cannot be promoted to `{word}`; the one target there is is `activation`"
            ))),
        }
    }

    /// Refuses a target that nothing can be promoted to.
    ///
    /// # Errors
    /// [`MemoryError::Unsupported`] for [`PromotionTarget::Parametric`].
    pub fn check(self) -> Result<(), MemoryError> {
        match self {
            Self::Activation => Ok(()),
            Self::Parametric => Err(MemoryError::Unsupported(
                "memories cannot be promoted to parametric memory: no model is trained here, and what is in weights cannot be \
                 taken back, corrected or traced; promote them to `activation` memory, which gives the same answers as the \
                 text itself and can be withdrawn"
                    .to_owned(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parametric_memory_is_refused_with_the_way_out() {
        PromotionTarget::parse("activation").unwrap().check().unwrap();
        let error = PromotionTarget::parse("parametric_memory").unwrap().check().unwrap_err();
        assert!(matches!(error, MemoryError::Unsupported(_)) && error.to_string().contains("`activation`"), "{error}");
        assert!(PromotionTarget::parse("weights").unwrap_err().to_string().contains("`weights`"));
    }
}
