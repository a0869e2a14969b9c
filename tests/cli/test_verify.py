"""`zoo verify`: rows, exit codes, one document."""

import json
import shutil


def test_an_honest_run(zoo, trained):
    outcome = zoo("verify", trained / "out")
    assert outcome.code == 0
    assert "confirmed    tensors" in outcome.out
    assert outcome.out.rstrip().endswith("0 FAILED, 0 not checked")


def test_an_edited_one(zoo, trained, tmp_path):
    folder = shutil.copytree(trained / "out", tmp_path / "out")
    report = json.loads((folder / "report.json").read_text())
    report["metrics"]["accuracy"] = 0.999
    (folder / "report.json").write_text(json.dumps(report))
    outcome = zoo("verify", folder, "--quick")
    assert outcome.code == 1
    assert "FAILED       report.json" in outcome.out
    assert "expected " in outcome.out
    again = zoo("verify", folder, "--quick", "--json")
    assert (again.code, again.json["ok"], again.json["report"]) == (1, False, True)
    assert {row["result"] for row in again.json["checks"]} == {"confirmed", "failed", "not checked"}


def test_what_is_no_checkpoint(zoo, tmp_path):
    outcome = zoo("verify", tmp_path)
    assert (outcome.code, outcome.out) == (2, "")
    assert "contains no model.safetensors (name the folder of a finished run" in outcome.err
