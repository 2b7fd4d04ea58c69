# Updates, rollbacks and a new password of Redis, under load. Sourced.

second=$VX11_OPERATOR_IMAGE-second
broken=$VX11_OPERATOR_IMAGE-broken

update() {
  COMPOSE_FILE=docker-compose.scale.yml:deploy/compose/test/override.yml COMPOSE_PROJECT_NAME=vx11-compose-test \
    deploy/compose/update "$@"
}

# The same program as another image, and one that does not start.
make_images() {
  local id
  id=$(docker create "$VX11_OPERATOR_IMAGE")
  docker commit --change 'LABEL org.vx11.test=second' "$id" "$second" > /dev/null
  docker commit --change 'CMD ["--no-such-option"]' "$id" "$broken" > /dev/null
  docker rm "$id" > /dev/null
  docker image inspect --format '{{.Id}}' "$VX11_OPERATOR_IMAGE" > "$work/first.id"
}
remove_images() {
  docker image rm "$second" "$broken" "$VX11_OPERATOR_IMAGE-before-update" > /dev/null 2>&1 || true
}

number_of() { docker image inspect --format '{{.Id}}' "$1"; }
run_by() { docker inspect --format '{{.Image}}' "$(container "vx11-operator-$1")"; }
all_run() {
  local number
  for number in 1 2 3; do [ "$(run_by $number)" = "$1" ] || { echo "instance $number runs $(run_by $number)"; return 1; }; done
}
containers() { local number; for number in "$@"; do container "vx11-operator-$number"; done; }

# Also where an instance is not there: that is often why.
update_brings_another_image_in() {
  compose stop --timeout 15 vx11-operator-3 > "$work/stop.log" 2>&1
  update --to "$second"
  all_run "$(number_of "$second")"
  [ "$(number_of "$VX11_OPERATOR_IMAGE-before-update")" = "$(< "$work/first.id")" ]
}
rollback_goes_back() {
  update --rollback
  all_run "$(< "$work/first.id")"
}
broken_image_stops_the_update() {
  local untouched code=0
  untouched=$(containers 2 3)
  update --wait 15 --to "$broken" > "$work/update.out" 2>&1 || code=$?
  cat "$work/update.out"
  [ $code -eq 1 ]
  grep -q '^Stopped at vx11-operator-1: not ready after 15 s' "$work/update.out"
  grep -q 'deploy/compose/update --rollback' "$work/update.out"
  [ "$(containers 2 3)" = "$untouched" ]
  [ "$(run_by 1)" = "$(number_of "$broken")" ]
  # Who brings it up in any other way gets what ran before.
  [ "$(number_of "$VX11_OPERATOR_IMAGE")" = "$(< "$work/first.id")" ]
}
rollback_after_a_stop_repairs() {
  local untouched
  untouched=$(containers 2 3)
  update --rollback
  all_run "$(< "$work/first.id")"
  [ "$(containers 2 3)" = "$untouched" ]
}
second_rollback_replaces_nothing() {
  local untouched
  untouched=$(containers 1 2 3)
  update --rollback | tee "$work/update.out"
  grep -q '^All instances run .* already' "$work/update.out"
  [ "$(containers 1 2 3)" = "$untouched" ]
}
update_with_nothing_new_replaces_nothing() {
  local untouched
  untouched=$(containers 1 2 3)
  update | tee "$work/update.out"
  grep -q '^All instances run .* already' "$work/update.out"
  [ "$(containers 1 2 3)" = "$untouched" ]
}

hash_of() { head -n 1 "$1" | tr -d '\n' | sha256sum | cut -d ' ' -f 1; }
redis_accepts() { compose exec -T vx11-redis sh /etc/vx11/accept.sh "$@"; }
# Whether Redis lets in whoever has the password in a file.
lets_in() { { printf 'AUTH '; cat "$1"; echo PING; } | compose exec -T vx11-redis redis-cli | tr -d '\r' | grep -qx PONG; }
# On a busy machine an instance may be degraded for a moment. The load judges what clients notice.
use_redis() {
  local number
  for number in 1 2 3; do
    curl --silent --fail --max-time 5 "$(instance $number)/operator/api/health" | jq -e '.status == "ok"' > /dev/null || return 1
  done
}

