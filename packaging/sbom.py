#!/usr/bin/env python3
"""Prints a CycloneDX 1.5 SBOM of what is released, from `cargo metadata` of the locked tree.

Only what is linked into genesis-agent, genesis-hub and genesisctl: no tests, no build scripts' own needs.
"""
import json
import subprocess
import sys

RELEASED = ("genesis-agent", "genesis-launcher", "genesis-hub", "genesisctl")


def reached(nodes, start):
    """Every package that is linked into `start`."""
    seen, todo = set(), [start]
    while todo:
        package = todo.pop()
        if package not in seen:
            seen.add(package)
            todo += [d["pkg"] for d in nodes[package]["deps"] if any(k["kind"] is None for k in d["dep_kinds"])]
    return seen


def component(package):
    found = {
        "type": "library" if package["source"] else "application",
        "bom-ref": package["id"],
        "name": package["name"],
        "version": package["version"],
        "licenses": [{"expression": package["license"]}] if package["license"] else [],
    }
    if package["source"]:
        found["purl"] = f"pkg:cargo/{package['name']}@{package['version']}"
    return found


def main():
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"]
    tree = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    packages = {package["id"]: package for package in tree["packages"]}
    nodes = {node["id"]: node for node in tree["resolve"]["nodes"]}
    own = {packages[member]["name"]: member for member in tree["workspace_members"]}
    used = set().union(*(reached(nodes, own[name]) for name in RELEASED))
    version = packages[own["genesis-agent"]]["version"]
    sbom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "genesis", "version": version}},
        "components": [component(packages[i]) for i in sorted(used)],
        "dependencies": [
            {"ref": i, "dependsOn": sorted({d["pkg"] for d in nodes[i]["deps"]} & used)} for i in sorted(used)
        ],
    }
    # Paths of the machine that built it are nobody's business.
    text = json.dumps(sbom, indent=1).replace(tree["workspace_root"], "/genesis")
    sys.stdout.write(text + "\n")


main()
