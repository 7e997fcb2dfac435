"""Reads an image as `docker save` writes it and fails unless it holds what it should.

    docker save IMAGE | python3 image_layout.py [--user UID:GID] (--only | --with) PATH=FILE

--only: the image is one layer with this file and nothing else. --with: the file is in its last layer. The content must be
that of FILE, readable by everybody.
"""

import argparse
import hashlib
import io
import json
import sys
import tarfile


def layers(image):
    manifest = json.load(image.extractfile("manifest.json"))
    if len(manifest) != 1:
        sys.exit("not one image")
    config = json.load(image.extractfile(manifest[0]["Config"]))
    contents = [image.extractfile(name).read() for name in manifest[0]["Layers"]]
    return config, [tarfile.open(fileobj=io.BytesIO(content)) for content in contents]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--user", default="")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--only", metavar="PATH=FILE")
    what.add_argument("--with", metavar="PATH=FILE", dest="has")
    arguments = parser.parse_args()
    path, file = (arguments.only or arguments.has).split("=", 1)

    with tarfile.open(fileobj=io.BytesIO(sys.stdin.buffer.read())) as image:
        config, stack = layers(image)
    user = config["config"].get("User", "")
    if user != arguments.user:
        sys.exit(f"the image runs as `{user}` instead of `{arguments.user}`")
    files = [[entry for entry in layer if not entry.isdir()] for layer in stack]
    if arguments.only and [[entry.name for entry in layer] for layer in files] != [[path]]:
        sys.exit(f"the image holds {[[entry.name for entry in layer] for layer in files]} instead of {path}")
    found = [entry for entry in files[-1] if entry.name.lstrip("./") == path]
    if len(found) != 1 or not found[0].mode & 0o004:
        sys.exit(f"its last layer has no {path} that everybody may read")
    inside = hashlib.sha256(stack[-1].extractfile(found[0]).read()).hexdigest()
    with open(file, "rb") as original:
        outside = hashlib.sha256(original.read()).hexdigest()
    if inside != outside:
        sys.exit(f"{path} is not {file}: sha256 {inside} instead of {outside}")
    print(f"{path}: sha256 {inside}")


main()
