"""EfficientNet-Lite0 under SAM's neck: the encoder of samlora's `lite0`, in PyTorch and in samlora's names.

Blocks after `efficientnet_lite_builder.py` of `tensorflow/tpu`, batch norms folded into the convolutions before them, TensorFlow's `SAME`
padding. The embedding is what the eleventh block gives at a sixteenth of the image's side, and beside it what the last gives at a
thirty-second, each pixel as two by two. `tests/lite0.rs` compares samlora with `efficientnet_lite_pytorch`, encoder.py with this.
"""
import torch
import torch.nn.functional as F
from segment_anything.modeling.common import LayerNorm2d

# Channels in and out, side of the depthwise kernel, stride (src/config/lite.rs).
BLOCKS = [(16, 24, 3, 2), (24, 24, 3, 1), (24, 40, 5, 2), (40, 40, 5, 1), (40, 80, 3, 2), (80, 80, 3, 1), (80, 80, 3, 1),
          (80, 112, 5, 1), (112, 112, 5, 1), (112, 112, 5, 1), (112, 192, 5, 2), (192, 192, 5, 1), (192, 192, 5, 1),
          (192, 192, 5, 1), (192, 320, 3, 1)]
TAPPED = 10


class Same(torch.nn.Conv2d):
    """A convolution with `SAME` padding of sides that are multiples of its stride."""

    def __init__(self, inputs, outputs, kernel, stride=1, groups=1):
        super().__init__(inputs, outputs, kernel, stride, groups=groups)
        before = (kernel - stride) // 2
        self.border = (before, kernel - stride - before) * 2

    def forward(self, x):
        return super().forward(F.pad(x, self.border) if any(self.border) else x)


class Pointwise(torch.nn.Linear):
    """A 1x1 convolution, whose weight is a matrix."""

    def forward(self, x):
        return F.conv2d(x, self.weight[:, :, None, None], self.bias)


class First(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.depthwise, self.project = Same(32, 32, 3, groups=32), Pointwise(32, 16)

    def forward(self, x):
        return self.project(F.relu6(self.depthwise(x)))


class Block(torch.nn.Module):
    def __init__(self, inputs, outputs, kernel, stride):
        super().__init__()
        hidden = 6 * inputs
        self.expand, self.project = Pointwise(inputs, hidden), Pointwise(hidden, outputs)
        self.depthwise = Same(hidden, hidden, kernel, stride, groups=hidden)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x):
        y = self.project(F.relu6(self.depthwise(F.relu6(self.expand(x)))))
        return x + y if self.adds else y


class Lite0(torch.nn.Module):
    def __init__(self, out_chans=256):
        super().__init__()
        self.stem, self.first = Same(3, 32, 3, 2), First()
        self.blocks = torch.nn.ModuleList(Block(*sizes) for sizes in BLOCKS)
        self.neck = torch.nn.Sequential(
            torch.nn.Conv2d(112 + 320, out_chans, 1, bias=False), LayerNorm2d(out_chans),
            torch.nn.Conv2d(out_chans, out_chans, 3, padding=1, bias=False), LayerNorm2d(out_chans))

    def forward(self, x):
        x = self.first(F.relu6(self.stem(x)))
        for block in self.blocks[:TAPPED]:
            x = block(x)
        coarse = x
        for block in self.blocks[TAPPED:]:
            coarse = block(coarse)
        return self.neck(torch.cat([x, F.interpolate(coarse, scale_factor=2.0, mode="nearest")], 1))
