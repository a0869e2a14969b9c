"""The contract of data sets holds for those here."""

import pytest
from PIL import Image

from zoo.testing import DatasetContract


class TestDigits(DatasetContract):
    component = "sklearn/digits"


class TestImageFolder(DatasetContract):
    component = "zoo/image_folder"

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path):
        for number, name in enumerate(("cat", "dog")):
            (tmp_path / name).mkdir()
            Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / name / "0.png")
        self.arguments = {"path": str(tmp_path)}
