//! PyTorch's checkpoint files: every storage, foreign classes, damage, and hostile bytes of either format.
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

use std::fs;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use samlora::error::ErrorKind;
use samlora::weights::checkpoint::Checkpoint;
use samlora::weights::keys::{LoraKeys, canonical};
use samlora::weights::source::{Dtype, open};
use tempfile::TempDir;

#[path = "common/files.rs"]
mod files;

use files::{file, fixtures, info, message, names, safetensors};

// PyTorch: pickles written here, opcode by opcode.

#[path = "common/pickle.rs"]
mod opcode;
use opcode::{dict, program, storage, tensor};

fn zip_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn pth(pickle: &[u8], storages: &[(&str, &[u8])]) -> (TempDir, PathBuf) {
    let names: Vec<String> = storages.iter().map(|(key, _)| format!("archive/data/{key}")).collect();
    let mut entries = vec![("archive/data.pkl", pickle)];
    entries.extend(names.iter().map(String::as_str).zip(storages.iter().map(|s| s.1)));
    file("model.pth", &zip_of(&entries))
}

/// What PyTorch wrote before 1.6: storages as key, bytes and elements.
fn legacy(pickle: &[u8], storages: &[(&str, &[u8], u64)]) -> Vec<u8> {
    let magic = [b"\x8a\x0a".to_vec(), vec![0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19]].concat();
    let machine = [b"}".to_vec(), opcode::text("little_endian"), b"q\x01\x88s".to_vec()].concat();
    let keys = storages.iter().flat_map(|s| opcode::text(s.0)).collect();
    let keys = [b"](".to_vec(), keys, b"e".to_vec()].concat();
    let head = [program(magic), program(opcode::int(1001)), program(machine), pickle.to_vec(), program(keys)].concat();
    let tail = storages.iter().flat_map(|(_, bytes, count)| [&count.to_le_bytes()[..], bytes].concat());
    head.into_iter().chain(tail).collect()
}

#[test]
fn files_of_older_pytorch() {
    // tests/fixtures/pytorch/legacy.pth: torch.save({"model": .., "epoch": 3}, file, _use_new_zipfile_serialization=False)
    let path = fixtures().join("../pytorch/legacy.pth");
    let source = open(&path).unwrap();
    let expected: &[(&str, &[usize], &[f32])] = &[
        ("half", &[2], &[1., -2.]),
        ("long", &[2], &[-1., 5.]),
        ("parameter", &[2], &[0.5, 0.25]),
        ("part", &[2, 2], &[5., 6., 9., 10.]),
        ("transposed", &[4, 3], &[0., 4., 8., 1., 5., 9., 2., 6., 10., 3., 7., 11.]),
        ("whole", &[3, 4], &[0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11.]),
    ];
    assert_eq!(names(source.as_ref()), expected.iter().map(|e| e.0).collect::<Vec<_>>());
    for (info, (name, shape, values)) in source.tensors().iter().zip(expected) {
        assert_eq!((&info.shape[..], &source.read_f32(name).unwrap()[..]), (*shape, *values), "{name}");
    }
    assert_eq!(source.passed_over().iter().map(ToString::to_string).collect::<Vec<_>>().join(", "), "epoch (a number)");

    // Cut anywhere, and with any byte changed, it is refused or read, without a panic.
    let bytes = fs::read(&path).unwrap();
    for len in 0..bytes.len() {
        let (_folder, path) = file("model.pth", &bytes[..len]);
        assert!(open(&path).is_err(), "{len} bytes of {}", bytes.len());
    }
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x41;
        let (_folder, path) = file("model.pth", &changed);
        if let Ok(source) = open(&path) {
            source.tensors().iter().for_each(|t| drop(source.read_f32(&t.name)));
        }
    }
}

