//! The command `samlora` as its users meet it: what it writes, and how it fails.
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::command::{fails, fixture, json, samlora, succeeds, text};
use common::{fixtures, listing};
use samlora::weights::layout;
use samlora::weights::safetensors::Writer;
use samlora::weights::source::{Dtype, TensorInfo, open};
use serde_json::Value;
use tempfile::TempDir;

/// A folder with a package, a good picture, and room for outputs.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        let (base, adapter) = (fixture("tiny_sam.pth"), fixture("s96_k6_lora.pth"));
        let size = ["--input-size", "96", "--tile-size", "72", "--classes", "a,b=#ff0000,c,d,e"];
        let out = bench.path("package");
        let args = [&["export", "--base", &base, "--adapter", &adapter, "--out", &out, "--json"][..], &size].concat();
        assert_eq!(json(&args)["kind"], "merged");
        image::RgbImage::from_fn(200, 120, |x, y| image::Rgb([x as u8, y as u8, (x ^ y) as u8]))
            .save(bench.path("good.png"))
            .unwrap();
        bench
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// Segments `input`, which must fail and leave nothing.
    #[track_caller]
    fn refuses(&self, input: &str, words: &[&str]) {
        let out = self.path("refused");
        let name = Path::new(input).file_name().unwrap().to_string_lossy().into_owned();
        let formats = "png,overlay,geojson,geotiff,raw";
        let args = ["segment", "--model", &self.path("package"), input, "--out", &out, "--format", formats];
        let line = fails(&args, &[&[name.as_str()], words].concat());
        assert_eq!(line.matches(&name).count(), 1, "{line}");
        if Path::new(&out).exists() {
            assert_eq!(listing(Path::new(&out)), [""; 0], "{input}");
        }
    }
}

#[test]
fn outputs_of_every_format_appear_and_are_reported() {
    let bench = Bench::new();
    let (model, good, out) = (bench.path("package"), bench.path("good.png"), bench.path("out/deep"));
    let args = ["segment", "--model", &model, &good, "--out", &out, "--format", "png,overlay,geojson,geotiff,raw"];
    let report = json(&[&args[..], &["--json"]].concat());
    let names =
        ["good.classes.u8", "good.confidence.u8", "good.geojson", "good.mask.png", "good.overlay.png", "good.tif"];
    assert_eq!(listing(Path::new(&out)), names, "an image larger than the input has no single logits");
    assert_eq!(report["files"].as_array().unwrap().len(), names.len());
    assert_eq!((report["width"].as_u64(), report["height"].as_u64()), (Some(200), Some(120)));
    let shares: f64 = report["classes"].as_array().unwrap().iter().map(|c| c["share"].as_f64().unwrap()).sum();
    assert!((shares - 1.0).abs() < 1e-9);
    let classes = fs::read(format!("{out}/good.classes.u8")).unwrap();
    assert!(classes.len() == 200 * 120 && classes.iter().all(|c| *c < 6));
    let geojson: Value = serde_json::from_slice(&fs::read(format!("{out}/good.geojson")).unwrap()).unwrap();
    assert_eq!(geojson["type"], "FeatureCollection");
    // As text, again, over what is there.
    let said = succeeds(&args);
    assert!(said.contains("good.mask.png") && said.contains("200 x 120"), "{said}");
    assert_eq!(listing(Path::new(&out)), names);

    let archive = bench.path("package.samlora");
    let (base, adapter) = (fixture("tiny_sam.pth"), fixture("s96_k6_lora.pth"));
    succeeds(&[
        "export",
        "--base",
        &base,
        "--adapter",
        &adapter,
        "--input-size",
        "96",
        "--out",
        &archive,
        "--scheme",
        "q4",
    ]);
    succeeds(&[
        "segment",
        "--model",
        &archive,
        &good,
        "--out",
        &out,
        "--min-area",
        "9",
        "--simplify",
        "1",
        "--threads",
        "1",
    ]);
    // A mask beside its own GeoTIFF would replace it.
    let tif = bench.path("good.tif");
    fs::copy(format!("{out}/good.tif"), &tif).unwrap();
    let before = fs::read(&tif).unwrap();
    let folder = bench.folder.path().display().to_string();
    fails(
        &["segment", "--model", &model, &tif, "--out", &folder, "--format", "geotiff"],
        &["good.tif", "own mask", "--out"],
    );
    assert_eq!(fs::read(&tif).unwrap(), before);
}

