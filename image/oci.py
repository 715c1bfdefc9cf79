"""Writes an OCI image archive by hand, byte for byte the same for the same input: no daemon, no buildah.

    oci.py OUT.tar --tag NAME:TAG ARCH=BINARY [ARCH=BINARY ...]

The archive holds an image index with one manifest for each architecture, and the older `manifest.json`
beside it, so that `k3s ctr images import`, `docker load`, `podman load` and `skopeo` all take it.
What the image is follows image/Containerfile, which is read.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import pathlib
import re
import tarfile

HERE = pathlib.Path(__file__).parent


def epoch():
    return int(os.environ.get("SOURCE_DATE_EPOCH", "0"))


def containerfile():
    """User, environment, entry point, command, ports and labels, as the Containerfile states them."""
    text = (HERE / "Containerfile").read_text().replace("\\\n", " ")
    said = {"Env": ["PATH=/"], "Labels": {}, "ExposedPorts": {}}
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "USER":
            said["User"] = rest
        elif word == "ENV":
            said["Env"] += rest.split()
        elif word == "EXPOSE":
            said["ExposedPorts"] = {f"{port}/tcp": {} for port in rest.split()}
        elif word == "ENTRYPOINT":
            said["Entrypoint"] = json.loads(rest)
        elif word == "CMD":
            said["Cmd"] = json.loads(rest)
        elif word == "LABEL":
            said["Labels"] = dict(re.findall(r'([\w.]+)="([^"]*)"', rest))
    return said


def rootfs(binary):
    """The only layer, as an uncompressed archive: entries sorted, owned by root, of one time."""
    passwd = b"root:x:0:0:root:/:/sbin/nologin\nsplitplace:x:65532:65532:SplitPlace:/tmp:/sbin/nologin\n"
    group = b"root:x:0:\nsplitplace:x:65532:\n"
    files = {
        "etc": None,
        "etc/group": (group, 0o644),
        "etc/passwd": (passwd, 0o644),
        "splitplace": (pathlib.Path(binary).read_bytes(), 0o755),
        "tmp": None,
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.mtime = epoch()
            if content is None:
                entry.type = tarfile.DIRTYPE
                entry.mode = 0o1777 if name == "tmp" else 0o755
                archive.addfile(entry)
            else:
                data, entry.mode = content
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Blobs:
    def __init__(self):
        self.all = {}

    def add(self, media, data, **more):
        self.all[digest(data)] = data
        return {"mediaType": media, "digest": digest(data), "size": len(data), **more}

    def json(self, media, value, **more):
        return self.add(media, json.dumps(value, sort_keys=True, separators=(",", ":")).encode(), **more)


def image(blobs, arch, binary):
    layer = rootfs(binary)
    # Without a name or a time inside, the compressed bytes are the same each time.
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=packed, mode="wb", compresslevel=9, mtime=0) as file:
        file.write(layer)
    created = __import__("datetime").datetime.fromtimestamp(epoch(), __import__("datetime").timezone.utc)
    config = blobs.json(
        "application/vnd.oci.image.config.v1+json",
        {
            "architecture": arch,
            "os": "linux",
            "created": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "config": containerfile(),
            "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
            "history": [{"created_by": "image/oci.py", "comment": "the one binary"}],
        },
    )
    layer = blobs.add("application/vnd.oci.image.layer.v1.tar+gzip", packed.getvalue())
    manifest = blobs.json(
        "application/vnd.oci.image.manifest.v1+json",
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": [layer],
        },
        platform={"architecture": arch, "os": "linux"},
    )
    return manifest, config, layer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--tag", required=True)
    parser.add_argument("binaries", nargs="+", metavar="ARCH=BINARY")
    args = parser.parse_args()
    blobs, manifests, old = Blobs(), [], []
    name = args.tag if "/" in args.tag else f"docker.io/library/{args.tag}"
    for pair in sorted(args.binaries):
        arch, binary = pair.split("=", 1)
        manifest, config, layer = image(blobs, arch, binary)
        manifests.append(manifest)
        path = lambda one: "blobs/" + one["digest"].replace(":", "/")
        old.append({"Config": path(config), "RepoTags": [args.tag], "Layers": [path(layer)]})
    index_type = "application/vnd.oci.image.index.v1+json"
    inner = blobs.json(index_type, {"schemaVersion": 2, "mediaType": index_type, "manifests": manifests})
    notes = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": args.tag.rsplit(":", 1)[-1]}
    index = {"schemaVersion": 2, "mediaType": index_type, "manifests": [{**inner, "annotations": notes}]}
    files = {
        "index.json": json.dumps(index, sort_keys=True).encode(),
        # docker load knows one architecture only: this machine's comes first.
        "manifest.json": json.dumps(old[:1]).encode(),
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
    }
    files.update({"blobs/" + key.replace(":", "/"): data for key, data in blobs.all.items()})
    with tarfile.open(args.out, "w", format=tarfile.USTAR_FORMAT) as archive:
        for folder in ["blobs", "blobs/sha256"]:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, epoch()
            archive.addfile(entry)
        for path in sorted(files):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mtime, entry.mode = len(files[path]), epoch(), 0o644
            archive.addfile(entry, io.BytesIO(files[path]))
    for manifest in manifests:
        print(f"{manifest['platform']['architecture']} {manifest['digest']}")
    print(f"index {inner['digest']}")


if __name__ == "__main__":
    main()
