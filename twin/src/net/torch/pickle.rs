//! The part of Python's pickle format that PyTorch writes state dicts in, and nothing more.
//!
//! A pickle is a program for a machine with a stack and a memo, which may name any function and have it called. Here
//! three names are known, the dict, the tensor and the storage of single precision; calling them makes plain values,
//! and any other name or operation is refused where it stands. Values lie in one list and are referred to by number,
//! so that each operation makes one at most and takes constant time, or time for what it takes off the stack.

use std::collections::BTreeMap;

use super::Tensor;

/// What is wrong with a pickle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// Byte of the operation; `None` when it is the whole.
    at: Option<usize>,
    pub(super) what: String,
}

impl Wrong {
    /// Where.
    pub(super) fn place(&self) -> String {
        self.at
            .map_or_else(|| "as a whole".into(), |at| format!("byte {at}"))
    }
}

/// What may help where something else than a state dict was saved.
const ADVICE: &str = "save the state dict alone, torch.save(model.state_dict(), FILE)";

/// Longest text, and most dimensions: what is told once may be used often.
const TEXT: usize = 1024;
const DIMENSIONS: usize = 8;

/// The number of a value.
type Ref = usize;

/// The names that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Global {
    OrderedDict,
    RebuildTensor,
    FloatStorage,
}

#[derive(Clone, Debug)]
enum Value {
    Bool,
    Int(i64),
    Text(String),
    Tuple(Vec<Ref>),
    Dict(Vec<(Ref, Ref)>),
    Global(Global),
    Storage { key: String, count: usize },
    Tensor(Tensor),
}

/// The tensors of a pickled state dict, or of the one that a dict has under `inner`, by name. Other values of the dict
/// are passed over. Costs O(length).
pub(super) fn tensors(bytes: &[u8], inner: &str) -> Result<BTreeMap<String, Tensor>, Wrong> {
    let mut machine = Machine {
        bytes,
        at: 0,
        begin: 0,
        values: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: BTreeMap::new(),
    };
    let root = machine.run()?;
    let of_whole = |what: String| Wrong { at: None, what };
    let entries = |of: Ref| match &machine.values[of] {
        Value::Dict(entries) => Ok(entries),
        _ => Err(of_whole(format!("no dict; {ADVICE}"))),
    };
    let is_inner = |key: Ref| matches!(&machine.values[key], Value::Text(key) if key == inner);
    let outer = entries(root)?;
    let entries = match outer.iter().rev().find(|(key, _)| is_inner(*key)) {
        Some((_, own)) => entries(*own)?,
        None => outer,
    };
    let mut tensors = BTreeMap::new();
    for &(key, value) in entries {
        if let (Value::Text(name), Value::Tensor(tensor)) =
            (&machine.values[key], &machine.values[value])
        {
            tensors.insert(name.clone(), tensor.clone());
        }
    }
    if tensors.is_empty() {
        return Err(of_whole(format!("a dict without tensors; {ADVICE}")));
    }
    Ok(tensors)
}

struct Machine<'b> {
    bytes: &'b [u8],
    at: usize,
    /// Of the operation that is carried out.
    begin: usize,
    values: Vec<Value>,
    stack: Vec<Ref>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Ref>,
}

