//! What values of a pickle are, in words for people.

use super::{Machine, Value};

impl<'a> Machine<'a> {
    /// What a value is, in words.
    pub fn describe(&self, value: Value<'a>) -> String {
        let class = |class: usize| self.classes.get(class).map_or("?", String::as_str);
        let number = |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
        match value {
            Value::None => "nothing".into(),
            Value::Int(_) => "a number".into(),
            Value::Other(what) => what.into(),
            Value::Text(_) => "text".into(),
            Value::Global(global) => class(global.class).to_owned(),
            Value::Sequence(i) => {
                format!("a list of {}", number(self.sequences.get(i).map_or(0, Vec::len), "value", "values"))
            }
            Value::Dict(i) => {
                let entries = self.entries(i);
                match entries.iter().filter(|(_, value)| matches!(value, Value::Tensor(_))).count() {
                    0 => format!("a dict of {}", number(entries.len(), "value", "values")),
                    tensors => format!("a dict of {}", number(tensors, "tensor", "tensors")),
                }
            }
            Value::Storage(_) => "a storage".into(),
            Value::Tensor(_) => "a tensor".into(),
            Value::Object(i) => {
                format!("an object of {}", self.objects.get(i).map_or("?", |object| class(object.class)))
            }
        }
    }
}
