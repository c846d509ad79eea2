#!/usr/bin/env bash
# kafka-leader-election.sh: see its --help
exec "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/barnabas.sh" kafka-leader-election "$@"
