"""The picture of docs/report.md and the README: python benchmarks/report_pictures.py RUN

Photographs the report of a run (checkpoints/quickstart without one) in Chromium, in its light theme, and keeps the top
as a PNG with 128 colours in docs/images/. Needs playwright and Chromium.
"""

import argparse
import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from zoo.reporting.write import report

IMAGES = Path(__file__).parent.parent / "docs/images"
WIDTH, HEIGHT = 1180, 1500


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", default="checkpoints/quickstart")
    options = parser.parse_args()
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        path, _ = report([options.run], Path(scratch) / "report.html")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        tab.goto(path.as_uri())
        target = IMAGES / "report-light.png"
        Image.open(io.BytesIO(tab.screenshot())).convert("RGB").quantize(128).save(target, optimize=True)
        print(f"{target}: {target.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
