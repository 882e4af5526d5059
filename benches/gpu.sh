#!/usr/bin/env bash
# All that only a GPU can show, in one go of about ten minutes, on a machine that may lack Rust:
#
#   benches/gpu.sh pack DIR                    builds what is needed, and puts it into DIR (65 MB, 23 as a tar.gz)
#   DIR/gpu.sh run OUT [PART ...]              on the GPU: measures, into OUT
#
# PARTs: tests (the engine on the GPU against the CPU, no step waits, NCCL), speed (tokens/s and MFU against
# torch.compile), workers (runs per hour by 1, 2, 4 and 8 processes), ranks (how steps scale over GPUs). The GPU's
# python3 (or $PYTHON) has torch 2.11 with CUDA. A part that fails stops no other; the status is 1 then.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

pack() {
    mkdir -p "$1"
    local built
    built=$(
        cd "$here/.."
        cargo build --locked --package replication --features torch --message-format json
        cargo test --locked --package forgetting-laws --features torch --test cuda --no-run --message-format json
        cargo test --locked --package torch-ext --test nccl --no-run --message-format json
        cargo bench --locked --package benches --profile dev --bench train_step --bench ranks --no-run \
            --message-format json
    )
    local name program
    for name in replication cuda nccl train_step ranks; do
        program=$(grep -o "\"executable\":\"[^\"]*/$name[^/\"]*\"" <<<"$built" | tail -1 | cut -d'"' -f4)
        cp "$program" "$1/$name"
        strip "$1/$name"
    done
    cp "$here"/../.libtorch/openblas-*/lib/*.so* "$here/gpu.sh" "$1/"
    cp "$here/peer/compiled.py" "$here/peer/train_step.py" "$1/"
    du -sh "$1"
}

tests() {
    "$here/cuda" --nocapture && "$here/nccl" --nocapture
}

speed() {
    "$python" "$here/compiled.py" --ours "$here/train_step" --rounds 2 --seconds 5 tiny small medium large
}

ranks() {
    "$here/ranks" --device cuda
}

# One pretraining, whose 16 finetunings N processes then make at once.
workers() {
    local part=(--preset mini --block main --size mini-tiny)
    local set=(data.pretrain_tokens=5000000 data.injection_tokens=2000000 grid.main.tokens_per_param=2
        grid.main.domains=far grid.main.p=0.0,0.005,0.01,0.05 grid.main.steps=2000)
    local setting n begun
    for setting in "${set[@]}"; do part+=(--set "$setting"); done
    "$here/replication" run "${part[@]}" --pretraining-only --out "$out/runs"
    for n in 1 2 4 8; do
        cp -r "$out/runs" "$out/runs-$n"
        begun=$(date +%s.%N)
        "$here/replication" run "${part[@]}" --workers-per-device "$n" --out "$out/runs-$n"
        echo "workers $n: $("$python" -c "import time; print(f'{16 * 3600 / (time.time() - $begun):.0f}')") runs per hour"
    done
}

run() {
    python=${PYTHON:-python3}
    out=$1
    shift
    mkdir -p "$out"
    FORGETTING_LAWS_TORCH=$("$python" -c 'import os, torch; print(os.path.dirname(torch.__file__))')
    export FORGETTING_LAWS_TORCH
    # What cargo fetches for the programs is found here, where they were not built.
    export LD_LIBRARY_PATH=$here:$FORGETTING_LAWS_TORCH/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    local part status=0
    (($#)) || set -- tests speed workers ranks
    for part in "$@"; do
        echo "== $part"
        "$part" 2>&1 | tee "$out/$part.txt" || status=1
    done
    return $status
}

"$@"
