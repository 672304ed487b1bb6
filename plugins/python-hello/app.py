"""Logs what changed: plugins/hello, in Python.

    plugins/python-hello/build.sh python-hello.wasm

    RegisterWatch(
        znode = "/app/config",
        action = Wasm("/usr/lib/twitcher/python-hello.wasm", config = {"greeting": "good morning"}),
        uid = "nobody",
    )

The modules `wit_world` and `componentize_py_types` are made from wit/action.wit when the component is built. To see them, for an
editor or a type checker: `componentize-py -d wit -w action bindings DIR`.
"""

import json
from typing import List, Tuple

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import config, context, log
from wit_world.imports.log import Level
from wit_world.imports.types import Failure_Permanent


def info(message: str, **fields: object) -> None:
    pairs: List[Tuple[str, str]] = [(name, str(value)) for name, value in fields.items()]
    log.log(Level.INFO, message, pairs)


class Handler(exports.Handler):
    def on_change(self, data: bytes) -> None:
        if data.startswith(b"{"):
            try:
                keys = len(json.loads(data))
            except ValueError as error:
                # Any other exception is a trap: its traceback is in the daemon's log, and `on_failure` decides.
                raise Err(Failure_Permanent(f"the znode's data: {error}")) from error
        else:
            keys = 0
        stat = context.node_stat()
        info(
            config.get("greeting") or "hello",
            path=context.path(),
            event=context.event().name.lower(),
            version=stat.version if stat else 0,
            bytes=len(data),
            keys=keys,
        )
