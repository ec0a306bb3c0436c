//! All zoom levels or overviews of a source.

use std::path::Path;
use std::sync::Arc;

use super::bytes::LocalFile;
use super::format::{Container, Format, container, detect};
use super::geotiff::GeoTiff;
#[cfg(feature = "http")]
use super::http::{Client, HttpFile, TileServer};
use super::mbtiles::MbTiles;
use super::mosaic::Mosaic;
use super::options::SourceOptions;
use super::picture::Picture;
use super::pmtiles::PmTiles;
use super::raster::Raster;
use super::regrid::Axis;
use super::tiles::{TileInfo, TileOptions, TileSource};
use super::xyz::Folder;
use crate::error::{Error, ErrorKind, Result};
use crate::georef::Georef;

/// One zoom level or overview.
pub struct Level {
    /// Its pixels.
    pub raster: Box<dyn Raster>,
    /// Metres on the ground that a pixel covers at its middle, if that is known.
    pub metres: Option<f64>,
    /// How the finest level's columns and rows lie on its own.
    pub axes: [Axis; 2],
}

/// A source with all of its levels, from the finest on.
pub struct Levels {
    /// At least one.
    pub levels: Vec<Level>,
    /// What a source of tiles says of itself.
    pub tiles: Option<TileInfo>,
}

impl Levels {
    fn new(rasters: Vec<Box<dyn Raster>>, tiles: Option<TileInfo>) -> Self {
        let finest = rasters.first().map(|r| (r.size(), r.georef().cloned()));
        let level = |raster: Box<dyn Raster>| {
            let (width, height) = raster.size();
            let metres = raster.georef().and_then(|g| g.ground_resolution(width, height));
            let axes = finest.as_ref().map_or([Axis::SAME; 2], |(size, georef)| axes(*size, georef.as_ref(), &raster));
            Level { raster, metres: metres.filter(|m| m.is_finite() && *m > 0.0), axes }
        };
        Self { levels: rasters.into_iter().map(level).collect(), tiles }
    }

    /// Metres a pixel of each level.
    pub fn metres(&self) -> Vec<Option<f64>> {
        self.levels.iter().map(|l| l.metres).collect()
    }
}

/// How the columns and rows of an image of a size at a place lie on a coarser one of the same ground.
fn axes(size: (usize, usize), georef: Option<&Georef>, coarser: &dyn Raster) -> [Axis; 2] {
    let upright = |g: &&Georef| g.transform[1] == 0.0 && g.transform[3] == 0.0;
    if let Some((from, to)) = georef.filter(upright).zip(coarser.georef().filter(upright)) {
        let ([a, _, c, _, e, f], [to_a, _, to_c, _, to_e, to_f]) = (from.transform, to.transform);
        return [
            Axis { scale: a / to_a, offset: (c - to_c) / to_a },
            Axis { scale: e / to_e, offset: (f - to_f) / to_e },
        ];
    }
    let (width, height) = coarser.size();
    [
        Axis { scale: width as f64 / size.0 as f64, offset: 0.0 },
        Axis { scale: height as f64 / size.1 as f64, offset: 0.0 },
    ]
}

/// Whether a name is an address of the web.
pub fn is_url(input: &Path) -> bool {
    let text = input.to_str().unwrap_or_default();
    text.starts_with("http://") || text.starts_with("https://")
}

/// Whether a file is an archive of tiles, or one of SQLite's other files.
///
/// # Errors
/// [`ErrorKind::NotFound`], [`ErrorKind::Io`], naming it.
pub fn is_archive(path: impl AsRef<Path>) -> Result<bool> {
    Ok(!path.as_ref().is_dir() && container(path.as_ref())?.is_some())
}

/// Opens a picture, GeoTIFF, folder or archive of tiles, or the address of one (`http://`, `https://`): a GeoTIFF or PMTiles
/// archive on a server that answers ranges of bytes, or tiles by a template.
///
/// # Errors
/// As [`super::open`], and those of [`PmTiles`], [`MbTiles`] and servers; [`ErrorKind::NotFound`] for a zoom level that is not
/// there; [`ErrorKind::Invalid`] for options that the source has no use for.
pub fn open_levels(input: impl AsRef<Path>, options: &SourceOptions) -> Result<Levels> {
    let path = input.as_ref();
    if is_url(path) {
        return remote(path, options);
    }
    if path.is_dir() || container(path)?.is_some() {
        return pyramid(open_tiles(path, &options.tiles)?, &options.tiles);
    }
    no_tile_options(&options.tiles).map_err(|e| e.at(path.display()))?;
    let rasters: Vec<Box<dyn Raster>> = match detect(path)? {
        Format::Tiff => boxed(GeoTiff::levels(path)?),
        Format::Png | Format::Jpeg | Format::WebP => vec![Box::new(Picture::open(path)?)],
    };
    Ok(Levels::new(rasters, None))
}

