#!/usr/bin/env bash
# zookeeper-server-stop.sh: see its --help
exec "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/barnabas.sh" zookeeper-server-stop "$@"
