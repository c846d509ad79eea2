#!/usr/bin/env bash
# kafka-log-dirs.sh: see its --help
exec "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/barnabas.sh" kafka-log-dirs "$@"
