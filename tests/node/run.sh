#!/usr/bin/env bash
# Starts a directory and sidecars in front of it, and has a gRPC client that is
# not ours ask them.
#
#   tests/node/run.sh BLINDBOOK     the binary under test
set -euo pipefail
blindbook=$(realpath -- "${1:?name the blindbook binary}")
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

folder=$(mktemp -d)
declare -A pids=()

finish() {
  local status=$? name
  trap - EXIT
  for name in "${!pids[@]}"; do
    kill -KILL "${pids[$name]}" 2>/dev/null || true
  done
  if ((status)); then
    for log in "$folder"/*.log; do
      printf '== %s\n' "${log##*/}"
      cat -- "$log"
    done >&2
  fi
  rm -rf -- "$folder"
  exit "$status"
}
trap finish EXIT

# start NAME COMMAND...: runs in the background and waits until it says where it
# serves; the address goes to `place`.
start() {
  local name=$1
  shift
  : >"$folder/$name.log"
  "$@" 2>>"$folder/$name.log" &
  pids[$name]=$!
  place=""
  for ((n = 0; n < 600; n++)); do
    place=$(sed -n 's/.*serving address=\([^ ]*\).*/\1/p' "$folder/$name.log")
    [[ -z $place ]] || return 0
    kill -0 "${pids[$name]}" 2>/dev/null || break
    sleep 0.1
  done
  echo "$name does not serve" >&2
  return 1
}

# stop NAME: asks it to end; it must do so without a fault.
stop() {
  local status=0
  kill -TERM "${pids[$1]}"
  wait "${pids[$1]}" || status=$?
  unset "pids[$1]"
  if ((status)); then
    echo "$1 ended with $status" >&2
    return 1
  fi
}

keys=$folder/keys
"$blindbook" keygen --dev-tls --out "$keys" >/dev/null
cat >"$folder/people.csv" <<PEOPLE
sii,user,audience,default
+14155550100,alice,personal,true
+14155550102,carol.shop,business,
+14155550102,carol,personal,true
dave@example.com,dave,personal,
PEOPLE
"$blindbook" load --data "$folder/data" --keys "$keys" --provider wa.example --region US --strict \
  "$folder/people.csv" >/dev/null

start directory "$blindbook" serve --log info --data "$folder/data" --keys "$keys" \
  --listen 127.0.0.1:0 --tls-cert "$keys/dev-cert.pem" --tls-key "$keys/dev-cert.key"
directory=$place

# sidecar NAME LISTEN: one with a state of its own.
sidecar() {
  cat >"$folder/$1.toml" <<CONFIG
listen = "$2"
region = "US"
[[directory]]
name = "wa"
address = "https://$directory"
identity = "$keys/identity.pub"
ca = "$keys/dev-ca.pem"
state = "$folder/state-$1"
CONFIG
  start "$1" "$blindbook" sidecar --config "$folder/$1.toml" --log trace
}

sidecar tcp 127.0.0.1:0
tcp=$place
node client.js "$tcp" serving

sidecar unix "unix:$folder/sidecar.sock"
node client.js "$place" serving
stop unix
if [[ -e $folder/sidecar.sock ]]; then
  echo "the socket outlives its sidecar" >&2
  exit 1
fi

stop directory
node client.js "$tcp" alone
stop tcp
for log in "$folder"/{tcp,unix}.log; do
  if grep -nE 'canary|4155550|alice|carol|dave|nobody' -- "$log" >&2; then
    echo "a log holds whom somebody looked up" >&2
    exit 1
  fi
done
