"""Instructions of one decision on Wasm: `python peers/instructions.py bench-core.wasm`, with PyPI's wasmtime.

The engine counts what it executes (its fuel), so the figures are the same on every machine and in every run. What reading the
policies costs falls out: it is the difference of two runs that decide different numbers of times.
"""

import sys

from wasmtime import Config, Engine, Linker, Module, Store, WasiConfig

COUNTS = [10, 100, 1_000, 10_000]
FEW, MANY = 100, 600
FUEL = 1 << 62


def instructions(engine, module, words):
    """All that a run with these arguments executes."""
    linker = Linker(engine)
    linker.define_wasi()
    store = Store(engine)
    store.set_fuel(FUEL)
    wasi = WasiConfig()
    wasi.argv = ["bench-core", *words]
    wasi.inherit_stderr()
    store.set_wasi(wasi)
    # the filter's calls of a proxy are linked in; a decision makes none of them
    linker.define_unknown_imports_as_traps(module)
    linker.instantiate(store, module).exports(store)["_start"](store)
    return FUEL - store.get_fuel()


def main(path):
    config = Config()
    config.consume_fuel = True
    engine = Engine(config)
    module = Module.from_file(engine, path)
    print(f"{'instructions, policies:':<28}" + "".join(f"{count:>12}" for count in COUNTS))
    for row, rest in (
        ("mlgate", []),
        ("mlgate, denied", ["denied"]),
        ("mlgate, remembered", ["remembered"]),
    ):
        figures = []
        for count in COUNTS:
            few, many = (
                instructions(engine, module, ["decide", str(count), str(times), *rest]) for times in (FEW, MANY)
            )
            figures.append((many - few) / (MANY - FEW))
        print(f"{row:<28}" + "".join(f"{figure:>12.0f}" for figure in figures))
        print(f"{row}: {COUNTS[-1]} policies cost {figures[-1] / figures[0]:.2f} times what {COUNTS[0]} cost")


main(*sys.argv[1:])
