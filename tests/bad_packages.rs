//! Damaged and hostile packages: an error of the right kind that names file or tensor, never a panic.
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;

use common::package::Package;
use common::{failure, load, merged};
use samlora::error::ErrorKind;
use samlora::random::SplitMix;
use samlora::weights::manifest::{MANIFEST_BYTES, MANIFEST_FILE, Manifest};
use samlora::weights::quantize::Scheme;
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;

const MATRIX: &str = "image_encoder.blocks.1.mlp.lin1.weight";
const VECTOR: &str = "image_encoder.blocks.1.mlp.lin1.bias";

/// Damages a package and expects an error of `kind` that names all of `words`.
#[track_caller]
fn expect(package: &Package, kind: ErrorKind, words: &[&str], damage: impl FnOnce(&mut Package)) {
    let mut damaged = package.clone();
    damage(&mut damaged);
    let (found, text) = failure(damaged.load());
    println!("{text}");
    assert!(
        found == kind && text.starts_with("memory: ") && words.iter().all(|w| text.contains(w)),
        "{found:?} {text}"
    );
    assert!(!text.contains('\n') && text.len() < 600, "{text}");
}

#[test]
fn damaged_shards_are_named() {
    let whole = Package::tiny();
    whole.load().unwrap();
    let shard = whole.shard();
    let shard = shard.as_str();
    let bytes = |p: &mut Package| p.files.get_mut(shard).unwrap().len();
    expect(&whole, ErrorKind::Integrity, &[shard, "bytes"], |p| {
        let half = bytes(p) / 2;
        p.files.get_mut(shard).unwrap().truncate(half);
    });
    expect(&whole, ErrorKind::Integrity, &[shard, "bytes"], |p| p.files.get_mut(shard).unwrap().clear());
    for at in [0, 9, 5000, bytes(&mut whole.clone()) - 1] {
        expect(&whole, ErrorKind::Integrity, &[shard, "SHA-256"], |p| p.files.get_mut(shard).unwrap()[at] ^= 1);
    }
    expect(&whole, ErrorKind::Integrity, &[shard, "SHA-256"], |p| {
        p.manifest["shards"][0]["sha256"] = "0".repeat(64).into();
    });
    // Right hashes of wrong contents.
    expect(&whole, ErrorKind::Limit, &[shard, "header"], |p| {
        let length = bytes(p);
        p.files.insert(shard.into(), b"<!doctype html>".iter().copied().cycle().take(length).collect());
        p.seal();
    });
}

#[test]
fn numbers_that_are_not_finite_are_named_though_the_hashes_are_right() {
    let whole = Package::tiny();
    let (nan, infinity) = ([0x00, 0x7e], [0x00, 0x7c]); // as f16, little-endian
    expect(&whole, ErrorKind::Format, &[VECTOR, "NaN"], |p| p.patch(VECTOR, |b| b[6..8].copy_from_slice(&nan)));
    expect(&whole, ErrorKind::Format, &[VECTOR, "value 3", "inf"], |p| {
        p.patch(VECTOR, |b| b[6..8].copy_from_slice(&infinity));
    });
    for bits in [nan, infinity] {
        expect(&whole, ErrorKind::Format, &[MATRIX], |p| {
            p.patch(&format!("{MATRIX}.scale"), |b| b[..2].copy_from_slice(&bits));
        });
    }
}

