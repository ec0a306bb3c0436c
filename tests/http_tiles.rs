//! Servers of tiles, WMS, and files read by ranges of bytes, each played by a server in the test.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use samlora::error::{Error, ErrorKind};
use samlora::source::http::HttpOptions;
use samlora::source::tiles::{TileExtent, TileOptions};
use samlora::source::{Levels, Patch, Raster, Samples, SourceOptions, Window, open_levels};
use samlora::tile::{Bounds, HALF_WORLD, TileId, lon_lat_to_mercator};

#[path = "common/stub.rs"]
mod stub;

use stub::{Answer, Request, Stub};

/// The zoom level at which the world of these tests is drawn.
const ZOOM: u8 = 16;
const SIDE: u32 = 256;

/// The colour of a pixel of the whole world at [`ZOOM`].
fn colour(x: u64, y: u64) -> [u8; 3] {
    [x as u8, y as u8, ((x >> 8) ^ (y >> 8)) as u8]
}

fn png(side: u32, pixel: impl Fn(u32, u32) -> [u8; 3]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side, side);
    encoder.set_color(png::ColorType::Rgb);
    let pixels: Vec<u8> =
        (0..side).flat_map(|y| (0..side).map(move |x| (x, y))).flat_map(|(x, y)| pixel(x, y)).collect();
    encoder.write_header().and_then(|mut w| w.write_image_data(&pixels)).unwrap();
    bytes
}

fn tile(x: u32, y: u32) -> Vec<u8> {
    png(SIDE, |i, j| colour(u64::from(x) * 256 + u64::from(i), u64::from(y) * 256 + u64::from(j)))
}

/// 3 x 2 tiles somewhere south and east, none of whose numbers is another's.
fn area() -> (TileExtent, Bounds) {
    let extent = TileExtent { zoom: ZOOM, first: (36_200, 40_100), last: (36_202, 40_101), count: None, sample: None };
    (extent, extent.bounds_lon_lat().unwrap())
}

fn options(zoom: Option<u8>, http: HttpOptions) -> SourceOptions {
    SourceOptions { tiles: TileOptions { zoom, bounds: Some(area().1), ..TileOptions::default() }, http }
}

/// Fails fast.
fn quick() -> HttpOptions {
    HttpOptions { retries: 2, timeout: Duration::from_secs(2), ..HttpOptions::default() }
}

fn whole(levels: &mut Levels) -> Patch {
    let raster = &mut levels.levels[0].raster;
    let window = Window::whole(raster.size());
    raster.read(window, &[0, 1, 2]).unwrap_or_else(|e| panic!("{e}"))
}

/// Reads the area and checks every pixel; `gaps` are tiles that hold no data.
#[track_caller]
fn check(url: &str, options: &SourceOptions, gaps: &[(u32, u32)]) {
    let mut levels = open_levels(url, options).unwrap_or_else(|e| panic!("{e}"));
    let patch = whole(&mut levels);
    assert_eq!((patch.width, patch.height), (3 * 256, 2 * 256));
    let Samples::U8(samples) = &patch.samples else { panic!("8 bits") };
    let first = area().0.first;
    for i in 0..patch.width * patch.height {
        let (x, y) = (i % patch.width, i / patch.width);
        let gap = gaps.contains(&(first.0 + (x / 256) as u32, first.1 + (y / 256) as u32));
        assert_eq!(patch.is_valid(i), !gap, "{url}: {x}, {y}");
        let expected = colour(u64::from(first.0) * 256 + x as u64, u64::from(first.1) * 256 + y as u64);
        assert!(
            gap || samples[3 * i..3 * i + 3] == expected,
            "{url}: {x}, {y} is {:?}, not {expected:?}",
            &samples[3 * i..3 * i + 3]
        );
    }
}

#[track_caller]
fn fails(url: &str, options: &SourceOptions) -> Error {
    let read = || -> samlora::error::Result<()> {
        let mut levels = open_levels(url, options)?;
        let raster = &mut levels.levels[0].raster;
        raster.read(Window::whole(raster.size()), &[0]).map(|_| ())
    };
    let error = read().expect_err("the server is no good");
    println!("{error}");
    assert!(error.to_string().contains("127.0.0.1") && error.remedy_text().is_some(), "{error}");
    error
}

/// The numbers in a path, in order.
fn numbers(request: &Request) -> Vec<u32> {
    request.target.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect()
}

