#!/bin/sh
# Prints the users of Redis, given the SHA-256 of each password that the instances may use. The
# instances come as the user `default`, which has the rights of docs/redis.md and no others: it
# cannot configure, empty, watch or stop the server, load functions or list keys, and reaches the
# service's keys only. Of two more users, one may have this list read again, and nothing else; the
# other is for people, and may only look. Their passwords are made here when Redis starts, and lie
# beside the list, in memory.
#
# Usage: users.sh HASH...
set -eu
[ $# -gt 0 ] || { echo 'usage: users.sh HASH...' >&2; exit 2; }
passwords=
for hash in "$@"; do
  case $hash in *[!0-9a-f]*) echo 'not a hash: 64 hexadecimal digits in small letters' >&2; exit 2 ;; esac
  [ ${#hash} -eq 64 ] || { echo 'not a hash: 64 hexadecimal digits in small letters' >&2; exit 2; }
  passwords="$passwords #$hash"
done
# Made where there is none.
hash_of() {
  [ -s "/data/$1" ] || head -c 32 /dev/urandom | sha256sum | cut -d ' ' -f 1 | tr -d '\n' > "/data/$1"
  sha256sum < "/data/$1" | cut -d ' ' -f 1
}
reload=$(hash_of reload)
oncall=$(hash_of oncall)
keys='~token:* ~revoked:* ~epoch:* ~{vx11}:*'
data='+setex +mget +get +set +expire +exists +xadd +xrange +xrevrange +xread +xlen +xdel +xtrim +xsetid +xinfo|stream +hset +hget +hmget +hgetall +hdel'
server='+eval +wait +info +time +ping +unwatch +select +cluster|slots'
echo "user default on$passwords resetchannels $keys -@all $data $server"
echo "user reload on #$reload -@all +acl|load"
echo "user oncall on #$oncall resetchannels %R~* -@all +@read -@dangerous +ping +select +info +time +slowlog|get +cluster|nodes"
