//! In which coordinates an image's polygons are written, and why not in longitude and latitude.

use crate::error::{Error, Result};
use crate::georef::{Georef, ToLonLat};

/// How polygons of an image get from pixels to the coordinates that are written.
pub struct Placement<'a> {
    georef: Option<&'a Georef>,
    space: Space,
}

enum Space {
    /// Longitude and latitude on WGS 84.
    LonLat(ToLonLat),
    /// The image's own system, which cannot be converted: why not.
    #[cfg(not(target_arch = "wasm32"))]
    Map(String),
    /// Pixels: why, if the image has a georeference all the same.
    Pixels(Option<String>),
}

impl<'a> Placement<'a> {
    /// The placement of an image of `width` x `height` pixels.
    pub fn new(georef: Option<&'a Georef>, width: usize, height: usize) -> Self {
        Self::of(georef, Some((width, height)))
    }

    #[cfg_attr(
        target_arch = "wasm32",
        expect(unused_variables, reason = "the size tells lost transforms, which tiles have not")
    )]
    fn of(georef: Option<&'a Georef>, size: Option<(usize, usize)>) -> Self {
        let Some(found) = georef else { return Self { georef, space: Space::Pixels(None) } };
        // In the browser there are tiles only, which have their place.
        #[cfg(target_arch = "wasm32")]
        let space = ToLonLat::of(&found.crs).map_or(Space::Pixels(None), Space::LonLat);
        #[cfg(not(target_arch = "wasm32"))]
        let space = match (found.no_place(size), ToLonLat::of(&found.crs)) {
            (None, Ok(to_lon_lat)) => Space::LonLat(to_lon_lat),
            (None, Err(why)) => Space::Map(why.to_string()),
            (Some(why), _) => return Self { georef: None, space: Space::Pixels(Some(why)) },
        };
        Self { georef, space }
    }

    /// What the coordinates are: `wgs84` (longitude and latitude, degrees), `map` (of the image's own system) or
    /// `pixels`.
    pub fn coordinates(&self) -> &'static str {
        match &self.space {
            Space::LonLat(_) => "wgs84",
            #[cfg(not(target_arch = "wasm32"))]
            Space::Map(_) => "map",
            Space::Pixels(_) => "pixels",
        }
    }

    /// What to tell the user if the coordinates are not longitude and latitude: what they are, why, and the remedy.
    pub fn warning(&self) -> Option<String> {
        match &self.space {
            Space::LonLat(_) => None,
            #[cfg(not(target_arch = "wasm32"))]
            Space::Map(why) => Some(format!("polygons are in map coordinates, not in longitude and latitude: {why}")),
            Space::Pixels(Some(why)) => Some(format!(
                "polygons are in pixels: the georeference places nothing: {why} (georeference the image again)"
            )),
            Space::Pixels(None) => Some(
                "polygons are in pixels: the image has no georeference (tie points alone are none; gdalwarp makes one of them)"
                    .into(),
            ),
        }
    }

    pub(crate) fn to_lon_lat(&self) -> Option<&ToLonLat> {
        match &self.space {
            Space::LonLat(to_lon_lat) => Some(to_lon_lat),
            _ => None,
        }
    }

    pub(crate) fn georef(&self) -> Option<&'a Georef> {
        self.georef
    }

    /// The side of a pixel in map units, if it has any.
    pub(super) fn pixel_size(&self) -> Option<f64> {
        self.georef.map(Georef::pixel_size)
    }

    /// The collection's members that say what the coordinates are, each with a comma behind it. GDAL takes coordinates
    /// without a `crs`, or with one that it cannot read, for longitude and latitude; a local system it takes as such.
    pub(super) fn members(&self) -> Result<String> {
        let (space, name) = match &self.space {
            Space::LonLat(_) => return Ok(String::new()),
            #[cfg(not(target_arch = "wasm32"))]
            Space::Map(_) => {
                let crs = self.georef.map(|g| g.crs.clone()).unwrap_or_default();
                let space = format!("map coordinates of {}", crs.name());
                let name = match crs.epsg {
                    Some(code) => format!("urn:ogc:def:crs:EPSG::{code}"),
                    None => local_system(&space),
                };
                (space, name)
            }
            Space::Pixels(_) => ("pixels, x right, y down from the top left corner".to_owned(), local_system("pixels")),
        };
        let quoted = |text: &str| serde_json::to_string(text).map_err(|e| Error::from(std::io::Error::from(e)));
        let (space, name) = (quoted(&space)?, quoted(&name)?);
        Ok(format!(r#""crs":{{"type":"name","properties":{{"name":{name}}}}},"coordinate_space":{space},"#))
    }
}

impl<'a> From<Option<&'a Georef>> for Placement<'a> {
    /// The placement of an image of unknown size.
    fn from(georef: Option<&'a Georef>) -> Self {
        Self::of(georef, None)
    }
}

/// Well-known text of a system that has no place on earth.
fn local_system(name: &str) -> String {
    format!(r#"LOCAL_CS["{}",UNIT["metre",1]]"#, name.replace('"', "'"))
}
