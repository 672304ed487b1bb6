// build.js WIT-DIR OUT.wasm: run by build.sh, beside the installed compiler.
import { readFile, writeFile } from "node:fs/promises";
import { argv } from "node:process";
import { componentize } from "@bytecodealliance/componentize-js";

const [, , source, witPath, out] = argv;
const { component } = await componentize(await readFile(source, "utf8"), {
  witPath,
  worldName: "action",
  // A component that imports neither is granted neither.
  disableFeatures: ["http", "fetch-event"],
});
await writeFile(out, component);
