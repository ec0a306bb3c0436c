//! Models that are not SAM but look like it, or are often taken for it: what tells them, and what helps.
//!
//! A model that this program learns to read gets a table of names ([`names`](crate::names)) and loses its line
//! here.

use crate::error::{Error, ErrorKind};

/// A model that is recognised and not read.
struct Foreign {
    model: &'static str,
    /// Parts of names of tensors, or of classes of a pickled module: each must occur in some name.
    marks: &'static [&'static str],
    remedy: &'static str,
}

const USE_SAM: &str = "use a checkpoint of the first Segment Anything, as `samlora download vit_b` fetches it";

/// First the narrower ones: a checkpoint is the first whose marks it all has.
const FOREIGN: &[Foreign] = &[
    Foreign { model: "a PEFT adapter", marks: &["base_model.model.", "lora_A"], remedy: MERGE },
    Foreign { model: "a PEFT adapter", marks: &[".lora_A."], remedy: MERGE },
    Foreign { model: "a model with LoRA layers of loralib", marks: &[".lora_A"], remedy: MERGE_LORALIB },
    Foreign { model: "SAM 3", marks: &["detector.backbone."], remedy: USE_SAM },
    Foreign { model: "SAM 3", marks: &["detector_model."], remedy: USE_SAM },
    Foreign { model: "SAM 3", marks: &["vision_encoder.backbone.", "text_encoder."], remedy: USE_SAM },
    Foreign { model: "SAM 2", marks: &["image_encoder.trunk."], remedy: USE_SAM },
    Foreign { model: "SAM 2", marks: &["vision_encoder.backbone."], remedy: USE_SAM },
    Foreign { model: "SAM 2", marks: &["memory_attention."], remedy: USE_SAM },
    Foreign {
        model: "Light HQ-SAM (MobileSAM's encoder, TinyViT, with SAM-HQ's decoder)",
        marks: &["image_encoder.patch_embed.seq.", "mask_decoder.hf_"],
        remedy: USE_SAM,
    },
    Foreign { model: "SAM-HQ", marks: &["mask_decoder.hf_"], remedy: USE_SAM_HQ },
    Foreign { model: "SAM-HQ", marks: &["mask_decoder.hq_"], remedy: USE_SAM_HQ },
    Foreign { model: "SAM-HQ", marks: &["mask_decoder.compress_vit_"], remedy: USE_SAM_HQ },
    Foreign { model: "MobileSAM's image encoder alone (TinyViT)", marks: &["patch_embed.seq.0.c."], remedy: USE_LIGHT },
    Foreign { model: "EfficientSAM", marks: &["bbox_top_left_embeddings"], remedy: USE_LIGHT },
    Foreign { model: "EfficientSAM", marks: &["final_output_upscaling_layers."], remedy: USE_LIGHT },
    Foreign { model: "EfficientViT-SAM", marks: &["image_encoder.backbone.stages."], remedy: USE_LIGHT },
    Foreign { model: "EdgeSAM or RepViT-SAM", marks: &["token_mixer.", "mask_decoder."], remedy: USE_LIGHT },
    Foreign { model: "EdgeSAM's or RepViT-SAM's image encoder", marks: &["token_mixer."], remedy: USE_LIGHT },
    Foreign {
        model: "SAM with adapter layers in its blocks",
        marks: &["image_encoder.blocks.", "Adapter."],
        remedy: PLAIN,
    },
    Foreign { model: "FastSAM or YOLO", marks: &["ultralytics."], remedy: USE_LIGHT },
    Foreign { model: "FastSAM or YOLO", marks: &["model.22.cv2.0."], remedy: USE_LIGHT },
    Foreign { model: "FastSAM or YOLO", marks: &["model.0.conv.weight"], remedy: USE_LIGHT },
    Foreign { model: "Grounding DINO", marks: &["transformer.encoder.fusion_layers."], remedy: USE_SAM },
    Foreign { model: "CLIP", marks: &["visual.transformer.", "logit_scale"], remedy: USE_SAM },
    Foreign { model: "CLIP", marks: &["vision_model.encoder.", "logit_scale"], remedy: USE_SAM },
    Foreign {
        model: "a ViT that is no SAM (DINO, MAE or the like)",
        marks: &["cls_token", "blocks."],
        remedy: USE_SAM,
    },
    Foreign { model: "a ResNet", marks: &["layer1.0.conv1.weight"], remedy: USE_SAM },
];

const MERGE: &str = "merge it into its model in Python: model = model.merge_and_unload(), then \
                     model.save_pretrained(folder) or torch.save(model.state_dict(), file), and give that as the base";
const MERGE_LORALIB: &str = "merge them in Python: model.eval() does so, then save the rest: torch.save({k: v for \
                             k, v in model.state_dict().items() if \"lora_\" not in k}, file)";
const USE_SAM_HQ: &str = "use SAM's own checkpoint of the same size, as `samlora download vit_b` fetches it: SAM-HQ \
                          keeps its weights as they are and adds a decoder for prompts, which class masks do not use";
const USE_LIGHT: &str = "its encoder is another; use a checkpoint of the first Segment Anything, as `samlora download \
                         vit_b` fetches it, or SlimSAM, a smaller one of the same kind, as `samlora download slimsam_77` does";
const PLAIN: &str = "use the checkpoint of the first Segment Anything that it was trained from, and train LoRA on it";

/// The model that names of tensors or of pickled classes belong to, if it is one of those that are known and not read.
pub fn identify(names: &[&str]) -> Option<Error> {
    let has = |mark: &&str| names.iter().any(|name| name.contains(mark));
    let found = FOREIGN.iter().find(|foreign| foreign.marks.iter().all(has))?;
    let message = format!("this is {}, which samlora does not read", found.model);
    Some(Error::new(ErrorKind::Unsupported, message).remedy(found.remedy))
}

/// The first of `names`, for a message.
pub fn listed(names: &[&str]) -> String {
    let more = if names.len() > 3 { format!(" and {} more", names.len() - 3) } else { String::new() };
    format!("{}{more}", names.iter().take(3).copied().collect::<Vec<_>>().join(", "))
}
