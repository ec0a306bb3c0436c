"""Confusion matrix and what follows of it, as the product defines them (src/train/metrics.rs), computed with NumPy alone."""
import numpy as np

IGNORE = 255    # the label of pixels that count nowhere


def confusion(truth, prediction, classes):
    """Pixels `[truth][prediction]` of two equally shaped arrays of class indices; IGNORE in `truth` is skipped."""
    truth, prediction = np.asarray(truth).ravel(), np.asarray(prediction).ravel()
    if truth.shape != prediction.shape:
        raise ValueError(f"{prediction.size} predicted pixels for {truth.size} labelled ones")
    labelled = truth != IGNORE
    truth, prediction = truth[labelled].astype(np.int64), prediction[labelled].astype(np.int64)
    if truth.size and max(truth.max(), prediction.max()) >= classes:
        raise ValueError(f"class {max(truth.max(), prediction.max())} where there are {classes}, from 0")
    return np.bincount(truth * classes + prediction, minlength=classes * classes).reshape(classes, classes)


def metrics(counts):
    """Accuracy, mean IoU and each class's precision, recall, F1 and IoU; None where the quotient is 0/0."""
    quotient = lambda part, whole: float(part / whole) if whole else None
    def mean(values):
        defined = [v for v in values if v is not None]
        return quotient(sum(defined), len(defined))
    found, labelled, predicted = np.diag(counts), counts.sum(1), counts.sum(0)
    classes = [{"precision": quotient(tp, p), "recall": quotient(tp, t), "f1": quotient(2 * tp, t + p),
                "iou": quotient(tp, t + p - tp), "pixels": int(t), "predicted": int(p)}
               for tp, t, p in zip(found, labelled, predicted)]
    return {"accuracy": quotient(found.sum(), counts.sum()), "mean_iou": mean([c["iou"] for c in classes]),
            "mean_iou_foreground": mean([c["iou"] for c in classes[1:]]), "pixels": int(counts.sum()),
            "classes": classes, "confusion": counts.tolist()}
