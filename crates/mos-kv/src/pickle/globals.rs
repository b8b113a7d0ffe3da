//! The names that a file may use, and what calling them makes here. A name stands for an inert value: nothing is
//! imported, and a name that is not in this list ends the reading.

use std::ops::Range;
use std::sync::Arc;

use super::budget::Budget;
use super::error::{PickleError, shown};
use super::tensor::{Element, TensorType};
use super::time;
use super::torch;
use super::value::{Heap, Object, Source, Storage, TensorParts, Value, as_size};

/// A class whose instances are read as a set of named values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// An item that holds a cache.
    CacheItem,
    /// An item that holds a prompt for a server's own cache.
    PromptItem,
    /// The texts that an item was made from.
    Records,
    /// A cache: one entry per layer.
    Cache,
    /// The keys and values of one layer.
    Layer,
}

/// A name that the file may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    Class(Class),
    /// The class of a storage.
    Storage(Element),
    /// A type of tensor elements; nothing depends on it.
    ElementType,
    Device,
    RebuildTensor,
    LoadFromBytes,
    OrderedDict,
    Set,
    EmptyBytes,
    EncodeText,
    Reconstruct,
    /// Python's `object`, which old protocols name as the base of a class.
    BaseObject,
    DateTime,
    Date,
    TimeDelta,
    TimeZone,
}

/// Where a pickle comes from; it decides what the pickle may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Context {
    /// Written by Python's `pickle`: storages are streams within the pickle.
    Plain,
    /// Written by `torch.save`: storages lie beside the pickle and have names.
    Saved,
    /// Written by `torch.save`, and kept within another pickle: one storage and nothing else.
    Storage,
}

/// Returns what a name stands for; `None` refuses it.
pub(super) fn lookup(module: &str, name: &str, context: Context) -> Option<Global> {
    let storage = match (module, name) {
        ("torch", "FloatStorage") => Some(Element::Float(TensorType::F32)),
        ("torch", "HalfStorage") => Some(Element::Float(TensorType::F16)),
        ("torch", "BFloat16Storage") => Some(Element::Float(TensorType::Bf16)),
        ("torch", "DoubleStorage" | "LongStorage") => Some(Element::EightBytes),
        _ => None,
    };
    match (context, storage) {
        (Context::Saved | Context::Storage, Some(element)) => return Some(Global::Storage(element)),
        (Context::Plain, Some(_)) | (Context::Storage, None) => return None,
        (Context::Plain | Context::Saved, None) => {}
    }
    let global = match (module, name) {
        ("memos.memories.activation.item", "KVCacheItem") => Global::Class(Class::CacheItem),
        ("memos.memories.activation.item", "VLLMKVCacheItem") => Global::Class(Class::PromptItem),
        ("memos.memories.activation.item", "KVCacheRecords") => Global::Class(Class::Records),
        ("transformers.cache_utils", "DynamicCache") => Global::Class(Class::Cache),
        ("transformers.cache_utils", "DynamicLayer" | "DynamicSlidingWindowLayer") => Global::Class(Class::Layer),
        ("torch", "float32" | "float16" | "bfloat16" | "float64") => Global::ElementType,
        ("torch", "device") => Global::Device,
        ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch.storage", "_load_from_bytes") if context == Context::Plain => Global::LoadFromBytes,
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("builtins" | "__builtin__", "set" | "frozenset") => Global::Set,
        ("builtins" | "__builtin__", "bytes") => Global::EmptyBytes,
        ("builtins" | "__builtin__", "object") => Global::BaseObject,
        ("copyreg" | "copy_reg", "_reconstructor") => Global::Reconstruct,
        ("_codecs", "encode") => Global::EncodeText,
        ("datetime", "datetime") => Global::DateTime,
        ("datetime", "date") => Global::Date,
        ("datetime", "timedelta") => Global::TimeDelta,
        ("datetime", "timezone") => Global::TimeZone,
        _ => return None,
    };
    Some(global)
}

