"""Helm 3 and 4, as they stand in a Python package: no helm binary is needed.

The package's server, a front to Helm's own libraries, is spoken to over its
standard input and output (JSON-RPC, one object a line).
"""

import atexit
import itertools
import json
import os
import pathlib
import subprocess
import tempfile

import yaml

VERSIONS = ("v3", "v4")


class HelmError(Exception):
    """What Helm says of a chart that it refuses."""


class Helm:
    def __init__(self, binary: pathlib.Path) -> None:
        # Repositories and settings of whoever runs the tests are no business of theirs.
        self._home = tempfile.TemporaryDirectory(prefix="helm-")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HELM_", "KUBE"))}
        environment |= {"HOME": self._home.name, "XDG_CACHE_HOME": self._home.name}
        self._process = subprocess.Popen(
            [binary, "-mode", "stdio", "-max-response-bytes", "0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
        )
        atexit.register(self.close)
        self._ids = itertools.count(1)
        self._request(
            "initialize",
            {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "tests", "version": "0"}},
        )
        self._send({"method": "notifications/initialized"})

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(10)

    def _send(self, message: dict) -> None:
        self._process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self._process.stdin.flush()

    def _request(self, method: str, params: dict) -> dict:
        number = next(self._ids)
        self._send({"id": number, "method": method, "params": params})
        for line in self._process.stdout:
            answer = json.loads(line)
            if answer.get("id") == number:
                return answer
        raise RuntimeError("helm closed its output")

    def call(self, tool: str, **arguments: object) -> str:
        answer = self._request("tools/call", {"name": tool, "arguments": arguments})
        if "error" in answer:
            raise RuntimeError(json.dumps(answer["error"]))
        text = "\n".join(part.get("text", "") for part in answer["result"]["content"])
        if answer["result"].get("isError"):
            raise HelmError(text)
        return text

    def template(self, chart: pathlib.Path, release: str = "acr", **arguments: object) -> list[dict]:
        arguments.setdefault("kube_version", "1.31.0")
        text = self.call("helm_template", release_name=release, chart=str(chart), **arguments)
        return [manifest for manifest in yaml.safe_load_all(text) if manifest]
