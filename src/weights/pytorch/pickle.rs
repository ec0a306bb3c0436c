//! A pickle machine that can build state dicts and nothing else.
//!
//! A pickle is a program: what it may call is what makes it dangerous. This machine knows the handful of classes that
//! tensors need and refuses every other by its name; nothing is ever imported or run. Values live in flat lists and
//! refer to each other by index, so that hostile nesting costs neither recursion nor more memory than the pickle's own
//! size times a small factor.

use std::collections::{BTreeMap, HashMap};

use crate::error::{Error, ErrorKind, Result};
use crate::weights::source::Dtype;

/// The longest pickle that is read, in bytes; ViT-H's is about 100 kB.
pub const MAX_PICKLE: u64 = 1 << 22;
/// The most tensors and the most sides of one; PyTorch's own checkpoints have hundreds, and four.
const MAX_TENSORS: usize = 1 << 16;
const MAX_SIDES: usize = 8;
/// Entries under which training scripts put the state dict.
const WRAPPERS: [&str; 3] = ["model", "state_dict", "model_state_dict"];

/// A storage: the zip entry `data/<key>`, one flat array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    pub key: String,
    pub dtype: Dtype,
    /// Number of elements.
    pub len: u64,
}

/// A view of a storage. Offset and strides count elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    pub storage: usize,
    pub offset: u64,
    pub shape: Vec<usize>,
    pub strides: Vec<u64>,
}

/// A state dict: the storages, and the views of them by name.
#[derive(Debug, Default)]
pub struct StateDict {
    pub storages: Vec<Storage>,
    pub tensors: BTreeMap<String, View>,
}

/// Runs `pickle` and takes its state dict: the outermost dict if it holds tensors, else the one under `model`,
/// `state_dict` or `model_state_dict`. Entries of it that are no tensors are left out.
///
/// # Errors
/// [`ErrorKind::Unsupported`] naming `module.class` of anything but tensors, [`ErrorKind::Format`] for a damaged pickle.
pub fn state_dict(pickle: &[u8]) -> Result<StateDict> {
    let mut machine = Machine { bytes: pickle, ..Machine::default() };
    let top = machine.run().map_err(|e| e.at(format!("pickle, byte {}", machine.at)))?;
    let is_tensor = |entry: &(Value, Value)| matches!(entry.1, Value::Tensor(_));
    let none = Vec::new();
    let mut entries = machine.entries(top).unwrap_or(&none);
    if !entries.iter().any(is_tensor) {
        // Like Python, the last of equal keys counts.
        let wrapped = |key| entries.iter().rev().find(|e| matches!(e.0, Value::Text(k) if k == key)).map(|e| e.1);
        let inner = WRAPPERS.into_iter().find_map(|key| machine.entries(wrapped(key)?));
        entries = inner.filter(|entries| entries.iter().any(is_tensor)).ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "the file holds no state dict")
                .remedy("save one alone: torch.save(model.state_dict(), file)")
        })?;
    }
    let mut tensors = BTreeMap::new();
    for (key, value) in entries {
        match (key, value) {
            (Value::Text(name), Value::Tensor(i)) => {
                let view = machine.tensors.get(*i).ok_or_else(|| damaged("a tensor that does not exist"))?;
                tensors.insert((*name).to_owned(), view.clone());
            }
            (_, Value::Tensor(_)) => return Err(damaged("a tensor without a name")),
            _ => {}
        }
    }
    Ok(StateDict { storages: machine.storages, tensors })
}

/// What a pickle may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Dtype),
}

/// A value; what is large lives in the machine's lists.
#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    None,
    Int(i64),
    /// Booleans, floats and byte strings occur beside tensors; their content does not matter here.
    Other,
    Text(&'a str),
    Global(Global),
    Sequence(usize),
    Dict(usize),
    Storage(usize),
    Tensor(usize),
}

#[derive(Default)]
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    /// Tuples and lists.
    sequences: Vec<Vec<Value<'a>>>,
    dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    storages: Vec<Storage>,
    tensors: Vec<View>,
}