/// Opens a folder of tiles, a PMTiles or an MBTiles archive.
///
/// # Errors
/// As [`open_levels`]; [`ErrorKind::Unsupported`] for other files.
pub fn open_tiles(path: impl AsRef<Path>, options: &TileOptions) -> Result<Arc<dyn TileSource>> {
    let path = path.as_ref();
    if path.is_dir() {
        return Ok(Arc::new(Folder::open(path, options.tms)?));
    }
    match container(path)? {
        Some(Container::PmTiles) => {
            no_tms(options).map_err(|e| e.at(path.display()))?;
            Ok(Arc::new(PmTiles::open(LocalFile::open(path)?, options.bounds)?))
        }
        Some(Container::Sqlite) => Ok(Arc::new(MbTiles::open(path, options.bounds, options.tms)?)),
        None => Err(Error::new(ErrorKind::Unsupported, "this is no folder or archive of tiles")
            .at(path.display())
            .remedy("give a folder of tiles, a .pmtiles or an .mbtiles file")),
    }
}

/// PMTiles count from the north, always.
fn no_tms(options: &TileOptions) -> Result<()> {
    match options.tms {
        Some(true) => Err(Error::new(ErrorKind::Invalid, "a PMTiles archive counts rows from the north").at("--tms")),
        _ => Ok(()),
    }
}

/// Refuses what only pyramids of tiles have.
fn no_tile_options(options: &TileOptions) -> Result<()> {
    let option = match options {
        TileOptions { zoom: Some(_), .. } => "--zoom",
        TileOptions { bounds: Some(_), .. } => "--bbox",
        TileOptions { tms: Some(true), .. } => "--tms",
        _ => return Ok(()),
    };
    Err(Error::new(ErrorKind::Invalid, "is for folders, archives and servers of tiles")
        .at(option)
        .remedy("leave it out; gdal_translate -projwin cuts an image"))
}

/// All zoom levels of a source of tiles, or the one that is asked for.
fn pyramid(source: Arc<dyn TileSource>, options: &TileOptions) -> Result<Levels> {
    let known: Vec<String> = source.extents().iter().map(|e| e.zoom.to_string()).collect();
    let mut extents = source.extents().to_vec();
    extents.retain(|e| options.zoom.is_none_or(|zoom| zoom == e.zoom));
    if let Some(bounds) = options.bounds {
        extents = super::tiles::clipped(&extents, bounds)?;
    }
    if extents.is_empty() {
        let message = match options.zoom {
            Some(_) if !known.is_empty() => "has no tiles of that zoom level there",
            _ => "has no tiles in that area",
        };
        return Err(Error::new(ErrorKind::NotFound, message)
            .at(source.name())
            .remedy(format!("zoom levels: {}", known.join(", "))));
    }
    let mut rasters: Vec<Box<dyn Raster>> = Vec::new();
    for extent in extents.iter().rev() {
        match Mosaic::new(Arc::clone(&source), *extent) {
            Ok(mosaic) => rasters.push(Box::new(mosaic)),
            // Of an area that has tiles of other levels only.
            Err(e) if e.kind() == ErrorKind::NotFound && options.zoom.is_none() && extent.sample.is_none() => {}
            Err(e) => return Err(e),
        }
    }
    if rasters.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, "has no tiles in that area")
            .at(source.name())
            .remedy("choose another --bbox"));
    }
    Ok(Levels::new(rasters, Some(source.info().clone())))
}

fn boxed(levels: Vec<GeoTiff>) -> Vec<Box<dyn Raster>> {
    levels.into_iter().map(|level| Box::new(level) as Box<dyn Raster>).collect()
}

#[cfg(not(feature = "http"))]
fn remote(path: &Path, _: &SourceOptions) -> Result<Levels> {
    Err(Error::new(ErrorKind::Unsupported, "this program was built without HTTP")
        .at(path.display())
        .remedy("build it with the feature http, or download the file"))
}

#[cfg(feature = "http")]
fn remote(path: &Path, options: &SourceOptions) -> Result<Levels> {
    let url = path.to_str().unwrap_or_default();
    let client = Arc::new(Client::new(&options.http)?);
    let options = &options.tiles;
    if TileServer::is_template(url) {
        let source: Arc<dyn TileSource> = Arc::new(TileServer::open(url, client, options)?);
        return pyramid(source, options);
    }
    let file = HttpFile::open(url, client)?;
    let head = super::bytes::read_exact(file.as_ref(), 0, file.length().min(16), 16)?;
    match (Container::of(&head), super::format::detect_bytes(&head)) {
        (Some(Container::PmTiles), _) => {
            no_tms(options).map_err(|e| e.at(file.name()))?;
            pyramid(Arc::new(PmTiles::open(file, options.bounds)?), options)
        }
        (None, Ok(Format::Tiff)) => {
            no_tile_options(options).map_err(|e| e.at(file.name()))?;
            Ok(Levels::new(boxed(GeoTiff::levels_at(&file)?), None))
        }
        (Some(Container::Sqlite), _) | (None, Ok(_)) => Err(Error::new(
            ErrorKind::Unsupported,
            "GeoTIFFs and PMTiles archives are read from servers, this is neither",
        )
        .at(file.name())
        .remedy("download the file")),
        (None, Err(e)) => Err(e.at(file.name())),
    }
}
