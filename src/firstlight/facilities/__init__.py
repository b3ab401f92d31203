"""Execute and measure: machine rooms and laboratories, one folder a family, one file an adapter."""

__all__: list[str] = []
