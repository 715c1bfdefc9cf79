#!/usr/bin/env bash
# Brings what an arm64 binary needs on an amd64 Debian 12: a C cross compiler, and Debian's own rustc with its
# standard library for both architectures, unpacked into a folder without being installed. Prints the
# line that image/build.sh wants. With rustup, `rustup target add aarch64-unknown-linux-gnu` is simpler.
#
#   export RUSTC_ARM64=$(image/arm64-toolchain.sh FOLDER)
set -euo pipefail
folder=$(readlink -f "${1:?a folder is needed}")
mkdir -p "$folder"
if [ ! -x "$folder/rustc-arm64" ]; then
    apt-get install -y -qq --no-install-recommends gcc-aarch64-linux-gnu libc6-dev-arm64-cross >&2
    scratch=$(mktemp -d)
    mkdir -p "$scratch/lists/partial" "$scratch/cache/archives/partial"
    touch "$scratch/status"
    # A package list of its own: the machine's stays as it is.
    foreign=(-o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o Dir::State::lists="$scratch/lists"
        -o Dir::State::status="$scratch/status" -o Dir::Cache="$scratch/cache" -o APT::Sandbox::User=root)
    apt-get "${foreign[@]}" -qq update >&2
    version=$(apt-cache policy rustc-web | sed -n 's/ *Candidate: //p')
    series=${version%%.*}.$(cut -d. -f2 <<<"$version")
    (
        cd "$scratch"
        apt-get -o APT::Sandbox::User=root -qq download rustc-web libstd-rust-web-dev "libstd-rust-web-$series" >&2
        llvm=$(dpkg-deb -f libstd-rust-web-"$series"_*.deb Depends | grep -o 'libllvm[0-9]*')
        apt-get -o APT::Sandbox::User=root -qq download "$llvm" >&2
        apt-get "${foreign[@]}" -qq download libstd-rust-web-dev >&2
        for package in *.deb; do dpkg -x "$package" "$folder"; done
    )
    rm -rf "$scratch"
    cat >"$folder/rustc-arm64" <<'EOF'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
LD_LIBRARY_PATH=$here/usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} exec "$here/usr/bin/rustc" "$@"
EOF
    chmod +x "$folder/rustc-arm64"
fi
echo "$folder/rustc-arm64"
