"""Names for containers whose user gave none: an adjective and a thing of a building site."""

from __future__ import annotations

import os

from imgbuild.errors import UsageError
from imgbuild.hints import AbstractSet
from imgbuild.patterns import ASCII, pattern

_NAME = pattern(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", ASCII)
_ADJECTIVES = (
    "able", "agile", "airy", "amber", "ample", "azure", "bold", "brave", "brief", "bright", "brisk", "broad", "calm", "candid",
    "civil", "clean", "clear", "clever", "coral", "cosy", "crisp", "daring", "deft", "eager", "early", "even", "fair", "famous",
    "fine", "firm", "fleet", "fond", "frank", "fresh", "gentle", "glad", "golden", "grand", "green", "handy", "happy", "hardy",
    "honest", "humble", "ideal", "jolly", "keen", "kind", "lively", "loyal", "lucid", "lucky", "mellow", "merry", "mild", "modest",
    "neat", "nimble", "noble", "novel", "patient", "plain", "polite", "prompt", "proud", "quick", "quiet", "rapid", "ready", "robust",
    "rosy", "serene", "sharp", "silent", "smart", "smooth", "snug", "solid", "sound", "spry", "steady", "sunny", "swift", "tidy",
    "trusty", "upbeat", "vivid", "warm", "wise", "witty",
)  # fmt: skip
_THINGS = (
    "anvil", "arch", "attic", "awl", "barrow", "beam", "bolt", "brace", "brick", "bridge", "bucket", "buttress", "cabin", "canopy",
    "chisel", "column", "cornice", "crane", "derrick", "dome", "door", "dowel", "easel", "fence", "file", "forge", "frame", "funnel",
    "gable", "gantry", "garret", "girder", "hammer", "hatch", "hinge", "hoist", "jack", "joist", "kiln", "ladder", "lantern",
    "lathe", "lever", "lintel", "loft", "mallet", "mortar", "nail", "niche", "panel", "patio", "pavilion", "pier", "pillar", "plank",
    "plaster", "plinth", "plumb", "porch", "pulley", "purlin", "quarry", "rafter", "ramp", "ridge", "rivet", "roof", "saw", "scaffold",
    "shim", "shingle", "shovel", "sill", "spade", "stair", "steeple", "stone", "tile", "timber", "tower", "trellis", "trowel", "truss",
    "turret", "vault", "veranda", "vise", "wall", "wedge", "winch", "window",
)  # fmt: skip


def check_name(name: str) -> str:
    """The name, where a container may have it."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"invalid container name {name!r}", hint="letters, digits, '_', '.', '-', with a letter or digit first")
    return name


def random_name(taken: AbstractSet[str]) -> str:
    """A name that is not taken."""
    while True:
        dice = int.from_bytes(os.urandom(8))
        name = f"{_ADJECTIVES[dice % len(_ADJECTIVES)]}_{_THINGS[dice // len(_ADJECTIVES) % len(_THINGS)]}"
        if name in taken:
            name += f"_{os.urandom(3).hex()}"
        if name not in taken:
            return name
