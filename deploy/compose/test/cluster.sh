# The cluster under test: its project, addresses, secrets, and how it is asked. Sourced; expects
# $work.

address=127.0.0.42
balancer=http://$address:8001
gateway=http://$address:8000
services=(vx11-redis vx11-operator-1 vx11-operator-2 vx11-operator-3 vx11-nginx-lb)
secrets_used=$work/secrets.list

# A .env in this folder has no effect, and a separate address and network keep the cluster apart
# from others on this machine.
export VX11_PUBLISH_ADDRESS=$address VX11_INSTANCE_ADDRESS=$address VX11_NETWORK=${VX11_TEST_NETWORK:-172.30.42}
export VX11_SECRETS=$work/secrets VX11_OPERATOR_IMAGE=vx11-operator:compose-test VX11_OPERATOR_PROXY_ENABLED=1
export VX11_OPERATOR_LOG_LEVEL=debug VX11_OPERATOR__AUDIT__FILE=/dev/stdout
# The load shows revoked and expired tokens on purpose, all from one address.
export VX11_OPERATOR__LIMITS__FAILED_AUTH_PER_MINUTE=0
export COMPOSE_IGNORE_ORPHANS=True

if docker compose version > /dev/null 2>&1; then compose_command=(docker compose); else compose_command=(docker-compose); fi
compose() {
  "${compose_command[@]}" --env-file "$work/no.env" --project-name vx11-compose-test --project-directory . \
    --file docker-compose.scale.yml --file deploy/compose/test/override.yml "$@"
}

container() { compose ps --all --quiet "$1"; }
health() { docker inspect --format '{{.State.Health.Status}}' "$(container "$1")"; }
healthy() { [ "$(health "$1")" = healthy ]; }
all_healthy() { local service; for service in "${services[@]}"; do healthy "$service" || return 1; done; }
instance() { echo "http://$address:801$1"; }

# Asks with the principal's credential, which is in a file: a command line can be read by everyone
# on the machine.
ask() { curl --silent --show-error --fail --max-time 5 --header "@$work/principal.header" "$@"; }

# A new token on standard output, noted as a secret.
issue() { ask "$1/operator/api/events/sse-token" | jq -er .sse_token | tee -a "$secrets_used"; }

# Opens a stream with the token on standard input for so many seconds, and prints what it gets.
open_stream() {
  local token
  read -r token
  # curl ends with 28 when the time is over, which is how a stream that lives ends here.
  curl --silent --show-error --no-buffer --max-time "$2" --header 'Accept: text/event-stream' --config - \
    <<< "url = \"$1/operator/api/events/stream?token=$token\"" || [ $? -eq 28 ]
}

# As the instances, and as people who may look and nothing else.
redis_cli() {
  compose exec -T vx11-redis sh -c 'REDISCLI_AUTH=$(cat /run/secrets/redis-password) exec redis-cli "$@"' redis-cli "$@"
}
people() {
  compose exec -T vx11-redis sh -c 'REDISCLI_AUTH=$(cat /data/oncall) exec redis-cli --user oncall "$@"' redis-cli "$@"
}