#[test]
fn older_files_that_are_refused() {
    let values = [1f32, 2.0].map(f32::to_le_bytes).concat();
    let state = program(dict(&[("a", tensor(storage("FloatStorage", "7", 2), 0, &[2], &[1]))]));
    let good = legacy(&state, &[("7", &values, 2)]);
    let (_folder, path) = file("model.pth", &good);
    assert_eq!(open(&path).unwrap().read_f32("a").unwrap(), [1.0, 2.0]);
    let replaced = |from: &[u8], to: &[u8]| {
        let at = good.windows(from.len()).position(|w| w == from).unwrap();
        [&good[..at], to, &good[at + from.len()..]].concat()
    };
    let cases = [
        (replaced(b"q\x01\x88s", b"q\x01\x89s"), "big-endian"),
        (replaced(&1001i32.to_le_bytes(), &1002i32.to_le_bytes()), "another version"),
        (legacy(&state, &[("7", &values, u64::MAX)]), "ends within its storages"),
        (legacy(&state, &[("7", &values, 3)]), "ends within its storages"),
        (legacy(&state, &[("7", &values, 1)]), "does not fit its storage"),
        (legacy(&state, &[]), "lacks the storage 7"),
        (legacy(&state, &[("8", &values, 2)]), "no known tensor"),
    ];
    for (bytes, expected) in cases {
        let (_folder, path) = file("model.pth", &bytes);
        let (_, found) = message(open(&path).map(drop));
        assert!(found.contains(expected) && found.contains("model.pth"), "{found}");
    }
}

#[test]
fn every_storage_type_and_view() {
    let floats: Vec<u8> = (0..12).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let view =
        |offset, shape: &[i32], strides: &[i32]| tensor(storage("FloatStorage", "0", 12), offset, shape, strides);
    let parameter = [
        opcode::global("torch._utils", "_rebuild_parameter"),
        [b"(".to_vec(), view(1, &[2], &[1]), b"\x88}tR".to_vec()].concat(),
    ];
    let one = |class, key| tensor(storage(class, key, 2), 0, &[2], &[1]);
    let entries = [
        ("whole", view(0, &[3, 4], &[4, 1])),
        ("transposed", view(0, &[4, 3], &[1, 4])),
        ("part", view(5, &[2, 2], &[4, 1])),
        ("repeated", view(3, &[2, 2], &[0, 0])),
        ("empty", view(0, &[0, 3], &[3, 1])),
        ("scalar", view(7, &[], &[])),
        ("parameter", parameter.concat()),
        ("half", one("HalfStorage", "h")),
        ("bf16", one("BFloat16Storage", "f")),
        ("double", one("DoubleStorage", "d")),
        ("long", one("LongStorage", "l")),
        ("int", one("IntStorage", "i")),
        ("byte", one("ByteStorage", "b")),
        ("char", one("CharStorage", "b")),
        ("bool", one("BoolStorage", "b")),
        ("epoch", opcode::int(3)),
    ];
    let expected: &[(&str, &[f32])] = &[
        ("whole", &[0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11.]),
        ("transposed", &[0., 4., 8., 1., 5., 9., 2., 6., 10., 3., 7., 11.]),
        ("part", &[5., 6., 9., 10.]),
        ("repeated", &[3.; 4]),
        ("empty", &[]),
        ("scalar", &[7.]),
        ("parameter", &[1., 2.]),
        ("half", &[1., -2.]),
        ("bf16", &[1., -2.]),
        ("double", &[0.5, -3.]),
        ("long", &[-1., 5.]),
        ("int", &[-1., 5.]),
        ("byte", &[255., 0.]),
        ("char", &[-1., 0.]),
        ("bool", &[1., 0.]),
    ];
    let storages: &[(&str, &[u8])] = &[
        ("0", &floats),
        ("h", &[0x00, 0x3c, 0x00, 0xc0]),
        ("f", &[0x80, 0x3f, 0x00, 0xc0]),
        ("d", &[0.5f64, -3.0].map(f64::to_le_bytes).concat()),
        ("l", &[-1i64, 5].map(i64::to_le_bytes).concat()),
        ("i", &[-1i32, 5].map(i32::to_le_bytes).concat()),
        ("b", &[255, 0]),
    ];
    let state = dict(&entries);
    let metadata = [state.clone(), dict(&[("_metadata", dict(&[]))]), b"b".to_vec()].concat();
    for pickle in [state.clone(), metadata, dict(&[("epoch", opcode::int(1)), ("model", state.clone())])] {
        let (_folder, path) = pth(&program(pickle), storages);
        let source = open(path).unwrap();
        assert_eq!(source.tensors().len(), expected.len());
        for (name, values) in expected {
            assert_eq!(source.read_f32(name).unwrap(), *values, "{name}");
        }
    }
    let big: Vec<u8> = [1f32, -2.5].iter().flat_map(|v| v.to_be_bytes()).collect();
    let pickle = program(dict(&[("a", tensor(storage("FloatStorage", "0", 2), 0, &[2], &[1]))]));
    let entries: &[(&str, &[u8])] = &[("x/data.pkl", &pickle), ("x/byteorder", b"big"), ("x/data/0", &big)];
    let (_folder, path) = file("big.pth", &zip_of(entries));
    assert_eq!(open(path).unwrap().read_f32("a").unwrap(), [1.0, -2.5]);
}

