#!/bin/sh
# From now on Redis accepts these passwords and no others, given by their SHA-256; connections stay
# open. Lasts until Redis starts again: then it accepts the one in the secret. For replacing it
# (docs/operations/rotation.md).
#
# Usage: accept.sh HASH...
set -eu
umask 077
sh /etc/vx11/users.sh "$@" > /data/users.acl.new
mv /data/users.acl.new /data/users.acl
answer=$(REDISCLI_AUTH=$(cat /data/reload) redis-cli --user reload acl load)
[ "$answer" = OK ] || { echo "Redis does not take it: $answer" >&2; exit 1; }
