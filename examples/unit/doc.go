// Package unit has one small program in shell, Python and Go each that uses
// the unit's own protocol: who am I, my inputs, publish an output, notice, cost.
// Its tests run them against a server of the protocol.
package unit
