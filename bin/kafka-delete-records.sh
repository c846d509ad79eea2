#!/usr/bin/env bash
# kafka-delete-records.sh: see its --help
exec "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/barnabas.sh" kafka-delete-records "$@"
