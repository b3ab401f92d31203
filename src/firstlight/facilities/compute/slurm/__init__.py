"""Actions as jobs of Slurm, asked for by its own commands (docs/how-to/run-on-slurm.md)."""

from ._facility import SlurmFacility

__all__ = ["SlurmFacility"]
