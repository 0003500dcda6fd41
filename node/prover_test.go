package node

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh"
	"github.com/perrin-mesh/perrin/mesh/attest/collect"
	"github.com/perrin-mesh/perrin/node/attestor"
	"github.com/perrin-mesh/perrin/workload"
)

// TestProverUnderOtherRules: what was appraised serves while the operator's folder says
// what it said then. Under other rules the node is asked anew, and under none that read,
// nothing is proved.
func TestProverUnderOtherRules(t *testing.T) {
	folder, asked := t.TempDir(), errors.New("asked anew")
	n := &Node{name: "leader", attestor: attestor.New(attestor.Config{
		Machine: collect.Of(), Policy: folder, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Open: func(context.Context, workload.PeerID, string) (mesh.Stream, error) { return nil, asked },
	})}
	of, level := workload.PeerID{2}, workload.LevelSNP
	found := &workload.Appraisal{Node: of, Kind: level, Level: level, Status: workload.TierWarning, At: time.Now().UnixMilli()}
	q := &inquiry{done: make(chan struct{}), found: found, at: time.Now()}
	close(q.done)
	p := &prover{n: n, known: map[proofKey]*inquiry{{node: of, level: level}: q}}
	prove := func() error {
		_, err := p.Prove(t.Context(), of, workload.ID{}, workload.AuctionID{}, &workload.Require{Level: level, MaxAge: time.Hour.Milliseconds()})
		return err
	}
	put := func(name, text string) {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := prove(); err != nil {
		t.Fatalf("under the same rules: %v", err)
	}
	put("notes.txt", "no rule")
	if err := prove(); err != nil {
		t.Fatalf("beside a file that is no rule: %v", err)
	}
	put(attestor.PolicyFile, "snp: {max_vmpl: 1}")
	if err := prove(); !errors.Is(err, asked) {
		t.Errorf("under other rules: %v, want it to be asked", err)
	}
	if err := os.Remove(filepath.Join(folder, attestor.PolicyFile)); err != nil {
		t.Fatal(err)
	}
	if err := prove(); err != nil {
		t.Errorf("under the first rules again: %v", err)
	}
	put("tpm_files", "misnamed")
	if err := prove(); !errors.Is(err, workload.ErrNotProved) || !strings.Contains(err.Error(), "the leader leader appraises nothing") {
		t.Errorf("under rules that do not read: %v", err)
	}
}
