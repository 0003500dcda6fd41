package mesh

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"time"

	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/perrin-mesh/perrin/mesh/admission"
)

// Config is what a Host needs. Default fills in all but Key and Bundle.
type Config struct {
	// Key is the node's Ed25519 key. Its public half is the node's identity.
	Key ed25519.PrivateKey
	// Bundle holds the node's certificates; Host.SetBundle renews them.
	Bundle admission.Bundle

	// Trust is what is known of the mesh's operators and of who is put out; nil
	// starts from nothing and forgets with the process.
	Trust *admission.Trust

	// Listen are the multiaddrs to listen on. QUIC first; TCP is for networks
	// that drop UDP. Port 0 takes a free port.
	Listen []string
	// Announce, when set, is what peers are told in place of the addresses
	// that the host finds itself, for a node behind a port forward.
	Announce []string
	// Alone means that no peer is expected: the host is bootstrapped at once.
	Alone bool
	// MDNS looks for peers of the mesh on the local network and answers those
	// that look. Multicast tells everyone on that network that the mesh exists.
	MDNS bool
	// Relay lets admitted peers that cannot reach each other talk through this node.
	Relay bool

	// ConnLow and ConnHigh are the connections at which the connection manager
	// stops and starts closing idle ones: 60 and 90 for a member (a connection
	// costs 68 KiB and 3 goroutines), 150 and 200 for a voter, which hears
	// from every member of its cell. Protected peers are never closed.
	ConnLow, ConnHigh int

	// Metrics receives libp2p's own metrics; nil keeps none.
	Metrics prometheus.Registerer
	// Log receives what the host has to say; nil discards it.
	Log *slog.Logger
	// Now is the clock that certificates are judged by; nil is time.Now.
	Now func() time.Time
	// Options are appended to the host's libp2p options: simulations bring
	// their own transport.
	Options []Option
}

// Connection manager limits of a voter.
const (
	VoterConnLow  = 150
	VoterConnHigh = 200
)

// Default returns a configuration for a member on any network.
func Default() Config {
	return Config{
		Listen: []string{
			"/ip4/0.0.0.0/udp/0/quic-v1", "/ip6/::/udp/0/quic-v1",
			"/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0",
		},
		ConnLow: 60, ConnHigh: 90,
	}
}

// Validate returns an error that names the first field that is wrong.
func (c *Config) Validate() error {
	switch {
	case len(c.Key) != ed25519.PrivateKeySize:
		return errors.New("mesh: Key: want an Ed25519 private key")
	case c.Bundle.IsZero():
		return fmt.Errorf("mesh: Bundle: %w", admission.ErrNotAdmitted)
	case c.ConnLow < 1 || c.ConnHigh <= c.ConnLow:
		return fmt.Errorf("mesh: want 0 < ConnLow < ConnHigh, got %d and %d", c.ConnLow, c.ConnHigh)
	}
	for _, list := range [][]string{c.Listen, c.Announce} {
		if _, err := multiaddrs(list); err != nil {
			return fmt.Errorf("mesh: %w", err)
		}
	}
	return nil
}

func (c *Config) fill() error {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Trust != nil {
		return nil
	}
	trust, err := admission.NewTrust(c.Bundle.Root, &admission.Memory{})
	c.Trust = trust
	return err
}

func multiaddrs(list []string) ([]ma.Multiaddr, error) {
	out := make([]ma.Multiaddr, 0, len(list))
	for _, s := range list {
		a, err := ma.NewMultiaddr(s)
		if err != nil {
			return nil, fmt.Errorf("address %.120q: want a multiaddr such as /ip4/192.0.2.1/udp/4001/quic-v1: %w", s, err)
		}
		out = append(out, a)
	}
	return out, nil
}
