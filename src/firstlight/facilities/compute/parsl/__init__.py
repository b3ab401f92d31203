"""Pilots for many short tasks, over Parsl's providers: Slurm, PBS, LSF, ... or this machine (`ParslFacility`)."""

from ._facility import ParslFacility

__all__ = ["ParslFacility"]