#[test]
fn tensors_must_be_those_of_the_architecture() {
    let whole = Package::tiny();
    expect(&whole, ErrorKind::NotFound, &[MATRIX, "missing"], |p| {
        p.manifest["tensors"].as_object_mut().unwrap().remove(MATRIX);
    });
    expect(&whole, ErrorKind::Format, &["surplus", "does not belong"], |p| {
        p.manifest["tensors"]["surplus"] = p.manifest["tensors"][VECTOR].clone();
    });
    expect(&whole, ErrorKind::Format, &[VECTOR, "shape"], |p| p.manifest["tensors"][VECTOR]["shape"] = json!([192, 1]));
    // The manifest is right, the shard lacks the tensor or stores it otherwise.
    expect(&whole, ErrorKind::Format, &[VECTOR, "not in this shard"], |p| {
        let file = p.shard();
        let bytes = p.files.get_mut(&file).unwrap();
        let at = bytes.windows(VECTOR.len()).position(|w| w == VECTOR.as_bytes()).unwrap();
        bytes[at] = b'I';
        p.seal();
    });
    // The same bytes under another type, and a tensor that nothing asks for.
    expect(&whole, ErrorKind::Format, &[VECTOR, "not in this shard as f16"], |p| {
        let entry = |dtype: &str| format!("{VECTOR}\":{{\"dtype\":\"{dtype}\"");
        p.rewrite(|header| header.replace(&entry("F16"), &entry("BF16")));
    });
    expect(&whole, ErrorKind::Format, &["surplus", "not in the manifest"], |p| {
        p.rewrite(|header| {
            let end = header.trim_end().trim_end_matches('}');
            let last = end.rsplit(',').next().unwrap_or_default().trim_end_matches(']').to_owned();
            format!("{end}}},\"surplus\":{{\"dtype\":\"F16\",\"shape\":[0],\"data_offsets\":[{last},{last}]}}}}")
        });
    });
    for (tensor, scheme) in [(VECTOR, "q8"), (VECTOR, "q4"), (MATRIX, "f16"), (MATRIX, "q4"), (MATRIX, "f32")] {
        expect(&whole, ErrorKind::Format, &[tensor], |p| p.manifest["tensors"][tensor]["scheme"] = scheme.into());
    }
    expect(&whole, ErrorKind::Format, &["classes", "5 classes for 6"], |p| {
        p.manifest["classes"].as_array_mut().unwrap().pop();
    });
    expect(&whole, ErrorKind::Format, &["classes"], |p| p.manifest["classes"][2]["index"] = 4.into());
    expect(&whole, ErrorKind::Format, &["classes", "twice"], |p| p.manifest["classes"][2]["name"] = "class 1".into());
    expect(&whole, ErrorKind::Format, &["classes", "threshold"], |p| {
        p.manifest["classes"][2]["threshold"] = 1.5.into()
    });
}

#[test]
fn rows_are_stored_once_and_in_order() {
    let whole = Package::tiny();
    let rows = whole.manifest["tensors"][MATRIX]["parts"][0]["rows"].as_u64().unwrap();
    let part = |shard: u64, rows: u64| json!({"shard": shard, "rows": rows});
    for (parts, word) in [
        (json!([part(0, rows), part(0, rows)]), "order"),
        (json!([part(0, rows / 2), part(0, rows / 2)]), "order"),
        (json!([part(1, rows)]), "lies in shard 1"),
        (json!([part(0, rows - 1)]), "rows are stored"),
        (json!([part(0, rows + 1)]), "rows are stored"),
        (json!([part(0, 0)]), "do not fit"),
        (json!([part(0, 1_000_000_000)]), "do not fit"),
        (json!([part(0, u64::MAX)]), "do not fit"),
        (json!([part(u64::MAX, rows)]), "lies in shard"),
        (json!([]), "rows are stored"),
    ] {
        expect(&whole, ErrorKind::Format, &[MATRIX, word], |p| p.manifest["tensors"][MATRIX]["parts"] = parts);
    }
    expect(&whole, ErrorKind::Format, &["twice"], |p| {
        let shard = p.manifest["shards"][0].clone();
        p.manifest["shards"].as_array_mut().unwrap().push(shard);
    });
}