#[test]
fn base_and_adapter_packages_segment_together() {
    let bench = Bench::new();
    let (base, lora, good) = (fixture("tiny_sam.pth"), fixture("s96_k6_lora.pth"), bench.path("good.png"));
    let (base_out, adapter_out, merged) = (bench.path("base"), bench.path("adapter"), bench.path("merged"));
    let size = ["--input-size", "96", "--tile-size", "72", "--scheme", "f32", "--out"];
    succeeds(&[&["export", "--base", &base][..], &size, &[&base_out]].concat());
    succeeds(&[&["export", "--base", &base, "--adapter", &lora][..], &size, &[&merged]].concat());
    let package = ["export", "--base", &base, "--adapter", &lora, "--base-package", &base_out];
    let report = json(&[&package[..], &size, &[&adapter_out, "--json"]].concat());
    assert_eq!(report["kind"], "adapter");
    let (out_a, out_b) = (bench.path("a"), bench.path("b"));
    succeeds(&["segment", "--model", &base_out, "--adapter", &adapter_out, &good, "--out", &out_a]);
    succeeds(&["segment", "--model", &merged, &good, "--out", &out_b]);
    let masks = [&out_a, &out_b].map(|out| fs::read(format!("{out}/good.mask.png")).unwrap());
    assert_eq!(masks[0], masks[1]);

    let none = bench.path("none");
    fails(&["segment", "--model", &base_out, &good, "--out", &none], &["base", "--adapter"]);
    fails(&["segment", "--model", &adapter_out, &good, "--out", &none], &["is an adapter"]);
    fails(&["segment", "--model", &merged, "--adapter", &adapter_out, &good, "--out", &none], &["adapter"]);
    let wrong = ["export", "--base", &base, "--adapter", &lora, "--base-package", &merged];
    fails(&[&wrong[..], &size, &[&none]].concat(), &["merged", "is not a base package"]);
    assert!(!Path::new(&none).exists());
}

#[test]
fn bad_inputs_are_named_and_leave_nothing() {
    let bench = Bench::new();
    bench.refuses(&bench.file("zero.png", b""), &["empty"]);
    bench.refuses(&bench.file("text.png", b"this is a letter to my aunt\n"), &["no image"]);
    let good = image::open(bench.path("good.png")).unwrap();
    good.save(bench.path("whole.jpg")).unwrap();
    let jpeg = fs::read(bench.path("whole.jpg")).unwrap();
    bench.refuses(&bench.file("half.jpg", &jpeg[..jpeg.len() / 2]), &["truncated"]);
    let png = fs::read(bench.path("good.png")).unwrap();
    bench.refuses(&bench.file("half.png", &png[..png.len() / 2]), &[]);
    bench.refuses(&bench.path("missing.png"), &["No such file"]);
    // A header of 100,000 x 100,000 pixels, its checksum right.
    let mut header = b"IHDR".to_vec();
    header.extend([100_000u32.to_be_bytes(), 100_000u32.to_be_bytes()].concat());
    header.extend([8, 2, 0, 0, 0]);
    let huge = [&png[..12], &header, &crc32fast::hash(&header).to_be_bytes(), &png[33..]].concat();
    bench.refuses(&bench.file("huge.png", &huge), &["100000 x 100000", "limit"]);
    for (name, bytes) in [("a.gif", &b"GIF89a..............."[..]), ("a.pdf", b"%PDF-1.4 ..............")] {
        bench.refuses(&bench.file(name, bytes), &["cannot be read"]);
    }
    fs::create_dir(bench.path("empty")).unwrap();
    bench.refuses(&bench.path("empty"), &[]);

    let (model, out) = (bench.path("package"), bench.path("out"));
    fs::create_dir(bench.path("sub")).unwrap();
    fs::copy(bench.path("good.png"), bench.path("sub/good.jpg")).unwrap();
    let (one, two) = (bench.path("good.png"), bench.path("sub/good.jpg"));
    fails(&["segment", "--model", &model, &one, &two, "--out", &out], &["good.jpg", "good.png", "same files", "--out"]);
    for (option, value) in [
        ("--opacity", "2"),
        ("--opacity", "nan"),
        ("--simplify", "-1"),
        ("--simplify", "nan"),
        ("--bands", "1,2"),
        ("--bands", "0,1,2"),
    ] {
        let given = format!("{option}={value}");
        fails(&["segment", "--model", &model, &one, "--out", &out, "--format", "geojson", &given], &[option]);
    }
    assert!(!Path::new(&out).exists(), "known to fail before anything ran");
}

