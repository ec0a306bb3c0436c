//! Where pixels lie on the ground: an affine transform, a coordinate reference system, and the way to longitude and
//! latitude.

use crate::error::{Error, ErrorKind, Result};
use crate::tile::{Bounds, EARTH_RADIUS, TileId, mercator_to_lon_lat};

/// EPSG code of longitude and latitude on WGS 84.
pub const WGS84: u32 = 4326;
/// EPSG code of Web Mercator.
pub const WEB_MERCATOR: u32 = 3857;
/// Codes under which older software writes Web Mercator.
const WEB_MERCATOR_ALIASES: [u32; 4] = [900_913, 102_100, 102_113, 3785];

/// GeoTIFF keys (OGC 19-008r4) that this module reads or writes.
const KEY_MODEL_TYPE: u16 = 1024;
const KEY_RASTER_TYPE: u16 = 1025;
const KEY_GEODETIC_CRS: u16 = 2048;
const KEY_PROJECTED_CRS: u16 = 3072;
const RASTER_PIXEL_IS_AREA: u16 = 1;
const RASTER_PIXEL_IS_POINT: u16 = 2;

/// An image's place on the map.
#[derive(Debug, Clone, PartialEq)]
pub struct Georef {
    /// `[a, b, c, d, e, f]`: the corner (column, row) lies at `x = a column + b row + c`, `y = d column + e row + f`.
    /// Columns and rows count from the top left corner of the top left pixel (PixelIsArea), whatever the file says.
    pub transform: [f64; 6],
    /// What x and y mean.
    pub crs: Crs,
}

/// A coordinate reference system, as far as the file names it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Crs {
    /// Its EPSG code, if it has one.
    pub epsg: Option<u32>,
    /// The GeoTIFF keys it came with, to be copied to outputs.
    pub keys: Option<GeoKeys>,
}

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
    /// The value of a key that is stored as a short in the directory itself.
    pub fn short(&self, key: u16) -> Option<u16> {
        self.directory.get(4..)?.chunks_exact(4).find(|k| k[0] == key && k[1] == 0).map(|k| k[3])
    }

    /// Whether the tie points are pixel centres (PixelIsPoint) rather than corners.
    pub fn pixel_is_point(&self) -> bool {
        self.short(KEY_RASTER_TYPE) == Some(RASTER_PIXEL_IS_POINT)
    }

    /// The same keys, with tie points that are pixel corners.
    #[must_use]
    pub fn pixel_is_area(mut self) -> Self {
        for key in self.directory.get_mut(4..).unwrap_or_default().chunks_exact_mut(4) {
            if key[0] == KEY_RASTER_TYPE && key[1] == 0 {
                key[3] = RASTER_PIXEL_IS_AREA;
            }
        }
        self
    }

    /// Keys that say no more than an EPSG code; `None` if the code does not fit into a key.
    pub fn from_epsg(epsg: u32) -> Option<Self> {
        let (model, key) = if is_geographic(epsg) { (2, KEY_GEODETIC_CRS) } else { (1, KEY_PROJECTED_CRS) };
        let epsg = u16::try_from(epsg).ok()?;
        #[rustfmt::skip]
        let directory = vec![
            1, 1, 0, 3,
            KEY_MODEL_TYPE, 0, 1, model,
            KEY_RASTER_TYPE, 0, 1, RASTER_PIXEL_IS_AREA,
            key, 0, 1, epsg,
        ];
        Some(Self { directory, doubles: Vec::new(), ascii: String::new() })
    }
}

impl Crs {
    /// The system with an EPSG code; the old codes of Web Mercator become 3857.
    pub fn from_epsg(epsg: u32) -> Self {
        let epsg = if WEB_MERCATOR_ALIASES.contains(&epsg) { WEB_MERCATOR } else { epsg };
        Self { epsg: Some(epsg), keys: None }
    }

