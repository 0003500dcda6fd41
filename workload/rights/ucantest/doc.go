// Package ucantest holds Perrin's tokens against go-ucan, an implementation of UCAN
// 1.0 by others: the same chains of delegations, made at random, get the same verdict
// from both. It is a module of its own, so that Perrin does not depend on go-ucan; it
// has only tests.
package ucantest
