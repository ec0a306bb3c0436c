"""Writes full-size SAM checkpoints with seeded random weights in the names of their projects, as .safetensors and .pth.

    python3 tests/peers/encoder.py --setup            # once: the environment
    target/peers/venv/bin/python tests/peers/make_checkpoints.py OUT_DIR [vit_b vit_l vit_h ...] [--seed 7]

Tensors are drawn and written one by one, and the .pth is saved from the mapped .safetensors, so that a ViT-H (2.6 GB)
takes a few hundred MB of memory besides the mapped file. The .pth is what `torch.save(model.state_dict(), f)` writes,
module versions (`_metadata`) included.
"""
import argparse, functools, importlib.util, json, math, pathlib, sys
import numpy as np, torch

# The package's __init__ imports torchvision, which the model itself does not need: take its submodules without it.
_spec = importlib.util.find_spec("segment_anything")
sys.modules["segment_anything"] = importlib.util.module_from_spec(_spec)
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer  # noqa: E402
from lite0 import Lite0  # noqa: E402
from tiny_vit import TinyViT  # noqa: E402

SAM = dict(window_size=14, out_chans=256, decoder_heads=8, decoder_mlp=2048, iou_hidden=256)
BACKBONES = {                                            # the numbers of src/config.rs
    "vit_b": SAM | dict(embed_dim=768, depth=12, num_heads=12, global_attn_indexes=[2, 5, 8, 11]),
    "vit_l": SAM | dict(embed_dim=1024, depth=24, num_heads=16, global_attn_indexes=[5, 11, 17, 23]),
    "vit_h": SAM | dict(embed_dim=1280, depth=32, num_heads=16, global_attn_indexes=[7, 15, 23, 31]),
    "slimsam_77": SAM | dict(embed_dim=168, mlp_dim=696, depth=12, num_heads=12, global_attn_indexes=[2, 5, 8, 11]),
    "slimsam_50": SAM | dict(embed_dim=384, depth=12, num_heads=12, global_attn_indexes=[2, 5, 8, 11]),
    "mobile_sam": SAM | dict(encoder=TinyViT),
    "lite0": SAM | dict(encoder=lambda _: Lite0()),
    "tiny": SAM | dict(embed_dim=48, depth=4, num_heads=3, global_attn_indexes=[1, 3], out_chans=32, decoder_heads=4,
                       decoder_mlp=64, iou_hidden=32),
}
PARAMETERS = {"vit_b": 93_735_472, "vit_l": 312_342_832, "vit_h": 641_090_608}            # what Meta publishes
# MobileSAM's file has 321,640 more: of a head and its norm, which SAM does not use. lite0's norms are folded.
PARAMETERS_LIGHT = {"slimsam_77": 9_723_528, "slimsam_50": 27_961_776, "mobile_sam": 9_808_452 + 321_640, "lite0": 7_705_120}
PRETRAINED_SIZE = 1024


def encoder(c, size):
    """The image encoder of config `c` for `size` px input, on the current default device."""
    if "encoder" in c:
        return c["encoder"](size)
    ratio = (c.get("mlp_dim", 4 * c["embed_dim"]) + 0.5) / c["embed_dim"]    # the constructor takes int(ratio * embed_dim)
    return ImageEncoderViT(
        depth=c["depth"], embed_dim=c["embed_dim"], img_size=size, mlp_ratio=ratio, num_heads=c["num_heads"], patch_size=16,
        norm_layer=functools.partial(torch.nn.LayerNorm, eps=1e-6), qkv_bias=True, use_rel_pos=True,
        global_attn_indexes=c["global_attn_indexes"], window_size=c["window_size"], out_chans=c["out_chans"])


def skeleton(c):
    """The whole SAM of config `c` at its pretrained size with shapes but no weights."""
    size, out = PRETRAINED_SIZE, c["out_chans"]
    with torch.device("meta"):
        prompts = PromptEncoder(embed_dim=out, image_embedding_size=(size // 16, size // 16),
                                input_image_size=(size, size), mask_in_chans=16)
        decoder = MaskDecoder(
            num_multimask_outputs=3, transformer_dim=out, iou_head_depth=3, iou_head_hidden_dim=c["iou_hidden"],
            transformer=TwoWayTransformer(depth=2, embedding_dim=out, mlp_dim=c["decoder_mlp"], num_heads=c["decoder_heads"]))
        return Sam(image_encoder=encoder(c, size), prompt_encoder=prompts, mask_decoder=decoder)


def draw(name, shape, rng):
    """Weights with enough spread that a wrong axis or a missing bias shows; norms near 1 (as the parity fixtures)."""
    x = rng.standard_normal(shape, dtype=np.float32)
    norm = any(s in name for s in ("norm", ".bn.", "upscaling.1.", "downscaling.1.", "downscaling.4.", "neck.1.", "neck.3."))
    if name.endswith("running_var"):
        return 0.5 + np.abs(x)
    if len(shape) == 1:
        return 1 + 0.2 * x if norm and name.endswith("weight") else 0.1 * x
    if "rel_pos" in name or "pos_embed" in name or "attention_biases" in name:
        return 0.3 * x
    if "gaussian_matrix" in name:
        return x
    return x * np.float32(1.2 / math.sqrt(math.prod(shape[1:])))


def write(backbone, out, seed):
    """Writes `OUT/sam_<backbone>.safetensors` and `.pth`; returns the number of parameters (buffers not counted)."""
    model = skeleton(BACKBONES[backbone])
    count = sum(p.numel() for p in model.parameters())
    assert count == (PARAMETERS | PARAMETERS_LIGHT).get(backbone, count), f"{backbone}: {count} parameters"
    # In the model's order; without the counters of batch norms, which tell of training and nothing else.
    state = {k: t for k, t in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, t in state.items():
        header[name] = dict(dtype="F32", shape=list(t.shape), data_offsets=[end, end + 4 * t.numel()])
        end += 4 * t.numel()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path = out / f"sam_{backbone}.safetensors"
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for i, (name, t) in enumerate(state.items()):
            f.write(np.ascontiguousarray(draw(name, tuple(t.shape), np.random.default_rng([seed, i])), "<f4").data)
    for name, t in state.items():
        offset = 8 + len(text) + header[name]["data_offsets"][0]
        state[name] = torch.from_numpy(np.memmap(path, "<f4", "c", offset, tuple(t.shape)))
    torch.save(state, path.with_suffix(".pth"))
    return count


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("out", type=pathlib.Path)
    ap.add_argument("backbones", nargs="*", default=list(PARAMETERS), help=f"of {', '.join(BACKBONES)}; default: Meta's three")
    ap.add_argument("--seed", type=int, default=7)
    a = ap.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    for backbone in a.backbones:
        print(f"{backbone}: {write(backbone, a.out, a.seed):,} parameters, {a.out}/sam_{backbone}.safetensors and .pth")


if __name__ == "__main__":
    main()
