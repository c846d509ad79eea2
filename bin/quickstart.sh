#!/usr/bin/env bash
# From a fresh clone to records read back: installs what is missing, builds barnabas, starts ZooKeeper and a broker,
# creates a topic, loads a text file into it and reads it back through a consumer group. Can be run again and again.
#
#   bin/quickstart.sh [FILE]   with the lines of FILE; LICENSE if none is named
#   bin/quickstart.sh --stop   stops the ZooKeeper and the broker that it started
#
# Environment: QUICKSTART_PORT (9092), QUICKSTART_ZOOKEEPER_PORT (2181), QUICKSTART_DIR for data and logs
# (~/.cache/barnabas/quickstart), BARNABAS_BIN for a binary that is built already, ZOOKEEPER_HOME for another ZooKeeper.
set -euo pipefail
start=$PWD
cd "$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")"

port=${QUICKSTART_PORT:-9092}
zookeeper_port=${QUICKSTART_ZOOKEEPER_PORT:-2181}
dir=${QUICKSTART_DIR:-${BARNABAS_CACHE:-$HOME/.cache/barnabas}/quickstart}
broker=127.0.0.1:$port
zookeeper=127.0.0.1:$zookeeper_port
topic=quickstart
group=quickstart
file=LICENSE

usage() { sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }
say() { printf '%s %s\n' "$(date +%H:%M:%S)" "$*"; }
die() {
  say "cannot go on: $*" >&2
  exit 1
}

# ---- stopping --------------------------------------------------------------------------------------------------------

# Stops the process whose id a file holds, if it is still the one that was started.
stop_one() {
  local name="$1" mark="$2" pid
  [ -f "$dir/$name.pid" ] || return 0
  pid=$(cat "$dir/$name.pid")
  rm -f "$dir/$name.pid"
  if tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -q -- "$mark"; then
    kill "$pid"
    for _ in $(seq 150); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.2
    done
    say "$name (process $pid) is stopped"
  fi
}

stop_all() {
  stop_one broker kafka-server-start
  stop_one zookeeper QuorumPeerMain
}

case "${1:-}" in
  -h | --help) usage; exit 0 ;;
  --stop) stop_all; exit 0 ;;
  -*) say "there is no option $1" >&2; usage >&2; exit 2 ;;
  ?*) file=$(cd "$start" && readlink -f "$1") ;;
esac
[ -s "$file" ] || die "$file is not a file with lines in it"
mkdir -p "$dir"
export LOG_DIR="$dir/logs"

# ---- what is needed --------------------------------------------------------------------------------------------------

missing_packages() {
  have() { command -v "$1" >/dev/null 2>&1; }
  have java || [ -x "${JAVA_HOME:-/nowhere}/bin/java" ] || echo default-jre-headless
  [ -n "${ZOOKEEPER_HOME:-}" ] || { [ -e /usr/share/java/zookeeper.jar ] && [ -e /usr/share/java/slf4j-simple.jar ]; } ||
    echo zookeeper libslf4j-java
  [ -n "${BARNABAS_BIN:-}" ] && return
  { have cc && have c++ && have make; } || echo build-essential
  have pkg-config || echo pkg-config
  [ -x "$HOME/.cargo/bin/cargo" ] || have cargo || have curl || echo curl ca-certificates
}

install_packages() {
  local packages sudo=""
  packages=$(missing_packages | xargs)
  [ -n "$packages" ] || return 0
  command -v apt-get >/dev/null || die "please install: $packages"
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || die "please install as root: apt-get install $packages"
    sudo=sudo
  fi
  say "installing $packages"
  # shellcheck disable=SC2086
  { $sudo apt-get update && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $packages; } \
    >"$dir/apt.log" 2>&1 || { tail -20 "$dir/apt.log" >&2; die "apt-get failed, see $dir/apt.log"; }
}

