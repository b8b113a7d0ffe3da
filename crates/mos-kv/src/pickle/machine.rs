//! Runs a pickle's instructions over inert values. An instruction that is not in [`Machine::step`] ends the reading.

use std::collections::HashMap;

use super::budget::Budget;
use super::cursor::Cursor;
use super::error::{PickleError, shown};
use super::globals::{Context, Global, call, describe, instance, lookup};
use super::literal;
use super::opcode;
use super::value::{Heap, Object, Storage, Value, as_size};

/// The newest protocol there is.
const NEWEST_PROTOCOL: u8 = 5;

/// Collections that may be under construction at a time; Python's own writer stops near this depth too.
const MOST_OPEN: usize = 1000;

/// Reads one pickle, from the cursor's place to its `STOP`, and returns what is left on the stack.
///
/// # Errors
/// Whatever is not allowed in `context`, damaged, or more than the budget has.
pub(super) fn read_pickle<'a>(
    cursor: &mut Cursor<'a>,
    context: Context,
    heap: &mut Heap<'a>,
    budget: &mut Budget,
) -> Result<Value<'a>, PickleError> {
    let mut machine = Machine {
        cursor,
        context,
        heap,
        budget,
        at: 0,
        stack: Vec::new(),
        most: 0,
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    loop {
        if let Some(result) = machine.step()? {
            return Ok(result);
        }
    }
}

struct Machine<'a, 'm> {
    cursor: &'m mut Cursor<'a>,
    context: Context,
    heap: &'m mut Heap<'a>,
    budget: &'m mut Budget,
    /// Where the instruction stands that is being run.
    at: usize,
    stack: Vec<Value<'a>>,
    /// The most values that the stack has held: that much is paid for.
    most: usize,
    /// Heights of the stack at which collections begin.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
}

