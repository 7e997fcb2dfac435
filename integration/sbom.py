"""Writes a CycloneDX 1.6 bill of materials beside each file of dist/: dist/mlgate.wasm.cdx.json and dist/mlgate.cdx.json.

What is in a file is what `cargo tree` says for its features and target; checksums are those of Cargo.lock. Crates that only
run while it is built (procedural macros) have the scope `excluded`. The same input gives the same bytes: no time, and a
serial number made from the file's own digest.
"""

import hashlib
import json
import pathlib
import re
import subprocess
import tomllib
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent
HOST = re.search(r"^host: (.*)$", subprocess.check_output(["rustc", "-vV"], text=True), re.M)[1]
FILES = {
    "mlgate.wasm": ["--no-default-features", "--target", "wasm32-wasip1"],
    "mlgate": ["--features", "cli", "--target", HOST],
}


def tree(options, edges):
    """Lines of (depth, name, version, licence)."""
    command = ["cargo", "tree", "--locked", "-p", "mlgate", *options, "--edges", edges, "--prefix", "depth"]
    command += ["--no-dedupe", "--format", " {p}|{l}"]
    for line in subprocess.check_output(command, text=True, cwd=ROOT).splitlines():
        depth, name, version, licence = re.match(r"(\d+) (\S+) v(\S+)[^|]*\|(.*)$", line).groups()
        yield int(depth), name, version, licence


def purl(name, version):
    return f"pkg:cargo/{name}@{version}"


def bill(file, options, checksums):
    linked = {(name, version) for _, name, version, _ in tree(options, "normal,no-proc-macro")}
    components, needs, above = {}, {}, []
    for depth, name, version, licence in tree(options, "normal"):
        del above[depth:]
        ref = purl(name, version)
        if above:
            needs[above[-1]].add(ref)
        above.append(ref)
        needs.setdefault(ref, set())
        component = {
            "type": "library",
            "bom-ref": ref,
            "name": name,
            "version": version,
            "scope": "required" if (name, version) in linked else "excluded",
            "purl": ref,
        }
        if checksum := checksums.get((name, version)):
            component["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        if licence:
            component["licenses"] = [{"expression": re.sub(r"\s*/\s*", " OR ", licence)}]
        components[ref] = component
    digest = hashlib.sha256((ROOT / "dist" / file).read_bytes()).hexdigest()
    main = next(iter(components.values()))
    del components[main["bom-ref"]], main["scope"]
    main |= {"type": "application", "hashes": [{"alg": "SHA-256", "content": digest}]}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'sha256:{digest}')}",
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [{"type": "application", "name": "integration/sbom.py", "version": main["version"]}]},
            "component": main,
        },
        "components": [components[ref] for ref in sorted(components)],
        "dependencies": [{"ref": ref, "dependsOn": sorted(on)} for ref, on in sorted(needs.items())],
    }


def main():
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    checksums = {(one["name"], one["version"]): one.get("checksum") for one in lock["package"]}
    for file, options in FILES.items():
        made = bill(file, options, checksums)
        path = ROOT / "dist" / f"{file}.cdx.json"
        path.write_text(json.dumps(made, indent=2, sort_keys=True) + "\n")
        linked = sum(one["scope"] == "required" for one in made["components"])
        print(f"{path.relative_to(ROOT)}: {linked} crates inside, {len(made['components']) - linked} at build time")


main()