#[test]
fn a_batch_goes_on_after_a_bad_input_and_names_all_of_them() {
    let bench = Bench::new();
    let (model, good, missing) = (bench.path("package"), bench.path("good.png"), bench.path("missing.png"));
    let (empty, cut) = (bench.file("empty.tif", b""), bench.file("cut.png", &fs::read(&good).unwrap()[..200]));
    fs::copy(&good, bench.path("last.png")).unwrap();
    let (last, out) = (bench.path("last.png"), bench.path("out"));
    let inputs = [&missing, &good, &empty, &cut, &last].map(String::as_str);
    let args = [&["segment", "--json", "--model", &model, "--out", &out, "--format", "png"][..], &inputs].concat();
    let output = samlora(&args);
    assert!(!output.status.success());
    let message = String::from_utf8(output.stderr).unwrap();
    let end = message.lines().last().unwrap();
    assert!(end.contains("3 of 5 inputs failed"), "{message}");
    for name in ["missing.png", "empty.tif", "cut.png"] {
        assert!(end.contains(name), "{message}");
        // Once where it failed, once at the end.
        assert_eq!(message.matches(name).count(), 2, "{message}");
    }
    let lines: Vec<serde_json::Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let codes: Vec<Option<&str>> = lines.iter().map(|line| line["code"].as_str()).collect();
    assert_eq!(codes, [Some("not_found"), None, Some("format"), Some("format"), None]);
    let mut written: Vec<_> = fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name()).collect();
    written.sort();
    assert_eq!(written, ["good.mask.png", "last.mask.png"]);
}

#[test]
fn a_pixel_and_a_strip_of_50_000_work() {
    let bench = Bench::new();
    image::RgbImage::new(1, 1).save(bench.path("pixel.png")).unwrap();
    image::RgbImage::from_fn(50_000, 3, |x, _| image::Rgb([x as u8, 90, 0])).save(bench.path("strip.png")).unwrap();
    let out = bench.path("out");
    let (model, pixel, strip) = (bench.path("package"), bench.path("pixel.png"), bench.path("strip.png"));
    let formats = "png,overlay,geojson,geotiff,raw";
    succeeds(&["segment", "--model", &model, &pixel, &strip, "--out", &out, "--format", formats]);
    assert_eq!(image::open(format!("{out}/strip.mask.png")).unwrap().width(), 50_000);
    assert_eq!(fs::read(format!("{out}/pixel.classes.u8")).unwrap().len(), 1);
    assert_eq!(fs::read(format!("{out}/pixel.logits.f32")).unwrap().len(), 6 * 24 * 24 * 4);
}

#[test]
fn outputs_that_cannot_be_written() {
    let bench = Bench::new();
    let (model, good) = (bench.path("package"), bench.path("good.png"));
    let file = bench.file("file", b"x");
    let under = format!("{file}/out");
    for out in [&file, &under] {
        fails(&["segment", "--model", &model, &good, "--out", out], &[out, "output folder", "--out"]);
    }
    let base = fixture("tiny_sam.pth");
    fails(&["export", "--base", &base, "--out", &under], &[&file, "--out"]);
    assert_eq!(fs::read(&file).unwrap(), b"x");
    // A folder where a mask should go.
    let out = bench.path("out");
    fs::create_dir_all(format!("{out}/good.mask.png")).unwrap();
    fails(&["segment", "--model", &model, &good, "--out", &out, "--format", "png"], &["good.mask.png", "folder"]);
    assert_eq!(listing(Path::new(&out)), ["good.mask.png"]);
}

