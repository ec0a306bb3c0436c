//! GeoTIFFs of RGB pictures, by the tiff crate's writer.
#![allow(dead_code)] // each test uses a part
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

use std::fs::File;
use std::path::Path;

use samlora::image::RgbImage;
use tiff::encoder::{TiffEncoder, colortype::RGB8};
use tiff::tags::Tag;

/// Writes `image` with its top left corner at `x`, `y` of the system `epsg` (a projected one), in pixels of `pixel` units.
pub fn write(path: &Path, image: &RgbImage, pixel: f64, [x, y]: [f64; 2], epsg: u16) {
    let mut encoder = TiffEncoder::new(File::create(path).unwrap()).unwrap();
    let mut out = encoder.new_image::<RGB8>(image.width() as u32, image.height() as u32).unwrap();
    let tags = out.encoder();
    tags.write_tag(Tag::ModelPixelScaleTag, &[pixel, pixel, 0.0][..]).unwrap();
    tags.write_tag(Tag::ModelTiepointTag, &[0.0, 0.0, 0.0, x, y, 0.0][..]).unwrap();
    tags.write_tag(Tag::GeoKeyDirectoryTag, &[1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, epsg][..]).unwrap();
    out.write_data(image.pixels()).unwrap();
}

/// The picture repeated to any size, every copy in another shade.
pub fn spread(picture: &RgbImage, width: usize, height: usize) -> RgbImage {
    let mut pixels = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            let shade = ((x / picture.width() + 3 * (y / picture.height())) % 5 * 9) as u8;
            pixels.extend(picture.pixel(x % picture.width(), y % picture.height()).map(|v| v.saturating_add(shade)));
        }
    }
    RgbImage::new(width, height, pixels).unwrap()
}
