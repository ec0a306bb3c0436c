//! The sheet of samples: image, truth, prediction, and where they differ.

use std::borrow::Cow;
use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;

use super::SamplePicture;
use super::markup::{class_label, color, fraction, text};
use crate::config::Class;
use crate::error::{Error, ErrorKind, Result};
use crate::train::dataset::IGNORE;
use crate::train::metrics::{Confusion, Metrics};

/// Characters that all pictures together may take: a report stays below 3 MB.
const BUDGET: usize = 2_500_000;
/// Longer sides that a picture is reduced to until it fits its share; about 280 CSS pixels are shown.
const SIDES: [usize; 7] = [512, 432, 360, 288, 224, 144, 64];
const JPEG_QUALITY: u8 = 80;

/// How a pixel of the error map came out; values of its palette.
const RIGHT: u8 = 0;
const FALSE_POSITIVE: u8 = 1;
const FALSE_NEGATIVE: u8 = 2;
const CONFUSED: u8 = 3;
/// First of the two values of the hatching of ignored pixels.
const HATCH: u8 = 4;
/// RGBA of each; `palette.css` has the same colours for the legend. They differ in brightness, not only in hue.
const ERROR_COLORS: [[u8; 4]; 6] = [
    [0, 0, 0, 0],
    [0xe8, 0x59, 0x0c, 255],
    [0x1c, 0x7e, 0xd6, 255],
    [0xf2, 0xc0, 0x29, 255],
    [128, 128, 128, 200],
    [128, 128, 128, 70],
];

/// The section's content.
///
/// # Errors
/// [`ErrorKind::Invalid`] naming the picture if a plane has not its size, or a value is no class.
pub(super) fn pictures(pictures: &[SamplePicture], classes: &[Class]) -> Result<String> {
    let share = BUDGET / pictures.len().max(1);
    let figures = pictures.iter().enumerate().map(|(i, picture)| {
        figure(picture, i, classes, share).map_err(|e| e.at(format!("picture {:?}", picture.name)))
    });
    let figures = figures.collect::<Result<String>>()?;
    Ok(format!("{}<div class=\"sheet\">{HEADS}{figures}</div>", legend(pictures, classes)))
}

const HEADS: &str = "<div class=\"views heads\" aria-hidden=\"true\"><span>Image</span><span>Truth</span>\
                     <span>Prediction</span><span>Error</span></div>";

fn legend(pictures: &[SamplePicture], classes: &[Class]) -> String {
    let labels: String = (0..classes.len()).map(|i| format!("<li>{}</li>", class_label(classes, i))).collect();
    let background = classes.first().map_or("background", |class| &class.name);
    let other = if let [_, only] = classes { &only.name } else { "another class" };
    let mut errors = vec![
        ("right", "correct".to_owned()),
        ("false-positive", format!("false positive: {background} taken for {other}")),
        ("false-negative", format!("false negative: {other} taken for {background}")),
    ];
    if classes.len() > 2 {
        errors.push(("confused", format!("confusion among classes other than {background}")));
    }
    if pictures.iter().any(|p| p.truth.contains(&IGNORE)) {
        errors.push(("ignored", "ignored: no label".to_owned()));
    }
    let errors: String = errors
        .iter()
        .map(|(class, name)| {
            format!("<li><span class=\"class\"><i class=\"swatch {class}\"></i><span>{}</span></span></li>", text(name))
        })
        .collect();
    format!(
        "<div class=\"legends\"><ul class=\"legend\" aria-label=\"Colours of truth and prediction\">{labels}</ul>\
         <ul class=\"legend\" aria-label=\"Colours of the error map\">{errors}</ul></div>"
    )
}