impl Machine<'_> {
    fn wrong(&self, what: impl Into<String>) -> Wrong {
        Wrong {
            at: Some(self.begin),
            what: what.into(),
        }
    }

    /// Everything up to the end; what is left is the value.
    fn run(&mut self) -> Result<Ref, Wrong> {
        loop {
            self.begin = self.at;
            let [operation] = self.take()?;
            if operation == b'.' {
                return self.pop();
            }
            self.step(operation)?;
        }
    }

    /// The letters are those of Python's `pickletools`.
    fn step(&mut self, operation: u8) -> Result<(), Wrong> {
        match operation {
            // PROTO: later ones have operations that are refused by themselves.
            0x80 => self.take::<1>().map(|_| ()),
            b'}' => self.push(Value::Dict(Vec::new())),
            b')' => self.push(Value::Tuple(Vec::new())),
            0x88 | 0x89 => self.push(Value::Bool),
            b'K' => {
                let [number] = self.take()?;
                self.push(Value::Int(number.into()))
            }
            b'M' => {
                let number = u16::from_le_bytes(self.take()?);
                self.push(Value::Int(number.into()))
            }
            b'J' => {
                let number = i32::from_le_bytes(self.take()?);
                self.push(Value::Int(number.into()))
            }
            b'X' => {
                let length = u32::from_le_bytes(self.take()?) as usize;
                let text = self.text(length)?;
                self.push(Value::Text(text))
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                let global = self.global(&module, &name)?;
                self.push(Value::Global(global))
            }
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b't' => {
                let all = self.marked()?;
                self.push(Value::Tuple(all))
            }
            0x85..=0x87 => {
                let count = usize::from(operation - 0x84);
                let all = self.pop_many(count)?;
                self.push(Value::Tuple(all))
            }
            b'q' => {
                let [slot] = self.take()?;
                self.remember(slot.into())
            }
            b'r' => {
                let slot = u32::from_le_bytes(self.take()?);
                self.remember(slot)
            }
            b'h' => {
                let [slot] = self.take()?;
                self.recall(slot.into())
            }
            b'j' => {
                let slot = u32::from_le_bytes(self.take()?);
                self.recall(slot)
            }
            b's' => {
                let pair = self.pop_many(2)?;
                self.put(pair)
            }
            b'u' => {
                let pairs = self.marked()?;
                self.put(pairs)
            }
            b'Q' => self.storage(),
            b'R' => self.call(),
            // BUILD: attributes of a dict, of which none matters.
            b'b' => {
                self.pop()?;
                self.top_dict().map(|_| ())
            }
            other => Err(self.wrong(format!(
                "operation 0x{other:02x} is none that state dicts are written with; {ADVICE}"
            ))),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Wrong> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.first_chunk().copied();
        self.at += N;
        taken.ok_or_else(|| self.wrong("the pickle ends too soon"))
    }

    fn text(&mut self, length: usize) -> Result<String, Wrong> {
        if TEXT < length {
            return Err(self.wrong(format!("a text of {length} bytes; at most {TEXT} are read")));
        }
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest
            .get(..length)
            .ok_or_else(|| self.wrong("the pickle ends too soon"))?;
        let text = std::str::from_utf8(taken).map_err(|_| self.wrong("a text is none"))?;
        self.at += length;
        Ok(text.to_owned())
    }

    /// Up to the end of the line, which is left out.
    fn line(&mut self) -> Result<String, Wrong> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or_else(|| self.wrong("the pickle ends too soon"))?;
        let line = self.text(end)?;
        self.at += 1;
        Ok(line)
    }

    fn global(&self, module: &str, name: &str) -> Result<Global, Wrong> {
        match (module, name) {
            ("collections", "OrderedDict") => Ok(Global::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Ok(Global::RebuildTensor),
            ("torch", "FloatStorage") => Ok(Global::FloatStorage),
            _ => {
                let name: String = format!("{module}.{name}").chars().take(80).collect();
                Err(self.wrong(format!(
                    "it asks for {name:?}, and only dicts of tensors of single precision are read; {ADVICE}"
                )))
            }
        }
    }

    fn push(&mut self, value: Value) -> Result<(), Wrong> {
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(())
    }

    /// Nothing below the last mark is taken.
    fn pop_many(&mut self, count: usize) -> Result<Vec<Ref>, Wrong> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let from = self.stack.len().checked_sub(count);
        let from = from.filter(|from| floor <= *from);
        let from = from.ok_or_else(|| self.wrong("nothing is left on the stack"))?;
        Ok(self.stack.split_off(from))
    }

    fn pop(&mut self) -> Result<Ref, Wrong> {
        let one = self.pop_many(1)?;
        one.first()
            .copied()
            .ok_or_else(|| self.wrong("nothing is left on the stack"))
    }

    fn marked(&mut self) -> Result<Vec<Ref>, Wrong> {
        let from = self
            .marks
            .pop()
            .ok_or_else(|| self.wrong("no mark was set"))?;
        Ok(self.stack.split_off(from))
    }

    fn remember(&mut self, slot: u32) -> Result<(), Wrong> {
        let top = self.stack.last().copied();
        let top = top.ok_or_else(|| self.wrong("nothing is left on the stack"))?;
        self.memo.insert(slot, top);
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Result<(), Wrong> {
        let known = self.memo.get(&slot).copied();
        let known = known.ok_or_else(|| self.wrong(format!("nothing was kept as {slot}")))?;
        self.stack.push(known);
        Ok(())
    }

    fn top_dict(&mut self) -> Result<&mut Vec<(Ref, Ref)>, Wrong> {
        let wrong = self.wrong(format!("only dicts are filled; {ADVICE}"));
        let top = self.stack.last().map(|top| &mut self.values[*top]);
        match top {
            Some(Value::Dict(entries)) => Ok(entries),
            _ => Err(wrong),
        }
    }

    fn put(&mut self, pairs: Vec<Ref>) -> Result<(), Wrong> {
        if !pairs.len().is_multiple_of(2) {
            return Err(self.wrong("a key without a value"));
        }
        let pairs = pairs.chunks_exact(2).map(|pair| (pair[0], pair[1]));
        self.top_dict()?.extend(pairs);
        Ok(())
    }

    fn tuple(&self, of: Ref) -> Result<&[Ref], Wrong> {
        match &self.values[of] {
            Value::Tuple(all) => Ok(all),
            _ => Err(self.wrong("a tuple belongs here")),
        }
    }

    fn count(&self, of: Ref) -> Result<usize, Wrong> {
        match &self.values[of] {
            Value::Int(number) => usize::try_from(*number).ok(),
            _ => None,
        }
        .ok_or_else(|| self.wrong("a count belongs here"))
    }

    fn counts(&self, of: Ref) -> Result<Vec<usize>, Wrong> {
        let all = self.tuple(of)?;
        if DIMENSIONS < all.len() {
            let count = all.len();
            return Err(self.wrong(format!("{count} dimensions; at most {DIMENSIONS} are read")));
        }
        all.iter().map(|one| self.count(*one)).collect()
    }

    /// BINPERSID: `("storage", type, key, device, count)`.
    fn storage(&mut self) -> Result<(), Wrong> {
        let of = self.pop()?;
        let &[kind, class, key, _, count] = self.tuple(of)? else {
            return Err(self.wrong("a storage is told by five things"));
        };
        let parts = (&self.values[kind], &self.values[class], &self.values[key]);
        let (Value::Text(kind), Value::Global(Global::FloatStorage), Value::Text(key)) = parts
        else {
            return Err(self.wrong("only storages of single precision are read"));
        };
        if kind != "storage" {
            return Err(self.wrong("only storages lie outside the pickle"));
        }
        let storage = Value::Storage {
            key: key.clone(),
            count: self.count(count)?,
        };
        self.push(storage)
    }

    /// REDUCE: a dict, or `(storage, offset, shape, strides, …)` as a tensor.
    fn call(&mut self) -> Result<(), Wrong> {
        let parts = self.pop_many(2)?;
        let (of, given) = (parts[0], self.tuple(parts[1])?);
        let made = match (&self.values[of], given) {
            (Value::Global(Global::OrderedDict), []) => Value::Dict(Vec::new()),
            (Value::Global(Global::RebuildTensor), &[storage, offset, shape, strides, ..]) => {
                let Value::Storage { key, count } = &self.values[storage] else {
                    return Err(self.wrong("a tensor lies in a storage"));
                };
                let tensor = Tensor {
                    storage: key.clone(),
                    count: *count,
                    offset: self.count(offset)?,
                    shape: self.counts(shape)?,
                    strides: self.counts(strides)?,
                };
                if tensor.shape.len() != tensor.strides.len() {
                    return Err(self.wrong("as many strides as dimensions belong here"));
                }
                Value::Tensor(tensor)
            }
            _ => {
                return Err(
                    self.wrong(format!("nothing is called but dicts and tensors; {ADVICE}"))
                );
            }
        };
        self.push(made)
    }
}
