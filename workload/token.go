package workload

// TokenLimits bound what may be submitted under one link of a token. Zero bounds
// nothing. CPUs, Memory and Tasks are sums over the workloads under the link that
// have not ended; of a workload its slots at once count.
type TokenLimits struct {
	MaxPrice int64 `cbor:"1,keyasint,omitempty" json:"max_price,omitempty"` // micro-credits per slot-second
	Credits  int64 `cbor:"2,keyasint,omitempty" json:"credits,omitempty"`   // micro-credits that all of them may cost, ever
	CPUs     int64 `cbor:"3,keyasint,omitempty" json:"cpus,omitempty"`
	Memory   int64 `cbor:"4,keyasint,omitempty" json:"memory,omitempty"` // bytes
	Tasks    int64 `cbor:"5,keyasint,omitempty" json:"tasks,omitempty"`
}

// Within names the first bound that l gives up of by; "" when it gives up none.
func (l *TokenLimits) Within(by *TokenLimits) string {
	for _, b := range []struct {
		name  string
		l, by int64
	}{
		{"max-price", l.MaxPrice, by.MaxPrice}, {"credits", l.Credits, by.Credits}, {"cpus", l.CPUs, by.CPUs},
		{"memory", l.Memory, by.Memory}, {"tasks", l.Tasks, by.Tasks},
	} {
		if b.by > 0 && b.l > b.by {
			return b.name
		}
	}
	return ""
}

// TokenLink is what the ledger needs of one link of a token: which it is, and
// what it bounds until when.
type TokenLink struct {
	ID      Digest      `cbor:"1,keyasint" json:"id"` // of its payload
	Limits  TokenLimits `cbor:"2,keyasint" json:"limits"`
	Expires int64       `cbor:"3,keyasint" json:"expires_ms"`
	By      PeerID      `cbor:"4,keyasint,omitzero" json:"by"` // who signed it
}
