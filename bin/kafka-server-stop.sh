#!/usr/bin/env bash
# kafka-server-stop.sh: see its --help
exec "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/barnabas.sh" kafka-server-stop "$@"
