//! A source of pixels of one's own: it implements `Raster`, is read window by window, and is segmented like any file.
//!
//! This one computes its pixels, so that it may be of any size and needs no file; one that reads a file, a database or a
//! service differs in `read` alone.
//!
//! ```sh
//! cargo run --example custom_raster -- www/demo/models/buildings
//! ```

use std::error::Error;
use std::path::{Path, PathBuf};

use samlora::engine::{DeviceChoice, SegmentOptions, Segmentation, Segmenter, open_device};
use samlora::error::{Error as SamloraError, ErrorKind, Result};
use samlora::georef::{Crs, Georef, WEB_MERCATOR};
use samlora::source::{Depth, Patch, Raster, Samples, Window};
use samlora::weights::folder::Folder;

/// Blocks of houses between streets, on a site whose right upper corner nobody has photographed.
pub struct Town {
    width: usize,
    height: usize,
    georef: Georef,
}

impl Town {
    /// A town of so many pixels, 10 cm each.
    pub fn new(width: usize, height: usize) -> Self {
        // Columns go east and rows go south, from a corner in metres of Web Mercator.
        let transform = [0.1, 0.0, 1_500_000.0, 0.0, -0.1, 6_900_000.0];
        Self { width, height, georef: Georef { transform, crs: Crs::from_epsg(WEB_MERCATOR) } }
    }

    /// Whether a pixel holds data.
    pub fn is_valid(&self, x: usize, y: usize) -> bool {
        self.width - x + y >= self.height / 2
    }

    /// The colour of a pixel: roofs, streets, gardens.
    fn colour(x: usize, y: usize) -> [u8; 3] {
        let texture = ((x * 7 + y * 13) % 23) as u8;
        match (x % 160, y % 160) {
            (0..24, _) | (_, 0..24) => [120 + texture, 118 + texture, 116 + texture],
            (50..130, 50..120) => [170 + texture, 90 + texture, 70 + texture],
            _ => [60 + texture, 100 + texture, 50 + texture],
        }
    }
}

impl Raster for Town {
    fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    fn bands(&self) -> usize {
        3
    }

    fn depth(&self) -> Depth {
        Depth::U8
    }

    fn georef(&self) -> Option<&Georef> {
        Some(&self.georef)
    }

    fn read(&mut self, window: Window, bands: &[usize]) -> Result<Patch> {
        window.check(self.size())?;
        if let Some(band) = bands.iter().find(|&&band| band >= self.bands()) {
            return Err(SamloraError::new(ErrorKind::Invalid, format!("there is no band {}", band + 1)));
        }
        let Window { x: left, y: top, width, height } = window;
        let (mut samples, mut valid) = (Vec::new(), Vec::new());
        for (y, x) in (top..top + height).flat_map(|y| (left..left + width).map(move |x| (y, x))) {
            let colour = Self::colour(x, y);
            samples.extend(bands.iter().map(|&band| colour[band]));
            valid.push(self.is_valid(x, y));
        }
        // An empty list says that all pixels hold data, which spares others the looking.
        if valid.iter().all(|&valid| valid) {
            valid.clear();
        }
        Ok(Patch { width, height, bands: bands.len(), samples: Samples::U8(samples), valid })
    }

    fn describe(&self) -> String {
        format!("a town of {} x {} pixels", self.width, self.height)
    }
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let package = std::env::args_os().nth(1).map_or("www/demo/models/buildings".into(), PathBuf::from);
    let mut town = Town::new(600, 400);
    println!("{}", town.describe());
    let found = segment(&package, &mut town)?;
    for class in &found.summary.classes {
        println!("{:>6.2} % {}", 100.0 * class.share, class.name);
    }
    println!("{} pixels hold no data", found.summary.without_data);
    Ok(())
}

/// Segments a raster of any kind and size. Only what each window shows is read, and a window without data is not run.
pub fn segment(package: &Path, raster: &mut impl Raster) -> Result<Segmentation> {
    pollster::block_on(async {
        let device = open_device(DeviceChoice::Cpu).await?;
        let segmenter = Segmenter::load(&Folder::open(package)?, &device, |_| ()).await?;
        // `segment_windows` gives finished rows instead of the whole mask, for rasters larger than memory.
        segmenter.segment_raster(raster, &SegmentOptions::default(), async |_| Ok(())).await
    })
}
