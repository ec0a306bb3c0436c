//! What a device computes for a known input, stage by stage, so that a GPU can be compared with the CPU before it is
//! trusted: drivers exist whose shaders compile and give wrong numbers.

use burn::tensor::Device;

use crate::config::{Backbone, SamConfig};
use crate::error::Result;
use crate::kernels::{read, upload};
use crate::model::{Parameters, Sam};
use crate::random::SplitMix;
use crate::weights::package::Stored;
use crate::weights::quantize::Scheme;
use crate::weights::{layout, upload};

/// Side of the input in pixels: 10 x 10 tokens, which windows of 7 do not divide.
const SIDE: usize = 160;
/// Any number; it decides weights and input.
const SEED: u64 = 11;

/// The values of each stage of a small model with random weights on `device`, by name in the order of the computation:
/// patch embedding and positions, a block with windows, a global block, neck, mask decoder.
///
/// The model has SAM's kinds of layers at their usual head size (64) with a window that leaves padding, and its input is
/// the same everywhere.
///
/// # Errors
/// [`ErrorKind::Device`] if the device fails.
pub async fn self_test(device: &Device) -> Result<Vec<(&'static str, Vec<f32>)>> {
    let sam = random_model(&config()?, SEED, Scheme::F32, device)?;
    let mut random = SplitMix(SEED);
    let pixels: Vec<f32> = (0..3 * SIDE * SIDE).map(|_| random.uniform()).collect();
    let input = upload(pixels, [1, 3, SIDE, SIDE], device);
    let mut pass = sam.image_encoder.start(input);
    let mut found = vec![("patch embedding", read(pass.x.clone()).await?)];
    for name in ["window block", "global block", "neck"] {
        pass = pass.advance();
        found.push((name, read(pass.x.clone()).await?));
    }
    found.push(("mask decoder", read(sam.decode(pass.x)).await?));
    Ok(found)
}

/// A model of random weights, the same for the same seed everywhere, as a package of `scheme` would have it: for tests of devices
/// and for benchmarks.
///
/// # Errors
/// Those of [`Sam::load`].
pub fn random_model(config: &SamConfig, seed: u64, scheme: Scheme, device: &Device) -> Result<Sam> {
    let mut parameters = Parameters::for_inference(config, device);
    for (name, shape) in layout::tensors(config) {
        let values = layout::random(&name, &shape, seed);
        upload::insert(&mut parameters, &name, &shape, Stored::new(scheme.of_tensor(&name, &shape), &values, &shape))?;
    }
    Sam::load(config, parameters)
}

fn config() -> Result<SamConfig> {
    let mut config = Backbone::named("tiny")?.config(3);
    config.embed_dim = 128;
    config.num_heads = 2;
    config.mlp_dim = 512;
    config.depth = 2;
    config.global_attn_indexes = vec![1];
    config.window_size = 7;
    config.pretrained_size = 128; // positions are resampled
    Ok(config)
}