    /// The system that GeoTIFF keys describe; without an EPSG code if they define their own.
    pub fn from_keys(keys: GeoKeys) -> Self {
        // 0 is undefined, 32767 user-defined.
        let code = |key| keys.short(key).filter(|&v| v != 0 && v != 32_767).map(u32::from);
        let epsg = match keys.short(KEY_MODEL_TYPE) {
            Some(2) => code(KEY_GEODETIC_CRS),
            _ => code(KEY_PROJECTED_CRS),
        };
        let citation = || keys.ascii.contains("Pseudo-Mercator") || keys.ascii.contains("Mercator_Auxiliary_Sphere");
        let epsg = epsg.or_else(|| citation().then_some(WEB_MERCATOR));
        Self {
            epsg: epsg.map(|code| if WEB_MERCATOR_ALIASES.contains(&code) { WEB_MERCATOR } else { code }),
            keys: Some(keys),
        }
    }

    /// The system that the well-known text of a `.prj` file names: by its EPSG authority, or as Esri's Web Mercator,
    /// WGS 84 or WGS 84 / UTM. Anything else is unknown.
    pub fn from_wkt(wkt: &str) -> Self {
        let compact: String = wkt.chars().filter(|c| !c.is_whitespace()).collect();
        let number = |text: &str| {
            let digits: String = text.trim_start_matches(['"', ',']).chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<u32>().ok()
        };
        // The whole system's authority comes last: ...,AUTHORITY["EPSG","32643"]]
        let closing = ["AUTHORITY[\"EPSG\"", "ID[\"EPSG\""].iter().find_map(|tag| {
            let at = compact.rfind(tag)?;
            let rest = &compact[at + tag.len()..];
            rest.split_once(']').filter(|(_, end)| matches!(*end, "]" | "")).and_then(|(code, _)| number(code))
        });
        if let Some(epsg) = closing {
            return Self::from_epsg(epsg);
        }
        let name = compact.split('"').nth(1).unwrap_or_default().to_owned();
        let utm = || {
            let zone = name.split_once("WGS_1984_UTM_Zone_")?.1;
            let code = number(zone).filter(|n| (1..=60).contains(n))?;
            Some(code + if zone.ends_with('S') { 32_700 } else { 32_600 })
        };
        let epsg = match name.as_str() {
            "WGS_1984_Web_Mercator_Auxiliary_Sphere" => Some(WEB_MERCATOR),
            "GCS_WGS_1984" => Some(WGS84),
            _ => utm(),
        };
        epsg.map_or_else(Self::default, Self::from_epsg)
    }

    /// Keys to write into a GeoTIFF: the file's own, else made from the EPSG code; pixels are areas in either case.
    pub fn keys_to_write(&self) -> Option<GeoKeys> {
        self.keys.clone().map(GeoKeys::pixel_is_area).or_else(|| GeoKeys::from_epsg(self.epsg?))
    }
}

impl Georef {
    /// The place of an XYZ tile of `width` x `height` pixels.
    pub fn from_tile(tile: TileId, width: usize, height: usize) -> Self {
        Self::from_bounds(tile.bounds_mercator(), Crs::from_epsg(WEB_MERCATOR), width, height)
    }

    /// The place of a north-up image of `width` x `height` pixels that covers `bounds`.
    pub fn from_bounds(bounds: Bounds, crs: Crs, width: usize, height: usize) -> Self {
        let Bounds { west, south, east, north } = bounds;
        let (width, height) = (width.max(1) as f64, height.max(1) as f64);
        Self { transform: [(east - west) / width, 0.0, west, 0.0, (south - north) / height, north], crs }
    }

    /// Reads a world file (`.tfw`, `.jgw`, `.pgw`, `.wld`): six lines that place the centre of the top left pixel.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if it does not hold six finite numbers that span an area.
    pub fn from_world_file(text: &str, crs: Crs) -> Result<Self> {
        let numbers: Vec<f64> = text.split_whitespace().map_while(|word| word.parse().ok()).collect();
        let &[a, d, b, e, c, f] = numbers.as_slice() else {
            return Err(Error::new(ErrorKind::Format, "a world file holds six numbers, one a line")
                .remedy("correct the world file or remove it"));
        };
        Self { transform: [a, b, c, d, e, f], crs }.moved_by_pixels(-0.5).checked()
    }