impl<'a> Machine<'a, '_> {
    /// Runs one instruction; returns the result at the last one.
    fn step(&mut self) -> Result<Option<Value<'a>>, PickleError> {
        self.at = self.cursor.offset();
        self.budget.steps(1, self.at)?;
        let opcode = self.cursor.u8("the pickle: its last instruction is missing")?;
        match opcode {
            b'.' => return self.pop().map(Some),
            0x80 => self.protocol()?,
            0x95 => self.frame()?,
            b'(' => self.mark()?,
            b'0' => self.discard()?,
            b'1' => drop(self.pop_to_mark()?),
            b'2' => self.duplicate()?,
            b'p' | b'q' | b'r' | 0x94 => self.remember(opcode)?,
            b'g' | b'h' | b'j' => self.recall(opcode)?,
            b']' | b'}' | b')' | 0x8f | b'l' | b'd' | b't' | 0x85..=0x87 | 0x91 => self.collection(opcode)?,
            b'a' | b'e' | b's' | b'u' | 0x90 => self.extend(opcode)?,
            b'c' | 0x93 => self.global(opcode)?,
            b'R' | 0x81 => self.make(opcode)?,
            b'b' => self.build()?,
            b'Q' if self.context != Context::Plain => self.persistent()?,
            _ => match literal::read(opcode, self.cursor, self.at, self.budget)? {
                Some(literal::Literal::Value(value)) => self.push(value)?,
                Some(literal::Literal::Text(text)) => self.push_object(Object::Text(text))?,
                None => return Err(PickleError::Opcode { name: opcode::name(opcode), offset: self.at }),
            },
        }
        Ok(None)
    }

    fn malformed(&self, detail: impl Into<String>) -> PickleError {
        PickleError::malformed(self.at, detail)
    }

    fn protocol(&mut self) -> Result<(), PickleError> {
        let version = self.cursor.u8("the protocol's number")?;
        if version > NEWEST_PROTOCOL {
            return Err(self.malformed(format!("pickle protocol {version} is not known, only 0 to {NEWEST_PROTOCOL}")));
        }
        Ok(())
    }

    /// Frames tell readers how much to fetch at once; all is here already, but it must be there.
    fn frame(&mut self) -> Result<(), PickleError> {
        let len = u64::from_le_bytes(self.cursor.array("a frame's length")?);
        if usize::try_from(len).is_ok_and(|len| len <= self.cursor.rest()) {
            return Ok(());
        }
        Err(PickleError::Truncated { what: "a frame", offset: self.at })
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), PickleError> {
        if self.stack.len() >= self.most {
            self.budget.room::<Value<'_>>(1, self.at)?;
            self.most += 1;
        }
        self.stack.push(value);
        Ok(())
    }

    fn push_object(&mut self, object: Object<'a>) -> Result<(), PickleError> {
        let value = self.heap.keep(object, self.budget, self.at)?;
        self.push(value)
    }

    /// Takes the topmost value; never one from below the last mark.
    fn pop(&mut self) -> Result<Value<'a>, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(self.malformed("an instruction needs a value that is not there"));
        }
        self.stack.pop().ok_or_else(|| PickleError::malformed(self.at, "an instruction needs a value"))
    }

    fn mark(&mut self) -> Result<(), PickleError> {
        if self.marks.len() >= MOST_OPEN {
            return Err(PickleError::TooMuch { what: "the nesting", offset: self.at });
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value<'a>>, PickleError> {
        let Some(start) = self.marks.pop() else {
            return Err(self.malformed("an instruction needs the beginning of a collection, and there is none"));
        };
        let count = self.stack.len() - start;
        self.budget.room::<Value<'_>>(count, self.at)?;
        Ok(self.stack.split_off(start))
    }

    fn discard(&mut self) -> Result<(), PickleError> {
        if self.marks.last().is_some_and(|mark| *mark == self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    fn duplicate(&mut self) -> Result<(), PickleError> {
        let value = self.pop()?;
        self.push(value)?;
        self.push(value)
    }

    /// Reads the number of a remembered value.
    fn memo_index(&mut self, opcode: u8) -> Result<u32, PickleError> {
        match opcode {
            b'q' | b'h' => Ok(u32::from(self.cursor.u8("the number of a remembered value")?)),
            b'r' | b'j' => Ok(u32::from_le_bytes(self.cursor.array("the number of a remembered value")?)),
            0x94 => u32::try_from(self.memo.len()).map_err(|_| self.malformed("too many values are remembered")),
            _ => {
                let line = self.cursor.line("the number of a remembered value")?;
                let number = std::str::from_utf8(line).ok().and_then(|text| text.parse().ok());
                number.ok_or_else(|| self.malformed("the number of a remembered value is none"))
            }
        }
    }

    fn remember(&mut self, opcode: u8) -> Result<(), PickleError> {
        let index = self.memo_index(opcode)?;
        let value = self.pop()?;
        self.stack.push(value);
        // A map keeps room for about twice its entries.
        self.budget.room::<(u32, Value<'_>)>(2, self.at)?;
        self.memo.insert(index, value);
        Ok(())
    }

    fn recall(&mut self, opcode: u8) -> Result<(), PickleError> {
        let index = self.memo_index(opcode)?;
        match self.memo.get(&index).copied() {
            Some(value) => self.push(value),
            None => Err(self.malformed(format!("the remembered value {index} does not exist"))),
        }
    }

    fn collection(&mut self, opcode: u8) -> Result<(), PickleError> {
        let object = match opcode {
            b']' => Object::List(Vec::new()),
            b'}' => Object::Dict(Vec::new()),
            b')' => Object::Tuple(Vec::new()),
            0x8f => Object::Set(Vec::new()),
            b'l' => Object::List(self.pop_to_mark()?),
            b'd' => {
                let items = self.pop_to_mark()?;
                Object::Dict(self.pairs(&items)?)
            }
            b't' => Object::Tuple(self.pop_to_mark()?),
            0x91 => Object::Set(self.pop_to_mark()?),
            _ => {
                let count = usize::from(opcode - 0x84);
                self.budget.room::<Value<'_>>(count, self.at)?;
                let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
                items.reverse();
                Object::Tuple(items)
            }
        };
        self.push_object(object)
    }

    fn pairs(&mut self, items: &[Value<'a>]) -> Result<Vec<(Value<'a>, Value<'a>)>, PickleError> {
        let (pairs, []) = items.as_chunks::<2>() else {
            return Err(self.malformed("a dictionary has a key without a value"));
        };
        self.budget.room::<Value<'_>>(items.len(), self.at)?;
        Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
    }

    /// Puts values into a collection that stays on the stack.
    fn extend(&mut self, opcode: u8) -> Result<(), PickleError> {
        let items = match opcode {
            b'a' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.pop_to_mark()?,
        };
        let pairs = if matches!(opcode, b's' | b'u') { self.pairs(&items)? } else { Vec::new() };
        let target = self.pop()?;
        self.stack.push(target);
        self.budget.room::<Value<'_>>(items.len(), self.at)?;
        let object = if let Value::Object(id) = target { Some(self.heap.object_mut(id)) } else { None };
        match (opcode, object) {
            (b'a' | b'e', Some(Object::List(list))) => list.extend(items),
            (0x90, Some(Object::Set(set))) => set.extend(items),
            (b's' | b'u', Some(Object::Dict(dict))) => dict.extend(pairs),
            _ => return Err(self.malformed("values are put into something that is no such collection")),
        }
        Ok(())
    }

    fn global(&mut self, opcode: u8) -> Result<(), PickleError> {
        let found = if opcode == 0x93 {
            let (name, module) = (self.pop()?, self.pop()?);
            match (self.heap.text(module), self.heap.text(name)) {
                (Some(module), Some(name)) => named(module, name, self.context, self.at),
                _ => Err(self.malformed("a name is not text")),
            }
        } else {
            let (module, name) = (self.line()?, self.line()?);
            named(module, name, self.context, self.at)
        };
        self.push(Value::Global(found?))
    }

    fn line(&mut self) -> Result<&'a str, PickleError> {
        let line = self.cursor.line("a name")?;
        self.budget.steps(line.len(), self.at)?;
        std::str::from_utf8(line).map_err(|_| self.malformed("a name is not UTF-8"))
    }

    /// Runs `REDUCE` and `NEWOBJ`: makes the inert counterpart of what they would call.
    fn make(&mut self, opcode: u8) -> Result<(), PickleError> {
        let (arguments, callable) = (self.pop()?, self.pop()?);
        let Some(arguments) = self.heap.tuple(arguments) else {
            return Err(self.malformed("the arguments of a call are no tuple"));
        };
        // No call takes more than six; a refused one need not be copied whole.
        let count = arguments.len().min(7);
        let mut few = [Value::None; 7];
        few[..count].copy_from_slice(&arguments[..count]);
        let value = match (opcode, callable) {
            (b'R', Value::Global(global)) => call(global, &few[..count], self.heap, self.budget, self.at)?,
            (b'R', other) => {
                let callable = describe(other);
                return Err(PickleError::Call { callable, offset: self.at, detail: "it is no function".to_owned() });
            }
            _ => instance(callable, &few[..count], self.heap, self.budget, self.at)?,
        };
        self.push(value)
    }

    /// Gives an instance its state.
    fn build(&mut self) -> Result<(), PickleError> {
        let (given, target) = (self.pop()?, self.pop()?);
        let object = if let Value::Object(id) = target { Some(self.heap.object_mut(id)) } else { None };
        match object {
            Some(Object::Instance { state: state @ None, .. }) => *state = Some(given),
            _ => {
                let detail = "it takes no state, or has one already".to_owned();
                return Err(PickleError::Call { callable: describe(target), offset: self.at, detail });
            }
        }
        self.stack.push(target);
        Ok(())
    }

    /// Makes, or finds again, a storage whose elements lie elsewhere in the file.
    fn persistent(&mut self) -> Result<(), PickleError> {
        let id = self.pop()?;
        let parts =
            match self.heap.tuple(id) {
                Some([kind, Value::Global(Global::Storage(element)), Value::Text(key), _device, count])
                | Some(
                    [kind, Value::Global(Global::Storage(element)), Value::Text(key), _device, count, Value::None],
                ) if self.heap.text(*kind) == Some("storage") => as_size(*count).map(|count| (*element, *key, count)),
                _ => None,
            };
        let Some((element, key, count)) = parts else {
            return Err(self.malformed("a persistent id names something else than a storage"));
        };
        if let Some(known) = self.heap.named.get(key).copied() {
            return match self.heap.object(known) {
                Object::Storage(storage) if (storage.element, storage.count) == (element, count) => {
                    self.push(Value::Object(known))
                }
                _ => Err(self.malformed(format!("the storage `{}` has two different sizes", shown(key)))),
            };
        }
        self.budget.room::<(&str, Value<'_>)>(2, self.at)?;
        let value = self.heap.keep(Object::Storage(Storage { element, count, data: None }), self.budget, self.at)?;
        if let Value::Object(id) = value {
            self.heap.named.insert(key, id);
        }
        self.push(value)
    }
}

fn named(module: &str, name: &str, context: Context, offset: usize) -> Result<Global, PickleError> {
    lookup(module, name, context).ok_or_else(|| PickleError::Global {
        module: shown(module),
        name: shown(name),
        offset,
    })
}
