//! A package and a picture to a mask: a PNG with one class value a pixel, and the share of each class.
//!
//! ```sh
//! cargo run --example segment_file -- www/demo/models/buildings photo.png mask.png
//! ```

use std::error::Error;
use std::path::{Path, PathBuf};

use samlora::engine::{DeviceChoice, SegmentOptions, Segmenter, open_device};
use samlora::image::RgbImage;
use samlora::mask::ClassStats;
use samlora::source::write::mask_png;
use samlora::weights::folder::Folder;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [package, picture, mask] = arguments.as_slice() else {
        return Err("usage: segment_file PACKAGE PICTURE MASK.png".into());
    };
    for class in segment_file(package, picture, mask)? {
        println!("{:>6.2} % {} (confidence {:.2})", 100.0 * class.share, class.name, class.mean_confidence);
    }
    Ok(())
}

/// Writes the class mask of `picture` (PNG, JPEG or WebP, of any size) to `mask`, and gives each class's share.
pub fn segment_file(package: &Path, picture: &Path, mask: &Path) -> Result<Vec<ClassStats>, Box<dyn Error>> {
    let pixels = image::open(picture)?.into_rgb8();
    let image = RgbImage::new(pixels.width() as usize, pixels.height() as usize, pixels.into_raw())?;

    // Loading and segmenting are asynchronous, because a browser must not wait; here nothing else is to be done.
    let classes: samlora::error::Result<_> = pollster::block_on(async {
        let device = open_device(DeviceChoice::Cpu).await?;
        let segmenter = Segmenter::load(&Folder::open(package)?, &device, |_| ()).await?;
        let found = segmenter.segment(&image, &SegmentOptions::default()).await?;
        mask_png(mask, &found.mask, &segmenter.manifest().classes)?;
        Ok(found.summary.classes)
    });
    Ok(classes?)
}
