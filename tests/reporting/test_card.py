"""The model card: front matter that the hub reads, and text in which nothing from a file is markup."""

import pytest
import yaml
from huggingface_hub import ModelCard

from zoo.reporting.card import card
from zoo.reporting.facts import gather

BASE = {"name": "hf://acme/net/model.safetensors", "sha256": "0" * 64, "license": "Apache-2.0", "source": "https://x"}


def of(facts, **checkpoint):
    return card(facts | {"checkpoint": {"base_weights": None, "classes": [], **checkpoint}})


def test_the_front_matter_is_the_hubs(run):
    read = ModelCard(of(gather(run()), base_weights=BASE)).data
    assert (read.license, read.base_model, read.library_name) == ("apache-2.0", "acme/net", "zoo")
    assert read.pipeline_tag == "image-classification"
    found = {result.metric_type: result for result in read.eval_results}
    assert found["accuracy"].metric_value == 0.9
    assert found["loss"].metric_args == {"confidence_interval_95": [1.0, 1.2]}
    assert found["loss"].dataset_split == "validation"


@pytest.mark.parametrize(
    ("said", "known"),
    [(None, {}), ("MIT", {"license": "mit"}), ("My own: \n---", {"license": "other", "license_name": "my-own"})],
)
def test_a_licence_is_an_identifier_or_another(run, said, known):
    text = of(gather(run()), base_weights=BASE | {"license": said})
    front = yaml.safe_load(text.split("---\n")[1])
    assert {key: value for key, value in front.items() if key.startswith("license")} == known
    assert "Their licence: not known" in text or said


def test_names_are_text_not_markup(run):
    text = of(gather(run()), classes=["<script>", "a|b", "new\nline", "[x](y)"])
    assert "Classes: \\<script\\>, a\\|b, new line, \\[x\\]\\(y\\)." in text
    assert "| validation | 60 | loss | 1.1000 | 1.0000 to 1.2000 |" in text
    assert "also chose (step 3: keep: best)" in text


def test_control_characters_are_spelled_out(run):
    text = of(gather(run()), classes=["\x1b[31mred", "turned\u202e", "cat"])
    assert r"Classes: \\x1b\[31mred, turned\\u202e, cat." in text


def test_what_did_not_end_well_says_so(run):
    text = of(gather(run(failed="no"))) + of(gather(run()) | {"state": "failed"})
    assert "**This run did not end well (failed):**" in text


def test_without_data_and_measurements(run):
    text = of(gather(run(evaluation=None, data=None, weights=None, metrics={})))
    assert "None: it was trained from random parameters." in text
    assert "Nothing was measured." in text
    assert "model-index" not in text
