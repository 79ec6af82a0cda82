#!/usr/bin/env bash
# Encode a photograph here and decode it on aarch64 under qemu-user: the same states and pixels, or exit status 1.
#
#   infra/aarch64_check.sh WORK_FOLDER [PYTHON]
#
# Needs Debian's apt and dpkg (no root, nothing is installed), a Python 3.11 with this project, 2 GB of disk and some
# minutes. Takes Debian's arm64 Python, torch's aarch64 wheel, and a cross compiler for the portable C kernels. What
# was fetched stays in WORK_FOLDER and is used again.
set -euo pipefail
repo=$(cd "$(dirname "$0")/.." && pwd)
work=$(mkdir -p "$1" && cd "$1" && pwd)
python=${2:-python3}
torch=${TORCH:-2.7.1} # later aarch64 wheels on PyPI need CUDA's libraries
site=$work/site
export OMP_NUM_THREADS=1

unpack() { # ARCHITECTURE FOLDER PACKAGE...: with dependencies, by an apt whose state is its own
    local arch=$1 folder=$2 state=$work/apt-$2
    shift 2
    [ -d "$work/$folder" ] && return
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    : >"$state/status"
    local options=(-qq -o "APT::Architecture=$arch" -o "APT::Architectures=$arch" -o "APT::Sandbox::User="
        -o "Dir::State=$state" -o "Dir::State::Lists=$state/lists" -o "Dir::State::status=$state/status"
        -o "Dir::Cache=$state/cache" -o Debug::NoLocking=1)
    apt-get "${options[@]}" update
    apt-get "${options[@]}" --download-only -y --no-install-recommends install "$@"
    for deb in "$state"/cache/archives/*.deb; do dpkg -x "$deb" "$work/$folder.part"; done
    mv "$work/$folder.part" "$work/$folder"
}

wheels() {
    "$python" -m pip install --quiet --no-deps --target "$site" --only-binary=:all: --python-version 3.11 \
        --implementation cp --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
        --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 --platform manylinux_2_31_aarch64 "$@"
}

unpack "$(dpkg --print-architecture)" host qemu-user-static
unpack "$(dpkg --print-architecture)" cross gcc-aarch64-linux-gnu libc6-dev-arm64-cross
unpack arm64 root python3.11 libstdc++6 libgomp1
if [ ! -d "$site/diffusers" ]; then
    grep -v '^torch' "$repo/constraints.txt" >"$work/constraints.txt"
    wheels "torch==$torch"
    wheels --constraint "$work/constraints.txt" numpy pillow safetensors diffusers huggingface_hub hf-xet \
        importlib_metadata zipp regex requests tqdm pyyaml packaging filelock typing-extensions sympy mpmath networkx \
        jinja2 markupsafe fsspec certifi idna urllib3 charset-normalizer httpx2 httpcore2 h11 anyio truststore
fi

rm -rf "$work/code" && mkdir "$work/code" && cp -r "$repo/psc_core" "$work/code/"
exact=$work/code/psc_core/exact
rm -f "$exact/_native.so"
LD_LIBRARY_PATH=$(printf '%s:' "$work"/cross/usr/lib/*-linux-gnu) "$work/cross/usr/bin/aarch64-linux-gnu-gcc-12" \
    --sysroot="$work/cross" -B "$work/cross/usr/bin/aarch64-linux-gnu-" -isystem "$work/cross/usr/aarch64-linux-gnu/include" \
    -O3 -std=gnu11 -ffp-contract=off -fno-math-errno -fno-trapping-math -shared -fPIC -fopenmp \
    -o "$exact/_native.so" "$exact"/kernels/*.c -lm

emulated=("$work/host/usr/bin/qemu-aarch64-static" -L "$work/root" -E PYTHONPATH="$site:$work/code"
    -E OMP_NUM_THREADS=1 "$work/root/usr/bin/python3.11" "$repo/infra/stream_check.py" decode)
status=0
for case in "gaussian archive" "gaussian paper" "photo archive" "photo paper"; do
    file=$work/${case/ /-}.psc
    # shellcheck disable=SC2086
    PYTHONPATH=$repo "$python" "$repo/infra/stream_check.py" encode "$file" $case
    case $case in
    "photo paper") backends="native_portable float32 float32_conv int_mm" ;;
    *) backends="native_portable" ;;
    esac
    # shellcheck disable=SC2086
    "${emulated[@]}" "$file" $backends || status=1
done
exit $status
