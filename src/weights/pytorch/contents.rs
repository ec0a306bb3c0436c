//! The state dicts of a pickle, wherever training scripts put them, and what lies beside them.

use std::collections::{BTreeMap, HashSet};

use super::classes::damaged;
use super::pickle::{Machine, Value};
use super::view::{Storage, StorageView};
use crate::error::{Error, ErrorKind, Result};
use crate::weights::tensor::PassedOver;
use crate::weights::{foreign, keys};

/// Entries under which training scripts put the state dict, best first. Others are read as well; these decide between
/// two that hold the same names.
const WRAPPERS: [&str; 7] = ["model", "state_dict", "model_state_dict", "model_state", "net", "network", "params"];
/// How many dicts deep a state dict is looked for: in `{"checkpoint": {"state_dict": {..}}}` it is two below the
/// outermost.
const LEVELS: usize = 2;
/// The most state dicts that are compared.
const MAX_DICTS: usize = 64;

/// A pickle's state dict.
#[derive(Debug, Default)]
pub struct StateDict {
    /// What tensors are views of.
    pub storages: Vec<Storage>,
    /// The tensors by name.
    pub tensors: BTreeMap<String, StorageView>,
    /// What the pickle holds beside them.
    pub passed_over: Vec<PassedOver>,
}

/// A dict that holds tensors.
struct DictPath<'a> {
    /// The keys that lead to it from the outermost dict.
    keys: Vec<&'a str>,
    dict: usize,
}

/// Runs `pickle` and takes its state dict: of all dicts that hold tensors by name, up to two levels down, the one with
/// the most names of a SAM model or an adapter. If none has any, the outermost, or that under a key which training
/// scripts use.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if there is none, with what there is instead; those of [`Machine::execute`].
pub fn state_dict(pickle: &[u8]) -> Result<StateDict> {
    state_dict_at(pickle).map(|(dict, _)| dict)
}

/// As [`state_dict`], of a pickle with other bytes behind it; and the pickle's length.
///
/// # Errors
/// As [`state_dict`].
pub fn state_dict_at(pickle: &[u8]) -> Result<(StateDict, usize)> {
    let (machine, top) = Machine::execute(pickle)?;
    let mut places = Vec::new();
    search(&machine, top, &mut Vec::new(), &mut HashSet::new(), &mut places);
    let rank = |place: &DictPath<'_>| {
        let names: Vec<&str> = tensors(&machine, place.dict).map(|(name, _)| name).collect();
        let wrapper = place.keys.last().and_then(|key| WRAPPERS.iter().position(|wrapper| wrapper == key));
        let average = place.keys.iter().any(|key| key.contains("ema") || key.contains("teacher"));
        (keys::fits(&names), place.keys.is_empty(), wrapper.map(|at| WRAPPERS.len() - at), !average)
    };
    // Of equals the first.
    let best =
        places.iter().map(|place| (rank(place), place)).reduce(|best, next| if next.0 > best.0 { next } else { best });
    let Some((_, place)) = best else { return Err(no_state_dict(&machine, top)) };
    let mut found = BTreeMap::new();
    for (name, tensor) in tensors(&machine, place.dict) {
        let view = machine.view(tensor).ok_or_else(|| damaged("a tensor that does not exist"))?;
        found.insert(name.to_owned(), view.clone()); // like Python, the last of equal keys counts
    }
    let passed_over = passed_over(&machine, top, &place.keys);
    Ok((StateDict { storages: machine.storages().to_vec(), tensors: found, passed_over }, machine.end()))
}

/// The texts of a pickled list, and the pickle's length.
///
/// # Errors
/// [`ErrorKind::Format`] if it holds anything else; those of [`Machine::execute`].
pub fn texts_at(pickle: &[u8]) -> Result<(Vec<String>, usize)> {
    let (machine, top) = Machine::execute(pickle)?;
    let texts = machine.sequence_of(top).iter().map(|value| match value {
        Value::Text(text) => Ok((*text).to_owned()),
        _ => Err(damaged("a list of texts was expected")),
    });
    Ok((texts.collect::<Result<_>>()?, machine.end()))
}

/// Collects the dicts that hold tensors by name, outermost first.
fn search<'a>(
    machine: &Machine<'a>,
    value: Value<'a>,
    keys: &mut Vec<&'a str>,
    seen: &mut HashSet<usize>,
    found: &mut Vec<DictPath<'a>>,
) {
    let Some(dict) = machine.dict_of(value) else { return };
    if !seen.insert(dict) {
        return;
    }
    if found.len() < MAX_DICTS && tensors(machine, dict).next().is_some() {
        found.push(DictPath { keys: keys.clone(), dict });
    }
    if keys.len() == LEVELS {
        return;
    }
    for &(key, value) in machine.entries(dict) {
        if let Value::Text(key) = key {
            keys.push(key);
            search(machine, value, keys, seen, found);
            keys.pop();
        }
    }
}

/// Name and index of each tensor of a dict.
fn tensors<'m, 'a>(machine: &'m Machine<'a>, dict: usize) -> impl Iterator<Item = (&'a str, usize)> + use<'m, 'a> {
    machine.entries(dict).iter().filter_map(|entry| match *entry {
        (Value::Text(name), Value::Tensor(tensor)) => Some((name, tensor)),
        _ => None,
    })
}

/// What lies beside the tensors of the dict that `keys` lead to: in it, and in the dicts on the way to it.
fn passed_over<'a>(machine: &Machine<'a>, top: Value<'a>, keys: &[&'a str]) -> Vec<PassedOver> {
    let (mut found, mut value) = (Vec::new(), top);
    for level in 0..=keys.len() {
        let Some(dict) = machine.dict_of(value) else { break };
        let (above, next) = keys.split_at(level);
        for &(key, entry) in machine.entries(dict) {
            match (key, entry) {
                (Value::Text(key), _) if next.first() == Some(&key) => value = entry,
                (Value::Text(_), Value::Tensor(_)) if next.is_empty() => {}
                _ => {
                    let key = match key {
                        Value::Text(key) => key.escape_default().to_string(),
                        Value::Int(key) => key.to_string(),
                        other => machine.describe(other),
                    };
                    let name: Vec<&str> = above.iter().copied().chain([key.as_str()]).collect();
                    found.push(PassedOver { name: name.join("."), what: machine.describe(entry) });
                }
            }
        }
    }
    found
}

fn no_state_dict<'a>(machine: &Machine<'a>, top: Value<'a>) -> Error {
    let classes: Vec<&str> = machine.classes().iter().map(String::as_str).collect();
    foreign::identify(&classes).unwrap_or_else(|| {
        let entries: Vec<String> = passed_over(machine, top, &[]).iter().map(ToString::to_string).collect();
        let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
        let what = match (top, entries.is_empty()) {
            (Value::Object(_), _) => format!("{}, no state dict", machine.describe(top)),
            (_, true) => "no state dict".into(),
            (_, false) => format!("no state dict, but {}", foreign::listed(&entries)),
        };
        Error::new(ErrorKind::Unsupported, format!("the file holds {what}"))
            .remedy("save one alone: torch.save(model.state_dict(), file)")
    })
}
