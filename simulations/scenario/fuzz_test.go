package scenario

import "testing"

// FuzzParse wants each file to be refused or to be a scenario that stays within
// the bounds the model counts on.
func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("{\"peers\": 1e9}"))
	f.Add([]byte("workloads: [[]]\nnetwork: {rtt: [[1ms]]}"))
	f.Add([]byte("churn: {session: {weibull: {}}}\nmachines: {}"))
	f.Add([]byte(good + "faults: [{at: 2s, for: 1s, cut: a, one_way: true}, {at: 1s, crash: voters, share: 50%}]\nattackers: [{does: oversell, share: 5%, claims: 8}]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse("fuzz.yaml", data)
		if err != nil {
			return
		}
		if s.Peers < 1 || s.Peers > maxPeers || s.CellSize > 128 || s.Voters < 1 || s.Duration < 1 || s.Memory() < 0 || len(s.Workloads) == 0 {
			t.Errorf("let through: %+v", s)
		}
		for _, w := range s.Workloads {
			if err := w.Shape.Validate(); err != nil {
				t.Error(err)
			}
			if err := w.Service.Validate(); err != nil {
				t.Error(err)
			}
		}
		s.Hash()
		s.Offered()
	})
}
