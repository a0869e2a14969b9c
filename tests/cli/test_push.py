"""`zoo push`: what a dry run shows, and how a refusal ends."""


def test_a_dry_run_shows_files_and_card(zoo, trained):
    outcome = zoo("push", trained / "out", "me/digits", "--dry-run")
    assert outcome.code == 0
    assert "would go to me/digits (private, where it is new):" in outcome.out
    assert f"{(trained / 'out/model.safetensors').stat().st_size:,} bytes" in outcome.out
    assert "  # digits\n" in outcome.out or "README.md:\n  ---" in outcome.out
    document = zoo("push", trained / "out", "me/digits", "--dry-run", "--public", "--json").json
    assert (document["private"], document["dry_run"], document["commit"]) == (False, True, None)
    assert [file["name"] for file in document["files"]] == ["model.safetensors", "README.md"]
    assert document["card"].startswith("---\n")


def test_a_repository_that_cannot_be(zoo, trained):
    outcome = zoo("push", trained / "out", "digits")
    assert (outcome.code, outcome.out) == (2, "")
    assert "'digits' cannot be a repository" in outcome.err
