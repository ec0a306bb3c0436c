//! Which sample is red, green, blue or alpha, as GDAL's metadata says.

use roxmltree::Document;
use tiff::tags::Tag;

use super::directory::Tags;
use crate::error::Result;

/// Where GDAL keeps what TIFF has no tag for, as XML.
const GDAL_METADATA: Tag = Tag::Unknown(42112);
/// TIFF's photometric interpretation RGB.
const RGB: u64 = 2;

/// What a sample of a pixel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Red,
    Green,
    Blue,
    Alpha,
    Other,
}

impl Role {
    fn of(name: &str) -> Self {
        match name.trim().to_ascii_lowercase().as_str() {
            "red" => Self::Red,
            "green" => Self::Green,
            "blue" => Self::Blue,
            "alpha" => Self::Alpha,
            _ => Self::Other,
        }
    }
}

/// The role of each sample, where the file's colour interpretation says one.
pub(super) fn declared(tags: &mut Tags<'_>, samples: usize) -> Result<Vec<Option<Role>>> {
    items(tags, samples, "colorinterp")
}

/// The samples that are red, green and blue: by the colour interpretation, else by the bands' names if they are not said to
/// be red, green and blue in this order.
pub(super) fn order(tags: &mut Tags<'_>, declared: &[Option<Role>], photometric: u64) -> Result<Option<[usize; 3]>> {
    if let Some(order) = colours(declared) {
        return Ok(Some(order));
    }
    if photometric == RGB {
        return Ok(None);
    }
    Ok(colours(&items(tags, declared.len(), "description")?))
}

/// Where red, green and blue are, if each is there once.
fn colours(roles: &[Option<Role>]) -> Option<[usize; 3]> {
    let find = |role: Role| {
        let mut places = (0..roles.len()).filter(|i| roles[*i] == Some(role));
        places.next().filter(|_| places.next().is_none())
    };
    Some([find(Role::Red)?, find(Role::Green)?, find(Role::Blue)?])
}

/// The items of the metadata that play a role for a sample.
fn items(tags: &mut Tags<'_>, samples: usize, role: &str) -> Result<Vec<Option<Role>>> {
    let mut out = vec![None; samples];
    let Some(text) = tags.text(GDAL_METADATA)? else { return Ok(out) };
    // Metadata that is no XML says nothing.
    let Ok(document) = Document::parse(text.trim_matches('\0')) else { return Ok(out) };
    for item in document.descendants().filter(|n| n.has_tag_name("Item") && n.attribute("role") == Some(role)) {
        let sample = item.attribute("sample").and_then(|s| s.parse::<usize>().ok());
        if let (Some(slot), Some(name)) = (sample.and_then(|s| out.get_mut(s)), item.text()) {
            *slot = Some(Role::of(name));
        }
    }
    Ok(out)
}