fn figure(picture: &SamplePicture, index: usize, classes: &[Class], share: usize) -> Result<String> {
    check(picture)?;
    let mut confusion = Confusion::new(classes.len());
    confusion.add(&picture.truth, &picture.prediction)?;
    let metrics = Metrics::from(&confusion);

    let mut images = encode(&reduced(picture, SIDES[0]), classes)?;
    for side in &SIDES[1..] {
        if images.iter().map(String::len).sum::<usize>() <= share {
            break;
        }
        images = encode(&reduced(picture, *side), classes)?;
    }
    let [photo, truth, prediction, error] = images;
    let (w, h) = (picture.width, picture.height);
    let name = text(&picture.name);
    let wrong = match metrics.pixels {
        0 => "no pixel is labelled".to_owned(),
        _ => format!("{:.1} % of the labelled pixels are wrong", (1.0 - metrics.accuracy) * 100.0),
    };
    // The photograph is stored once: the error map lies over a dimmed copy of it.
    let view = |name: &str, class: &str, body: String, alt: String| {
        format!(
            "<div><svg class=\"{class}\" viewBox=\"0 0 {w} {h}\" role=\"img\" aria-label=\"{alt}\">{body}</svg><span>{name}</span></div>"
        )
    };
    let drawn = |kind: &str, data: &str, attributes: &str| {
        format!(
            "<image {attributes} width=\"{w}\" height=\"{h}\" preserveAspectRatio=\"none\" href=\"data:image/{kind};base64,{data}\"/>"
        )
    };
    let sharp = if w.max(h) < 256 { "sharp" } else { "" };
    Ok(format!(
        "<figure><figcaption><strong>{name}</strong> <span>{}</span></figcaption><div class=\"views\">{}{}{}{}</div></figure>",
        caption(picture, &metrics),
        view("Image", "", drawn("jpeg", &photo, &format!("id=\"p{index}\"")), format!("{name}: image")),
        view("Truth", sharp, drawn("png", &truth, ""), format!("{name}: labelled classes")),
        view("Prediction", sharp, drawn("png", &prediction, ""), format!("{name}: predicted classes")),
        view(
            "Error",
            &format!("error {sharp}"),
            format!("<use class=\"dim\" href=\"#p{index}\"/>{}", drawn("png", &error, "")),
            format!("{name}: errors; {wrong}")
        ),
    ))
}

fn caption(picture: &SamplePicture, metrics: &Metrics) -> String {
    if metrics.pixels == 0 {
        return "no labelled pixel".to_owned();
    }
    let mut out = format!("accuracy {:.3} · mean IoU {}", metrics.accuracy, fraction(metrics.mean_iou));
    let pixels =
        || picture.truth.iter().zip(&picture.prediction).zip(&picture.confidence).filter(|((t, _), _)| **t != IGNORE);
    let confidence = |right: bool| {
        let (sum, n) = pixels()
            .filter(|((t, p), _)| (t == p) == right)
            .fold((0u64, 0u64), |(sum, n), (_, c)| (sum + u64::from(*c), n + 1));
        (n > 0).then(|| sum as f64 / (255.0 * n as f64))
    };
    for (right, place) in [(true, "correct"), (false, "wrong")] {
        if let Some(mean) = confidence(right) {
            let lead = if right || confidence(true).is_none() { " · confidence" } else { "," };
            out += &format!("{lead} {mean:.2} where {place}");
        }
    }
    out
}

fn check(picture: &SamplePicture) -> Result<()> {
    let pixels = picture.width.checked_mul(picture.height).filter(|n| *n > 0);
    let fits = |length: usize, each: usize| pixels.and_then(|n| n.checked_mul(each)) == Some(length);
    let planes = [
        ("image", picture.rgb.len(), 3),
        ("truth", picture.truth.len(), 1),
        ("prediction", picture.prediction.len(), 1),
        ("confidence", picture.confidence.len(), 1),
    ];
    match planes.into_iter().find(|(_, length, each)| !fits(*length, *each)) {
        Some((plane, length, _)) => Err(Error::new(
            ErrorKind::Invalid,
            format!("{length} bytes of {plane} for {} x {} pixels", picture.width, picture.height),
        )),
        None => Ok(()),
    }
}

