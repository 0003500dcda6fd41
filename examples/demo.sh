#!/usr/bin/env bash
# A local mesh of five daemons counts the machine's own Go standard library, one
# task a package: first with a wasm program, then with a native one. During the
# first run one daemon is killed. Everything that this makes is removed at the end.
#
#   make demo            builds and runs it
#   DEMO_DIRS=40 make demo   counts only so many packages
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
perrin=$root/bin/perrin

say() { printf '\n\033[1m%s\033[0m\n' "$*" >&2; }

# prepare DIR builds the example and lays every package's own .go files out flat.
prepare() {
	local go=${GO:-go} src dir
	(cd "$root" &&
		GOOS=wasip1 GOARCH=wasm "$go" build -trimpath -ldflags='-s -w' -o "$1/codestat.wasm" ./examples/codestat &&
		CGO_ENABLED=0 "$go" build -trimpath -ldflags='-s -w' -o "$1/codestat" ./examples/codestat &&
		"$go" build -trimpath -o "$1/merge" ./examples/codestat/merge)
	src=$("$go" env GOROOT)/src
	mkdir "$1/std"
	find "$src" -name '*.go' -not -path "$src/cmd/*" -not -path '*/testdata/*' -printf '%P\n' | while read -r file; do
		dir=$(dirname "$file")
		dir=$1/std/${dir//\//.}
		[ -d "$dir" ] || mkdir "$dir"
		echo "$src/$file" "$dir/"
	done | awk '{ list[$2] = list[$2] " " $1 } END { for (d in list) print "cp" list[d], d }' | sh
}

# count NAME PROGRAM maps a program over the packages and merges what they printed.
count() {
	"$perrin" map --output "out-$1" "$2" -- "${packages[@]}"
	"$work/merge" -top 8 "out-$1"
}

# kill_one kills a daemon without warning once a good part of the tasks is done.
kill_one() {
	local done=0 want=$((${#packages[@]} / 4)) victim=$PERRIN_DEV_DATA/node4
	while [ "$done" -lt "$want" ]; do
		sleep 0.2
		done=$("$perrin" ps --all --json | sed -n 's/.*"done": *\([0-9]*\).*/\1/p' | head -n 1)
		done=${done:-0}
	done
	say "kill -9 of node4, after $done of ${#packages[@]} tasks"
	kill -9 "$(cat "$victim/pid")"
}

inside() {
	work=$DEMO_WORK
	cd "$work"
	mapfile -t packages < <(printf '%s\n' std/* | head -n "${DEMO_DIRS:-100000}")
	say "1. a wasm program over ${#packages[@]} packages, one task each; one daemon is killed on the way"
	kill_one &
	count wasm codestat.wasm
	wait
	say "2. the same with a native program"
	count native ./codestat
	if diff -r -q --exclude=stderr out-wasm out-native; then
		say "both programs counted the same"
	fi
	say "perrin status"
	"$perrin" status
	say "perrin why: how the wasm workload was placed"
	"$perrin" why "$("$perrin" ps --all --json | sed -n 's/.*"id": *"\([a-z2-7]*\)".*/\1/p' | tail -n 1)"
}

if [ "${1:-}" = inside ]; then
	inside
	exit
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
say "building the example, laying out the standard library"
prepare "$work"
began=$SECONDS
cd "$work"
DEMO_WORK=$work "$perrin" dev --nodes 5 -- "$here/demo.sh" inside
say "done in $((SECONDS - began)) s; nothing is left behind"
