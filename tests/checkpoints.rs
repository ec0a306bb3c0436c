//! Checkpoint files: PyTorch's and safetensors readers, the writer, tensor names, and hostile input.
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

use std::collections::BTreeMap;
use std::fs;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use samlora::error::{ErrorKind, Result};
use samlora::lora::Target;
use samlora::weights::keys::{Factor, LoraKeys, Naming, canonical, lora_name, samed_name};
use samlora::weights::safetensors::{Writer, header_len, parse_header};
use samlora::weights::source::{Dtype, TensorInfo, TensorSource, open};
use tempfile::TempDir;

fn fixtures() -> PathBuf {
    match std::env::var_os("SAMLORA_FIXTURES") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity"),
    }
}

fn names(source: &dyn TensorSource) -> Vec<&str> {
    source.tensors().iter().map(|t| t.name.as_str()).collect()
}

fn message<T>(result: Result<T>) -> (ErrorKind, String) {
    match result {
        Ok(_) => panic!("this should have failed"),
        Err(e) => (e.kind(), e.to_string()),
    }
}

/// A file `name` of `bytes` in a new folder.
fn file(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn info(name: &str, shape: &[usize], dtype: Dtype) -> TensorInfo {
    TensorInfo { name: name.into(), shape: shape.into(), dtype }
}

#[test]
fn pytorch_and_safetensors_hold_the_same_tensors() {
    let mut pairs = 0;
    for entry in fs::read_dir(fixtures()).unwrap() {
        let pth = entry.unwrap().path();
        if pth.extension().is_none_or(|e| e != "pth") {
            continue;
        }
        let (a, b) = (open(&pth).unwrap(), open(pth.with_extension("safetensors")).unwrap());
        assert!(a.tensors().len() > 100);
        assert_eq!(a.tensors(), b.tensors(), "{}", pth.display());
        assert!(a.tensors().is_sorted_by(|x, y| x.name < y.name));
        for t in a.tensors() {
            let values = a.read_f32(&t.name).unwrap();
            assert_eq!(Some(values.len()), t.elements());
            assert_eq!(values, b.read_f32(&t.name).unwrap(), "{}", t.name);
        }
        pairs += 1;
    }
    assert!(pairs >= 2, "the fixtures folder lacks its .pth files");
}

#[test]
fn the_hash_is_that_of_the_file() {
    let (_folder, path) = file("a.safetensors", &safetensors(&[(info("a", &[1], Dtype::U8), vec![7])]));
    let hash = open(&path).unwrap().hash().unwrap();
    let expected = std::process::Command::new("sha256sum").arg(&path).output().unwrap();
    assert_eq!(hash, String::from_utf8_lossy(&expected.stdout)[..64]);
}

// Names.

#[test]
fn sam_names_stay() {
    let tiny = open(fixtures().join("tiny_sam.pth")).unwrap();
    let keys = canonical(names(tiny.as_ref())).unwrap();
    assert_eq!(keys.naming, Naming::Sam);
    assert!(keys.tensors.iter().all(|(own, name)| own == name));
    assert_eq!(keys.tensors.len(), tiny.tensors().len());
    for prefix in ["module.", "sam.", "model.", "module.sam."] {
        let wrapped: Vec<String> = names(tiny.as_ref()).iter().map(|n| format!("{prefix}{n}")).collect();
        let keys = canonical(wrapped.iter().map(String::as_str)).unwrap();
        assert!(keys.tensors.iter().all(|(own, name)| format!("{prefix}{own}") == *name));
    }
}

/// `convert_sam_to_hf.py` of `transformers`, as it renames.
fn to_hugging_face(name: &str) -> String {
    let mut name = name.to_owned();
    for (from, to) in [
        ("iou_prediction_head.layers.0", "iou_prediction_head.proj_in"),
        ("iou_prediction_head.layers.1", "iou_prediction_head.layers.0"),
        ("iou_prediction_head.layers.2", "iou_prediction_head.proj_out"),
        ("mask_decoder.output_upscaling.0", "mask_decoder.upscale_conv1"),
        ("mask_decoder.output_upscaling.1", "mask_decoder.upscale_layer_norm"),
        ("mask_decoder.output_upscaling.3", "mask_decoder.upscale_conv2"),
        ("mask_downscaling.0", "mask_embed.conv1"),
        ("mask_downscaling.1", "mask_embed.layer_norm1"),
        ("mask_downscaling.3", "mask_embed.conv2"),
        ("mask_downscaling.4", "mask_embed.layer_norm2"),
        ("mask_downscaling.6", "mask_embed.conv3"),
        ("point_embeddings", "point_embed"),
        ("pe_layer.positional_encoding_gaussian_matrix", "shared_embedding.positional_embedding"),
        ("image_encoder", "vision_encoder"),
        ("neck.0", "neck.conv1"),
        ("neck.1", "neck.layer_norm1"),
        ("neck.2", "neck.conv2"),
        ("neck.3", "neck.layer_norm2"),
        ("patch_embed.proj", "patch_embed.projection"),
        (".norm", ".layer_norm"),
        ("blocks", "layers"),
    ] {
        name = name.replace(from, to);
    }
    match name.split_once("output_hypernetworks_mlps.") {
        Some((head, tail)) => {
            let tail = tail.replacen(".layers.0", ".proj_in", 1);
            let tail = tail.replacen(".layers.1", ".layers.0", 1).replacen(".layers.2", ".proj_out", 1);
            format!("{head}output_hypernetworks_mlps.{tail}")
        }
        None => name,
    }
}

#[test]
fn hugging_face_names_are_mapped_back() {
    let tiny = open(fixtures().join("tiny_sam.pth")).unwrap();
    let mut face: Vec<String> = names(tiny.as_ref()).iter().map(|n| to_hugging_face(n)).collect();
    let back = |face: &[String]| {
        let keys = canonical(face.iter().map(String::as_str)).unwrap();
        assert_eq!(keys.naming, Naming::HuggingFace);
        assert_eq!(keys.tensors.len(), tiny.tensors().len());
        for own in names(tiny.as_ref()) {
            let stored = &keys.tensors[own];
            assert!(*stored == to_hugging_face(own) || stored == "shared_image_embedding.positional_embedding");
        }
        keys
    };
    // The tied copy alone, then both as `SamModel` saves them, then the shared one alone.
    assert!(back(&face).redundant.is_empty());
    face.push("shared_image_embedding.positional_embedding".into());
    assert_eq!(back(&face).redundant, ["prompt_encoder.shared_embedding.positional_embedding"]);
    face.retain(|n| n != "prompt_encoder.shared_embedding.positional_embedding");
    assert!(back(&face).redundant.is_empty());
}

#[test]
fn unknown_names_are_errors_that_name_them() {
    let (kind, text) = message(canonical(["conv1.weight", "fc.bias"]));
    assert_eq!(kind, ErrorKind::Unsupported);
    assert!(text.contains("conv1.weight"), "{text}");
    let (kind, text) = message(canonical(["image_encoder.pos_embed", "image_encoder.extra"]));
    assert_eq!(kind, ErrorKind::Format);
    assert!(text.contains("image_encoder.extra"), "{text}");
    assert!(message(canonical(["image_encoder.trunk.pos_embed"])).1.contains("SAM 2"));
    assert_eq!(message(canonical([])).0, ErrorKind::Format);
    let twice = ["image_encoder.blocks.0.attn.qkv.weight", "image_encoder.blocks.0.attn.qkv.qkv.weight"];
    assert!(message(canonical(twice)).1.contains("are both"));
}

#[test]
fn samed_adapters_are_recognised() {
    let mut found = 0;
    for (case, rank) in [("s224_k2", 4), ("s256_k4", 4), ("s96_k6", 8)] {
        let path = fixtures().join(format!("{case}_lora.pth"));
        if !path.exists() {
            continue; // another folder of this layout may have other cases
        }
        let source = open(path).unwrap();
        let lora = LoraKeys::find(source.tensors()).unwrap().unwrap();
        assert_eq!((lora.rank(), lora.blocks(), lora.pairs.len()), (Some(rank), 4, 8));
        assert_eq!(lora.targets(), [Target::Query, Target::Value]);
        let v1 = &lora.pairs[3];
        assert_eq!((v1.block, v1.target, v1.a.as_str(), v1.b.as_str()), (1, Target::Value, "w_a_003", "w_b_003"));
        assert_eq!((v1.inputs, v1.outputs), (48, 48));
        assert!(lora.rest.tensors.contains_key("mask_decoder.mask_tokens.weight"));
        assert_eq!(lora.rest.tensors.len() + 16, source.tensors().len());
        found += 1;
    }
    assert!(found > 0, "the fixtures folder lacks its adapters");
}

#[test]
fn real_adapters_are_recognised() {
    let Some(data) = std::env::var_os("SAMLORA_DATA") else {
        eprintln!("left out: SAMLORA_DATA is not set");
        return;
    };
    for rank in [4, 8] {
        let source = open(Path::new(&data).join(format!("sam-lora/lora_rank{rank}.safetensors"))).unwrap();
        let lora = LoraKeys::find(source.tensors()).unwrap().unwrap();
        assert_eq!((lora.rank(), lora.blocks(), lora.pairs.len()), (Some(rank), 12, 24));
        assert!(lora.rest.tensors.is_empty());
        assert_eq!((lora.pairs[0].inputs, lora.pairs[0].outputs), (768, 768));
    }
}

#[test]
fn adapters_in_every_naming() {
    let mut tensors = Vec::new();
    for (i, target) in Target::ALL.into_iter().enumerate() {
        tensors.push(info(&lora_name(7, target, Factor::A), &[i + 1, 32], Dtype::F32));
        tensors.push(info(&lora_name(7, target, Factor::B), &[64, i + 1], Dtype::F32));
    }
    let lora = LoraKeys::find(&tensors).unwrap().unwrap();
    assert_eq!(lora.pairs.iter().map(|p| p.rank).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert_eq!((lora.rank(), lora.blocks(), lora.targets()), (None, 8, Target::ALL.to_vec()));

    let block = "sam.image_encoder.blocks.5.attn.qkv.";
    let wrapped = [
        info(&format!("{block}qkv.weight"), &[96, 32], Dtype::F32),
        info(&format!("{block}qkv.bias"), &[96], Dtype::F32),
        info(&format!("{block}linear_a_q.weight"), &[4, 32], Dtype::F32),
        info(&format!("{block}linear_b_q.weight"), &[32, 4], Dtype::F32),
        info("sam.mask_decoder.iou_token.weight", &[1, 32], Dtype::F32),
    ];
    let lora = LoraKeys::find(&wrapped).unwrap().unwrap();
    assert_eq!((lora.pairs.len(), lora.pairs[0].block, lora.pairs[0].target), (1, 5, Target::Query));
    assert_eq!(lora.rest.naming, Naming::Wrapped);
    assert_eq!(lora.rest.tensors["image_encoder.blocks.5.attn.qkv.weight"], format!("{block}qkv.weight"));

    assert_eq!(samed_name(3, Target::Value, Factor::B).unwrap(), "w_b_007");
    assert!(samed_name(3, Target::Key, Factor::A).is_none());
    assert!(LoraKeys::find(&[info("image_encoder.pos_embed", &[1], Dtype::F32)]).unwrap().is_none());
    let half = [info("w_a_000", &[4, 32], Dtype::F32)];
    assert!(message(LoraKeys::find(&half)).1.contains("w_a_000"));
    let crooked = [info("w_a_000", &[4, 32], Dtype::F32), info("w_b_000", &[32, 5], Dtype::F32)];
    assert_eq!(message(LoraKeys::find(&crooked)).0, ErrorKind::Format);
    let decoder = [
        info("w_a_000", &[4, 32], Dtype::F32),
        info("w_b_000", &[32, 4], Dtype::F32),
        info("sa_a_000", &[4, 32], Dtype::F32),
    ];
    assert!(message(LoraKeys::find(&decoder)).1.contains("SAMed_s"));
}

// Safetensors.

fn safetensors(tensors: &[(TensorInfo, Vec<u8>)]) -> Vec<u8> {
    let infos: Vec<_> = tensors.iter().map(|(info, _)| info.clone()).collect();
    let mut writer = Writer::new(Vec::new(), &infos, &BTreeMap::new()).unwrap();
    for (info, bytes) in tensors {
        writer.tensor(&info.name, bytes).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn what_is_written_is_read() {
    let metadata = BTreeMap::from([("alpha".to_owned(), "8".to_owned()), ("é\"".to_owned(), "\n".to_owned())]);
    let tensors = [
        (info("z", &[2, 2], Dtype::F32), [1f32, -2.0, 0.5, 3.0].map(f32::to_le_bytes).concat()),
        (info("half", &[2], Dtype::F16), vec![0x00, 0x3c, 0x00, 0xc0]),
        (info("q", &[3], Dtype::I8), vec![0xff, 0, 127]),
        (info("packed", &[3], Dtype::U8), vec![255, 0, 1]),
        (info("none", &[0, 4], Dtype::F32), vec![]),
        (info("scalar", &[], Dtype::F64), 2.5f64.to_le_bytes().to_vec()),
    ];
    let infos: Vec<_> = tensors.iter().map(|(info, _)| info.clone()).collect();
    let mut writer = Writer::new(Vec::new(), &infos, &metadata).unwrap();
    for (info, bytes) in &tensors {
        writer.tensor(&info.name, bytes).unwrap();
    }
    let bytes = writer.finish().unwrap();
    // The reference implementation takes it too.
    assert_eq!(::safetensors::SafeTensors::deserialize(&bytes).unwrap().len(), tensors.len());

    let header = parse_header(&bytes).unwrap();
    assert_eq!(header.metadata, metadata);
    assert_eq!((header.data_start % 8, header.file_len), (0, bytes.len()));
    assert_eq!(parse_header(&bytes[..header_len(&bytes).unwrap()]).unwrap(), header);
    for (found, (info, data)) in header.tensors.iter().zip(&tensors) {
        assert_eq!((&found.info, &bytes[found.range.clone()]), (info, data.as_slice()));
    }
    let (_folder, path) = file("model.bin", &bytes); // recognised by content
    let source = open(path).unwrap();
    assert_eq!(names(source.as_ref()), ["half", "none", "packed", "q", "scalar", "z"]);
    assert_eq!(source.read_f32("z").unwrap(), [1.0, -2.0, 0.5, 3.0]);
    assert_eq!(source.read_f32("half").unwrap(), [1.0, -2.0]);
    assert_eq!(source.read_f32("q").unwrap(), [-1.0, 0.0, 127.0]);
    assert_eq!(source.read_f32("scalar").unwrap(), [2.5]);
    assert_eq!(message(source.read_f32("nowhere")).0, ErrorKind::NotFound);
}

#[test]
fn the_writer_refuses_what_was_not_announced() {
    let tensors = [info("a", &[2], Dtype::U8), info("b", &[1], Dtype::U8)];
    let start = || Writer::new(Vec::new(), &tensors, &BTreeMap::new()).unwrap();
    assert!(start().tensor("b", &[0]).is_err());
    assert!(start().tensor("a", &[0]).is_err());
    let mut one = start();
    one.tensor("a", &[0, 0]).unwrap();
    assert!(message(one.finish()).1.contains("tensor b"));
    assert!(Writer::new(Vec::new(), &[tensors[0].clone(), tensors[0].clone()], &BTreeMap::new()).is_err());
    let huge = info("huge", &[usize::MAX, 2], Dtype::U8);
    assert_eq!(message(Writer::new(Vec::new(), &[huge], &BTreeMap::new())).0, ErrorKind::Limit);
}

#[test]
fn hostile_safetensors_headers() {
    let with = |json: &str, data: usize| {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(json.as_bytes());
        bytes.extend(vec![0; data]);
        bytes
    };
    assert_eq!(message(parse_header(&[0xff; 16])).0, ErrorKind::Limit);
    for (json, data) in [
        ("", 0),
        ("[]", 0),
        ("{\"a\":1}", 0),
        (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, 4),
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8),
        (r#"{"a":{"dtype":"F32","shape":[18446744073709551615,3],"data_offsets":[0,4]}}"#, 4),
        (r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, 4),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#,
            4,
        ),
        (r#"{"a":{"dtype":"X","shape":[1],"data_offsets":[0,4]}}"#, 4),
    ] {
        assert_eq!(message(parse_header(&with(json, data))).0, ErrorKind::Format, "{json}");
    }
    let complex = with(r#"{"a":{"dtype":"U64","shape":[1],"data_offsets":[0,8]}}"#, 8);
    let (kind, text) = message(parse_header(&complex));
    assert!(kind == ErrorKind::Unsupported && text.contains("tensor a"), "{text}");
    // A file that is shorter or longer than its header says.
    let good = safetensors(&[(info("a", &[2], Dtype::F32), vec![0; 8])]);
    for bytes in [&good[..good.len() - 1], &[&good[..], &[0]].concat()] {
        let (_folder, path) = file("a.safetensors", bytes);
        assert!(message(open(path)).1.contains("its header says"));
    }
    let (_folder, path) =
        file("nan.safetensors", &safetensors(&[(info("a", &[2], Dtype::BF16), vec![0, 0, 0xc0, 0x7f])]));
    let (kind, text) = message(open(path).unwrap().read_f32("a"));
    assert!(kind == ErrorKind::Format && text.contains("tensor a: element 1 is NaN"), "{text}");
}

#[test]
fn sharded_folders() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    write("model-1.safetensors", &safetensors(&[(info("b", &[1], Dtype::U8), vec![1])]));
    write("model-2.safetensors", &safetensors(&[(info("a", &[1], Dtype::U8), vec![2])]));
    let index = |text: &str| write("model.safetensors.index.json", text.as_bytes());
    index(r#"{"metadata":{},"weight_map":{"a":"model-2.safetensors","b":"model-1.safetensors"}}"#);
    for path in [folder.path().to_owned(), folder.path().join("model.safetensors.index.json")] {
        let source = open(path).unwrap();
        assert_eq!(names(source.as_ref()), ["a", "b"]);
        assert_eq!((source.read_f32("a").unwrap(), source.read_f32("b").unwrap()), (vec![2.0], vec![1.0]));
        assert_eq!(source.hash().unwrap().len(), 64);
    }
    for (text, part) in [
        (r#"{"weight_map":{"a":"model-2.safetensors","b":"../model-1.safetensors"}}"#, "plain file name"),
        (r#"{"weight_map":{"a":"model-2.safetensors","b":"/etc/passwd"}}"#, "plain file name"),
        (r#"{"weight_map":{"a":"model-2.safetensors","b":"model-2.safetensors"}}"#, "b is missing"),
        (r#"{"weight_map":{"b":"model-1.safetensors","a":"model-1.safetensors"}}"#, "a is missing"),
        (r#"{"weight_map":{"a":"model-2.safetensors","b":"model-3.safetensors"}}"#, "model-3"),
        (r#"{"weights":1}"#, "not an index"),
    ] {
        index(text);
        let text = message(open(folder.path())).1;
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn other_files_are_refused_with_a_reason() {
    let legacy = [0x80, 2, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
    for (bytes, kind, part) in [
        (&b""[..], ErrorKind::Format, "empty"),
        (&legacy[..], ErrorKind::Unsupported, "torch.save"),
        (b"<!DOCTYPE html>", ErrorKind::Unsupported, "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", ErrorKind::Unsupported, "git lfs pull"),
        (b"\x89PNG\r\n\x1a\n0000", ErrorKind::Unsupported, "no checkpoint"),
        (b"PK\x03\x04 and no more", ErrorKind::Format, "truncated"),
    ] {
        let (_folder, path) = file("model.pth", bytes);
        let (found, text) = message(open(path));
        assert!(found == kind && text.contains(part) && text.contains("model.pth"), "{text}");
    }
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(message(open(folder.path())).0, ErrorKind::NotFound);
    assert_eq!(message(open(folder.path().join("nothing.pth"))).0, ErrorKind::NotFound);
}

// PyTorch: pickles written here, opcode by opcode.

/// Protocol 2 opcodes of what PyTorch writes.
mod opcode {
    pub fn text(s: &str) -> Vec<u8> {
        [&b"X"[..], &(s.len() as u32).to_le_bytes(), s.as_bytes()].concat()
    }
    pub fn int(n: i32) -> Vec<u8> {
        [&b"J"[..], &n.to_le_bytes()].concat()
    }
    pub fn ints(values: &[i32]) -> Vec<u8> {
        [b"(".to_vec(), values.iter().flat_map(|&n| int(n)).collect(), b"t".to_vec()].concat()
    }
    pub fn global(module: &str, name: &str) -> Vec<u8> {
        format!("c{module}\n{name}\n").into_bytes()
    }
    pub fn storage(class: &str, key: &str, len: i32) -> Vec<u8> {
        let parts = [text("storage"), global("torch", class), text(key), text("cpu"), int(len)].concat();
        [b"(", &parts[..], b"tQ"].concat()
    }
    pub fn tensor(storage: Vec<u8>, offset: i32, shape: &[i32], strides: &[i32]) -> Vec<u8> {
        let hooks = [global("collections", "OrderedDict"), b")R".to_vec()].concat();
        let arguments = [storage, int(offset), ints(shape), ints(strides), b"\x89".to_vec(), hooks].concat();
        [global("torch._utils", "_rebuild_tensor_v2"), b"(".to_vec(), arguments, b"tR".to_vec()].concat()
    }
    pub fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let items = entries.iter().flat_map(|(k, v)| [text(k), v.clone()].concat()).collect();
        [b"}(".to_vec(), items, b"u".to_vec()].concat()
    }
    pub fn program(value: Vec<u8>) -> Vec<u8> {
        [b"\x80\x02".to_vec(), value, b".".to_vec()].concat()
    }
}
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

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % n
    }
}

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
    let mut random = Random(seed);
    for round in 0..rounds {
        let mut bytes = original.to_vec();
        match round % 3 {
            0 => bytes.truncate(random.below(bytes.len())),
            1 => {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
            _ => {
                for _ in 0..=random.below(8) {
                    let at = random.below(bytes.len());
                    bytes[at] = random.below(256) as u8;
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
