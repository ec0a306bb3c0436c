//! A summary of a run's settings.

use serde_json::{Map, Value};

use super::markup::{counted, text};

/// A list with more entries than this is only counted: samples, hashes.
const MAX_LIST: usize = 12;
/// A list of tables with more entries than this is only counted.
const MAX_TABLES: usize = 6;
/// Names that say when, not what: the same run twice gives the same report.
const WHEN: [&str; 8] = ["date", "time", "created", "started", "finished", "ended", "timestamp", "now"];

/// One definition list for each table at the top level, one for everything else there.
pub(super) fn settings(settings: &Value) -> String {
    let Value::Object(all) = settings else { return String::new() };
    let mut general = Vec::new();
    let mut groups = String::new();
    for (key, value) in all.iter().filter(|(key, _)| !WHEN.contains(&key.as_str())) {
        match value {
            Value::Object(map) => {
                let mut entries = Vec::new();
                flatten(map, "", &mut entries);
                groups += &group(&title(key), &entries);
            }
            value => push(&title(key), value, &mut general),
        }
    }
    format!("<div class=\"settings\">{}{groups}</div>", group("Run", &general))
}

fn group(name: &str, entries: &[(String, String)]) -> String {
    if entries.is_empty() {
        return String::new();
    }
    let list: String =
        entries.iter().map(|(key, value)| format!("<dt>{}</dt><dd>{}</dd>", text(key), text(value))).collect();
    format!("<div><h3>{}</h3><dl>{list}</dl></div>", text(name))
}

fn flatten(map: &Map<String, Value>, prefix: &str, entries: &mut Vec<(String, String)>) {
    for (key, value) in map.iter().filter(|(key, _)| !WHEN.contains(&key.as_str())) {
        let name = if prefix.is_empty() { title(key) } else { format!("{prefix}{}", key.replace('_', " ")) };
        push(&name, value, entries);
    }
}

/// Adds a value under a name; the entries of a table, each under its own.
fn push(name: &str, value: &Value, entries: &mut Vec<(String, String)>) {
    match value {
        Value::Null => entries.push((name.to_owned(), "none".to_owned())),
        Value::Bool(on) => entries.push((name.to_owned(), if *on { "yes" } else { "no" }.to_owned())),
        Value::Number(n) => entries.push((name.to_owned(), n.to_string())),
        Value::String(s) => entries.push((name.to_owned(), s.clone())),
        Value::Object(map) => flatten(map, &format!("{name}: "), entries),
        Value::Array(list) => {
            let tables = list.iter().filter(|v| v.is_object() || v.is_array()).count();
            if tables == 0 && list.len() <= MAX_LIST {
                let mut parts = Vec::new();
                list.iter().for_each(|v| push("", v, &mut parts));
                let parts: Vec<String> = parts.into_iter().map(|(_, value)| value).collect();
                entries.push((name.to_owned(), if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }));
            } else if tables > 0 && list.len() <= MAX_TABLES {
                list.iter().enumerate().for_each(|(i, v)| push(&format!("{name} {}", i + 1), v, entries));
            } else {
                entries.push((name.to_owned(), counted(list.len() as u64, "entry", "entries")));
            }
        }
    }
}

/// `batch_size` as `Batch size`.
fn title(key: &str) -> String {
    let mut letters = key.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    (first + letters.as_str()).replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_counted_and_dates_left_out() {
        let value = serde_json::json!({
            "seed": 1, "date": "today", "train": { "names": vec!["a"; 2000], "band": [1, 2], "on": true, "x": { "y": null } },
            "data": [{ "path": "<p>" }],
        });
        let html = settings(&value);
        for part in
            ["<dt>Seed</dt><dd>1</dd>", "2,000 entries", "<dd>1, 2</dd>", "<dd>yes</dd>", "<dt>X: y</dt><dd>none"]
        {
            assert!(html.contains(part), "{part}: {html}");
        }
        assert!(html.contains("<dt>Data 1: path</dt><dd>&lt;p&gt;</dd>") && !html.contains("today"), "{html}");
    }
}
