package stack

import "net/netip"

// Cut loses every packet from one machine to another for which f is true, until
// the next Cut or Heal. f must neither block nor call the mesh.
func (m *Mesh) Cut(f func(from, to int) bool) {
	m.mu.Lock()
	m.parts = f
	m.mu.Unlock()
	m.applyCuts()
}

// Heal ends the cut in force.
func (m *Mesh) Heal() { m.Cut(nil) }

// Split cuts a group of machines off from all others, both ways.
func (m *Mesh) Split(group ...*Machine) {
	in := map[int]bool{}
	for _, x := range group {
		in[x.Index] = true
	}
	m.Cut(func(from, to int) bool { return in[from] != in[to] })
}

// Mute keeps the others from hearing a group of machines, which still hears them.
func (m *Mesh) Mute(group ...*Machine) {
	in := map[int]bool{}
	for _, x := range group {
		in[x.Index] = true
	}
	m.Cut(func(from, to int) bool { return in[from] && !in[to] })
}

// lose takes a machine off the network beside the cut in force.
func (m *Mesh) lose(x *Machine) {
	m.mu.Lock()
	m.lost[x.IP] = true
	m.mu.Unlock()
	m.applyCuts()
}

func (m *Mesh) restore(x *Machine) {
	m.mu.Lock()
	delete(m.lost, x.IP)
	m.mu.Unlock()
	m.applyCuts()
}

func (m *Mesh) applyCuts() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.lost) == 0 && m.parts == nil {
		m.Net.Cut(nil)
		return
	}
	parts := m.parts
	lost := make(map[netip.Addr]bool, len(m.lost))
	for ip := range m.lost {
		lost[ip] = true
	}
	m.Net.Cut(func(from, to netip.Addr) bool {
		return from != to && (lost[from] || lost[to]) || parts != nil && parts(indexOf(from), indexOf(to))
	})
}
