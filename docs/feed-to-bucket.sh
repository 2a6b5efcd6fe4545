#!/bin/sh
# Sends a published feed to a bucket, in the order in which nothing is named before it is there: data, then key
# lists, then the head as it was when this began.
#
#   feed-to-bucket.sh DIR PUT
#
# DIR is what `tksign serve --publish` keeps. PUT is your command; it is called as `PUT FILE NAME` and must fail when
# the object is not stored. Objects that never change are sent once: DIR/.sent remembers which. Run it from a timer,
# or whenever DIR/v1/feed/*/head changes.
#
# Tested by tkverify/tests/real.rs.
set -eu
dir=$1
put=$2
cd "$dir"
touch .sent
heads=$(mktemp -d)
trap 'rm -rf "$heads"' EXIT
for feed in v1/feed/*; do
  cp "$feed/head" "$heads/head"
  {
    find "$feed" -type f -path "$feed/*/*/*" ! -name '*.tmp' | sort
    find "$feed/keys" -type f ! -name '*.tmp' | sort
  } > "$heads/list"
  while read -r name; do
    if ! grep -qxF "$name" .sent; then
      "$put" "$name" "$name" < /dev/null
      echo "$name" >> .sent
    fi
  done < "$heads/list"
  "$put" "$heads/head" "$feed/head" < /dev/null
done
