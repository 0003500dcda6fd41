#!/bin/sh
# What a workload can ask the node it runs on, with nothing but curl.
#
#   perrin run -- sh unit.sh
set -eu

# unit METHOD PATH [curl's arguments]: ask the node; fails with its words.
unit() {
	method=$1 path=$2
	shift 2
	curl --silent --show-error --fail-with-body --unix-socket "$PERRIN_UNIT" -X "$method" "$@" "http://unit$path"
}

# field NAME: the value of a number or a string in the JSON on stdin.
field() {
	sed -n 's/.*"'"$1"'":"\{0,1\}\([^",}]*\).*/\1/p'
}

me=$(unit GET /v1/whoami)
task=$(echo "$me" | field task)
echo "task $task of $(echo "$me" | field count) on $(echo "$me" | field node)"

echo "inputs: $(unit GET /v1/inputs)"

# An output from a pipe, and one from a file below the output folder. The owner
# sees both at once, long before the program ends.
date -u | unit POST "/v1/publish?path=started-$task.txt" --data-binary @- >/dev/null
mkdir -p "$PERRIN_OUT/logs"
echo "half way" >"$PERRIN_OUT/logs/progress"
unit POST "/v1/publish?path=progress.txt&from=logs/progress" >/dev/null

# Is the node about to stop us? With wait=30s this would wait for it.
notice=$(unit GET /v1/notice)
case $(echo "$notice" | field kind) in
none) echo "nobody wants us to stop" ;;
*) echo "stopping in $(echo "$notice" | field left_ms) ms: $(echo "$notice" | field reason)" ;;
esac

echo "cost so far: $(unit GET /v1/cost | field micro_credits) micro-credits"
