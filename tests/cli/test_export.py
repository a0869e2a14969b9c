"""`zoo export` on the command line."""

import pytest


@pytest.mark.slow
def test_a_document_and_what_people_read(zoo, checkpoint, tmp_path):
    made = zoo("export", checkpoint, tmp_path / "m.pt2", "--preprocess", "--images", "8", "--json")
    assert (made.code, made.err) == (0, "")
    told = made.json
    assert told["check"]["images"] == 8
    assert told["check"]["changed"] == 0
    assert told["check"]["pixels"] == {"different": 0, "of": 8 * 3 * 32 * 32, "largest": 0}
    assert told["input"]["shape"] == ["batch", "height", "width", 3]
    again = zoo("export", checkpoint, tmp_path / "m.pt2")
    assert (again.code, again.out) == (2, "")
    assert "--overwrite" in again.err


@pytest.mark.slow
def test_moved_data_is_said(zoo, checkpoint, tmp_path, monkeypatch):
    from zoo.errors import InputError
    from zoo.exporting import images

    def moved(*_):
        raise InputError("the folder moved away")

    monkeypatch.setattr(images, "open_for", moved)
    made = zoo("export", checkpoint, tmp_path / "m.pt2")
    assert made.code == 0
    assert "note: checked on 16 random inputs, not on images: the folder moved away; name data: --data" in made.err
    assert "compared with torch on 16 random inputs" in made.out


def test_int8_is_for_onnx(zoo, checkpoint, tmp_path):
    refused = zoo("export", checkpoint, tmp_path / "m.pt2", "--int8")
    assert (refused.code, refused.out) == (2, "")
    assert "m.onnx" in refused.err
