"""`--remap auto`: finds out which tensor of one layout is which of another, and writes that down as rules.

    result = match(source_entries, target_entries)
    result.status   "proved", "unique", or a reason to abstain
    result.rules    as they would stand under `remap:`

The matcher sees names, shapes and dtypes only. It never guesses: an assignment solver would always answer, and a wrong
answer loads without an error; this one names what is open and gives no rules. docs/matching.md says which pairs of
libraries it settles. It works in six steps.

leaves.py: the last word of a name, in the words of other frameworks (`gamma`, `moving_mean`, `kernel`), as torch's role
and order of axes. words.py: synonyms among the other words, and which of two modules comes first by its name.

units.py: names to units. A unit is a module with tensors of its own (`layer1.0.bn1`, with the roles weight, bias,
running_mean, …) or a bare tensor (`cls_token`). Levels that are written into one component (`conv2_block1_0_conv`) are
taken apart. Its signature is its roles and their shapes. Query, key and value projections that one side holds apart and
the other as one `qkv` or `kv` are fused. Signatures that can stand for each other form a class: equal ones, and, where
one side has units to spare and the other lacks some, those that differ in axes of size 1, in a kernel laid flat (a
linear layer for a 1x1 convolution), in a transpose or in a missing bias, or are one tensor each (an embedding's weight
and a bare parameter), if that fits in one way only.

tree.py: dotted names make a tree. The content of a prefix is how many units of each class lie below it. Blocks of equal
content may correspond, so two blocks that do are cut into groups: the largest blocks inside that both hold equally
often first, then single units by class. A group of one item on each side is settled; in all others roles and shapes
leave open which item is which.

evidence.py, beside.py: what settles a group. In this order: the same name; the same last word; the role that the item
has in blocks matched before; of norms, the layer that they stand beside; its place between neighbours that are matched
already; numbering; a word that only these two share; of two, the words for first and second; and, where the order in
which both networks use their tensors is known, the place in that. Each kind answers with pairs it is sure of, or not
at all. The order of a file counts only where it can be the order of registration (prefixes hold together, names are not
sorted) and what is matched by then does not contradict it.

solver.py: from the roots down. Blocks that are matched are opened, their groups wait, and the solver settles one group
at a time by evidence, since each pair is a neighbour and a role for the next. When no evidence settles any of the
groups left, the first is filled in order, so that the rest can still be looked at; what hangs on that is tentative,
nothing is learned from it, and the group is reported as undecided.

links.py: from units to tensors. One to one, several put together (q, k, v to qkv), or one cut into parts, with the
change of shape that this needs, and where equal shapes can hide another order of values. leftovers.py: units that are
the same thing in another size, and which tensors without a place are dropped; what may act on what is loaded is not,
and `zoo convert` refuses to leave it out.

templates.py and write_rules.py: the links as a short program. Renames that differ in numbers only become one line with
placeholders (`blocks.{i+1}.{leaf}`; a multiple like `{2*i}` only where three values show it). Lines are ordered so that
none catches another's names, and taken apart where no order helps. Each way to write the program is run on the entries,
and the shortest one that makes exactly these links is kept; it runs backwards too wherever that is possible.

When it abstains. "ambiguous": a group is undecided; or modules without a partner on both sides have the same shape; or
a table is transposed, or patches are merged in an order that names do not show, as shapes do not show how values are
ordered; or one norm stands in front of pooling and the other behind it. "none": less than half of the target's elements
have a source. Otherwise the answer is "unique", with what it had to assume (q, k and v one after the other).

When networks are run. With both architectures named, `zoo.conversion.equivalence` goes on from here: it fills the
source with random weights, moves them by the rules, runs both networks and compares the outputs. Then only "proved"
rules are given. While the outputs differ, undecided groups of up to three items are tried in the target's order, every
permutation; a choice is kept where the networks agree for longer than before, and after 24 runs no further group is
tried. Rules that make the networks agree are still "ambiguous" if two items of an undecided group can change places
without a difference. The one answer that evidence leaves is "refuted" if the networks do not agree with it.
"""

from zoo.remap.auto.match import Ambiguity, Matching, MatchResult, Proof, match

__all__ = ["Ambiguity", "MatchResult", "Matching", "Proof", "match"]
