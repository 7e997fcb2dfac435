// Runs a WASI command under Node: `node peers/wasi.mjs FILE.wasm`.
import { readFile } from "node:fs/promises";
import { WASI } from "node:wasi";

const [file] = process.argv.slice(2);
const wasi = new WASI({ version: "preview1", args: [file], returnOnExit: true });
const module = await WebAssembly.compile(await readFile(file));
const instance = await WebAssembly.instantiate(module, wasi.getImportObject());
process.exit(wasi.start(instance));