/// What training scripts save beside weights, each an opcode program.
mod value {
    use super::opcode::{dict, global, int, text};

    /// `numpy.float64(0.3)`.
    pub fn numpy_scalar() -> Vec<u8> {
        let state = [&b"("[..], &int(3), &text("<"), b"NNN", &int(-1), &int(-1), &int(0), b"t"].concat();
        let dtype = [&b""[..], &global("numpy", "dtype"), b"(", &text("f8"), b"\x89\x88tR", &state, b"b"].concat();
        let bytes = [text("333333\u{d3}?"), text("latin1")].concat();
        let bytes = [&b""[..], &global("_codecs", "encode"), b"(", &bytes, b"tR"].concat();
        [&b""[..], &global("numpy._core.multiarray", "scalar"), b"(", &dtype, &bytes, b"tR"].concat()
    }
    /// An instance of a class with a state, such as `argparse.Namespace`.
    pub fn instance(module: &str, class: &str) -> Vec<u8> {
        [
            global(module, class),
            b")\x81".to_vec(),
            dict(&[("lr", b"G?\xb9\x99\x99\x99\x99\x99\x9a".to_vec())]),
            b"b".to_vec(),
        ]
        .concat()
    }
    /// A list of numbers.
    pub fn list() -> Vec<u8> {
        [&b"]("[..], &int(1), &int(2), b"e"].concat()
    }
}

/// The tensors of `names`, each one element of the same storage.
fn weights(names: &[&str]) -> Vec<u8> {
    let entries: Vec<_> = names.iter().map(|n| (*n, tensor(storage("FloatStorage", "0", 1), 0, &[1], &[1]))).collect();
    dict(&entries)
}

const SAM: [&str; 3] =
    ["image_encoder.pos_embed", "prompt_encoder.no_mask_embed.weight", "mask_decoder.iou_token.weight"];

