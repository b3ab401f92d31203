"""The usual names of what is measured, and what each is called here.

One line a quantity: its name, a unit of its dimension, and the names by which it goes. The names of quantities and
their dimensions are those of QUDT's quantity kinds (qudt.org/vocab/quantitykind) and, where QUDT has none, of the
NeXus base classes (NXsample, NXdata, NXxps) and the CF standard names; the letters are the symbols of the IUPAC
Green Book (3rd edition, chapter 2). A name counts only together with a unit of the right dimension.
"""
# ruff: noqa: RUF001 - the letters of units and quantities are meant

from typing import NamedTuple


class Quantity(NamedTuple):
    """A quantity: its name, a unit of its dimension, other names for it, and where the name is from."""

    name: str
    unit: str
    called: tuple[str, ...]
    source: str


_TABLE = """
temperature            | K           | T temp tmp theta                          | QUDT Temperature, NXsample, CF
pressure               | Pa          | p P press pres                            | QUDT Pressure, NXsample
time                   | s           | t elapsed_time elapsed time_elapsed       | QUDT Time, CF
wavelength             | m           | λ lambda wl wave_length                   | QUDT Wavelength, NXmonochromator
wavenumber             | 1/m         | wave_number raman_shift                   | QUDT InverseLength, CF
frequency              | Hz          | f ν freq                                  | QUDT Frequency
energy                 | J           | E                                         | QUDT Energy, NXmonochromator
binding_energy         | J           | BE b.e.                                   | NXxps
voltage                | V           | U V volt volts                            | QUDT Voltage
potential              | V           | E ewe electrode_potential                 | QUDT ElectricPotential
current                | A           | I i amps amperage                         | QUDT ElectricCurrent
current_density        | A/m^2       | j J                                       | QUDT ElectricCurrentDensity
resistance             | ohm         | R                                         | QUDT Resistance
conductivity           | S/m         | κ electrical_conductivity                 | QUDT ElectricConductivity
capacitance            | F           | C cap                                     | QUDT Capacitance
power                  | W           | P pwr                                     | QUDT Power
mass                   | kg          | m                                         | QUDT Mass, NXsample
volume                 | m^3         | V vol                                     | QUDT Volume
density                | kg/m^3      | ρ rho                                     | QUDT Density, NXsample
concentration          | mol/m^3     | c conc                                    | QUDT AmountOfSubstanceConcentration
amount_of_substance    | mol         | n                                         | QUDT AmountOfSubstance
molar_mass             | kg/mol      | M mw molecular_weight molar_weight        | QUDT MolarMass
flow_rate              | m^3/s       | Q flow flowrate volumetric_flow_rate      | QUDT VolumeFlowRate
magnetic_flux_density  | T           | B                                         | QUDT MagneticFluxDensity
viscosity              | Pa*s        | η eta dynamic_viscosity                   | QUDT DynamicViscosity
rotation_angle         | degree      |                                           | NXgoniometer
two_theta              | degree      | 2theta 2-theta 2θ two-theta twotheta tth 2th | NXdata, NXdetector
scattering_vector      | 1/m         | q                                         | NXcanSAS
"""
_rows = [[cell.strip() for cell in line.split("|")] for line in _TABLE.strip().splitlines()]
QUANTITIES = tuple(Quantity(name, unit, tuple(called.split()), source) for name, unit, called, source in _rows)
