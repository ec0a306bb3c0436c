//! The GeoTIFF tags that describe a coordinate reference system (OGC 19-008r4): a directory of keys and their values.

use super::codes::is_geographic;

/// Keys of the directory that this program reads or writes.
pub(super) mod key {
    pub const MODEL_TYPE: u16 = 1024;
    pub const RASTER_TYPE: u16 = 1025;
    pub const CITATION: u16 = 1026;
    pub const GEODETIC_CRS: u16 = 2048;
    pub const PROJECTED_CRS: u16 = 3072;
    pub const PROJECTED_CITATION: u16 = 3073;
}

/// A value that says "user-defined": other keys describe it.
pub(super) const USER_DEFINED: u16 = 32_767;
const TAG_DOUBLES: u16 = 34_736;
const TAG_ASCII: u16 = 34_737;
const RASTER_PIXEL_IS_AREA: u16 = 1;
const RASTER_PIXEL_IS_POINT: u16 = 2;
/// How Esri's and GDAL's software marks well-known text within a citation.
const PE_STRING: &str = "ESRI PE String = ";

/// The three GeoTIFF tags that describe a coordinate reference system.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GeoKeys {
    /// GeoKeyDirectory (tag 34735): four numbers a key after a header of four.
    pub directory: Vec<u16>,
    /// GeoDoubleParams (tag 34736).
    pub doubles: Vec<f64>,
    /// GeoAsciiParams (tag 34737).
    pub ascii: String,
}

impl GeoKeys {
    /// Location, count and value of a key.
    fn entry(&self, key: u16) -> Option<(u16, usize, usize)> {
        let found = self.directory.get(4..)?.chunks_exact(4).find(|k| k[0] == key)?;
        Some((found[1], usize::from(found[2]), usize::from(found[3])))
    }

    /// The value of a key that is stored as a short in the directory itself.
    pub fn short(&self, key: u16) -> Option<u16> {
        self.directory.get(4..)?.chunks_exact(4).find(|k| k[0] == key && k[1] == 0).map(|k| k[3])
    }

    /// A key's EPSG code: neither undefined (0) nor user-defined.
    pub(super) fn code(&self, key: u16) -> Option<u16> {
        self.short(key).filter(|&v| v != 0 && v != USER_DEFINED)
    }

    /// The values of a key that are double precision numbers; empty if there are none.
    pub fn doubles(&self, key: u16) -> &[f64] {
        match self.entry(key) {
            Some((TAG_DOUBLES, count, at)) => self.doubles.get(at..at + count).unwrap_or_default(),
            _ => &[],
        }
    }

    /// The first number of a key, if it has one.
    pub fn double(&self, key: u16) -> Option<f64> {
        self.doubles(key).first().copied()
    }

    /// The text of a key, without the bar that ends it.
    pub fn text(&self, key: u16) -> Option<&str> {
        let Some((TAG_ASCII, count, at)) = self.entry(key) else { return None };
        // Counted in bytes; a file in another encoding than ASCII gives what is there.
        let text = self.ascii.get(at..(at + count).min(self.ascii.len()))?;
        Some(text.trim_end_matches(['|', '\0']))
    }

    /// The well-known text that Esri's software, and GDAL where GeoTIFF has no words for a system, puts into a citation.
    pub fn well_known_text(&self) -> Option<&str> {
        [key::PROJECTED_CITATION, key::CITATION]
            .iter()
            .find_map(|&k| Some(self.text(k)?.split_once(PE_STRING)?.1.trim()))
    }

    /// What the file calls its system.
    pub(super) fn name(&self) -> Option<&str> {
        let first = |key| self.text(key).map(|text| text.lines().next_back().unwrap_or_default());
        first(key::CITATION).or_else(|| first(2049)).filter(|name| !name.is_empty() && *name != "unknown")
    }

    /// Whether the tie points are pixel centres (PixelIsPoint) rather than corners.
    pub fn pixel_is_point(&self) -> bool {
        self.short(key::RASTER_TYPE) == Some(RASTER_PIXEL_IS_POINT)
    }

    /// The same keys, with tie points that are pixel corners.
    #[must_use]
    pub fn pixel_is_area(mut self) -> Self {
        for entry in self.directory.get_mut(4..).unwrap_or_default().chunks_exact_mut(4) {
            if entry[0] == key::RASTER_TYPE && entry[1] == 0 {
                entry[3] = RASTER_PIXEL_IS_AREA;
            }
        }
        self
    }

    /// Keys that say no more than an EPSG code; `None` if the code does not fit into a key.
    pub fn from_epsg(epsg: u32) -> Option<Self> {
        let (model, key) = if is_geographic(epsg) { (2, key::GEODETIC_CRS) } else { (1, key::PROJECTED_CRS) };
        let epsg = u16::try_from(epsg).ok()?;
        #[rustfmt::skip]
        let directory = vec![
            1, 1, 0, 3,
            key::MODEL_TYPE, 0, 1, model,
            key::RASTER_TYPE, 0, 1, RASTER_PIXEL_IS_AREA,
            key, 0, 1, epsg,
        ];
        Some(Self { directory, doubles: Vec::new(), ascii: String::new() })
    }

    /// Keys for a system that has no code, by its well-known text; `None` if that is too long or not ASCII.
    pub fn from_well_known_text(wkt: &str) -> Option<Self> {
        let one_line: String = wkt.split(['\r', '\n']).map(str::trim).collect();
        let ascii = format!("{PE_STRING}{one_line}|");
        let length = u16::try_from(ascii.len()).ok().filter(|_| ascii.is_ascii())?;
        #[rustfmt::skip]
        let directory = vec![
            1, 1, 0, 4,
            key::MODEL_TYPE, 0, 1, USER_DEFINED,
            key::RASTER_TYPE, 0, 1, RASTER_PIXEL_IS_AREA,
            key::PROJECTED_CRS, 0, 1, USER_DEFINED,
            key::PROJECTED_CITATION, TAG_ASCII, length, 0,
        ];
        Some(Self { directory, doubles: Vec::new(), ascii })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_every_kind() {
        let keys = GeoKeys {
            directory: vec![
                1,
                1,
                0,
                4,
                1024,
                0,
                1,
                1,
                3080,
                TAG_DOUBLES,
                1,
                2,
                2062,
                TAG_DOUBLES,
                3,
                0,
                1026,
                TAG_ASCII,
                5,
                3,
            ],
            doubles: vec![1.0, 2.0, 3.0],
            ascii: "ab|name|".into(),
        };
        assert_eq!(keys.short(1024), Some(1));
        assert_eq!(keys.double(3080), Some(3.0));
        assert_eq!(keys.doubles(2062), [1.0, 2.0, 3.0]);
        assert_eq!(keys.text(1026), Some("name"));
        assert_eq!((keys.double(1024), keys.text(1024), keys.short(3080)), (None, None, None));
        // Beyond the tags' end there is nothing.
        let cut = GeoKeys { doubles: vec![1.0], ascii: String::new(), ..keys };
        assert_eq!((cut.double(3080), cut.text(1026)), (None, None));
        assert_eq!(GeoKeys { directory: vec![1], ..GeoKeys::default() }.short(1024), None);
    }

    #[test]
    fn well_known_text_in_a_citation() {
        let keys = GeoKeys::from_well_known_text("PROJCS[\"x\",\n  UNIT[\"Meter\",1.0]]").expect("short");
        assert_eq!(keys.well_known_text(), Some("PROJCS[\"x\",UNIT[\"Meter\",1.0]]"));
        assert!(GeoKeys::from_well_known_text("ö").is_none());
    }
}
