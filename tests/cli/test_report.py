"""`zoo report`: what is missing is said, and a terminal obeys nothing of it."""

import json


def test_control_characters_of_a_failure_are_spelled_out(zoo, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "status.json").write_text(json.dumps({"state": "failed", "why": "\x1b[31mred", "name": "small"}))
    (folder / "first_batch.jpg").write_bytes(b"none")
    outcome = zoo("report", folder)
    assert (outcome.code, outcome.out) == (0, f"{folder / 'report.html'}\n")
    assert "note: the run failed: \\x1b[31mred\n" in outcome.err
    assert "note: first_batch.jpg left out: UnidentifiedImageError" in outcome.err