    /// Reads the GeoTIFF tags ModelPixelScale, ModelTiepoint and ModelTransformation; `None` if they place nothing, or
    /// only tie single points down.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if the transform is not finite or spans no area.
    pub fn from_geotiff(scale: &[f64], tie: &[f64], matrix: &[f64], crs: Crs) -> Result<Option<Self>> {
        let transform = match (matrix, scale, tie) {
            (&[a, b, _, c, d, e, _, f, ..], _, _) => [a, b, c, d, e, f],
            (_, &[sx, sy, ..], &[i, j, _, x, y, ..]) => [sx, 0.0, x - i * sx, 0.0, -sy, y + j * sy],
            _ => return Ok(None),
        };
        let point = crs.keys.as_ref().is_some_and(GeoKeys::pixel_is_point);
        Self { transform, crs }.moved_by_pixels(if point { -0.5 } else { 0.0 }).checked().map(Some)
    }

    fn moved_by_pixels(mut self, n: f64) -> Self {
        let [a, b, c, d, e, f] = self.transform;
        self.transform = [a, b, c + n * (a + b), d, e, f + n * (d + e)];
        self
    }

    fn checked(self) -> Result<Self> {
        let [a, b, _, d, e, _] = self.transform;
        if self.transform.iter().all(|v| v.is_finite()) && a * e - b * d != 0.0 {
            return Ok(self);
        }
        Err(Error::new(ErrorKind::Format, format!("the georeference {:?} spans no area", self.transform))
            .remedy("georeference the image again, or remove its georeference"))
    }

    /// The place of a window of the image whose top left pixel is (x, y).
    #[must_use]
    pub fn window(&self, x: usize, y: usize) -> Self {
        let [c, f] = self.map([x as f64, y as f64]);
        let [a, b, _, d, e, _] = self.transform;
        Self { transform: [a, b, c, d, e, f], crs: self.crs.clone() }
    }

    /// Map coordinates of a pixel corner `[column, row]`.
    pub fn map(&self, [column, row]: [f64; 2]) -> [f64; 2] {
        let [a, b, c, d, e, f] = self.transform;
        [a * column + b * row + c, d * column + e * row + f]
    }

    /// Metres on the ground that one pixel covers at the middle of an image of `width` x `height` pixels: the square
    /// root of its true area. `None` if the system cannot be converted.
    pub fn ground_resolution(&self, width: usize, height: usize) -> Option<f64> {
        let to_lon_lat = ToLonLat::new(&self.crs)?;
        let (x, y) = (width as f64 / 2.0, height as f64 / 2.0);
        let corners = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]];
        let ring: Result<Vec<_>> =
            corners.iter().map(|[dx, dy]| Ok(equal_area(to_lon_lat.convert(self.map([x + dx, y + dy]))?))).collect();
        Some(crate::polygon::shoelace(&ring.ok()?).abs().sqrt())
    }
}

/// Converts map coordinates to longitude and latitude on WGS 84, degrees.
pub struct ToLonLat(Conversion);

enum Conversion {
    Degrees,
    WebMercator,
    #[cfg(not(target_arch = "wasm32"))]
    Projection {
        from: Box<proj4rs::Proj>,
        to: Box<proj4rs::Proj>,
        degrees: bool,
    },
}