/// The picture with its longer side at most `side`: colours averaged, classes of the nearest pixel.
fn reduced(picture: &SamplePicture, side: usize) -> Cow<'_, SamplePicture> {
    let longer = picture.width.max(picture.height);
    if longer <= side {
        return Cow::Borrowed(picture);
    }
    let scaled = |length: usize| (length * side / longer).max(1);
    let (width, height) = (scaled(picture.width), scaled(picture.height));
    let mut out = SamplePicture { name: String::new(), width, height, ..SamplePicture::default() };
    for y in 0..height {
        let (top, bottom) = (y * picture.height / height, (y + 1) * picture.height / height);
        for x in 0..width {
            let (left, right) = (x * picture.width / width, (x + 1) * picture.width / width);
            let mut sums = [0u32; 3];
            for row in top..bottom {
                for pixel in picture.rgb[(row * picture.width + left) * 3..(row * picture.width + right) * 3].chunks(3)
                {
                    sums.iter_mut().zip(pixel).for_each(|(sum, v)| *sum += u32::from(*v));
                }
            }
            let n = ((bottom - top) * (right - left)) as u32;
            out.rgb.extend(sums.map(|sum| ((sum + n / 2) / n) as u8));
            let middle = (top + bottom) / 2 * picture.width + (left + right) / 2;
            out.truth.push(picture.truth[middle]);
            out.prediction.push(picture.prediction[middle]);
        }
    }
    Cow::Owned(out)
}

/// Photograph (JPEG), truth, prediction and error map (PNG) in base64.
fn encode(picture: &SamplePicture, classes: &[Class]) -> Result<[String; 4]> {
    let (width, height) = (picture.width, picture.height);
    let too_large = |_| Error::new(ErrorKind::Limit, format!("{width} x {height} pixels"));
    let size = (u32::try_from(width).map_err(too_large)?, u32::try_from(height).map_err(too_large)?);
    let mut photo = Cursor::new(Vec::new());
    JpegEncoder::new_with_quality(&mut photo, JPEG_QUALITY)
        .encode(&picture.rgb, size.0, size.1, image::ExtendedColorType::Rgb8)
        .map_err(|e| Error::new(ErrorKind::Invalid, "not writable as JPEG").source(e))?;

    let opaque = |i| color(classes, i).map_or([0; 4], |[r, g, b]| [r, g, b, 255]);
    let mut palette: Vec<[u8; 4]> = (0..classes.len().min(254)).map(opaque).collect();
    let hatch = palette.len() as u8;
    palette.extend(&ERROR_COLORS[usize::from(HATCH)..]);
    let hatched = |first: u8, i: usize| first + u8::from(!on_stripe(i % width, i / width, width.max(height)));
    // Beside ignored labels: what was predicted below one may be no class.
    let class = |(i, &class): (usize, &u8)| if class >= hatch { hatched(hatch, i) } else { class };
    let truth: Vec<u8> = picture.truth.iter().enumerate().map(class).collect();
    let prediction: Vec<u8> = picture.prediction.iter().enumerate().map(class).collect();
    let pairs = picture.truth.iter().zip(&picture.prediction).enumerate();
    let error = pairs.map(|(i, (&t, &p))| match (t, p) {
        (IGNORE, _) => hatched(HATCH, i),
        (t, p) if t == p => RIGHT,
        (0, _) => FALSE_POSITIVE,
        (_, 0) => FALSE_NEGATIVE,
        _ => CONFUSED,
    });
    let error: Vec<u8> = error.collect();
    Ok([
        STANDARD.encode(photo.into_inner()),
        indexed_png(size, &palette, &truth)?,
        indexed_png(size, &palette, &prediction)?,
        indexed_png(size, &ERROR_COLORS, &error)?,
    ])
}

/// Diagonal stripes, about 30 on a picture.
fn on_stripe(x: usize, y: usize, side: usize) -> bool {
    let period = (side / 30).max(4);
    (x + y) % period < period / 3
}

fn indexed_png(size: (u32, u32), palette: &[[u8; 4]], pixels: &[u8]) -> Result<String> {
    let wrong = |e: png::EncodingError| Error::new(ErrorKind::Invalid, "not writable as PNG").source(e);
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, size.0, size.1);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(palette.iter().flat_map(|c| [c[0], c[1], c[2]]).collect::<Vec<u8>>());
    encoder.set_trns(palette.iter().map(|c| c[3]).collect::<Vec<u8>>());
    encoder.set_filter(png::Filter::NoFilter);
    let mut writer = encoder.write_header().map_err(wrong)?;
    writer.write_image_data(pixels).map_err(wrong)?;
    writer.finish().map_err(wrong)?;
    Ok(STANDARD.encode(bytes))
}
