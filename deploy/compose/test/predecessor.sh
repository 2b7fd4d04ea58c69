# The commands of the predecessor's guide to scaling, phases 2 and 3, and what it promised of them.
# Sourced.

five_services_are_up() { [ "$(compose ps --quiet | wc -l)" -eq 5 ] && all_healthy; }

ten_calls_show_several_instances() {
  for _ in {1..10}; do ask "$balancer/operator/internal/instance-id" | jq -r .instance_id; done > "$work/instance-ids"
  tr '\n' ' ' < "$work/instance-ids"
  [ "$(sort -u "$work/instance-ids" | wc -l)" -ge 2 ]
}

statistics_name_redis() {
  ask "$balancer/operator/internal/cache-stats" | jq -e '.backend == "redis" and (.cluster | length == 3)'
}

five_tokens_with_instance_2_stopped() {
  compose stop vx11-operator-2
  for _ in {1..5}; do issue "$balancer" > /dev/null; done
  compose up -d --no-build vx11-operator-2
  within 30 healthy vx11-operator-2
  within 10 ask --output /dev/null "$(instance 2)/operator/internal/instance-id"
}

token_outlives_the_restart_of_its_issuer() {
  local token
  token=$(issue "$(instance 1)")
  compose restart vx11-operator-1
  within 30 healthy vx11-operator-1
  open_stream "$gateway" 2 <<< "$token" | tee "$work/stream"
  grep -q '"type":"connected"' "$work/stream"
  # And on the issuer itself, which remembers nothing.
  open_stream "$(instance 1)" 2 <<< "$token" > "$work/stream"
  grep -q '"instance_id":"1"' "$work/stream"
}

gateway_says_its_own_health() {
  curl --silent --fail --max-time 5 "$gateway/health" | jq -e '. == {"status": "ok", "module": "tentaculo_link"}'
}

metrics_are_closed_to_the_outside() {
  local base
  for base in "$balancer" "$gateway"; do
    [ "$(curl --silent --max-time 5 --output /dev/null --write-out '%{http_code}' "$base/metrics")" != 200 ]
  done
  curl --silent --fail --max-time 5 "$(instance 1)/metrics" > "$work/metrics"
  grep -q '^vx11_operator_ephemeral_tokens_issued_total' "$work/metrics"
}

# An instance takes the id of a request from proxies it trusts, and nobody else.
instances_believe_nginx() {
  local id
  id=$(curl --silent --max-time 5 --request POST "$balancer/operator/api/events/sse-token" | jq -er .request_id)
  docker logs "$(container vx11-nginx-lb)" 2>&1 | grep "$id"
  curl --silent --max-time 5 --header "X-Request-Id: $id" --request POST "$(instance 1)/operator/api/events/sse-token" |
    jq -e --arg id "$id" '.request_id != $id'
}

redis_refuses() {
  compose exec -T vx11-redis redis-cli ping > "$work/refused" 2>&1 || true
  compose exec -T -e REDISCLI_AUTH=not-the-password vx11-redis redis-cli ping > "$work/refused-too" 2>&1 || true
  cat "$work/refused" "$work/refused-too"
  grep -q NOAUTH "$work/refused"
  grep -q WRONGPASS "$work/refused-too"
  fails grep -q PONG "$work/refused" "$work/refused-too"
  redis_cli ping > "$work/accepted"
  grep -q PONG "$work/accepted"
}
redis_password_gives_no_power_over_the_server() {
  local command words
  for command in 'CONFIG GET maxmemory' FLUSHALL SHUTDOWN MONITOR 'KEYS token:' 'CLIENT LIST' 'SLOWLOG GET' 'ACL LIST' \
    'FUNCTION FLUSH' 'SCRIPT FLUSH' 'PUBLISH a b' 'DEL token:a' 'SCAN 0' 'SET elsewhere b'; do
    read -ra words <<< "$command"
    redis_cli "${words[@]}" > "$work/refused" 2>&1 || true
    echo "$command: $(cat "$work/refused")"
    grep -q NOPERM "$work/refused"
  done
}
people_may_look_and_change_nothing() {
  local command words
  people -n 1 info memory > "$work/looked"
  grep -q '^maxmemory_policy:' "$work/looked"
  for command in 'SET a b' FLUSHALL 'CONFIG SET maxmemory 0' SHUTDOWN 'ACL LIST'; do
    read -ra words <<< "$command"
    people "${words[@]}" > "$work/refused" 2>&1 || true
    echo "$command: $(cat "$work/refused")"
    grep -q NOPERM "$work/refused"
  done
}
redis_is_not_published() {
  [ -z "$(docker port "$(container vx11-redis)")" ]
}
redis_keeps_to_its_memory() {
  redis_cli info memory | tr -d '\r' > "$work/redis-memory"
  grep -x 'maxmemory:268435456' "$work/redis-memory"
  grep -x 'maxmemory_policy:noeviction' "$work/redis-memory"
}

stop_ends_streams_in_order() {
  local id began
  id=$(container vx11-operator-3)
  open_stream "$(instance 3)" 40 <<< "$(issue "$(instance 3)")" > "$work/drained" &
  local reader=$!
  within 5 grep -q '"type":"connected"' "$work/drained"
  began=$SECONDS
  compose stop vx11-operator-3
  echo "stopped after $((SECONDS - began)) s"
  wait $reader
  cat "$work/drained"
  grep -q '^event: reconnect' "$work/drained"
  docker inspect --format '{{.State.ExitCode}} {{.State.OOMKilled}}' "$id" | grep -qx '0 false'
  [ $((SECONDS - began)) -lt 25 ]
  compose start vx11-operator-3
  within 30 healthy vx11-operator-3
}

# The gateway's switch. It replaces the nginx container, so its logs are saved first.
switch_closes_the_gateway() {
  local token
  token=$(issue "$balancer")
  VX11_OPERATOR_PROXY_ENABLED=0 compose up -d --no-build --no-deps vx11-nginx-lb
  within 30 healthy vx11-nginx-lb
  open_stream "$gateway" 2 <<< "$token" | jq -e '.code == "operator_proxy_disabled"'
  issue "$balancer" > /dev/null
}
wrong_switch_is_an_error() {
  VX11_OPERATOR_PROXY_ENABLED=yes fails compose up -d --no-build --no-deps vx11-nginx-lb
  # Compose v2 may have made a folder of that name.
  rmdir nginx/switch/operator-proxy-yes.conf 2> /dev/null || true
}
switch_opens_it_again() {
  compose up -d --no-build --no-deps vx11-nginx-lb
  within 30 healthy vx11-nginx-lb
  open_stream "$gateway" 2 <<< "$(issue "$balancer")" > "$work/stream"
  grep -q '"type":"connected"' "$work/stream"
}
