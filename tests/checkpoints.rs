//! Checkpoint files: safetensors reader and writer, tensor names, recognition by content.
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use samlora::error::ErrorKind;
use samlora::lora::Target;
use samlora::weights::keys::{LoraKeys, Naming, Side, canonical, lora_name, samed_name};
use samlora::weights::safetensors::{Writer, header_len, parse_header};
use samlora::weights::source::{Dtype, open};

#[path = "common/files.rs"]
mod files;

use files::{file, fixtures, info, message, names, safetensors};

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
fn known_models_that_are_not_read_are_named_with_a_remedy() {
    for (names, model) in [
        (&["patch_embed.seq.0.c.weight", "layers.0.blocks.0.conv1.c.weight"][..], "MobileSAM"),
        (
            &["image_encoder.pos_embed", "mask_decoder.hf_token.weight", "mask_decoder.compress_vit_feat.0.weight"],
            "SAM-HQ",
        ),
        (&["vision_encoder.pos_embed", "mask_decoder.hq_token.weight"], "SAM-HQ"),
        (&["image_encoder.patch_embed.seq.0.c.weight", "mask_decoder.hf_token.weight"], "Light HQ-SAM"),
        (
            &[
                "image_encoder.blocks.0.mlp.fc1.weight",
                "image_encoder.pos_embed",
                "prompt_encoder.bbox_top_left_embeddings.weight",
            ],
            "EfficientSAM",
        ),
        (
            &[
                "base_model.model.vision_encoder.layers.0.attn.qkv.lora_A.weight",
                "base_model.model.vision_encoder.layers.0.attn.qkv.lora_B.weight",
            ],
            "PEFT",
        ),
        (
            &[
                "base_model.model.image_encoder.pos_embed",
                "base_model.model.image_encoder.blocks.0.attn.qkv.lora_A.default.weight",
            ],
            "PEFT",
        ),
        (&["image_encoder.pos_embed", "image_encoder.blocks.0.attn.qkv.lora_A"], "loralib"),
        (&["image_encoder.trunk.pos_embed", "memory_attention.norm.weight"], "SAM 2"),
        (&["detector.backbone.vision_backbone.trunk.blocks.0.attn.qkv.weight"], "SAM 3"),
        (&["model.0.conv.weight", "model.22.cv2.0.0.conv.weight"], "FastSAM or YOLO"),
        (
            &[
                "image_encoder.features.0.0.c.weight",
                "image_encoder.features.1.token_mixer.0.conv.c.weight",
                "mask_decoder.iou_token.weight",
            ],
            "EdgeSAM",
        ),
    ] {
        let (kind, text) = message(canonical(names.iter().copied()));
        assert_eq!(kind, ErrorKind::Unsupported, "{text}");
        assert!(text.contains(model) && text.contains('(') && !text.contains("remove them"), "{text}");
        let tensors: Vec<_> = names.iter().map(|name| info(name, &[1], Dtype::F32)).collect();
        assert!(LoraKeys::find(&tensors).unwrap().is_none());
    }
}

#[test]
fn any_prefix_is_taken_off_and_what_does_not_have_it_is_passed_over() {
    let tiny = open(fixtures().join("tiny_sam.pth")).unwrap();
    for prefix in ["_orig_mod.module.", "sam_model.", "student.backbone.sam."] {
        let mut wrapped: Vec<String> = names(tiny.as_ref()).iter().map(|n| format!("{prefix}{n}")).collect();
        wrapped.push("loss.weight".into());
        wrapped.push(format!("{prefix}pixel_mean"));
        let keys = canonical(wrapped.iter().map(String::as_str)).unwrap();
        assert_eq!(
            (keys.tensors.len(), keys.beside.as_slice()),
            (tiny.tensors().len(), &["loss.weight".to_owned()][..])
        );
        assert_eq!(keys.redundant, [format!("{prefix}pixel_mean")]);
        // Within the prefix nothing is passed over.
        wrapped.push(format!("{prefix}image_encoder.extra"));
        let (kind, text) = message(canonical(wrapped.iter().map(String::as_str)));
        assert!(kind == ErrorKind::Format && text.contains("image_encoder.extra"), "{text}");
    }
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
        tensors.push(info(&lora_name(7, target, Side::A), &[i + 1, 32], Dtype::F32));
        tensors.push(info(&lora_name(7, target, Side::B), &[64, i + 1], Dtype::F32));
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

    assert_eq!(samed_name(3, Target::Value, Side::B).unwrap(), "w_b_007");
    assert!(samed_name(3, Target::Key, Side::A).is_none());
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
