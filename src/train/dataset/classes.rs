//! Class lists of folders, and the one list of a data set.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{DatasetOptions, NamedValue};
use crate::config::Class;
use crate::error::{Error, ErrorKind, Result};

/// The most classes of a data set, background included.
pub const MAX_CLASSES: usize = 250;
/// The name of class 0 where the data has none.
const BACKGROUND: &str = "background";
/// Colours of classes that come without one, told apart also by people who see few colours (Okabe and Ito 2008), then
/// Tableau's.
const PALETTE: [[u8; 3]; 16] = [
    [230, 159, 0],
    [86, 180, 233],
    [0, 158, 115],
    [240, 228, 66],
    [0, 114, 178],
    [213, 94, 0],
    [204, 121, 167],
    [148, 103, 189],
    [140, 86, 75],
    [188, 189, 34],
    [23, 190, 207],
    [255, 152, 150],
    [152, 223, 138],
    [199, 199, 199],
    [197, 176, 213],
    [31, 119, 180],
];

/// A label value with its class's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClassEntry {
    pub value: u32,
    pub name: String,
    pub color: Option<[u8; 3]>,
}

/// What one folder says about its label values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClassList {
    /// The file that says it, for messages.
    pub file: PathBuf,
    pub entries: Vec<ClassEntry>,
}

impl ClassList {
    /// Checks that no value has two names. Two values may share a name: they are one class.
    pub(super) fn new(file: PathBuf, entries: Vec<ClassEntry>) -> Result<Self> {
        let mut names: BTreeMap<u32, &str> = BTreeMap::new();
        for entry in &entries {
            if entry.name.is_empty() {
                return Err(Error::new(ErrorKind::Format, format!("value {} has an empty name", entry.value))
                    .at(file.display())
                    .remedy("name every class"));
            }
            if let Some(other) = names.insert(entry.value, &entry.name).filter(|n| !same(n, &entry.name)) {
                let message = format!("value {} is {other:?} and {:?}", entry.value, entry.name);
                return Err(Error::new(ErrorKind::Invalid, message).at(file.display()).remedy("give it one name"));
            }
        }
        Ok(Self { file, entries })
    }

    /// Reads a `classes.json`: `{"classes": ["road", ..], "palette": ["#RRGGBB", ..]}`, where a class's place in the list
    /// is its value, or `{"classes": [{"value": 10, "name": "road", "color": "#RRGGBB"}, ..]}`.
    pub(super) fn read_json(file: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Json {
            classes: Vec<JsonClass>,
            #[serde(default)]
            palette: Vec<String>,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum JsonClass {
            Name(String),
            Full { value: u32, name: String, color: Option<String> },
        }
        const SHAPE: &str = "it holds {\"classes\": [\"background\", \"road\"]}, or \
                             {\"classes\": [{\"value\": 10, \"name\": \"road\", \"color\": \"#FF8000\"}]}";
        let text = fs::read_to_string(file).map_err(|e| Error::from(e).at(file.display()))?;
        let json: Json = serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|e| {
            Error::new(ErrorKind::Format, "the class list cannot be read").at(file.display()).remedy(SHAPE).source(e)
        })?;
        if !json.palette.is_empty() && json.palette.len() != json.classes.len() {
            let message = format!("{} colours for {} classes", json.palette.len(), json.classes.len());
            return Err(Error::new(ErrorKind::Format, message).at(file.display()).remedy("give each class one colour"));
        }
        let mut entries = Vec::with_capacity(json.classes.len());
        for (i, class) in json.classes.into_iter().enumerate() {
            let listed = json.palette.get(i).cloned();
            let (value, name, color) = match class {
                JsonClass::Name(name) => (i as u32, name, listed),
                JsonClass::Full { value, name, color } => (value, name, color.or(listed)),
            };
            let color = match color {
                Some(text) => Some(parse_color(&text).ok_or_else(|| {
                    Error::new(ErrorKind::Format, format!("{text:?} is no colour"))
                        .at(file.display())
                        .remedy("colours are written #RRGGBB")
                })?),
                None => None,
            };
            entries.push(ClassEntry { value, name: name.trim().to_owned(), color });
        }
        Self::new(file.to_owned(), entries)
    }

    /// The list of label values that came without names.
    pub(super) fn of_values(folder: &Path, values: impl IntoIterator<Item = u32>, background: u32) -> Self {
        let name = |v: u32| if v == background { BACKGROUND.to_owned() } else { format!("class {v}") };
        let entries = values.into_iter().map(|value| ClassEntry { value, name: name(value), color: None }).collect();
        Self { file: folder.to_owned(), entries }
    }

    /// The list that was asked for, with this folder's colours.
    pub(super) fn asked(folder: &Path, classes: &[NamedValue], own: Option<&Self>) -> Result<Self> {
        let color = |c: &NamedValue| {
            let own = own.map(|l| l.entries.as_slice()).unwrap_or_default();
            own.iter().find(|e| e.value == c.value).and_then(|e| e.color)
        };
        let entries =
            classes.iter().map(|c| ClassEntry { value: c.value, name: c.name.clone(), color: color(c) }).collect();
        Self::new(own.map_or(folder, |l| &l.file).to_owned(), entries)
    }