#[test]
fn tiles_by_their_numbers() {
    let south = |y: u32| (1 << ZOOM) - 1 - y;
    let xyz = Stub::new(|r, _| {
        let n = numbers(r);
        assert_eq!(n[0], u32::from(ZOOM));
        Answer::of(200, tile(n[1], n[2]))
    });
    check(&xyz.url("{z}/{x}/{y}.png"), &options(Some(ZOOM), quick()), &[]);
    let wmts = "wmts?service=WMTS&tilematrixset=GoogleMapsCompatible&tilematrix={TileMatrix}&tilecol={TileCol}&tilerow={TileRow}";
    check(&xyz.url(wmts), &options(Some(ZOOM), quick()), &[]);
    let tms = Stub::new(move |r, _| Answer::of(200, tile(numbers(r)[1], south(numbers(r)[2]))));
    check(&tms.url("{z}/{x}/{-y}.png"), &options(Some(ZOOM), quick()), &[]);
    let mut turned = options(Some(ZOOM), quick());
    turned.tiles.tms = Some(true);
    check(&tms.url("{z}/{x}/{y}.png"), &turned, &[]);
    let quadkeys = Stub::new(|r, _| {
        let key = r.target.trim_start_matches("/q/").trim_end_matches(".png");
        assert_eq!(key.len(), usize::from(ZOOM));
        let digits = key.bytes().map(|b| u32::from(b - b'0'));
        let (x, y) = digits.fold((0, 0), |(x, y), d| (2 * x + d % 2, 2 * y + d / 2));
        Answer::of(200, tile(x, y))
    });
    check(&quadkeys.url("q/{q}.png"), &options(Some(ZOOM), quick()), &[]);
    // Tiles of twice the size have pixels of half.
    let large = Stub::new(|r, _| Answer::of(200, png(512, |x, y| [x as u8, y as u8, numbers(r)[1] as u8])));
    let levels = open_levels(large.url("{z}/{x}/{y}@2x.png"), &options(Some(ZOOM), quick())).unwrap();
    assert_eq!(levels.levels[0].raster.size(), (3 * 512, 2 * 512));
}

/// A WMS as its specification says it: which place each pixel's centre has, by version and system.
fn wms(request: &Request, _: usize) -> Answer {
    let get = |name: &str| request.parameter(name).unwrap_or_default();
    let corners: Vec<f64> = get("bbox").split(',').map(|n| n.parse().unwrap()).collect();
    let (version, side) = (get("version"), get("width").parse::<u32>().unwrap());
    let system = if version == "1.3.0" { get("crs") } else { get("srs") };
    let [west, south, east, north] = match (version.as_str(), system.as_str()) {
        ("1.3.0", "EPSG:4326") => [corners[1], corners[0], corners[3], corners[2]],
        ("1.1.1", "EPSG:4326") | ("1.3.0", "CRS:84") | (_, "EPSG:3857") => {
            [corners[0], corners[1], corners[2], corners[3]]
        }
        other => panic!("{other:?}"),
    };
    let pixel = |i: u32, j: u32| {
        let share = |n: u32| (f64::from(n) + 0.5) / f64::from(side);
        let place = [west + (east - west) * share(i), north + (south - north) * share(j)];
        let [x, y] = if system == "EPSG:3857" { place } else { lon_lat_to_mercator(place) };
        let scale = 2f64.powi(i32::from(ZOOM)) * 256.0 / (2.0 * HALF_WORLD);
        colour(((x + HALF_WORLD) * scale) as u64, ((HALF_WORLD - y) * scale) as u64)
    };
    Answer::of(200, png(side, pixel))
}

#[test]
fn maps_of_a_wms_in_every_order_of_axes() {
    let server = Stub::new(wms);
    for query in [
        "",
        "&version=1.1.1",
        "&version=1.3.0&crs=EPSG:3857&bbox={bbox-epsg-3857}",
        "&version=1.1.1&srs=EPSG:4326",
        "&version=1.3.0&crs=EPSG:4326",
        "&version=1.3.0&crs=CRS:84",
    ] {
        check(&server.url(&format!("wms?request=GetMap&layers=a{query}")), &options(Some(ZOOM), quick()), &[]);
    }
    let plain = Stub::new(wms);
    check(
        &plain.url("m?version=1.3.0&crs=EPSG:3857&width=256&height=256&x={bbox-epsg-3857}&bbox={bbox-epsg-3857}"),
        &options(Some(ZOOM), quick()),
        &[],
    );
    let words = "<ServiceExceptionReport><ServiceException code=\"LayerNotDefined\">no layer b</ServiceException></ServiceExceptionReport>";
    let refuses = Stub::new(move |_, _| Answer::of(200, words.into()).header("Content-Type", "text/xml"));
    let error = fails(&refuses.url("wms?request=GetMap&layers=b"), &options(Some(ZOOM), quick()));
    assert!(error.to_string().contains("no layer b"), "{error}");
}

