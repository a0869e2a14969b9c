"""The contract of data sets holds for those here, and fails for broken ones."""

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


BROKEN = {
    "no data": (DatasetContract, "datasets", "def x(): return [1, 2]", "test_samples_are_what_zoo_reads"),
    "a target without a class": (
        DatasetContract,
        "datasets",
        "from PIL import Image\nfrom zoo.api import Data\n"
        "def x(): return Data([(Image.new('L', (8, 8)), 2)], classes=('a', 'b'))",
        "test_samples_are_what_zoo_reads",
    ),
    "floats for pixels": (
        DatasetContract,
        "datasets",
        "import torch\nfrom zoo.api import Data\ndef x(): return Data([(torch.rand(3, 8, 8), 0)], classes=('a',))",
        "test_samples_are_what_zoo_reads",
    ),
    "a class twice": (
        DatasetContract,
        "datasets",
        "from zoo.api import Data\ndef x(): return Data([], classes=('a', 'a'))",
        "test_class_names_are_distinct",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_contract_fails_where_it_is_broken(fails, case):
    fails(*BROKEN[case])
