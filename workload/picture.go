package workload

// Picture is a machine as its node sees it: every core and thread, who holds
// which, and what is lent. It is asked for by people.
type Picture struct {
	Offer    Offer      `cbor:"1,keyasint" json:"offer"`
	Sockets  int32      `cbor:"2,keyasint" json:"sockets"`
	Cores    []CoreUse  `cbor:"3,keyasint" json:"cores" max:"4096"`
	Spare    []SpareUse `cbor:"4,keyasint,omitempty" json:"spare,omitempty" max:"1024"`
	Others   int64      `cbor:"5,keyasint" json:"others"`                               // permille of the threads that other programs use, as measured
	Enforced []string   `cbor:"6,keyasint,omitempty" json:"enforced,omitempty" max:"8"` // what holds CPUs here, in words
}

// CoreUse is one physical core.
type CoreUse struct {
	Socket  int32       `cbor:"1,keyasint" json:"socket"`
	Node    int32       `cbor:"2,keyasint" json:"node"` // of NUMA
	Tier    int32       `cbor:"3,keyasint" json:"tier"` // 0 is the fastest kind in the machine
	Kept    bool        `cbor:"4,keyasint,omitempty" json:"kept,omitempty"`
	Threads []ThreadUse `cbor:"5,keyasint" json:"threads" max:"64"`
}

// ThreadUse is one hyperthread. Held is promised by a bid that may still win.
type ThreadUse struct {
	CPU      int32  `cbor:"1,keyasint" json:"cpu"`
	Owner    PeerID `cbor:"2,keyasint" json:"owner"` // zero while nobody holds it, and for whom it is none of their business
	Workload ID     `cbor:"3,keyasint" json:"workload"`
	Slot     SlotID `cbor:"4,keyasint,omitempty" json:"slot,omitempty"`
	Taken    bool   `cbor:"5,keyasint,omitempty" json:"taken,omitempty"`
	Held     bool   `cbor:"6,keyasint,omitempty" json:"held,omitempty"`
}

// SpareUse is one slot of idle time.
type SpareUse struct {
	Owner    PeerID  `cbor:"1,keyasint" json:"owner"`
	Workload ID      `cbor:"2,keyasint" json:"workload"`
	Slot     SlotID  `cbor:"3,keyasint" json:"slot"`
	CPUs     []int32 `cbor:"4,keyasint,omitempty" json:"cpus,omitempty" max:"4096"` // none while it waits
}

// Discreet takes out of the picture whose work it is, but for what is the asker's.
func (p *Picture) Discreet(mine func(owner PeerID, id ID) bool) {
	for i := range p.Cores {
		for k := range p.Cores[i].Threads {
			t := &p.Cores[i].Threads[k]
			if !mine(t.Owner, t.Workload) {
				t.Owner, t.Workload, t.Slot = PeerID{}, ID{}, 0
			}
		}
	}
	for i := range p.Spare {
		s := &p.Spare[i]
		if !mine(s.Owner, s.Workload) {
			s.Owner, s.Workload, s.Slot = PeerID{}, ID{}, 0
		}
	}
}
