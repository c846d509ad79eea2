#!/usr/bin/env bash
# kafka-preferred-replica-election.sh: see its --help
exec "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/barnabas.sh" kafka-preferred-replica-election "$@"
