//! `tilemapresource.xml`, which tilers write beside tiles whose rows are counted from the south (Tile Map Service).

use std::path::Path;

use roxmltree::Document;

use crate::error::{Error, ErrorKind, Result};
use crate::source::sidecar;

/// The file's name.
const NAME: &str = "tilemapresource.xml";
/// Names of the grid that web maps have, in which tiles are placed here.
const PROFILES: [&str; 3] = ["mercator", "global-mercator", "spherical-mercator"];
/// Codes of its system, old and unofficial ones too.
const SYSTEMS: [&str; 7] = ["3857", "900913", "3785", "102100", "102113", "41001", "54004"];

/// Whether a folder holds the file, and so counts rows from the south.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if the file says that the tiles are not those of web maps, [`ErrorKind::Format`] if it is no
/// XML.
pub(super) fn is_beside(folder: &Path) -> Result<bool> {
    let path = folder.join(NAME);
    if !path.is_file() {
        return Ok(false);
    }
    check(&sidecar::read(&path)?).map_err(|e| e.at(path.display()))?;
    Ok(true)
}

fn check(text: &str) -> Result<()> {
    let document = Document::parse(text.trim_start_matches('\u{feff}')).map_err(|e| {
        Error::new(ErrorKind::Format, "is no XML, so that nothing says how the tiles are counted")
            .remedy("remove it, and say with --tms whether rows are counted from the south")
            .source(e)
    })?;
    let find = |name: &str| document.descendants().find(move |n| n.has_tag_name(name));
    let profile = find("TileSets").and_then(|n| n.attribute("profile")).map(str::trim).unwrap_or_default();
    let system = find("SRS").and_then(|n| n.text()).map(str::trim).unwrap_or_default();
    let code = system.rsplit(':').next().unwrap_or_default();
    let known_profile = PROFILES.iter().any(|p| profile.eq_ignore_ascii_case(p));
    // A name or a definition of the system in words is left to the profile.
    let other_system = !code.is_empty() && code.bytes().all(|b| b.is_ascii_digit()) && !SYSTEMS.contains(&code);
    let known_system = SYSTEMS.contains(&code);
    if other_system || !(known_profile || profile.is_empty() && known_system) {
        let message = format!("says profile {profile:?} and system {system:?}, and not the Mercator tiles of web maps");
        return Err(Error::new(ErrorKind::Unsupported, message)
            .remedy("tile it anew, for example with gdal2tiles.py --profile=mercator --xyz"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles() {
        let file = |srs: &str, profile: &str| {
            format!(
                "<?xml version=\"1.0\"?><TileMap><SRS>{srs}</SRS><TileSets{profile}><TileSet order=\"3\"/></TileSets></TileMap>"
            )
        };
        for (srs, profile) in [
            ("EPSG:3857", " profile=\"mercator\""),
            ("EPSG:900913", " profile=\"global-mercator\""),
            ("OSGEO:41001", " profile=\"Mercator\""),
            ("urn:ogc:def:crs:EPSG::3857", ""),
            ("", " profile=\"mercator\""),
        ] {
            check(&file(srs, profile)).unwrap_or_else(|e| panic!("{srs} {profile}: {e}"));
        }
        for (srs, profile) in [
            ("EPSG:4326", " profile=\"geodetic\""),
            ("EPSG:4326", " profile=\"mercator\""),
            ("EPSG:32633", " profile=\"raster\""),
            ("EPSG:3857", " profile=\"local\""),
            ("", ""),
        ] {
            assert_eq!(check(&file(srs, profile)).expect_err("other tiles").kind(), ErrorKind::Unsupported);
        }
        assert_eq!(check("no XML").expect_err("no XML").kind(), ErrorKind::Format);
    }
}
