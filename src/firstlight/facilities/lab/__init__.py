"""Robotic laboratories: one facility over many instruments, each behind an adapter of its own protocol."""
