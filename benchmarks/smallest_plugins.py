"""How many lines the smallest plugin of each kind takes: the entry point's table, the module, and the tests.

    python benchmarks/smallest_plugins.py

Counts what `zoo new plugin` writes, blank lines left out.
"""

from __future__ import annotations

from zoo.scaffolding.plugin import EXAMPLES, entry_points, parts_of


def lines(text: str) -> int:
    return sum(bool(line.strip()) for line in text.splitlines())


def main() -> None:
    print("| kind | entry point | module | tests |\n| --- | --- | --- | --- |")
    for kind in EXAMPLES:
        module, tests, _ = parts_of(kind, "acme")
        print(f"| {kind} | {lines(entry_points([kind], 'zoo_acme'))} | {lines(module)} | {lines(tests)} |")


if __name__ == "__main__":
    main()
