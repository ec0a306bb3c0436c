"""SAM's mask decoder without prompts as ONNX, from a checkpoint: embedding to logits, classes and confidences.

    target/peers/venv/bin/python tests/peers/export_decoder.py BACKBONE SIZE CHECKPOINT OUT
"""
import contextlib, sys
import torch, torch.nn.functional as F
from make_checkpoints import BACKBONES, MaskDecoder, PromptEncoder, TwoWayTransformer


class Decoder(torch.nn.Module):
    """What samlora computes after the encoder: every mask token's logits, resampled to pixels, softmax and argmax."""

    def __init__(self, config, size, state):
        super().__init__()
        out, grid = config["out_chans"], size // 16
        self.size = size
        self.decoder = MaskDecoder(
            num_multimask_outputs=3, transformer_dim=out, iou_head_depth=3, iou_head_hidden_dim=config["iou_hidden"],
            transformer=TwoWayTransformer(depth=2, embedding_dim=out, mlp_dim=config["decoder_mlp"], num_heads=config["decoder_heads"]))
        prompts = PromptEncoder(embed_dim=out, image_embedding_size=(grid, grid), input_image_size=(size, size), mask_in_chans=16)
        part = lambda name: {k.removeprefix(name): v for k, v in state.items() if k.startswith(name)}
        self.decoder.load_state_dict(part("mask_decoder."))
        prompts.load_state_dict(part("prompt_encoder."))
        sparse, dense = prompts(points=None, boxes=None, masks=None)
        dense = dense[..., :1, :1]                                   # the same everywhere
        for name, value in dict(positions=prompts.get_dense_pe(), sparse=sparse, dense=dense).items():
            self.register_buffer(name, value.detach())

    def forward(self, embedding):
        logits, _ = self.decoder.predict_masks(embedding, self.positions, self.sparse, self.dense)
        pixels = F.interpolate(logits, (self.size, self.size), mode="bilinear", align_corners=False)
        confidence, classes = pixels.softmax(1).max(1)
        return logits, classes.to(torch.uint8), (confidence * 255).round().to(torch.uint8)


def main(backbone, size, checkpoint, out):
    config, size = BACKBONES[backbone], int(size)
    model = Decoder(config, size, torch.load(checkpoint, weights_only=True)).eval().requires_grad_(False)
    embedding = torch.randn(1, config["out_chans"], size // 16, size // 16)
    with contextlib.redirect_stdout(sys.stderr):
        torch.onnx.export(model, (embedding,), out, input_names=["embedding"], output_names=["logits", "classes", "confidence"],
                          opset_version=17, dynamo=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
