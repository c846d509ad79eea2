#!/usr/bin/env bash
# kafka-reassign-partitions.sh: see its --help
exec "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/barnabas.sh" kafka-reassign-partitions "$@"
