"""Servers that others wrote: that with which the consortium tests clients, and one of another maker's framework."""

import asyncio
import base64
import contextlib
import itertools
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sila2")

from firstlight.core import Action, InstrumentDescription, NotStarted, Permit, Run
from firstlight.facilities.lab.sila import SilaInstrument

from .servers import free_port, python_of, running

METADATA: dict[str, object] = {
    "org.silastandard/test/MetadataProvider/v1/Metadata/StringMetadata": "abc",
    "org.silastandard/test/MetadataProvider/v1/Metadata/TwoIntegersMetadata": {
        "FirstInteger": 123, "SecondInteger": 456,
    },
    "org.silastandard/test/BinaryTransferTest/v1/Metadata/String": "abc",
}  # fmt: skip
NOT_OURS = {
    # Nobody logs in or out: a token is given as metadata.
    "test_user_has_logged_in_with_test_test", "test_user_has_logged_out", "test_command_without_parameters_called",
    "test_command_called_with_small_binary", "test_command_called_with_large_binary",
    # A run has no place for responses before its end.
    "test_count_intermediate_read_from_start_to_end",
    "test_echo_binaries_observably_called_with_abc_and_1e6_times_abc_and_SiLA2_Test_String_Value",
    # An instrument is not ours to name.
    "test_set_server_name_called_with_SiLA_is_Awesome",
}  # fmt: skip
IDS = map("a{}".format, itertools.count())
VOID = (
    '<DataType xmlns="http://www.sila-standard.org"><Constrained><DataType><Basic>String</Basic></DataType>'
    "<Constraints><Length>0</Length></Constraints></Constrained></DataType>"
)


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


LARGE = text(b"abc" * 1_000_000)
ECHOES: Sequence[tuple[str, dict[str, Any]]] = (
    ("BasicDataTypesTest.EchoStringValue", {"StringValue": "SiLA2_Test_String_Value"}),
    ("BasicDataTypesTest.EchoIntegerValue", {"IntegerValue": 5124}),
    ("BasicDataTypesTest.EchoRealValue", {"RealValue": 3.1415926}),
    ("BasicDataTypesTest.EchoBooleanValue", {"BooleanValue": True}),
    ("BasicDataTypesTest.EchoDateValue", {"DateValue": "2022-08-05+02:00"}),
    ("BasicDataTypesTest.EchoTimeValue", {"TimeValue": "12:34:56.789000+02:00"}),
    ("BasicDataTypesTest.EchoTimestampValue", {"TimestampValue": "2022-08-05T12:34:56.789000+02:00"}),
    ("ListDataTypeTest.EchoStringList", {"StringList": ["SiLA 2", "is", "great"]}),
    ("ListDataTypeTest.EchoIntegerList", {"IntegerList": [1, 2, 3]}),
    ("BinaryTransferTest.EchoBinaryValue", {"BinaryValue": text(b"abc")}),
    ("BinaryTransferTest.EchoBinaryValue", {"BinaryValue": LARGE}),
)
OTHERS: Sequence[tuple[str, dict[str, Any], dict[str, Any] | None]] = (
    ("BinaryTransferTest.EchoBinaryAndMetadataString", {"Binary": text(b"abc")}, None),
    ("BinaryTransferTest.EchoBinaryAndMetadataString", {"Binary": LARGE}, {"Binary": LARGE, "StringMetadata": "abc"}),
    ("ObservableCommandTest.Count", {"N": 5, "Delay": 1.0}, {"IterationResponse": 4}),
    ("ObservableCommandTest.EchoValueAfterDelay", {"Value": 3, "Delay": 5.0}, {"ReceivedValue": 3}),
    ("UnobservableCommandTest.CommandWithoutParametersAndResponses", {}, {}),
    ("UnobservableCommandTest.ConvertIntegerToString", {"Integer": 12345}, {"StringRepresentation": "12345"}),
    ("UnobservableCommandTest.JoinIntegerAndString", {"Integer": 123, "String": "abc"}, {"JoinedParameters": "123abc"}),
    *(
        ("UnobservableCommandTest.SplitStringAfterFirstCharacter", {"String": word},
         {"FirstCharacter": word[:1], "Remainder": word[1:]})
        for word in ("", "a", "ab", "abcde")
    ),
    ("MetadataConsumerTest.EchoStringMetadata", {}, {"ReceivedStringMetadata": "abc"}),
    ("MetadataConsumerTest.UnpackMetadata", {}, None),
)  # fmt: skip


