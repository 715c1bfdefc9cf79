#!/usr/bin/env bash
# Builds the image for amd64, and for arm64 where a cross toolchain is there, with whatever this machine
# has; then the bundle for places without internet.
#
#   image/build.sh                      # image/out/splitplace-VERSION.oci.tar, sbom-ARCH.json
#   image/build.sh --with buildah       # or docker, or hand (the default: an archive written by oci.py)
#   image/build.sh --bundle             # image/out/splitplace-VERSION-airgap.tar too
#   image/build.sh --arch amd64,arm64
#   image/build.sh --twice              # then once more from a copy of the source elsewhere: the binaries must be equal
set -euo pipefail
cd "$(dirname "$0")/.."

with=hand bundle=no twice=no arches=""
while [ $# -gt 0 ]; do
    case "$1" in
        --with) with=$2; shift ;;
        --bundle) bundle=yes ;;
        --twice) twice=yes ;;
        --arch) arches=${2//,/ }; shift ;;
        *) echo "unknown: $1" >&2; exit 2 ;;
    esac
    shift
done
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
tag="splitplace:$version"
out=image/out
mkdir -p "$out"
# The last commit's time, so that the same source gives the same bytes.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH

triple() { case "$1" in amd64) echo x86_64-unknown-linux-gnu ;; arm64) echo aarch64-unknown-linux-gnu ;; *) echo "unknown architecture $1" >&2; exit 2 ;; esac; }

has_arm64() {
    command -v aarch64-linux-gnu-gcc >/dev/null &&
        [ -d "$("${RUSTC_ARM64:-rustc}" --print sysroot)/lib/rustlib/aarch64-unknown-linux-gnu" ]
}
if [ -z "$arches" ]; then
    arches=amd64
    if has_arm64; then
        arches="amd64 arm64"
    else
        echo "SKIPPED arm64: aarch64-linux-gnu-gcc and Rust's standard library for it are needed; docs/kubernetes-images.md"
    fi
fi

# Static, without paths of this machine inside, each crate's code laid out the same way.
cargo_home=${CARGO_HOME:-$HOME/.cargo}
# Builds the binary of an architecture from the source here, into a folder for what is compiled; prints where it is.
compile() {
    local arch=$1 built=$2 target packed="" compiler=${RUSTC:-rustc}
    target=$(triple "$arch")
    local flags="-C target-feature=+crt-static --remap-path-prefix=$PWD=/splitplace --remap-path-prefix=$built=/splitplace/target --remap-path-prefix=$cargo_home/registry/src=/registry"
    # A static program of amd64 is moved when it starts; what has to be mended then takes little when packed.
    [ "$arch" != amd64 ] || packed=" -C link-arg=-Wl,-z,pack-relative-relocs"
    [ "$arch" != arm64 ] || compiler=${RUSTC_ARM64:-$compiler}
    RUSTC=$compiler RUSTFLAGS="$flags$packed" CARGO_TARGET_DIR=$built CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc \
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
        cargo build --profile image --locked --target "$target" -p splitplace >&2
    echo "$built/$target/image/splitplace"
}

built=$(realpath -m "${CARGO_TARGET_DIR:-target}")
binaries=()
for arch in $arches; do
    binary=$(compile "$arch" "$built")
    binaries+=("$arch=$binary")
done

# The same source somewhere else, from nothing: what differs then is a path, a time or an order that got in.
if [ "$twice" = yes ]; then
    copy=$(mktemp -d)
    trap 'rm -rf "$copy"' EXIT
    mkdir "$copy/source"
    git ls-files -z --cached --others --exclude-standard | xargs -0 tar -cf - | tar -C "$copy/source" -xf -
    for pair in "${binaries[@]}"; do
        arch=${pair%%=*}
        second=$(cd "$copy/source" && compile "$arch" "$copy/target")
        if ! cmp "${pair#*=}" "$second"; then
            echo "two builds for $arch differ: the image cannot be reproduced" >&2
            exit 1
        fi
        echo "$arch: two builds, one digest: sha256:$(sha256sum "$second" | cut -d ' ' -f 1)"
    done