redis_accepts_a_second_password() {
  openssl rand -hex 32 > "$VX11_SECRETS/redis-password.next"
  cat "$VX11_SECRETS/redis-password.next" >> "$secrets_used"
  fails lets_in "$VX11_SECRETS/redis-password.next"
  redis_accepts "$(hash_of "$VX11_SECRETS/redis-password")" "$(hash_of "$VX11_SECRETS/redis-password.next")"
  lets_in "$VX11_SECRETS/redis-password"
  lets_in "$VX11_SECRETS/redis-password.next"
  within 20 use_redis
}
# State from the instance, because the engine checks only once a second.
are_degraded() {
  local number
  for number in 1 2 3; do
    curl --silent --fail --max-time 5 "$(instance $number)/operator/api/health" | jq -e '.status == "degraded"' > /dev/null || return 1
  done
}
update_waits_for_redis() {
  local untouched code=0
  untouched=$(containers 1 2 3)
  compose stop --timeout 1 vx11-redis > "$work/stop.log" 2>&1
  within 20 are_degraded
  update --restart > "$work/update.out" 2>&1 || code=$?
  compose start vx11-redis > "$work/start.log" 2>&1
  cat "$work/update.out"
  [ $code -eq 1 ]
  grep -q '^Without Redis: vx11-operator-1 vx11-operator-2 vx11-operator-3\.' "$work/update.out"
  [ "$(containers 1 2 3)" = "$untouched" ]
  within 20 use_redis
}
restart_takes_a_new_password_along() {
  local old=$work/redis-password.old
  cp "$VX11_SECRETS/redis-password" "$old"
  chmod u+w "$VX11_SECRETS/redis-password"
  cat "$VX11_SECRETS/redis-password.next" > "$VX11_SECRETS/redis-password"
  rm "$VX11_SECRETS/redis-password.next"
  update --restart
  redis_accepts "$(hash_of "$VX11_SECRETS/redis-password")"
  lets_in "$VX11_SECRETS/redis-password"
  fails lets_in "$old"
  within 20 use_redis
  # Its own health check asks with the secret.
  sleep 4
  healthy vx11-redis
}

# Answers to a principal on each instance, by the file of its credential.
answers_of() {
  local number
  for number in 1 2 3; do
    sed 's/^/X-VX11-Token: /' "$1" | curl --silent --output /dev/null --write-out '%{http_code} ' --max-time 5 --request POST --header @- \
      "$(instance $number)/operator/api/events/sse-token"
  done
}
leaked_principal_is_refused_at_once() {
  cp "$VX11_SECRETS/principal-token" "$work/secrets.leaked"
  [ "$(answers_of "$work/secrets.leaked")" = '200 200 200 ' ]
  chmod u+w "$VX11_SECRETS/principal-token"
  openssl rand -hex 32 > "$VX11_SECRETS/principal-token"
  cat "$VX11_SECRETS/principal-token" >> "$secrets_used"
  compose restart vx11-operator-1 vx11-operator-2 vx11-operator-3 > "$work/restart.log" 2>&1
  within 30 use_redis
  [ "$(answers_of "$VX11_SECRETS/principal-token")" = '200 200 200 ' ]
  [ "$(answers_of "$work/secrets.leaked")" = '401 401 401 ' ]
  sed 's/^/X-VX11-Token: /' "$VX11_SECRETS/principal-token" > "$work/principal.header"
}

audit_trail_is_in_the_log() {
  local number lines
  for number in 1 2 3; do
    lines=$(docker logs "$(container vx11-operator-$number)" 2>&1 | jq --raw-input --compact-output 'fromjson? | select(.action == "issue")' | wc -l)
    [ "$lines" -gt 0 ]
  done
}
