"""One module per table, run by ``pyro-vd NAME`` or, in a checkout, ``python -m experiments.NAME``.

results/ holds the records behind every published number.
"""

if __name__ == "experiments":  # imported from a checkout as a top-level package, by ``python -m experiments.NAME``
    from pyro_vd.experiments import _checkout
    from pyro_vd.experiments import common as common  # names the extra if one of its packages is missing

    _checkout.alias_package()
