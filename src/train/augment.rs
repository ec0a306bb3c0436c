//! Seeded augmentation: a random crop of a chip, turned and scaled in one sampling pass, then changed in colour.
//!
//! A crop keeps the chip's resolution unless [`AugmentOptions::scale`] says otherwise, so what a model learns about sizes
//! holds for the resolution it is trained on.

use serde::{Deserialize, Serialize};

use super::dataset::{Chip, Lesson};
use crate::random::SplitMix;

mod colour;
mod geometry;

use geometry::CropView;

/// What may happen to a crop. [`Default`] is good for aerial images seen from straight above.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AugmentOptions {
    /// Whether crops are mirrored and turned by quarter turns, all eight ways alike: the ground has no up.
    pub dihedral: bool,
    /// Least and greatest magnification, drawn evenly on a logarithmic scale; `[1, 1]` for none.
    pub scale: [f32; 2],
    /// Finest and coarsest ground resolution in metres a pixel that a crop is brought to, drawn evenly on a logarithmic scale:
    /// in place of `scale` and always, for chips whose own resolution is known.
    pub resolution: Option<[f32; 2]>,
    /// Chance that a crop is scaled; the others keep the chip's resolution and sharpness.
    pub scale_chance: f32,
    /// Greatest turn in degrees, either way, besides quarter turns.
    pub rotate: f32,
    /// Chance that a crop is turned by such an angle.
    pub rotate_chance: f32,
    /// Greatest relative change of brightness, 0 to 1. This and all below it: 8-bit images only.
    pub brightness: f32,
    /// Greatest relative change of contrast about the crop's mean, 0 to 1.
    pub contrast: f32,
    /// Greatest relative change of saturation, 0 to 1; images of three bands only.
    pub saturation: f32,
    /// Greatest relative change of each band by itself, 0 to 1, which shifts the hue as haze and sensors do.
    pub channel_gain: f32,
    /// Greatest turn of all hues in degrees, either way; images of three bands only.
    pub hue: f32,
    /// Greatest exponent of a gamma curve as a natural logarithm, either way.
    pub gamma: f32,
    /// Greatest relative change of brightness from one side of the crop to the other, 0 to 1, as of light and haze.
    pub light: f32,
    /// Chance of a blur, 0 to 1.
    pub blur: f32,
    /// Chance of JPEG noise, 0 to 1; images of one or three bands only.
    pub jpeg: f32,
    /// Chance that a crop is centred on a pixel of a class drawn evenly among those of the chip, so that rare classes are
    /// seen more often; the others lie anywhere. 0 to 1.
    pub rare_class_crops: f32,
}

impl Default for AugmentOptions {
    fn default() -> Self {
        Self {
            dihedral: true,
            scale: [0.75, 1.5],
            resolution: None,
            scale_chance: 0.5,
            rotate: 15.0,
            rotate_chance: 0.3,
            brightness: 0.2,
            contrast: 0.2,
            saturation: 0.2,
            channel_gain: 0.05,
            hue: 0.0,
            gamma: 0.0,
            light: 0.0,
            blur: 0.1,
            jpeg: 0.1,
            rare_class_crops: 0.25,
        }
    }
}

impl AugmentOptions {
    /// Nothing but crops at random places.
    pub fn none() -> Self {
        Self {
            dihedral: false,
            scale: [1.0, 1.0],
            resolution: None,
            scale_chance: 0.0,
            rotate: 0.0,
            rotate_chance: 0.0,
            brightness: 0.0,
            contrast: 0.0,
            saturation: 0.0,
            channel_gain: 0.0,
            hue: 0.0,
            gamma: 0.0,
            light: 0.0,
            blur: 0.0,
            jpeg: 0.0,
            rare_class_crops: 0.0,
        }
    }

    /// For models that are to be used where nobody has trained: any turn, and colours, light and sharpness of other sensors and
    /// seasons.
    pub fn strong() -> Self {
        Self {
            scale_chance: 0.8,
            rotate: 180.0,
            rotate_chance: 0.5,
            brightness: 0.35,
            contrast: 0.4,
            saturation: 0.5,
            channel_gain: 0.12,
            hue: 25.0,
            gamma: 0.35,
            light: 0.3,
            blur: 0.3,
            jpeg: 0.25,
            rare_class_crops: 0.35,
            ..Self::default()
        }
    }

    /// The same for a chip of which a pixel covers `metres_per_pixel` on the ground, if that is known: `resolution` becomes a
    /// scale.
    pub fn on_ground(&self, metres_per_pixel: Option<f64>) -> Self {
        let mut options = self.clone();
        if let (Some([finest, coarsest]), Some(metres)) = (options.resolution.take(), metres_per_pixel) {
            options.scale = [metres as f32 / coarsest, metres as f32 / finest];
            options.scale_chance = 1.0;
        }
        options
    }
}

/// A random crop of `size` x `size` pixels. Images are sampled bilinearly, labels take the nearest pixel; beyond the chip
/// the image is mirrored and labels are [`super::dataset::IGNORE`]. The same `random` gives the same crop.
pub fn augment(chip: &Chip, size: usize, options: &AugmentOptions, random: &mut SplitMix) -> Chip {
    augment_with(chip, None, size, options, random).0
}

/// As [`augment`], with the same crop of what a teacher says of the chip: soft masks are sampled bilinearly, and beyond the chip
/// the teacher is silent.
pub fn augment_with(
    chip: &Chip,
    lesson: Option<&Lesson>,
    size: usize,
    options: &AugmentOptions,
    random: &mut SplitMix,
) -> (Chip, Option<Lesson>) {
    let size = size.max(1);
    let mut view = CropView { quarter: 0, zoom: 1.0, angle: 0.0 };
    if options.dihedral {
        view.quarter = (random.next_u64() >> 61) as u8;
    }
    let [low, high] = options.scale.map(|s| if s.is_finite() { s.clamp(0.05, 20.0) } else { 1.0 });
    if chance(random, options.scale_chance) && (low, high) != (1.0, 1.0) {
        view.zoom = between(random, low.ln(), high.ln()).exp();
    }
    if chance(random, options.rotate_chance) && options.rotate != 0.0 {
        view.angle = between(random, -options.rotate, options.rotate).to_radians();
    }
    let focus = if chance(random, options.rare_class_crops) { geometry::rare_pixel(chip, random) } else { None };
    let placement = geometry::place(chip, size, &view, focus, random);
    let mut crop = placement.crop(chip);
    colour::change(&mut crop, options, random);
    let lesson = lesson.map(|lesson| match lesson {
        Lesson::Model(silence) => Lesson::Model(placement.labels(silence, chip)),
        Lesson::Mask(mask) => Lesson::Mask(placement.crop(mask)),
    });
    (crop, lesson)
}

/// The middle `size` x `size` pixels, without any chance; where the chip is smaller it lies in the middle, the image
/// around it mirrored and labels [`super::dataset::IGNORE`].
pub fn centre(chip: &Chip, size: usize) -> Chip {
    geometry::centre(chip, size.max(1)).crop(chip)
}

/// Even in 0 to 1.
fn unit(random: &mut SplitMix) -> f32 {
    (random.next_u64() >> 40) as f32 / (1u64 << 24) as f32
}

fn between(random: &mut SplitMix, low: f32, high: f32) -> f32 {
    low + (high - low) * unit(random)
}

fn chance(random: &mut SplitMix, chance: f32) -> bool {
    unit(random) < chance
}