async def perform(it: SilaInstrument, operation: str, settings: dict[str, object]) -> Run:
    action = Action(
        id=next(IDS), trial="t", facility="lab", name="step", operation=operation, point={}, settings=settings
    )
    return [run async for run in it.follow(await it.start(Permit(action=action, policies=())))][-1]


async def ask_everything(it: SilaInstrument) -> None:
    """All that its judges want to see, and what came of it."""

    async def expect(operation: str, settings: dict[str, Any], results: dict[str, Any] | None) -> None:
        run = await perform(it, operation, settings)
        assert run.state == "succeeded", (operation, run.message)
        assert results is None or run.results == results

    async def echo(operation: str, settings: dict[str, Any]) -> None:
        run = await perform(it, operation, settings)
        assert list(run.results.values()) == list(settings.values()), (operation, run.message)

    said = await it.describe()
    joint = [text(b"abc"), LARGE, text(b"SiLA2_Test_String_Value")]
    async with asyncio.TaskGroup() as group:
        for operation, settings, results in OTHERS:
            group.create_task(expect(operation, settings, results))
        group.create_task(expect("BinaryTransferTest.EchoBinariesObservably", {"Binaries": joint}, None))
        group.create_task(properties(it, said, echo))
        group.create_task(errors(it))
        group.create_task(editing(it))
        for operation, settings in ECHOES:
            await echo(operation, settings)


async def properties(it: SilaInstrument, said: InstrumentDescription, echo: Any) -> None:
    """Every property is read, and what has a structure is sent back as it came."""
    for operation in (o.name for o in said.operations if ".Get_" in o.name):
        run = await perform(it, operation, {})
        feature, _, name = operation.partition(".Get_")
        assert run.state == ("failed" if "OnGet" in name or "OnSubscribe" in name else "succeeded"), (name, run.message)
        match feature, name:
            case "AnyTypeTest", _:
                sent = await perform(it, "AnyTypeTest.SetAnyTypeValue", {"AnyTypeValue": run.results[name]})
                assert sent.state == "succeeded", (name, sent.message)
            case (
                "StructureDataTypeTest" | "ListDataTypeTest",
                "StructureValue" | "DeepStructureValue" | "StructureList",
            ):
                await echo(f"{feature}.Echo{name}", {name: run.results[name]})
    sent = await perform(it, "AnyTypeTest.SetAnyTypeValue", {"AnyTypeValue": {"type": VOID, "value": None}})
    assert sent.state == "succeeded", sent.message


async def errors(it: SilaInstrument) -> None:
    for words, kind in (("Defined", "TestError: "), ("Undefined", "")):
        for way in ("", "Observably"):
            run = await perform(it, f"ErrorHandlingTest.Raise{words}ExecutionError{way}", {})
            assert run.state == "failed" and run.message == f"{kind}SiLA2_test_error_message"
        async with contextlib.aclosing(it.watch([f"ErrorHandlingTest.Raise{words}ExecutionErrorOnSubscribe"])) as seen:
            assert (await anext(seen)).value is None
        name = f"ErrorHandlingTest.Raise{words}ExecutionErrorAfterValueWasSent"
        async with contextlib.aclosing(it.watch([name])) as seen:
            assert [(await anext(seen)).value, (await anext(seen)).value] == [1, None]
    async with contextlib.aclosing(it.watch(["ObservablePropertyTest.FixedValue"])) as seen:
        assert (await anext(seen)).value == 42
    with pytest.raises(NotStarted):
        await perform(it, "BasicDataTypesTest.EchoIntegerValue", {"IntegerValue": "many"})


