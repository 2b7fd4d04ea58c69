# Search for used secrets where none may be: logs of all containers, Redis, metrics. Sourced.

traces=$work/traces

# Saves the containers' logs. Called again before a container is replaced, which deletes its log.
collect_logs() {
  local service
  mkdir -p "$traces"
  for service in "${services[@]}"; do
    docker logs "$(container "$service")" > "$traces/$service.$1.log" 2>&1
  done
}

# Every key of the database with its value. Values are asked for as each type there may be; what
# does not fit is an error text among them, and no harm. The instances' user may not list keys.
collect_redis() {
  people -n 1 --scan | tr -d '\r' > "$traces/redis.keys.log"
  awk '{ gsub(/"/, "\\\""); key = "\"" $0 "\""; print "GET " key; print "HGETALL " key; print "XRANGE " key " - +" }' \
    "$traces/redis.keys.log" | people -n 1 > "$traces/redis.values.log"
}

collect_metrics() {
  local number
  for number in 1 2 3; do
    curl --silent --fail --max-time 5 "$(instance $number)/metrics" > "$traces/metrics-$number.log"
  done
}

# Requests that go wrong in the ways that end up in logs, each with a live token in several places.
plant() {
  local token place
  token=$(issue "$balancer")
  for place in "$balancer" "$gateway" "$(instance 1)"; do
    for path in operator/api/events/stream nowhere operator/api/events/sse-token "nowhere/$token" %zz; do
      curl --silent --max-time 1 --output /dev/null --config - << END || true
url = "$place/$path?token=$token"
header = "Referer: $place/?token=$token"
user-agent = "$token"
END
    done
    curl --silent --max-time 2 --output /dev/null --header "@$work/principal.header" --config - << END || true
url = "$place/operator/api/tokens/introspect"
data = "token=$token"
END
  done
}

# Lines that contain a secret, in any spelling that programs give a token.
occurrences() {
  grep -v '^.\{0,15\}$' "$secrets_used" | sort -u > "$work/needles"
  sed 's/-//g' "$work/needles" > "$work/needles.plain"
  sed 's/-/%2D/g' "$work/needles" > "$work/needles.escaped"
  cat "$@" | LC_ALL=C grep -aciFf <(cat "$work"/needles "$work"/needles.{plain,escaped}) || true
}

something_was_looked_at() {
  local log
  echo "$(sort -u "$secrets_used" | wc -l) secrets, $(cat "$traces"/*.log | wc -l) lines"
  [ "$(sort -u "$secrets_used" | wc -l)" -gt 1000 ]
  for log in "$traces"/{vx11-operator-1,vx11-nginx-lb}.end.log; do [ "$(wc -l < "$log")" -gt 100 ]; done
  grep -q '?token=\*\*\*' "$traces/vx11-nginx-lb.end.log"
  [ "$(grep -c ^token: "$traces/redis.keys.log")" -gt 100 ]
}
a_planted_secret_is_found() {
  shuf -n 1 "$secrets_used" | tr -d - | tr a-f A-F > "$work/planted.log"
  [ "$(occurrences "$work/planted.log")" -eq 1 ]
}
no_secret_is_found() {
  local count
  count=$(occurrences "$traces"/*.log "$work/inspect.log")
  echo "$count lines"
  [ "$count" -eq 0 ]
}
