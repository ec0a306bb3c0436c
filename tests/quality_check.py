"""Computes borders, objects, confidences, intervals and calibrations with numpy and scipy, and compares what tests/train_metrics.rs has of
them: python quality_check.py cases.json"""

import json
import math
import sys
from pathlib import Path

import numpy as np
from scipy import ndimage, optimize
from scipy.special import log_softmax

# Both sides divide the same counts in double precision.
TOLERANCE = 1e-12
# A fit ends where the loss no longer falls.
LOSS_TOLERANCE = 1e-6
BINS = 15
SQUARE = np.ones((3, 3))


def same(name, ours, theirs, tolerance=TOLERANCE):
    """`None` stands for an undefined figure."""
    if ours is None or theirs is None:
        assert ours is None and theirs is None, (name, ours, theirs)
    else:
        assert abs(ours - theirs) <= tolerance, (name, ours, theirs)


def quotient(part, whole):
    return part / whole if whole else None


def mean(values):
    values = [v for v in values if v is not None]
    return float(np.mean(values)) if values else None


def band(mask, d):
    """`mask_to_boundary` of https://github.com/bowenc0221/boundary-iou-api, whose erosion is OpenCV's."""
    padded = np.pad(mask, 1)
    eroded = ndimage.binary_erosion(padded, SQUARE, iterations=d)[1:-1, 1:-1]
    return mask & ~eroded


def boundary_pixels(text, width, height):
    if text.endswith("px"):
        return int(float(text[:-2]))
    return max(1, round(float(text[:-1]) / 100 * math.sqrt(width**2 + height**2)))


def objects(truth, prediction, c):
    """Matches every pair of IoU 0.5 and more, the best first."""
    (a, n), (b, m) = (ndimage.label(plane == c) for plane in (truth, prediction))  # 4-connected
    pairs = []
    for i in range(1, n + 1):
        for j in np.unique(b[a == i]):
            if j:
                iou = ((a == i) & (b == j)).sum() / ((a == i) | (b == j)).sum()
                pairs.append((-iou, i, int(j)))
    left, right, matched = set(), set(), 0
    for iou, i, j in sorted(p for p in pairs if -p[0] >= 0.5):
        if i not in left and j not in right:
            left.add(i), right.add(j)
            matched += 1
    return [matched, n, m]


def splitmix(state):
    mask = (1 << 64) - 1
    while True:
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        yield z ^ (z >> 31)


def means(counts):
    """Of [classes, 8]: pixels in both, labelled, predicted; boundary in both, in either; objects matched, labelled, predicted."""
    iou = [quotient(c[0], c[1] + c[2] - c[0]) for c in counts[1:]]
    boundary = [quotient(c[3], c[4]) for c in counts[1:]]
    f1 = [quotient(2 * c[5], c[6] + c[7]) for c in counts[1:]]
    return {"iou": mean(iou), "boundary_iou": mean(boundary), "object_f1": mean(f1)}


def check_counts(name, image, d, ignore):
    shape = (image["height"], image["width"])
    truth, prediction = (np.array(image[plane]).reshape(shape) for plane in ("truth", "prediction"))
    prediction = np.where(truth == ignore, ignore, prediction)
    rows = []
    for c, ours in enumerate(image["counts"]):
        t, p = truth == c, prediction == c
        assert ours["pixels"] == [int((t & p).sum()), int(t.sum()), int(p.sum())], (name, c)
        bt, bp = band(t, d), band(p, d)
        assert ours["boundary"] == [int((bt & bp).sum()), int((bt | bp).sum())], (name, c, ours["boundary"])
        found = [0, 0, 0] if c == 0 else objects(truth, prediction, c)
        assert ours["objects"] == found, (name, c, ours["objects"], found)
        rows.append(ours["pixels"] + ours["boundary"] + ours["objects"])
    return rows


