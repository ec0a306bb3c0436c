"""Checks of what baselines.py measures with: `target/peers/venv/bin/python -m unittest discover -s tests/peers`."""
import itertools, json, pathlib, tempfile, unittest
import numpy as np, torch
from PIL import Image
import chips, metrics, unet

PLAIN = chips.AUGMENT | {"dihedral": False, "scale_chance": 0, "rotate_chance": 0, "rare_class_crops": 0} | dict.fromkeys(
    ("brightness", "contrast", "saturation", "channel_gain"), 0.0)


class Metrics(unittest.TestCase):
    def test_equals_the_definitions_on_sets_of_pixels(self):
        rng = np.random.default_rng(1)
        truth, prediction = rng.choice([0, 1, 2, metrics.IGNORE], (40, 30), p=[0.5, 0.3, 0.1, 0.1]), rng.integers(0, 4, (40, 30))
        found = metrics.metrics(metrics.confusion(truth, prediction, 5))
        pairs = [(t, p) for t, p in zip(truth.ravel().tolist(), prediction.ravel().tolist()) if t != metrics.IGNORE]
        ious = []
        for c, one in enumerate(found["classes"]):
            both = sum(t == p == c for t, p in pairs)
            either = sum(c in pair for pair in pairs)
            of = lambda part, whole: part / whole if whole else None
            ious.append(of(both, either))
            self.assertEqual(one["iou"], ious[-1])
            self.assertEqual(one["precision"], of(both, sum(p == c for _, p in pairs)))
            self.assertEqual(one["recall"], of(both, sum(t == c for t, _ in pairs)))
            self.assertEqual(one["f1"], of(2 * both, sum(p == c for _, p in pairs) + sum(t == c for t, _ in pairs)))
        self.assertEqual(ious[3], 0.0)                  # predicted, never labelled
        self.assertIsNone(ious[4])                      # neither
        self.assertAlmostEqual(found["mean_iou"], sum(ious[:4]) / 4)
        self.assertAlmostEqual(found["mean_iou_foreground"], sum(ious[1:4]) / 3)
        self.assertEqual(found["accuracy"], sum(t == p for t, p in pairs) / len(pairs))

    def test_a_known_case_and_refusals(self):
        counts = metrics.confusion([[0, 1], [1, 255]], [[0, 1], [0, 1]], 2)
        self.assertEqual(counts.tolist(), [[1, 0], [1, 1]])
        self.assertEqual([c["iou"] for c in metrics.metrics(counts)["classes"]], [0.5, 0.5])
        self.assertRaises(ValueError, metrics.confusion, [0, 1], [0], 2)
        self.assertRaises(ValueError, metrics.confusion, [0, 2], [0, 0], 2)
        self.assertIsNone(metrics.metrics(metrics.confusion([255], [0], 2))["accuracy"])


class Windows(unittest.TestCase):
    def test_blended_windows_of_a_pixelwise_model_are_the_whole_image(self):
        model = torch.nn.Conv2d(3, 3, 1)
        rng = np.random.default_rng(2)
        for height, width in ((64, 64), (100, 70), (40, 129), (9, 11)):
            image = rng.integers(0, 256, (height, width, 3), np.uint8)
            with torch.no_grad():
                whole = model(torch.from_numpy(chips.normalise(image).transpose(2, 0, 1))[None])[0].argmax(0)
            for overlap in (0, 16, 32):
                got = unet.predict(model, image, 64, overlap)
                self.assertEqual(got.shape, (height, width))
                self.assertGreater((got == whole.numpy()).mean(), 0.999)   # but for rounding between equal logits

    def test_the_network_has_its_size_and_shape(self):
        model = unet.UNet(2)
        self.assertAlmostEqual(sum(p.numel() for p in model.parameters()) / 1e6, 7.76, places=2)
        self.assertEqual(model(torch.zeros(2, 3, 32, 48)).shape, (2, 2, 32, 48))


