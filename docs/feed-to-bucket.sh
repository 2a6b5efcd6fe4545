#!/bin/sh
# Sends a published feed to a bucket, in the order in which nothing is named before it is there: data, then key
# lists, then the head as it was when this began.
#
#   feed-to-bucket.sh DIR PUT [DELETE]
#
# DIR is what `tksign serve --publish` keeps. PUT is your command; it is called as `PUT FILE NAME` and must fail when
# the object is not stored. Objects that never change are sent once: DIR/.sent remembers which. Run it from a timer,
# or whenever DIR/v1/feed/*/head changes.
#
# What the folder lets go of leaves the bucket with `DELETE NAME`, which must not fail when it is gone already. It is
# called one run after the object was first missed (DIR/.gone), so that no head that a reader of the bucket may have
# just fetched names it. Without DELETE the bucket keeps everything, and so it grows.
#
# One run at a time: a second one waits (flock of util-linux, DIR/.lock).
#
# Tested by tkverify/tests/real.rs and tksign-bin/tests/feed.rs.
set -eu
dir=$1
put=$2
delete=${3:-}
cd "$dir"
exec 9> .lock
flock 9
touch .sent .gone
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for feed in v1/feed/*; do
  cp "$feed/head" "$work/head"
  {
    find "$feed" -type f -path "$feed/*/*/*" ! -name '*.tmp' | sort
    find "$feed/keys" -type f ! -name '*.tmp' | sort
  } > "$work/list"
  awk 'BEGIN { while ((getline < ".sent") > 0) sent[$0] } !($0 in sent)' "$work/list" > "$work/new"
  while read -r name; do
    # What the folder has let go of since it was listed is not needed by its newest head.
    [ -e "$name" ] || continue
    "$put" "$name" "$name" < /dev/null || { [ ! -e "$name" ] && continue; exit 1; }
    echo "$name" >> .sent
  done < "$work/new"
  "$put" "$work/head" "$feed/head" < /dev/null
done
[ -n "$delete" ] || exit 0
: > "$work/sent"
: > "$work/gone"
awk 'BEGIN { while ((getline < ".gone") > 0) gone[$0] } { print (($0 in gone) ? "again" : "first"), $0 }' .sent \
  > "$work/all"
while read -r missed name; do
  if [ ! -e "$name" ]; then
    if [ "$missed" = again ]; then
      "$delete" "$name" < /dev/null
      continue
    fi
    echo "$name" >> "$work/gone"
  fi
  echo "$name" >> "$work/sent"
done < "$work/all"
for list in sent gone; do
  cp "$work/$list" ".$list.new"
  mv ".$list.new" ".$list"
done
