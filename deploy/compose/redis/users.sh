#!/bin/sh
# Prints the users of Redis, given the SHA-256 of each password that the instances may use. Who has one may read and write
# data, but not configure, empty, watch or stop the server. A second user may have this list read again, and nothing
# else: its password is made when Redis starts, and lies beside the list, in memory.
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
echo "user default on$passwords ~* &* +@all -@admin -@dangerous +info +cluster|slots"
echo "user reload on #$(sha256sum < /data/reload | cut -d ' ' -f 1) -@all +acl|load"
