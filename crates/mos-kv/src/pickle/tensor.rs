//! Tensors as views of a file, and the one copy that turns them into rows.

use half::{bf16, f16};

use super::error::PickleError;
use super::value::Source;

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorType {
    /// `torch.float32`
    F32,
    /// `torch.float16`
    F16,
    /// `torch.bfloat16`
    Bf16,
}

impl TensorType {
    /// Returns the bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// The type of a storage's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    Float(TensorType),
    /// `torch.int64` or `torch.float64`: caches hold such tensors beside keys and values.
    EightBytes,
}

impl Element {
    /// Returns the bytes of one element.
    pub(super) fn size(self) -> usize {
        match self {
            Self::Float(float) => float.size(),
            Self::EightBytes => 8,
        }
    }
}

/// The keys, or the values, of one layer: a view of the file, `[1, heads, tokens, head_dim]`.
#[derive(Clone, Debug)]
pub struct ImportedTensor<'a> {
    pub(super) element: TensorType,
    pub(super) shape: [usize; 4],
    pub(super) strides: [usize; 4],
    pub(super) offset: usize,
    /// The stream that holds the storage, and the storage's first byte in it.
    pub(super) source: Source<'a>,
    pub(super) start: usize,
}

impl ImportedTensor<'_> {
    /// Returns the type of the elements in the file.
    pub fn element_type(&self) -> TensorType {
        self.element
    }

    /// Returns `[1, heads, tokens, head_dim]`.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Returns the number of heads that have keys and values of their own.
    pub fn heads(&self) -> usize {
        self.shape[1]
    }

    /// Returns the number of tokens.
    pub fn tokens(&self) -> usize {
        self.shape[2]
    }

    /// Returns the length of a head's key.
    pub fn head_dim(&self) -> usize {
        self.shape[3]
    }

    /// Copies the elements as `f32`, `[heads, tokens, head_dim]`, row by row.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut result = Vec::with_capacity(self.elements());
        self.for_each(|value| result.push(value));
        result
    }

    /// Copies the elements as `f16` bits, `[heads, tokens, head_dim]`, row by row, each rounded to the nearest.
    ///
    /// # Errors
    /// [`PickleError::Range`] when an element is not finite or is too large.
    pub fn to_f16_bits(&self) -> Result<Vec<u16>, PickleError> {
        let mut result = Vec::with_capacity(self.elements());
        let mut outside = None;
        self.for_each(|value| {
            let half = f16::from_f32(value);
            if !half.is_finite() {
                outside.get_or_insert(value);
            }
            result.push(half.to_bits());
        });
        match outside {
            None => Ok(result),
            Some(value) => Err(PickleError::Range { value: value.to_string() }),
        }
    }

    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    fn for_each(&self, each: impl FnMut(f32)) {
        match self.element {
            TensorType::F32 => self.walk(f32::from_le_bytes, each),
            TensorType::F16 => self.walk(|bytes| f16::from_le_bytes(bytes).to_f32(), each),
            TensorType::Bf16 => self.walk(|bytes| bf16::from_le_bytes(bytes).to_f32(), each),
        }
    }

    /// Visits the elements in the order of heads, tokens, dimensions.
    fn walk<const N: usize>(&self, decode: impl Fn([u8; N]) -> f32, mut each: impl FnMut(f32)) {
        // Strides of a tensor without elements mean nothing and may be anything.
        if self.elements() == 0 {
            return;
        }
        let (elements, _) = self.source.bytes()[self.start..].as_chunks::<N>();
        let [_, heads, tokens, head_dim] = self.shape;
        let [_, of_head, of_token, of_dimension] = self.strides;
        for head in 0..heads {
            for token in 0..tokens {
                let first = self.offset + head * of_head + token * of_token;
                for dimension in 0..head_dim {
                    each(decode(elements[first + dimension * of_dimension]));
                }
            }
        }
    }
}
