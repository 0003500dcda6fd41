// Package node builds, runs and stops the parts of one Perrin node: its place
// on the mesh, its share of a cell, its worker and its local API. It is where
// the packages below it meet; docs/architecture.md follows one workload through
// its files.
//
// A node is made of a data folder (Init or Join fill it) and a Config. New
// opens everything that can fail, Run serves until its context ends and then
// stops from the outside in: first the API and the network, so that nothing new
// comes, then the worker, then Raft, and the stores last, since all others write
// to them.
package node
