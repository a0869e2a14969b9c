"""`zoo.evaluate` and `zoo.predict` on models in memory."""

import numpy as np
import pytest
import torch

import zoo


class TestEvaluateAndPredict:
    def test_a_model_in_memory_and_its_file_give_the_same(self, own, folder, digits, small_net):
        model = zoo.load(own.checkpoint, model=small_net()).train()
        measured = zoo.evaluate(model, digits(), metrics=["accuracy"])
        assert measured["samples"] == 64
        assert model.training
        assert zoo.evaluate(own.model, zoo.Data(digits(), classes=digits.classes))["metrics"] == measured["metrics"]

    def test_without_data_it_needs_the_object_it_was_trained_on(self, own):
        with pytest.raises(zoo.InputError, match="data=…, the object itself"):
            zoo.evaluate(own.model)

    def test_images_in_memory_and_as_files(self, own, folder, digits):
        image = digits()[0][0]
        image.save("digit.png")
        pixels = torch.from_numpy(np.array(image)).unsqueeze(0)
        rows = zoo.predict(own.model, ["digit.png", image, pixels], top=3)
        assert [row["image"] for row in rows] == ["digit.png", 1, 2]
        one = rows[0]["predictions"]
        assert len(one) == 3
        alone = [zoo.predict(own.model, given, top=3)[0] for given in ("digit.png", image, pixels)]
        for row in (*rows, *alone):
            assert [answer["label"] for answer in row["predictions"]] == [answer["label"] for answer in one]
            likely = [answer["probability"] for answer in row["predictions"]]
            assert likely == pytest.approx([answer["probability"] for answer in one], abs=1e-6)

    def test_a_model_that_zoo_does_not_know(self, folder, small_net, digits):
        net = small_net()
        with pytest.raises(zoo.InputError, match=r"zoo.save\(model, PATH, classes=…\)"):
            zoo.predict(net, digits()[0][0])
        zoo.save(net, "m.safetensors", classes=digits.classes)  # the cure
        assert zoo.predict(zoo.load("m.safetensors", model=net), digits()[0][0])[0]["predictions"]

    def test_a_device_is_for_files(self, own, digits):
        with pytest.raises(zoo.InputError, match="a model is run where it is"):
            zoo.predict(own.model, digits()[0][0], device="cpu")
