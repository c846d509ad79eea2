#!/usr/bin/env bash
# kafka-console-consumer.sh: see its --help
exec "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/barnabas.sh" kafka-console-consumer "$@"
