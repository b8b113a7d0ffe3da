//! What a pickle's instructions make: inert values. Objects lie in one arena and refer to each other by number, so
//! that neither loops nor deep nesting in a file cost anything when they are dropped.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::budget::Budget;
use super::error::PickleError;
use super::globals::{Class, Global};
use super::tensor::Element;

/// The number of an object in the [`Heap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ObjectId(u32);

/// One value; texts and bytes are parts of the file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond `i64`.
    Unsigned(u64),
    /// An integer beyond `u64`: two's complement, lowest byte first.
    Long(&'a [u8]),
    Float(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Global(Global),
    Object(ObjectId),
}

/// What does not fit into a [`Value`].
#[derive(Debug)]
pub(super) enum Object<'a> {
    Tuple(Vec<Value<'a>>),
    List(Vec<Value<'a>>),
    Set(Vec<Value<'a>>),
    Dict(Vec<(Value<'a>, Value<'a>)>),
    /// A text that the file holds in escaped form.
    Text(String),
    /// Bytes that the file holds in escaped form.
    Bytes(Arc<[u8]>),
    Instance {
        class: Class,
        state: Option<Value<'a>>,
    },
    Storage(Storage<'a>),
    Tensor(TensorParts),
    /// A date or a point in time, as ISO 8601.
    Time(String),
    /// A difference in time, or a time zone's offset, in seconds.
    Seconds(i64),
    /// Something that nothing is asked about, for example a device.
    Opaque,
}

/// Bytes of a file, or bytes that were held in escaped form.
#[derive(Clone, Debug)]
pub(super) enum Source<'a> {
    File(&'a [u8]),
    Owned(Arc<[u8]>),
}

impl Source<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::File(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

/// The elements that one or several tensors look at.
#[derive(Clone, Debug)]
pub(super) struct Storage<'a> {
    pub(super) element: Element,
    /// Number of elements.
    pub(super) count: usize,
    /// Where the elements are; `None` until the part of the file that holds them was read.
    pub(super) data: Option<(Source<'a>, Range<usize>)>,
}

/// What `torch` rebuilds a tensor from; checked against the storage.
#[derive(Clone, Debug)]
pub(super) struct TensorParts {
    pub(super) storage: ObjectId,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// All objects of a file, and the storages by their names in it.
#[derive(Debug, Default)]
pub(super) struct Heap<'a> {
    objects: Vec<Object<'a>>,
    /// Storages that a persistent id named.
    pub(super) named: HashMap<&'a str, ObjectId>,
}

impl<'a> Heap<'a> {
    /// Keeps an object; what its parts cost is the caller's to count.
    pub(super) fn keep(
        &mut self,
        object: Object<'a>,
        budget: &mut Budget,
        offset: usize,
    ) -> Result<Value<'a>, PickleError> {
        budget.room::<Object<'a>>(1, offset)?;
        let Ok(id) = u32::try_from(self.objects.len()) else {
            return Err(PickleError::TooMuch { what: "the number of objects", offset });
        };
        self.objects.push(object);
        Ok(Value::Object(ObjectId(id)))
    }

    pub(super) fn object(&self, id: ObjectId) -> &Object<'a> {
        &self.objects[id.0 as usize]
    }

    pub(super) fn object_mut(&mut self, id: ObjectId) -> &mut Object<'a> {
        &mut self.objects[id.0 as usize]
    }

    /// Returns the object of a value, if it is one.
    pub(super) fn of(&self, value: Value<'a>) -> Option<&Object<'a>> {
        if let Value::Object(id) = value { Some(self.object(id)) } else { None }
    }

    pub(super) fn text(&self, value: Value<'a>) -> Option<&str> {
        match (value, self.of(value)) {
            (Value::Text(text), _) => Some(text),
            (_, Some(Object::Text(text))) => Some(text),
            _ => None,
        }
    }

    pub(super) fn source(&self, value: Value<'a>) -> Option<Source<'a>> {
        match (value, self.of(value)) {
            (Value::Bytes(bytes), _) => Some(Source::File(bytes)),
            (_, Some(Object::Bytes(bytes))) => Some(Source::Owned(Arc::clone(bytes))),
            _ => None,
        }
    }

    pub(super) fn tuple(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        if let Some(Object::Tuple(items)) = self.of(value) { Some(items) } else { None }
    }

    pub(super) fn list(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        if let Some(Object::List(items)) = self.of(value) { Some(items) } else { None }
    }

    pub(super) fn dict(&self, value: Value<'a>) -> Option<&[(Value<'a>, Value<'a>)]> {
        if let Some(Object::Dict(pairs)) = self.of(value) { Some(pairs) } else { None }
    }
}

/// Returns a number that counts or measures something.
pub(super) fn as_size(value: Value<'_>) -> Option<usize> {
    if let Value::Int(number) = value { usize::try_from(number).ok() } else { None }
}