    /// One list of several, for a folder that has none of its own.
    pub(super) fn merged(lists: &[&Self]) -> Result<Option<Self>> {
        let Some(first) = lists.first() else { return Ok(None) };
        for list in lists {
            for entry in &list.entries {
                let other = first.entries.iter().find(|e| e.value == entry.value);
                if let Some(other) = other.filter(|o| !same(&o.name, &entry.name)) {
                    return Err(clash(first, other, list, entry));
                }
            }
        }
        let mut entries: Vec<ClassEntry> = lists.iter().flat_map(|l| l.entries.iter().cloned()).collect();
        entries.sort_by_key(|e| e.value);
        entries.dedup_by(|a, b| a.value == b.value && same(&a.name, &b.name));
        Self::new(first.file.clone(), entries).map(Some)
    }

    fn name_of(&self, value: u32) -> Option<&str> {
        self.entries.iter().find(|e| e.value == value).map(|e| e.name.as_str())
    }

    fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|e| same(&e.name, name))
    }
}

/// The classes of a data set.
pub(super) struct Classes {
    pub classes: Vec<Class>,
    /// The label value of each class, in the first folder that has it.
    pub values: Vec<u32>,
    /// For each folder, the class of each label value.
    pub maps: Vec<BTreeMap<u32, u8>>,
}

/// Unites the folders' lists by name.
pub(super) fn unite(lists: &[ClassList], options: &DatasetOptions) -> Result<Classes> {
    check_agreement(lists)?;
    let background = options.background.unwrap_or(0);
    // A value that is ignored names nothing, unless it was named as background.
    let ignored = |v: u32| options.ignore.contains(&v);
    let zero = lists.iter().filter(|_| !ignored(background)).find_map(|l| l.name_of(background));
    let zero = zero.unwrap_or(BACKGROUND).to_owned();

    let listed = || lists.iter().flat_map(|l| &l.entries).filter(|e| !ignored(e.value));
    let mut names: Vec<(String, u32)> = vec![(zero.clone(), background)];
    let mut others: Vec<&ClassEntry> = listed().collect();
    others.sort_by_key(|e| e.value);
    for entry in others {
        if !names.iter().any(|(name, _)| same(name, &entry.name)) {
            names.push((entry.name.clone(), entry.value));
        }
    }
    if let Some(keep) = &options.keep {
        let known = names.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>().join(", ");
        if let Some(unknown) = keep.iter().find(|k| !names.iter().any(|(n, _)| same(n, k))) {
            return Err(Error::new(ErrorKind::Invalid, format!("there is no class {unknown:?}"))
                .at("--keep")
                .remedy(format!("the classes are {known}")));
        }
        names = names
            .drain(..)
            .enumerate()
            .filter(|(i, (n, _))| *i == 0 || keep.iter().any(|k| same(n, k)))
            .map(|(_, n)| n)
            .collect();
    }
    if names.len() < 2 {
        return Err(Error::new(ErrorKind::Invalid, "there is no class besides background").at(place(lists)).remedy(
            "name the classes in classes.json or with --class VALUE=NAME; masks must hold more than one value",
        ));
    }
    if names.len() > MAX_CLASSES {
        return Err(Error::new(ErrorKind::Limit, format!("{} classes, at most {MAX_CLASSES}", names.len()))
            .at(place(lists))
            .remedy("are these label values? keep some with --keep NAME"));
    }

    let index = |name: &str| names.iter().position(|(n, _)| same(n, name)).unwrap_or(0) as u8;
    let map = |list: &ClassList| {
        let mut map = BTreeMap::from([(background, 0)]);
        map.extend(list.entries.iter().map(|e| (e.value, index(&e.name))));
        map
    };
    let maps = lists.iter().map(map).collect();
    let colors: Vec<Option<[u8; 3]>> =
        names.iter().map(|(name, _)| listed().filter(|e| same(&e.name, name)).find_map(|e| e.color)).collect();
    let mut used: BTreeSet<[u8; 3]> = colors.iter().flatten().copied().collect();
    let mut fresh = PALETTE.iter().cycle();
    let mut classes = Vec::with_capacity(names.len());
    for (i, ((name, _), color)) in names.iter().zip(&colors).enumerate() {
        let color = color.unwrap_or_else(|| {
            if i == 0 {
                return [0, 0, 0];
            }
            // The first that is free; once all are taken, one again.
            let free = fresh.by_ref().take(PALETTE.len()).find(|c| !used.contains(*c));
            free.copied().unwrap_or(PALETTE[i % PALETTE.len()])
        });
        used.insert(color);
        classes.push(Class { index: i as u8, name: name.clone(), color, threshold: None });
    }
    let values = names.iter().map(|(_, value)| *value).collect();
    Ok(Classes { classes, values, maps })
}

