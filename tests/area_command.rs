//! `samlora segment --area` and `samlora merge`: kills, shares, places, failures, and the manual's page.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::command::{fails, fixture, json, succeeds};
use common::placed_tiff::{spread, write};
use common::tiff_files::write_tiff;
use common::{listing, picture};
use tempfile::TempDir;

/// A folder with a package of the tiny model and a GeoTIFF.
struct Bench(TempDir);

impl Bench {
    fn new(width: usize, height: usize) -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        let (base, adapter, out) = (fixture("tiny_sam.pth"), fixture("s96_k6_lora.pth"), bench.path("package"));
        let size = ["--input-size", "96", "--tile-size", "72", "--classes", "a,b=#ff0000,c,d,e"];
        succeeds(&[&["export", "--base", &base, "--adapter", &adapter, "--out", &out][..], &size].concat());
        let tif = bench.0.path().join("ground.tif");
        write(&tif, &spread(&picture(), width, height), 0.5, [430_007.5, 5_440_003.0], 32_633);
        bench
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// The command over the GeoTIFF, to `out`, with further arguments.
    fn args(&self, out: &str, more: &[&str]) -> Vec<String> {
        let (model, tif, out) = (self.path("package"), self.path("ground.tif"), self.path(out));
        let all =
            ["segment", "--model", &model, &tif, "--out", &out, "--threads", "1", "--format", "geotiff,geojson,png"];
        all.into_iter().chain(more.iter().copied()).map(str::to_owned).collect()
    }