impl ToLonLat {
    /// The conversion from `crs`; `None` if it is unknown or has no formula here (datum grids). In the browser only
    /// WGS 84 and Web Mercator have one.
    pub fn new(crs: &Crs) -> Option<Self> {
        match crs.epsg? {
            WGS84 => Some(Self(Conversion::Degrees)),
            WEB_MERCATOR => Some(Self(Conversion::WebMercator)),
            epsg => Self::projection(epsg),
        }
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn projection(epsg: u32) -> Option<Self> {
        let definition = crs_definitions::from_code(u16::try_from(epsg).ok()?)?;
        let from = proj4rs::Proj::from_proj_string(definition.proj4).ok()?;
        let to = proj4rs::Proj::from_proj_string("+proj=longlat +datum=WGS84 +no_defs").ok()?;
        let degrees = from.is_latlong();
        Some(Self(Conversion::Projection { from: Box::new(from), to: Box::new(to), degrees }))
    }

    #[cfg(target_arch = "wasm32")]
    fn projection(_epsg: u32) -> Option<Self> {
        None
    }

    /// Longitude and latitude of a place.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the place lies outside the projection's domain.
    pub fn convert(&self, [x, y]: [f64; 2]) -> Result<[f64; 2]> {
        let lon_lat = match &self.0 {
            Conversion::Degrees => [x, y],
            Conversion::WebMercator => mercator_to_lon_lat([x, y]),
            #[cfg(not(target_arch = "wasm32"))]
            Conversion::Projection { from, to, degrees } => {
                let mut point = if *degrees { (x.to_radians(), y.to_radians(), 0.0) } else { (x, y, 0.0) };
                proj4rs::transform::transform(from, to, &mut point)
                    .map_err(|e| outside([x, y]).source(e.to_string()))?;
                [point.0.to_degrees(), point.1.to_degrees()]
            }
        };
        if lon_lat.iter().all(|v| v.is_finite()) { Ok(lon_lat) } else { Err(outside([x, y])) }
    }
}

fn outside([x, y]: [f64; 2]) -> Error {
    Error::new(ErrorKind::Invalid, format!("the place ({x}, {y}) lies outside its coordinate reference system"))
        .remedy("check the image's georeference")
}

/// A place in the cylindrical equal-area projection of the WGS 84 ellipsoid, metres: areas there are true areas.
/// (Snyder 1987, "Map projections: a working manual", equations 3-12, 10-14 and 10-15, standard parallel 0.)
pub(crate) fn equal_area([lon, lat]: [f64; 2]) -> [f64; 2] {
    const FLATTENING: f64 = 1.0 / 298.257_223_563;
    let e2 = FLATTENING * (2.0 - FLATTENING);
    let e = e2.sqrt();
    let s = lat.to_radians().sin();
    let q = (1.0 - e2) * (s / (1.0 - e2 * s * s) + (e * s).atanh() / e);
    [EARTH_RADIUS * lon.to_radians(), EARTH_RADIUS * q / 2.0]
}

/// Whether a code is of longitude and latitude rather than of a projection.
fn is_geographic(epsg: u32) -> bool {
    #[cfg(not(target_arch = "wasm32"))]
    if let Some(definition) = u16::try_from(epsg).ok().and_then(crs_definitions::from_code) {
        return definition.proj4.contains("+proj=longlat");
    }
    // EPSG keeps 4000 to 4999 for geographic systems, with few exceptions.
    (4000..5000).contains(&epsg)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: [f64; 2], b: [f64; 2], tolerance: f64) -> bool {
        (a[0] - b[0]).abs() <= tolerance && (a[1] - b[1]).abs() <= tolerance
    }

