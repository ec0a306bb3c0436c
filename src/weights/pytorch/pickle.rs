//! A pickle machine that can build state dicts and nothing else.
//!
//! A pickle is a program: what it may call is what makes it dangerous. This machine builds the handful of classes that
//! tensors need; of any other object it keeps the class's name and forgets the rest, and nothing is ever imported or
//! run ([`classes`](super::classes)). Values live in flat lists and refer to each other by index, so that hostile
//! nesting costs neither recursion nor more memory than the pickle's own size times a small factor.

mod describe;

use std::collections::HashMap;

use super::classes::{Known, damaged, foreign, look_up};
use super::program::Program;
use super::view::{Storage, StorageView};
use crate::error::{Error, ErrorKind, Result};

/// The longest pickle that is read, in bytes; ViT-H's is about 100 kB.
pub const MAX_PICKLE: u64 = 1 << 22;
/// The most tensors and the most axes of one; PyTorch's own checkpoints have hundreds, and four.
const MAX_TENSORS: usize = 1 << 16;
const MAX_AXES: usize = 8;

/// A class or function that the pickle names.
#[derive(Debug, Clone, Copy)]
pub struct Global {
    known: Known,
    /// Index into the machine's classes.
    class: usize,
}

/// An instance of a class that the machine does not know.
#[derive(Debug, Clone, Copy)]
struct Object {
    class: usize,
    /// The items that were put into it, if it is a kind of dict.
    dict: usize,
}

/// A value; what is large lives in the machine's lists.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    None,
    Int(i64),
    /// Something whose content does not matter here, in words.
    Other(&'static str),
    Text(&'a str),
    Global(Global),
    Sequence(usize),
    Dict(usize),
    Storage(usize),
    Tensor(usize),
    Object(usize),
}

const FLAG: Value<'static> = Value::Other("a flag");
const NUMBER: Value<'static> = Value::Other("a number");
const BYTES: Value<'static> = Value::Other("bytes");

/// Keys and values of a dict, in the order in which they were set.
pub type DictEntries<'a> = Vec<(Value<'a>, Value<'a>)>;

/// A pickle that was run, or is being.
#[derive(Default)]
pub struct Machine<'a> {
    program: Program<'a>,
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    /// Tuples and lists.
    sequences: Vec<Vec<Value<'a>>>,
    dicts: Vec<DictEntries<'a>>,
    objects: Vec<Object>,
    /// `module.name` of every class and function that the pickle names.
    classes: Vec<String>,
    storages: Vec<Storage>,
    tensors: Vec<StorageView>,
}

impl<'a> Machine<'a> {
    /// Runs `pickle`; gives the machine with all that it built, and the outermost value.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] naming a function that no checkpoint needs, [`ErrorKind::Format`] for a damaged
    /// pickle.
    pub fn execute(pickle: &'a [u8]) -> Result<(Self, Value<'a>)> {
        let mut machine = Machine { program: Program::new(pickle), ..Machine::default() };
        match machine.run() {
            Ok(top) => Ok((machine, top)),
            Err(e) => Err(e.at(format!("pickle, byte {}", machine.program.at()))),
        }
    }

    /// How many bytes were run: the pickle's length, if others follow it.
    pub fn end(&self) -> usize {
        self.program.at()
    }

    /// The values of a list or tuple; none of anything else.
    pub fn sequence_of(&self, value: Value<'a>) -> &[Value<'a>] {
        match value {
            Value::Sequence(i) => self.sequences.get(i).map_or(&[], Vec::as_slice),
            _ => &[],
        }
    }

    /// The storages that tensors are views of.
    pub fn storages(&self) -> &[Storage] {
        &self.storages
    }

    /// Every class and function that the pickle names.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// A tensor.
    pub fn view(&self, tensor: usize) -> Option<&StorageView> {
        self.tensors.get(tensor)
    }

    /// Where the machine keeps the entries of a dict, or of an object that is a kind of dict.
    pub fn dict_of(&self, value: Value<'a>) -> Option<usize> {
        match value {
            Value::Dict(dict) => Some(dict),
            Value::Object(object) => self.objects.get(object).map(|object| object.dict),
            _ => None,
        }
    }

    /// Keys and values of a dict.
    pub fn entries(&self, dict: usize) -> &[(Value<'a>, Value<'a>)] {
        self.dicts.get(dict).map_or(&[], Vec::as_slice)
    }

