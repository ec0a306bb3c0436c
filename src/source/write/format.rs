//! What masks share as PNG and as TIFF: the colour table, and checks of their size.

use std::path::Path;

use crate::config::Class;
use crate::error::{Error, ErrorKind, Result};

/// The colour of each class index; black for indices without a class.
pub(super) fn palette(classes: &[Class]) -> [[u8; 3]; 256] {
    let mut palette = [[0; 3]; 256];
    for class in classes {
        palette[usize::from(class.index)] = class.color;
    }
    palette
}

/// A side of an image as the formats hold it.
pub(super) fn side(pixels: usize, path: &Path) -> Result<u32> {
    match u32::try_from(pixels) {
        Ok(side) if (1..=i32::MAX as u32).contains(&side) => Ok(side),
        _ => {
            Err(Error::new(ErrorKind::Limit, format!("an image cannot be {pixels} pixels wide or high"))
                .at(path.display()))
        }
    }
}

pub(super) fn wrong_length(path: &Path) -> Error {
    Error::new(ErrorKind::Invalid, "the pixels given do not fill the image exactly").at(path.display())
}
