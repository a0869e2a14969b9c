"""`--remap auto`: finds out which tensor of one layout is which of another, and writes that down as rules.

    result = match(source_entries, target_entries)
    result.status   "proved", "unique", or a reason to abstain
    result.rules    as they would stand under `remap:`

The answer is never a guess: what roles, shapes, order, numbering and names leave open is named and not decided,
unless both networks can be run, which settles it. Everything here works on entries alone; the networks are run
by `zoo.conversion.equivalence`, which is handed in.
"""

from zoo.remap.auto.match import Ambiguity, MatchResult, Proof, Prove, match

__all__ = ["Ambiguity", "MatchResult", "Proof", "Prove", "match"]
