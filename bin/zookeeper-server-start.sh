#!/usr/bin/env bash
# zookeeper-server-start.sh: see its --help
exec "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/barnabas.sh" zookeeper-server-start "$@"