class Loss(unittest.TestCase):
    def test_right_is_zero_wrong_is_large_and_ignored_pixels_have_no_gradient(self):
        target = torch.tensor([[[0, 1, 255, 1]]])
        right = 50.0 * torch.tensor([[[[1, -1, -1, -1]], [[-1, 1, 1, 1]]]])
        self.assertLess(unet.loss(right, target), 1e-5)
        self.assertGreater(unet.loss(-right, target), 1)
        logits = torch.randn(1, 2, 1, 4, requires_grad=True)
        unet.loss(logits, target).backward()
        self.assertEqual(logits.grad[..., 2].abs().sum(), 0)
        self.assertGreater(logits.grad[..., 1].abs().sum(), 0)
        self.assertTrue(unet.loss(logits, torch.full((1, 1, 4), 255)).isfinite())
        self.assertTrue(unet.loss(logits, torch.zeros(1, 1, 4, dtype=torch.long)).isfinite())


class Chips(unittest.TestCase):
    def test_label_and_image_stay_together_under_every_augmentation(self):
        rng = np.random.default_rng(3)
        labels = np.kron(rng.integers(0, 2, (8, 8)), np.ones((16, 16))).astype(np.uint8)
        image = np.repeat(labels[..., None] * 255, 3, 2)
        moved = PLAIN | {"dihedral": True, "scale_chance": 0.5, "rotate_chance": 0.5, "rare_class_crops": 0.5}
        for size in (48, 96, 160):
            for _ in range(20):
                x, y = chips.crop(image, labels, size, moved, rng)
                shown = x[0] * chips.STD[0] + chips.MEAN[0] > 127.5
                counted = y != chips.IGNORE
                self.assertGreater((shown == y)[counted].mean(), 0.97)
                self.assertTrue(counted.any() and (size > 128 or counted.mean() > 0.6))

    def test_a_plain_crop_is_a_cut(self):
        rng = np.random.default_rng(4)
        image, labels = rng.integers(0, 256, (40, 50, 3), np.uint8), rng.integers(0, 3, (40, 50), np.uint8)
        x, y = chips.crop(image, labels, 32, PLAIN, rng)
        pixels = (x.transpose(1, 2, 0) * chips.STD + chips.MEAN).round()
        cuts = [(t, l) for t, l in itertools.product(range(9), range(19)) if (labels[t:t + 32, l:l + 32] == y).all()]
        self.assertEqual(len(cuts), 1)
        (top, left), = cuts
        self.assertTrue((pixels == image[top:top + 32, left:left + 32]).all())

    def test_folders_names_keep_and_ignore(self):
        run = {"classes": [{"index": 0, "name": "background"}, {"index": 1, "name": "building"}], "values": [0, 1],
               "settings": {"dataset": {"keep": ["building"], "ignore": [9]}}}
        with tempfile.TemporaryDirectory() as place:
            plain, export = pathlib.Path(place, "a/chips"), pathlib.Path(place, "b/chips")
            for folder, masks, values in ((plain, "masks", [0, 1, 5, 9]), (export, "labels", [0, 10, 20, 9])):
                for part in ("images", masks):
                    (folder / part).mkdir(parents=True)
                Image.fromarray(np.zeros((1, 4, 3), np.uint8)).save(folder / "images/1.png")
                Image.fromarray(np.uint8([values])).save(folder / masks / "1.png")
            (export / "map.txt").write_text("images\\1.png  labels\\1.png \n")
            (export / "x.emd").write_text(json.dumps({"Classes": [{"Value": 10, "Name": "Building"}, {"Value": 20, "Name": "road"}]}))
            samples = [s for folder in (plain, export) for s in chips.open_folder(folder, run)]
            for sample in samples:                       # by value in the first folder, by name in the second
                self.assertEqual(chips.read(sample)[1].tolist(), [[0, 1, 0, 255]])
            self.assertEqual(chips.select(samples, ["b/chips/1"]), samples[1:])
            self.assertRaisesRegex(chips.DataError, "2 samples", chips.select, samples, ["chips/1"])
            del run["settings"]["dataset"]["keep"]
            self.assertRaisesRegex(chips.DataError, "value 5", chips.read, chips.open_folder(plain, run)[0])
            (plain / "masks/1.png").unlink()
            self.assertRaisesRegex(chips.DataError, "no mask", chips.open_folder, plain, run)


if __name__ == "__main__":
    unittest.main()
