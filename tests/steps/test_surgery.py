"""The step behind every surgery's name."""

from __future__ import annotations

from torch import nn

from zoo.steps.surgery import Surgery


def test_it_is_read_with_the_surgery_s_full_name_and_its_arguments(read):
    (step,) = read("model: tutorial/net_a\nsteps: [remove_module: classifier.relu2]").steps
    assert step == Surgery(component="zoo/remove_module", arguments={"path": "classifier.relu2"})
    assert (step.place.action, step.place.name) == ("remove_module", "surgery")


def test_it_operates_with_what_the_data_says(started):
    run = started("model: tutorial/fashion_mlp\ndata: {source: sklearn/digits, limit: 20}\nsteps: [swap_head: auto]")
    run.recipe.steps[0].run(run)
    assert run.assembly.operations[0]["surgery"] == "zoo/swap_head"
    assert run.assembly.operations[0]["arguments"]["num_classes"] == 10
    assert run.stages == [], "structure is in the checkpoint, not in the report"
    assert isinstance(list(run.assembly.model.modules())[-1], nn.Linear)


def test_a_number_of_classes_needs_data_to_count_them(mistakes):
    assert mistakes("model: tutorial/net_a\nsteps:\n  - swap_head: auto") == [
        "recipe.yaml:3:16: swap_head: num_classes auto needs data, and the recipe has no data section "
        "(write the number of classes, or add a data section)"
    ]


def test_one_that_fails_keeps_the_rest_from_being_blamed(mistakes):
    """The outputs do not fit because the head was not replaced: said once, at the surgery."""
    (said,) = mistakes(
        "model: tutorial/fashion_mlp\ndata: {source: sklearn/digits, limit: 20, image_size: 28}\n"
        "steps:\n  - replace_module: {path: nowhere, module: ReLU}\n  - swap_head: 10\n  - train: 1\n"
    )
    assert said.startswith("recipe.yaml:4:28: ")
