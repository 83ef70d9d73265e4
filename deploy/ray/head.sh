#!/usr/bin/env bash
# A Ray head in a container that serves a configuration: head.sh CONFIGURATION [options of ray start]
set -euo pipefail
configuration=$1
shift
# Whatever reaches a container comes from outside.
sed 's/^  host: 127\.0\.0\.1.*/  host: 0.0.0.0/' "$configuration" > /tmp/serve.yaml
# Not earlier than Ray listens: each try loads all of it.
{ until (: < /dev/tcp/127.0.0.1/8265) 2> /dev/null; do sleep 1; done
  until serve deploy --address http://127.0.0.1:8265 /tmp/serve.yaml; do sleep 5; done; } &
exec ray start --head --block --disable-usage-stats --dashboard-host=127.0.0.1 "$@"
