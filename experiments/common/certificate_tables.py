"""The table of experiments.certificate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyro_vd.experiments.common.certificate_runs import KEYS, NETWORKS_CERTIFIED, CertificateSpec
from pyro_vd.experiments.common.store import Store
from pyro_vd.experiments.common.tables import Table, count_runs, percent, summary

__all__ = ["make_table"]

HEADER = ("pair", "network", "kept", "KL, nats", "errors %", "bound %", "largest", "test %", "n")
DISTRIBUTIONS = ("prior", "posterior")


def make_table(spec: CertificateSpec, store: Store) -> Table:
    """Bound and test error of the prior and the posterior, with all weights and pruned.

    Args:
        spec: of any seed.
    """
    runs = store.seeds(spec, KEYS)
    good = [run for run in runs if not run.diverged]
    rows = [
        (distribution, network, *_describe([run[distribution][network] for run in good]), count_runs(runs))
        for distribution in DISTRIBUTIONS
        for network in NETWORKS_CERTIFIED
        if good
    ]
    title = f"Certificates with probability {100 * (1 - spec.delta):g} % each; errors on the certified half"
    return Table(title, HEADER, tuple(rows))


def _describe(found: Sequence[Mapping[str, float]]) -> tuple[str, ...]:
    risks = [one["risk"] for one in found]
    return (
        summary([one["kept"] for one in found], "{:,.0f}"),
        summary([one["kl"] for one in found], "{:.1f}"),
        percent([one["empirical_risk"] for one in found]),
        percent(risks),
        f"{100 * max(risks):.2f}",
        percent([one["test_error"] for one in found]),
    )
