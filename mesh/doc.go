// Package mesh connects the nodes of one mesh: a libp2p host over QUIC, with
// TCP as fallback, whose every protocol is closed to whoever has no
// certificate of the mesh.
//
// # Admission
//
// After a connection is secured the dialer opens ProtoHello and both sides
// show their certificates; who has not been admitted HelloTimeout after
// connecting is disconnected. All inbound streams pass one gate (see gate.go):
// to a peer that is not admitted it opens ProtoHello and ProtoJoin only. That
// holds for every protocol on the host, also those that identify, kad-dht and
// gossipsub register by themselves. A stream that arrives before the hello has
// ended waits for it. Outbound, Call, OpenStream and the streams of Libp2p()
// wait for the hello too.
//
// # Talking
//
// Handle and Call exchange one bounded request and one bounded answer on a
// stream of their own; failures cross as wire.Error. HandleStream and
// OpenStream give a net.Conn-like stream. Both work to the node itself. Every
// method of Host may be called from any goroutine.
package mesh
