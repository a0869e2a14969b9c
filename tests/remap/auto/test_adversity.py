"""Key sets that were sorted, shuffled or scrambled: the right answer or none, never a wrong one."""

from __future__ import annotations

import hashlib
import random

import pytest

from zoo.remap.auto import match

PAIRS = {
    "mobilenet_v2": "mobilenetv2_100",
    "regnet_y_400mf": "regnety_004",
    "vit_b_32": "vit_base_patch32_224",
    "swin_t": "swin_tiny_patch4_window7_224",
    "resnet50": "resnet50",
}


@pytest.fixture(params=PAIRS)
def pair(request, key_set):
    return key_set(f"torchvision/{request.param}"), key_set(f"timm/{PAIRS[request.param]}")


def digest(text):
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:8]


def nothing_left(name):
    return digest(name)


def leaf_left(name):
    head, _, leaf = name.rpartition(".")
    return f"{digest(head)}.{leaf}"


def tree_left(name):
    components = name.split(".")
    return ".".join([*(digest(".".join(components[: n + 1])) for n in range(len(components) - 1)), components[-1]])


def shuffled(entries, seed):
    names = list(entries)
    random.Random(seed).shuffle(names)
    return {name: entries[name] for name in names}


def test_sorted_by_name(pair):
    source, target = pair
    assert_right(match(dict(sorted(source.items())), target), match(source, target))


def test_sorted_as_safetensors_files_are(pair):
    source, target = pair
    ordered = dict(sorted(source.items(), key=lambda item: (item[1].dtype != "I64", item[0])))
    assert_right(match(ordered, target), match(source, target))


@pytest.mark.parametrize("seed", range(3))
def test_shuffled_with_true_names(pair, seed):
    source, target = pair
    assert_right(match(shuffled(source, seed), target), match(source, target))


def assert_right(result, truth):
    assert result.status == "unique"
    assert result.mapping == truth.mapping


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scramble", [nothing_left, leaf_left, tree_left])
def test_scrambled_and_shuffled_it_abstains_and_names_the_groups(pair, scramble, seed):
    source, target = pair
    scrambled = shuffled({scramble(name): entry for name, entry in source.items()}, seed)
    result = match(scrambled, target)
    assert result.status == "ambiguous"
    assert result.rules == []
    assert result.groups
    assert any(len(group.sources) > 1 and len(group.targets) > 1 for group in result.groups)


@pytest.mark.parametrize("scramble", [nothing_left, leaf_left, tree_left])
def test_scrambled_names_in_the_right_order_are_never_matched_wrongly(pair, scramble):
    source, target = pair
    names = {scramble(name): name for name in source}
    truth = match(source, target).mapping
    result = match({scramble(name): entry for name, entry in source.items()}, target)
    if result.found:
        assert {to: tuple(names[name] for name in made) for to, made in result.mapping.items()} == truth
    else:
        assert result.rules == []


@pytest.mark.parametrize("seed", range(3))
def test_numbers_for_names(pair, seed):
    source, target = pair
    places = random.Random(seed).sample(range(len(source)), len(source))
    numbered = {f"p{place}": entry for place, entry in zip(places, source.values(), strict=True)}
    result = match(shuffled(numbered, seed), target)
    assert not result.found
    assert result.rules == []


def test_another_network_is_no_answer(key_set):
    result = match(key_set("torchvision/vgg16_bn"), key_set("timm/vit_base_patch32_224"))
    assert result.status in ("none", "ambiguous")
    assert result.rules == []
