//! What `torch.save` wrote before PyTorch 1.6, and what packages with older weights still carry.
//!
//! Five pickles one after another: a magic number, the version of the format, what kind of machine wrote it, the object that
//! was saved, and the keys of its storages. Then each storage in the order of the keys: the number of its elements in 8 bytes,
//! and the elements. Nothing is compressed, and there are no checksums.

use std::collections::HashMap;

use super::Stored;
use super::classes::{damaged, foreign};
use super::contents::{StateDict, state_dict_at, texts_at};
use super::pickle::{MAX_PICKLE, Machine, Value};
use crate::error::{Error, ErrorKind, Result};
use crate::weights::file::FileReader;

/// How such a file begins: protocol 2, a number of 10 bytes, and the end of the first pickle.
pub const MAGIC: [u8; 15] = [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];
/// The one version of the format.
const VERSION: i64 = 1001;

/// The state dict of a file, and where the storage of each key lies.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for another version and for the bytes of a big-endian machine; [`ErrorKind::Format`] for a
/// truncated or damaged file; those of [`super::contents::state_dict`].
pub fn read(file: &FileReader) -> Result<(StateDict, HashMap<String, Stored>)> {
    // Two pickles may be long: the object and the keys.
    let head = file.read(0, file.len().min(2 * MAX_PICKLE) as usize)?;
    let rest = |at: usize| head.get(at..).unwrap_or_default();
    let (machine, version) = Machine::execute(rest(MAGIC.len()))?;
    if !matches!(version, Value::Int(VERSION)) {
        return Err(foreign("another version of PyTorch's older format"));
    }
    let at = MAGIC.len() + machine.end();
    let (machine, _) = Machine::execute(rest(at))?;
    let wrote = rest(at).get(..machine.end()).unwrap_or_default();
    if !is_little_endian(wrote) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "written by a machine whose numbers are big-endian, or that does not say",
        )
        .remedy("load it with PyTorch and save it again: torch.save(torch.load(file), new_file)"));
    }
    let at = at + wrote.len();
    let (dict, end) = state_dict_at(rest(at))?;
    let at = at + end;
    let (keys, end) = texts_at(rest(at))?;
    let mut place = (at + end) as u64;
    let sizes: HashMap<&str, u64> = dict.storages.iter().map(|s| (s.key.as_str(), s.dtype.size() as u64)).collect();
    let mut places = HashMap::new();
    for key in keys {
        let truncated = || damaged("the file ends within its storages").at(format!("storage {key}"));
        let count: [u8; 8] = file.read(place, 8).map_err(|_| truncated())?.try_into().map_err(|_| truncated())?;
        // What is passed over (other objects' storages) has a type that nobody has asked for, so that its length is not known.
        let size = sizes.get(key.as_str()).ok_or_else(|| foreign("a storage of no known tensor"))?;
        let len = u64::from_le_bytes(count).checked_mul(*size).ok_or_else(truncated)?;
        let end = (place + 8).checked_add(len).filter(|end| *end <= file.len()).ok_or_else(truncated)?;
        places.insert(key, Stored { start: place + 8, len, crc32: None });
        place = end;
    }
    Ok((dict, places))
}

/// Whether the third pickle says so: `little_endian`, then True, a place in the memo between them.
fn is_little_endian(pickle: &[u8]) -> bool {
    const NAME: &[u8] = b"little_endian";
    let Some(at) = pickle.windows(NAME.len()).position(|w| w == NAME) else { return false };
    match pickle.get(at + NAME.len()..) {
        Some([b'q', _, flag, ..] | [flag, ..]) => *flag == 0x88,
        _ => false,
    }
}
