#!/usr/bin/env bash
# kafka-consumer-groups.sh: see its --help
exec "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/barnabas.sh" kafka-consumer-groups "$@"
