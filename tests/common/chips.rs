//! Data sets made for tests.
#![allow(dead_code)] // each test uses a part
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

use std::fs;
use std::path::{Path, PathBuf};

use image::{ExtendedColorType, ImageFormat, save_buffer_with_format};
use samlora::error::Result;
use samlora::train::dataset::{Dataset, DatasetOptions};
use tempfile::TempDir;

/// A folder of images and masks that goes with the test.
pub struct Folder {
    pub dir: TempDir,
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Folder {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("images")).unwrap();
        fs::create_dir(dir.path().join("masks")).unwrap();
        Self { dir }
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn text(&self, name: &str, text: &str) -> &Self {
        fs::create_dir_all(self.at(name).parent().unwrap()).unwrap();
        fs::write(self.at(name), text).unwrap();
        self
    }

    /// An RGB image of one colour and a mask of these values, both PNG.
    pub fn pair(&self, stem: &str, side: usize, values: &[u8]) -> &Self {
        assert_eq!(values.len(), side * side);
        png(&self.at(&format!("images/{stem}.png")), side, side, &[values.to_vec(), values.to_vec(), values.to_vec()]);
        png(&self.at(&format!("masks/{stem}.png")), side, side, &[values.to_vec()]);
        self
    }

    /// A pair whose mask is `value` in its upper half and 0 below.
    pub fn half(&self, stem: &str, side: usize, value: u8) -> &Self {
        let values: Vec<u8> = (0..side * side).map(|i| if i < side * side / 2 { value } else { 0 }).collect();
        self.pair(stem, side, &values)
    }

    pub fn open(&self, options: &DatasetOptions) -> Result<Dataset> {
        Dataset::open(&[self.path()], options)
    }

    pub fn opened(&self) -> Dataset {
        self.open(&DatasetOptions::default()).unwrap()
    }
}

/// Writes an 8-bit PNG of 1, 2, 3 or 4 bands.
pub fn png(path: &Path, width: usize, height: usize, bands: &[Vec<u8>]) {
    let color = [ExtendedColorType::L8, ExtendedColorType::La8, ExtendedColorType::Rgb8, ExtendedColorType::Rgba8];
    let pixels: Vec<u8> = (0..width * height).flat_map(|i| bands.iter().map(move |band| band[i])).collect();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    save_buffer_with_format(path, &pixels, width as u32, height as u32, color[bands.len() - 1], ImageFormat::Png)
        .unwrap();
}

/// Writes a PNG with a palette, `bits` 1, 2, 4 or 8.
pub fn palette_png(path: &Path, width: usize, height: usize, bits: png::BitDepth, palette: &[u8], packed: &[u8]) {
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), width as u32, height as u32);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(bits);
    encoder.set_palette(palette.to_vec());
    encoder.write_header().unwrap().write_image_data(packed).unwrap();
}

/// An ArcGIS export of Classified Tiles: `classes` are value, name and colour; each chip is 4 x 4 pixels of one value.
pub fn export(classes: &[(u32, &str, [i32; 3])], chips: &[u8]) -> Folder {
    let folder = Folder { dir: tempfile::tempdir().unwrap() };
    let listed: Vec<_> = classes
        .iter()
        .map(|(value, name, color)| serde_json::json!({ "Value": value, "Name": name, "Color": color }))
        .collect();
    let model = serde_json::json!({
        "Framework": "e.g. TensorFlow or PyTorch", "MetaDataMode": "Classified_Tiles", "ImageSpaceUsed": "MAP_SPACE",
        "MinCellSize": { "x": 0.5, "y": 0.5, "spatialReference": { "wkid": 102100, "latestWkid": 3857 } },
        "Classes": listed,
    });
    folder.text("esri_model_definition.emd", &model.to_string());
    folder.text("esri_accumulated_stats.json", "{\"NumBands\": 3, \"MetaDataMode\": \"Classified_Tiles\"}");
    let mut map = String::new();
    for (i, &value) in chips.iter().enumerate() {
        let name = format!("{i:09}");
        super::tiff_files::write_tiff(
            folder.dir.path(),
            &format!("images/{name}.tif"),
            &[100 + i as u8; 48],
            &super::tiff_files::one_strip(4, 4, 3, 8, 2),
        );
        super::tiff_files::write_tiff(
            folder.dir.path(),
            &format!("labels/{name}.tif"),
            &[value; 16],
            &super::tiff_files::one_strip(4, 4, 1, 8, 1),
        );
        let left = 1000.25 + 2.0 * i as f64;
        folder.text(&format!("images/{name}.tfw"), &format!("0.5\n0\n0\n-0.5\n{left}\n1999.75\n"));
        map += &format!("images\\{name}.tif  labels\\{name}.tif \r\n");
    }
    folder.text("map.txt", &map);
    folder
}
