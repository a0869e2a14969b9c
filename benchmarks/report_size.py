"""How large a report gets and how long it takes, with made-up predictions: python benchmarks/report_size.py

The folder of a run on 50,000 held-out images of 1,000 classes, without its model and images; thumbnails would add some
200 KB. Prints size and seconds.
"""

import argparse
import csv
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from zoo.reporting.write import report


def run_folder(folder, samples, classes):
    """A run's report and predictions; nine of ten are right, and every class has its own rival."""
    generator = np.random.default_rng(0)
    names = [f"class number {number}" for number in range(classes)]
    true = generator.integers(0, classes, samples)
    rival = np.where(generator.random(samples) < 0.5, true ^ 1, generator.integers(0, classes, samples)) % classes
    guess = np.where(generator.random(samples) < 0.9, true, rival)
    probability = generator.uniform(0.3, 1.0, samples)
    with open(folder / "predictions.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "part", "class", "predicted", "probability", "margin", "loss"])
        for place in range(samples):
            row = [f"images/{place:06}.jpg", "validation", names[true[place]], names[guess[place]]]
            writer.writerow([*row, probability[place], 0.1, 0.2])
    accuracy = float((true == guess).mean())
    measured = {"metrics": {"accuracy": accuracy}, "intervals": {"accuracy": None}, "samples": samples, "absent": []}
    evaluation = {"part": "validation", "loss": "auto", "parts": {"validation": measured}, "chose": [], "seconds": 1.0}
    data = {"source": "made up", "task": "classification", "outputs": classes, "train": 1, "validation": samples}
    document = {"name": "large", "stages": [], "architecture": "made up", "data": data, "evaluation": evaluation}
    document |= {"metrics": measured["metrics"], "seconds": 1.0, "device": "cpu", "environment": {"packages": {}}}
    (folder / "report.json").write_text(json.dumps(document))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--classes", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run_folder(Path(scratch), options.samples, options.classes)
        began, used = time.perf_counter(), time.process_time()
        path, _ = report([scratch])
        seconds, cpu = time.perf_counter() - began, time.process_time() - used
        print(f"{options.samples:,} images, {options.classes:,} classes: {path.stat().st_size / 1e6:.2f} MB, ", end="")
        print(f"{seconds:.1f} s ({cpu:.1f} s of a processor)")


if __name__ == "__main__":
    main()
