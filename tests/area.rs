//! Areas with a network that is none: seams, shares, stops, failures, and what lies in a job's folder.
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use common::ground::{Fake, Ground, INPUT, TILE, composed, mask, plan, run};
use common::{failure, listing};
use samlora::area::{Augment, Batched, Clip, Holes, Job, ModelPlan, Options, Plan, Shard, Store};
use samlora::engine::SegmentOptions;
use samlora::error::{Error, ErrorKind};
use samlora::image::RgbImage;
use samlora::mask::NO_DATA;
use samlora::source::{Memory, Raster, Window};
use samlora::weights::quantize::Scheme;

const SIZE: (usize, usize) = (301, 237);

fn ground() -> Ground {
    Ground::new(SIZE, [1_000_003, -777_777])
}

fn options(shard: &str) -> Options {
    Options { shard: shard.parse().unwrap(), ..Options::default() }
}

/// Pixels of `part`, whose top left pixel is pixel `at` of a whole of SIZE, that differ from the whole's, `rim` pixels of its own
/// border left out.
fn differing(
    whole: &(Vec<u8>, Vec<u8>),
    part: &(Vec<u8>, Vec<u8>),
    at: (usize, usize),
    size: (usize, usize),
    rim: usize,
) -> usize {
    let inner = |i: usize| (rim..size.0 - rim).contains(&(i % size.0)) && (rim..size.1 - rim).contains(&(i / size.0));
    let differs = |i: &usize| {
        let there = (at.1 + i / size.0) * SIZE.0 + at.0 + i % size.0;
        (part.0[*i], part.1[*i]) != (whole.0[there], whole.1[there])
    };
    (0..size.0 * size.1).filter(|i| inner(*i)).filter(differs).count()
}

#[test]
fn a_place_is_the_same_in_every_area_and_block_size() {
    let whole = mask(&mut ground(), Window::whole(SIZE), 40);
    assert_eq!(whole.0.iter().collect::<BTreeSet<_>>().len(), 3, "all classes are there");
    for block in [1, TILE, 60, 100, 1000] {
        assert!(mask(&mut ground(), Window::whole(SIZE), block) == whole, "blocks of {block}");
    }
    for (x, y, width, height) in
        [(0, 0, 40, 40), (17, 31, 100, 77), (1, 1, 299, 235), (300, 236, 1, 1), (19, 0, 1, 237)]
    {
        for block in [20, 64, 500] {
            let part = mask(&mut ground(), Window::new(x, y, width, height), block);
            assert_eq!(differing(&whole, &part, (x, y), (width, height), 0), 0, "{x} {y} {width} {height} {block}");
        }
    }
}

#[test]
fn another_cut_of_the_same_ground_differs_near_its_own_edge_alone() {
    let whole = mask(&mut ground(), Window::whole(SIZE), 60);
    for (x, y) in [(0, 0), (1, 0), (0, 1), (7, 3), (19, 20), (20, 19), (33, 41), (100, 100)] {
        let size = (SIZE.0 - x, SIZE.1 - y);
        let mut cut = Ground::new(size, [1_000_003 + x as i64, -777_777 + y as i64]);
        let part = mask(&mut cut, Window::whole(size), 80);
        // Windows that leave the cut are mirrored there; all others are the whole's.
        assert_eq!(differing(&whole, &part, (x, y), size, INPUT), 0, "cut at {x}, {y}");
        let all = differing(&whole, &part, (x, y), size, 0);
        println!("cut at {x}, {y}: {all} of {} pixels differ, all of them near its edge", size.0 * size.1);
    }
}

