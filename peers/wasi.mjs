// Runs a WASI command under Node: `node peers/wasi.mjs FILE.wasm`.
import { readFile } from "node:fs/promises";
import { WASI } from "node:wasi";

const [file] = process.argv.slice(2);
const wasi = new WASI({ version: "preview1", args: [file], returnOnExit: true });
const module = await WebAssembly.compile(await readFile(file));
// The filter's calls of a proxy are linked in; a decision makes none of them.
const env = {};
for (const { module: from, name } of WebAssembly.Module.imports(module)) {
  if (from === "env") {
    env[name] = () => {
      throw new Error(`there is no proxy here to answer ${name}`);
    };
  }
}
const instance = await WebAssembly.instantiate(module, { ...wasi.getImportObject(), env });
// The filter's own entry point is there too, and Node refuses modules with both.
const { memory, _start } = instance.exports;
process.exit(wasi.start({ exports: { memory, _start } }));