#[test]
fn absurd_sizes_are_refused_before_anything_is_fetched() {
    let whole = Package::tiny();
    let huge = u64::MAX;
    for shape in [
        json!([huge, huge]),
        json!([1u64 << 40, 1u64 << 40, 2]),
        json!([2, huge]),
        json!([0, 5]),
        json!([]),
        json!([1, 1, 1, 1, 1]),
    ] {
        expect(&whole, ErrorKind::Format, &[MATRIX, "shape"], |p| {
            p.manifest["tensors"][MATRIX]["shape"] = shape;
            p.files.clear();
        });
    }
    for (field, value, kind) in [
        ("input_size", json!(1_000_000_000), ErrorKind::Format),
        ("input_size", json!(huge), ErrorKind::Format),
        ("input_size", json!(0), ErrorKind::Format),
        ("input_size", json!(100), ErrorKind::Format),
        ("tile_size", json!(0), ErrorKind::Format),
        ("tile_size", json!(97), ErrorKind::Format),
        ("ground_resolution", json!(0), ErrorKind::Format),
        ("normalization", json!({"mean": [1, 2], "std": [1, 2]}), ErrorKind::Format),
        ("normalization", json!({"mean": [1, 2, 3], "std": [1, 0, 1]}), ErrorKind::Format),
        ("normalization", json!({"mean": [1e300, 2, 3], "std": [1, 1, 1]}), ErrorKind::Format),
        ("normalization", json!({"mean": [1, 2, 3], "std": [1, 1e-45, 1]}), ErrorKind::Format),
        ("lora", json!({"rank": 0, "dropout": 0, "targets": [], "alpha": 1, "blocks": null}), ErrorKind::Format),
        ("unknown_field", json!(1), ErrorKind::Format),
    ] {
        expect(&whole, kind, &["samlora.json", field], |p| p.manifest[field] = value);
    }
    for value in [json!(-16), json!(96.5), json!("96"), json!(null)] {
        expect(&whole, ErrorKind::Format, &["samlora.json", "line"], |p| p.manifest["input_size"] = value);
    }
    for (number, value) in [
        ("embed_dim", 1 << 40),
        ("depth", huge),
        ("num_heads", 0),
        ("num_heads", 5),
        ("window_size", 0),
        ("patch_size", 0),
        ("out_chans", 12),
        ("pretrained_size", 1 << 30),
        ("mask_tokens", 0),
        ("mask_tokens", 1000),
        ("decoder_heads", 0),
        ("attention_downsample", 0),
        ("iou_depth", 0),
    ] {
        expect(&whole, ErrorKind::Invalid, &["samlora.json", "architecture"], |p| {
            p.manifest["architecture"][number] = value.into()
        });
    }
    expect(&whole, ErrorKind::Format, &["input_size", "256 patches"], |p| {
        p.manifest["architecture"]["patch_size"] = 1.into();
        p.manifest["architecture"]["pretrained_size"] = 64.into();
        p.manifest["input_size"] = 4096.into();
    });
    for bytes in [0, (16 << 20) + 1, 1_000_000_000_000u64] {
        expect(&whole, ErrorKind::Format, &["shards"], |p| p.manifest["shards"][0]["bytes"] = bytes.into());
    }
    expect(&whole, ErrorKind::Format, &["shards", "SHA-256"], |p| p.manifest["shards"][0]["sha256"] = "xyz".into());
    // A manifest of a billion shards does not fit into what is read of it.
    let (kind, text) = failure(Manifest::parse(&vec![b' '; MANIFEST_BYTES + 1]));
    assert!(kind == ErrorKind::Limit && text.contains("limit"), "{text}");
    let (kind, _) = failure(Manifest::parse("[".repeat(MANIFEST_BYTES).as_bytes()));
    assert_eq!(kind, ErrorKind::Format);
}