#[test]
fn two_sizes_of_windows_see_the_same_ground() {
    let run = |(input, tile): (usize, usize)| {
        let folder = tempfile::tempdir().unwrap();
        let model = ModelPlan { sha256: "fake".into(), weights: String::new(), classes: common::ground::classes() };
        let source = ("ground".into(), "all".into());
        let plan = Plan::new(model, &ground(), source, Window::whole(SIZE), (input, tile), 100).unwrap();
        let mut job = Job::open(folder.path(), plan, Augment::None, None, Options::default()).unwrap();
        let mut network = Fake { is_local: true, sides: Some((input, tile)), ..Fake::default() };
        job.run(&mut network, &mut ground(), &mut |_| Ok(())).unwrap();
        let (plan, store) = job.close();
        composed(&plan, &[store], Holes::Refused).unwrap().0
    };
    // Halos that leave the logits' grid of 4 pixels where it is: what is seen of a place is then the same.
    let small = run((INPUT, TILE));
    for sides in [(48, 36), (64, 44), (96, 84)] {
        let same = small.iter().zip(&run(sides)).filter(|(a, b)| a == b).count();
        println!("{sides:?}: {same} of {} classes are the same", small.len());
        // At the raster's edges the larger windows are mirrored further out, and logits between two of the network's pixels end elsewhere.
        assert!(same as f64 >= 0.99 * small.len() as f64, "{sides:?}");
    }
}

#[test]
fn shares_in_folders_of_their_own_or_in_one_are_the_whole() {
    let whole = mask(&mut ground(), Window::whole(SIZE), 40);
    let area = Window::whole(SIZE);
    for count in [1, 2, 7, 100] {
        let folder = tempfile::tempdir().unwrap();
        let (own, shared) = (|i: usize| folder.path().join(format!("share-{i}")), folder.path().join("shared"));
        let plan = plan(&ground(), area, 40);
        let mut blocks = 0;
        for i in 1..=count {
            let report = run(&own(i), &mut ground(), &plan, options(&format!("{i}/{count}")));
            blocks += report.computed;
            run(&shared, &mut ground(), &plan, options(&format!("{i}/{count}")));
        }
        assert_eq!(blocks, plan.blocks().unwrap().len(), "each block in one share");
        let stores: Vec<Store> = (1..=count).map(|i| Store::existing(&own(i)).unwrap().0).collect();
        assert!(composed(&plan, &stores, Holes::Refused).unwrap() == whole, "{count} shares");
        let store = [Store::existing(&shared).unwrap().0];
        assert!(composed(&plan, &store, Holes::Refused).unwrap() == whole, "{count} shares in one folder");
        if count == 7 {
            let (kind, text) = failure(composed(&plan, &stores[1..], Holes::Refused));
            assert!(kind == ErrorKind::NotFound && text.contains("blocks are in none"), "{text}");
        }
    }
}

/// A job that is stopped after `windows` windows, as by a kill: blocks in work are lost, others are not.
fn stopped(folder: &Path, plan: &Plan, windows: u64) -> bool {
    let mut job = Job::open(folder, plan.clone(), Augment::None, None, Options::default()).unwrap();
    let mut stop = |progress: &samlora::area::Progress| match progress.windows >= windows {
        true => Err(Error::new(ErrorKind::Io, "stopped")),
        false => Ok(()),
    };
    job.run(&mut Fake::default(), &mut ground(), &mut stop).is_err()
}

#[test]
fn a_stopped_job_goes_on_where_it_was() {
    let (area, whole) = (Window::whole(SIZE), mask(&mut ground(), Window::whole(SIZE), 60));
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(&ground(), area, 60);
    let mut random = fastrand::Rng::with_seed(5);
    let (mut stops, mut finished) = (0, 0);
    while stopped(folder.path(), &plan, random.u64(1..40)) {
        let there = run_nothing(folder.path(), &plan);
        assert!(there >= finished, "a finished block stays");
        finished = there;
        stops += 1;
        assert!(stops < 500);
    }
    assert!(stops > 5, "{stops} stops");
    let report = run(folder.path(), &mut ground(), &plan, Options::default());
    assert_eq!((report.computed, report.windows), (0, 0), "nothing is done twice");
    assert!(composed(&plan, &[Store::existing(folder.path()).unwrap().0], Holes::Refused).unwrap() == whole);
}

/// Blocks that are finished.
fn run_nothing(folder: &Path, plan: &Plan) -> usize {
    let job = Job::open(folder, plan.clone(), Augment::None, None, Options::default()).unwrap();
    plan.blocks().unwrap().len() - job.estimate(&ground()).blocks
}

