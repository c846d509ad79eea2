#!/usr/bin/env bash
# Installs what the tests need and runs them all. Ends with a line "N passed, N failed".
#
#   tests/run.sh              everything, about 35 minutes on two cores
#   tests/run.sh --setup      only install and download
#   tests/run.sh --long       with the soaks (a thousand crashes and the like)
#   tests/run.sh --peer       the interop tests once more, against a JVM broker instead of barnabas
#   SIM_SEEDS=n tests/run.sh sim    so many random histories of simulated clusters instead of 2,000
#   tests/run.sh NAME...      only these parts: fmt clippy unit doc, or the name of a file or folder under tests/
#
# Downloads and builds are kept in ${BARNABAS_CACHE:-~/.cache/barnabas}; versions are pinned in tests/clients/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() { sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

setup_only=false
parts=()
export BARNABAS_TEST_LONG="${BARNABAS_TEST_LONG:-}" BARNABAS_TEST_BROKER="${BARNABAS_TEST_BROKER:-}"
for argument in "$@"; do
  case "$argument" in
    --setup) setup_only=true ;;
    --long) BARNABAS_TEST_LONG=1 ;;
    --peer) BARNABAS_TEST_BROKER=jvm-3.9.1; parts+=(interop) ;;
    -h | --help) usage; exit 0 ;;
    -*) usage >&2; exit 2 ;;
    *) parts+=("$argument") ;;
  esac
done

export BARNABAS_CACHE="${BARNABAS_CACHE:-$HOME/.cache/barnabas}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$BARNABAS_CACHE/target}"
# What a clone builds once is built sooner without.
export CARGO_INCREMENTAL="${CARGO_INCREMENTAL:-0}"
clients=tests/clients
logs="$BARNABAS_CACHE/logs"
mkdir -p "$BARNABAS_CACHE/stamps" "$BARNABAS_CACHE/bin" "$logs"

passed=0
failed=0
failures=()

say() { printf '%s %s\n' "$(date +%H:%M:%S)" "$*"; }

die() {
  say "cannot go on: $*" >&2
  echo "$passed passed, $((failed + 1)) failed"
  exit 1
}

# ---- what the tests need ---------------------------------------------------------------------------------------------

missing_packages() {
  have() { command -v "$1" >/dev/null 2>&1; }
  [ -e /usr/share/java/zookeeper.jar ] || [ -n "${ZOOKEEPER_HOME:-}" ] || echo zookeeper
  have kcat || echo kcat
  have javac || echo default-jdk-headless
  have mvn || echo maven
  have go || echo golang-go
  have node || echo nodejs
  have npm || echo npm
  have strace || echo strace
  have ip || [ -e /usr/sbin/ip ] || echo iproute2
  have python3 || echo python3
  have cc && have c++ && have make || echo build-essential
  have pkg-config || echo pkg-config
  python3 -c 'import venv, ensurepip' >/dev/null 2>&1 || echo python3-venv
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
  { $sudo apt-get update && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y --no-install-recommends $packages; } \
    >"$logs/apt.log" 2>&1 || { tail -20 "$logs/apt.log" >&2; die "apt-get failed, see $logs/apt.log"; }
}

