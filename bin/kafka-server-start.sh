#!/usr/bin/env bash
# kafka-server-start.sh: see its --help
exec "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/barnabas.sh" kafka-server-start "$@"
