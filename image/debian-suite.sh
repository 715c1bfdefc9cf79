# Packages of another Debian suite than the machine's, unpacked into a folder and not installed. For scripts to source:
#
#   open_suite sid "$scratch"                 # fetches that suite's lists; apt's own options may follow
#   required PACKAGE                          # what a package needs, at any depth, a name a line
#   unpack "$scratch" "$folder" PACKAGE...    # downloads them and unpacks them there

open_suite() {
    local suite=$1 scratch=$2
    shift 2
    mkdir -p "$scratch/lists/partial" "$scratch/cache/archives/partial" "$scratch/debs"
    touch "$scratch/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $suite main" \
        >"$scratch/sources"
    # Package lists of its own: the machine's stay as they are.
    own=(-o Dir::State::lists="$scratch/lists" -o Dir::State::status="$scratch/status" -o Dir::Cache="$scratch/cache"
        -o Dir::Etc::sourcelist="$scratch/sources" -o Dir::Etc::sourceparts=/dev/null -o APT::Sandbox::User=root "$@")
    apt-get "${own[@]}" -qq update >&2
}

required() {
    apt-cache "${own[@]}" depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
        --no-enhances "$1"
}

unpack() {
    local scratch=$1 folder=$2
    shift 2
    (
        cd "$scratch/debs"
        apt-get "${own[@]}" -qq download "$@" >&2
        for package in *.deb; do dpkg -x "$package" "$folder"; done
    )
}