#[test]
fn a_state_dict_is_found_wherever_it_is_and_what_lies_beside_it_is_named() {
    let plain = weights(&SAM);
    let prefixed: Vec<String> = SAM.iter().map(|name| format!("module.sam.{name}")).collect();
    let prefixed = weights(&prefixed.iter().map(String::as_str).collect::<Vec<_>>());
    let other = weights(&["x", "y", "z", "u"]);
    // An optimiser's state: numbered dicts of tensors, deeper than any state dict.
    let moments = [b"}".to_vec(), opcode::int(0), weights(&["exp_avg"]), b"s".to_vec()].concat();
    let optimizer = dict(&[("state", moments), ("param_groups", value::list())]);
    let adapter = weights(&["w_a_000", "w_b_000"]);
    for (pickle, passed_over) in [
        (
            dict(&[("model_state", prefixed.clone()), ("decoder_state", other.clone())]),
            &["decoder_state (a dict of 4 tensors)"][..],
        ),
        (dict(&[("decoder", other.clone()), ("teacher", plain.clone())]), &["decoder (a dict of 4 tensors)"]),
        (
            dict(&[("any key", dict(&[("inner", plain.clone()), ("epoch", opcode::int(3))]))]),
            &["any key.epoch (a number)"],
        ),
        (
            dict(&[
                ("optimizer", optimizer),
                ("epoch", opcode::int(3)),
                ("best", value::numpy_scalar()),
                ("args", value::instance("argparse", "Namespace")),
                ("config", value::instance("omegaconf.dictconfig", "DictConfig")),
                ("name", opcode::text("run 7")),
                ("history", value::list()),
                ("net", plain.clone()),
            ]),
            &[
                "optimizer (a dict of 2 values)",
                "epoch (a number)",
                "best (an object of numpy._core.multiarray.scalar)",
                "args (an object of argparse.Namespace)",
                "config (an object of omegaconf.dictconfig.DictConfig)",
                "name (text)",
                "history (a list of 2 values)",
            ],
        ),
        // Of two equal models the one that scripts call so, not its moving average.
        (dict(&[("model_ema", plain.clone()), ("model", plain.clone())]), &["model_ema (a dict of 3 tensors)"]),
        (dict(&[("base", other.clone()), ("lora", adapter)]), &["base (a dict of 4 tensors)"]),
        (
            [plain.clone(), opcode::text("best"), value::numpy_scalar(), b"s".to_vec()].concat(),
            &["best (an object of numpy._core.multiarray.scalar)"],
        ),
    ] {
        let (_folder, path) = pth(&program(pickle), &[("0", &[0; 4])]);
        let source = open(path).unwrap();
        let keys = canonical(names(source.as_ref())).unwrap();
        assert!(
            keys.tensors.keys().map(String::as_str).collect::<Vec<_>>()
                == ["image_encoder.pos_embed", "mask_decoder.iou_token.weight", "prompt_encoder.no_mask_embed.weight"]
                || keys.lora.len() == 2
        );
        let found: Vec<String> = source.passed_over().iter().map(ToString::to_string).collect();
        assert_eq!(found, passed_over);
    }
}

