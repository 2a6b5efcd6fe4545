# shellcheck shell=bash
# Macaroons of other makers: judged by us, and ours judged by their libraries.

step_conformance() {
  cargo build --locked --quiet -p tkcore --all-features --example conformance
  local runner=$CARGO_TARGET_DIR/debug/examples/conformance corpus
  for corpus in vectors/interop.jsonl "$root"/../shared/interop/*.jsonl; do
    [ -f "$corpus" ] || continue
    echo "$(basename "$corpus"):"
    "$runner" "$corpus"
  done
}

step_peers() {
  need node "apt-get install nodejs npm"
  need python3 "apt-get install python3 python3-venv"
  peers/run
}
