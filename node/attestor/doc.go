// Package attestor asks other nodes for evidence of their machines, appraises
// it, and answers those who ask this one. It speaks wire.ProtoAttest on streams
// of admitted peers: after the handshake, because evidence inside of one can be
// relayed.
package attestor
