"""Ask the YAML language server, which editors run, about all recipes: the figures of docs/plugins.md.

Every recipe that ships has to pass with `zoo schema`'s schema, and to be marked once a key is misspelt; else the exit
code is 1. Of the broken recipes of tests/recipe/mistakes.txt it is said where they are marked, but for those that no
schema can know (tests/recipe/test_schema_places.py says which, and why).

    npm install yaml-language-server
    python benchmarks/yaml_language_server.py node_modules/.bin/yaml-language-server
"""

import argparse
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from zoo.recipe.schema import recipe_schema

ROOT = Path(__file__).parents[1]
WHERE = ("at the place that zoo check names", "elsewhere in that line", "in another line", "not at all")
PLACE = re.compile(r"(?m)^recipe\.yaml:(\d+):(\d+)")


class Server:
    """A language server on the other end of two pipes, and what it says of one text after the other."""

    def __init__(self, command):
        self.process = subprocess.Popen([command, "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.settings = {"validate": True, "schemaStore": {"enable": False}}  # nothing is fetched
        self.send("initialize", {"processId": None, "rootUri": None, "capabilities": {}}, id=0)
        while self.receive().get("id") != 0:
            pass
        self.send("initialized", {})
        self.send("workspace/didChangeConfiguration", {"settings": {"yaml": self.settings}})

    def send(self, method, params, **more):
        self._write({"jsonrpc": "2.0", "method": method, "params": params, **more})

    def _write(self, message):
        content = json.dumps(message).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(content), content))
        self.process.stdin.flush()

    def receive(self):
        """The next message; what the server asks is answered: its settings, and nothing else."""
        while (line := self.process.stdout.readline()) and not line.lower().startswith(b"content-length"):
            pass
        if not line:
            sys.exit("the language server ended")
        size = int(line.partition(b":")[2])
        while self.process.stdout.readline().strip():
            pass
        message = json.loads(self.process.stdout.read(size))
        if "method" in message and "id" in message:
            asked = message["params"].get("items", []) if message["method"] == "workspace/configuration" else []
            result = [self.settings if item.get("section") == "yaml" else None for item in asked] or None
            self._write({"jsonrpc": "2.0", "id": message["id"], "result": result})
        return message

    def diagnostics(self, address, text):
        """What it marks: each mark's place and message. Places count from 1 behind the text's first line."""
        document = {"uri": address, "languageId": "yaml", "version": 1, "text": text}
        self.send("textDocument/didOpen", {"textDocument": document})
        while True:
            message = self.receive()
            if message.get("method") == "textDocument/publishDiagnostics" and message["params"]["uri"] == address:
                break
        self.send("textDocument/didClose", {"textDocument": {"uri": address}})
        marks = []
        for found in message["params"]["diagnostics"]:
            start = found["range"]["start"]
            marks.append(((start["line"], start["character"] + 1), found["message"]))
        return marks


def corpus():
    """tests/recipe/test_schema_places.py: the broken recipes, and which of them are known at `zoo check` alone."""
    path = ROOT / "tests/recipe/test_schema_places.py"
    spec = importlib.util.spec_from_file_location("schema_places", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def where_marked(marks, expected):
    """One of WHERE: the nearest mark to a place that `zoo check` prints."""
    said = {(int(line), int(column)) for line, column in PLACE.findall(expected)}
    places = {place for place, _ in marks}
    if said & places:
        return WHERE[0]
    return WHERE[1] if {line for line, _ in said} & {line for line, _ in places} else WHERE[2 if marks else 3]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("server", help="yaml-language-server's program")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        schema = Path(folder) / "recipe.schema.json"
        schema.write_text(json.dumps(recipe_schema()))
        named = f"# yaml-language-server: $schema={schema.as_uri()}\n"
        server = Server(arguments.server)
        recipes = sorted((ROOT / "recipes").rglob("*.yaml"))
        marked, unseen = [], []
        for path in recipes:
            text = re.sub(r"(?m)^(# yaml-language-server: \$schema=).*$", rf"\g<1>{schema.as_uri()}", path.read_text())
            if marks := server.diagnostics((Path(folder) / path.name).as_uri(), text):
                marked.append((path, marks))
            if not server.diagnostics((Path(folder) / f"spoilt-{path.name}").as_uri(), f"{text}\nstepps: 1\n"):
                unseen.append(path)
        print(f"recipes that ship: {len(recipes)}; without a mark: {len(recipes) - len(marked)}")
        print(f"the same with a misspelt key: {len(recipes)}; marked: {len(recipes) - len(unseen)}")
        known = corpus()
        found = {where: [] for where in WHERE}
        for number, (name, case) in enumerate(known.CASES.items()):
            if name not in known.AT_CHECK:
                marks = server.diagnostics((Path(folder) / f"broken{number}.yaml").as_uri(), named + case.recipe)
                found[where_marked(marks, case.expected)].append(name)
        print(f"broken recipes that a schema can know: {sum(map(len, found.values()))}")
        for where, names in found.items():
            print(f"  marked {where}: {len(names)}", *([] if where == WHERE[0] else names), sep="\n    ")
        server.process.kill()
    for path, marks in marked:
        print(path, *marks, sep="\n    ")
    print(*unseen, sep="\n")
    sys.exit(bool(marked or unseen))


if __name__ == "__main__":
    main()
