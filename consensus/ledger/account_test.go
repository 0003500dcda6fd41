package ledger

import (
	"errors"
	"math"
	"testing"

	"github.com/perrin-mesh/perrin/workload"
)

// A quota is an operator's: one that does not verify is rejected, and an order that
// comes late changes nothing, as does one from the future, after which none would count.
func TestQuotasAreOrdered(t *testing.T) {
	w := newWorld()
	w.found(t)
	w.rules.OpenQuota = func(_ workload.MeshID, _ workload.CellID, c *Quota) error {
		if string(c.Order.Sig) == "forged" {
			return errors.New("forged")
		}
		return nil
	}
	for _, tt := range []struct {
		sig       string
		at, limit int64
		code      Code
		want      int64
	}{
		{"good", 10, 500, "", 500}, {"forged", 11, 900, BadSignature, 500}, {"good", 9, 900, OldOrder, 500},
		{"good", w.at + 2*MaxAhead, 900, ClockAhead, 500}, {"good", math.MaxInt64, 900, ClockAhead, 500},
		{"good", 12, -7, "", noLimit}, {"good", 12, 300, "", 300},
	} {
		r := w.apply(func(c *Command) {
			c.Quota = &Quota{Account: peer("alice"), Limit: tt.limit, At: tt.at, Order: workload.Signed{Sig: []byte(tt.sig)}}
		})
		if code := r.Reject; (code == nil) != (tt.code == "") || code != nil && code.Code != tt.code {
			t.Errorf("%+v: %v", tt, r.Reject)
		}
		if got := w.Account(peer("alice")).Limit; got != tt.want {
			t.Errorf("%+v: the limit is %d", tt, got)
		}
	}
	for _, tt := range []struct {
		at, limit int64
		stands    bool
		code      Code
	}{{12, 300, true, ""}, {12, 301, false, ""}, {11, 300, false, OldOrder}, {13, 300, false, ""}, {math.MaxInt64, 300, false, ClockAhead}} {
		stands, rej := w.Ordered(&Quota{Account: peer("alice"), At: tt.at, Limit: tt.limit}, w.at)
		if stands != tt.stands || (rej == nil) != (tt.code == "") || rej != nil && rej.Code != tt.code {
			t.Errorf("%+v: stands %v, %v", tt, stands, rej)
		}
	}
	w.checkInvariants(t)
}
