//! Packages: what is exported loads again and computes what the reference computes; adapters on a shared base.
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod common;

use std::fs;
use std::path::Path;

use common::{
    CASES, adapter, base, base_and_adapters, cpu, failure, fixtures, listing, load, manifest, merged, reference,
    relative,
};
use samlora::config::{Backbone, SamConfig};
use samlora::engine::Segmenter;
use samlora::error::{Error, ErrorKind, Result};
use samlora::weights::checkpoint::{self, Adapter, Checkpoint};
use samlora::weights::export::{export, write};
use samlora::weights::folder::Folder;
use samlora::weights::layout;
use samlora::weights::manifest::{Kind, Manifest, SHARD_BYTES};
use samlora::weights::package::{read_manifest, read_tensors};
use samlora::weights::quantize::Scheme;
use samlora::weights::safetensors::Writer;
use samlora::weights::source::{Dtype, TensorInfo};

/// The largest error of a logit beside the largest logit. The tiny model has few, random weights, whose rounding does
/// not average out as in a large one; `tests/full_size.sh` prints the same for the published sizes.
fn tolerance(scheme: Scheme) -> f32 {
    match scheme {
        Scheme::F32 => 1e-4,
        Scheme::F16 => 1e-2,
        Scheme::Q8 => 0.1,
        Scheme::Q4 => 0.6,
    }
}

fn logits(segmenter: &Segmenter, case: &str) -> Vec<f32> {
    let run = |(image, _)| pollster::block_on(segmenter.logits(&image)).unwrap().values;
    reference(case).into_iter().flat_map(run).collect()
}

#[test]
fn every_scheme_folder_and_archive_compute_what_the_reference_computes() {
    let folder = tempfile::tempdir().unwrap();
    for (case, size) in CASES {
        let theirs: Vec<f32> = reference(case).into_iter().flat_map(|(_, logits)| logits).collect();
        let mut bytes = u64::MAX;
        for scheme in Scheme::ALL {
            let paths = ["", ".samlora"].map(|ending| folder.path().join(format!("{case}-{}{ending}", scheme.name())));
            let results = paths.map(|path| {
                let written = merged(case, size, scheme, &path);
                assert!(written.weight_bytes() < bytes || path.is_file(), "{case}: {} is no smaller", scheme.name());
                bytes = written.weight_bytes();
                let segmenter = load(&path).unwrap();
                assert_eq!(segmenter.manifest(), &written);
                logits(&segmenter, case)
            });
            assert_eq!(results[0], results[1], "folder and archive differ");
            let worst = relative(&results[0], &theirs);
            println!("{case} {}: {bytes} bytes, largest difference {worst:.1e}", scheme.name());
            assert!(worst <= tolerance(scheme), "{case} {}: {worst}", scheme.name());
        }
    }
    assert_eq!(listing(folder.path()).len(), 2 * 4 * CASES.len(), "nothing else is left behind");
}

fn put_on(base: &Segmenter, adapter: &Path) -> Result<Segmenter> {
    pollster::block_on(base.load_adapter(&Folder::open(adapter)?, |_| ()))
}

#[test]
fn an_adapter_on_its_base_equals_the_merged_model_and_adapters_do_not_disturb_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let (base, adapters) = base_and_adapters(folder.path(), Scheme::F32, &CASES);
    let base = load(&base).unwrap();
    let mut first = Vec::new();
    for ((case, size), path) in CASES.iter().zip(&adapters) {
        let adapted = put_on(&base, path).unwrap();
        let package = folder.path().join(format!("{case}-merged"));
        merged(case, *size, Scheme::F32, &package);
        let (ours, theirs) = (logits(&adapted, case), logits(&load(&package).unwrap(), case));
        let worst = relative(&ours, &theirs);
        println!("{case}: base and adapter differ from the merged package by {worst:.1e}");
        assert!(worst <= tolerance(Scheme::F32), "{case}: {worst}");
        first.push((case, adapted, ours));
    }
    // An adapter can also be put where another one is.
    let swapped = put_on(&base, &adapters[0]).unwrap();
    assert_eq!(logits(&swapped, CASES[0].0), first[0].2);
    for (case, adapted, before) in &first {
        assert_eq!(&logits(adapted, case), before, "{case} changed when others were loaded");
    }
}

