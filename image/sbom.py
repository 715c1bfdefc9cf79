"""A CycloneDX 1.5 list of everything that is in the binary for one target, from Cargo's own resolution.

    sbom.py TARGET > sbom-ARCH.json
"""

import hashlib
import json
import subprocess
import sys


def main():
    target = sys.argv[1]
    metadata = json.loads(
        subprocess.check_output(
            ["cargo", "metadata", "--format-version=1", "--locked", f"--filter-platform={target}"]
        )
    )
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = next(p["id"] for p in metadata["packages"] if p["name"] == "splitplace")
    # What is compiled into the binary: normal dependencies only, nothing that builds or tests.
    seen, todo, edges = set(), [root], {}
    while todo:
        one = todo.pop()
        if one in seen:
            continue
        seen.add(one)
        normal = [
            dep["pkg"]
            for dep in nodes[one]["deps"]
            if any(kind["kind"] is None for kind in dep["dep_kinds"])
        ]
        edges[one] = sorted(normal)
        todo += normal

    def ref(key):
        package = packages[key]
        return f"pkg:cargo/{package['name']}@{package['version']}"

    def component(key):
        package = packages[key]
        entry = {
            "type": "application" if key == root else "library",
            "bom-ref": ref(key),
            "name": package["name"],
            "version": package["version"],
            "purl": ref(key),
        }
        if package.get("license"):
            entry["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
        return entry

    libraries = sorted((key for key in seen if key != root), key=ref)
    listing = "\n".join([target, *(ref(key) for key in libraries)])
    serial = hashlib.sha256(listing.encode()).hexdigest()
    serial = f"{serial[:8]}-{serial[8:12]}-5{serial[13:16]}-8{serial[17:20]}-{serial[20:32]}"
    print(
        json.dumps(
            {
                "bomFormat": "CycloneDX",
                "specVersion": "1.5",
                "serialNumber": f"urn:uuid:{serial}",
                "version": 1,
                "metadata": {
                    "component": component(root),
                    "properties": [{"name": "splitplace:target", "value": target}],
                },
                "components": [component(key) for key in libraries],
                "dependencies": [
                    {"ref": ref(key), "dependsOn": sorted({ref(dep) for dep in edges[key]})}
                    for key in sorted(seen, key=ref)
                ],
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
