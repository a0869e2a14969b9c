"""`report.html` as text: one file, nothing of a name is markup, what is missing is said."""

import csv
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from tests.reporting.conftest import BAD
from zoo.reporting.facts import gather
from zoo.reporting.page import curves, page
from zoo.reporting.pictures import Pictures


class Elements(HTMLParser):
    """Every element with its attributes; fails for what is closed that was not open."""

    VOID = ("meta", "link", "img", "br", "input")

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def of(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture
def facts(run):
    return gather(run())


def test_every_name_is_text(facts):
    thumbnail = {
        "image": f"/a/{BAD[:8]}.png",
        "class": BAD,
        "predicted": BAD,
        "probability": 0.9,
        "image_address": "data:,",
    }
    leaf = {
        "name": BAD,
        "kind": BAD,
        "settings": BAD,
        "parameters": 1,
        "state": "frozen",
        "origin": "new",
        "children": [],
    }
    layers = [{"path": BAD, "kind": BAD, "change": 0.5}]
    drawn = Pictures(None, {"mistakes": [thumbnail], "doubtful": []}, leaf, layers, notes=[BAD])
    facts["report"]["environment"]["packages"][BAD] = BAD
    facts["report"]["stages"].append({"step": 4, "action": BAD})
    facts["name"] = facts["report"]["architecture"] = facts["report"]["weights"]["weights"] = BAD
    elements = Elements(page(facts, drawn))
    assert len(elements.of("script")) == 1
    assert elements.text.count(BAD) > 12
    assert f"name: small  # {BAD}" in elements.text
    assert {
        name for attributes in (a for _, a in elements.found) for name in attributes if name.startswith("on")
    } == set()


def test_nothing_is_fetched(facts):
    elements = Elements(page(facts, Pictures()))
    addresses = [a[key] for _, a in elements.found for key in ("src", "href", "action", "data") if a.get(key)]
    assert addresses
    assert all(address.startswith(("#", "data:")) for address in addresses)
    assert "default-src 'none'" in elements.of("meta")[1]["content"]
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in elements.of("a")} <= set(ids)


def test_it_has_the_numbers(facts):
    text = " ".join(Elements(page(facts, Pictures())).text.split())
    accuracy = facts["report"]["evaluation"]["parts"]["validation"]["metrics"]["accuracy"]
    row = facts["predicted"]["classes"][0]
    for said in (f"{accuracy:.4f}", f"{row['recall']:.3f}", f"{facts['predicted']['calibration']['error']:.4f}"):
        assert said in text
    assert "372,688138noneabababab" in text  # the proof of freezing
    assert "also chose (step 3: keep: best), so new images do worse" in text


def test_learning_rates_that_are_the_same_are_one_line(facts):
    for row in facts["epochs"]:
        row["lr_3"] = row["lr_1"]
    (chart,) = (chart for chart in curves(facts["epochs"]) if chart["title"] == "Learning rate")
    assert [line["label"] for line in chart["lines"]] == ["group 1, 3", "group 2"]


def test_rates_and_phases_are_the_reports(facts):
    row = {"tensors": 2, "parameters": 1234, "lr": 0.0025, "weight_decay": 0.0, "first": "a", "last": "b"}
    (train,) = (stage for stage in facts["report"]["stages"] if stage["action"] == "train")
    train["groups"] = [row | {"from_epoch": 3}, row | {"from_epoch": 1, "weight_decay": None}]
    train["phases"] = [{"epoch": 3, "group": "layer4 <b>", "tensors": 2, "parameters": 1234, "frozen_tensors": 7}]
    text = " ".join(Elements(page(facts, Pictures())).text.split())
    assert "step 3, group 130.002501,2342a … b" in text
    assert "step 3, group 210.0025none1,2342a … b" in text
    assert "from epoch 3 layer4 <b> (1,234 parameters; 7 tensors frozen, and proved so)" in text


def test_an_average_has_its_members(facts):
    members = [{"epoch": 4, "value": 0.25, "weight": 1.0}, {"epoch": 7, "value": None, "weight": 0.0}]
    average = {"greedy": 2, "metric": "accuracy", "members": members, "batch_norms": 3, "metrics": {"accuracy": 0.375}}
    (train,) = (stage for stage in facts["report"]["stages"] if stage["action"] == "train")
    train["average"] = average
    text = " ".join(Elements(page(facts, Pictures())).text.split())
    assert "Step 3: what was averaged average: {greedy: 2}." in text
    assert "accuracy of 0.3750. The statistics of 3 batch norms were estimated anew" in text
    assert re.search(r"epochaccuracyweight4 ?0.250 ?1.0007 ?undefined ?left out", text)


def test_only_what_is_there_has_a_section(run):
    folder = run()
    (folder / "report.json").unlink()
    (folder / "metrics.csv").write_text("step,epoch,loss\n3,1,2.5\n3,2,1.5\n")
    elements = Elements(page(gather(folder), Pictures()))
    assert [attributes["id"] for attributes in elements.of("section")] == ["curves", "recipe"]
    assert "only what was logged is shown" in elements.text
    bare = gather(folder) | {"epochs": [], "recipe": {"path": None, "written": None, "pinned": None}}
    assert "There is no recipe" in page(bare, Pictures())


def test_many_classes_are_a_picture_and_a_table(run):
    folder = run(names=[f"class {number}" for number in range(80)], samples=400)
    elements = Elements(page(gather(folder), Pictures()))
    assert next(a["alt"] for a in elements.of("img")).startswith("Confusion matrix of 80 classes")
    assert not elements.of("input")


@pytest.mark.parametrize(("task", "section"), [("multilabel", "classes"), ("regression", "targets")])
def test_other_tasks_have_panels_of_their_own(run, task, section):
    data = {"source": "mine", "task": task, "outputs": 2, "train": 96, "validation": 60}
    folder, generator = run(data=data), np.random.default_rng(0)
    with open(folder / "predictions.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "part", "target: sun", "target: sea", "loss", "output: sun", "output: sea"])
        for place in range(60):
            target = generator.integers(0, 2, 2)
            writer.writerow([place, "validation", *target, 0.1, *(target * 2 - 1 + generator.normal(0, 1, 2))])
    elements = Elements(page(gather(folder), Pictures()))
    ids = [attributes["id"] for attributes in elements.of("section")]
    assert section in ids
    assert "confusion" not in ids
    assert "calibration" not in ids
    titles = re.findall(r"Predicted against true|Residuals|sun, \d+ samples", elements.text)
    assert len(titles) == {"multilabel": 1, "regression": 4}[task]
