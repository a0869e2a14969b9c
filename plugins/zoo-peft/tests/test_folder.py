"""peft's own folders: what peft writes is read, what is written peft reads, and what zoo cannot do is refused."""

import json
import shutil

import peft
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from zoo_peft.folder import read_folder, write_folder

import zoo
from zoo.api import Context
from zoo.errors import InputError

SIDE = {"img_size": 32, "num_classes": 5}
CONFIGS = {
    "lora": peft.LoraConfig(r=2, lora_alpha=3, target_modules=["qkv"], use_rslora=True, modules_to_save=["head"]),
    "dora": peft.LoraConfig(r=2, target_modules=["proj"], use_dora=True),
    "ia3": peft.IA3Config(target_modules=["qkv", "fc2"], feedforward_modules=["fc2"]),
    "loha": peft.LoHaConfig(r=2, target_modules=["fc1"]),
    "lokr": peft.LoKrConfig(r=2, target_modules=["qkv"]),
    "oft": peft.OFTConfig(r=0, oft_block_size=8, target_modules=["qkv"]),
}


def base():
    torch.manual_seed(0)
    return timm.create_model("test_vit", **SIDE)


def adapted_by_peft(name, folder):
    """peft's own network, its adapter's folder, and what it computes."""
    model = peft.get_peft_model(base(), CONFIGS[name])
    with torch.no_grad():
        for tensor in (p for p in model.parameters() if p.requires_grad):
            tensor.add_(0.05 * torch.randn(tensor.shape))
    model.save_pretrained(folder)
    return model.eval()


def images():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def opened(folder, **options):
    """The network of `base` in zoo, with the adapter of the folder."""
    recipe = {"name": "read", "steps": [{"load_adapter": {"folder": str(folder), **options}}]}
    return zoo.finetune(recipe, model=base(), output=folder.parent / "run", overwrite=True).model.eval()


@pytest.mark.parametrize("name", CONFIGS)
def test_what_peft_writes_computes_the_same_in_zoo(name, tmp_path):
    theirs = adapted_by_peft(name, tmp_path / "adapter")
    ours = opened(tmp_path / "adapter")
    with torch.no_grad():
        assert torch.equal(theirs(images()), ours(images()))
        assert not torch.equal(theirs(images()), base().eval()(images()))


def test_what_zoo_writes_computes_the_same_in_peft(tmp_path):
    assembly = zoo.api.Assembly(base(), "timm/test_vit")
    zoo.api.operate(
        assembly, "peft/lora", {"r": 2, "alpha": 2.5}, Context(preprocessing=zoo.Preprocessing(size=(32, 32)))
    )
    with torch.no_grad():
        for name, tensor in assembly.model.named_parameters():
            if "lora" in name or "head" in name:
                tensor.add_(0.05 * torch.randn(tensor.shape))
    written = write_folder(assembly, tmp_path / "adapter")
    assert written["tensors"] == 2 * 12 + 2
    theirs = peft.PeftModel.from_pretrained(base(), tmp_path / "adapter").eval()
    with torch.no_grad():
        assert torch.equal(theirs(images()), assembly.model.eval()(images()))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "adapter"
    adapted_by_peft("lora", folder)
    return folder


def edited(saved, tmp_path, **changes):
    folder = tmp_path / "adapter"
    shutil.copytree(saved, folder)
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return folder


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"peft_type": "VERA"}, "has an adapter of the kind VERA; zoo has LORA, IA3, LOHA, LOKR, OFT"),
        (
            {"bias": "all", "alpha_pattern": {"qkv": 3}},
            'zoo\'s lora does not have: alpha_pattern: {"qkv": 3}, bias: "all"',
        ),
        ({"init_lora_weights": "pissa"}, 'does not have: init_lora_weights: "pissa"'),
        ({"new_trick": True}, "does not have: new_trick: true"),
    ],
)
def test_what_zoo_has_no_surgery_for_is_refused(changes, why, saved, tmp_path):
    with pytest.raises(InputError) as caught:
        read_folder(edited(saved, tmp_path, **changes))
    assert why in str(caught.value)


def test_expressions_of_a_stranger_are_not_run(saved, tmp_path):
    folder = edited(saved, tmp_path, target_modules="(a+)+$")
    assert read_folder(folder).arguments["paths"] == [f"blocks.{n}.attn.qkv" for n in range(6)]


def test_damaged_folders(saved, tmp_path):
    folder = edited(saved, tmp_path)
    (folder / "adapter_model.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(InputError, match=r"adapter_model\.safetensors is damaged"):
        read_folder(folder)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(InputError, match=r"is not there .*pickles are not read"):
        read_folder(folder)
    (folder / "adapter_config.json").write_text("[1")
    with pytest.raises(InputError, match="is no JSON"):
        read_folder(folder)


def test_another_head_is_named_before_anything_is_copied(saved, tmp_path):
    folder = edited(saved, tmp_path)
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors["base_model.model.head.weight"] = torch.zeros(7, 64)
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(
        InputError, match=r"head\.weight is \[7, 64\] in the file and \[5, 64\] in the model.*swap_head"
    ):
        opened(folder)


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft's own
def test_a_transformers_network_is_adapted_saved_and_read_by_peft(tmp_path):
    import transformers

    def vit() -> nn.Module:
        torch.manual_seed(0)
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        config = transformers.ViTConfig(image_size=32, patch_size=8, num_labels=10, **sizes)
        return transformers.ViTForImageClassification(config)

    steps = [{"lora": {"r": 2}}, {"freeze": "adapters_only"}, {"train": {"epochs": 1, "lr": 0.05}}, "save_adapter"]
    recipe = {
        "name": "vit",
        "precision": "float32",
        "data": {"source": "sklearn/digits", "image_size": 32, "limit": 40},
        "steps": [*steps, {"save": "adapted"}, "merge_adapters"],
    }
    run = zoo.finetune(recipe, model=vit(), output=tmp_path / "run")
    (proof,) = [stage["freeze_proof"] for stage in run.report["stages"] if stage["action"] == "train"]
    assert proof["moved"] == []
    theirs = peft.PeftModel.from_pretrained(vit(), tmp_path / "run" / "adapter").eval()
    adapted = zoo.load(tmp_path / "run" / "adapted.safetensors", model=vit())
    merged = zoo.load(tmp_path / "run" / "model.safetensors", model=vit())
    with torch.no_grad():
        wanted = adapted(images()).logits
        assert (theirs(images()).logits - wanted).abs().max() <= 1e-5
        assert (merged(images()).logits - wanted).abs().max() <= 1e-5
        assert (vit().eval()(images()).logits - wanted).abs().max() > 1e-3
