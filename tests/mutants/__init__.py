"""The mutants of the project, a file per area."""

from tests.mutants import compression, distributions, experiments, library, schemes, shrinking, training

MUTANTS = tuple(
    mutant
    for area in (compression, distributions, experiments, library, schemes, shrinking, training)
    for mutant in area.MUTANTS
)