#[test]
fn an_adapter_with_alpha_of_one_late_block_loads() {
    let folder = tempfile::tempdir().unwrap();
    let base = base();
    let mut adapter = adapter("s224_k2");
    adapter.factors.retain(|f| f.block == 3);
    adapter.numbered = false; // as a file in our own naming, which tells its blocks
    adapter.factors.iter_mut().for_each(|f| f.scale = 2.0 / f.rank as f64);
    let config = adapter.config(base.config()).unwrap();
    let base_path = folder.path().join("base");
    let base_manifest = manifest(base.config(), Kind::Base, Scheme::F32, 224);
    let hash = export(base_manifest, &base, None, &base_path, |_, _| ()).unwrap().content_hash();
    let mut of_adapter = manifest(&config, Kind::Adapter, Scheme::F32, 224);
    of_adapter.origin.base_sha256 = Some(hash);
    of_adapter.lora = Some(samlora::lora::LoraConfig { alpha: Some(2.0), ..Default::default() });
    let (adapter_path, merged_path) = (folder.path().join("adapter"), folder.path().join("merged"));
    export(of_adapter, &base, Some(&adapter), &adapter_path, |_, _| ()).unwrap();
    let whole = manifest(&config, Kind::Merged, Scheme::F32, 224);
    export(whole, &base, Some(&adapter), &merged_path, |_, _| ()).unwrap();
    let adapted = put_on(&load(&base_path).unwrap(), &adapter_path).unwrap();
    let worst = relative(&logits(&adapted, "s224_k2"), &logits(&load(&merged_path).unwrap(), "s224_k2"));
    assert!(worst <= tolerance(Scheme::F32), "{worst}");
}

#[test]
fn an_adapter_that_lacks_a_head_takes_the_bases() {
    let folder = tempfile::tempdir().unwrap();
    let base = base();
    let mut adapter = adapter("s256_k4"); // as many masks as SAM has
    adapter.tensors.retain(|name, _| name.contains("upscaling"));
    let (base_path, path) = (folder.path().join("base"), folder.path().join("adapter"));
    let base_manifest = manifest(base.config(), Kind::Base, Scheme::F32, 256);
    let hash = export(base_manifest, &base, None, &base_path, |_, _| ()).unwrap().content_hash();
    let mut of_adapter = manifest(base.config(), Kind::Adapter, Scheme::F32, 256);
    of_adapter.origin.base_sha256 = Some(hash);
    export(of_adapter, &base, Some(&adapter), &path, |_, _| ()).unwrap();
    put_on(&load(&base_path).unwrap(), &path).unwrap();
}

#[test]
fn wrong_pairs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (base_path, adapters) = base_and_adapters(folder.path(), Scheme::F32, &CASES[..1]);
    let (kind, text) = failure(load(&adapters[0]));
    assert!(kind == ErrorKind::Invalid && text.contains("is an adapter") && text.contains(CASES[0].0), "{text}");

    let other = folder.path().join("other");
    let manifest_f16 = manifest(base().config(), Kind::Base, Scheme::F16, 224);
    export(manifest_f16, &base(), None, &other, |_, _| ()).unwrap();
    let (kind, text) = failure(put_on(&load(&other).unwrap(), &adapters[0]));
    assert!(
        kind == ErrorKind::Integrity && text.contains("was made for the base") && text.contains(CASES[0].0),
        "{text}"
    );

    let whole = folder.path().join("whole");
    merged("s96_k6", 96, Scheme::F16, &whole);
    let (kind, _) = failure(put_on(&load(&whole).unwrap(), &adapters[0]));
    assert_eq!(kind, ErrorKind::Invalid);
    let (kind, _) = failure(put_on(&load(&base_path).unwrap(), &whole));
    assert_eq!(kind, ErrorKind::Invalid);

    // An adapter that lies about the base's architecture.
    let file = adapters[0].join("samlora.json");
    let json = fs::read_to_string(&file).unwrap();
    fs::write(&file, json.replace("\"num_heads\": 3", "\"num_heads\": 4")).unwrap();
    let (kind, text) = failure(put_on(&load(&base_path).unwrap(), &adapters[0]));
    assert!(kind == ErrorKind::Format && text.contains("another architecture"), "{text}");
}

/// A model whose two MLP matrices are larger than a shard even as int8.
fn wide() -> SamConfig {
    let tiny = Backbone::named("tiny").unwrap().config(2);
    SamConfig {
        embed_dim: 1024,
        num_heads: 16,
        depth: 1,
        mlp_dim: 20_000,
        global_attn_indexes: vec![0],
        pretrained_size: 256,
        ..tiny
    }
}

/// A number that tells tensor and place apart, representable in every scheme's neighbourhood.
fn value(name: &str, i: usize) -> f32 {
    ((i * 31 + name.len() * 7) % 255) as f32 - 127.0
}

