//! WGSL texts with their variants written out in them.
//!
//! WGSL has neither conditional compilation nor unrolled loops, and some compilers keep loops over arrays as they are. So a text may hold
//! lines that are for this module:
//!
//! ```text
//! #if NAME            the lines up to #else or #end, if NAME has a value other than 0
//! #else
//! #for i in A..B      the lines up to #end once for each number; A and B are numbers or names
//! #end
//! ```
//!
//! `{{NAME}}` is replaced by a value, and `@binding(#)` by the next binding's number.

/// SlotValues by name.
pub type SlotValues<'a> = Vec<(&'a str, String)>;

/// The text as a compiler reads it.
pub fn render(text: &str, values: &SlotValues) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut renderer = Renderer { lines: &lines, values: values.clone(), out: String::new(), bindings: 0 };
    renderer.section(0, true);
    renderer.out
}

struct Renderer<'a> {
    lines: &'a [&'a str],
    values: SlotValues<'a>,
    out: String,
    bindings: usize,
}

impl<'a> Renderer<'a> {
    /// Writes the lines from `at` to the section's `#else` or `#end`, or passes over them; gives that line's number.
    fn section(&mut self, mut at: usize, is_kept: bool) -> usize {
        while let Some(line) = self.lines.get(at) {
            at = match line.as_bytes() {
                [b'#', b'i', b'f', ..] => {
                    let holds = self.holds(line[3..].trim());
                    let end = self.section(at + 1, is_kept && holds);
                    if self.lines.get(end) == Some(&"#else") { self.section(end + 1, is_kept && !holds) } else { end }
                }
                [b'#', b'f', ..] => self.repeat(at, is_kept),
                [b'#', ..] => return at,
                _ => {
                    if is_kept {
                        self.line(line);
                    }
                    at
                }
            } + 1;
        }
        at
    }

    /// A `#for` section at line `at`.
    fn repeat(&mut self, at: usize, is_kept: bool) -> usize {
        let line: &'a str = self.lines[at];
        let mut words = line.split([' ', '.']).filter(|word| !word.is_empty()).skip(1);
        let variable = words.next().unwrap_or_default();
        let [first, end] = [words.nth(1), words.next()].map(|word| self.number(word.unwrap_or_default()));
        let mut last = self.section(at + 1, false);
        for i in first..if is_kept { end } else { first } {
            let own = self.values.len();
            self.values.push((variable, i.to_string()));
            last = self.section(at + 1, true);
            self.values.truncate(own);
        }
        last
    }

    fn line(&mut self, line: &str) {
        let mut rest = line;
        while let Some(start) = rest.find("{{") {
            let length = rest[start..].find("}}").unwrap_or(rest.len() - start);
            self.out += &rest[..start];
            let value = self.value(&rest[start + 2..start + length]).to_owned();
            self.out += &value;
            rest = rest.get(start + length + 2..).unwrap_or_default();
        }
        match rest.split_once("@binding(#)") {
            Some((before, after)) => {
                self.out += before;
                self.out += "@binding(";
                self.out += &self.bindings.to_string();
                self.out += ")";
                self.out += after;
                self.bindings += 1;
            }
            None => self.out += rest,
        }
        self.out.push('\n');
    }

    fn value(&self, name: &str) -> &str {
        self.values.iter().rev().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    }

    fn holds(&self, name: &str) -> bool {
        !matches!(self.value(name), "" | "0")
    }

    /// Of a name or of digits.
    fn number(&self, word: &str) -> usize {
        word.parse().or_else(|_| self.value(word).parse()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_kept_dropped_and_repeated() {
        let text = "@group(0) @binding(#) a\n#if wide\n@binding(#) b\n#for i in 1..n\n#for k in 0..2\n{{i}}{{k}} {{n}}\n#end\n#end\n#else\nnarrow\n#if n\ndeep\n#end\n#end\nend";
        let values = |wide: usize, n: usize| vec![("wide", wide.to_string()), ("n", n.to_string())];
        assert_eq!(
            render(text, &values(1, 3)),
            "@group(0) @binding(0) a\n@binding(1) b\n10 3\n11 3\n20 3\n21 3\nend\n"
        );
        assert_eq!(render(text, &values(1, 1)), "@group(0) @binding(0) a\n@binding(1) b\nend\n");
        assert_eq!(render(text, &values(0, 2)), "@group(0) @binding(0) a\nnarrow\ndeep\nend\n");
        assert_eq!(render(text, &values(0, 0)), "@group(0) @binding(0) a\nnarrow\nend\n");
    }
}