impl Global {
    /// Returns a name for messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Class(Class::CacheItem) => "KVCacheItem",
            Self::Class(Class::PromptItem) => "VLLMKVCacheItem",
            Self::Class(Class::Records) => "KVCacheRecords",
            Self::Class(Class::Cache) => "DynamicCache",
            Self::Class(Class::Layer) => "DynamicLayer",
            Self::Storage(_) => "a torch storage class",
            Self::ElementType => "a torch element type",
            Self::Device => "torch.device",
            Self::RebuildTensor => "torch._utils._rebuild_tensor_v2",
            Self::LoadFromBytes => "torch.storage._load_from_bytes",
            Self::OrderedDict => "collections.OrderedDict",
            Self::Set => "builtins.set",
            Self::EmptyBytes => "builtins.bytes",
            Self::BaseObject => "builtins.object",
            Self::Reconstruct => "copyreg._reconstructor",
            Self::EncodeText => "_codecs.encode",
            Self::DateTime => "datetime.datetime",
            Self::Date => "datetime.date",
            Self::TimeDelta => "datetime.timedelta",
            Self::TimeZone => "datetime.timezone",
        }
    }
}

/// Makes what a call of `global` makes.
pub(super) fn call<'a>(
    global: Global,
    arguments: &[Value<'a>],
    heap: &mut Heap<'a>,
    budget: &mut Budget,
    offset: usize,
) -> Result<Value<'a>, PickleError> {
    let refuse =
        |detail: &str| PickleError::Call { callable: global.name().to_owned(), offset, detail: detail.to_owned() };
    let object = match (global, arguments) {
        (Global::RebuildTensor, [storage, start, shape, strides, _requires_grad, _hooks]) => {
            let parts = tensor_parts([*storage, *start, *shape, *strides], heap, budget, offset)?;
            Object::Tensor(
                parts.ok_or_else(|| refuse("the arguments are not a storage, an offset, sizes and strides"))?,
            )
        }
        (Global::LoadFromBytes, [bytes]) => {
            let source = heap.source(*bytes).ok_or_else(|| refuse("the argument is not bytes"))?;
            Object::Storage(nested_storage(source, budget, offset)?)
        }
        (Global::OrderedDict, []) => Object::Dict(Vec::new()),
        (Global::Set, [items]) => {
            let items = heap.list(*items).ok_or_else(|| refuse("the argument is not a list"))?;
            budget.room::<Value<'_>>(items.len(), offset)?;
            Object::Set(items.to_vec())
        }
        (Global::EmptyBytes, []) => return Ok(Value::Bytes(&[])),
        (Global::EncodeText, [text, encoding]) => {
            if !matches!(heap.text(*encoding), Some("latin1" | "latin-1")) {
                return Err(refuse("the encoding is not latin1"));
            }
            let text = heap.text(*text).ok_or_else(|| refuse("the argument is not a text"))?;
            Object::Bytes(latin1(text, budget, offset)?.ok_or_else(|| refuse("the text is not latin1"))?)
        }
        (
            Global::Reconstruct,
            [Value::Global(Global::Class(class)), Value::Global(Global::BaseObject), Value::None],
        )
        | (Global::Reconstruct, [Value::Global(Global::Class(class)), Value::Global(Global::BaseObject)]) => {
            Object::Instance { class: *class, state: None }
        }
        (Global::Device, [_] | [_, _]) => Object::Opaque,
        (Global::DateTime | Global::Date, arguments) => {
            let text = time::point(global == Global::Date, arguments, heap);
            Object::Time(text.ok_or_else(|| refuse("the arguments are no point in time"))?)
        }
        (Global::TimeDelta, [Value::Int(days), Value::Int(seconds), Value::Int(0)]) => {
            let total = days.checked_mul(86_400).and_then(|of_days| of_days.checked_add(*seconds));
            Object::Seconds(total.ok_or_else(|| refuse("the difference is out of range"))?)
        }
        (Global::TimeZone, [offset_from_utc] | [offset_from_utc, _]) => match heap.of(*offset_from_utc) {
            Some(Object::Seconds(seconds)) => Object::Seconds(*seconds),
            _ => return Err(refuse("the argument is no difference in time")),
        },
        _ => return Err(refuse("no activation memory makes such a call")),
    };
    heap.keep(object, budget, offset)
}

