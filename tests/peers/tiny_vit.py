"""MobileSAM's image encoder as published (PyPI: `mobilesam-lite`), for any input side that is a multiple of 16.

Its file takes four small things of `timm`, none of which computes anything here, and the package's `__init__` wants torchvision: a
stand-in for the one, and the file alone of the other, are enough.
"""
import importlib.util, pathlib, sys, types
import torch


def _published():
    layers, registry = types.ModuleType("timm.models.layers"), types.ModuleType("timm.models.registry")
    layers.DropPath = torch.nn.Identity                                   # never called: its rate is 0
    layers.to_2tuple = lambda side: (side, side)
    layers.trunc_normal_ = torch.nn.init.trunc_normal_
    registry.register_model = lambda function: function
    modules = {"timm": types.ModuleType("timm"), "timm.models": types.ModuleType("timm.models"),
               "timm.models.layers": layers, "timm.models.registry": registry}
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        package = pathlib.Path(importlib.util.find_spec("mobilesam_lite").origin).parent
        spec = importlib.util.spec_from_file_location("tiny_vit_sam", package / "mobile_sam/modeling/tiny_vit_sam.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        for name, old in before.items():
            sys.modules.pop(name) if old is None else sys.modules.__setitem__(name, old)
    return module.TinyViT


class TinyViT(_published()):
    """The published numbers (`build_sam.py`, `vit_t`)."""

    def __init__(self, size):
        with torch.device("cpu"):       # not "meta", on which the tables beside its weights would be lost
            super().__init__(img_size=size, in_chans=3, num_classes=1000, embed_dims=[64, 128, 160, 320], depths=[2, 2, 6, 2],
                             num_heads=[2, 4, 5, 10], window_sizes=[7, 7, 14, 7], mlp_ratio=4.0, drop_rate=0.0, drop_path_rate=0.0,
                             use_checkpoint=False, mbconv_expand_ratio=4.0, local_conv_size=3)

    def forward_features(self, x):
        """As published, but for the side of the grid, which is written there as 64."""
        side = x.shape[-1] // 16
        x = self.patch_embed(x)
        for layer in self.layers:
            x = layer(x)
        return self.neck(x.view(x.shape[0], side, side, x.shape[-1]).permute(0, 3, 1, 2))
