// Package unit is the server of the unit's own protocol, version 1: what a
// running attempt can ask the node it is on. Every attempt has a Unix socket
// of its own, named by PERRIN_UNIT, that speaks HTTP/1.1 and JSON:
//
//	GET  /v1/whoami                   who am I: workload, task, node, what I was granted
//	GET  /v1/inputs                   my inputs
//	POST /v1/publish?path=NAME        the body becomes the output NAME, visible to the owner at once
//	POST /v1/publish?path=NAME&from=F the same with the file F below the output folder
//	GET  /v1/notice                   whether I am about to be stopped, and the time left;
//	                                  ?wait=30s waits for one, ?after=SEQ for one newer than SEQ
//	GET  /v1/cost                     what I cost so far
//
// dial, listen, secrets, volumes and checkpoint are reserved and answer 501.
// Every failure answers {"error": …, "hint": …}. openapi.json describes it all.
//
// The server runs in the daemon and everything that it reads was written by a
// stranger's program: headers, bodies, connections and time are bounded, and an
// error of the node is logged and answered without its details.
package unit
