"""`zoo schema`: one JSON Schema document on standard output."""


def test_it_is_one_document(zoo):
    outcome = zoo("schema")
    assert (outcome.code, outcome.err) == (0, "")
    schema = outcome.json
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["anyOf"] == [{"required": ["model", "steps"]}, {"required": ["extends"]}]
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == {
        "extends",
        "set",
        "name",
        "seed",
        "model",
        "data",
        "steps",
        "device",
        "precision",
    }


def test_help_says_how_an_editor_finds_it(zoo):
    outcome = zoo("schema", "--help")
    assert outcome.code == 0
    assert "# yaml-language-server: $schema=recipe.schema.json" in outcome.out
