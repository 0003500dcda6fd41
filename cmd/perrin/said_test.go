package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/notary"
	"github.com/perrin-mesh/perrin/simulations/study"
	"github.com/perrin-mesh/perrin/workload"
)

func TestRulesThatDoNotReadAreTold(t *testing.T) {
	for _, c := range []struct {
		trust api.Trust
		want  string
	}{
		{api.Trust{RulesFolder: "/data/attest"}, "the defaults: there is no policy in /data/attest"},
		{api.Trust{Rules: workload.Digest{1}, RulesWrong: "policy.yaml:1: broken"}, "NOT IN FORCE, no machine counts: policy.yaml:1: broken"},
		{api.Trust{Rules: workload.Digest{1}}, workload.Digest{1}.Short()},
	} {
		if got := rulesText(&c.trust); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestDamagedProofBlamesNobody(t *testing.T) {
	for _, p := range []notary.Proof{{Marks: []workload.Signed{{}}}, {Certificates: [][]byte{{1}}}} {
		var own *failure
		err := whole(&p, workload.PeerID{})
		if !errors.As(err, &own) || own.code != exitFailure || !strings.HasPrefix(err.Error(), "the file is damaged: ") {
			t.Errorf("got %v", err)
		}
	}
}

func TestProgressIsWholeWhenAllRunsAre(t *testing.T) {
	var out bytes.Buffer
	a := &app{stderr: &out}
	show := a.simProgress(time.Now())
	show(study.Progress{Done: 4, Replications: 5, Simulated: 1e9, Total: 1e9})
	show(study.Progress{Done: 5, Replications: 5, Simulated: 1e9, Total: 1e9})
	if lines := strings.Split(out.String(), "\n"); len(lines) != 3 || !strings.Contains(lines[0], "(99%), 4 of 5") || !strings.Contains(lines[1], "(100%), 5 of 5") {
		t.Errorf("got %q", out.String())
	}
}