    /// Executes up to the STOP opcode and returns what is on top of the stack. Opcodes: CPython's `pickletools.py`.
    fn run(&mut self) -> Result<Value<'a>> {
        loop {
            let opcode = self.program.byte()?;
            match opcode {
                b'.' => return self.pop(),
                0x80 => self.protocol()?,
                0x95 => drop(self.program.take(8)?), // FRAME
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?),
                b'1' => drop(self.above_mark()?),
                b'2' => {
                    let top = self.pop()?;
                    self.stack.extend([top, top]);
                }
                b'N' => self.stack.push(Value::None),
                0x88 | 0x89 => self.stack.push(FLAG),
                b'K' => self.int::<1>(false)?,
                b'M' => self.int::<2>(false)?,
                b'J' => self.int::<4>(true)?,
                b'I' | b'L' => self.int_line()?,
                0x8a => {
                    let len = self.program.byte()?.into();
                    self.long(len)?;
                }
                0x8b => {
                    let len = self.program.length::<4>()?;
                    self.long(len)?;
                }
                b'G' => self.skip(8, NUMBER)?,
                b'F' => {
                    self.program.line()?;
                    self.stack.push(NUMBER);
                }
                0x8c => self.text::<1>()?,
                b'X' => self.text::<4>()?,
                0x8d => self.text::<8>()?,
                b'U' | b'C' => {
                    let len = self.program.byte()?.into();
                    self.skip(len, BYTES)?;
                }
                b'T' | b'B' => {
                    let len = self.program.length::<4>()?;
                    self.skip(len, BYTES)?;
                }
                0x8e | 0x96 => {
                    let len = self.program.length::<8>()?;
                    self.skip(len, BYTES)?;
                }
                b']' | b')' | 0x8f => self.sequence(Vec::new()),
                b'l' | b't' | 0x91 => {
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
                    self.append(&[item])?;
                }
                b'e' | 0x90 => {
                    let items = self.above_mark()?;
                    self.append(&items)?;
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
                    let (module, name) = (self.program.line()?, self.program.line()?);
                    self.global(module, name)?;
                }
                0x93 => match (self.pop()?, self.pop()?) {
                    (Value::Text(name), Value::Text(module)) => self.global(module, name)?,
                    _ => return Err(damaged("a class without a name")),
                },
                b'Q' => self.persistent_id()?,
                b'R' | 0x81 => self.call()?,
                0x92 => {
                    self.pop()?; // arguments by keyword
                    self.call()?;
                }
                b'b' => {
                    // State dicts carry attributes (`_metadata`: versions of modules); tensors do not depend on them.
                    self.pop()?;
                    if !matches!(self.stack.last(), Some(Value::Dict(_) | Value::Object(_))) {
                        return Err(foreign("the state of something that is no object"));
                    }
                }
                other => return Err(foreign(&format!("pickle opcode 0x{other:02x}"))),
            }
        }
    }

    fn protocol(&mut self) -> Result<()> {
        match self.program.byte()? {
            2..=5 => Ok(()),
            other => Err(foreign(&format!("pickle protocol {other}"))),
        }
    }

    // Operands of the opcodes.

    /// A place in the memo, written as the opcode has it: a byte, four bytes, or a line.
    fn memo_index(&mut self, opcode: u8) -> Result<u32> {
        match opcode {
            b'q' | b'h' => self.program.byte().map(u32::from),
            b'r' | b'j' => self.program.array().map(u32::from_le_bytes),
            _ => self.program.line()?.parse().map_err(|_| damaged("a memo index that is no number")),
        }
    }

    // Values onto the stack.

    fn int<const N: usize>(&mut self, signed: bool) -> Result<()> {
        let value = self.program.length::<N>()? as i64; // N is 4 at most
        self.stack.push(Value::Int(if signed { i64::from(value as u32 as i32) } else { value }));
        Ok(())
    }

    fn int_line(&mut self) -> Result<()> {
        let value = match self.program.line()? {
            "00" | "01" => FLAG,
            text => Value::Int(text.trim_end_matches('L').parse().map_err(|_| damaged("not a 64-bit number"))?),
        };
        self.stack.push(value);
        Ok(())
    }

    /// A two's complement number of `len` bytes.
    fn long(&mut self, len: usize) -> Result<()> {
        let bytes = self.program.take(len)?;
        if len > 8 {
            self.stack.push(NUMBER); // no size of a tensor
            return Ok(());
        }
        let fill = if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
        let mut wide = [fill; 8];
        wide.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        self.stack.push(Value::Int(i64::from_le_bytes(wide)));
        Ok(())
    }

    fn text<const N: usize>(&mut self) -> Result<()> {
        let len = self.program.length::<N>()?;
        let text = std::str::from_utf8(self.program.take(len)?).map_err(|_| damaged("text that is not UTF-8"))?;
        self.stack.push(Value::Text(text));
        Ok(())
    }

    fn skip(&mut self, len: usize, value: Value<'a>) -> Result<()> {
        self.program.take(len)?;
        self.stack.push(value);
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

    /// Appends to the list on top of the stack.
    fn append(&mut self, items: &[Value<'a>]) -> Result<()> {
        let list = match self.stack.last() {
            Some(&Value::Sequence(i)) => self.sequences.get_mut(i),
            Some(Value::Object(_)) => return Ok(()),
            _ => None,
        };
        list.ok_or_else(|| damaged("items without a list"))?.extend(items);
        Ok(())
    }

    /// Puts keys and values, alternating, into the dict on top of the stack.
    fn set_items(&mut self, items: &[Value<'a>]) -> Result<()> {
        let dict = self.stack.last().and_then(|&top| self.dict_of(top));
        let dict = dict.and_then(|dict| self.dicts.get_mut(dict)).ok_or_else(|| damaged("items without a dict"))?;
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(damaged("a key without a value"));
        }
        dict.extend(pairs.iter().map(|&[key, value]| (key, value)));
        Ok(())
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
        if items.len() > MAX_AXES {
            return Err(Error::new(ErrorKind::Limit, format!("a tensor of more than {MAX_AXES} axes")));
        }
        items.iter().map(|&item| unsigned(item)).collect()
    }

    /// `("storage", class, key, location, elements)`, and in the older format nothing, or a view, which PyTorch wrote before 0.4.
    fn persistent_id(&mut self) -> Result<()> {
        let id = self.pop()?;
        let storage = match self.items(id)? {
            [Value::Text("storage"), Value::Global(global), Value::Text(key), Value::Text(_), len]
            | [Value::Text("storage"), Value::Global(global), Value::Text(key), Value::Text(_), len, Value::None] => {
                match global.known {
                    Known::Storage(dtype) => Storage { key: (*key).to_owned(), dtype, len: unsigned(*len)? },
                    _ => {
                        let class = global.class;
                        self.object(class);
                        return Ok(());
                    }
                }
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

    fn global(&mut self, module: &str, name: &str) -> Result<()> {
        let known = look_up(module, name)?;
        self.stack.push(Value::Global(Global { known, class: self.classes.len() }));
        self.classes.push(format!("{}.{}", module.escape_default(), name.escape_default()));
        Ok(())
    }

    fn object(&mut self, class: usize) {
        self.stack.push(Value::Object(self.objects.len()));
        self.objects.push(Object { class, dict: self.dicts.len() });
        self.dicts.push(Vec::new());
    }

    /// Calls one of the known functions with the tuple on top of the stack.
    fn call(&mut self) -> Result<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Value::Global(Global { known, class }) = function else {
            return Err(damaged("a call of something that is no class"));
        };
        match (known, self.items(arguments)?) {
            (Known::Mapping, _) => self.dict(),
            // What is rebuilt as something else says so with its first argument.
            (Known::Object, &[Value::Global(Global { known: Known::Object, class }), ..]) => self.object(class),
            (Known::Object, _) => self.object(class),
            (Known::Function, _) => {
                let name = self.classes.get(class).map_or("?", String::as_str);
                return Err(foreign(&format!("an object of {name}")));
            }
            (Known::RebuildParameter | Known::RebuildTensor, &[object @ Value::Object(_), ..]) => {
                self.stack.push(object)
            }
            (Known::RebuildParameter, &[tensor @ Value::Tensor(_), _, _, ..]) => self.stack.push(tensor),
            (Known::RebuildTensor, &[Value::Storage(storage), offset, shape, strides, _, _, ref metadata @ ..]) => {
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
                self.tensors.push(StorageView { storage, offset, shape, strides });
            }
            _ => return Err(damaged("a call with unknown arguments")),
        }
        Ok(())
    }
}

fn unsigned(value: Value<'_>) -> Result<u64> {
    match value {
        Value::Int(n) => u64::try_from(n).map_err(|_| damaged("a negative size, offset or stride")),
        _ => Err(damaged("a number was expected")),
    }
}