need_cargo() {
  [ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"
  command -v cargo >/dev/null ||
    die "cargo is missing: install Rust with rustup (rust-toolchain.toml names the version), then run this again"
}

# once NAME FILE... -- COMMAND...: runs the command unless it succeeded before with the same contents of these files.
once() {
  local name="$1" files=() stamp
  shift
  while [ "$1" != -- ]; do files+=("$1"); shift; done
  shift
  stamp="$BARNABAS_CACHE/stamps/$name-$(cat "${files[@]}" | sha256sum | cut -c1-16)"
  [ -e "$stamp" ] && return 0
  say "getting $name"
  "$@" >"$logs/$name.log" 2>&1 || { tail -20 "$logs/$name.log" >&2; die "$name failed, see $logs/$name.log"; }
  touch "$stamp"
}

get_java() {
  local version="$1" jars="$BARNABAS_CACHE/java/kafka-$1" classes="$BARNABAS_CACHE/java/client-$1"
  rm -rf "$jars" "$classes"
  mvn -B -ntp -f "$clients/java/kafka-$version/pom.xml" dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$jars"
  mkdir -p "$classes"
  javac --release 11 -cp "$jars/*" -d "$classes" "$clients/java/InteropClient.java"
}

# Kafka Streams, Connect and MirrorMaker 2, and the programs on them.
get_programs() {
  local jars="$BARNABAS_CACHE/java/programs-3.9.1" classes="$BARNABAS_CACHE/java/programs" source="$clients/java/programs-3.9.1"
  rm -rf "$jars" "$classes"
  mvn -B -ntp -f "$source/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$jars"
  mkdir -p "$classes"
  javac --release 11 -cp "$jars/*" -d "$classes" "$source"/*.java
}

get_python() {
  python3 -m venv --clear "$BARNABAS_CACHE/venv"
  "$BARNABAS_CACHE/venv/bin/pip" install -r "$clients/python/requirements.txt"
}

get_node() {
  mkdir -p "$BARNABAS_CACHE/node"
  cp "$clients/node/package.json" "$BARNABAS_CACHE/node/"
  (cd "$BARNABAS_CACHE/node" && npm install --no-audit --no-fund --ignore-scripts)
}

# Debian's Go may be older than what the modules ask for, and older than 1.21, which would fetch a newer one by itself.
go_tool() {
  local have want json dir
  want=$(awk '$1 == "go" { print $2 }' "$clients/go/go.mod")
  have=$(go env GOVERSION | sed 's/^go//')
  if [ "$(printf '%s\n' 1.21 "$have" | sort -V | head -1)" = 1.21 ]; then
    echo go
    return
  fi
  json=$(cd / && go mod download -json "golang.org/toolchain@v0.0.1-go$want.linux-$(go env GOARCH)")
  dir=$(printf '%s' "$json" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
  cp -r "$dir" "$BARNABAS_CACHE/go-$want"
  chmod -R u+w,u+x "$BARNABAS_CACHE/go-$want"
  echo "$BARNABAS_CACHE/go-$want/bin/go"
}

get_go() {
  local go
  go=$(go_tool)
  (cd "$clients/go" && "$go" build -o "$BARNABAS_CACHE/bin/" ./...)
}

setup() {
  install_packages
  need_cargo
  local version
  for version in 3.9.1 2.8.2; do
    once "java-$version" "$clients/java/kafka-$version/pom.xml" "$clients/java/InteropClient.java" -- get_java "$version"
  done
  once programs "$clients"/java/programs-3.9.1/* -- get_programs
  once python "$clients/python/requirements.txt" -- get_python
  once node "$clients/node/package.json" -- get_node
  once go "$clients"/go/go.* "$clients"/go/*/*.go -- get_go
}

# ---- the checks ------------------------------------------------------------------------------------------------------

# check NAME COMMAND...: one thing that passes or fails as a whole.
check() {
  local name="$1" start=$SECONDS
  shift
  if "$@" >"$logs/$name.log" 2>&1; then
    passed=$((passed + 1))
    say "$name: ok ($((SECONDS - start)) s)"
  else
    failed=$((failed + 1))
    failures+=("$name")
    say "$name: FAILED ($((SECONDS - start)) s)"
    tail -40 "$logs/$name.log"
  fi
}

# run_tests NAME MINUTES CARGO-ARGUMENTS...: test binaries, whose own results are summed up.
run_tests() {
  local name="$1" minutes="$2" start=$SECONDS status=0 ok bad
  shift 2
  timeout --kill-after=20 "${minutes}m" cargo test --quiet --no-fail-fast "$@" >"$logs/$name.log" 2>&1 || status=$?
  ok=$(sed -n 's/^test result: .* \([0-9]*\) passed; .*/\1/p' "$logs/$name.log" | paste -sd+ | bc_sum)
  bad=$(sed -n 's/^test result: .* \([0-9]*\) failed; .*/\1/p' "$logs/$name.log" | paste -sd+ | bc_sum)
  # A build that fails or a run that is cut off has no results to count.
  [ "$status" = 0 ] || [ "$bad" != 0 ] || bad=1
  passed=$((passed + ok))
  failed=$((failed + bad))
  grep -o 'SKIPPED .*' "$logs/$name.log" || true
  if [ "$bad" = 0 ]; then
    say "$name: $ok passed ($((SECONDS - start)) s)"
    return
  fi
  say "$name: $ok passed, $bad FAILED ($((SECONDS - start)) s), see $logs/$name.log"
  [ "$status" != 124 ] || echo "    cut off after $minutes minutes"
  while read -r one; do failures+=("$name: $one"); done < <(sed -n '/^failures:$/,/^test result/s/^    \([a-z0-9_:]*\)$/\1/p' "$logs/$name.log" | sort -u)
  grep -E -A12 "^(error|thread .* panicked)" "$logs/$name.log" | head -120 || true
}

bc_sum() { local sum; read -r sum || true; echo $((${sum:-0})); }

wanted() {
  [ ${#parts[@]} = 0 ] && return 0
  local part
  for part in "${parts[@]}"; do [ "$part" = "$1" ] && return 0; done
  return 1
}

integration_tests() {
  local path name
  for path in tests/*.rs tests/*/main.rs; do
    name=${path#tests/}
    name=${name%/main.rs}
    name=${name%.rs}
    ! wanted "$name" || echo "$name"
  done
}

setup
! $setup_only || { say "everything is there"; echo "0 passed, 0 failed"; exit 0; }

! wanted fmt || check fmt cargo fmt --all --check
! wanted clippy || check clippy cargo clippy --quiet --workspace --all-targets -- -D warnings
tests=$(integration_tests)
say "building the tests"
build() { cargo test --quiet --no-run "$@" >>"$logs/build.log" 2>&1 || { grep -E -A8 '^error' "$logs/build.log" | head -60; say "the build FAILED"; }; }
: >"$logs/build.log"
targets=$(if wanted unit; then echo --lib --bins; fi; for name in $tests; do echo --test "$name"; done)
[ -z "$targets" ] || build $targets
! wanted unit || run_tests unit 15 --lib --bins
! wanted doc || run_tests doc 5 --doc
# The rest start servers of their own: two at a time keep two cores busy without starving one another.
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-2}"
minutes=25
[ -z "$BARNABAS_TEST_LONG" ] || minutes=600
export SIM_SEEDS="${SIM_SEEDS:-$([ -n "$BARNABAS_TEST_LONG" ] && echo 100000 || echo 2000)}"
for name in $tests; do run_tests "$name" "$minutes" --test "$name"; done

echo
for one in ${failures[@]+"${failures[@]}"}; do echo "failed: $one"; done
say "took $((SECONDS / 60)) min $((SECONDS % 60)) s; logs are in $logs"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
