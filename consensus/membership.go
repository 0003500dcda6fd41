package consensus

import (
	"fmt"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/perrin-mesh/perrin/workload"
)

// Suffrage is the say of a server.
type Suffrage int

const (
	// Voter is counted for commits and elections.
	Voter Suffrage = iota
	// Nonvoter receives the log only: a standby.
	Nonvoter
)

// String returns "voter" or "nonvoter".
func (s Suffrage) String() string {
	if s == Voter {
		return "voter"
	}
	return "nonvoter"
}

// Server is one server of a configuration.
type Server struct {
	ID       workload.PeerID
	Suffrage Suffrage
}

// Configuration is the servers as of one log entry. Index is what AddVoter and
// its kin take as prevIndex; it is 0 when the server knows no configuration.
type Configuration struct {
	Index   uint64
	Servers []Server
}

// Has reports whether a peer is a server.
func (c Configuration) Has(p workload.PeerID) bool {
	_, ok := c.Suffrage(p)
	return ok
}

// Suffrage returns the say of a server, or false when p is none.
func (c Configuration) Suffrage(p workload.PeerID) (Suffrage, bool) {
	for _, s := range c.Servers {
		if s.ID == p {
			return s.Suffrage, true
		}
	}
	return Nonvoter, false
}

// Voters returns the IDs of the voters.
func (c Configuration) Voters() []workload.PeerID {
	var ids []workload.PeerID
	for _, s := range c.Servers {
		if s.Suffrage == Voter {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// lone reports whether p is the only voter.
func (c Configuration) lone(p workload.PeerID) bool {
	v := c.Voters()
	return len(v) == 1 && v[0] == p
}

// decodeConfiguration reads the data of a configuration entry. The library
// panics on data that it did not write; this returns ErrMalformed.
func decodeConfiguration(index uint64, data []byte) (c Configuration, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: configuration at %d: %.120q", ErrMalformed, index, fmt.Sprint(r))
		}
	}()
	c.Index = index
	for _, s := range raft.DecodeConfiguration(data).Servers {
		id, err := workload.ParsePeerID(string(s.ID))
		if err != nil || string(s.Address) != string(s.ID) {
			return c, fmt.Errorf("%w: configuration at %d: server %.80q at %.80q", ErrMalformed, index, s.ID, s.Address)
		}
		suffrage := Nonvoter
		if s.Suffrage == raft.Voter {
			suffrage = Voter
		}
		c.Servers = append(c.Servers, Server{ID: id, Suffrage: suffrage})
	}
	return c, nil
}

// encodeConfiguration is the opposite of decodeConfiguration.
func encodeConfiguration(c Configuration) []byte { return raft.EncodeConfiguration(raftServers(c)) }

func raftServers(c Configuration) raft.Configuration {
	var rc raft.Configuration
	for _, s := range c.Servers {
		suffrage := raft.Nonvoter
		if s.Suffrage == Voter {
			suffrage = raft.Voter
		}
		rc.Servers = append(rc.Servers, raft.Server{ID: serverID(s.ID), Address: serverAddress(s.ID), Suffrage: suffrage})
	}
	return rc
}

// membership follows the configurations of the log, since the library does not
// tell the index of the one it uses. Like Raft itself it uses a configuration
// from the moment it is appended and falls back when that entry is replaced.
type membership struct {
	mu        sync.RWMutex
	latest    Configuration
	committed Configuration
}

// appended notes a configuration entry of the log. At most one is uncommitted,
// so the one before it is committed.
func (m *membership) appended(c Configuration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.Index > m.latest.Index {
		m.committed, m.latest = m.latest, c
	}
}

// settled notes a committed configuration, from the log or a snapshot.
func (m *membership) settled(c Configuration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.Index >= m.committed.Index {
		m.committed = c
	}
	if c.Index >= m.latest.Index {
		m.latest = c
	}
}

// deleted notes that the entries low to high are gone from the log.
func (m *membership) deleted(low, high uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := m.latest.Index; i > m.committed.Index && low <= i && i <= high {
		m.latest = m.committed
	}
}

func (m *membership) current() Configuration {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.latest
}

// knows reports whether p is a server of the latest or the committed configuration.
func (m *membership) knows(p workload.PeerID) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.latest.Has(p) || m.committed.Has(p)
}
