#!/usr/bin/env bash
# Finds the barnabas binary and runs it: $BARNABAS_BIN, else what `cargo build --release` made, else the one on the PATH.
root=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
for binary in "$BARNABAS_BIN" "${CARGO_TARGET_DIR:-$root/target}/release/barnabas" "$root/target/release/barnabas" \
  "${BARNABAS_CACHE:-$HOME/.cache/barnabas}/target/release/barnabas" "$(command -v barnabas)"; do
  if [ -n "$binary" ] && [ -x "$binary" ]; then exec "$binary" "$@"; fi
done
echo "barnabas has not been built yet: run bin/quickstart.sh, which does everything, or 'cargo build --release'." >&2
exit 1
