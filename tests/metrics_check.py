"""Computes the metrics of masks with scikit-learn and compares what tests/train_metrics.rs has of them: python metrics_check.py cases.json"""

import json
import math
import sys
import warnings
from pathlib import Path

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score, precision_recall_fscore_support

# Both sides divide the same counts in double precision; means add a few.
TOLERANCE = 1e-12
# Masks of one class are meant to be here.
warnings.filterwarnings("ignore", message="A single label was found")


def same(name, ours, theirs):
    """`None` stands for an undefined figure, which scikit-learn gives as NaN."""
    if ours is None or math.isnan(theirs):
        assert ours is None and math.isnan(theirs), (name, ours, theirs)
    else:
        assert abs(ours - theirs) <= TOLERANCE, (name, ours, theirs)


def mean(values):
    values = [v for v in values if not math.isnan(v)]
    return float(np.mean(values)) if values else math.nan


def check(case, ignore):
    name, metrics = case["name"], case["metrics"]
    labels = list(range(case["classes"]))
    truth, prediction = np.array(case["truth"]), np.array(case["prediction"])
    labelled = truth != ignore
    truth, prediction = truth[labelled], prediction[labelled]
    assert metrics["pixels"] == truth.size, name
    counts = np.array(case["confusion"])
    if truth.size == 0:
        assert counts.sum() == 0 and metrics["accuracy"] == 0 and metrics["mean_iou"] is None, name
        return 0

    assert (counts == confusion_matrix(truth, prediction, labels=labels)).all(), name
    same(f"{name}: accuracy", metrics["accuracy"], accuracy_score(truth, prediction))
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, prediction, labels=labels, zero_division=np.nan
    )
    # Where nothing can be divided, scikit-learn's Jaccard index has no NaN: such classes are left out by hand.
    present = np.union1d(truth, prediction)
    iou = jaccard_score(truth, prediction, labels=labels, average=None, zero_division=0)
    iou = np.where(np.isin(labels, present), iou, np.nan)
    for c, ours in enumerate(metrics["classes"]):
        for figure, theirs in [("precision", precision), ("recall", recall), ("f1", f1), ("iou", iou)]:
            same(f"{name}: {figure} of class {c}", ours[figure], theirs[c])
        assert (ours["pixels"], ours["predicted"]) == (support[c], (prediction == c).sum()), name
    same(f"{name}: mean IoU", metrics["mean_iou"], jaccard_score(truth, prediction, labels=present, average="macro", zero_division=0))
    same(f"{name}: mean IoU without background", metrics["mean_iou_foreground"], mean(iou[1:]))
    same(f"{name}: mean F1", metrics["mean_f1"], mean(f1))
    same(f"{name}: mean F1 without background", metrics["mean_f1_foreground"], mean(f1[1:]))
    return 1


cases = json.loads(Path(sys.argv[1]).read_text())
compared = sum(check(case, cases["ignore"]) for case in cases["cases"])
assert compared > 20, compared
print(f"metrics of {compared} cases equal scikit-learn's")