#[test]
fn tiles_that_are_not_there_hold_no_data() {
    let first = area().0.first;
    let server = Stub::new(move |r, _| match (numbers(r)[1] - first.0, numbers(r)[2] - first.1) {
        (0, 0) => Answer::of(404, b"not here".to_vec()),
        (2, 1) => Answer::of(204, Vec::new()),
        (1, 1) => Answer::of(200, Vec::new()),
        _ => Answer::of(200, tile(numbers(r)[1], numbers(r)[2])),
    });
    let gaps = [first, (first.0 + 2, first.1 + 1), (first.0 + 1, first.1 + 1)];
    check(&server.url("{z}/{x}/{y}.png"), &options(Some(ZOOM), quick()), &gaps);
    let empty = Stub::new(|_, _| Answer::of(404, Vec::new()));
    let error = fails(&empty.url("{z}/{x}/{y}.png"), &options(Some(ZOOM), quick()));
    assert_eq!(error.kind(), ErrorKind::NotFound);
    // Without a zoom level: the finest that has tiles, from the one that the resolution wants on upwards.
    let server = Stub::new(|r, _| match numbers(r)[0] {
        0..=16 => Answer::of(200, tile(numbers(r)[1], numbers(r)[2])),
        _ => Answer::of(404, Vec::new()),
    });
    let mut wanted = options(None, quick());
    wanted.tiles.resolution = Some(0.5);
    check(&server.url("{z}/{x}/{y}.png"), &wanted, &[]);
    for (bounds, zoom, words) in [(None, Some(ZOOM), "--bbox"), (Some(area().1), None, "--zoom")] {
        let tiles = TileOptions { zoom, bounds, ..TileOptions::default() };
        let error = fails(&server.url("{z}/{x}/{y}.png"), &SourceOptions { tiles, http: quick() });
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn servers_that_are_busy_slow_or_break_off() {
    let numbered = |r: &Request| Answer::of(200, tile(numbers(r)[1], numbers(r)[2]));
    // Every tile's first two requests fail.
    let busy = Stub::new(move |r, before| match before {
        0 => Answer::of(503, Vec::new()).header("Retry-After", 0),
        1 => Answer::of(429, Vec::new()).header("Retry-After", 1),
        2 => Answer { missing: 10, ..numbered(r) },
        3 => Answer::of(500, Vec::new()),
        _ => numbered(r),
    });
    let begun = Instant::now();
    let patient = HttpOptions { retries: 5, parallel: 1, ..quick() };
    check(&busy.url("{z}/{x}/{y}.png"), &options(Some(ZOOM), patient), &[]);
    assert!(begun.elapsed() >= Duration::from_secs(1), "it was asked to wait");

    let hours = Stub::new(|_, _| Answer::of(429, Vec::new()).header("Retry-After", 7200));
    let error = fails(&hours.url("{z}/{x}/{y}.png"), &options(Some(ZOOM), quick()));
    assert!(error.to_string().contains("7200 s") && hours.requests().len() == 1, "{error}");

    let stalls = Stub::new(|_, _| Answer { wait: Duration::from_secs(30), ..Answer::of(200, Vec::new()) });
    let impatient = HttpOptions { retries: 1, timeout: Duration::from_millis(300), ..quick() };
    assert_eq!(fails(&stalls.url("{z}/{x}/{y}.png"), &options(Some(ZOOM), impatient)).kind(), ErrorKind::Io);
    assert_eq!(stalls.requests().len(), 2);

    let breaks = Stub::new(move |r, _| Answer { missing: 10, ..numbered(r) });
    let error = fails(&breaks.url("{z}/{x}/{y}.png"), &options(Some(ZOOM), quick()));
    assert!(error.kind() == ErrorKind::Io && breaks.requests().len() == 3, "{error}");

    let key = Stub::new(|r, _| match r.header("authorization") {
        Some("Bearer me") => Answer::of(200, tile(numbers(r)[1], numbers(r)[2])),
        _ => Answer::of(401, Vec::new()),
    });
    let error = fails(&key.url("{z}/{x}/{y}.png?key=secret"), &options(Some(ZOOM), quick()));
    assert!(error.to_string().contains("--header") && !error.to_string().contains("secret"), "{error}");
    let headers = vec![("Authorization".to_owned(), "Bearer me".to_owned())];
    check(&key.url("{z}/{x}/{y}.png"), &options(Some(ZOOM), HttpOptions { headers, ..quick() }), &[]);
    let headers = vec![("Bad name".to_owned(), "a".to_owned())];
    let bad = options(Some(ZOOM), HttpOptions { headers, ..quick() });
    assert_eq!(
        open_levels(key.url("{z}/{x}/{y}"), &bad).map(|_| ()).expect_err("no header").kind(),
        ErrorKind::Invalid
    );
    // Nobody listens there.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    fails(
        &format!("http://127.0.0.1:{gone}/{{z}}/{{x}}/{{y}}"),
        &options(Some(ZOOM), HttpOptions { retries: 0, ..quick() }),
    );
}

#[test]
fn requests_at_once_and_tiles_kept() {
    let slow = Stub::new(|r, _| {
        let answer = Answer::of(200, tile(numbers(r)[1], numbers(r)[2]));
        Answer { wait: Duration::from_millis(150), ..answer }
    });
    let folder = tempfile::tempdir().unwrap();
    let kept = HttpOptions { parallel: 2, cache: Some(folder.path().join("cache")), ..quick() };
    check(&slow.url("{z}/{x}/{y}.png"), &options(Some(ZOOM), kept.clone()), &[]);
    assert_eq!((slow.most(), slow.requests().len()), (2, 6));
    check(&slow.url("{z}/{x}/{y}.png"), &options(Some(ZOOM), kept.clone()), &[]);
    assert_eq!(slow.requests().len(), 6);
    // Another key may be shown other tiles.
    let headers = vec![("X-Key".to_owned(), "2".to_owned())];
    check(&slow.url("{z}/{x}/{y}.png"), &options(Some(ZOOM), HttpOptions { headers, ..kept }), &[]);
    assert!(slow.requests().len() > 6);
}

#[test]
fn files_by_ranges_of_bytes() {
    let Some(data) = std::env::var_os("SAMLORA_DATA") else {
        println!("left out: files by ranges, SAMLORA_DATA does not name the folder of real data");
        return;
    };
    let data = Path::new(&data);
    // How many of the file's bytes may be asked for, at most: small ones are read whole, their beginning more than once.
    for (name, most) in [
        ("georef/naip-4band/m_4709963_se_14_1_20200831.tif", 1.01),
        ("odd/jpeg-ycbcr-internal-mask-cog.tif", 1.5),
        ("tiles/kampala.pmtiles", 1.2),
    ] {
        let path = data.join(name);
        let file = fs::read(&path).unwrap();
        let length = file.len();
        let bytes = file.clone();
        let server = Stub::new(move |r, _| Answer::ranged(&bytes, r).header("ETag", "\"1\""));
        let http = |http| SourceOptions { http, ..SourceOptions::default() };
        let mut here = open_levels(&path, &SourceOptions::default()).unwrap();
        let mut there = open_levels(server.url(name), &http(quick())).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(here.levels.len(), there.levels.len());
        assert!(here.levels.len() >= 2 && here.metres() == there.metres());
        for (a, b) in here.levels.iter_mut().zip(&mut there.levels) {
            let (width, height) = a.raster.size();
            let window = Window::new(width / 2, height / 2, (width / 2).min(300), (height / 2).min(300));
            assert!(a.raster.read(window, &[0, 2]).unwrap() == b.raster.read(window, &[0, 2]).unwrap(), "{name}");
        }
        let asked = |r: &Request| {
            let (first, last) = r.header("range").unwrap().trim_start_matches("bytes=").split_once('-').unwrap();
            last.parse::<usize>().unwrap() + 1 - first.parse::<usize>().unwrap()
        };
        let sent: usize = server.requests().iter().map(asked).sum();
        println!("{name}: {sent} of {length} bytes in {} requests", server.requests().len());
        assert!((sent as f64) < most * length as f64);

        let bytes = file.clone();
        let deaf = Stub::new(move |_, _| Answer::of(200, bytes.clone()));
        let error = fails(&deaf.url(name), &http(quick()));
        assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("ranges"), "{error}");
        let bytes = file.clone();
        let changes = Stub::new(move |r, before| Answer::ranged(&bytes, r).header("ETag", format!("\"{before}\"")));
        let error = fails(&changes.url(name), &http(quick()));
        assert!(error.kind() == ErrorKind::Io && error.to_string().contains("changed"), "{error}");
        let gone = Stub::new(|_, _| Answer::of(404, Vec::new()));
        assert_eq!(fails(&gone.url(name), &http(quick())).kind(), ErrorKind::NotFound);
    }
    let picture = fs::read(data.join("tiles/xyz-philippines/19/443116/241595.jpg")).unwrap();
    let server = Stub::new(move |r, _| Answer::ranged(&picture, r));
    assert_eq!(fails(&server.url("a.jpg"), &SourceOptions::default()).kind(), ErrorKind::Unsupported);
    assert!(TileId::new(ZOOM, area().0.first.0, area().0.first.1).is_ok());
}