/// One value may mean two things only where both lists name both things: then the names decide.
fn check_agreement(lists: &[ClassList]) -> Result<()> {
    for (i, a) in lists.iter().enumerate() {
        for b in &lists[i + 1..] {
            for ours in &a.entries {
                let theirs = b.entries.iter().find(|e| e.value == ours.value && !same(&e.name, &ours.name));
                if let Some(theirs) = theirs.filter(|t| !a.has(&t.name) && !b.has(&ours.name)) {
                    return Err(clash(a, ours, b, theirs));
                }
            }
        }
    }
    Ok(())
}

fn clash(a: &ClassList, ours: &ClassEntry, b: &ClassList, theirs: &ClassEntry) -> Error {
    let message =
        format!("label value {} is {:?} here and {:?} in {}", ours.value, ours.name, theirs.name, b.file.display());
    Error::new(ErrorKind::Invalid, message)
        .at(a.file.display())
        .remedy("give both the same class list, or name all classes with --class VALUE=NAME")
}

fn place(lists: &[ClassList]) -> String {
    lists.iter().map(|l| l.file.display().to_string()).take(3).collect::<Vec<_>>().join(", ")
}

fn same(a: &str, b: &str) -> bool {
    a.trim().to_lowercase() == b.trim().to_lowercase()
}

/// `#RRGGBB`, with or without the sign.
fn parse_color(text: &str) -> Option<[u8; 3]> {
    let digits = text.trim().trim_start_matches('#');
    let number = u32::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 6)?;
    let [_, r, g, b] = number.to_be_bytes();
    Some([r, g, b])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(file: &str, entries: &[(u32, &str)]) -> ClassList {
        let entries =
            entries.iter().map(|(v, n)| ClassEntry { value: *v, name: (*n).to_owned(), color: None }).collect();
        ClassList::new(file.into(), entries).expect("valid")
    }

    fn names(classes: &Classes) -> Vec<&str> {
        classes.classes.iter().map(|c| c.name.as_str()).collect()
    }

    #[test]
    fn lists_are_united_by_name() {
        let lists =
            [list("a", &[(1, "building"), (2, "road")]), list("b", &[(10, "Road"), (20, "water"), (0, "none")])];
        let all = unite(&lists, &DatasetOptions::default()).expect("agree");
        assert_eq!(names(&all), ["none", "building", "road", "water"]);
        assert_eq!(all.values, [0, 1, 2, 20]);
        assert_eq!(all.maps[1], BTreeMap::from([(0, 0), (10, 2), (20, 3)]));
        let colors: BTreeSet<_> = all.classes.iter().map(|c| c.color).collect();
        assert_eq!(colors.len(), 4);
    }

    #[test]
    fn a_clash_names_both() {
        let lists = [list("a.emd", &[(1, "building")]), list("b.json", &[(1, "water")])];
        let Err(error) = unite(&lists, &DatasetOptions::default()) else { panic!("clash") };
        assert!(error.to_string().contains("a.emd") && error.to_string().contains("b.json"), "{error}");
        let turned = [list("a", &[(1, "x"), (2, "y")]), list("b", &[(1, "y"), (2, "x")])];
        assert_eq!(unite(&turned, &DatasetOptions::default()).expect("by name").maps[1][&1], 2);
        assert!(ClassList::new("a".into(), [list("a", &[(1, "x")]), list("a", &[(1, "y")])].concat_entries()).is_err());
    }

    trait Entries {
        fn concat_entries(self) -> Vec<ClassEntry>;
    }

    impl<const N: usize> Entries for [ClassList; N] {
        fn concat_entries(self) -> Vec<ClassEntry> {
            self.into_iter().flat_map(|l| l.entries).collect()
        }
    }

    #[test]
    fn background_ignored_and_kept() {
        let lists = [list("a", &[(0, "unlabeled"), (1, "building"), (2, "land"), (3, "road")])];
        let options = DatasetOptions { ignore: vec![0], ..Default::default() };
        assert_eq!(names(&unite(&lists, &options).expect("valid")), ["background", "building", "land", "road"]);
        let options = DatasetOptions { ignore: vec![0], background: Some(2), ..Default::default() };
        assert_eq!(names(&unite(&lists, &options).expect("valid")), ["land", "building", "road"]);
        let options = DatasetOptions { ignore: vec![0], keep: Some(vec!["building".into()]), ..Default::default() };
        let kept = unite(&lists, &options).expect("valid");
        assert_eq!(names(&kept), ["background", "building"]);
        assert_eq!(kept.maps[0], BTreeMap::from([(0, 0), (1, 1), (2, 0), (3, 0)]));
        let options = DatasetOptions { keep: Some(vec!["house".into()]), ..Default::default() };
        assert!(unite(&lists, &options).is_err());
    }

    #[test]
    fn colours() {
        assert_eq!(parse_color("#FF8001"), Some([255, 128, 1]));
        assert_eq!(parse_color("#F80"), None);
        assert_eq!(parse_color("#GG0000"), None);
    }
}
