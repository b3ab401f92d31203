"""A small facility that speaks the DOE IRI Facility API, version 2, and really executes what it is given.

    with IriServer(directory) as server:
        ... server.url, server.token_file, server.workdir ...

It is a process of its own on the loopback interface (`python -m firstlight.testing.iri DIRECTORY`). Jobs are processes
of this machine that outlive it; jobs, files, allocations and answers already given under an Idempotency-Key are kept in
the directory, so that it can be killed and started again on the same port. Its file system is `directory/files`, which
clients reach through the API only. It needs starlette and uvicorn.

Specification: https://github.com/doe-iri/iri-facility-api-docs (the operations of "facility", "status", "account",
"compute", "filesystem", "storage" and "task").
"""

from ._server import IriServer

__all__ = ["IriServer"]