#[test]
fn every_window_is_computed_once_and_as_many_as_were_foretold() {
    let (area, folder) = (Window::new(10, 5, 280, 230), tempfile::tempdir().unwrap());
    let plan = plan(&ground(), area, 60);
    let run = |name: &str, options: Options, batch: usize| {
        let folder = folder.path().join(name);
        let mut job = Job::open(&folder, plan.clone(), Augment::None, None, options).unwrap();
        let foretold = job.estimate(&ground()).windows;
        let mut network = Fake { batch, ..Fake::default() };
        let mut raster = ground();
        let report = job.run(&mut network, &mut raster, &mut |_| Ok(())).unwrap();
        assert_eq!(report.windows as usize, network.windows);
        let different = network.seen.iter().collect::<BTreeSet<_>>().len();
        (foretold as usize, network.windows, different, composed(&plan, &[job.close().1], Holes::Refused).unwrap())
    };
    let (foretold, windows, different, found) = run("kept", Options::default(), 1);
    assert_eq!((foretold, windows), (different, different), "windows of neighbouring blocks are shared");
    let batches = run("batches", Options::default(), 4);
    assert_eq!((batches.1, &batches.3), (different, &found));
    // Without memory for them they are computed again, and are the same.
    let (_, more, same, again) = run("forgotten", Options { kept_bytes: 3000, ..Options::default() }, 1);
    assert!(more > different && same == different && again == found, "{more} {same} {different}");
}

#[test]
fn what_cannot_be_read_is_tried_again_and_then_named() {
    let (area, whole) = (Window::whole(SIZE), mask(&mut ground(), Window::whole(SIZE), 60));
    // A spot of the ground that fails for so many reads.
    let broken = |times: usize| {
        let mut left = times;
        let mut raster = ground();
        raster.fails = Box::new(move |[left_edge, top, right, bottom]| {
            let (x, y) = (1_000_003 + 150, -777_777 + 90);
            let hit = left_edge <= x && x < right && top <= y && y < bottom && left > 0;
            left -= usize::from(hit);
            hit
        });
        raster
    };
    let plan = plan(&ground(), area, 60);
    let folder = tempfile::tempdir().unwrap();
    let report = run(&folder.path().join("a"), &mut broken(3), &plan, Options { retries: 3, ..Options::default() });
    assert!(report.missing.is_empty());
    let stores = [Store::existing(&folder.path().join("a")).unwrap().0];
    assert!(composed(&plan, &stores, Holes::Refused).unwrap() == whole);

    let for_ever = folder.path().join("b");
    let report = run(&for_ever, &mut broken(usize::MAX), &plan, Options { retries: 1, ..Options::default() });
    assert!(!report.missing.is_empty() && report.missing.len() < 5, "{:?}", report.missing);
    assert_eq!(report.computed + report.missing.len(), report.blocks);
    let stores = [Store::existing(&for_ever).unwrap().0];
    let (classes, confidence) = composed(&plan, &stores, Holes::NoData).unwrap();
    for (i, (class, sure)) in classes.iter().zip(&confidence).enumerate() {
        let (x, y) = (i % SIZE.0, i / SIZE.0);
        let inside =
            |m: &samlora::area::Missing| (m.x..m.x + m.width).contains(&x) && (m.y..m.y + m.height).contains(&y);
        let wanted = if report.missing.iter().any(inside) { (NO_DATA, 0) } else { (whole.0[i], whole.1[i]) };
        assert_eq!((*class, *sure), wanted, "pixel {i}");
    }
    assert!(report.missing.iter().all(|m| m.reason.contains("line is broken")));
    // Run again over imagery that is whole, only those are computed.
    let again = run(&for_ever, &mut ground(), &plan, Options::default());
    assert_eq!((again.computed, again.missing.len()), (report.missing.len(), 0));
    assert!(composed(&plan, &stores, Holes::Refused).unwrap() == whole);
}

