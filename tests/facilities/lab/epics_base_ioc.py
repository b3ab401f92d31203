"""An IOC of EPICS base itself (package softioc), served over Channel Access and PVAccess."""

import asyncio

from softioc import asyncio_dispatcher, builder, softioc

dispatcher = asyncio_dispatcher.AsyncioDispatcher()
builder.SetDeviceName("soft")
readback = builder.aIn("RBV", initial_value=25.0, EGU="degC", PREC=2)
done = builder.boolIn("DONE", ZNAM="busy", ONAM="done", initial_value=1)
spectrum = builder.WaveformIn("SPECTRUM", initial_value=[0.0, 0.0, 0.0])
limit = {"DRVL": 20.0, "DRVH": 200.0, "HIHI": 190.0, "HHSV": "MAJOR"}


async def heat(value: float) -> None:
    """Put-callback: who waits for the put waits for this."""
    start = readback.get()
    for step in range(1, 6):
        await asyncio.sleep(0.06)
        readback.set(start + (value - start) * step / 5)


async def slow(value: float) -> None:
    await asyncio.sleep(10.0 if value > 150.0 else 0.0)


async def measure(value: int) -> None:
    if value:
        done.set(0)
        await asyncio.sleep(0.2)
        spectrum.set([1.0, 2.0, float(readback.get())])
        done.set(1)


builder.aOut("SP", initial_value=25.0, EGU="degC", PREC=2, on_update=heat, blocking=True, **limit)
for name in ("ca", "pva"):
    builder.aOut(name, initial_value=25.0, on_update=slow, blocking=True)
builder.mbbOut("MODE", "coarse", "fine", initial_value=0)
builder.boolOut("DOOR", ZNAM="closed", ONAM="open", initial_value=0)
builder.aOut("GO", initial_value=0, on_update=measure, always_update=True)
builder.aOut("LOCKED", initial_value=0.0, DISP=1)
builder.LoadDatabase()
softioc.iocInit(dispatcher)
softioc.non_interactive_ioc()