impl<'a> Machine<'a> {
    /// Executes up to the STOP opcode and returns what is on top of the stack. Opcodes: CPython's `pickletools.py`.
    fn run(&mut self) -> Result<Value<'a>> {
        loop {
            let opcode = self.byte()?;
            match opcode {
                b'.' => return self.pop(),
                0x80 => self.protocol()?,
                0x95 => drop(self.take(8)?), // FRAME
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?),
                b'1' => drop(self.above_mark()?),
                b'2' => {
                    let top = self.pop()?;
                    self.stack.extend([top, top]);
                }
                b'N' => self.stack.push(Value::None),
                0x88 | 0x89 => self.stack.push(Value::Other), // true, false
                b'K' => self.int::<1>(false)?,
                b'M' => self.int::<2>(false)?,
                b'J' => self.int::<4>(true)?,
                b'I' | b'L' => self.int_line()?,
                0x8a => {
                    let len = self.byte()?.into();
                    self.long(len)?;
                }
                0x8b => {
                    let len = self.length::<4>()?;
                    self.long(len)?;
                }
                b'G' => self.skip(8)?,
                b'F' => {
                    self.line()?;
                    self.stack.push(Value::Other);
                }
                0x8c => self.text::<1>()?,
                b'X' => self.text::<4>()?,
                0x8d => self.text::<8>()?,
                b'U' | b'C' => {
                    let len = self.byte()?.into();
                    self.skip(len)?;
                }
                b'T' | b'B' => {
                    let len = self.length::<4>()?;
                    self.skip(len)?;
                }
                0x8e => {
                    let len = self.length::<8>()?;
                    self.skip(len)?;
                }
                b']' | b')' => self.sequence(Vec::new()),
                b'l' | b't' => {
                    let items = self.above_mark()?;
                    self.sequence(items);
                }
                0x85..=0x87 => {
                    let start = self.stack.len().checked_sub(usize::from(opcode - 0x84)).filter(|&s| s >= self.floor());
                    let items = self.stack.drain(start.ok_or_else(|| damaged("the stack is empty"))?..).collect();
                    self.sequence(items);
                }
                b'a' => {
                    let item = self.pop()?;
                    self.top_list()?.push(item);
                }
                b'e' => {
                    let items = self.above_mark()?;
                    self.top_list()?.extend(items);
                }
                b'}' => self.dict(),
                b'd' => {
                    let items = self.above_mark()?;
                    self.dict();
                    self.set_items(&items)?;
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.set_items(&[key, value])?;
                }
                b'u' => {
                    let items = self.above_mark()?;
                    self.set_items(&items)?;
                }
                b'q' | b'r' | b'p' => {
                    let index = self.memo_index(opcode)?;
                    self.remember(index)?;
                }
                0x94 => self.remember(self.memo.len() as u32)?, // at most MAX_PICKLE entries
                b'h' | b'j' | b'g' => {
                    let index = self.memo_index(opcode)?;
                    self.recall(index)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.stack.push(Value::Global(global(module, name)?));
                }
                0x93 => match (self.pop()?, self.pop()?) {
                    (Value::Text(name), Value::Text(module)) => self.stack.push(Value::Global(global(module, name)?)),
                    _ => return Err(damaged("a class without a name")),
                },
                b'Q' => self.persistent_id()?,
                b'R' | 0x81 => self.call()?,
                b'b' => {
                    // State dicts carry attributes (`_metadata`: versions of modules); tensors do not depend on them.
                    self.pop()?;
                    if !matches!(self.stack.last(), Some(Value::Dict(_))) {
                        return Err(foreign("the state of an object that is no state dict"));
                    }
                }
                other => return Err(foreign(&format!("pickle opcode 0x{other:02x}"))),
            }
        }
    }

    fn protocol(&mut self) -> Result<()> {
        match self.byte()? {
            2..=5 => Ok(()),
            other => Err(foreign(&format!("pickle protocol {other}"))),
        }
    }

    // Bytes of the program.

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let bytes: &'a [u8] = self.bytes;
        let end = self.at.checked_add(len);
        let taken = end.and_then(|end| bytes.get(self.at..end)).ok_or_else(|| damaged("the pickle ends too early"))?;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| damaged("the pickle ends too early"))
    }

    fn byte(&mut self) -> Result<u8> {
        self.array::<1>().map(|[b]| b)
    }

    /// An unsigned number of `N` bytes, 8 at most.
    fn length<const N: usize>(&mut self) -> Result<usize> {
        let value = self.array::<N>()?.iter().rev().fold(0u64, |n, &b| n << 8 | u64::from(b));
        usize::try_from(value).map_err(|_| damaged("a length beyond memory"))
    }

    /// The text up to the next line feed.
    fn line(&mut self) -> Result<&'a str> {
        let rest: &'a [u8] = self.bytes.get(self.at..).unwrap_or_default();
        let len = rest.iter().position(|&b| b == b'\n').ok_or_else(|| damaged("a line that does not end"))?;
        let line = self.take(len + 1)?;
        std::str::from_utf8(line.get(..len).unwrap_or_default()).map_err(|_| damaged("text that is not UTF-8"))
    }

    /// A place in the memo, written as the opcode has it: a byte, four bytes, or a line.
    fn memo_index(&mut self, opcode: u8) -> Result<u32> {
        match opcode {
            b'q' | b'h' => self.byte().map(u32::from),
            b'r' | b'j' => self.array().map(u32::from_le_bytes),
            _ => self.line()?.parse().map_err(|_| damaged("a memo index that is no number")),
        }
    }

    // Values onto the stack.

    fn int<const N: usize>(&mut self, signed: bool) -> Result<()> {
        let value = self.length::<N>()? as i64; // N is 4 at most
        self.stack.push(Value::Int(if signed { i64::from(value as u32 as i32) } else { value }));
        Ok(())
    }

    fn int_line(&mut self) -> Result<()> {
        let value = match self.line()? {
            "00" | "01" => Value::Other, // false, true
            text => Value::Int(text.trim_end_matches('L').parse().map_err(|_| damaged("not a 64-bit number"))?),
        };
        self.stack.push(value);
        Ok(())
    }

    /// A two's complement number of `len` bytes.
    fn long(&mut self, len: usize) -> Result<()> {
        let bytes = self.take(len)?;
        if len > 8 {
            return Err(damaged("a number of more than 64 bits"));
        }
        let fill = if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
        let mut wide = [fill; 8];
        wide.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        self.stack.push(Value::Int(i64::from_le_bytes(wide)));
        Ok(())
    }

    fn text<const N: usize>(&mut self) -> Result<()> {
        let len = self.length::<N>()?;
        let text = std::str::from_utf8(self.take(len)?).map_err(|_| damaged("text that is not UTF-8"))?;
        self.stack.push(Value::Text(text));
        Ok(())
    }

    fn skip(&mut self, len: usize) -> Result<()> {
        self.take(len)?;
        self.stack.push(Value::Other);
        Ok(())
    }

    fn sequence(&mut self, items: Vec<Value<'a>>) {
        self.stack.push(Value::Sequence(self.sequences.len()));
        self.sequences.push(items);
    }

    fn dict(&mut self) {
        self.stack.push(Value::Dict(self.dicts.len()));
        self.dicts.push(Vec::new());
    }

    // Stack, marks and memo.

    /// What lies below the last mark is out of reach.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Value<'a>> {
        if self.stack.len() <= self.floor() {
            return Err(damaged("the stack is empty"));
        }
        self.stack.pop().ok_or_else(|| damaged("the stack is empty"))
    }

    fn above_mark(&mut self) -> Result<Vec<Value<'a>>> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len());
        // Not `split_off`, which hands out the stack's whole capacity.
        Ok(self.stack.drain(mark.ok_or_else(|| damaged("a mark is missing"))?..).collect())
    }

    fn remember(&mut self, index: u32) -> Result<()> {
        let top = *self.stack.last().ok_or_else(|| damaged("the stack is empty"))?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<()> {
        let value = *self.memo.get(&index).ok_or_else(|| damaged("a memo entry that does not exist"))?;
        self.stack.push(value);
        Ok(())
    }

    // Containers and calls.

    fn top_list(&mut self) -> Result<&mut Vec<Value<'a>>> {
        match self.stack.last() {
            Some(&Value::Sequence(i)) => self.sequences.get_mut(i),
            _ => None,
        }
        .ok_or_else(|| damaged("items without a list"))
    }

    /// Puts keys and values, alternating, into the dict on top of the stack.
    fn set_items(&mut self, items: &[Value<'a>]) -> Result<()> {
        let dict = match self.stack.last() {
            Some(&Value::Dict(i)) => self.dicts.get_mut(i),
            _ => None,
        };
        let dict = dict.ok_or_else(|| damaged("items without a dict"))?;
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(damaged("a key without a value"));
        }
        dict.extend(pairs.iter().map(|&[key, value]| (key, value)));
        Ok(())
    }

    fn entries(&self, value: Value<'a>) -> Option<&Vec<(Value<'a>, Value<'a>)>> {
        match value {
            Value::Dict(i) => self.dicts.get(i),
            _ => None,
        }
    }

    fn items(&self, value: Value<'a>) -> Result<&[Value<'a>]> {
        match value {
            Value::Sequence(i) => self.sequences.get(i).map(Vec::as_slice),
            _ => None,
        }
        .ok_or_else(|| damaged("a tuple was expected"))
    }

    /// Tuple of sizes or strides.
    fn numbers(&self, value: Value<'a>) -> Result<Vec<u64>> {
        let items = self.items(value)?;
        if items.len() > MAX_SIDES {
            return Err(Error::new(ErrorKind::Limit, format!("a tensor of more than {MAX_SIDES} sides")));
        }
        items.iter().map(|&item| unsigned(item)).collect()
    }

    /// `("storage", class, key, location, elements)`.
    fn persistent_id(&mut self) -> Result<()> {
        let id = self.pop()?;
        let storage = match self.items(id)? {
            [Value::Text("storage"), Value::Global(Global::Storage(dtype)), Value::Text(key), Value::Text(_), len] => {
                Storage { key: (*key).to_owned(), dtype: *dtype, len: unsigned(*len)? }
            }
            _ => return Err(foreign("a persistent object that is no storage")),
        };
        if self.storages.len() >= MAX_TENSORS {
            return Err(Error::new(ErrorKind::Limit, format!("more than {MAX_TENSORS} storages")));
        }
        self.stack.push(Value::Storage(self.storages.len()));
        self.storages.push(storage);
        Ok(())
    }

    /// Calls one of the known functions with the tuple on top of the stack.
    fn call(&mut self) -> Result<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Value::Global(function) = function else { return Err(damaged("a call of something that is no class")) };
        match (function, self.items(arguments)?) {
            (Global::OrderedDict, []) => self.dict(),
            (Global::RebuildParameter, &[tensor @ Value::Tensor(_), _, _]) => self.stack.push(tensor),
            (Global::RebuildTensor, &[Value::Storage(storage), offset, shape, strides, _, _, ref metadata @ ..]) => {
                // Metadata marks conjugate and negated views, whose elements are not what is stored.
                match metadata {
                    [] | [Value::None] => {}
                    [Value::Dict(i)] if self.dicts.get(*i).is_some_and(Vec::is_empty) => {}
                    _ => return Err(foreign("a tensor with metadata")),
                }
                let (offset, strides) = (unsigned(offset)?, self.numbers(strides)?);
                let sides = self.numbers(shape)?.into_iter().map(usize::try_from).collect::<Result<Vec<_>, _>>();
                let shape = sides.map_err(|_| damaged("a shape beyond memory"))?;
                if shape.len() != strides.len() {
                    return Err(damaged("shape and strides differ in length"));
                }
                if self.tensors.len() >= MAX_TENSORS {
                    return Err(Error::new(ErrorKind::Limit, format!("more than {MAX_TENSORS} tensors")));
                }
                self.stack.push(Value::Tensor(self.tensors.len()));
                self.tensors.push(View { storage, offset, shape, strides });
            }
            _ => return Err(damaged("a call with unknown arguments")),
        }
        Ok(())
    }
}