#[test]
fn tensors_larger_than_a_shard_are_split_and_come_back_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let config = wide();
    for scheme in [Scheme::F32, Scheme::Q8] {
        let out = folder.path().join(scheme.name());
        let read = |name: &str| {
            let shape = layout::tensors(&config).into_iter().find(|(n, _)| n == name).unwrap().1;
            Ok((0..shape.iter().product()).map(|i| value(name, i)).collect())
        };
        let written =
            write(manifest(&config, Kind::Merged, scheme, 256), layout::tensors(&config), read, &out, |_, _| ());
        let written = written.unwrap();
        for shard in &written.shards {
            assert!(shard.bytes <= SHARD_BYTES);
            assert_eq!(fs::metadata(out.join(&shard.file)).unwrap().len(), shard.bytes as u64);
        }
        let parts = written.tensors["image_encoder.blocks.0.mlp.lin1.weight"].parts.len();
        println!("{}: {} shards, the largest matrix in {parts} parts", scheme.name(), written.shards.len());
        assert!(parts >= 2);
        let (mut seen, mut last) = (0, 0);
        let check = |name: &str, _: &[usize], values: Vec<f32>| {
            seen += 1;
            // q8 of whole numbers up to 127 is off by the rounding of a block's scale at most
            let bound = if scheme == Scheme::F32 { 0.0 } else { 0.6 };
            match values.iter().enumerate().find(|(i, v)| (*v - value(name, *i)).abs() > bound) {
                Some((i, v)) => panic!("{name}: value {i} is {v}, not {}", value(name, i)),
                None => Ok(()),
            }
        };
        let progress = |p: samlora::weights::package::LoadProgress| {
            assert!(p.loaded_bytes > last && p.total_bytes == written.weight_bytes());
            last = p.loaded_bytes;
        };
        pollster::block_on(read_tensors(&Folder::open(&out).unwrap(), &written, check, progress)).unwrap();
        assert_eq!((seen, last), (written.tensors.len(), written.weight_bytes()));
    }
}

fn try_export(out: &Path) -> Result<Manifest> {
    let base = base();
    export(manifest(base.config(), Kind::Base, Scheme::F16, 96), &base, None, out, |_, _| ())
}

#[test]
fn exporting_again_replaces_a_package_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["package", "package.samlora"] {
        let out = folder.path().join(name);
        merged("s96_k6", 96, Scheme::F32, &out); // more shards, other names
        try_export(&out).unwrap();
        let found = pollster::block_on(read_manifest(&Folder::open(&out).unwrap())).unwrap();
        assert_eq!((found.kind, found.scheme), (Kind::Base, Scheme::F16));
        load(&out).unwrap();
    }
    assert_eq!(listing(folder.path()), ["package", "package.samlora"]);

    let refuses = |out: &Path, word: &str| {
        let (kind, text) = failure(try_export(out));
        assert!(kind == ErrorKind::Invalid && text.contains(word) && text.contains("not overwritten"), "{text}");
    };
    // A package with something of the user's beside it.
    let package = folder.path().join("package");
    fs::write(package.join("notes.txt"), "mine").unwrap();
    refuses(&package, "notes.txt");
    assert!(package.join("notes.txt").is_file() && load(&package).is_ok());
    let foreign = folder.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("photo.png"), "x").unwrap();
    refuses(&foreign, "not a package");
    fs::write(foreign.join("samlora.json"), "{}").unwrap();
    refuses(&foreign, "not a package");
    for (name, content) in [("a.txt", "x"), ("foreign.samlora", "not a zip")] {
        let file = folder.path().join(name);
        fs::write(&file, content).unwrap();
        refuses(&file, "not a package");
        assert_eq!(fs::read_to_string(&file).unwrap(), content);
    }
    let odd = folder.path().join("folder.samlora");
    fs::create_dir(&odd).unwrap();
    refuses(&odd, "not a package");
    // An empty folder is free.
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    try_export(&empty).unwrap();
    assert!(listing(folder.path()).iter().all(|name| !name.starts_with('.')), "{:?}", listing(folder.path()));
}

