"""`import zoo`: at once, with every verb."""

import subprocess
import sys

import pytest
import torch

import zoo


def test_the_verbs_that_open_files(tmp_path):
    saved = zoo.save(zoo.build("timm/test_resnet", num_classes=10), tmp_path / "m.safetensors")["path"]
    fresh = zoo.build("timm/test_resnet", num_classes=10, weights=saved)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(zoo.load(saved)(images), fresh.eval()(images))
    assert zoo.inspect(saved)["tensors"]
    assert zoo.load_into(fresh, saved).coverage == 1.0
    assert "zoo/swap_head" in zoo.names("surgeries")


def test_what_there_is_not():
    with pytest.raises(AttributeError, match="has no attribute 'fly'"):
        zoo.fly()
    assert {"load", "build", "names", "finetune", "convert", "inspect", "__version__"} <= set(dir(zoo))


def test_import_is_instant_and_every_name_is_there():
    code = "import sys, zoo; assert not [m for m in sys.modules if m.startswith('zoo.')]; zoo.InputError, zoo.Data; "
    code += "assert 'torch' not in sys.modules; [getattr(zoo, name) for name in zoo.__all__]"
    subprocess.run([sys.executable, "-c", code], check=True)
