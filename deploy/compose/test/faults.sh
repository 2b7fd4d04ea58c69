# Faults under load. Sourced.

load_runs() { kill -0 "$load" 2> /dev/null; }

# Starts the rig's load, which reports valid tokens that were refused (VR) and unanswered requests
# (UN). It runs until it is terminated, so that on a slow machine it outlasts the last fault.
start_load() {
  "$rig" load --balancer "$balancer" --instance "$(instance 1)" --instance "$(instance 2)" --instance "$(instance 3)" \
    --principal-file "$VX11_SECRETS/principal-token" --secrets "$work/secrets.load" --seconds "$1" > "$work/load.out" 2>&1 &
  load=$!
  sleep 3
  load_runs || { cat "$work/load.out"; return 1; }
}

# Ends it when nothing is broken any more, and keeps its verdict.
end_load() {
  outlasted=no
  load_runs && outlasted=yes
  sleep 3
  kill -TERM "$load" 2> /dev/null || true
  verdict=0
  wait "$load" || verdict=$?
  load=
  [ ! -f "$work/secrets.load" ] || cat "$work/secrets.load" >> "$secrets_used"
}

say_fault() { echo "  $(date +%T)  $1"; }

# Each with time to recover before the next: one fault at a time is what is promised.
break_things() {
  say_fault 'Redis paused for 6 s'
  docker pause "$(container vx11-redis)" > /dev/null
  sleep 6
  docker unpause "$(container vx11-redis)" > /dev/null
  sleep 5
  say_fault 'Redis stopped, and started empty'
  compose stop vx11-redis > "$work/compose.log" 2>&1
  sleep 4
  compose start vx11-redis >> "$work/compose.log" 2>&1
  within 20 healthy vx11-redis
  sleep 4
  say_fault 'instance 2 stopped, and started'
  compose stop vx11-operator-2 >> "$work/compose.log" 2>&1
  compose start vx11-operator-2 >> "$work/compose.log" 2>&1
  within 20 healthy vx11-operator-2
  sleep 2
  say_fault 'instance 3 killed, and started'
  docker kill "$(container vx11-operator-3)" > /dev/null
  sleep 3
  compose start vx11-operator-3 >> "$work/compose.log" 2>&1
  within 20 healthy vx11-operator-3
  say_fault 'nothing is broken any more'
}

load_outlasted_the_faults() { [ "$outlasted" = yes ]; }
nothing_was_refused_or_lost() { [ "$verdict" -eq 0 ]; }
