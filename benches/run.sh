#!/usr/bin/env bash
# Drives Barnabas and Apache Kafka 3.9.1 in turn with the same load on this machine, and puts the figures into
# benches/README.md.
#
# usage: benches/run.sh [--rounds N] [--only kafka|barnabas] [--no-write] [scenario ...]
#   scenarios: throughput requests latency cold start partitions idle failover wide groups compaction retention (all, if none is named)
#
# Takes about half an hour and up to 10 GiB of disk below ${TMPDIR:-/tmp}, which it gives back. Wants cargo, java,
# mvn and the `zookeeper` package (or ZOOKEEPER_HOME). Kafka's jars come from Maven Central and are kept in
# ${BARNABAS_CACHE:-~/.cache/barnabas}, where tests/run.sh keeps them too.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
root="$(dirname "$here")"
cd "$root"

die() { echo "benches/run.sh: $*" >&2; exit 1; }
for tool in cargo java mvn git; do
  command -v "$tool" >/dev/null || die "$tool is missing (tests/run.sh installs what is needed)"
done
[ -e /usr/share/java/zookeeper.jar ] || [ -n "${ZOOKEEPER_HOME:-}" ] || die "no ZooKeeper: install the zookeeper package"

cache="${BARNABAS_CACHE:-$HOME/.cache/barnabas}"
export KAFKA_LIBS="$cache/java/kafka-3.9.1"
if ! ls "$KAFKA_LIBS"/kafka_2.13-3.9.1.jar >/dev/null 2>&1; then
  echo "getting Apache Kafka 3.9.1 into $KAFKA_LIBS" >&2
  mvn -B -q -ntp -f tests/clients/java/kafka-3.9.1/pom.xml dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$KAFKA_LIBS"
fi

cargo build --release --bin barnabas
driver="$(cargo build --release -p side_by_side --message-format=json \
  | sed -n 's/.*"name":"side_by_side".*"executable":"\([^"]*\)".*/\1/p' | tail -1)"
[ -x "$driver" ] || die "the driver was not built"
target="$(dirname "$driver")"
export BARNABAS_BIN="${BARNABAS_BIN:-$target/barnabas}"

BENCH_DIR="$(mktemp -d "${TMPDIR:-/tmp}/barnabas-bench.XXXXXX")"
if [ -n "${BENCH_KEEP:-}" ]; then
  echo "logs and data stay in $BENCH_DIR" >&2
else
  trap 'rm -rf "$BENCH_DIR"' EXIT
fi
export BENCH_DIR
export BENCH_README="$here/README.md"
BENCH_COMMIT="$(git describe --always --dirty --exclude='*')"
export BENCH_COMMIT
ulimit -n "$(ulimit -Hn)"
# An hour is far more than it takes.
timeout --kill-after=10 3600 "$driver" "$@"