#[test]
fn names_that_leave_the_folder_are_refused() {
    let whole = Package::tiny();
    let long = "x".repeat(5000);
    for name in
        ["../x", "/etc/passwd", "a\\b", "a/b", "", ".", "..", ".hidden", long.as_str(), "a\0b", "C:x", "a b", "é"]
    {
        let (kind, text) = failure({
            let mut damaged = whole.clone();
            damaged.manifest["shards"][0]["file"] = name.into();
            damaged.files.clear();
            damaged.load()
        });
        assert!(
            kind == ErrorKind::Format && text.contains("plain file name") && text.contains("samlora.json"),
            "{text}"
        );
    }
}

#[test]
fn versions_and_formats_are_checked_first() {
    let whole = Package::tiny();
    expect(&whole, ErrorKind::Unsupported, &["version 99", "update"], |p| {
        p.manifest["version"] = 99.into();
        p.manifest["tensors"] = "of another version".into();
    });
    expect(&whole, ErrorKind::Format, &["format", "gltf"], |p| p.manifest["format"] = "gltf".into());
    for (name, scheme) in [("scheme", "q2"), ("kind", "other")] {
        expect(&whole, ErrorKind::Format, &["samlora.json", scheme], |p| p.manifest[name] = scheme.into());
    }
    for bytes in [
        &b""[..],
        b"<!doctype html>",
        b"{",
        b"{}",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"{\"format\": \"samlora\", \"version\": 1}",
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(MANIFEST_FILE), bytes).unwrap();
        let (kind, text) = failure(load(folder.path()));
        let named = text.starts_with(&folder.path().display().to_string()) && text.contains(MANIFEST_FILE);
        assert!(kind == ErrorKind::Format && named, "{text}");
    }
}

#[test]
fn folders_and_archives_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (kind, text) = failure(load(folder.path()));
    assert!(kind == ErrorKind::NotFound && text.contains(MANIFEST_FILE) && text.contains("samlora export"), "{text}");
    assert_eq!(failure(load(&folder.path().join("missing"))).0, ErrorKind::NotFound);

    let package = folder.path().join("package");
    let written = merged("s96_k6", 96, Scheme::Q8, &package);
    let shard = package.join(&written.shards[0].file);
    let bytes = fs::read(&shard).unwrap();
    fs::write(&shard, &bytes[..1000]).unwrap();
    let (kind, text) = failure(load(&package));
    assert!(kind == ErrorKind::Integrity && text.matches(&written.shards[0].file).count() == 1, "{text}");
    fs::write(&shard, [bytes.as_slice(), b"x"].concat()).unwrap();
    let (kind, text) = failure(load(&package));
    assert!(kind == ErrorKind::Integrity && text.contains("at most"), "{text}");
    fs::remove_file(&shard).unwrap();
    let (kind, text) = failure(load(&package));
    assert!(kind == ErrorKind::NotFound && text.matches(&written.shards[0].file).count() == 1, "{text}");
    fs::write(&shard, &bytes).unwrap();
    load(&package).unwrap();

    let manifest = fs::read(package.join(MANIFEST_FILE)).unwrap();
    let name = written.shards[0].file.as_str();
    let mut number = 0;
    let mut archive = |entries: &[(&str, &[u8])]| {
        number += 1;
        let path = folder.path().join(format!("{number}.samlora"));
        let mut zip = zip::ZipWriter::new(fs::File::create(&path).unwrap());
        for (name, bytes) in entries {
            let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
            zip.start_file(*name, options).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap();
        path
    };
    // Entries that nobody asked for are never written anywhere.
    let tricks = archive(&[("../evil", b"x"), ("/etc/evil", b"x"), (MANIFEST_FILE, &manifest), (name, &bytes)]);
    load(&tricks).unwrap();
    assert!(!folder.path().join("evil").exists() && !Path::new("/etc/evil").exists());
    let inner = archive(&[("model/samlora.json", &manifest), ("model/x", &bytes)]);
    let (kind, text) = failure(load(&inner));
    assert!(kind == ErrorKind::NotFound && text.contains("not the folder around them"), "{text}");
    let (kind, text) = failure(load(&archive(&[(MANIFEST_FILE, &manifest)])));
    assert!(kind == ErrorKind::NotFound && text.contains(name), "{text}");
    let (kind, text) = failure(load(&archive(&[(MANIFEST_FILE, &vec![b' '; MANIFEST_BYTES + 1])])));
    assert!(kind == ErrorKind::Integrity && text.contains(MANIFEST_FILE), "{text}");
    // A bomb: the directory says 4 GB (or the true size), the method says deflate.
    let honest = archive(&[(MANIFEST_FILE, &manifest), (name, &bytes)]);
    let zip = fs::read(&honest).unwrap();
    let directory = zip.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap(); // the last entry's: the shard's
    for (at, value) in
        [(10, &8u16.to_le_bytes()[..]), (24, &0xfffffff0u32.to_le_bytes()), (20, &0xfffffff0u32.to_le_bytes())]
    {
        let mut bomb = zip.clone();
        bomb[directory + at..directory + at + value.len()].copy_from_slice(value);
        fs::write(&honest, &bomb).unwrap();
        let (kind, text) = failure(load(&honest));
        println!("{text}");
        assert!(
            matches!(kind, ErrorKind::Integrity | ErrorKind::Unsupported | ErrorKind::Format) && text.contains(name),
            "{text}"
        );
    }
    for length in [0, 10, 1000, zip.len() - 10] {
        fs::write(&honest, &zip[..length]).unwrap();
        let (kind, text) = failure(load(&honest));
        assert!(kind == ErrorKind::Format && text.contains("neither a package folder"), "{text}");
    }
}

