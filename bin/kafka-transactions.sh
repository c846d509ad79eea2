#!/usr/bin/env bash
# kafka-transactions.sh: see its --help
exec "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/barnabas.sh" kafka-transactions "$@"
