"""What clients send, as the specification has it. Everything else is refused."""

from typing import Annotated

from msgspec import Meta, Struct, field

Count = Annotated[int, Meta(ge=1)]
Text = Annotated[str, Meta(min_length=1)]


class VolumeMount(Struct):
    source: Text
    target: Text
    read_only: bool = True


class Container(Struct):
    image: Text
    volume_mounts: list[VolumeMount] = []


class ResourceSpec(Struct):
    node_count: Count | None = None
    process_count: Count | None = None
    processes_per_node: Count | None = None
    cpu_cores_per_process: Count | None = None
    gpu_cores_per_process: Count | None = None
    exclusive_node_use: bool = True
    memory: Count | None = None


class JobAttributes(Struct):
    duration: Count | None = None
    queue_name: Text | None = None
    account: Text | None = None
    reservation_id: Text | None = None
    custom_attributes: dict[str, str] = {}


class JobSpec(Struct, forbid_unknown_fields=True):
    attributes: JobAttributes | None = None
    executable: Text | None = None
    container: Container | None = None
    arguments: list[str] = []
    directory: Text | None = None
    name: Text | None = None
    inherit_environment: bool = True
    environment: dict[str, str] = {}
    stdin_path: Text | None = None
    stdout_path: Text | None = None
    stderr_path: Text | None = None
    resources: ResourceSpec | None = None
    pre_launch: Text | None = None
    post_launch: Text | None = None
    launcher: Text | None = None


class Path(Struct):
    path: str


class Stat(Struct):
    path: str
    dereference: bool = False


class List(Struct):
    path: str
    show_hidden: bool = field(name="showHidden", default=False)
    numeric_uid: bool = field(name="numericUid", default=False)
    recursive: bool = False
    dereference: bool = False


class Head(Struct):
    path: str
    bytes: int | None = None
    lines: int | None = None
    skip_trailing: bool = field(name="skipTrailing", default=False)


class Tail(Struct):
    path: Text
    bytes: Count | None = None
    lines: Count | None = None
    skip_heading: bool = field(name="skipHeading", default=False)


class View(Struct):
    path: str
    size: Count | None = None
    offset: Annotated[int, Meta(ge=0)] = 0


class MakeDirectory(Struct):
    path: str | None = None
    parent: bool = False


class Symlink(Struct):
    link_path: str
    path: str | None = None


class Copy(Struct):
    target_path: str
    path: str | None = None
    dereference: bool = False


class Move(Struct):
    target_path: str
    path: str | None = None


class Mode(Struct):
    mode: str
    path: str | None = None


class Owner(Struct):
    path: str | None = None
    owner: str = ""
    group: str = ""


Urn = Annotated[str, Meta(pattern=r"^urn:doe-iri:compression:.+$")]


class Compress(Struct):
    target_path: str
    path: str | None = None
    match_pattern: str | None = None
    dereference: bool = False
    compression: Urn = "urn:doe-iri:compression:gzip"


class Extract(Struct):
    target_path: str
    path: str | None = None
    compression: Urn = "urn:doe-iri:compression:gzip"