/// A file system of 256 kB, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Option<Self> {
        fs::create_dir(&at).ok()?;
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(&at).output();
        done.is_ok_and(|o| o.status.success()).then_some(Self(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_leaves_nothing_half_written() {
    let bench = Bench::new();
    let Some(disk) = SmallDisk::mount(bench.folder.path().join("disk")) else {
        println!("left out: a full disk, a small file system cannot be mounted here (needs root on Linux)");
        return;
    };
    let at = disk.0.display().to_string();
    let noise =
        |x: u32, y: u32| (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503)).wrapping_mul(2_246_822_519) >> 24;
    image::RgbImage::from_fn(400, 400, |x, y| {
        image::Rgb([noise(x, y) as u8, noise(y, x) as u8, noise(x + 9, y) as u8])
    })
    .save(bench.path("noise.png"))
    .unwrap();
    let (model, noise) = (bench.path("package"), bench.path("noise.png"));
    // The overlay of noise does not fit, nor do plain numbers.
    for (format, name) in [("overlay", "noise.overlay.png"), ("raw", "noise.confidence.u8")] {
        fails(&["segment", "--model", &model, &noise, "--out", &at, "--format", format], &[name, "space"]);
        let left: Vec<String> = listing(&disk.0);
        assert!(left.is_empty() || left == ["noise.classes.u8"], "only whole files: {left:?}");
        for file in left {
            fs::remove_file(disk.0.join(file)).unwrap();
        }
    }
    for out in ["package", "package.samlora"] {
        let out = format!("{at}/{out}");
        fails(&["export", "--base", &fixture("tiny_sam.pth"), "--out", &out], &["space", &out]);
        assert_eq!(listing(&disk.0), [""; 0]);
    }
}

#[test]
fn models_that_are_none() {
    let bench = Bench::new();
    let (good, out) = (bench.path("good.png"), bench.path("out"));
    let folder = bench.path("nothing");
    fs::create_dir(&folder).unwrap();
    let text = bench.file("model.samlora", b"PK not really");
    let missing = bench.path("missing");
    for (model, word) in [(&folder, "samlora.json"), (&text, "neither"), (&missing, "No such file"), (&good, "neither")]
    {
        fails(&["segment", "--model", model, &good, "--out", &out], &[model, word]);
    }
    let model = bench.path("package");
    let shard = listing(Path::new(&model)).into_iter().find(|n| n.ends_with(".safetensors")).unwrap();
    let mut bytes = fs::read(format!("{model}/{shard}")).unwrap();
    bytes[70_000] ^= 4;
    fs::write(format!("{model}/{shard}"), bytes).unwrap();
    for args in [&["segment", "--model", &model, &good, "--out", &out][..], &["inspect", &model]] {
        fails(args, &[&shard, "SHA-256", "again"]);
    }
    assert!(!Path::new(&out).exists());
}

/// The tiny checkpoint with one number changed, as safetensors.
fn checkpoint_with(path: &str, tensor: &str, number: f32) {
    let tiny = open(fixtures().join("tiny_sam.safetensors")).unwrap();
    let infos: Vec<TensorInfo> = tiny.tensors().iter().map(|t| TensorInfo { dtype: Dtype::F32, ..t.clone() }).collect();
    let mut writer = Writer::new(fs::File::create(path).unwrap(), &infos, &Default::default()).unwrap();
    for info in &infos {
        let mut values = tiny.read_f32(&info.name).unwrap();
        values[2] = if info.name == tensor { number } else { values[2] };
        writer.tensor(&info.name, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn exports_that_cannot_be() {
    let bench = Bench::new();
    let (base, lora, out) = (fixture("tiny_sam.pth"), fixture("s96_k6_lora.pth"), bench.path("out"));
    let with = |more: &[&'static str]| -> Vec<String> {
        let all = [&["export", "--base", &base, "--adapter", &lora, "--out", &out][..], more].concat();
        all.iter().map(|s| s.to_string()).collect()
    };
    for (more, words) in [
        (&["--classes", "a,b"][..], &["--classes", "2 names for 5"][..]),
        (&["--classes", "a,b,c,d,d"], &["classes", "twice"]),
        (&["--classes", "a,b,c,d,e=red"], &["--classes", "#rrggbb"]),
        (&["--input-size", "100"], &["input_size", "multiple"]),
        (&["--input-size", "0"], &["input_size"]),
        (&["--input-size", "96", "--tile-size", "100"], &["tile_size"]),
        (&["--alpha", "nan"], &["--alpha"]),
        (&["--ground-resolution", "inf"], &["ground_resolution"]),
    ] {
        let args = with(more);
        fails(&args.iter().map(String::as_str).collect::<Vec<_>>(), words);
    }
    let matrix = "image_encoder.blocks.1.mlp.lin1.weight";
    for (number, word) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let bad = bench.path("bad.safetensors");
        checkpoint_with(&bad, matrix, number);
        fails(&["export", "--base", &bad, "--out", &out], &["bad.safetensors", matrix, "element 2", word]);
    }
    let large = bench.path("large.safetensors");
    checkpoint_with(&large, matrix, 1e8);
    fails(&["export", "--base", &large, "--out", &out, "--scheme", "q8"], &[matrix, "f32"]);
    // An adapter is no base, and a base no adapter.
    fails(&["export", "--base", &lora, "--out", &out], &["s96_k6_lora.pth", "adapter"]);
    fails(&["export", "--base", &base, "--adapter", &base, "--out", &out], &["tiny_sam.pth", "LoRA"]);
    let html = bench.file("sam.pth", b"<!doctype html><title>404</title>");
    fails(&["export", "--base", &html, "--out", &out], &["sam.pth", "web page"]);
    let zero = bench.file("zero.pth", b"");
    fails(&["export", "--base", &zero, "--out", &out], &["zero.pth", "empty"]);
    let cut = fs::read(fixture("tiny_sam.pth")).unwrap();
    let cut = bench.file("cut.pth", &cut[..cut.len() / 2]);
    fails(&["export", "--base", &cut, "--out", &out], &["cut.pth"]);
    let left: Vec<String> =
        listing(bench.folder.path()).into_iter().filter(|n| n == "out" || n.starts_with('.')).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_pickle_with_a_foreign_class_is_not_run() {
    let bench = Bench::new();
    let path = bench.path("evil.pth");
    let mut zip = zip::ZipWriter::new(fs::File::create(&path).unwrap());
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file("archive/data.pkl", stored).unwrap();
    zip.write_all(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.").unwrap();
    zip.start_file("archive/version", stored).unwrap();
    zip.write_all(b"3\n").unwrap();
    zip.finish().unwrap();
    for args in [&["inspect", &path][..], &["export", "--base", &path, "--out", &bench.path("out")]] {
        fails(args, &["evil.pth", "os.system"]);
    }
}

#[test]
fn inspect_tells_what_each_file_is() {
    let bench = Bench::new();
    let (base, lora, model) = (fixture("tiny_sam.pth"), fixture("s96_k6_lora.pth"), bench.path("package"));
    let parameters = layout::parameter_count(common::base().config());
    for file in [base.clone(), fixture("tiny_sam.safetensors")] {
        let found = json(&["inspect", "--json", &file]);
        assert_eq!(found["kind"], "checkpoint");
        assert_eq!(found["parameters"].as_u64(), Some(parameters));
        assert!(succeeds(&["inspect", &file]).contains("SAM checkpoint"));
    }
    let found = json(&["inspect", "--json", &lora]);
    assert_eq!((found["kind"].as_str(), found["rank"].as_u64()), (Some("adapter"), Some(8)));
    assert!(succeeds(&["inspect", &lora]).contains("rank 8"));
    let found = json(&["inspect", "--json", &model]);
    assert_eq!((found["kind"].as_str(), found["scheme"].as_str()), (Some("merged"), Some("q8")));
    let said = succeeds(&["inspect", &model]);
    assert!(said.contains("#ff0000 b") && said.contains("all hashes right"), "{said}");
    for (file, word) in [(bench.path("good.png"), "no checkpoint"), (bench.path("missing"), "No such file")] {
        fails(&["inspect", &file], &[&file, word]);
    }
    fails(&["inspect", &bench.folder.path().display().to_string()], &["no checkpoint"]);
}

#[test]
fn wrong_arguments_say_so() {
    for args in [
        &["segment"][..],
        &["export", "--scheme", "q3"],
        &["bench", "--size", "100"],
        &["bench", "--table", "--runs", "0"],
        &["bench", "--kernels", "mine"],
        &["bench", "--backbone", "vit_x"],
        &["nonsense"],
    ] {
        let output = samlora(args);
        let err = text(&output.stderr);
        assert!(!output.status.success() && err.starts_with("error: ") && !err.contains("panicked"), "{args:?}: {err}");
    }
    let version = succeeds(&["--version"]);
    assert!(version.contains(env!("CARGO_PKG_VERSION")) && version.contains("package format"), "{version}");
}

/// `println!` would panic there.
#[test]
#[cfg(target_os = "linux")]
fn a_full_stdout_is_an_error_not_a_panic() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let file = fixture("tiny_sam.pth");
    let output = Command::new(env!("CARGO_BIN_EXE_samlora")).args(["inspect", &file]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("error: standard output: "), "{}", text(&output.stderr));
}
