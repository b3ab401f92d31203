"""Design: strategies that choose the points to try next, and the test whether there is any point to try."""

from ._space import infeasible

__all__ = ["infeasible"]