need_cargo() {
  # shellcheck disable=SC1091
  [ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"
  command -v cargo >/dev/null && return
  say "installing Rust for this user, with rustup"
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --default-toolchain none \
    >"$dir/rustup.log" 2>&1 || { tail -20 "$dir/rustup.log" >&2; die "rustup failed, see $dir/rustup.log"; }
  . "$HOME/.cargo/env"
}

# Runs a long command into a log file, and says now and then how far it is.
patiently() {
  local what="$1" log="$2" begin=$SECONDS pid
  shift 2
  "$@" >"$log" 2>&1 &
  pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    sleep 1
    if [ -t 1 ]; then
      printf '\r%s: %d s, %d crates ' "$what" $((SECONDS - begin)) "$(grep -c Compiling "$log" || true)"
    elif [ $(((SECONDS - begin) % 60)) = 59 ]; then
      say "$what: $((SECONDS - begin)) s, $(grep -c Compiling "$log" || true) crates"
      sleep 1
    fi
  done
  [ ! -t 1 ] || printf '\r%60s\r' ''
  wait "$pid" || { tail -30 "$log" >&2; die "that failed, see $log"; }
}

build() {
  if [ -n "${BARNABAS_BIN:-}" ]; then
    say "using $BARNABAS_BIN"
    return
  fi
  need_cargo
  say "building barnabas (the first time takes some minutes)"
  patiently building "$dir/build.log" cargo build --release --locked
}

# ---- ZooKeeper and the broker ----------------------------------------------------------------------------------------

# wait_for SECONDS PROCESS COMMAND...: until the command succeeds. A process (if named) that ends ends the waiting.
wait_for() {
  local deadline=$((SECONDS + $1)) pid="$2"
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || return 1
    [ -z "$pid" ] || kill -0 "$pid" 2>/dev/null || return 1
    sleep 0.2
  done
}

zookeeper_answers() {
  (exec 3<>"/dev/tcp/127.0.0.1/$zookeeper_port" && printf srvr >&3 && timeout 2 head -c 9 <&3 | grep -qi zookeeper) 2>/dev/null
}

port_is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
broker_answers() { timeout 10 bin/kafka-topics.sh --list --bootstrap-server "$broker"; }

# start NAME SCRIPT ARGUMENT...: starts a server in the background and keeps its process id.
start() {
  local name="$1" said
  shift
  said=$("$@") || die "$name did not start: $said"
  printf '%s\n' "$said" | sed -n 's/.*process \([0-9]*\).*/\1/p' >"$dir/$name.pid"
}

start_zookeeper() {
  if zookeeper_answers; then
    say "ZooKeeper answers on port $zookeeper_port already"
    return
  fi
  ! port_is_taken "$zookeeper_port" || die "port $zookeeper_port is taken by something else; set QUICKSTART_ZOOKEEPER_PORT"
  sed -e "s|^dataDir=.*|dataDir=$dir/zookeeper|" -e "s|^clientPort=.*|clientPort=$zookeeper_port|" \
    config/zookeeper.properties >"$dir/zookeeper.properties"
  echo 'clientPortAddress=127.0.0.1' >>"$dir/zookeeper.properties"
  start zookeeper bin/zookeeper-server-start.sh -daemon "$dir/zookeeper.properties"
  wait_for 60 "$(cat "$dir/zookeeper.pid")" zookeeper_answers ||
    { tail -20 "$LOG_DIR/zookeeper.out" >&2; die "ZooKeeper does not answer, see $LOG_DIR/zookeeper.out"; }
  say "ZooKeeper runs on port $zookeeper_port (process $(cat "$dir/zookeeper.pid"))"
}

start_broker() {
  if port_is_taken "$port"; then
    broker_answers >/dev/null 2>&1 || die "port $port is taken by something else; set QUICKSTART_PORT"
    say "a broker answers on port $port already"
    return
  fi
  start broker bin/kafka-server-start.sh -daemon config/server.properties \
    --override "log.dirs=$dir/kafka-logs" --override "zookeeper.connect=$zookeeper" \
    --override "listeners=PLAINTEXT://$broker"
  wait_for 60 "$(cat "$dir/broker.pid")" broker_answers ||
    { tail -20 "$LOG_DIR/kafkaServer.out" >&2; die "the broker does not answer, see $LOG_DIR/kafkaServer.out"; }
  say "the broker runs on port $port (process $(cat "$dir/broker.pid"))"
}

# ---- records ---------------------------------------------------------------------------------------------------------

show() { printf '         $ %s\n' "$*"; "$@"; }

load_and_read() {
  local lines
  lines=$(sed -n '$=' "$file")
  show bin/kafka-topics.sh --create --if-not-exists --zookeeper "$zookeeper" --partitions 1 \
    --replication-factor 1 --topic "$topic"
  show bin/kafka-topics.sh --describe --bootstrap-server "$broker" --topic "$topic"
  if bin/kafka-consumer-groups.sh --list --bootstrap-server "$broker" | grep -qx "$group"; then
    # Reads what an earlier run may have left unread, so that the lines can be compared.
    bin/kafka-console-consumer.sh --bootstrap-server "$broker" --topic "$topic" --group "$group" --from-beginning \
      --timeout-ms 5000 >/dev/null 2>"$dir/consumer.log" || die "reading failed: $(tail -3 "$dir/consumer.log")"
  fi
  say "writing the $lines lines of $file"
  bin/kafka-console-producer.sh --broker-list "$broker" --topic "$topic" <"$file"
  say "reading them back as group $group"
  bin/kafka-console-consumer.sh --bootstrap-server "$broker" --topic "$topic" --group "$group" --from-beginning \
    --max-messages "$lines" --timeout-ms 30000 >"$dir/read.txt" || die "reading failed"
  # A file may end without a line's end, which a record does not keep.
  diff <(cat "$file"; [ -z "$(tail -c 1 "$file")" ] || echo) "$dir/read.txt" >"$dir/diff.txt" ||
    die "what was read differs from what was written, see $dir/diff.txt"
  say "all $lines lines came back as they were written"
  show bin/kafka-consumer-groups.sh --bootstrap-server "$broker" --describe --group "$group" 2>&1 | sed '/^$/d'
}

install_packages
build
start_zookeeper
start_broker
load_and_read
cat <<END

What runs now:
  ZooKeeper  $zookeeper   log: $LOG_DIR/zookeeper.out
  the broker $broker   log: $LOG_DIR/kafkaServer.out   data: $dir/kafka-logs

Try it with any Kafka client, or with the scripts in bin/:
  bin/kafka-console-producer.sh --broker-list $broker --topic $topic
  bin/kafka-console-consumer.sh --bootstrap-server $broker --topic $topic --from-beginning

Stop both with:  bin/quickstart.sh --stop
END
