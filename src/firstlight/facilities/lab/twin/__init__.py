"""A robotic laboratory that is not there: devices with physics and faults, served over the protocols of real ones."""
