#!/usr/bin/env bash
# zookeeper-shell.sh: see its --help
exec "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/barnabas.sh" zookeeper-shell "$@"
