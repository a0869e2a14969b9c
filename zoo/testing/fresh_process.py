"""What only another process shows: which modules an import brings, and whether a checkpoint gives the same model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zoo.model.assembly import Assembly

_RELOAD = """
import sys, torch, zoo
from safetensors.torch import load_file, save_file
from zoo.model.prediction import prediction
checkpoint, inputs, outputs, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
with torch.no_grad():
    scores = prediction(zoo.load(checkpoint)(load_file(inputs)["x"]))
save_file({"scores": scores.contiguous()}, outputs)
"""


def in_fresh_python(statement: str) -> dict[str, Any]:
    """`rows` as a statement leaves them in a new interpreter, and the modules it imported."""
    code = f"import json, sys\nfrom zoo import registry\n{statement}\nprint(json.dumps([rows, sorted(sys.modules)]))"
    rows, modules = json.loads(_python("-c", code))
    return {"rows": rows, "modules": modules}


def _python(*arguments: str) -> str:
    """What a new interpreter that finds the same packages prints."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_without_torch(component: str, kind: str) -> None:
    """Asserts that a component can be loaded where torch has not been imported, and does not import it."""
    report = in_fresh_python(f"registry.load({component!r}, {kind!r})\nrows = []")
    assert "torch" not in report["modules"], f"loading {component} imports torch: import it inside the function"


def randomised(model: nn.Module) -> nn.Module:
    """The model with every parameter and buffer random, so that one that is lost shows."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                values = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(values + 0.5 if name.endswith("var") else (values - 0.5) * 0.2)
    return model


def images_for(assembly: Assembly) -> Tensor:
    """Two random images [2, c, h, w] as the assembly's preprocessing makes them."""
    import torch

    height, width = assembly.preprocessing.size
    shape = (2, assembly.preprocessing.channels, height, width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def check_round_trip(assembly: Assembly, folder: Path) -> None:
    """Asserts that a checkpoint of the assembly, all of its tensors random, gives the same bits in a fresh process."""
    import torch
    from safetensors.torch import load_file, save_file

    from zoo.checkpoint.save import save_checkpoint
    from zoo.model.prediction import prediction

    images, model = images_for(assembly), randomised(assembly.model).eval()
    with torch.no_grad():
        expected = prediction(model(images))
    paths = [str(folder / name) for name in ("model.safetensors", "inputs.safetensors", "scores.safetensors")]
    save_checkpoint(assembly, paths[0])
    save_file({"x": images}, paths[1])
    _python("-c", _RELOAD, *paths, str(torch.get_num_threads()))
    found = load_file(paths[2])["scores"]
    assert torch.equal(found, expected), (
        "the checkpoint gives other outputs in a fresh process: something is not in the state dict, or is built anew"
    )
