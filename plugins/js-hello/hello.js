// Logs what changed: plugins/hello, in JavaScript.
//
//     plugins/js-hello/build.sh js-hello.wasm
//
//     RegisterWatch(
//         znode = "/app/config",
//         action = Wasm("/usr/lib/twitcher/js-hello.wasm", config = {"greeting": "good morning"}),
//         uid = "nobody",
//     )
//
// The imports are the interfaces of wit/action.wit: names in camelCase, enums as strings, variants as {tag, val}, s64 as BigInt,
// option as undefined.

import { get } from "twitcher:action/config@1.1.0";
import { event, nodeStat, path } from "twitcher:action/context@1.1.0";
import { log } from "twitcher:action/log@1.1.0";

function info(message, fields) {
  log("info", message, Object.entries(fields).map(([name, value]) => [name, String(value)]));
}

/** Throws the error case of a result; any other exception is a trap, and `on_failure` decides. */
function fail(failure) {
  throw failure;
}

export const handler = {
  onChange(data) {
    let keys = 0;
    if (data[0] === "{".charCodeAt(0)) {
      try {
        keys = Object.keys(JSON.parse(new TextDecoder().decode(data))).length;
      } catch (error) {
        fail({ tag: "permanent", val: `the znode's data: ${error.message}` });
      }
    }
    info(get("greeting") ?? "hello", {
      path: path(),
      event: event(),
      version: nodeStat()?.version ?? 0,
      bytes: data.length,
      keys,
    });
  },
};
