#!/bin/sh
# Starts Redis with the password of the secret, of which only a hash is written down, in memory,
# readable by Redis alone: it is on no command line and in no environment. users.sh says what it
# gives power over.
set -eu
umask 077
password=$(cat /run/secrets/redis-password)
if [ -z "$password" ]; then
  echo "the secret redis-password is empty" >&2
  exit 1
fi
hash=$(printf %s "$password" | sha256sum | cut -d ' ' -f 1)
unset password
sh /etc/vx11/users.sh "$hash" > /data/users.acl
exec redis-server /etc/vx11/redis.conf