async def editing(it: SilaInstrument) -> None:
    async with contextlib.aclosing(it.watch(["ObservablePropertyTest.Editable"])) as seen:
        await anext(seen)
        for value in (1, 2, 3):
            await perform(it, "ObservablePropertyTest.SetValue", {"Value": value})
            assert (await anext(seen)).value == value
    async with contextlib.aclosing(it.watch(["MetadataConsumerTest.ReceivedStringMetadataAsCharacters"])) as seen:
        assert [(await anext(seen)).value for _ in range(3)] == ["a", "b", "c"]
    async with contextlib.aclosing(it.watch(["ObservablePropertyTest.Alternating"])) as seen:
        assert [(await anext(seen)).value for _ in range(3)] in ([True, False, True], [False, True, False])


def test_the_servers_own_judges_are_content(tmp_path: Path) -> None:
    port, report = free_port(), tmp_path / "report.xml"
    command = [python_of("instruments"), "-m", "sila2_interop_communication_tester.test_server"]
    command += ["--server-address", f"127.0.0.1:{port}", "--report-file", str(report)]

    async def test() -> None:
        it = SilaInstrument("judge", f"127.0.0.1:{port}", insecure=True, metadata=METADATA)
        try:
            async with asyncio.timeout(30):
                await ask_everything(it)
        finally:
            await it.close()

    # sila2 sets this for all of our process; the judge needs protobuf as it comes.
    with running(command, tmp_path / "log", port, {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "upb"}) as server:
        asyncio.run(test())
        server.terminate()
        server.wait(30)
    cases = ET.parse(report).getroot().iter("testcase")
    failed = {case.get("name"): case.find("failure") is None for case in cases}
    assert {name for name, passed in failed.items() if not passed} <= NOT_OURS
    assert sum(failed.values()) >= 90


UNITELABS = """
import asyncio, sys
from unitelabs.cdk import Connector, ConnectorBaseConfig
from unitelabs.cdk.features.test.observable_command_test import ObservableCommandTest
from unitelabs.cdk.features.test.observable_property_test import ObservablePropertyTest
from unitelabs.cdk.features.test.parameter_constraints_test import ParameterConstraintsTest

async def main():
    config = ConnectorBaseConfig()
    config.sila_server.hostname, config.sila_server.port, config.sila_server.tls = "127.0.0.1", int(sys.argv[1]), False
    config.discovery = None
    app = Connector(config)
    for feature in (ObservableCommandTest, ObservablePropertyTest, ParameterConstraintsTest):
        app.register(feature())
    await app.start()
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_a_server_of_another_maker(tmp_path: Path) -> None:
    port = free_port()

    async def test() -> None:
        it = SilaInstrument("other", f"127.0.0.1:{port}", insecure=True)
        said = await it.describe()
        # sila2 cannot read one of its features, which says nothing against the others.
        assert "ParameterConstraintsTest/v1 is left out" in said.description
        count = said.operation("ObservableCommandTest.Count")
        assert count is not None and count.arguments[1].unit == "s"
        counted = await perform(it, "ObservableCommandTest.Count", {"N": 3, "Delay": 0.05})
        assert counted.results == {"IterationResponse": 2}
        # It has ended before anybody asks how far it has come.
        assert (await perform(it, "ObservableCommandTest.Count", {"N": 3, "Delay": 0.0})).state == "succeeded"
        async with contextlib.aclosing(it.watch(["ObservablePropertyTest.FixedValue"])) as seen:
            assert (await anext(seen)).value == 42
        lost = "ObservableCommandTest.Count/98e73d4c-4a1b-451d-bcd8-77c38bf5c1ee"
        assert (await it.status(lost)).state == "unknown"
        await it.close()

    python = python_of("instruments")
    command = [python, "-c", UNITELABS, str(port)]
    with running(command, tmp_path / "log", port, {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "upb"}):
        asyncio.run(test())