/// Makes an instance without calling anything: what `NEWOBJ` asks for.
pub(super) fn instance<'a>(
    class: Value<'a>,
    arguments: &[Value<'a>],
    heap: &mut Heap<'a>,
    budget: &mut Budget,
    offset: usize,
) -> Result<Value<'a>, PickleError> {
    let refuse = |callable: &str, detail: &str| PickleError::Call {
        callable: callable.to_owned(),
        offset,
        detail: detail.to_owned(),
    };
    match class {
        Value::Global(Global::Class(class)) if arguments.is_empty() => {
            heap.keep(Object::Instance { class, state: None }, budget, offset)
        }
        Value::Global(global) => Err(refuse(global.name(), "it is made without arguments, or not at all")),
        other => Err(refuse(&describe(other), "it is not a class")),
    }
}

/// Names a value in a message.
pub(super) fn describe(value: Value<'_>) -> String {
    match value {
        Value::None => "None".to_owned(),
        Value::Bool(_) => "a truth value".to_owned(),
        Value::Int(_) | Value::Unsigned(_) | Value::Long(_) | Value::Float(_) => "a number".to_owned(),
        Value::Text(text) => format!("the text `{}`", shown(text)),
        Value::Bytes(_) => "bytes".to_owned(),
        Value::Global(global) => global.name().to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// Returns `None` when the values have other types.
fn tensor_parts<'a>(
    [storage, start, shape, strides]: [Value<'a>; 4],
    heap: &Heap<'a>,
    budget: &mut Budget,
    offset: usize,
) -> Result<Option<TensorParts>, PickleError> {
    /// `torch` has no more for strided tensors either.
    const MOST_DIMENSIONS: usize = 64;
    let (Value::Object(id), Some(Object::Storage(kept))) = (storage, heap.of(storage)) else { return Ok(None) };
    let (Some(start), Some(shape), Some(strides)) = (as_size(start), heap.tuple(shape), heap.tuple(strides)) else {
        return Ok(None);
    };
    if shape.len() != strides.len() || shape.len() > MOST_DIMENSIONS {
        return Ok(None);
    }
    budget.room::<usize>(2 * shape.len(), offset)?;
    let sizes = |values: &[Value<'_>]| values.iter().map(|value| as_size(*value)).collect::<Option<Vec<usize>>>();
    let (Some(shape), Some(strides)) = (sizes(shape), sizes(strides)) else { return Ok(None) };
    let parts = TensorParts { storage: id, offset: start, shape, strides };
    check_extent(&parts, kept.count, offset)?;
    Ok(Some(parts))
}

/// Refuses tensors that look beyond their storage, and those that are larger than it.
fn check_extent(parts: &TensorParts, count: usize, offset: usize) -> Result<(), PickleError> {
    let outside = || {
        PickleError::malformed(
            offset,
            format!("a tensor with the sizes {:?} looks beyond its {count} elements", parts.shape),
        )
    };
    let elements =
        parts.shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size)).ok_or_else(outside)?;
    if elements == 0 {
        return Ok(());
    }
    let last = parts
        .shape
        .iter()
        .zip(&parts.strides)
        .try_fold(parts.offset, |last, (size, stride)| last.checked_add((size - 1).checked_mul(*stride)?));
    if last.is_none_or(|last| last >= count) || elements > count {
        return Err(outside());
    }
    Ok(())
}

/// Reads the storage that `torch` kept as a stream within the pickle.
fn nested_storage<'a>(source: Source<'a>, budget: &mut Budget, offset: usize) -> Result<Storage<'a>, PickleError> {
    let (element, count, data): (Element, usize, Range<usize>) = torch::read_storage(source.bytes(), budget)
        .map_err(|error| PickleError::Storage { offset, source: Box::new(error) })?;
    Ok(Storage { element, count, data: Some((source, data)) })
}

/// Returns one byte per character, as old protocols write bytes; `None` when a character does not fit.
fn latin1(text: &str, budget: &mut Budget, offset: usize) -> Result<Option<Arc<[u8]>>, PickleError> {
    budget.memory(text.len(), offset)?;
    budget.steps(text.len(), offset)?;
    Ok(text
        .chars()
        .map(|character| u8::try_from(u32::from(character)).ok())
        .collect::<Option<Vec<u8>>>()
        .map(Arc::from))
}
