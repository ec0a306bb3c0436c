//! Well-known text of coordinate reference systems, version 1 (OGC 01-009), as `.prj` files and citations hold it.

/// A node: `KEYWORD["name", 1, CHILD[...]]`.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct WktNode {
    /// In capitals.
    pub keyword: String,
    /// Quoted texts and bare words, in their order.
    pub texts: Vec<String>,
    pub numbers: Vec<f64>,
    pub children: Vec<WktNode>,
}

/// How deep nodes may lie in each other; real text has 5.
const MAX_DEPTH: usize = 32;

impl WktNode {
    /// Reads one node; `None` if the text is not well-known text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::from_start(&mut text.trim(), 0)
    }

    fn from_start(rest: &mut &str, depth: usize) -> Option<Self> {
        let open = rest.find(['[', '('])?;
        let keyword = rest[..open].trim().to_ascii_uppercase();
        if depth > MAX_DEPTH || keyword.is_empty() || !keyword.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return None;
        }
        *rest = &rest[open + 1..];
        let mut node = Self { keyword, ..Self::default() };
        loop {
            *rest = rest.trim_start();
            match rest.chars().next()? {
                ']' | ')' => {
                    *rest = &rest[1..];
                    return Some(node);
                }
                ',' => *rest = &rest[1..],
                '"' => {
                    let end = rest[1..].find('"')? + 1;
                    node.texts.push(rest[1..end].to_owned());
                    *rest = &rest[end + 1..];
                }
                _ => {
                    let end = rest.find([',', ']', ')', '[', '('])?;
                    if rest[end..].starts_with(['[', '(']) {
                        node.children.push(Self::from_start(rest, depth + 1)?);
                        continue;
                    }
                    let word = rest[..end].trim();
                    match word.parse() {
                        Ok(number) => node.numbers.push(number),
                        Err(_) => node.texts.push(word.to_owned()),
                    }
                    *rest = &rest[end..];
                }
            }
        }
    }

    /// The first child of a keyword.
    pub fn child(&self, keyword: &str) -> Option<&Self> {
        self.children.iter().find(|c| c.keyword == keyword)
    }

    /// The first text.
    pub fn name(&self) -> &str {
        self.texts.first().map_or("", String::as_str)
    }

    /// The EPSG code of this very node, not of those within it.
    pub fn epsg(&self) -> Option<u32> {
        let authority = self.children.iter().find(|c| matches!(c.keyword.as_str(), "AUTHORITY" | "ID"))?;
        if !authority.name().eq_ignore_ascii_case("EPSG") {
            return None;
        }
        let text = || authority.texts.get(1)?.parse().ok();
        authority.numbers.first().map(|&n| n as u32).or_else(text)
    }

    #[cfg(not(target_arch = "wasm32"))]
    /// The value of a `PARAMETER`, whatever the case of its name.
    pub fn parameter(&self, names: &[&str]) -> Option<f64> {
        names.iter().find_map(|name| {
            let found = self.children.iter().filter(|c| c.keyword == "PARAMETER");
            found.filter(|c| c.name().eq_ignore_ascii_case(name)).find_map(|c| c.numbers.first().copied())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_within_nodes() {
        let text = r#"PROJCS["a, b]",GEOGCS["g",PRIMEM("Greenwich",0)], PARAMETER["False_Easting",-1.5e3],
            AXIS["X",EAST],AUTHORITY["EPSG","32643"]]"#;
        let node = WktNode::parse(text).expect("well-known text");
        assert_eq!((node.keyword.as_str(), node.name(), node.epsg()), ("PROJCS", "a, b]", Some(32643)));
        assert_eq!(node.parameter(&["nothing", "false_easting"]), Some(-1500.0));
        let geographic = node.child("GEOGCS").expect("a child");
        assert_eq!(geographic.child("PRIMEM").map(|p| p.numbers.clone()), Some(vec![0.0]));
        assert_eq!(geographic.epsg(), None);
        assert_eq!(node.child("AXIS").map(|a| a.texts.clone()), Some(vec!["X".into(), "EAST".into()]));
        for text in ["", "x", "PROJCS[", "PROJCS[\"a]", "PROJCS[\"a\",GEOGCS[\"b\"]", "[1]"] {
            assert_eq!(WktNode::parse(text), None, "{text}");
        }
        assert_eq!(WktNode::parse(&"A[".repeat(100_000)), None);
    }
}