    #[test]
    fn world_files_place_pixel_centres() {
        let georef = Georef::from_world_file("0.5\n0\n0\n-0.5\n100.25\n199.75\n", Crs::default()).expect("valid");
        assert_eq!(georef.transform, [0.5, 0.0, 100.0, 0.0, -0.5, 200.0]);
        assert_eq!(georef.window(2, 4).transform, [0.5, 0.0, 101.0, 0.0, -0.5, 198.0]);
        for text in ["", "1 2 3", "0 0 0 0 1 1", "nan 0 0 1 0 0", "1 0 0 1 0 0 0"] {
            assert!(Georef::from_world_file(text, Crs::default()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn geotiff_tags_point_and_area() {
        let mut keys = GeoKeys::from_epsg(26914).expect("fits");
        let place = |keys: &GeoKeys| {
            let crs = Crs::from_keys(keys.clone());
            assert_eq!(crs.epsg, Some(26914));
            Georef::from_geotiff(&[2.0, 2.0, 0.0], &[0., 0., 0., 10., 20., 0.], &[], crs)
                .expect("valid")
                .expect("placed")
        };
        assert_eq!(place(&keys).transform, [2.0, 0.0, 10.0, 0.0, -2.0, 20.0]);
        keys.directory[11] = RASTER_PIXEL_IS_POINT;
        assert_eq!(place(&keys).transform, [2.0, 0.0, 9.0, 0.0, -2.0, 21.0]);
        assert!(!place(&keys).crs.keys_to_write().expect("keys").pixel_is_point());
        assert_eq!(Georef::from_geotiff(&[], &[0.; 12], &[], Crs::default()).expect("valid"), None);
        assert_eq!(GeoKeys::from_epsg(4326).and_then(|k| k.short(KEY_MODEL_TYPE)), Some(2));
        assert_eq!(GeoKeys { directory: vec![1], ..GeoKeys::default() }.short(1024), None);
    }

    #[test]
    fn well_known_text_names_systems() {
        let cases = [
            (r#"PROJCS["WGS_1984_UTM_Zone_43N",GEOGCS["GCS_WGS_1984"]]"#, Some(32643)),
            (r#"PROJCS["WGS_1984_UTM_Zone_7S",GEOGCS["x"]]"#, Some(32707)),
            (r#"GEOGCS["WGS 84",DATUM["x",AUTHORITY["EPSG","6326"]],AUTHORITY["EPSG","4326"]]"#, Some(4326)),
            (r#"GEOGCS["mine",DATUM["x",AUTHORITY["EPSG","6326"]],UNIT["degree",1]]"#, None),
            (r#"PROJCS["WGS_1984_Web_Mercator_Auxiliary_Sphere"]"#, Some(3857)),
            ("", None),
        ];
        for (wkt, epsg) in cases {
            assert_eq!(Crs::from_wkt(wkt).epsg, epsg, "{wkt}");
        }
    }

    #[test]
    fn conversions_match_proj() {
        // Computed with PROJ 9 (pyproj, always_xy).
        for (epsg, place, lon_lat) in [
            (3857, [9_520_461.184, 3_201_259.182], [85.523_757_934_538, 27.620_881_678_923]),
            (32611, [252_645.951, 4_107_315.949], [-119.782_605_649_065, 37.079_511_417_799]),
            (26914, [485_899.0, 5_209_246.0], [-99.185_603_797_250, 47.036_581_444_880]),
            // Another ellipsoid, shifted by three parameters; PROJ's own choice of shift differs by centimetres.
            (2056, [2_600_000.0, 1_200_000.0], [7.438_632_421, 46.951_082_772]),
            (4326, [12.5, -3.0], [12.5, -3.0]),
        ] {
            let found = ToLonLat::new(&Crs::from_epsg(epsg)).expect("convertible").convert(place).expect("inside");
            let tolerance = if epsg == 2056 { 1e-5 } else { 1e-9 };
            assert!(near(found, lon_lat, tolerance), "{epsg}: {found:?}");
        }
        assert!(ToLonLat::new(&Crs::from_epsg(999_999)).is_none());
        assert!(ToLonLat::new(&Crs::default()).is_none());
        assert!(ToLonLat::new(&Crs::from_epsg(4326)).expect("plain").convert([f64::NAN, 0.0]).is_err());
    }

    #[test]
    fn ground_resolution_is_true_metres() {
        let tile = TileId::containing([85.5, 27.6], 19).expect("valid");
        let found = Georef::from_tile(tile, 256, 256).ground_resolution(256, 256).expect("convertible");
        let sphere = crate::tile::ground_resolution(27.6, 19, 256);
        assert!((found / sphere - 1.0).abs() < 0.006, "{found} {sphere}");
        // The whole earth: 510 065 622 square kilometres.
        let ([w, s], [e, n]) = (equal_area([-180.0, -90.0]), equal_area([180.0, 90.0]));
        assert!(((e - w) * (n - s) / 510_065_621.724e6 - 1.0).abs() < 1e-9);
    }
}