def check_confidence(case, ignore):
    planes = [np.concatenate([np.array(i[plane]) for i in case["images"]]) for plane in ("truth", "prediction", "confidence")]
    truth, prediction, confidence = (plane[planes[0] != ignore] for plane in planes)
    right = truth == prediction
    bins = np.minimum(confidence * BINS // 255, BINS - 1)
    error = 0.0
    for i, ours in enumerate(case["summary"]["reliability"]):
        there = bins == i
        assert ours["pixels"] == there.sum()
        if there.any():
            same("accuracy", ours["accuracy"], right[there].mean())
            same("confidence", ours["confidence"], (confidence[there] / 255).mean())
            error += there.mean() * abs(right[there].mean() - (confidence[there] / 255).mean())
    same("calibration error", case["summary"]["calibration_error"], error)
    for c, curve in enumerate(case["curves"]):
        for point in curve:
            kept = (prediction == c) & (confidence >= 255 * point["threshold"])
            found = int((kept & (truth == c)).sum())
            labelled = int((truth == c).sum())
            same("precision", point["precision"], quotient(found, int(kept.sum())))
            same("recall", point["recall"], quotient(found, labelled))
            same("F1", point["f1"], quotient(2 * found, labelled + int(kept.sum())))
            same("IoU", point["iou"], quotient(found, labelled + int(kept.sum()) - found))


def check_case(case, ignore):
    counts = []
    for n, image in enumerate(case["images"]):
        d = boundary_pixels(case["boundary_width"], image["width"], image["height"])
        counts.append(check_counts(f"image {n}", image, d, ignore))
    counts = np.array(counts)
    group = case["summary"]["all"]
    for figure, value in means(counts.sum(0).tolist()).items():
        same(figure, group["means"][figure], value)
    draws = splitmix(0)
    resampled = [means(counts[[next(draws) % len(counts) for _ in counts]].sum(0).tolist()) for _ in range(1000)]
    for figure, ours in group["intervals"].items():
        values = [r[figure] for r in resampled if r[figure] is not None]
        for end, theirs in zip(ours, np.quantile(values, [0.025, 0.975])):
            same(f"interval of {figure}", end, theirs)
    own = [v for v in (means(c.tolist())["iou"] for c in counts) if v is not None]
    for ours, theirs in zip(group["quartiles"], np.quantile(own, [0.25, 0.5, 0.75])):
        same("quartile", ours, theirs)
    check_confidence(case, ignore)


def check_fit(fit):
    logits = np.array(fit["logits"]).reshape(-1, fit["classes"])
    truth = np.array(fit["truth"])
    loss = lambda factor, bias: -log_softmax(logits * factor + bias, axis=1)[np.arange(truth.size), truth].mean()
    found = fit["found"]["calibration"]
    bias = np.array(found.get("bias") or [0.0] * fit["classes"])
    same("loss before", fit["found"]["log_loss"][0], loss(1.0, 0.0), 1e-6)
    same("loss after", fit["found"]["log_loss"][1], loss(1 / found["temperature"], bias), 1e-6)
    if "bias" in found:
        best = optimize.minimize(lambda v: loss(v[0], np.append(0.0, v[1:])), np.append(1.0, np.zeros(fit["classes"] - 1)), tol=1e-9)
    else:
        best = optimize.minimize(lambda v: loss(v[0], 0.0), [1.0], tol=1e-9)
    assert fit["found"]["log_loss"][1] <= best.fun + LOSS_TOLERANCE, (fit["found"]["log_loss"], best.fun)
    print(f"{fit['classes']} classes: {found}, loss {fit['found']['log_loss'][1]:.6f}, scipy's {best.fun:.6f}")
    return "bias" in found


data = json.loads(Path(sys.argv[1]).read_text())
for case in data["cases"]:
    check_case(case, data["ignore"])
biased = sum(check_fit(fit) for fit in data["fits"])
assert biased > 0, "no fit has a bias"
print(f"borders, objects and confidences of {len(data['cases'])} cases equal numpy's and scipy's")
