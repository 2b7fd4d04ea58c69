# Content of the image, and the rights of its containers. Sourced.

# The packages as scanners see them: distroless images note them in status.d, others in dpkg's or
# apk's list.
list_image() {
  local root=$work/image-root id
  rm -rf "$root"
  mkdir -p "$root"
  id=$(docker create "$VX11_OPERATOR_IMAGE")
  docker export "$id" | tar -C "$root" --extract --exclude='dev/*'
  docker rm "$id" > /dev/null
  echo "  size: $(docker image inspect --format '{{.Size}}' "$VX11_OPERATOR_IMAGE" | awk '{ printf "%.1f MB", $1 / 1e6 }')," \
    "of it the binary: $(stat --format %s "$root/usr/local/bin/vx11-operator" | awk '{ printf "%.1f MB", $1 / 1e6 }')"
  local packages
  packages=$({ cat "$root"/var/lib/dpkg/status.d/* "$root/var/lib/dpkg/status" 2> /dev/null || true; } |
    awk '/^Package: / { name = $2 } /^Version: / { print name " " $2 }' | sort -u)
  echo "  packages: $(grep -c . <<< "$packages" || true)"
  sed 's/^/    /' <<< "$packages"
  # Files that the engine adds (.dockerenv, /etc/hosts …) do not belong to the image, and
  # documentation is no program.
  find "$root" -path "$root/usr/share" -prune -o -path "$root/etc" -prune -o -name .dockerenv -o \
    -type f -perm /111 ! -name '*.so*' -printf '/%P\n' | sort > "$work/executables"
  echo "  programs: $(tr '\n' ' ' < "$work/executables")"
}

holds_no_shell_and_no_other_program() { [ "$(cat "$work/executables")" = /usr/local/bin/vx11-operator ]; }
holds_no_setuid_file() { [ -z "$(find "$work/image-root" -type f -perm /6000)" ]; }
holds_nothing_of_this_machine() {
  # A substitute of the builder has this machine's certificate authorities and cargo configuration;
  # the image must not have them.
  [ ! -e "$work/image-root/usr/local/cargo" ] && [ ! -e "$work/image-root/build" ]
}

# There is no shell in it to look around with: another container joins its process namespace and
# looks through /proc.
look_into() {
  docker run --rm --network none --user 0 --cap-drop ALL --cap-add SYS_PTRACE --cap-add DAC_OVERRIDE \
    --pid "container:$(container vx11-operator-1)" --entrypoint sh "$redis_image" -c "$1"
}
instance_runs_without_rights() {
  look_into 'grep -E "^(Uid|Gid|CapEff|CapBnd|NoNewPrivs)" /proc/1/status' | tee "$work/status"
  grep -qE '^Uid:\s+65532\s+65532\s+65532\s+65532$' "$work/status"
  grep -qE '^CapEff:\s+0+$' "$work/status"
  grep -qE '^CapBnd:\s+0+$' "$work/status"
  grep -qE '^NoNewPrivs:\s+1$' "$work/status"
}
instance_cannot_write() {
  # Not even root could, so it is the file system that refuses, not a mode.
  fails look_into 'for folder in / /tmp /usr/local/bin /home; do touch /proc/1/root$folder/probe; done' > "$work/probe" 2>&1
  cat "$work/probe"
  [ "$(grep -c 'Read-only file system' "$work/probe")" -eq 4 ]
}
others_run_without_rights() {
  local service
  for service in vx11-redis vx11-nginx-lb; do
    compose exec -T "$service" sh -c 'id -u; grep CapEff /proc/self/status; touch /probe || true' > "$work/probe" 2>&1
    cat "$work/probe"
    fails grep -qx 0 "$work/probe"
    grep -qE '^CapEff:\s+0+$' "$work/probe"
    grep -q 'Read-only file system' "$work/probe"
  done
}
engine_says_the_same() {
  local service
  for service in "${services[@]}"; do
    docker inspect "$(container "$service")" | jq -e --arg service "$service" '.[0] |
      (.HostConfig.ReadonlyRootfs and .HostConfig.CapDrop == ["ALL"] and (.HostConfig.Privileged | not)
       and (.HostConfig.SecurityOpt | index("no-new-privileges:true") != null)
       and .HostConfig.Memory > 0 and .HostConfig.RestartPolicy.Name == "unless-stopped"
       and ([.Mounts[] | select(.RW)] | length == 0) and .Config.User != "" and .Config.User != "0")
      or error($service)' > /dev/null
  done
}
no_secret_is_in_inspect_or_history() {
  local service
  for service in "${services[@]}"; do docker inspect "$(container "$service")"; done > "$work/inspect.log"
  docker history --no-trunc "$VX11_OPERATOR_IMAGE" >> "$work/inspect.log"
  fails grep -qFf <(cat "$VX11_SECRETS"/*) "$work/inspect.log"
}