/// The class or function `module.name`, if tensors need it.
fn global(module: &str, name: &str) -> Result<Global> {
    Ok(match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
        ("torch", "FloatStorage") => Global::Storage(Dtype::F32),
        ("torch", "HalfStorage") => Global::Storage(Dtype::F16),
        ("torch", "BFloat16Storage") => Global::Storage(Dtype::BF16),
        ("torch", "DoubleStorage") => Global::Storage(Dtype::F64),
        ("torch", "LongStorage") => Global::Storage(Dtype::I64),
        ("torch", "IntStorage") => Global::Storage(Dtype::I32),
        ("torch", "ByteStorage") => Global::Storage(Dtype::U8),
        ("torch", "CharStorage") => Global::Storage(Dtype::I8),
        ("torch", "BoolStorage") => Global::Storage(Dtype::Bool),
        _ => return Err(foreign(&format!("an object of {}.{}", module.escape_default(), name.escape_default()))),
    })
}

fn unsigned(value: Value<'_>) -> Result<u64> {
    match value {
        Value::Int(n) => u64::try_from(n).map_err(|_| damaged("a negative size, offset or stride")),
        _ => Err(damaged("a number was expected")),
    }
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::Format, what).remedy("the checkpoint is damaged; fetch it again")
}

fn foreign(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("the file holds {what}; only tensors are read, nothing is executed"))
        .remedy("save the tensors alone: torch.save(model.state_dict(), file)")
}
