"""`zoo finetune`: one document, what to type next, and mistakes before anything is written."""


def test_prints_one_document_and_nothing_else(zoo, trained, tmp_path):
    outcome = zoo("finetune", trained / "recipe.yaml", "--output", tmp_path, "--json", "--set", "train.max_steps=1")
    assert outcome.code == 0, outcome.err
    document = outcome.json
    assert document["checkpoint"] == str(tmp_path / "model.safetensors")
    assert set(document["metrics"]) >= {"accuracy"}
    assert document["seconds"] > 0
    assert len(document["stages"]) == 1
    assert "epoch 1/1" in outcome.err


def test_for_people_it_says_what_to_type_next(zoo, trained, tmp_path):
    outcome = zoo("finetune", trained / "recipe.yaml", "--output", tmp_path, "--set", "train.max_steps=1")
    assert f"\nnext: zoo predict {tmp_path / 'model.safetensors'} IMAGE" in outcome.out


def test_all_mistakes_of_a_recipe_at_once_and_nothing_written(zoo, trained, tmp_path):
    (tmp_path / "bad.yaml").write_text(
        (trained / "recipe.yaml").read_text().replace("squeezenet1_1", "squeezenet1_l").replace("lr:", "learn:")
    )
    outcome = zoo("finetune", tmp_path / "bad.yaml", "--output", tmp_path / "out")
    assert (outcome.code, outcome.out) == (2, "")
    assert f"{tmp_path}/bad.yaml:3:17: " in outcome.err
    assert f"{tmp_path}/bad.yaml:11:27: " in outcome.err
    assert "torchvision/squeezenet1_1" in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_recipe_that_is_not_there(zoo, tmp_path):
    outcome = zoo("finetune", tmp_path / "none.yaml")
    assert outcome.code == 2
    assert "none.yaml" in outcome.err


def test_a_device_that_is_not_there(zoo, trained, tmp_path):
    outcome = zoo("finetune", trained / "recipe.yaml", "--output", tmp_path / "out", "--device", "cuda:63")
    assert outcome.code == 2
    assert "cuda:63" in outcome.err


def test_resuming_what_is_finished_changes_nothing(zoo, trained, checkpoint):
    before = checkpoint.read_bytes()
    outcome = zoo("finetune", trained / "recipe.yaml", "--output", trained / "out", "--resume", "--json")
    assert outcome.json["checkpoint"] == str(checkpoint)
    assert checkpoint.read_bytes() == before