/// Every value of a JSON tree in turn, by its number.
fn nth<'a>(value: &'a mut Value, left: &mut usize) -> Option<&'a mut Value> {
    if *left == 0 {
        return Some(value);
    }
    *left -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|v| nth(v, left)),
        Value::Object(fields) => fields.values_mut().find_map(|v| nth(v, left)),
        _ => None,
    }
}

#[test]
fn no_flipped_byte_or_strange_value_of_a_manifest_panics() {
    let whole = Package::tiny();
    let bytes = serde_json::to_vec(&whole.manifest).unwrap();
    let mut random = SplitMix(20);
    let mut accepted = 0;
    for _ in 0..4000 {
        let mut damaged = bytes.clone();
        for _ in 0..1 + random.next_u64() % 3 {
            let at = random.next_u64() as usize % damaged.len();
            damaged[at] = match random.next_u64() % 3 {
                0 => damaged[at] ^ 1 << (random.next_u64() % 8),
                1 => b"0123456789-.eE\"{}[],:"[random.next_u64() as usize % 21],
                _ => random.next_u64() as u8,
            };
        }
        accepted += usize::from(Manifest::parse(&damaged).is_ok());
    }
    let strange = [
        json!(null),
        json!(0),
        json!(1),
        json!(-1),
        json!(u64::MAX),
        json!(1u64 << 32),
        json!(1 << 20),
        json!(1e308),
        json!(0.5),
        json!(""),
        json!("x"),
        json!([]),
        json!({}),
        json!(true),
        json!([u64::MAX, u64::MAX]),
    ];
    // Settings and shards come early in the tree; the many tensors are alike.
    let mut loaded = 0;
    for place in 0..3000 {
        let mut damaged = whole.clone();
        let mut left = place;
        let Some(value) = nth(&mut damaged.manifest, &mut left) else { break };
        *value = strange[random.next_u64() as usize % strange.len()].clone();
        if Manifest::parse(&serde_json::to_vec(&damaged.manifest).unwrap()).is_ok() {
            accepted += 1;
            loaded += usize::from(damaged.files.contains_key(&damaged.shard()) && damaged.load().is_ok());
        }
    }
    println!("{accepted} damaged manifests are still well-formed, {loaded} of the second kind load");
    assert!(accepted > 0);
}