#[test]
fn a_whole_model_is_read_past_its_wrapper() {
    let tiny = open(fixtures().join("tiny_sam.safetensors")).unwrap();
    let (mut entries, mut storages) = (Vec::new(), Vec::new());
    for (i, t) in tiny.tensors().iter().enumerate() {
        let values: Vec<u8> = tiny.read_f32(&t.name).unwrap().into_iter().flat_map(f32::to_le_bytes).collect();
        let shape: Vec<i32> = t.shape.iter().map(|&side| side as i32).collect();
        let strides: Vec<i32> = (1..=shape.len()).map(|axis| shape[axis..].iter().product()).collect();
        let (key, len) = (i.to_string(), values.len() as i32 / 4);
        entries.push((format!("sam.{}", t.name), tensor(storage("FloatStorage", &key, len), 0, &shape, &strides)));
        storages.push((key, values));
    }
    let entries: Vec<_> = entries.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let storages: Vec<_> = storages.iter().map(|(key, values)| (key.as_str(), values.as_slice())).collect();
    let pickle = program(dict(&[("model_state", dict(&entries)), ("best", value::numpy_scalar())]));
    let (folder, path) = pth(&pickle, &storages);
    let checkpoint = Checkpoint::open(&path).unwrap();
    let plain = Checkpoint::open(fixtures().join("tiny_sam.safetensors")).unwrap();
    assert_eq!(checkpoint.config(), plain.config());
    let name = "mask_decoder.iou_token.weight";
    assert_eq!(checkpoint.read(name).unwrap(), plain.read(name).unwrap());
    // Both commands say what they passed over.
    let run = |args: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_samlora")).args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned())
    };
    let (file, out) = (path.to_str().unwrap(), folder.path().join("package"));
    let said = "1 value beside the weights is passed over: best (an object of numpy._core.multiarray.scalar)";
    assert!(run(&["inspect", file])[0].contains(said));
    assert!(run(&["inspect", file, "--json"])[0].contains(r#""passed_over":[{"name":"best","what":"an object of"#));
    assert!(run(&["export", "--base", file, "--scheme", "f16", "--out", out.to_str().unwrap()])[1].contains(said));
}

#[test]
fn a_pickle_that_reaches_out_is_refused_beside_good_weights_too() {
    let call = |module: &str, name: &str| {
        [opcode::global(module, name), b"(".to_vec(), opcode::text("x"), b"tR".to_vec()].concat()
    };
    for (module, name) in [
        ("os", "system"),
        ("nt", "system"),
        ("subprocess", "Popen"),
        ("builtins", "exec"),
        ("__builtin__", "eval"),
        ("runpy", "run_path"),
        ("importlib", "import_module"),
        ("torch.hub", "load"),
        ("numpy", "load"),
        ("torch", "multiprocessing.subprocess.Popen"),
        ("some_package.tools", "run"),
    ] {
        let pickle = dict(&[("model", weights(&SAM)), ("extra", call(module, name))]);
        let (_folder, path) = pth(&program(pickle), &[("0", &[0; 4])]);
        let (kind, text) = message(open(path));
        assert!(kind == ErrorKind::Unsupported && text.contains(&format!("{module}.{name}")), "{text}");
    }
    // Dicts that hold themselves, and very many of them.
    let cycle =
        [b"}q\x00".to_vec(), opcode::text("a"), b"h\x00s".to_vec(), opcode::text("b"), b"h\x00s".to_vec()].concat();
    let (_folder, path) = pth(&program(cycle), &[]);
    assert!(message(open(path)).1.contains("no state dict"));
}

#[test]
fn foreign_classes_are_named_and_never_run() {
    let marker = tempfile::tempdir().unwrap().path().join("ran");
    let call = |module: &str, name: &str| {
        let command = opcode::text(&format!("touch {}", marker.display()));
        [opcode::global(module, name), b"(".to_vec(), command, b"tR".to_vec()].concat()
    };
    for (module, name) in
        [("os", "system"), ("builtins", "eval"), ("torch.storage", "_load_from_bytes"), ("torch", "Size")]
    {
        let (_folder, path) = pth(&program(dict(&[("a", call(module, name))])), &[]);
        let (kind, text) = message(open(path));
        assert!(kind == ErrorKind::Unsupported && text.contains(&format!("{module}.{name}")), "{text}");
        assert!(text.contains("torch.save") && text.contains("model.pth"), "{text}");
    }
    let stacked = [opcode::text("posix"), opcode::text("system"), b"\x93".to_vec()].concat();
    let (_folder, path) = pth(&program(stacked), &[]);
    assert!(message(open(path)).1.contains("posix.system"));
    assert!(!marker.exists());
}

#[test]
fn damaged_pytorch_files() {
    let floats = [0u8; 16];
    let a = |class, len, offset, shape: &[i32], strides: &[i32]| {
        program(dict(&[("a", tensor(storage(class, "0", len), offset, shape, strides))]))
    };
    for (pickle, kind) in [
        (a("FloatStorage", 4, 1, &[4], &[1]), ErrorKind::Format), // past the end
        (a("FloatStorage", 5, 0, &[5], &[1]), ErrorKind::Format), // storage larger than its entry
        (a("FloatStorage", 4, 0, &[2], &[-1]), ErrorKind::Format), // negative stride
        (a("FloatStorage", 4, -1, &[2], &[1]), ErrorKind::Format), // negative offset
        (a("FloatStorage", 4, 0, &[-2], &[1]), ErrorKind::Format), // negative size
        (a("FloatStorage", 4, 0, &[2, 2], &[1]), ErrorKind::Format), // strides do not go with the shape
        (a("FloatStorage", 4, 0, &[i32::MAX; 8], &[0; 8]), ErrorKind::Limit), // repeats one element for ever
        (a("FloatStorage", 4, 0, &[1 << 20], &[0]), ErrorKind::Limit),
        (a("FloatStorage", 4, 0, &[1; 9], &[1; 9]), ErrorKind::Limit),
        (a("ShortStorage", 8, 0, &[2], &[1]), ErrorKind::Unsupported),
        (program(dict(&[])), ErrorKind::Unsupported),
        (program(opcode::int(1)), ErrorKind::Unsupported),
        (b"\x80\x02".to_vec(), ErrorKind::Format),
        (b"\x80\x02.".to_vec(), ErrorKind::Format),
        (b"\x80\x02u.".to_vec(), ErrorKind::Format),
        ([&b"\x80\x02"[..], &b"(".repeat(1 << 20)].concat(), ErrorKind::Format),
        ([&b"\x80\x02)"[..], &b"\x85".repeat(1 << 20), b"."].concat(), ErrorKind::Unsupported), // nested a million deep
        (vec![b')'; (1 << 22) + 1], ErrorKind::Limit),
    ] {
        let (_folder, path) = pth(&pickle, &[("0", &floats)]);
        let (found, text) = message(open(path));
        assert_eq!(found, kind, "{text}");
    }
    let good = a("FloatStorage", 4, 0, &[4], &[1]);
    let (_folder, path) = pth(&good, &[("1", &floats)]);
    assert!(message(open(path)).1.contains("lacks data/0"));
    let (_folder, path) = file("x.pth", &zip_of(&[("x/y", b"1")]));
    assert!(message(open(path)).1.contains("no data.pkl"));
    let (_folder, path) = file("x.pth", &zip_of(&[("x/data.pkl", &good), ("y/data.pkl", &good)]));
    assert!(message(open(path)).1.contains("several data.pkl"));

    let (_folder, path) = pth(&good, &[("0", &[0, 0, 0, 0, 0, 0, 0x80, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0])]);
    let (kind, text) = message(open(&path).unwrap().read_f32("a"));
    assert!(kind == ErrorKind::Format && text.contains("tensor a: element 1 is inf"), "{text}");
    // One flipped bit in a storage is caught by the zip's checksum.
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(4).position(|w| w == [0, 0, 0x80, 0x7f]).unwrap();
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(message(open(&path).unwrap().read_f32("a")).0, ErrorKind::Integrity);
    // Compressed entries, as a repacked file has them: method 8 in every header.
    for (signature, field) in [(b"PK\x03\x04", 8), (b"PK\x01\x02", 10)] {
        for at in 0..bytes.len() - 4 {
            if &bytes[at..at + 4] == signature {
                bytes[at + field] = 8;
            }
        }
    }
    fs::write(&path, &bytes).unwrap();
    assert!(message(open(&path)).1.contains("zip -0"));
}

// Any bytes give tensors or an error, never a panic.

fn read_all(path: &Path) {
    if let Ok(source) = open(path) {
        let _ = canonical(names(source.as_ref()));
        let _ = LoraKeys::find(source.tensors());
        for t in source.tensors() {
            let _ = source.read_f32(&t.name);
        }
    }
}

fn torture(original: &[u8], rounds: usize, seed: u64) {
    let (_folder, path) = file("model", original);
    let mut out = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..rounds {
        let mut bytes = original.to_vec();
        match round % 3 {
            0 => bytes.truncate(random.usize(..bytes.len())),
            1 => {
                let at = random.usize(..bytes.len());
                bytes[at] ^= 1 << random.usize(..8);
            }
            _ => {
                for _ in 0..=random.usize(..8) {
                    let at = random.usize(..bytes.len());
                    bytes[at] = random.u8(..);
                }
            }
        }
        // Rewritten in place: truncating to nothing first makes some file systems flush every time.
        out.rewind().unwrap();
        out.write_all(&bytes).unwrap();
        out.set_len(bytes.len() as u64).unwrap();
        read_all(&path);
    }
}

#[test]
fn no_bytes_make_it_panic() {
    let floats = [0u8; 48];
    let state = dict(&[
        ("w_a_000", tensor(storage("FloatStorage", "0", 12), 0, &[4, 3], &[1, 4])),
        ("w_b_000", tensor(storage("FloatStorage", "0", 12), 4, &[3, 2], &[2, 1])),
    ]);
    let (_folder, path) = pth(&program(dict(&[("model", state)])), &[("0", &floats)]);
    torture(&fs::read(path).unwrap(), 6000, 1);
    let small = safetensors(&[(info("a", &[2, 3], Dtype::F32), vec![0; 24]), (info("b", &[3], Dtype::U8), vec![0; 3])]);
    torture(&small, 3000, 2);
    for name in ["s224_k2_lora.pth", "s224_k2_lora.safetensors"] {
        if let Ok(bytes) = fs::read(fixtures().join(name)) {
            torture(&bytes, 150, 3);
        }
    }
}
