# Steps, checks and the closing line of the compose test. Sourced; expects $work, a folder for what
# is said.

passed=0
failed=0
step_began=$SECONDS
timings=()
step_name=

# A new part of the test; the one before is over, and its time noted.
step() {
  [ -z "$step_name" ] || timings+=("$(printf '%5d s  %s' $((SECONDS - step_began)) "$step_name")")
  step_name=$1
  step_began=$SECONDS
  [ -z "$1" ] || printf '\n== %s\n' "$1"
}

# Runs a command, prints in one line whether its rule holds, and prints its output if not. A
# function may consist of several commands: the first that fails decides.
check() {
  local rule=$1 status
  shift
  set +e
  (set -euo pipefail; "$@") > "$work/check.out" 2>&1
  status=$?
  set -e
  if [ $status -eq 0 ]; then
    passed=$((passed + 1))
    echo "  ok      $rule"
  else
    failed=$((failed + 1))
    echo "  FAILED  $rule"
    # A failed check may have printed a secret.
    redact < "$work/check.out" | tail -n 15 | sed 's/^/          /'
  fi
  return 0
}

# Secrets in what passes through, as ***.
redact() {
  if [ -s "$secrets_used" ]; then
    sed -f <(grep -v '[^0-9A-Za-z-]' "$secrets_used" | sed 's|.*|s/&/***/g|')
  else
    cat
  fi
}

# Succeeds when the command does not; `!` would not count under `set -e`.
fails() { if "$@"; then return 1; fi; }

# Waits until a command succeeds, at most so many seconds.
within() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $end ] || { echo "not within the time: $*"; return 1; }
    sleep 0.2
  done
}

# The times of all steps, and the line that says how it went. Fails when a check did, or none was
# made.
conclude() {
  step ''
  printf '\n'
  printf '%s\n' "${timings[@]}" "$(printf '%5d s  all' $SECONDS)"
  printf '\n%d passed, %d failed\n' "$passed" "$failed"
  [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}
