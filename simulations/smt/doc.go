// Package smt runs the real perrin on a machine that few developers have: two
// sockets of two cores of two hyperthreads, and version 2 cgroups, emulated by
// QEMU under a distribution's kernel.
//
// The test packs perrin, an init (testdata/init) and the runners' probe into an
// initial RAM disk and boots it. The init starts two daemons, of two owners, on
// the one machine and says on the console what the commands that it runs say;
// the test looks at what was said: self-tests, topology, cpusets, and that no
// two owners are on the threads of one core. There is no network but loopback.
package smt
