#!/usr/bin/env bash
# Brings what an arm64 binary needs on an amd64 Debian: a C cross compiler from the machine's own release, and rustc with
# its standard library for both architectures from Debian's testing suite, unpacked into a folder without being installed
# and run with the C library that it was built for. Prints the line that image/build.sh wants. With rustup,
# `rustup target add aarch64-unknown-linux-gnu` is simpler.
#
#   export RUSTC_ARM64=$(image/arm64-toolchain.sh FOLDER)
#   SUITE=sid image/arm64-toolchain.sh FOLDER        # another suite than forky
set -euo pipefail
source "$(dirname "$0")/debian-suite.sh"
folder=$(readlink -m "${1:?a folder is needed}")
mkdir -p "$folder"
if [ ! -x "$folder/rustc-arm64" ]; then
    apt-get install -y -qq --no-install-recommends gcc-aarch64-linux-gnu libc6-dev-arm64-cross >&2
    scratch=$(mktemp -d)
    open_suite "${SUITE:-forky}" "$scratch" -o APT::Architecture=amd64 -o APT::Architectures::=amd64 -o APT::Architectures::=arm64
    # What rustc is linked with: libraries, no compilers.
    runtime=$(apt-cache "${own[@]}" depends rustc | sed -n 's/.*Depends: \(libstd-rust-dev\).*/\1/p' | head -1)
    runtime=$(apt-cache "${own[@]}" depends "$runtime" | sed -n 's/.*Depends: \(libstd-rust-[0-9].*\)/\1/p' | head -1)
    libraries=$(required "$runtime" | grep -E '^(lib|zlib)[^:]*$' | sort -u)
    # shellcheck disable=SC2086
    unpack "$scratch" "$folder/root" rustc libstd-rust-dev libstd-rust-dev:arm64 $libraries
    rm -rf "$scratch"
    cat >"$folder/rustc-arm64" <<'EOF'
#!/bin/sh
root=$(dirname "$(readlink -f "$0")")/root
libraries=$root/usr/lib/x86_64-linux-gnu
exec "$libraries/ld-linux-x86-64.so.2" --library-path "$libraries:$root/usr/lib" "$root/usr/bin/rustc" --sysroot "$root/usr" "$@"
EOF
    chmod +x "$folder/rustc-arm64"
fi
"$folder/rustc-arm64" --version >&2
echo "$folder/rustc-arm64"