fi

archive=$out/splitplace-$version.oci.tar
case "$with" in
    hand)
        python3 image/oci.py "$archive" --tag "$tag" "${binaries[@]}" | tee "$out/digests.txt" ;;
    buildah | docker)
        for pair in "${binaries[@]}"; do
            arch=${pair%%=*} context=$(mktemp -d)
            mkdir -p "$context/rootfs/etc" "$context/rootfs/tmp"
            chmod 1777 "$context/rootfs/tmp"
            cp image/Containerfile "$context/"
            cp "${pair#*=}" "$context/rootfs/splitplace"
            printf 'root:x:0:0:root:/:/sbin/nologin\nsplitplace:x:65532:65532:SplitPlace:/tmp:/sbin/nologin\n' >"$context/rootfs/etc/passwd"
            printf 'root:x:0:\nsplitplace:x:65532:\n' >"$context/rootfs/etc/group"
            find "$context/rootfs" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
            if [ "$with" = buildah ]; then
                buildah bud --isolation chroot --timestamp "$SOURCE_DATE_EPOCH" --platform "linux/$arch" \
                    -t "$tag-$arch" -f "$context/Containerfile" "$context"
                buildah push -q "$tag-$arch" "oci-archive:$out/splitplace-$version-$arch.oci.tar:$tag"
            else
                DOCKER_BUILDKIT=0 docker build -t "$tag-$arch" -f "$context/Containerfile" "$context"
                docker save -o "$out/splitplace-$version-$arch.docker.tar" "$tag-$arch"
            fi
            rm -rf "$context"
        done ;;
    *) echo "--with hand, buildah or docker" >&2; exit 2 ;;
esac

rm -f "$out"/sbom*.json
for arch in $arches; do python3 image/sbom.py "$(triple "$arch")" >"$out/sbom-$arch.json"; done
ls -l "$out"

# Small enough for a slow line and a small card.
for pair in "${binaries[@]}"; do
    unpacked=$(stat -c %s "${pair#*=}") packed=$(gzip -9nc "${pair#*=}" | wc -c)
    echo "${pair%%=*}: $((packed / 1000000)) MB to pull, $((unpacked / 1000000)) MB unpacked"
    [ "$unpacked" -lt 60000000 ] || { echo "the image would be larger than 60 MB" >&2; exit 1; }
done

if [ "$bundle" = yes ]; then
    stage=$(mktemp -d)
    name=splitplace-$version-airgap
    mkdir -p "$stage/$name/images" "$stage/$name/crds" "$stage/$name/packages" "$stage/$name/bin"
    # Every way of building, without an earlier bundle.
    find "$out" -name "splitplace-$version*.tar" ! -name "*-airgap.tar" -exec cp {} "$stage/$name/images/" \;
    cp k8s/crds/*.yaml "$stage/$name/crds/"
    cp -r models/packages/fashion-mnist "$stage/$name/packages/"
    cp "$out"/sbom-*.json LICENSE "$stage/$name/"
    cp image/INSTALL.md "$stage/$name/"
    for pair in "${binaries[@]}"; do cp "${pair#*=}" "$stage/$name/bin/splitplace-${pair%%=*}"; done
    # A chart's archive is a folder in a .tgz: no helm is needed to make one.
    mkdir "$stage/chart"
    cp -r charts/splitplace "$stage/chart/"
    rm -rf "$stage/chart/splitplace/ci" "$stage/chart/splitplace/snapshots"
    pack() { tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$1" -cf - "$2"; }
    pack "$stage/chart" splitplace | gzip -9n >"$stage/$name/splitplace-$version.tgz"
    (cd "$stage/$name" && find . -type f ! -name SHA256SUMS | LC_ALL=C sort | xargs sha256sum >SHA256SUMS)
    pack "$stage" "$name" >"$out/$name.tar"
    rm -rf "$stage"
    ls -l "$out/$name.tar"
fi
