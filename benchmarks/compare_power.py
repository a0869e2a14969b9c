"""How often `zoo compare` is wrong where two models are equally good, and how often it finds two points.

    python benchmarks/compare_power.py            a minute or two

Pairs of models are drawn with known true accuracies, then compared by zoo's own functions on images drawn anew for each
pair. What matters beside the accuracies is how far the errors overlap, measured as Cohen's kappa of right and wrong
(error consistency: Geirhos, Meding and Wichmann, NeurIPS 2020): 0 where the models err independently, 1 where they err
on the same images. `--measure` finds it for pairs of real classifiers on real digits.
"""

from __future__ import annotations

import argparse
import math

import numpy as np

from zoo.comparison.paired import Difference, accuracy_difference, mean_difference, metric_difference

PAIRS = 200
IMAGES = 2_000
ACCURACY, GAIN = 0.90, 0.02
OVERLAP = 0.5  # the least that `--measure` finds for classifiers of about 90 %; the most is 0.82
OVERLAPS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.8)


def rights(rng, a: float, b: float, overlap: float, images: int = IMAGES):
    """Which images each of two models gets right: true accuracies `a` and `b`, errors that overlap by this kappa."""
    by_chance = a * b + (1 - a) * (1 - b)
    agree = by_chance + overlap * (1 - by_chance)
    only_b = (1 - agree + b - a) / 2
    only_a = (1 - agree - b + a) / 2
    both = a - only_a
    cells = np.array([both, only_a, only_b, 1 - both - only_a - only_b])
    if (cells < -1e-12).any():
        raise ValueError(f"accuracies {a} and {b} cannot overlap by {overlap}")
    drawn = rng.choice(4, images, p=np.clip(cells, 0, 1) / cells.clip(0, 1).sum())
    return drawn <= 1, (drawn == 0) | (drawn == 2)


def accuracies(rng, gain: float, overlap: float, images: int = IMAGES) -> Difference:
    return accuracy_difference(*rights(rng, ACCURACY, ACCURACY + gain, overlap, images))


def errors(rng, gain: float, overlap: float, images: int = IMAGES) -> Difference:
    """Absolute errors of two regressions: each image's difficulty, and each model's own part."""
    shared, own = math.sqrt(overlap), math.sqrt(1 - overlap)
    hard = rng.normal(size=images)
    a, b = (np.exp(shared * hard + own * rng.normal(size=images)) for _ in range(2))
    return mean_difference(a, b * (1 - gain), resamples=999)


def f1s(rng, gain: float, overlap: float, images: int = 500) -> Difference:
    """Macro F1 of five labels, which is no mean over images."""
    targets = rng.random((images, 5)) < 0.3
    pairs = [rights(rng, ACCURACY, ACCURACY + gain, overlap, images) for _ in range(5)]
    a, b = (np.where(np.stack([pair[which] for pair in pairs], 1), targets, ~targets) for which in (0, 1))
    return metric_difference(macro_f1, a.astype(np.int8), b.astype(np.int8), targets.astype(np.int8), resamples=199)


def macro_f1(outputs, targets) -> float:
    hits = (outputs * targets).sum(0)
    return float(np.mean(2 * hits / np.maximum(outputs.sum(0) + targets.sum(0), 1)))


KINDS = {"accuracy (exact McNemar)": accuracies, "mean error (sign flips)": errors, "macro F1 (exchanged answers)": f1s}


def shown(kind, gain: float, overlap: float, pairs: int = PAIRS, seed: int = 0, **options) -> float:
    """The share of pairs for which a difference is shown."""
    rng = np.random.default_rng(seed)
    return sum(kind(rng, gain, overlap, **options).shown for _ in range(pairs)) / pairs


def coverage(gain: float, overlap: float, pairs: int = PAIRS, seed: int = 0) -> float:
    """The share of pairs whose interval contains the true difference."""
    rng = np.random.default_rng(seed)
    found = [accuracies(rng, gain, overlap) for _ in range(pairs)]
    return sum(each.low <= gain <= each.high for each in found) / pairs


def measured() -> list[tuple[str, str, float, float, float]]:
    """(name, name, accuracy, accuracy, kappa) of classifiers trained on 150 real digits, on 1,297 others."""
    from itertools import combinations

    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.svm import SVC

    images, targets = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images, targets = images[order] / 16, targets[order]
    makers = {
        "logistic regression": lambda: LogisticRegression(max_iter=2000),
        "nearest neighbours": lambda: KNeighborsClassifier(3),
        "support vectors": SVC,
        "network, seed 0": lambda: MLPClassifier(64, max_iter=800, random_state=0),
        "network, seed 1": lambda: MLPClassifier(64, max_iter=800, random_state=1),
    }
    right = {
        name: make().fit(images[:150], targets[:150]).predict(images[500:]) == targets[500:]
        for name, make in makers.items()
    }
    rows = [(a, b, right[a].mean(), right[b].mean(), kappa(right[a], right[b])) for a, b in combinations(makers, 2)]
    return [(a, b, float(one), float(other), float(share)) for a, b, one, other, share in rows]


def kappa(a, b) -> float:
    by_chance = a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean())
    return ((a == b).mean() - by_chance) / (1 - by_chance)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="the overlap of real classifiers' errors instead")
    if parser.parse_args().measure:
        print("| A | B | accuracy of A | of B | overlap (kappa) |\n|---|---|---|---|---|")
        for a, b, one, other, share in measured():
            print(f"| {a} | {b} | {one:.3f} | {other:.3f} | {share:.2f} |", flush=True)
        return
    print(f"{PAIRS} pairs of equally good models (90 %): a difference shown, wrongly\n")
    print("| | overlap 0 | overlap 0.5 |\n|---|---|---|")
    for name, kind in KINDS.items():
        print(f"| {name} | {shown(kind, 0, 0.0):.1%} | {shown(kind, 0, OVERLAP):.1%} |", flush=True)
    many = (f"{shown(accuracies, 0, overlap, pairs=10 * PAIRS):.1%}" for overlap in (0.0, OVERLAP))
    print(f"| accuracy, {10 * PAIRS:,} pairs | {' | '.join(many)} |", flush=True)
    print(f"\n{PAIRS} pairs of 90 % and 92 % on {IMAGES:,} images: the difference found\n")
    print("| overlap of the errors (kappa) | found | interval contains 2 points |\n|---|---|---|")
    for overlap in OVERLAPS:
        print(f"| {overlap} | {shown(accuracies, GAIN, overlap):.1%} | {coverage(GAIN, overlap):.1%} |", flush=True)


if __name__ == "__main__":
    main()