#[test]
fn a_failed_export_leaves_the_old_package_and_no_rest() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("package");
    let before = merged("s96_k6", 96, Scheme::F32, &out);
    let config = before.architecture.clone();
    let bad: [(&str, f32, Scheme, &str); 4] = [
        ("nan", f32::NAN, Scheme::F32, "NaN"),
        ("infinite", f32::INFINITY, Scheme::Q8, "inf"),
        ("beyond f16", 1e5, Scheme::F16, "100000"),
        ("beyond a scale of q8", 1e7, Scheme::Q8, "10000000"),
    ];
    for (what, number, scheme, word) in bad {
        let damaged = "image_encoder.blocks.2.mlp.lin1.weight";
        let read = |name: &str| {
            let shape = layout::tensors(&config).into_iter().find(|(n, _)| n == name).unwrap().1;
            let mut values = layout::random(name, &shape, 1);
            values[5] = if name == damaged { number } else { values[5] };
            Ok(values)
        };
        let result =
            write(manifest(&config, Kind::Merged, scheme, 96), layout::tensors(&config), read, &out, |_, _| ());
        let (kind, text) = failure(result);
        assert!(kind == ErrorKind::Format && text.contains(damaged) && text.contains(word), "{what}: {text}");
    }
    let read = |_: &str| Err(Error::new(ErrorKind::Io, "the disk is gone"));
    let result =
        write(manifest(&config, Kind::Merged, Scheme::F32, 96), layout::tensors(&config), read, &out, |_, _| ());
    assert_eq!(failure(result).0, ErrorKind::Io);
    // Settings that cannot be are known before anything is read.
    for settings in [
        Manifest { input_size: 100, ..manifest(&config, Kind::Merged, Scheme::F32, 96) },
        Manifest { tile_size: 0, ..manifest(&config, Kind::Merged, Scheme::F32, 96) },
        Manifest { classes: Vec::new(), ..manifest(&config, Kind::Merged, Scheme::F32, 96) },
        Manifest { ground_resolution: Some(f64::NAN), ..manifest(&config, Kind::Merged, Scheme::F32, 96) },
    ] {
        let never = |_: &str| panic!("read before the settings were checked");
        assert_eq!(failure(write(settings, layout::tensors(&config), never, &out, |_, _| ())).0, ErrorKind::Format);
    }
    assert_eq!(load(&out).unwrap().manifest(), &before);
    assert_eq!(listing(folder.path()), ["package"]);
}

#[test]
fn a_published_adapter_fits_a_full_size_base() {
    let Some(file) = common::data("a published adapter on ViT-B", "sam-lora/lora_rank4.safetensors") else { return };
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("sam_vit_b.safetensors");
    let config = Backbone::named("vit_b").unwrap().config(4);
    let tensors = layout::tensors(&config);
    let info = |(name, shape): &(String, Vec<usize>)| TensorInfo {
        name: name.clone(),
        shape: shape.clone(),
        dtype: Dtype::F32,
    };
    let infos: Vec<TensorInfo> = tensors.iter().map(info).collect();
    let out = std::io::BufWriter::new(fs::File::create(&checkpoint).unwrap());
    let mut writer = Writer::new(out, &infos, &Default::default()).unwrap();
    for (name, shape) in &tensors {
        let bytes: Vec<u8> = layout::random(name, shape, 3).iter().flat_map(|v| v.to_le_bytes()).collect();
        writer.tensor(name, &bytes).unwrap();
    }
    writer.finish().unwrap();

    let (base, adapter) = (Checkpoint::open(&checkpoint).unwrap(), Adapter::open(&file, 1.0).unwrap());
    assert_eq!(adapter.config(base.config()).unwrap(), config);
    assert!(adapter.factors.len() == 24 && adapter.factors.iter().all(|f| f.rank == 4));
    let (base_path, adapter_path) = (folder.path().join("base"), folder.path().join("adapter"));
    let base_manifest = manifest(&config, Kind::Base, Scheme::F32, 224);
    let hash = export(base_manifest, &base, None, &base_path, |_, _| ()).unwrap().content_hash();
    let mut of_adapter = manifest(&config, Kind::Adapter, Scheme::F32, 224);
    of_adapter.origin.base_sha256 = Some(hash);
    let written = export(of_adapter.clone(), &base, Some(&adapter), &adapter_path, |_, _| ()).unwrap();
    println!("the adapter package has {} bytes", written.weight_bytes());
    let image = common::picture().crop(0, 0, 224, 224).unwrap();
    let run = |segmenter: &Segmenter| pollster::block_on(segmenter.logits(&image)).unwrap().values;
    let (plain, adapted) = {
        let base = load(&base_path).unwrap();
        (run(&base), run(&put_on(&base, &adapter_path).unwrap()))
    };
    let (_, sam) = checkpoint::load(&base, Some(&adapter), &cpu()).unwrap();
    let whole = run(&Segmenter::new(manifest(&config, Kind::Merged, Scheme::F32, 224), sam, &cpu()));
    let (moved, worst) = (relative(&adapted, &plain), relative(&adapted, &whole));
    println!("the adapter moves logits by {moved:.1e}; merged and attached differ by {worst:.1e}");
    assert!(moved > 1e-3 && worst <= tolerance(Scheme::F32));
}

#[test]
fn the_fixtures_are_there() {
    assert!(fixtures().join("tiny_sam.safetensors").is_file(), "{}", fixtures().display());
}