#[test]
fn pixels_without_data_are_no_data_and_windows_without_any_are_not_run() {
    let mut raster = ground();
    // A hole as large as many windows, a speck, and a stripe as wide as a pixel.
    raster.empty = |x, y| {
        let (x, y) = (x - 1_000_003, y + 777_777);
        (60..200).contains(&x) && (40..180).contains(&y) || (x, y) == (5, 5) || x == 250
    };
    let empty = raster.empty;
    let (classes, _) = mask(&mut raster, Window::whole(SIZE), 40);
    for (i, class) in classes.iter().enumerate() {
        let is_empty = empty(1_000_003 + (i % SIZE.0) as i64, -777_777 + (i / SIZE.0) as i64);
        assert_eq!(*class == NO_DATA, is_empty, "pixel {i}");
    }
    assert!(mask(&mut raster, Window::whole(SIZE), 300).0 == classes);
    let folder = tempfile::tempdir().unwrap();
    raster.empty = |_, _| true;
    let report = run(folder.path(), &mut raster, &plan(&ground(), Window::whole(SIZE), 40), Options::default());
    assert_eq!((report.windows, report.blank), (0, report.blocks));
}

#[test]
fn an_outline_bounds_the_result_and_what_is_computed() {
    let whole = mask(&mut ground(), Window::whole(SIZE), 40);
    let inside = |x: usize, y: usize| (x as f64 - 120.0).hypot(y as f64 - 100.0) < 70.0 && !(100..110).contains(&x);
    let disc = |name: &str| Clip {
        name: name.into(),
        inside: Box::new(move |part: Window| {
            let each = |i: usize| inside(part.x + i % part.width, part.y + i / part.width);
            Ok((0..part.pixels()).map(each).collect())
        }),
    };
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(&ground(), Window::whole(SIZE), 40);
    let open = |name: &str| Job::open(folder.path(), plan.clone(), Augment::None, Some(disc(name)), Options::default());
    let mut job = open("disc").unwrap();
    let mut network = Fake::default();
    let report = job.run(&mut network, &mut ground(), &mut |_| Ok(())).unwrap();
    assert!(report.blocks < plan.blocks().unwrap().len() / 2 + 5 && report.computed == report.blocks);
    let (clipped, store) = job.close();
    let (classes, confidence) = composed(&clipped, &[store], Holes::Refused).unwrap();
    for i in 0..classes.len() {
        let wanted = if inside(i % SIZE.0, i / SIZE.0) { (whole.0[i], whole.1[i]) } else { (NO_DATA, 0) };
        assert_eq!((classes[i], confidence[i]), wanted, "pixel {i}");
    }
    // Its plan can be read again from the folder, and another outline is another job.
    assert_eq!(Store::existing(folder.path()).unwrap().1, clipped);
    let (kind, text) = failure(open("ellipse").map(|_| ()));
    assert!(kind == ErrorKind::Invalid && text.contains("area.clip"), "{text}");
}

#[test]
fn views_are_averaged_and_turned_back() {
    let run = |augment: Augment, is_local: bool| {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(&ground(), Window::whole(SIZE), 100);
        let mut job = Job::open(folder.path(), plan, augment, None, Options::default()).unwrap();
        let mut network = Fake { is_local, ..Fake::default() };
        let report = job.run(&mut network, &mut ground(), &mut |_| Ok(())).unwrap();
        assert_eq!(network.windows as u64, report.windows * u64::from(augment.views()));
        let (plan, store) = job.close();
        composed(&plan, &[store], Holes::Refused).unwrap()
    };
    // What sees the same whichever way it looks gives the same mask, but for rounding; where the place within the window counts,
    // views differ.
    let same = |a: &(Vec<u8>, Vec<u8>), b: &(Vec<u8>, Vec<u8>)| {
        a.0.iter().zip(&b.0).filter(|(a, b)| a == b).count() as f64 / a.0.len() as f64
    };
    let plain = run(Augment::None, true);
    for augment in [Augment::Flips, Augment::Dihedral] {
        assert!(same(&plain, &run(augment, true)) > 0.9999, "{augment:?}");
        let share = same(&run(Augment::None, false), &run(augment, false));
        assert!(share < 0.99, "{augment:?}: {share}");
        // The mean of views depends less on where windows lie: it is nearer to what a network without that flaw sees.
        assert!(same(&plain, &run(augment, false)) > same(&plain, &run(Augment::None, false)), "{augment:?}");
    }
}

