"""Records made for a test."""

from pyro_vd.experiments.common import records

EXAMPLES = {str: "text", int: 1, dict: {}, bool: False}


def complete(required=records.REQUIRED, **changes):
    """A record that has all that is required, of the types that are."""
    typed = {name: EXAMPLES[types[0]] for name, types in records.TYPES.items() if name in required}
    return {**dict.fromkeys(required, 1), **typed, **changes}