    fn start(&self, out: &str, more: &[&str]) -> Child {
        let command = &mut Command::new(env!("CARGO_BIN_EXE_samlora"));
        command.args(self.args(out, more)).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn run(&self, out: &str, more: &[&str]) -> serde_json::Value {
        let args = self.args(out, &[more, &["--json"]].concat());
        json(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn fails(&self, out: &str, more: &[&str], words: &[&str]) {
        let args = self.args(out, more);
        fails(&args.iter().map(String::as_str).collect::<Vec<_>>(), words);
    }

    /// The outputs in a folder.
    fn outputs(&self, out: &str) -> Vec<(String, Vec<u8>)> {
        let folder = self.0.path().join(out);
        let names = listing(&folder).into_iter().filter(|name| !folder.join(name).is_dir());
        names.map(|name| (name.clone(), fs::read(folder.join(name)).unwrap())).collect()
    }
}

/// The finished blocks of a job.
fn blocks(folder: &Path) -> usize {
    let Ok(rows) = fs::read_dir(folder.join("blocks")) else { return 0 };
    let names = rows.flat_map(|row| listing(&row.unwrap().path()));
    names.filter(|name| name.ends_with(".block")).count()
}

/// Kills a job at so many moments, each at random after a block more than before was finished; then lets it end.
fn killed(bench: &Bench, kills: usize, seed: u64) {
    let area = ["--area", "whole", "--block", "72"];
    let whole = bench.run("undisturbed", &area);
    let all = whole["blocks"]["all"].as_u64().unwrap() as usize;
    let each = Duration::from_secs_f64(whole["timings_ms"]["total"].as_f64().unwrap() / 1e3 / all as f64);
    let job = bench.0.path().join("killed/ground.job");
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut done, mut real) = (0, 0);
    for _ in 0..kills {
        let mut child = bench.start("killed", &area);
        let begun = Instant::now();
        while blocks(&job) <= done && begun.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(each.mul_f64(2.0 * random.f64()));
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            break;
        }
        let there = blocks(&job);
        assert!(there >= done, "{there} blocks after {done}");
        done = there;
        real += 1;
    }
    let report = bench.run("killed", &area);
    let (found, computed) =
        (report["blocks"]["found"].as_u64().unwrap(), report["blocks"]["computed"].as_u64().unwrap());
    println!("{real} kills: {found} blocks found at last, {computed} computed, of {all}");
    assert!(
        real > 0 && found as usize == done && (found + computed) as usize == all,
        "{found} {computed} {done} {all}"
    );
    assert!(bench.outputs("killed") == bench.outputs("undisturbed"), "the same bytes");
    assert!(!job.exists(), "a job that is over leaves no folder");
}

#[test]
fn a_killed_job_loses_the_blocks_in_work_and_ends_with_the_same_bytes() {
    killed(&Bench::new(700, 500), 4, 3);
}

#[test]
#[ignore = "takes some minutes: cargo test --test area_command -- --ignored killed_fifty"]
fn killed_fifty_times() {
    killed(&Bench::new(1400, 1100), 50, 4);
}

#[test]
fn several_processes_share_an_area_and_their_merged_outputs_are_the_whole() {
    let bench = Bench::new(700, 500);
    let area = ["--area", "whole", "--block", "144"];
    let whole = bench.run("whole", &area);
    assert_eq!((whole["width"].as_u64(), whole["height"].as_u64()), (Some(700), Some(500)));
    let outputs = bench.outputs("whole");
    assert_eq!(
        outputs.iter().map(|o| o.0.as_str()).collect::<Vec<_>>(),
        ["ground.geojson", "ground.mask.png", "ground.tif"]
    );
    // Three processes at once, each with a folder of its own, and three that share one.
    let own = |i: usize| bench.path(&format!("jobs/{i}/ground.job"));
    let children: Vec<Child> = (1..=3)
        .flat_map(|i| {
            let shard = format!("{i}/3");
            let one = bench.start("own", &[&area[..], &["--shard", &shard, "--job", &own(i)]].concat());
            [one, bench.start("shared", &[&area[..], &["--shard", &shard]].concat())]
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let formats = ["--format", "geotiff,geojson,png"];
    let merge = |jobs: &[String], out: &str| {
        let (mut args, out) = (vec!["merge"], bench.path(out));
        args.extend(jobs.iter().map(String::as_str));
        args.extend(["--out", &out]);
        args.extend(formats);
        succeeds(&args)
    };
    let said = merge(&(1..=3).map(own).collect::<Vec<_>>(), "merged");
    assert!(said.contains("700 x 500 px from 3 folders"), "{said}");
    assert!(bench.outputs("merged") == outputs, "merged from folders of their own");
    merge(&[bench.path("shared/ground.job")], "merged-shared");
    assert!(bench.outputs("merged-shared") == outputs, "merged from one folder");
    // The command without a share finds all blocks and writes what is left to write.
    let last = bench.run("shared", &area);
    assert_eq!((last["windows"].as_u64(), last["blocks"]["computed"].as_u64()), (Some(0), Some(0)));
    assert!(bench.outputs("shared") == outputs);

    // Holes, other plans, and what merging has not.
    let out = bench.path("bad");
    fails(&["merge", &own(1), &own(3), "--out", &out], &["blocks are in none", "shares"]);
    bench.run("other", &["--area", "whole", "--block", "72", "--job", &bench.path("other.job")]);
    fails(&["merge", &own(1), &bench.path("other.job"), "--out", &out], &["other.job", "another job", "grid.block"]);
    fails(&["merge", &own(1), "--out", &out, "--format", "overlay"], &["imagery"]);
    fails(&["merge", &bench.path("package"), "--out", &out], &["no job"]);
    let none = fs::read_dir(&out).map_or(0, Iterator::count);
    assert_eq!(none, 0, "nothing half written");
}

#[test]
fn a_box_is_segmented_where_it_lies() {
    let bench = Bench::new(700, 500);
    bench.run("whole", &["--area", "whole"]);
    let part = bench.run("part", &["--area", "14.0424,49.1071,14.0450,49.1084", "--block", "144"]);
    let (x, y) = (part["area"]["x"].as_u64().unwrap(), part["area"]["y"].as_u64().unwrap());
    let (width, height) = (part["width"].as_u64().unwrap(), part["height"].as_u64().unwrap());
    // By PROJ: rasterio.warp.transform_bounds of the box to EPSG:32633, in pixels of the GeoTIFF.
    assert_eq!((x, y, width, height), (203, 110, 385, 295));
    let read = |out: &str| samlora::source::open(bench.0.path().join(out).join("ground.tif")).unwrap();
    let (mut whole, mut cut) = (read("whole"), read("part"));
    assert_eq!(cut.size(), (width as usize, height as usize));
    let pixels = |raster: &mut dyn samlora::source::Raster, window| raster.read(window, &[0]).unwrap().samples;
    let window = samlora::source::Window::new(x as usize, y as usize, width as usize, height as usize);
    let all = samlora::source::Window::whole(cut.size());
    assert!(pixels(cut.as_mut(), all) == pixels(whole.as_mut(), window), "the same classes as in the whole");
    let placed = whole.georef().unwrap().window(x as usize, y as usize);
    assert_eq!(cut.georef().unwrap().transform, placed.transform);
    bench.fails("part", &["--area", "1,2,3,4"], &["--area", "beside the image"]);
    bench.fails("part", &["--area", "15,49.1,14,49.2"], &["--area"]);
}

#[test]
fn what_goes_wrong_is_said() {
    let bench = Bench::new(300, 200);
    let job = bench.path("job");
    bench.run("out", &["--area", "whole", "--job", &job]);
    bench.fails("out", &["--area", "whole", "--job", &job, "--augment", "flips"], &["job", "augment"]);
    // Other imagery under the same name.
    let tif = bench.0.path().join("ground.tif");
    let mut bytes = fs::read(&tif).unwrap();
    bytes[1000] ^= 1;
    fs::write(&tif, bytes).unwrap();
    bench.fails("out", &["--area", "whole", "--job", &job], &["job", "raster.fingerprint"]);
    bench.fails("out", &["--area", "whole", "--job", &bench.path("package")], &["holds other files"]);
    bench.fails("out", &["--area", "whole", "--block", "0"], &["blocks of 0"]);
    let input = bench.path("ground.tif");
    bench.fails("out", &[&input, "--area", "whole", "--job", &job], &["--job", "one input"]);
    for (more, word) in [
        (&["--area", "here"][..], "--area"),
        (&["--area", "1,2,3"], "no area"),
        (&["--shard", "1/2"], "--area"),
        (&["--area", "whole", "--shard", "3/2"], "no share"),
        (&["--area", "whole", "--augment", "all"], "none, flips or dihedral"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_samlora")).args(bench.args("out", more)).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(word), "{more:?}: {said}");
    }
    let estimate = bench.run("new", &["--area", "whole", "--estimate", "--block", "72"]);
    assert!(estimate["estimate"]["windows"].as_u64().unwrap() >= 12, "{estimate}");
}

#[test]
#[cfg(unix)]
fn a_full_disk_ends_the_job_and_keeps_what_is_finished() {
    let bench = Bench::new(300, 200);
    let command = |limit: &str| {
        let args = bench.args("out", &["--area", "whole", "--block", "72"]);
        // Files of more than some blocks of 512 or 1024 bytes cannot be written, as on a full disk.
        let script = format!("trap '' XFSZ; ulimit -f {limit}; exec \"$0\" \"$@\"");
        Command::new("bash").args(["-c", &script, env!("CARGO_BIN_EXE_samlora")]).args(args).output().unwrap()
    };
    let output = command("1");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("cannot be written") && said.contains("ground.job"), "{said}");
    let output = command("unlimited");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(bench.outputs("out").len(), 3);
}

/// A tiled GeoTIFF of `side` x `side` pixels of which some tiles are there, and some are promised beyond the file's end.
fn sparse(folder: &Path, side: u32, tiles: &[u32], broken: &[u32]) -> PathBuf {
    const TILE: u32 = 512;
    let across = side.div_ceil(TILE);
    let bytes = TILE * TILE * 3;
    let source = picture();
    let (mut data, mut offsets) = (Vec::new(), vec![0; (across * across) as usize]);
    let mut counts = offsets.clone();
    for (i, tile) in tiles.iter().enumerate() {
        offsets[*tile as usize] = 8 + data.len() as u32;
        counts[*tile as usize] = bytes;
        let part = source.crop(100 * i, 50 * i, 512, 512).unwrap();
        data.extend_from_slice(part.pixels());
    }
    for tile in broken {
        offsets[*tile as usize] = 0x7000_0000;
        counts[*tile as usize] = bytes;
    }
    let one = |v: u32| vec![v];
    let tags = vec![
        (256, 4, one(side)),
        (257, 4, one(side)),
        (258, 3, vec![8; 3]),
        (259, 3, one(1)),
        (262, 3, one(2)),
        (277, 3, one(3)),
        (322, 4, one(TILE)),
        (323, 4, one(TILE)),
        (324, 4, offsets),
        (325, 4, counts),
    ];
    write_tiff(folder, "sparse.tif", &data, &tags)
}

#[test]
fn what_cannot_be_read_is_no_data_and_named_and_the_exit_code_is_1() {
    let bench = Bench::new(10, 10);
    let (model, out) = (bench.path("package"), bench.path("out"));
    let run = |broken: &[u32]| {
        let tif = sparse(bench.0.path(), 1536, &[0, 1, 3, 4], broken).display().to_string();
        let args = [
            "--model", &model, &tif, "--out", &out, "--area", "whole", "--block", "288", "--format", "geotiff",
            "--json",
        ];
        let mut command = Command::new(env!("CARGO_BIN_EXE_samlora"));
        command.arg("segment").args(args).output().unwrap()
    };
    let output = run(&[8]);
    let (said, why) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}{why}");
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    let missing = report["missing"].as_array().unwrap();
    println!("{} of {} blocks: {}", missing.len(), report["blocks"]["all"], missing[0]);
    assert!(!missing.is_empty() && missing.len() < 12);
    // All that is missing lies in the broken tile or so near that windows reach into it.
    assert!(
        missing
            .iter()
            .all(|m| m["x"].as_u64().unwrap() + 288 + 96 > 1024 && m["y"].as_u64().unwrap() + 288 + 96 > 1024)
    );
    assert!(why.contains("blocks could not be read") && why.contains("sparse.tif"), "{why}");
    assert!(bench.0.path().join("out/sparse.tif").is_file() && bench.0.path().join("out/sparse.job").is_dir());
    // Another file is another job.
    let other = run(&[]);
    assert!(String::from_utf8_lossy(&other.stderr).contains("raster.fingerprint"));
}

/// Segments sparse ground of `side` x `side` pixels; says and bounds what it takes.
fn blank_ground(side: u32) {
    let bench = Bench::new(10, 10);
    let across = side.div_ceil(512);
    let tiles = [0, 17 * across + 10, 17 * across + 11, across * across - 1];
    let tif = sparse(bench.0.path(), side, &tiles, &[]).display().to_string();
    let (model, out) = (bench.path("package"), bench.path("out"));
    let args = ["segment", "--model", &model, &tif, "--out", &out, "--area", "whole", "--format", "geotiff", "--json"];
    let report = json(&args);
    let (memory, times) = (report["peak_memory_bytes"].as_u64(), &report["timings_ms"]);
    println!("{side} px: peak memory {memory:?}, {times}, blocks {}, {} windows", report["blocks"], report["windows"]);
    let data: u64 = report["classes"].as_array().unwrap().iter().map(|c| c["pixels"].as_u64().unwrap()).sum();
    // The last tile reaches beyond the image.
    let last = u64::from(side - (side.div_ceil(512) - 1) * 512);
    assert_eq!(data, 3 * 512 * 512 + last * last);
    assert_eq!(report["pixels_without_data"].as_u64().unwrap() + data, u64::from(side) * u64::from(side));
    assert!(report["windows"].as_u64().unwrap() < 400);
    if let Some(memory) = memory {
        assert!(memory < 1_500_000_000, "{memory}");
    }
}

#[test]
fn blank_ground_costs_little_and_memory_is_bounded() {
    blank_ground(20_000);
}

#[test]
#[ignore = "takes minutes: cargo test --test area_command -- --ignored ten_thousand_megapixels --nocapture"]
fn ten_thousand_megapixels_of_blank_ground() {
    blank_ground(100_000);
}

/// Runs the manual's page as a shell would, in a folder that has what it speaks of.
#[test]
#[cfg(unix)]
fn every_command_of_the_manuals_page_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/src/areas.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::os::unix::fs::symlink(root.join("www/demo/models/buildings"), at("buildings")).unwrap();
    // 13 cm a pixel near Zanzibar, in UTM zone 37 south.
    write(&at("district.tif"), &spread(&picture(), 1100, 700), 0.13, [524_000.0, 9_320_000.0], 32_737);
    let ward = |west: f64, name: &str| {
        let (east, south, north) = (west + 0.0002, -6.1524, -6.1521);
        format!(
            r#"{{"type":"Feature","properties":{{"name":"{name}"}},"geometry":{{"type":"Polygon","coordinates":
            [[[{west},{south}],[{east},{south}],[{east},{north}],[{west},{north}],[{west},{south}]]]}}}}"#
        )
    };
    let wards = [ward(39.2173, "east"), ward(39.2176, "west")].join(",");
    fs::write(at("wards.geojson"), format!(r#"{{"type":"FeatureCollection","features":[{wards}]}}"#)).unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_samlora")).parent().unwrap().display().to_string();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap_or_default());
    let run = |script: &str, variable: &str, value: &str| {
        println!("{variable}={value}\n{script}");
        let script = format!("set -euo pipefail\n{script}");
        let mut command = Command::new("bash");
        command.args(["-c", &script]).current_dir(folder.path()).env("PATH", &path).env(variable, value);
        let output = command.output().unwrap();
        println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{script}");
    };
    let (mut count, mut kinds) = (0, std::collections::BTreeSet::new());
    for fenced in page.split("\n```").skip(1).step_by(2) {
        let (kind, block) = fenced.split_once('\n').unwrap();
        let shares = |first: usize| (first..first + 3).map(|i| i.to_string());
        match kind {
            "sh" => run(block, "SHARE", "none"),
            // As Slurm and Kubernetes would, one share after the other.
            "bash" => shares(1).for_each(|i| run(block, "SLURM_ARRAY_TASK_ID", &i)),
            "yaml" => {
                let line = block.lines().find_map(|l| l.trim().strip_prefix("- samlora ")).unwrap();
                shares(0).for_each(|i| run(&format!("samlora {line}"), "JOB_COMPLETION_INDEX", &i));
            }
            // What a command printed.
            "text" => continue,
            other => panic!("a block of {other:?}, which nothing runs"),
        }
        count += 1;
        kinds.insert(kind.to_owned());
    }
    assert!(count >= 7 && kinds.len() == 3, "{count} {kinds:?}");
    let whole = fs::read(at("out/district.tif")).unwrap();
    for merged in ["merged", "merged-slurm", "merged-k8s"] {
        assert!(fs::read(at(merged).join("district.tif")).unwrap() == whole, "{merged}");
    }
    assert!(at("part/district.tif").is_file() && at("sieved/district.tif").is_file());
    let table = fs::read_to_string(at("wards/district.csv")).unwrap();
    assert!(["east", "west"].iter().all(|ward| table.contains(ward)), "{table}");
    assert!(at("wards/district.gpkg").is_file());
}