#[test]
fn another_plan_another_folder_and_damaged_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("job");
    let area = Window::whole(SIZE);
    let first = plan(&ground(), area, 60);
    run(&at, &mut ground(), &first, Options::default());
    let open = |folder: &Path, plan: &Plan| {
        Job::open(folder, plan.clone(), Augment::None, None, Options::default()).map(|_| ())
    };
    let mut model = first.clone();
    model.model.sha256 = "other".into();
    let mut source = first.clone();
    source.raster.fingerprint = "moved".into();
    let changes = [
        (plan(&ground(), area, 100), "grid.block (here 100, there 60)"),
        (plan(&ground(), Window::new(0, 0, 300, 237), 60), "area.width (here 300, there 301)"),
        (plan(&Ground::new(SIZE, [3, 4]), area, 60), "raster.place.transform"),
        (model, "model.sha256"),
        (source, "raster.fingerprint"),
    ];
    for (plan, words) in &changes {
        let (kind, text) = failure(open(&at, plan));
        assert!(kind == ErrorKind::Invalid && text.contains(words) && text.contains("job"), "{text}");
    }
    let (_, text) = failure(Job::open(&at, first.clone(), Augment::Flips, None, Options::default()).map(|_| ()));
    assert!(text.contains("augment (here \"flips\", there \"none\")"), "{text}");
    // Shares of different plans are not merged.
    let other = folder.path().join("other");
    run(&other, &mut ground(), &changes[0].0, Options::default());
    let (ours, theirs) = (Store::existing(&at).unwrap().0, Store::existing(&other).unwrap().0);
    assert!(failure(theirs.same_plan(&ours)).1.contains("grid.block"));

    // Folders that are none, and that cannot be made.
    let strange = folder.path().join("strange");
    fs::create_dir(&strange).unwrap();
    fs::write(strange.join("photo.jpg"), b"x").unwrap();
    assert!(failure(open(&strange, &first)).1.contains("holds other files"));
    assert_eq!(listing(&strange), ["photo.jpg"]);
    assert!(failure(open(&strange.join("photo.jpg").join("job"), &first)).1.contains("cannot be made"));
    assert_eq!(failure(Store::existing(&strange).map(|_| ())).0, ErrorKind::NotFound);
    fs::write(at.join("plan.json"), b"{\"format\": 1").unwrap();
    assert!(failure(open(&at, &first)).1.contains("damaged"));
    assert!(failure(Store::existing(&at).map(|_| ())).1.contains("plan.json"));
}

#[test]
fn a_damaged_block_is_refused_by_name_and_computed_again() {
    let folder = tempfile::tempdir().unwrap();
    let (at, area) = (folder.path(), Window::whole(SIZE));
    let plan = plan(&ground(), area, 300);
    run(at, &mut ground(), &plan, Options::default());
    let whole = composed(&plan, &[Store::existing(at).unwrap().0], Holes::Refused).unwrap();
    let row = at.join("blocks").join(&listing(&at.join("blocks"))[0]);
    let file = row.join(&listing(&row)[0]);
    let good = fs::read(&file).unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    let flip = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let mut bad: Vec<Vec<u8>> = [0, 9, 41, 65, 75, 90].map(flip).into();
    bad.extend((0..30).map(|_| flip(random.usize(..good.len()))));
    bad.extend([0, 1, 50, 80, good.len() / 2, good.len() - 1].map(|n| good[..n].to_vec()));
    bad.push([&good[..], b"x"].concat());
    // A table that promises much more than is there.
    let mut huge = good.clone();
    huge[72..76].fill(0xff);
    bad.push(huge);
    for (i, bytes) in bad.iter().enumerate() {
        fs::write(&file, bytes).unwrap();
        let stores = [Store::existing(at).unwrap().0];
        let (_, text) = failure(composed(&plan, &stores, Holes::Refused));
        assert!(text.contains(".block") && text.contains("block"), "{i}: {text}");
    }
    let report = run(at, &mut ground(), &plan, Options::default());
    assert!(report.computed == 1 && report.damaged[0].contains(".block"), "{report:?}");
    assert!(fs::read(&file).unwrap() == good);
    assert!(composed(&plan, &[Store::existing(at).unwrap().0], Holes::Refused).unwrap() == whole);
}

