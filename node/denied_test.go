package node

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh"
	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// TestADeniedNodeHearsThatItIs: its commands and its status say so, not that nobody answers.
func TestADeniedNodeHearsThatItIs(t *testing.T) {
	said := "peer shed is denied for good by operator attic, \"lost\": " + admission.ErrDenied.Error()
	var e *api.Error
	if err := apiError(wire.Errorf(wire.Unauthorized, "%s", said)); !errors.As(err, &e) || e.Kind != api.Unauthorized || e.Hint != admission.Hint(admission.ErrDenied) {
		t.Errorf("%v, hint: %s", err, e.Hint)
	}
	if err := apiError(wire.Errorf(wire.Unauthorized, "not here")); !errors.As(err, &e) || e.Hint != hintOf(wire.Unauthorized) {
		t.Errorf("another refusal: %v, hint: %s", err, e.Hint)
	}
	now := time.Now()
	if why := whyNoLeader(&mesh.Refusal{At: now, Reason: said}, now); !strings.HasPrefix(why, "this node is denied") || !strings.Contains(why, "operator attic") || !strings.Contains(why, "lost") {
		t.Error(why)
	}
	for _, r := range []*mesh.Refusal{nil, {At: now.Add(-refusalShown), Reason: said}, {At: now, Reason: "the clocks differ"}} {
		if why := whyNoLeader(r, now); strings.Contains(why, "denied") {
			t.Errorf("%+v: %s", r, why)
		}
	}
}

// TestAnOperatorIsNamedOnce: the charter says nothing new of one that it names.
func TestAnOperatorIsNamedOnce(t *testing.T) {
	now := time.Now()
	shed := admission.Operator{Key: workload.PeerID{1}, Node: workload.PeerID{2}, Name: "shed", Since: 5}
	c := admission.Charter{}.With(shed, now)
	again := shed
	again.Since = now.UnixMilli()
	if got, already := operatorEntry(&c, again); !already || got != shed {
		t.Errorf("%+v, %t", got, already)
	}
	again.Key = workload.PeerID{3}
	if got, already := operatorEntry(&c, again); already || got != again {
		t.Errorf("with a new key: %+v, %t", got, already)
	}
}