#[test]
fn a_job_removes_what_is_its_own_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("job");
    let plan = plan(&ground(), Window::whole(SIZE), 100);
    run(&at, &mut ground(), &plan, Options::default());
    fs::write(at.join("notes.txt"), b"mine").unwrap();
    Store::existing(&at).unwrap().0.remove().unwrap();
    assert_eq!(listing(&at), ["notes.txt"]);
}

#[test]
fn small_regions_and_thresholds_come_after_the_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(&ground(), Window::whole(SIZE), 40);
    run(folder.path(), &mut ground(), &plan, Options::default());
    let stores = [Store::existing(folder.path()).unwrap().0];
    let finished = |options: &SegmentOptions| {
        let (mut classes, mut confidence) = (Vec::new(), Vec::new());
        let found = samlora::area::compose(&plan, &stores, options, Holes::Refused, |rows| {
            classes.extend_from_slice(&rows.classes);
            confidence.extend_from_slice(&rows.confidence);
            Ok(())
        });
        let found = found.unwrap();
        assert_eq!(found.classes.iter().map(|c| c.pixels).sum::<u64>() as usize, SIZE.0 * SIZE.1);
        samlora::mask::ClassMask::new(SIZE.0, SIZE.1, classes, confidence).unwrap()
    };
    let plain = finished(&SegmentOptions::default());
    let mut by_hand = plain.clone();
    let mut table = common::ground::classes();
    table[1].threshold = Some(0.8);
    by_hand.apply_thresholds(&table);
    by_hand.remove_small(30).unwrap();
    let found = finished(&SegmentOptions { thresholds: vec![(1, 0.8)], min_pixels: 30, ..Default::default() });
    assert!(found == by_hand && found != plain);
}

/// An area of an image in memory, by the tiny model, so many windows at once.
fn by_the_model(image: &RgbImage, batch: usize, augment: Augment) -> (Vec<u8>, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    common::merged("s96_k6", 96, Scheme::F32, &folder.path().join("package"));
    let segmenter = common::load(&folder.path().join("package")).unwrap();
    let mut raster = Memory::rgb(image);
    let model = ModelPlan::of(segmenter.manifest()).unwrap();
    let area = Window::whole(raster.size());
    let plan = Plan::new(model, &raster, ("memory".into(), "all".into()), area, (96, 72), 144).unwrap();
    let mut job = Job::open(&folder.path().join("job"), plan, augment, None, Options::default()).unwrap();
    job.run(&mut Batched::new(&segmenter, batch), &mut raster, &mut |_| Ok(())).unwrap();
    let (plan, store) = job.close();
    let found = composed(&plan, &[store], Holes::Refused).unwrap();
    if image.width() <= 96 && augment == Augment::None {
        // In the middle of one window, as an image alone is.
        let alone = pollster::block_on(segmenter.segment(image, &SegmentOptions::default())).unwrap().mask;
        assert!((alone.classes, alone.confidence) == found, "the area is the image's mask");
    }
    found
}

#[test]
fn the_network_gives_the_same_in_an_area_as_in_an_image_and_in_batches() {
    let picture = common::picture();
    by_the_model(&picture.crop(31, 57, 72, 72).unwrap(), 1, Augment::None);
    let image = picture.crop(100, 200, 333, 190).unwrap();
    for augment in [Augment::None, Augment::Flips] {
        let single = by_the_model(&image, 1, augment);
        let three = by_the_model(&image, 3, augment);
        let same = single.0.iter().zip(&three.0).filter(|(a, b)| a == b).count();
        let nearest = single.1.iter().zip(&three.1).map(|(a, b)| a.abs_diff(*b)).max();
        println!(
            "{augment:?}: {same} of {} classes are the same in batches, confidences within {nearest:?}",
            single.0.len()
        );
        assert!(same * 1000 >= single.0.len() * 999 && nearest < Some(4));
    }
}

#[test]
fn shards_are_named_from_one() {
    assert_eq!("2/3".parse::<Shard>().unwrap().of(10), 3..6);
}
